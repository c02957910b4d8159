package trackingserver

import (
	"errors"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

// notForeign is failure.Refused where objects of our names are kept by another tool, which would undo what we write, or were
// made by hand, with data in them that is not ours to change.
func (in *installation) notForeign() error {
	var found []error
	said := map[cluster.Keeper]bool{}
	for _, obj := range in.rendered.all() {
		live := in.live[cluster.RefOf(obj)]
		if live == nil {
			continue
		}
		if keeper, kept := cluster.KeptBy(live); kept {
			if !said[keeper] {
				said[keeper] = true
				found = append(found, keptElsewhere(live, keeper))
			}
			continue
		}
		if in.foreign(live) {
			found = append(found, madeByHand(live))
		}
	}
	return errors.Join(found...)
}

// foreign tells objects that somebody made without us. What runs or holds nothing may be adopted.
func (in *installation) foreign(live *unstructured.Unstructured) bool {
	if !slices.Contains([]string{"Deployment", "StatefulSet", "Service", "PersistentVolumeClaim", "Ingress", "CronJob"}, live.GetKind()) {
		return false
	}
	if live.GetLabels()[cluster.ManagedByLabel] == cluster.FieldManager {
		return false
	}
	return !slices.ContainsFunc(in.old.Items, func(i cluster.Change) bool { return i.Ref == cluster.RefOf(live) && i.UID == live.GetUID() })
}

func keptElsewhere(live *unstructured.Unstructured, keeper cluster.Keeper) error {
	hint := fmt.Sprintf("change it there, in Git: `kubectl mlflow export DIR` writes what to commit; or take it out of %s first", keeper.Tool)
	if keeper.Tool == "Helm" {
		hint = fmt.Sprintf("change it with helm upgrade %s; or install beside it, with --namespace, and move the data: "+
			"pg_dump of its database, then `kubectl mlflow restore --from-file FILE`", keeper.Name)
	}
	return &failure.Error{
		Class: failure.Refused, Reason: "ManagedElsewhere", Object: cluster.RefOf(live).String(),
		Message: fmt.Sprintf("%s keeps it as part of %s, and would undo what is changed here", keeper.Tool, keeper.Name),
		Hint:    hint,
	}
}

func madeByHand(live *unstructured.Unstructured) error {
	return &failure.Error{
		Class: failure.Refused, Reason: "ForeignObject", Object: cluster.RefOf(live).String(),
		Message: fmt.Sprintf("namespace %s has one that kubectl-mlflow did not make", live.GetNamespace()),
		Hint: "install beside it, with --namespace, and move the data: pg_dump of its database, then `kubectl mlflow restore --from-file FILE`; " +
			fmt.Sprintf("or, if it may be taken over: kubectl label %s --namespace %s %s=%s", cluster.RefOf(live), live.GetNamespace(), cluster.ManagedByLabel, cluster.FieldManager),
	}
}
