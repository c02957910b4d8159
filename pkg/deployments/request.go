package deployments

import (
	"cmp"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image/registry"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/serving"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/servingruntime"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/tracking"
)

// Only narrows what Deploy does.
type Only = serving.Only

// What Request.Only may be.
const (
	OnlyCreate = serving.OnlyCreate
	OnlyUpdate = serving.OnlyUpdate
)

// Request is one deployment of one model.
type Request struct {
	// Namespace is the kubeconfig context's where it is empty.
	Namespace string
	// Name of the Knative Service and of the model behind it: a DNS label that begins with a letter.
	Name string
	// ModelURI is in one of MLflow's forms: models:/iris/3, models:/iris@champion, runs:/ID/model; or a directory of this machine, ./iris
	// or file:///models/iris.
	ModelURI string
	// Image is one that Build or Deploy has made, by digest or by tag, instead of a model URI: nothing is read from a tracking server, and
	// nothing is built.
	Image string
	// TrackingURI is the tracking server's URL. Empty is an MLflow on the cluster.
	TrackingURI string
	// TrackingURIFrom is what failures call the place that TrackingURI was given in, a flag or a variable. It may be empty.
	TrackingURIFrom string
	// TrackingService is the Service of an MLflow on the cluster, NAMESPACE/NAME:PORT, instead of a TrackingURI. NAME alone is in the
	// kubeconfig context's namespace. PORT is a number or a name; without it the Service's only one, else "http", else 5000. Empty is
	// the MLflow that `kubectl mlflow install` put on the cluster.
	TrackingService string
	// ImageRepository is where images go, without a tag. Empty is the repository of the Service's present image, else the one of the
	// namespace's other deployments where they share one.
	ImageRepository string
	// ImageTag is one more name of the image in its repository, or "". What is deployed is the digest.
	ImageTag string
	// Rebuild makes environment and image although the repository may have them.
	Rebuild bool
	// BaseImage of the environment. Empty is docker.io/library/python:X.Y-slim of the model's Python.
	BaseImage string
	// EnvironmentImage has Python and all that the model requires: no environment is built. Empty builds one.
	EnvironmentImage string
	// TorchBackend is uv's name of the build of PyTorch in the environment, "cpu" or "cu126"; "none" takes the package index's. Empty is
	// the one that the model's requirements name, else "cpu".
	TorchBackend string
	// Apt are Debian's packages that the environment has besides: libgl1. Only Docker installs them.
	Apt []string
	// Builder of a missing environment: uv, docker, or auto, which takes uv where that can build it, as empty does.
	Builder string
	// Platform of the image, "linux/amd64". Empty is the nodes'.
	Platform string
	// ModelServer is mlflow, mlserver or auto, which chooses one that fits the model, as empty does.
	ModelServer string
	// Only is OnlyCreate, which refuses a deployment that is there, OnlyUpdate, which refuses one that is not, or "" for either.
	Only Only
	// Timeout is how long the new revision may take to be ready, in whole seconds; 0 is DefaultTimeout.
	Timeout time.Duration
}

