package cluster

import (
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/kubectl-mlflow/kubectl-mlflow/hack/lab/internal/artifacts"
	"github.com/kubectl-mlflow/kubectl-mlflow/hack/lab/internal/node"
)

// apiEndpoints is where etcd and the API server of a cluster listen.
type apiEndpoints struct {
	etcd, etcdPeer string
	host, port     string
}

// server is the API server's URL.
func (e apiEndpoints) server() string { return "https://" + net.JoinHostPort(e.host, e.port) }

// fullEndpoints are fixed: they are in the node's own network namespace.
func fullEndpoints() apiEndpoints {
	return apiEndpoints{etcd: "127.0.0.1:2379", etcdPeer: "127.0.0.1:2380", host: NodeAddress, port: "6443"}
}

// freeEndpoints are on the loopback, on ports that were free a moment ago.
func freeEndpoints() (apiEndpoints, error) {
	const host = "127.0.0.1"
	var ports [3]string
	for i := range ports {
		listener, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			return apiEndpoints{}, fmt.Errorf("find a free port: %w", err)
		}
		// All are held until the last is found, so that they differ.
		defer func() { _ = listener.Close() }()
		_, ports[i], err = net.SplitHostPort(listener.Addr().String())
		if err != nil {
			return apiEndpoints{}, fmt.Errorf("find a free port: %w", err)
		}
	}
	return apiEndpoints{host: host, port: ports[0], etcd: net.JoinHostPort(host, ports[1]), etcdPeer: net.JoinHostPort(host, ports[2])}, nil
}

// apiSpec is a cluster that stores and serves objects, and runs nothing: any user may have it.
func (l Layout) apiSpec(set artifacts.Set, e apiEndpoints) node.Spec {
	return node.Spec{
		Key:        set.Key,
		Folder:     l.Run(),
		Env:        environment(set.Bin, l.Run()),
		Components: []node.Component{l.etcd(set, e), l.apiServer(set, e)},
	}
}

// fullSpec is a node with all of Kubernetes on it.
func (l Layout) fullSpec(set artifacts.Set) node.Spec {
	e := fullEndpoints()
	bin := func(name string) string { return filepath.Join(set.Bin, name) }
	api := l.apiReady(e)
	containerd := node.Condition{Unix: containerdSocket}
	healthz := func(port string) []node.Condition {
		return []node.Condition{{URL: "https://127.0.0.1:" + port + "/healthz", CA: l.pki("ca.crt"), Cert: l.pki("admin.crt"), Key: l.pki("admin.key")}}
	}
	return node.Spec{
		Key:    set.Key,
		Folder: l.Run(),
		Env:    environment(set.Bin, "/var/lib"),
		Isolation: &node.Isolation{
			Hostname: nodeName,
			Keep:     l.Cache,
			Mounts:   l.mounts(set),
			Sysctl: []node.Sysctl{
				{Path: "net/ipv4/ip_forward", Value: "1"},
				{Path: "net/bridge/bridge-nf-call-iptables", Value: "1"},
			},
			Cgroup: cgroupRoot,
			Link: node.Link{
				Name:      nodeLink,
				Addresses: []string{NodeAddress + "/24", registryAddress + "/24"},
				Gateway:   hostAddress,
			},
		},
		// They end in reverse: kubelet first, so that it starts no pod anew, then its pods, then what they ran on.
		Components: []node.Component{
			l.etcd(set, e),
			{
				Name:    "registry",
				Command: []string{bin("docker-registry"), "serve", filepath.Join(l.Run(), "registry.yaml")},
				Ready:   []node.Condition{{URL: "http://" + Registry + "/v2/"}},
			},
			{
				Name:    "containerd",
				Command: []string{bin("containerd"), "--config", filepath.Join(l.Run(), "containerd.toml")},
				Ready:   []node.Condition{containerd},
			},
			l.apiServer(set, e),
			{
				Name: "kube-controller-manager",
				Command: []string{
					bin("kube-controller-manager"),
					"--kubeconfig=" + l.kubeconfig("kube-controller-manager"),
					"--authentication-kubeconfig=" + l.kubeconfig("kube-controller-manager"),
					"--authorization-kubeconfig=" + l.kubeconfig("kube-controller-manager"),
					"--tls-cert-file=" + l.pki("kube-controller-manager.crt"),
					"--tls-private-key-file=" + l.pki("kube-controller-manager.key"),
					"--service-account-private-key-file=" + l.pki("sa.key"),
					"--root-ca-file=" + l.pki("ca.crt"),
					"--client-ca-file=" + l.pki("ca.crt"),
					"--use-service-account-credentials=true",
					"--cluster-cidr=" + podNetwork,
					"--leader-elect=false",
					// By default below /usr/libexec, which would be the host's.
					"--flex-volume-plugin-dir=/var/lib/kubelet-volume-plugins",
				},
				After: api,
				Ready: healthz("10257"),
			},
			{
				Name: "kube-scheduler",
				Command: []string{
					bin("kube-scheduler"),
					"--kubeconfig=" + l.kubeconfig("kube-scheduler"),
					"--authentication-kubeconfig=" + l.kubeconfig("kube-scheduler"),
					"--authorization-kubeconfig=" + l.kubeconfig("kube-scheduler"),
					"--tls-cert-file=" + l.pki("kube-scheduler.crt"),
					"--tls-private-key-file=" + l.pki("kube-scheduler.key"),
					"--client-ca-file=" + l.pki("ca.crt"),
					"--leader-elect=false",
				},
				After: api,
				Ready: healthz("10259"),
			},
			{
				Name: "kube-proxy",
				Command: []string{
					bin("kube-proxy"),
					"--kubeconfig=" + l.kubeconfig("kube-proxy"),
					"--hostname-override=" + nodeName,
					"--proxy-mode=iptables",
					"--cluster-cidr=" + podNetwork,
					"--healthz-bind-address=127.0.0.1:10256",
					// Limits of the host are the host's.
					"--conntrack-max-per-core=0", "--conntrack-min=0",
					"--conntrack-tcp-timeout-established=0s", "--conntrack-tcp-timeout-close-wait=0s",
				},
				After: api,
				Ready: []node.Condition{{URL: "http://127.0.0.1:10256/livez"}},
			},
			{
				Name: "kubelet",
				Command: []string{
					bin("kubelet"),
					"--config=" + filepath.Join(l.Run(), "kubelet.yaml"),
					"--kubeconfig=" + l.kubeconfig("kubelet"),
					"--hostname-override=" + nodeName,
					"--node-ip=" + NodeAddress,
					"--root-dir=/var/lib/kubelet",
				},
				// Without the socket kubelet gives up at once.
				After:  append([]node.Condition{containerd}, api...),
				Ready:  []node.Condition{{URL: "http://127.0.0.1:10248/healthz"}},
				Cgroup: filepath.Join(cgroupMemory(), cgroupRoot, "kubepods"),
			},
		},
	}
}

