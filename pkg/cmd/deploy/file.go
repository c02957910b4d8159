package deploy

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"path/filepath"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/args"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/deployments"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// file is deployments that are declared together.
type file struct {
	// Set is their name together, which --prune needs.
	Set string `json:"set,omitempty"`
	// Defaults are what each deployment says that does not say it otherwise.
	Defaults    map[string]any   `json:"defaults,omitempty"`
	Deployments []map[string]any `json:"deployments"`
}

// entry is one deployment of a file. Its words are the flags'.
type entry struct {
	Name                 string           `json:"name"`
	ModelURI             string           `json:"modelURI,omitempty"`
	Image                string           `json:"image,omitempty"`
	ImageRepository      string           `json:"imageRepository,omitempty"`
	ImageTag             string           `json:"imageTag,omitempty"`
	BaseImage            string           `json:"baseImage,omitempty"`
	EnvImage             string           `json:"envImage,omitempty"`
	TorchBackend         string           `json:"torchBackend,omitempty"`
	Apt                  []string         `json:"apt,omitempty"`
	Builder              string           `json:"builder,omitempty"`
	Platform             string           `json:"platform,omitempty"`
	ModelServer          string           `json:"modelServer,omitempty"`
	TrackingURI          string           `json:"trackingURI,omitempty"`
	TrackingService      string           `json:"trackingService,omitempty"`
	ServiceTemplate      string           `json:"serviceTemplate,omitempty"` // a file, relative to this one
	NoVerify             bool             `json:"noVerify,omitempty"`
	Timeout              *metav1.Duration `json:"timeout,omitempty"`
	deployments.Settings `json:",inline"`
}

// readSet reads a file of deployments; "-" is in. What an entry leaves out is as in the request that base makes for it.
func readSet(name string, in io.Reader, base func(name, modelURI string) deployments.Request) (deployments.Set, error) {
	directory := filepath.Dir(name)
	name, content, err := args.Read(name, in)
	if err != nil {
		return deployments.Set{}, &failure.Error{Class: failure.Invalid, Reason: "FileUnreadable", Object: "-f", Message: "cannot read the deployments", Hint: "check the name of the file", Err: err}
	}
	var f file
	if err := yaml.UnmarshalStrict(content, &f); err != nil {
		return deployments.Set{}, fileInvalid(name, err.Error())
	}
	if len(f.Deployments) == 0 {
		return deployments.Set{}, fileInvalid(name, "it declares no deployments")
	}
	set := deployments.Set{Name: f.Set}
	for i, fields := range f.Deployments {
		e, err := f.entry(fields)
		if err != nil {
			return deployments.Set{}, fileInvalid(name, fmt.Sprintf("deployments[%d], %q: %v", i, fields["name"], err))
		}
		r := base(e.Name, e.ModelURI)
		if err := e.fill(&r, directory); err != nil {
			return deployments.Set{}, err
		}
		set.Requests = append(set.Requests, r)
	}
	return set, nil
}

func fileInvalid(name, message string) error {
	return &failure.Error{
		Class: failure.Invalid, Reason: "FileInvalid", Object: name, Message: message,
		Hint: "write deployments: [{name: iris, modelURI: models:/iris/3}]; docs/deployments.md has all the words",
	}
}

// entry is what fields say over the defaults.
func (f file) entry(fields map[string]any) (entry, error) {
	all := maps.Clone(f.Defaults)
	if all == nil {
		all = map[string]any{}
	}
	for key, value := range fields {
		own, isMap := value.(map[string]any)
		if shared, ok := all[key].(map[string]any); isMap && ok {
			shared = maps.Clone(shared)
			maps.Copy(shared, own)
			value = shared
		}
		all[key] = value
	}
	content, err := json.Marshal(all)
	if err != nil {
		return entry{}, err
	}
	var e entry
	strict := json.NewDecoder(bytes.NewReader(content))
	strict.DisallowUnknownFields()
	return e, strict.Decode(&e)
}

// fill puts what the entry says into r.
func (e entry) fill(r *deployments.Request, directory string) error {
	if e.TrackingURI != "" || e.TrackingService != "" {
		r.TrackingURI, r.TrackingService, r.TrackingURIFrom = e.TrackingURI, e.TrackingService, "trackingURI"
	}
	for _, field := range []struct {
		into *string
		says string
	}{
		{&r.ImageRepository, e.ImageRepository}, {&r.ImageTag, e.ImageTag}, {&r.BaseImage, e.BaseImage}, {&r.EnvironmentImage, e.EnvImage},
		{&r.TorchBackend, e.TorchBackend}, {&r.Builder, e.Builder}, {&r.Platform, e.Platform}, {&r.ModelServer, e.ModelServer},
	} {
		*field.into = cmp.Or(field.says, *field.into)
	}
	if len(e.Apt) > 0 {
		r.Apt = e.Apt
	}
	if r.Image = e.Image; r.Image != "" { // what the environment says is for those who build
		r.ImageRepository, r.TrackingURI = e.ImageRepository, e.TrackingURI
	}
	r.NoVerify, r.Settings = e.NoVerify || r.NoVerify, e.Settings
	if e.Timeout != nil {
		r.Timeout = e.Timeout.Duration
	}
	if e.ServiceTemplate == "" {
		return nil
	}
	path := e.ServiceTemplate
	if !filepath.IsAbs(path) {
		path = filepath.Join(directory, path)
	}
	var err error
	r.ServiceTemplate, err = deployments.ReadManifest(path)
	return err
}
