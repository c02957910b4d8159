package deployments

import (
	"bytes"
	"cmp"
	"fmt"
	"net/url"
	"os"
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

// Settings are what a user may say of how a model runs.
type Settings = serving.Settings

// Manifest is a file's text, by the name that failures give it.
type Manifest struct {
	Name    string
	Content []byte
}

// ReadManifest reads a file that is not empty. failure.Invalid where that cannot be.
func ReadManifest(name string) (*Manifest, error) {
	bad := &failure.Error{Class: failure.Invalid, Reason: "ServiceTemplateUnreadable", Object: "service template", Message: "cannot read it", Hint: "check the name of the file"}
	content, err := os.ReadFile(name) //nolint:gosec // the user names it
	if bad.Err = err; err != nil {
		return nil, bad
	}
	if len(bytes.TrimSpace(content)) == 0 {
		bad.Object, bad.Message, bad.Hint = name, "it is empty", "write a Knative Service, or name no file"
		return nil, bad
	}
	return &Manifest{Name: name, Content: content}, nil
}

// Request is one deployment of one model.
type Request struct {
	// Namespace is the kubeconfig context's where it is empty.
	Namespace string
	// Name of the Knative Service and of the model behind it: a DNS label that begins with a letter, of at most 53 characters.
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
	// Adopt takes over a Service of this name that is not ours, with all of it that lets a model run. One of the Python plugin
	// mlflow-knative goes on answering to the model's name that its clients know.
	Adopt bool
	// Settings of how the model runs: what is not said stays as the deployment has it.
	Settings Settings
	// ServiceTemplate is a manifest of a Knative Service that the deployment stands on, with $name, $namespace and $image to be filled in.
	// nil is the one of the deployment before, one without content is none.
	ServiceTemplate *Manifest
	// Canary is the part of the requests that the new version gets, in percent; the rest stays with those who have it. 0 is all of them.
	Canary int64
	// NoVerify gives the new version its requests as soon as it is ready. Without it, a model that was logged with an example of a request
	// is asked that first, and what served before goes on serving where it does not answer.
	NoVerify bool
	// Timeout is how long the new revision may take to be ready, in whole seconds; 0 is DefaultTimeout.
	Timeout time.Duration

	set *string // name of the set that declares it; nil where none does
}

// Validate needs no network. failure.Invalid names what is wrong, and shows the right form.
func (r Request) Validate() error {
	if err := validateName(r.Namespace, r.Name); err != nil {
		return err
	}
	if err := validateLength(r.Name); err != nil {
		return err
	}
	if r.Canary < 0 || r.Canary > 99 {
		return invalid("CanaryInvalid", fmt.Sprintf("canary %d %%", r.Canary), "write a whole number from 1 to 99, or leave it out: the new version then gets all requests")
	}
	if r.Timeout < 0 || r.Timeout%time.Second != 0 {
		return invalid("TimeoutInvalid", fmt.Sprintf("timeout %s", r.Timeout), "write whole seconds, as in 90s or 10m")
	}
	if err := r.Settings.Validate(); err != nil {
		return err
	}
	if _, err := r.template(); err != nil {
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
	return servingruntime.Validate(r.ModelServer)
}

func (r Request) timeout() time.Duration {
	if r.Timeout == 0 {
		return DefaultTimeout
	}
	return r.Timeout
}

// template is what the request says the Service stands on; nil where it says nothing.
func (r Request) template() (*serving.Template, error) {
	switch {
	case r.ServiceTemplate == nil && r.set != nil:
		return &serving.Template{}, nil
	case r.ServiceTemplate == nil:
		return nil, nil
	}
	return serving.ParseTemplate(r.ServiceTemplate.Name, r.ServiceTemplate.Content)
}

// spec is what the request says of the Service of a model, served by runtime.
func (r Request) spec(runtime *servingruntime.Runtime, d *deployment, annotations map[string]string) (serving.Spec, error) {
	template, err := r.template()
	return serving.Spec{
		Namespace: r.Namespace, Name: r.Name, Annotations: annotations,
		ReadyPath: runtime.ReadyPath, Port: runtime.Port, Env: environmentOf(runtime, d.version), Timeout: r.timeout(), Only: r.Only,
		Adopt: r.Adopt, ModelName: d.modelName(),
		Hold: r.hold(d.example), Template: template, Settings: r.Settings, Set: r.set,
	}, err
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
	ModelURI string `json:"modelURI"`
	Version  string `json:"version,omitempty"`
	// Traffic is who gets the requests now.
	Traffic []Share `json:"traffic"`
	// Verified tells that the new version has answered the example that its model was logged with.
	Verified bool    `json:"verified"`
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
	// Ready is the wait for the revision and its pods.
	Ready time.Duration `json:"ready"`
	// Verify is the asking of the model's example; 0 where it was not asked.
	Verify time.Duration `json:"verify,omitempty"`
	// Traffic is the giving of the requests to a version that was held back for its example, until the gateway knows.
	Traffic time.Duration `json:"traffic,omitempty"`
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

// validateLength leaves room for a new version's tag: the two together are one label of its host name. Who has a longer name already
// goes on reading and removing it.
func validateLength(name string) error {
	longest := validation.DNS1035LabelMaxLength - len(serving.Candidate+"-")
	if len(name) <= longest {
		return nil
	}
	return invalid("NameTooLong", fmt.Sprintf("name %q has %d characters, and may have %d", name, len(name), longest),
		fmt.Sprintf("choose a shorter one: a new version answers at %s-NAME, which is one label of a host name", serving.Candidate))
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
