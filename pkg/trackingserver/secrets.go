package trackingserver

import (
	"context"
	"crypto/rand"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

const (
	secretName = "mlflow-secret"
	// databaseClaim holds the data that the password in the Secret opens.
	databaseClaim = "postgres-data"

	// alphabet needs no escape in a URI, a shell or YAML.
	alphabet       = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	passwordLength = 32 // 190 bits
)

// secretKeys are the keys that the manifests read.
func secretKeys() []string {
	return []string{"DB_PASSWORD", "MLFLOW_CRYPTO_KEK_PASSPHRASE"}
}

// newPassword comes from the system's source of randomness, evenly spread over the alphabet.
func newPassword() (string, error) {
	password := make([]byte, passwordLength)
	for i := range password {
		n, err := rand.Int(rand.Reader, big.NewInt(int64(len(alphabet))))
		if err != nil {
			return "", fmt.Errorf("generating a password: %w", err)
		}
		password[i] = alphabet[n.Int64()]
	}
	return string(password), nil
}

func newSecret(namespace string) (*unstructured.Unstructured, error) {
	values := map[string]any{}
	for _, key := range secretKeys() {
		password, err := newPassword()
		if err != nil {
			return nil, err
		}
		values[key] = password
	}
	ref := core("Secret", namespace, secretName)
	secret := &unstructured.Unstructured{Object: map[string]any{"type": "Opaque", "stringData": values}}
	secret.SetGroupVersionKind(ref.GroupVersionKind)
	secret.SetNamespace(namespace)
	secret.SetName(secretName)
	secret.SetLabels(map[string]string{
		cluster.ManagedByLabel:      cluster.FieldManager,
		"app.kubernetes.io/name":    "mlflow",
		"app.kubernetes.io/part-of": "mlflow",
		cluster.KeepKey:             "true",
	})
	return secret, nil
}

// secret is the Secret that is there, or a new one that was not written yet (and has no UID). failure.Refused where it is
// not there but data is that only its password opens, and where it lacks a key.
func (c *Client) secret(ctx context.Context, namespace string) (*unstructured.Unstructured, error) {
	ref := core("Secret", namespace, secretName)
	secret, err := c.get(ctx, ref)
	if err != nil {
		return nil, err
	}
	if secret == nil {
		claim, err := c.get(ctx, core("PersistentVolumeClaim", namespace, databaseClaim))
		if err != nil {
			return nil, err
		}
		if claim == nil {
			return newSecret(namespace)
		}
		return nil, &failure.Error{
			Class: failure.Refused, Reason: "SecretLost", Object: ref.String(),
			Message: fmt.Sprintf("it is gone, but persistentvolumeclaim/%s in namespace %s holds a database whose password was in it", databaseClaim, namespace),
			Hint:    "restore the Secret; or, if the data may go, delete the claim and install again",
		}
	}
	data, _, err := unstructured.NestedMap(secret.Object, "data")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ref, err)
	}
	missing := slices.DeleteFunc(secretKeys(), func(key string) bool { return data[key] != nil })
	if len(missing) > 0 {
		return nil, &failure.Error{
			Class: failure.Refused, Reason: "SecretIncomplete", Object: ref.String(),
			Message: "it lacks what MLflow's pods read: " + strings.Join(missing, ", "),
			Hint:    "add the keys; or delete the Secret, if nothing uses its password yet",
		}
	}
	return secret, nil
}
