package trackingserver

import (
	"cmp"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/render"
)

// component is the label by which objects belong to a stage. What bears none of the three is shared, and comes first.
const component = "app.kubernetes.io/component"

// The stages of an install, each ready before the next begins.
const (
	database  = "database"
	migration = "migration"
	server    = "server"
)

// Render returns the objects that Install applies, in kustomize's order. It needs no cluster: what a rerun would take from
// the record of the last install is not in it. The database's Secret is made on the cluster and never rendered.
func (c *Client) Render(p Parameters) ([]*unstructured.Unstructured, error) {
	tree, err := c.tree(p)
	if err != nil {
		return nil, err
	}
	return build(tree)
}

// tree is the manifests' with p in it. p has to be whole: what the record may add is in it.
func (c *Client) tree(p Parameters) (*render.Tree, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	tree, err := render.Open(c.manifests, p.overlay())
	if err != nil {
		return nil, err
	}
	if err := p.complete(); err != nil {
		return nil, err
	}
	tree.SetNamespace(cmp.Or(p.Namespace, DefaultNamespace))
	if err := p.compose(tree); err != nil {
		return nil, err
	}
	return tree, nil
}

// build is what the tree says, with the migration named by its content.
func build(tree *render.Tree) ([]*unstructured.Unstructured, error) {
	objs, err := tree.Build()
	if err != nil {
		return nil, err
	}
	if err := noSecrets(objs); err != nil {
		return nil, err
	}
	for _, obj := range objs {
		// A Job's template cannot be changed: another spec is another Job.
		if obj.GetKind() == "Job" && stageOf(obj) == migration {
			if err := render.HashName(obj); err != nil {
				return nil, err
			}
		}
	}
	return objs, nil
}

func stageOf(obj *unstructured.Unstructured) string {
	switch stage := obj.GetLabels()[component]; stage {
	case database, migration, server:
		return stage
	}
	return ""
}

// rendered is a render, sorted by what install does with it.
type rendered struct {
	namespace *unstructured.Unstructured
	stages    map[string][]*unstructured.Unstructured // by component; "" is what they share
	server    cluster.Ref                             // the server's Deployment
	image     string                                  // of the server
	http      cluster.ServicePort                     // of the server
}

// all is everything but the namespace, in the order in which it is applied.
func (r *rendered) all() []*unstructured.Unstructured {
	var objs []*unstructured.Unstructured
	for _, stage := range []string{"", database, migration, server} {
		objs = append(objs, r.stages[stage]...)
	}
	return objs
}

func sortOut(objs []*unstructured.Unstructured) (*rendered, error) {
	r := &rendered{stages: map[string][]*unstructured.Unstructured{}}
	for _, obj := range objs {
		stage := stageOf(obj)
		switch kind := obj.GetKind(); {
		case kind == "Namespace":
			r.namespace = obj
			continue
		case kind == "Deployment" && stage == server:
			r.server, r.image = cluster.RefOf(obj), containerImage(obj)
		case kind == "Service" && stage == server:
			r.http = cluster.ServicePort{Namespace: obj.GetNamespace(), Service: obj.GetName(), Port: "http"}
		}
		r.stages[stage] = append(r.stages[stage], obj)
	}
	if r.namespace == nil || r.image == "" || r.http.Service == "" {
		return nil, fmt.Errorf("the manifests lack the Namespace, or the server's Deployment or Service")
	}
	return r, nil
}

func containerImage(workload *unstructured.Unstructured) string {
	containers, _, err := unstructured.NestedSlice(workload.Object, "spec", "template", "spec", "containers")
	if err != nil || len(containers) == 0 {
		return ""
	}
	first, _ := containers[0].(map[string]any)
	image, _ := first["image"].(string)
	return image
}
