package cluster

// Addresses of the full profile. The node's network namespace is its own, so only the veth's network can meet the host's.
const (
	hostLink    = "mlflow-lab0"
	nodeLink    = "lab0"
	linkNetwork = "10.99.0.0/24"
	hostAddress = "10.99.0.253"
	// NodeAddress is the node's: API server, kubelet, node ports, and the load balancers' address of this cluster.
	NodeAddress = "10.99.0.1"
	// registryAddress is one more of the node, so that one name works from the host, the node and its pods.
	registryAddress = "10.99.0.254"
	// Registry is the name of the registry in image references.
	Registry = registryAddress + ":5001"

	podNetwork     = "10.88.0.0/16"
	serviceNetwork = "10.96.0.0/16"
	apiService     = "10.96.0.1"
	dnsService     = "10.96.0.10"

	nodeName = "lab"
	// domain is what Knative Services are named under.
	domain = "lab.example.com"
	// cgroupRoot is the parent of all cgroups of the node, in each hierarchy.
	cgroupRoot = "/kubectl-mlflow-lab"
	// containerdSocket lies on the node's own /run: the cache's path may be too long for a socket.
	containerdSocket = "/run/containerd/containerd.sock"
)

// BaseImage is the stand-in that models' images start from where nothing else is asked for.
const BaseImage = Registry + "/docker.io/library/python:3.11-slim"
