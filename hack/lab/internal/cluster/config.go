package cluster

import (
	"bytes"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"text/template"

	"github.com/kubectl-mlflow/kubectl-mlflow/hack/lab/internal/artifacts"
	"github.com/kubectl-mlflow/kubectl-mlflow/hack/lab/internal/pki"
)

//go:embed files
var files embed.FS

// mirrored are the registries that the node takes from the lab's own: the stand-ins bear the originals' names.
func mirrored() []string {
	return []string{"docker.io", "ghcr.io", "registry.k8s.io", "gcr.io", "quay.io"}
}

// example is the registry that the docs name. The node finds its images in the lab's own, under the same names.
const example = "registry.example.com"

// values are what the files in files/ are filled with.
type values struct {
	Run, PKI, Bin, CNI       string
	Socket, CgroupRoot       string
	Registry, RegistryFolder string
	PodNetwork, DNSService   string
	PauseImage, CoreDNSImage string
}

func (l Layout) values(set artifacts.Set) values {
	return values{
		Run: l.Run(), PKI: l.pki(""), Bin: set.Bin, CNI: set.CNI,
		Socket: containerdSocket, CgroupRoot: cgroupRoot,
		Registry: Registry, RegistryFolder: l.registryFolder(),
		PodNetwork: podNetwork, DNSService: dnsService,
		PauseImage: "registry.k8s.io/pause:3.10", CoreDNSImage: "registry.k8s.io/coredns/coredns:v1.14.0",
	}
}

func (l Layout) registryFolder() string { return filepath.Join(l.Run(), "registry") }

// fill renders one of the embedded files.
func fill(name string, data any) ([]byte, error) {
	text, err := files.ReadFile("files/" + name)
	if err != nil {
		return nil, err
	}
	t, err := template.New(name).Option("missingkey=error").Parse(string(text))
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := t.Execute(&out, data); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// writeConfig writes what the components of the full profile read.
func (l Layout) writeConfig(set artifacts.Set) error {
	v := l.values(set)
	for name, file := range map[string]string{
		"containerd.toml": "containerd.toml",
		"cni.conflist":    "cni/10-lab.conflist",
		"kubelet.yaml":    "kubelet.yaml",
		"registry.yaml":   "registry.yaml",
	} {
		text, err := fill(name, v)
		if err != nil {
			return err
		}
		if err := l.write(file, text); err != nil {
			return err
		}
	}
	for _, name := range mirrored() {
		if err := l.write("certs.d/"+name+"/hosts.toml", hosts("http://"+Registry+"/v2/"+name, "  override_path = true\n")); err != nil {
			return err
		}
	}
	return errors.Join(
		l.write("certs.d/"+Registry+"/hosts.toml", hosts("http://"+Registry, "")),
		l.write("certs.d/"+example+"/hosts.toml", hosts("http://"+Registry, "")),
		// What a pod with dnsPolicy Default gets; nothing outside the cluster could be asked anyway.
		l.write("resolv.conf", fmt.Appendf(nil, "nameserver %s\n", dnsService)),
		os.MkdirAll(l.registryFolder(), 0o700),
		os.MkdirAll(l.registryFolder()+".upper", 0o700),
		os.MkdirAll(l.registryFolder()+".work", 0o700),
	)
}

// hosts tells containerd to take a registry's images from a URL in the lab's own, and never from the registry itself.
// The table is there even where it only repeats the server: containerd 1.6 refuses a file without one.
func hosts(url, more string) []byte {
	return fmt.Appendf(nil, "server = %q\n\n[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n%s", url, url, more)
}

func (l Layout) write(file string, text []byte) error {
	path := filepath.Join(l.Run(), file)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

// identities are the certificates of a cluster whose API server is at the given hosts.
func (l Layout) identities(hosts ...string) []pki.Identity {
	hosts = append(hosts, "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
	list := []pki.Identity{
		{File: "kube-apiserver", User: "kube-apiserver", Hosts: hosts},
		{File: "admin", User: "kubernetes-admin", Groups: []string{"system:masters"}},
	}
	if l.Profile == artifacts.API {
		return list
	}
	return append(list,
		pki.Identity{File: "kube-apiserver-kubelet-client", User: "kube-apiserver-kubelet-client", Groups: []string{"system:masters"}},
		pki.Identity{File: "kubelet", User: "system:node:" + nodeName, Groups: []string{"system:nodes"}, Hosts: []string{NodeAddress, "127.0.0.1", nodeName}},
		pki.Identity{File: "kube-controller-manager", User: "system:kube-controller-manager", Hosts: []string{"127.0.0.1"}},
		pki.Identity{File: "kube-scheduler", User: "system:kube-scheduler", Hosts: []string{"127.0.0.1"}},
		pki.Identity{File: "kube-proxy", User: "system:kube-proxy"},
	)
}

// writeIdentities makes the cluster's keys and, for everyone who talks to the API server, a kubeconfig.
func (l Layout) writeIdentities(server string, hosts ...string) error {
	authority, err := pki.New(l.pki(""))
	if err != nil {
		return err
	}
	if err := authority.ServiceAccountKey(); err != nil {
		return err
	}
	for _, id := range l.identities(hosts...) {
		if err := authority.Issue(id); err != nil {
			return err
		}
		if err := l.writeKubeconfig(id.File, server); err != nil {
			return err
		}
	}
	return nil
}

func (l Layout) writeKubeconfig(identity, server string) error {
	data := map[string]string{"Name": "lab-" + l.String(), "Server": server, "User": identity}
	for key, file := range map[string]string{"CA": "ca.crt", "Cert": identity + ".crt", "Key": identity + ".key"} {
		text, err := os.ReadFile(l.pki(file))
		if err != nil {
			return err
		}
		data[key] = base64.StdEncoding.EncodeToString(text)
	}
	text, err := fill("kubeconfig.yaml", data)
	if err != nil {
		return err
	}
	return l.write("kubeconfig/"+identity+".yaml", text)
}
