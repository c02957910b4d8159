package deployments

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image/registry"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/instance"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/model"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/readiness"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/serving"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/tracking"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

const mlmodel = `artifact_path: model
flavors:
  python_function:
    env:
      conda: conda.yaml
      virtualenv: python_env.yaml
    loader_module: mlflow.sklearn
    model_path: model.pkl
    python_version: 3.11.7
  sklearn:
    pickled_model: model.pkl
    serialization_format: cloudpickle
    sklearn_version: 1.7.2
mlflow_version: 3.17.2
model_id: m-0123
model_uuid: m-0123
run_id: run3
`

// files is a model in memory.
type files map[string]string

func (f files) List(context.Context) ([]model.File, error) {
	var list []model.File
	for path, content := range f {
		list = append(list, model.File{Path: path, Size: int64(len(content))})
	}
	slices.SortFunc(list, func(a, b model.File) int { return strings.Compare(a.Path, b.Path) })
	return list, nil
}

func (f files) Open(_ context.Context, path string, offset int64) (io.ReadCloser, error) {
	content, ok := f[path]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return io.NopCloser(strings.NewReader(content[offset:])), nil
}

func irisModel() files {
	return files{
		"MLmodel":          mlmodel,
		"model.pkl":        "weights",
		"requirements.txt": "mlflow==3.17.2\nscikit-learn==1.7.2\n",
		"python_env.yaml":  "python: 3.11.7\nbuild_dependencies: [pip]\ndependencies: [-r requirements.txt]\n",
		"conda.yaml":       "name: mlflow-env\nchannels: [conda-forge]\ndependencies: [python=3.11.7, pip, {pip: [mlflow==3.17.2]}]\n",
	}
}

// stage is everything around a Client, with a good answer to every call, and a list of the calls that came.
type stage struct {
	mu    sync.Mutex
	calls []string
	notes []string
	said  []string

	explicit      bool
	architectures []string
	nodes         func() ([]string, error) // where it is set, instead of architectures
	rights        []cluster.Access         // that are missing
	version       func() (string, error)
	find          func(namespaces []string) (*instance.Instance, error)
	record        func() (*instance.Instance, error)
	services      []corev1.Service
	admin         tracking.Credentials // of any installation
	servicesErr   error                // of listing them
	resolve       func(u tracking.URI) (tracking.Version, error)
	checkPush     func(ctx context.Context) error
	pull          registry.Pull // what the registry says to pods
	pods          pullers
	labels        map[string]string // of every image
	check         func(s serving.Spec) error
	present       func() (serving.Deployment, error)
	list          func(namespace string, f func(serving.Deployment) error) error // of deployments, where it is set
	action        string
	keeper        string // tool that keeps the Service
	withdrawn     bool   // the last deployment has no requests yet
	doubted       bool   // the revision serves, and has not answered its example
	first         bool   // there has been no version before
	pinned        bool   // the Service gives its requests to revisions by name
	applyErr      func(name string) error
	wait          func(targets []readiness.Target) error
	endpoint      serving.Endpoint
	split         serving.Split
	revisions     []serving.Revision
	dialTo        string // address that every tunnel leads to
	model         files

	repository  string
	environment image.Environment
	content     image.Content
	spec        serving.Spec
	at          serverAt
}

func newStage() *stage {
	return &stage{
		architectures: []string{"arm64"},
		find: func([]string) (*instance.Instance, error) {
			service := cluster.Change{Ref: cluster.Ref{GroupVersionKind: schema.GroupVersionKind{Version: "v1", Kind: "Service"}, Namespace: "mlflow", Name: "mlflow"}}
			return &instance.Instance{
				Namespace: "mlflow", HTTP: cluster.ServicePort{Namespace: "mlflow", Service: "mlflow", Port: "5000"},
				Inventory: cluster.Inventory{Items: []cluster.Change{service}},
			}, nil
		},
		record: func() (*instance.Instance, error) { return nil, nil },
		resolve: func(u tracking.URI) (tracking.Version, error) {
			return tracking.Version{Name: u.Name, Version: "3", RunID: "run3", Source: "models:/m-0123"}, nil
		},
		version:   func() (string, error) { return "v1.19.4", nil },
		checkPush: func(context.Context) error { return nil },
		pull:      registry.Pull{Allowed: true},
		pods:      pullers{account: "default"},
		check:     func(serving.Spec) error { return nil },
		present: func() (serving.Deployment, error) {
			return serving.Deployment{URL: "http://iris.models.example.com"}, nil
		},
		action: serving.Configured,
		wait:   func([]readiness.Target) error { return nil },
		model:  irisModel(),
	}
}

