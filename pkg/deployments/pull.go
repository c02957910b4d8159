package deployments

import (
	"cmp"
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image/registry"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/serving"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// pullers are the pods of a deployment, to whom a registry has to give images.
type pullers struct {
	account string                // service account
	secrets []registry.PullSecret // that they have for it
	unseen  string                // why not all that they have can be seen, or ""
	image   string                // that the deployment has now, or ""
}

// doubt is what cannot be known from here about a pull.
type doubt struct {
	text string // "" for none
	hint string // "" where nothing is to be done
}

// checkPull tells whether the registry will give images to the deployment's pods: failure.Forbidden where it will not.
func (c *Client) checkPull(ctx context.Context, s serving.Spec, repository string, to images) (doubt, error) {
	pods, err := c.pullers(ctx, s)
	if err != nil {
		return doubt{}, err
	}
	answer, err := to.CheckPull(ctx, pods.secrets)
	namespace := s.Namespace
	account := fmt.Sprintf("service account %s in namespace %s", pods.account, namespace)
	const create = "kubectl create secret docker-registry %[2]s --namespace %[1]s --docker-server REGISTRY --docker-username USER --docker-password PASSWORD"
	switch {
	case err != nil:
		return doubt{}, err
	case answer.Allowed:
		return doubt{}, nil
	case answer.Cloud:
		return doubt{text: "nodes of the provider's own clusters pull from " + repository + " as what they are, which cannot be seen from here"}, nil
	case pods.unseen != "":
		return doubt{text: "whether pods may pull from " + repository + " cannot be seen: " + pods.unseen}, nil
	case answer.Denied:
		return doubt{}, &failure.Error{
			Class: failure.Forbidden, Reason: "ImagePullDenied",
			Message: fmt.Sprintf("pods could not pull from %s: the registry does not accept the pull secret %s of %s", repository, answer.Secrets, account),
			Hint:    fmt.Sprintf("replace it: kubectl delete secret %[2]s --namespace %[1]s, then "+create, namespace, answer.Secrets),
		}
	case repositoryOf(pods.image) == repository:
		return doubt{text: "pods have pulled from " + repository + " before, with credentials that the nodes have"}, nil
	}
	return doubt{
		text: fmt.Sprintf("%s gives nothing to those without credentials, and %s has no pull secret for it: pods start only where the nodes have credentials", repository, account),
		hint: fmt.Sprintf(create+`, then kubectl patch serviceaccount %[3]s --namespace %[1]s --patch '{"imagePullSecrets": [{"name": "%[2]s"}]}'`, namespace, "models-pull", pods.account),
	}, nil
}

// tellPull says a doubt about which something can be done.
func (c *Client) tellPull(ctx context.Context, r Request, repository string, to images) error {
	template, err := r.template()
	if err != nil {
		return err
	}
	d, err := c.checkPull(ctx, serving.Spec{Namespace: r.Namespace, Name: r.Name, Template: template, Settings: r.Settings}, repository, to)
	if err == nil && d.hint != "" {
		progress.Say(c.progress, "Warning: %s; to give them some: %s", d.text, d.hint)
	}
	return err
}

// pullersOf reads what the pods of a deployment, there or not yet, have for registries. What the user may not see is no error.
func pullersOf(ctx context.Context, k *cluster.Client, knative *serving.Client, s serving.Spec) (pullers, error) {
	pods, err := knative.Puller(ctx, s)
	if err != nil {
		return pullers{}, err
	}
	p := pullers{account: cmp.Or(pods.ServiceAccount, "default"), image: pods.Image}
	names := pods.PullSecrets
	if len(names) == 0 { // only then Kubernetes adds those of the account
		account := &corev1.ServiceAccount{}
		err := readInto(ctx, k, corev1.SchemeGroupVersion.WithKind("ServiceAccount"), s.Namespace, p.account, account)
		if failure.ClassOf(err) == failure.Forbidden {
			p.unseen = fmt.Sprintf("you may not read service account %s in namespace %s", p.account, s.Namespace)
			return p, nil
		}
		if err != nil && !apierrors.IsNotFound(err) { // a namespace that is new may not have its own yet
			return p, err
		}
		names = account.ImagePullSecrets
	}
	for _, named := range names {
		secret := &corev1.Secret{}
		err := readInto(ctx, k, corev1.SchemeGroupVersion.WithKind("Secret"), s.Namespace, named.Name, secret)
		if failure.ClassOf(err) == failure.Forbidden {
			p.unseen = fmt.Sprintf("you may not read secret %s in namespace %s", named.Name, s.Namespace)
			continue
		}
		if err != nil && !apierrors.IsNotFound(err) { // a kubelet goes on without one that is not there
			return p, err
		}
		for _, key := range []string{corev1.DockerConfigJsonKey, corev1.DockerConfigKey} {
			if config := secret.Data[key]; len(config) > 0 {
				p.secrets = append(p.secrets, registry.PullSecret{Name: named.Name, Config: config})
			}
		}
	}
	return p, nil
}

func readInto(ctx context.Context, k *cluster.Client, kind schema.GroupVersionKind, namespace, name string, typed any) error {
	obj, err := k.Get(ctx, cluster.Ref{GroupVersionKind: kind, Namespace: namespace, Name: name})
	if err != nil {
		return err
	}
	return cluster.Into(obj, typed)
}
