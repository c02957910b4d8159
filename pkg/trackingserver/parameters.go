package trackingserver

import (
	"fmt"
	"regexp"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/render"
)

// DefaultOverlay is what is installed unless something else is said or recorded.
const DefaultOverlay = "local"

// mlflowImage is the server's image as the manifests name it.
const mlflowImage = "ghcr.io/mlflow/mlflow"

// Parameters are all that a person can say of an install. What is empty is as in the last install, or else as in the manifests.
type Parameters struct {
	Overlay          string // "local"
	Namespace        string
	Image            string // of MLflow, "registry.example.com/mlflow:v3.17.2-full"; without a tag, the manifests' own
	StorageClass     string // of all volumes; empty is the cluster's default
	DatabaseStorage  string // size of the database's volume, "10Gi"
	ArtifactsStorage string // size of the artifacts' volume, "20Gi"
}

// parameter is one row of the table that leads from a field of Parameters to where its value goes.
type parameter struct {
	flag  string
	key   string // in the instance's record; of env files, where the value goes into one
	value *string
	check func(string) error
	apply func(t *render.Tree, value string) error
}

// table is the one home of parameters that go into the tree. A new parameter is a field, a row here, and a flag.
func (p *Parameters) table() []parameter {
	return []parameter{
		{"--image", "MLFLOW_IMAGE", &p.Image, checkImage, func(t *render.Tree, value string) error {
			t.SetImage(mlflowImage, value)
			return nil
		}},
		{"--storage-class", "STORAGE_CLASS", &p.StorageClass, checkName, func(t *render.Tree, value string) error {
			return t.Add("PersistentVolumeClaim", "/spec/storageClassName", value)
		}},
		{"--database-storage", "POSTGRES_STORAGE_SIZE", &p.DatabaseStorage, checkSize, env("components/postgres/params.env", "POSTGRES_STORAGE_SIZE")},
		{"--artifacts-storage", "ARTIFACTS_STORAGE_SIZE", &p.ArtifactsStorage, checkSize, env("components/artifacts-pvc/params.env", "ARTIFACTS_STORAGE_SIZE")},
	}
}

func env(file, key string) func(*render.Tree, string) error {
	return func(t *render.Tree, value string) error {
		return t.SetEnv(file, map[string]string{key: value})
	}
}

// Validate is pure. failure.Invalid names the flag and shows the right spelling. Whether there is such an overlay is
// known where the manifests are: Render says so.
func (p Parameters) Validate() error {
	if p.Namespace != "" {
		if wrong := validation.IsDNS1123Label(p.Namespace); len(wrong) > 0 {
			return invalid("--namespace", p.Namespace, strings.Join(wrong, "; "))
		}
	}
	for _, row := range p.table() {
		if *row.value == "" {
			continue
		}
		if err := row.check(*row.value); err != nil {
			return invalid(row.flag, *row.value, err.Error())
		}
	}
	return nil
}

func invalid(flag, value, hint string) error {
	return &failure.Error{
		Class: failure.Invalid, Reason: "InvalidParameter",
		Message: fmt.Sprintf("%s %q is not valid", flag, value),
		Hint:    hint,
	}
}

// reference is the grammar of an image reference: repository, then tag or digest or both.
var reference = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9.\-]*(:[0-9]+)?(/[a-z0-9]+([._\-]+[a-z0-9]+)*)*(:[A-Za-z0-9_][A-Za-z0-9_.\-]{0,127})?(@sha256:[0-9a-f]{64})?$`)

func checkImage(value string) error {
	if !reference.MatchString(value) {
		return fmt.Errorf("write it as REPOSITORY[:TAG][@sha256:DIGEST], for instance %s:v3.17.2-full", mlflowImage)
	}
	return nil
}

func checkName(value string) error {
	if wrong := validation.IsDNS1123Subdomain(value); len(wrong) > 0 {
		return fmt.Errorf("see the names there are with: kubectl get storageclass; %s", strings.Join(wrong, "; "))
	}
	return nil
}

func checkSize(value string) error {
	if size, err := resource.ParseQuantity(value); err != nil || size.Sign() <= 0 {
		return fmt.Errorf("write a size as Kubernetes does, for instance 10Gi")
	}
	return nil
}

// record is what the instance's record keeps of p.
func (p *Parameters) record() map[string]string {
	kept := map[string]string{}
	for _, row := range p.table() {
		if *row.value != "" {
			kept[row.key] = *row.value
		}
	}
	return kept
}

// over returns p, with recorded values where p says nothing.
func (p Parameters) over(recorded map[string]string) Parameters {
	for _, row := range p.table() {
		if *row.value == "" {
			*row.value = recorded[row.key]
		}
	}
	return p
}
