package deployments

import (
	"context"
	"errors"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image/registry"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/serving"
)

func TestPreflightTellsAllThatADeploymentLacks(t *testing.T) {
	const repository = "registry.example.com/models"
	refuse := func(class failure.Class, reason string) error {
		return &failure.Error{Class: class, Reason: reason, Message: "it says " + reason}
	}
	for _, c := range []struct {
		name, repository string
		is               func(s *stage)
		want, says       string
	}{
		{"well", repository, func(*stage) {}, "knative ok, deployment-rights ok, architectures ok, image-repository ok, image-pull ok", "v1.19.4"},
		{"nothing named", "", func(*stage) {}, "knative ok, deployment-rights ok, architectures ok, image-repository skipped, image-pull skipped", "--image-repository"},
		{"a version that says nothing", "", func(s *stage) { s.version = func() (string, error) { return "", nil } }, "knative ok, deployment-rights ok, architectures ok, image-repository skipped, image-pull skipped", "unknown version"},
		{"no Knative", repository, func(s *stage) {
			s.version = func() (string, error) { return "", refuse(failure.Diagnosed, "KnativeMissing") }
		},
			"knative failed, deployment-rights ok, architectures ok, image-repository ok, image-pull ok", "KnativeMissing"},
		{"no Knative and no model", "", func(s *stage) {
			s.version = func() (string, error) { return "", refuse(failure.Diagnosed, "KnativeMissing") }
		},
			"knative warning, deployment-rights ok, architectures ok, image-repository skipped, image-pull skipped", "KnativeMissing"},
		{"no namespace", repository, func(s *stage) {
			s.check = func(serving.Spec) error { return refuse(failure.Invalid, "NamespaceNotFound") }
		},
			"knative skipped, deployment-rights ok, architectures ok, image-repository ok, image-pull ok", "namespace models does not exist yet"},
		{"a webhook that refuses", repository, func(s *stage) { s.check = func(serving.Spec) error { return refuse(failure.Refused, "Denied") } },
			"knative failed, deployment-rights ok, architectures ok, image-repository ok, image-pull ok", "Denied"},
		{"rights", repository, func(s *stage) {
			s.rights = []cluster.Access{{Verb: "create", GroupVersionKind: schema.GroupVersionKind{Group: "serving.knative.dev", Version: "v1", Kind: "Service"}, Resource: "services"}}
			s.check = func(serving.Spec) error { return refuse(failure.Forbidden, "Forbidden") }
		}, "knative unknown, deployment-rights failed, architectures ok, image-repository ok, image-pull ok", "create services"},
		{"two architectures", repository, func(s *stage) { s.architectures = []string{"amd64", "arm64"} }, "knative ok, deployment-rights ok, architectures warning, image-repository ok, image-pull ok", "built for linux/amd64"},
		{"a strange one", repository, func(s *stage) { s.architectures = []string{"s390x"} }, "knative ok, deployment-rights ok, architectures failed, image-repository ok, image-pull ok", "s390x"},
		{"nodes unseen", repository, func(s *stage) { s.architectures = nil }, "knative ok, deployment-rights ok, architectures unknown, image-repository ok, image-pull ok", "may not list nodes"},
		{"no push", repository, func(s *stage) {
			s.checkPush = func(context.Context) error { return refuse(failure.Forbidden, "RegistryForbidden") }
		},
			"knative ok, deployment-rights ok, architectures ok, image-repository failed, image-pull ok", "RegistryForbidden"},
		{"pull denied", repository, func(s *stage) { s.pull = registry.Pull{Denied: true, Secrets: "regcred"} },
			"knative ok, deployment-rights ok, architectures ok, image-repository ok, image-pull failed", "regcred"},
		{"pull unknown", repository, func(s *stage) { s.pull = registry.Pull{} },
			"knative ok, deployment-rights ok, architectures ok, image-repository ok, image-pull unknown", "kubectl patch serviceaccount default --namespace models"},
		{"pull by a cloud's nodes", repository, func(s *stage) { s.pull = registry.Pull{Cloud: true} },
			"knative ok, deployment-rights ok, architectures ok, image-repository ok, image-pull unknown", "as what they are"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage()
			c.is(s)
			results, err := s.client().Preflight(t.Context(), "", c.repository)
			if err != nil {
				t.Fatal(err)
			}
			var states, said []string
			for _, r := range results {
				states = append(states, r.Name+" "+r.State)
				said = append(said, r.Where, r.Message, r.Hint)
				if (r.State == failure.CheckFailed) != (r.Failure != nil) {
					t.Errorf("%s %s has the failure %v", r.Name, r.State, r.Failure)
				}
			}
			if got := strings.Join(states, ", "); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if !strings.Contains(strings.Join(said, "\n"), c.says) {
				t.Errorf("no %q in %q", c.says, said)
			}
		})
	}
	s := newStage()
	away := errors.New("connection refused")
	s.version = func() (string, error) { return "", away }
	if _, err := s.client().Preflight(t.Context(), "", repository); !errors.Is(err, away) {
		t.Errorf("no cluster: %v", err)
	}
}
