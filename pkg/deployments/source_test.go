package deployments

import (
	"context"
	"encoding/base64"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/instance"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/tracking"
)

type secrets func(r cluster.Ref) (*unstructured.Unstructured, error)

func (f secrets) Get(_ context.Context, r cluster.Ref) (*unstructured.Unstructured, error) {
	return f(r)
}

func TestMLflowWithUsersIsReadAsItsAdminByThoseWhoMay(t *testing.T) {
	secret := func(password string) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{"data": map[string]any{instance.AdminPasswordKey: base64.StdEncoding.EncodeToString([]byte(password))}}}
	}
	for name, c := range map[string]struct {
		auth string
		get  secrets
		want tracking.Credentials
		ok   bool
	}{
		"no users": {"", func(cluster.Ref) (*unstructured.Unstructured, error) { panic("nothing is to be read") }, tracking.Credentials{}, true},
		"allowed": {"mlflow-auth", func(r cluster.Ref) (*unstructured.Unstructured, error) {
			if r.Namespace != "ml" || r.Name != "mlflow-auth" || r.Kind != "Secret" {
				t.Errorf("read %v", r)
			}
			return secret("s3cret"), nil
		}, tracking.Credentials{Username: "admin", Password: "s3cret"}, true},
		"forbidden": {"mlflow-auth", func(cluster.Ref) (*unstructured.Unstructured, error) {
			return nil, &failure.Error{Class: failure.Forbidden}
		}, tracking.Credentials{}, true},
		"gone": {"mlflow-auth", func(r cluster.Ref) (*unstructured.Unstructured, error) {
			return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, r.Name)
		}, tracking.Credentials{}, true},
		"away": {"mlflow-auth", func(cluster.Ref) (*unstructured.Unstructured, error) {
			return nil, &failure.Error{Class: failure.Diagnosed}
		}, tracking.Credentials{}, false},
	} {
		got, err := asAdmin(t.Context(), c.get, &instance.Instance{Namespace: "ml", AuthSecret: c.auth})
		if got != c.want || (err == nil) != c.ok {
			t.Errorf("%s: user %q, password right %t, %v", name, got.Username, got.Password == c.want.Password, err)
		}
	}
}
