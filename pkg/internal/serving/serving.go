// Package serving turns a model's image into a Knative Service, and says which revision that made and where it answers.
// It is the only import of knative.dev. Services are read and written as the server sends them, so that fields which these types
// do not know, and fields of others, stay as they are.
package serving

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	knative "knative.dev/serving/pkg/apis/serving/v1"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

// What a deployment is known by: annotations of the Service and of each of its revisions.
const (
	ModelURIKey    = "mlflow.kubectl/model-uri"              // models:/iris/3: never an alias
	VersionKey     = "mlflow.kubectl/model-version"          // of the registered model
	EnvironmentKey = "mlflow.kubectl/environment-key"        // of the environment image
	RunIDKey       = "knative.deployments.mlflow.org/run-id" // mlflow-knative's key, so that it finds the run too
)

// ExampleKey is a label of an image: the request that its model was logged with, for those who deploy the image alone.
const ExampleKey = "mlflow.kubectl/input-example"

// What we keep for ourselves.
const (
	prefix        = "mlflow.kubectl/"
	hashKey       = prefix + "spec-hash"        // of the template: the same content is the same revision
	generationKey = prefix + "generation"       // of the Service, by the write that made the revision
	envKey        = prefix + "env"              // names of the environment variables that are ours
	templateKey   = prefix + "service-template" // of the Service: the manifest that its deployments go on standing on
	settingsKey   = prefix + "settings"         // of the Service: those that a set has declared
	setLabel      = prefix + "set"              // of the Service: the name of that set
	modelNameKey  = prefix + "model-name"       // of the Service: Spec.ModelName
	adoptedKey    = prefix + "adopted-from"     // of the Service: the tool that keeps it, and from which it was taken over all the same
	previousKey   = prefix + "previous-traffic" // of the Service: who had the requests before, for a rollback
	doubtKey      = prefix + "example-failed"   // of the Service: the generation that serves without having answered its example
)

// Spec is what we own of a Service; the rest of it is left as it is.
type Spec struct {
	Namespace, Name string
	Image           string            // by digest
	Annotations     map[string]string // of the Service and of its revisions: the keys above
	ReadyPath       string            // answers 200 once the model is loaded
	Port            int32
	Env             map[string]string
	// Timeout is Knative's progress deadline, in whole seconds. Another one alone makes no new revision.
	Timeout time.Duration
	// Only narrows what may be done: Create refuses a Service that is there, Update one that is not. "" does either.
	Only Only
	// Adopt takes over a Service that is not ours, with all that does not keep a model server from running.
	Adopt bool
	// ModelName is what clients ask the model by, where that is not Name. The Service keeps it.
	ModelName string
	// Template is the manifest that the Service stands on. nil is the one of the deployment before.
	Template *Template
	// Settings are laid over all that.
	Settings Settings
	// Set is the name, or "", of the set that declares the deployment: the settings are then all that there are, and what an earlier
	// declaration said is taken back. nil is none.
	Set *string
	// Hold leaves the requests with those who have them now, until Promote: the new revision answers at the address of its tag Candidate.
	// Where nothing serves yet, the new revision gets them all. Without it they stay so too, where they are given to revisions by name.
	Hold bool
}

// Only is one of two things to do to a Service.
type Only string

// What Spec.Only may be.
const (
	OnlyCreate Only = "create"
	OnlyUpdate Only = "update"
)

// Cluster is the part of cluster.Client that is needed here.
type Cluster interface {
	HasKind(ctx context.Context, gvk schema.GroupVersionKind) (bool, error)
	Get(ctx context.Context, r cluster.Ref) (*unstructured.Unstructured, error)
	List(ctx context.Context, q cluster.Query) ([]*unstructured.Unstructured, error)
	ListPages(ctx context.Context, q cluster.Query, f func(*unstructured.Unstructured) error) error
	Create(ctx context.Context, obj *unstructured.Unstructured, dryRun bool) (*unstructured.Unstructured, error)
	Update(ctx context.Context, obj *unstructured.Unstructured, dryRun bool) (*unstructured.Unstructured, error)
	Delete(ctx context.Context, r cluster.Ref, uid types.UID) error
	Observe(ctx context.Context, qs []cluster.Query, f func([]*unstructured.Unstructured) (done bool, err error)) error
}

// Client writes and reads Knative Services.
type Client struct{ cluster Cluster }

// New returns a Client of c.
func New(c Cluster) *Client { return &Client{cluster: c} }

// ServiceRef names a Service.
func ServiceRef(namespace, name string) cluster.Ref {
	return cluster.Ref{GroupVersionKind: knative.SchemeGroupVersion.WithKind("Service"), Namespace: namespace, Name: name}
}

func revisionRef(namespace, name string) cluster.Ref {
	return cluster.Ref{GroupVersionKind: knative.SchemeGroupVersion.WithKind("Revision"), Namespace: namespace, Name: name}
}