func (s *stage) call(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, name)
}

func (s *stage) called(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.calls, name)
}

func (s *stage) client() *Client {
	return &Client{progress: s, getenv: func(string) string { return "" }, rooms: rooms{
		namespace: func() (string, bool, error) { return "models", s.explicit, nil },
		nodes: func(context.Context) ([]string, error) {
			if s.nodes != nil {
				return s.nodes()
			}
			return s.architectures, nil
		},
		missing: func(context.Context, []cluster.Access) ([]cluster.Access, error) {
			return s.rights, nil
		},
		find:   func(_ context.Context, namespaces ...string) (*instance.Instance, error) { return s.find(namespaces) },
		record: func(context.Context, string) (*instance.Instance, error) { return s.record() },
		service: func(_ context.Context, namespace, name string) (*corev1.Service, error) {
			for i := range s.services {
				if s.services[i].Namespace == namespace && s.services[i].Name == name {
					return &s.services[i], nil
				}
			}
			return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "services"}, name)
		},
		services: func(context.Context, string) ([]corev1.Service, error) { return s.services, s.servicesErr },
		admin: func(context.Context, *instance.Instance) (tracking.Credentials, error) {
			return s.admin, nil
		},
		track: func(at serverAt) source {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.at = at
			return tracker{s}
		},
		dial: func(to cluster.ServicePort, _ func(string)) tunnel {
			s.call("dial " + to.Namespace + "/" + to.Service + ":" + to.Port)
			return way{s}
		},
		images: func(repository string, _ progress.Reporter) (images, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.repository = repository
			return imageMaker{s}, nil
		},
		pullers: func(context.Context, serving.Spec) (pullers, error) { return s.pods, nil },
		knative: knativeClient{s},
		wait: func(_ context.Context, targets []readiness.Target, _ progress.Step) error {
			for _, t := range targets {
				s.call("wait " + t.Object.String())
			}
			return s.wait(targets)
		},
	}}
}

func (s *stage) Say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said = append(s.said, fmt.Sprintf(format, args...))
}

func (s *stage) Start(string) progress.Step { return step{s} }

type step struct{ *stage }

func (s step) Note(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notes = append(s.notes, text)
}
func (step) Bytes(int64, int64) {}
func (step) End(error)          {}

type tracker struct{ *stage }

func (t tracker) Resolve(_ context.Context, u tracking.URI) (tracking.Version, error) {
	return t.resolve(u)
}
func (t tracker) Files(tracking.Version) model.Files { return t.model }

func (t tracker) ListModels(context.Context) ([]string, error) {
	return []string{"iris", "wine"}, nil
}

func (t tracker) ListVersions(_ context.Context, name string) ([]string, error) {
	if name != "iris" {
		return nil, nil
	}
	return []string{"3", "2"}, nil
}

func (t tracker) ListAliases(context.Context, string) ([]string, error) {
	return []string{"champion"}, nil
}

type way struct{ *stage }

func (w way) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", w.dialTo)
}
func (w way) Close() error { w.call("close"); return nil }

type imageMaker struct{ *stage }

func (m imageMaker) CheckPush(ctx context.Context) error { return m.checkPush(ctx) }

func (m imageMaker) CheckPull(context.Context, []registry.PullSecret) (registry.Pull, error) {
	return m.pull, nil
}

func (m imageMaker) Labels(context.Context, string, string) (map[string]string, error) {
	return m.labels, nil
}

func (m imageMaker) ResolveBase(_ context.Context, base, python string) (string, error) {
	if base == "" {
		base = "python:" + python
	}
	return base + "@sha256:ba5e", nil
}

func (m imageMaker) Given(_ context.Context, ref string, e image.Environment) (image.Environment, []string, error) {
	return image.Environment{Image: ref + "@sha256:9e4", Platform: e.Platform}, []string{ref + " is doubtful"}, nil
}

