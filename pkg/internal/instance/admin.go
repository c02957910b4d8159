package instance

import (
	"context"
	"encoding/base64"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

const (
	// AdminUser is basic-auth's first user.
	AdminUser = "admin"
	// AdminPasswordKey is the key of the admin's password in the Secret that AuthSecret names.
	AdminPasswordKey = "MLFLOW_AUTH_ADMIN_PASSWORD" //nolint:gosec // a name
)

// Getter is the part of cluster.Client that AdminPassword needs.
type Getter interface {
	Get(ctx context.Context, r cluster.Ref) (*unstructured.Unstructured, error)
}

// AdminPassword is that of AdminUser, or "" where the installation has no basic-auth. Its errors are those of Get.
func (i *Instance) AdminPassword(ctx context.Context, c Getter) (string, error) {
	if i.AuthSecret == "" {
		return "", nil
	}
	ref := cluster.Ref{GroupVersionKind: schema.GroupVersionKind{Version: "v1", Kind: "Secret"}, Namespace: i.Namespace, Name: i.AuthSecret}
	secret, err := c.Get(ctx, ref)
	if err != nil {
		return "", err
	}
	encoded, _, err := unstructured.NestedString(secret.Object, "data", AdminPasswordKey)
	if err != nil {
		return "", fmt.Errorf("%s: %w", ref, err)
	}
	password, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return "", fmt.Errorf("%s: %s is not base64", ref, AdminPasswordKey)
	}
	return string(password), nil
}