// Validate needs no network. failure.Invalid names what is wrong, and shows the right form.
func (r Request) Validate() error {
	if err := validateName(r.Namespace, r.Name); err != nil {
		return err
	}
	if r.Image != "" {
		return r.validateImage()
	}
	if _, ok := directoryOf(r.ModelURI); !ok {
		if _, err := tracking.ParseURI(r.ModelURI); err != nil {
			return err
		}
	}
	if _, err := r.server(); err != nil {
		return err
	}
	if err := validateTrackingService(r); err != nil {
		return err
	}
	if r.ImageRepository != "" || r.ImageTag != "" {
		to, err := registry.Open(cmp.Or(r.ImageRepository, "unknown"))
		if err == nil && r.ImageTag != "" {
			err = to.CheckTag(r.ImageTag)
		}
		if err != nil {
			return err
		}
	}
	if r.Platform != "" && !regexp.MustCompile(`^linux/[a-z0-9_]+(/v[0-9]+)?$`).MatchString(r.Platform) {
		return invalid("PlatformInvalid", fmt.Sprintf("platform %q", r.Platform), "write it as linux/amd64 or linux/arm64")
	}
	if err := image.CheckTorchBackend(r.TorchBackend); err != nil {
		return err
	}
	if err := image.CheckBuilder(r.Builder); err != nil {
		return err
	}
	if err := image.CheckApt(r.Apt); err != nil {
		return err
	}
	if len(r.Apt) > 0 && r.Builder == image.BuilderUV {
		return invalid("BuilderConflict", "uv installs no system packages", "leave out --builder, or say --builder docker")
	}
	if r.EnvironmentImage != "" && (r.BaseImage != "" || r.TorchBackend != "" || len(r.Apt) > 0 || r.Builder != "") {
		return invalid("EnvironmentImageConflict", "an environment image is used as it is: none is built",
			"leave out --base-image, --torch-backend, --apt and --builder, or --env-image")
	}
	if err := servingruntime.Validate(r.ModelServer); err != nil {
		return err
	}
	if r.Timeout < 0 || r.Timeout%time.Second != 0 {
		return invalid("TimeoutInvalid", fmt.Sprintf("timeout %s", r.Timeout), "write whole seconds, as in 90s or 10m")
	}
	return nil
}

func (r Request) timeout() time.Duration {
	if r.Timeout == 0 {
		return DefaultTimeout
	}
	return r.Timeout
}

// Result is what a deployment came to.
type Result struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Action is created, configured or unchanged.
	Action   string `json:"action"`
	URL      string `json:"url"`
	Revision string `json:"revision"`
	// Image by digest.
	Image string `json:"image"`
	// ModelURI has a version where the request's had an alias.
	ModelURI string  `json:"modelURI"`
	Version  string  `json:"version,omitempty"`
	Timings  Timings `json:"timings"`
	// Example tells whether the model was logged with an example of a request.
	Example bool `json:"-"`
}

// Timings is how long the phases took, in nanoseconds.
type Timings struct {
	// Resolve ends with the last check before the first change: tracking server, model, registry, Knative.
	Resolve time.Duration `json:"resolve"`
	// Environment is the building of the environment image; 0 where the registry had it. The model is read and sent beside it.
	Environment time.Duration `json:"environment"`
	// Model is the reading, packing and sending of the model; little where the registry had it.
	Model time.Duration `json:"model"`
	// Apply is the write of the Service, until Knative has named its revision.
	Apply time.Duration `json:"apply"`
	// Ready is the wait for the revision, its pods and its traffic.
	Ready time.Duration `json:"ready"`
}

func validateName(namespace, name string) error {
	if errs := validation.IsDNS1035Label(name); len(errs) > 0 {
		return invalid("NameInvalid", fmt.Sprintf("name %q: %s", name, strings.Join(errs, "; ")), "choose a name like iris or my-model-2: it is part of the URL")
	}
	if errs := validation.IsDNS1123Label(namespace); namespace != "" && len(errs) > 0 {
		return invalid("NamespaceInvalid", fmt.Sprintf("namespace %q: %s", namespace, strings.Join(errs, "; ")), "see which there are: kubectl get namespaces")
	}
	return nil
}

// server is where TrackingURI leads. It is nil for "": the tracking server is then on the cluster.
func (r Request) server() (*url.URL, error) {
	if r.TrackingURI == "" {
		return nil, nil
	}
	server, err := url.Parse(r.TrackingURI)
	if err != nil || server.Scheme != "http" && server.Scheme != "https" || server.Host == "" {
		// The text is not repeated: it may hold a password.
		return nil, invalid("TrackingURIInvalid", "the tracking URI"+r.given()+" is not the URL of a tracking server", "write it as https://mlflow.example.com, or leave it out to use the MLflow on the cluster")
	}
	return server, nil
}

func invalid(reason, message, hint string) error {
	return &failure.Error{Class: failure.Invalid, Reason: reason, Message: message, Hint: hint}
}