func (l Layout) etcd(set artifacts.Set, e apiEndpoints) node.Component {
	return node.Component{
		Name: "etcd",
		Command: []string{
			filepath.Join(set.Bin, "etcd"),
			"--data-dir=" + filepath.Join(l.Run(), "etcd"),
			"--listen-client-urls=http://" + e.etcd, "--advertise-client-urls=http://" + e.etcd,
			"--listen-peer-urls=http://" + e.etcdPeer, "--initial-advertise-peer-urls=http://" + e.etcdPeer,
			"--initial-cluster=default=http://" + e.etcdPeer,
			"--log-level=warn",
			// Nothing here survives the machine, so nothing need be on the disk.
			"--unsafe-no-fsync",
		},
		Ready: []node.Condition{{URL: "http://" + e.etcd + "/health"}},
	}
}

func (l Layout) apiServer(set artifacts.Set, e apiEndpoints) node.Component {
	command := []string{
		filepath.Join(set.Bin, "kube-apiserver"),
		"--bind-address=" + e.host, "--secure-port=" + e.port,
		"--etcd-servers=http://" + e.etcd,
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true",
		"--client-ca-file=" + l.pki("ca.crt"),
		"--tls-cert-file=" + l.pki("kube-apiserver.crt"),
		"--tls-private-key-file=" + l.pki("kube-apiserver.key"),
		"--service-account-key-file=" + l.pki("sa.pub"),
		"--service-account-signing-key-file=" + l.pki("sa.key"),
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-cluster-ip-range=" + serviceNetwork,
		"--profiling=false",
	}
	if l.Profile == artifacts.API {
		// An address of the loopback may not stand in the Endpoints of Service kubernetes, which nobody uses here.
		command = append(command, "--advertise-address="+e.host, "--endpoint-reconciler-type=none")
	} else {
		command = append(command,
			"--advertise-address="+e.host,
			// Else logs, exec and port-forward look up the node's name.
			"--kubelet-preferred-address-types=InternalIP",
			"--kubelet-certificate-authority="+l.pki("ca.crt"),
			"--kubelet-client-certificate="+l.pki("kube-apiserver-kubelet-client.crt"),
			"--kubelet-client-key="+l.pki("kube-apiserver-kubelet-client.key"),
		)
	}
	return node.Component{
		Name:    "kube-apiserver",
		Command: command,
		After:   []node.Condition{{TCP: e.etcd}},
		Ready:   l.apiReady(e),
	}
}

func (l Layout) apiReady(e apiEndpoints) []node.Condition {
	return []node.Condition{{URL: e.server() + "/readyz", CA: l.pki("ca.crt"), Cert: l.pki("admin.crt"), Key: l.pki("admin.key")}}
}

// mounts keep what components write outside of their own folders off the host.
func (l Layout) mounts(set artifacts.Set) []node.Mount {
	list := []node.Mount{
		{Type: "bind", Source: filepath.Join(l.Run(), "var-lib"), Target: "/var/lib"},
		{Type: "bind", Source: filepath.Join(l.Run(), "var-log"), Target: "/var/log"},
		{Type: "bind", Source: filepath.Join(l.Run(), "tmp"), Target: "/tmp"},
		{Type: "tmpfs", Target: "/run", Data: "mode=755"},
		// What is pushed goes to the run's folder, and the artifact stays as it was built.
		{Type: "overlay", Target: l.registryFolder(), Data: fmt.Sprintf("lowerdir=%s,upperdir=%s.upper,workdir=%s.work", set.Registry, l.registryFolder(), l.registryFolder())},
	}
	// kubelet insists on values of its own for these, and they are the whole machine's: let it set a copy.
	for _, path := range []string{
		"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
	} {
		target := filepath.Join("/proc/sys", path)
		if _, err := os.Stat(target); err == nil {
			list = append(list, node.Mount{Type: "bind", Source: filepath.Join(l.Run(), "sysctl", path), Target: target})
		}
	}
	return list
}

// cgroupMemory is a hierarchy that every container is in.
func cgroupMemory() string {
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		return "/sys/fs/cgroup"
	}
	return "/sys/fs/cgroup/memory"
}

// environment is all that components inherit: nothing of the caller's, proxies least of all.
func environment(bin, home string) []string {
	return []string{"PATH=" + bin + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + home, "LANG=C.UTF-8"}
}
