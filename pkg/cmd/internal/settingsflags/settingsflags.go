// Package settingsflags is how a model runs, on the command line.
package settingsflags

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/deployments"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// Flags is what the user typed.
type Flags struct {
	defined *pflag.FlagSet // tells what was typed from what was not

	requests, limits                     map[string]string
	gpu, minScale, maxScale, concurrency int64
	servingTimeout                       time.Duration
	env, envFrom, labels, annotations    []string
	serviceAccount                       string
	pullSecrets                          []string
	clusterLocal                         bool
	template                             string
}

const templateFlag = "service-template"

// Add defines the flags.
func (f *Flags) Add(flags *pflag.FlagSet) {
	f.defined = flags
	flags.StringToStringVar(&f.requests, "requests", nil, "Resources that are kept for a pod of the model, as cpu=500m,memory=2Gi")
	flags.StringToStringVar(&f.limits, "limits", nil, "Resources that a pod of the model may take, as cpu=2,memory=4Gi")
	flags.Int64Var(&f.gpu, "gpu", 0, "NVIDIA GPUs for a pod of the model; 0 takes them away")
	flags.Int64Var(&f.minScale, "min-scale", 0, "Pods that are there without requests, too")
	flags.Int64Var(&f.maxScale, "max-scale", 0, "Pods that are there at most; 0 is no bound")
	flags.Int64Var(&f.concurrency, "concurrency", 0, "Requests that a pod gets at once; 0 is no bound")
	flags.DurationVar(&f.servingTimeout, "serving-timeout", 0, "How long a request may take")
	flags.StringArrayVar(&f.env, "env", nil, "Variable of the model's container, NAME=VALUE; NAME- takes it away. For secrets: --env-from")
	flags.StringArrayVar(&f.envFrom, "env-from", nil, "Where further variables are from: secret/NAME or configmap/NAME")
	flags.StringVar(&f.serviceAccount, "service-account", "", "Service account that the pods run as")
	flags.StringArrayVar(&f.pullSecrets, "pull-secret", nil, "Secret with which the nodes pull the image")
	flags.StringArrayVar(&f.labels, "label", nil, "Label of the Service and its revisions, KEY=VALUE; KEY- takes it away")
	flags.StringArrayVar(&f.annotations, "annotation", nil, "Annotation of the Service and its revisions, KEY=VALUE; KEY- takes it away")
	flags.BoolVar(&f.clusterLocal, "cluster-local", false, "Let only the cluster reach the model")
	flags.StringVar(&f.template, templateFlag, "", "File with a Knative Service that the deployment stands on: $name, $namespace and $image are filled in. '' is none")
}

// SetTemplate says which file the deployment stands on, as the flag does.
func (f *Flags) SetTemplate(file string) error { return f.defined.Set(templateFlag, file) }

// Settings are those that were typed; what was not is left as it is.
func (f *Flags) Settings() (deployments.Settings, error) {
	s := deployments.Settings{
		Requests: f.requests, Limits: f.limits, EnvFrom: f.envFrom, ServiceAccount: f.serviceAccount, PullSecrets: f.pullSecrets,
		GPU: typed(f, "gpu", f.gpu), MinScale: typed(f, "min-scale", f.minScale), MaxScale: typed(f, "max-scale", f.maxScale),
		Concurrency: typed(f, "concurrency", f.concurrency), ClusterLocal: typed(f, "cluster-local", f.clusterLocal),
		ServingTimeout: typed(f, "serving-timeout", metav1.Duration{Duration: f.servingTimeout}),
	}
	var err error
	if s.Env, s.Without.Env, err = pairs("--env", f.env); err != nil {
		return s, err
	}
	if s.Labels, s.Without.Labels, err = pairs("--label", f.labels); err != nil {
		return s, err
	}
	s.Annotations, s.Without.Annotations, err = pairs("--annotation", f.annotations)
	return s, err
}

// typed is the value of a flag that was typed, else nil.
func typed[T any](f *Flags, name string, value T) *T {
	if !f.defined.Changed(name) {
		return nil
	}
	return &value
}

// pairs reads KEY=VALUE, and KEY- for what is to go.
func pairs(flag string, words []string) (values map[string]string, without []string, err error) {
	for _, word := range words {
		key, value, ok := strings.Cut(word, "=")
		gone, isGone := strings.CutSuffix(key, "-")
		switch {
		case ok && key != "":
			if values == nil {
				values = map[string]string{}
			}
			values[key] = value
		case isGone && gone != "":
			without = append(without, gone)
		default:
			return nil, nil, &failure.Error{
				Class: failure.Invalid, Reason: "PairInvalid", Object: flag, Message: fmt.Sprintf("%q is no pair", word), Hint: "write KEY=VALUE, or KEY- to take it away",
			}
		}
	}
	return values, without, nil
}

// Template reads the manifest that was named; nil where none was.
func (f *Flags) Template() (*deployments.Manifest, error) {
	if !f.defined.Changed(templateFlag) {
		return nil, nil
	}
	if f.template == "" {
		return &deployments.Manifest{}, nil
	}
	return deployments.ReadManifest(f.template)
}

// Typed is the first flag that was typed, "" for none.
func (f *Flags) Typed() string {
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	(&Flags{}).Add(own)
	name := ""
	own.VisitAll(func(flag *pflag.Flag) {
		if name == "" && f.defined.Changed(flag.Name) {
			name = flag.Name
		}
	})
	return name
}
