package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/kubectl-mlflow/kubectl-mlflow/hack/lab/internal/artifacts"
	"github.com/kubectl-mlflow/kubectl-mlflow/hack/lab/internal/node"
)

// Env says where everything of a running cluster is. What a profile does not have is empty.
type Env struct {
	Profile    string `json:"profile"`
	Kubeconfig string `json:"kubeconfig"`
	Kubectl    string `json:"kubectl"`
	Server     string `json:"server"`
	Cache      string `json:"cache"`
	Bin        string `json:"bin"`
	UV         string `json:"uv,omitempty"`
	Registry   string `json:"registry,omitempty"`
	BaseImage  string `json:"baseImage,omitempty"`
	Node       string `json:"node,omitempty"`
	Host       string `json:"host,omitempty"`
	Domain     string `json:"domain,omitempty"`
	// NodePID is the node's PID 1 (or the plain supervisor), as the host counts.
	NodePID int `json:"nodePid"`
}

func (l Layout) newEnv(set artifacts.Set, server string) Env {
	e := Env{
		Profile: string(l.Profile), Kubeconfig: l.Kubeconfig(), Kubectl: filepath.Join(set.Bin, "kubectl"),
		Server: server, Cache: l.Cache, Bin: set.Bin,
	}
	if l.Profile == artifacts.Full {
		e.UV = filepath.Join(set.Bin, "uv")
		e.Registry, e.BaseImage = Registry, BaseImage
		e.Node, e.Host, e.Domain = NodeAddress, hostAddress, domain
	}
	return e
}

func (l Layout) writeEnv(e Env) error {
	text, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(l.env(), append(text, '\n'), 0o600)
}

// ErrDown is the state of a cluster that has no living supervisor.
var ErrDown = errors.New("the lab is not up")

// Env returns where everything of the running cluster is; ErrDown where it does not run.
func (l Layout) Env() (Env, error) {
	var e Env
	pid, err := node.Alive(l.Run())
	if err != nil {
		return e, err
	}
	if pid == 0 {
		return e, fmt.Errorf("%s: %w: start it with `lab up --profile %s`", l, ErrDown, l.Profile)
	}
	text, err := os.ReadFile(l.env())
	if errors.Is(err, fs.ErrNotExist) {
		return e, fmt.Errorf("%s: %w: it is being started", l, ErrDown)
	}
	if err != nil {
		return e, err
	}
	err = json.Unmarshal(text, &e)
	e.NodePID = pid
	return e, err
}

// Shell is the environment as export lines for a POSIX shell.
func (e Env) Shell() string {
	var out strings.Builder
	for _, v := range [][2]string{
		{"KUBECONFIG", e.Kubeconfig},
		{"LAB_PROFILE", e.Profile},
		{"LAB_KUBECTL", e.Kubectl},
		{"LAB_SERVER", e.Server},
		{"LAB_CACHE", e.Cache},
		{"LAB_BIN", e.Bin},
		{"LAB_UV", e.UV},
		{"LAB_REGISTRY", e.Registry},
		{"LAB_BASE_IMAGE", e.BaseImage},
		{"LAB_NODE", e.Node},
		{"LAB_HOST", e.Host},
		{"LAB_DOMAIN", e.Domain},
		{"LAB_NODE_PID", strconv.Itoa(e.NodePID)},
	} {
		if v[1] != "" {
			fmt.Fprintf(&out, "export %s='%s'\n", v[0], strings.ReplaceAll(v[1], "'", `'\''`))
		}
	}
	return out.String()
}