func (m imageMaker) Make(_ context.Context, e image.Environment, c image.Content) (image.Made, error) {
	m.call("make")
	m.mu.Lock()
	defer m.mu.Unlock()
	m.environment, m.content = e, c
	return image.Made{Ref: m.repository + "@sha256:1234", Environment: time.Minute, Model: time.Second}, nil
}

type knativeClient struct{ *stage }

func (k knativeClient) Version(context.Context) (string, error) { return k.version() }

func (k knativeClient) Check(_ context.Context, s serving.Spec) error { return k.check(s) }

func (k knativeClient) Apply(_ context.Context, s serving.Spec) (serving.Applied, error) {
	k.call("apply")
	if k.applyErr != nil {
		if err := k.applyErr(s.Name); err != nil {
			return serving.Applied{}, err
		}
	}
	k.mu.Lock()
	k.spec = s
	k.mu.Unlock()
	ref := func(kind, name string) cluster.Ref {
		r := cluster.Ref{Namespace: s.Namespace, Name: name}
		r.Group, r.Version, r.Kind = "serving.knative.dev", "v1", kind
		return r
	}
	revision := ref("Revision", s.Name+"-00002")
	return serving.Applied{
		Action: k.action, Service: ref("Service", s.Name), Revision: revision, Held: (s.Hold || k.pinned) && k.action != serving.Created && !k.first,
		Shares: []serving.Share{{Revision: revision.Name, Percent: 100}}, Keeper: k.keeper, Doubted: k.doubted,
	}, nil
}

func (k knativeClient) Doubt(_ context.Context, _ serving.Applied, doubted bool) error {
	k.call(fmt.Sprintf("doubt %t", doubted))
	k.doubted = doubted
	return nil
}

func (k knativeClient) Promote(_ context.Context, a serving.Applied, percent int64) (serving.Applied, error) {
	k.call(fmt.Sprintf("promote %d", percent))
	return a, nil
}

func (k knativeClient) SetTraffic(_ context.Context, _, _ string, change func(serving.Split, []serving.Revision) ([]serving.Share, error)) (serving.Applied, error) {
	shares, err := change(k.split, k.revisions)
	return serving.Applied{Shares: shares}, err
}

func (k knativeClient) Rollback(context.Context, string, string) (serving.Applied, error) {
	k.call("rollback")
	return serving.Applied{Withdrawn: k.withdrawn}, nil
}

func (k knativeClient) Revisions(context.Context, string, string) ([]serving.Revision, error) {
	return k.revisions, nil
}

func (k knativeClient) Endpoint(_ context.Context, _, _, tag string) (serving.Endpoint, error) {
	if tag != "" {
		k.call("endpoint " + tag)
	}
	return k.endpoint, nil
}

func (k knativeClient) Get(context.Context, string, string) (serving.Deployment, error) {
	return k.present()
}

func (k knativeClient) List(_ context.Context, namespace string, f func(serving.Deployment) error) error {
	if k.list != nil {
		return k.list(namespace, f)
	}
	for _, d := range []serving.Deployment{{Namespace: "b", Name: "a"}, {Namespace: "a", Name: "z"}, {Namespace: "a", Name: "b", Reason: "it failed"}} {
		if err := f(d); err != nil {
			return err
		}
	}
	return nil
}

func (k knativeClient) Delete(_ context.Context, namespace, name string) error {
	k.call("delete " + namespace + "/" + name)
	return nil
}

// read is all of r.
func read(t *testing.T, r io.Reader) string {
	t.Helper()
	var b bytes.Buffer
	if _, err := b.ReadFrom(r); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// refusedAs expects err to be a failure of class and reason, with what a user needs; it returns the message.
func refusedAs(t *testing.T, err error, class failure.Class, reason string) (message string) {
	t.Helper()
	f, ok := errors.AsType[*failure.Error](err)
	if !ok || f.Class != class || f.Reason != reason || f.Message == "" || f.Hint == "" {
		t.Fatalf("error is %#v (%v), want %s %s with message and hint", f, err, class, reason)
	}
	return f.Message
}
