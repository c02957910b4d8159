package trackingserver

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

// Options say how a change is made; what should be is in Parameters. The zero value is the usual way.
type Options struct {
	Secrets        GivenSecrets
	ForceConflicts bool              // take fields that another manager has set
	FieldManager   string            // name under which fields are owned; "" is kubectl-mlflow
	Say            func(line string) // is told what a person should know before it happens; may be nil
}

// GivenSecrets are secrets that the caller brings; what is empty is generated, or is there already.
type GivenSecrets struct {
	DatabasePassword string
	AdminPassword    string // of basic-auth's user admin
	GoogleKey        string // a service account's key, JSON
	CloudSQLKey      string
}

func (o Options) say(line string) {
	if o.Say != nil {
		o.Say(line)
	}
}

func (o Options) applying() cluster.ApplyOptions {
	return cluster.ApplyOptions{Force: o.ForceConflicts, Manager: o.FieldManager}
}

func (o Options) asking() cluster.ApplyOptions {
	a := o.applying()
	a.DryRun = true
	return a
}

// changes is what was done, as callers see it.
func changes(done []cluster.Applied) []Change {
	public := make([]Change, 0, len(done))
	for _, d := range done {
		public = append(public, changeOf(d.Change, d.After))
	}
	return public
}

// deleted is changes for what has no content.
func deleted(done []cluster.Change) []Change {
	public := make([]Change, 0, len(done))
	for _, d := range done {
		public = append(public, changeOf(d, nil))
	}
	return public
}

func changeOf(c cluster.Change, after *unstructured.Unstructured) Change {
	if c.Kind == "Secret" {
		after = nil
	}
	return Change{GroupVersionKind: c.GroupVersionKind, Namespace: c.Namespace, Name: c.Name, Action: c.Action, After: after}
}
