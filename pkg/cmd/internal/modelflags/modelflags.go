// Package modelflags is what the verbs that make a model's image have in common on the command line.
package modelflags

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/args"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/browser"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/deployments"
)

const (
	// TrackingURI is MLflow's own environment variable, which stands in for the flag --tracking-uri.
	TrackingURI     = "MLFLOW_TRACKING_URI"
	trackingURIFlag = "tracking-uri"
)

// Flags is what the user typed.
type Flags struct {
	ImageRepository string
	ImageTag        string
	Rebuild         bool
	BaseImage       string
	EnvImage        string
	TorchBackend    string
	Apt             []string
	Builder         string
	Platform        string
	ModelServer     string
	TrackingURI     string
	TrackingService string
}

// Add defines the flags.
func (f *Flags) Add(flags *pflag.FlagSet) {
	flags.StringVar(&f.ImageRepository, "image-repository", f.ImageRepository, "Repository that images go to, without a tag. Default: $"+args.ImageRepository+", else the one of the deployment's present image, else of the namespace's others")
	flags.StringVar(&f.ImageTag, "image-tag", f.ImageTag, "One more tag of the image. What is deployed is its digest")
	flags.BoolVar(&f.Rebuild, "rebuild", f.Rebuild, "Make environment and image anew, although the repository may have them")
	flags.StringVar(&f.BaseImage, "base-image", f.BaseImage, "Image with Python that the environment stands on. Default: docker.io/library/python:X.Y-slim of the model's Python")
	flags.StringVar(&f.EnvImage, "env-image", f.EnvImage, "Image that has Python and all that the model requires: no environment is built")
	flags.StringVar(&f.TorchBackend, "torch-backend", f.TorchBackend, "PyTorch to install, as uv names it: cpu, cu126, ..., none for the index's. Default: the model's, else cpu")
	flags.StringSliceVar(&f.Apt, "apt", f.Apt, "Debian packages that the environment has besides, as libgl1; installed with Docker")
	flags.StringVar(&f.Builder, "builder", f.Builder, "What builds a missing environment: uv, docker, or auto. Default auto: uv, and Docker where a requirement has to be compiled")
	flags.StringVar(&f.Platform, "platform", f.Platform, "Platform of the image, as linux/amd64. Default: the nodes'")
	flags.StringVar(&f.ModelServer, "model-server", f.ModelServer, "Model server in the image: auto, mlflow or mlserver. Default auto: one that fits the model")
	flags.StringVar(&f.TrackingURI, trackingURIFlag, f.TrackingURI, "URL of the tracking server. Default: $"+TrackingURI+", else the MLflow on the cluster")
	flags.StringVar(&f.TrackingService, "tracking-service", f.TrackingService, "Service of the MLflow on the cluster to read from, as [NAMESPACE/]NAME[:PORT]; wins over $"+TrackingURI)
}

// Request is what the flags and the arguments NAME and MODEL_URI ask for.
func (f *Flags) Request(typed []string, getenv func(string) string) deployments.Request {
	r := deployments.Request{
		Name:            typed[0],
		ModelURI:        typed[1],
		TrackingURI:     f.TrackingURI,
		TrackingURIFrom: "--" + trackingURIFlag,
		TrackingService: f.TrackingService,
		ImageRepository: cmp.Or(f.ImageRepository, getenv(args.ImageRepository)),
		ImageTag:        f.ImageTag,
		Rebuild:         f.Rebuild,
		BaseImage:       f.BaseImage,
		TorchBackend:    f.TorchBackend,
		Apt:             f.Apt,
		Builder:         f.Builder,
		Platform:        f.Platform,
		ModelServer:     f.ModelServer,

		EnvironmentImage: f.EnvImage,
	}
	if f.TrackingURI == "" && f.TrackingService == "" { // a flag wins over the environment, whichever it is
		r.TrackingURI, r.TrackingURIFrom = getenv(TrackingURI), TrackingURI
	}
	return r
}

// Client is one that finds a tracking server as MLflow's own clients do. getenv is os.Getenv.
func Client(getter deployments.Getter, talk *ui.Progress, getenv func(string) string) *deployments.Client {
	return deployments.New(getter, talk, deployments.WithEnvironment(getenv), deployments.WithBrowser(browser.Open))
}

// Timings names the phases that took time, in their order.
func Timings(t deployments.Timings) string {
	var parts []string
	var total time.Duration
	for _, phase := range []struct {
		name string
		took time.Duration
	}{
		{"checks", t.Resolve}, {"environment", t.Environment}, {"model layers", t.Model}, {"apply", t.Apply}, {"ready", t.Ready}, {"verify", t.Verify}, {"traffic", t.Traffic},
	} {
		total += phase.took
		if phase.took > 0 {
			parts = append(parts, fmt.Sprintf("%s %.1fs", phase.name, phase.took.Seconds()))
		}
	}
	return fmt.Sprintf("%s; %.1fs together", strings.Join(parts, ", "), total.Seconds())
}
