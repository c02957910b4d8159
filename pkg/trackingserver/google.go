package trackingserver

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io/fs"
	"net/url"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/gcp"
)

// Google is what an install needs of Google Cloud.
type Google = gcp.Setup

// GoogleStep is one thing that has to be so there.
type GoogleStep = gcp.Step

// GoogleResult is what was done about one.
type GoogleResult = gcp.Result

const (
	// GcloudNoLog goes before a gcloud that reads a password.
	GcloudNoLog = gcp.NoLog
	// GoogleProjectNumber stands in steps for a project's number that is not known: a shell's variable.
	GoogleProjectNumber = gcp.ProjectNumber
)

// GoogleIdentities are the values of Google.Identity.
func GoogleIdentities() []string { return gcp.Identities() }

// PlanGoogle are the steps for g, which is complete. It is pure.
func PlanGoogle(g Google) []GoogleStep { return gcp.Plan(g) }

// SetUpGoogle makes so what g needs and is not so, through the gcloud on PATH. Passwords and keys go into Secrets of the
// namespace. It returns g with all that was found out, and also where it fails what was done.
func (c *Client) SetUpGoogle(ctx context.Context, g Google) (Google, []GoogleResult, error) {
	complete, err := g.Complete()
	if err != nil {
		return g, nil, err
	}
	r := &gcp.Runner{Exec: gcp.Gcloud, Secrets: secretsIn{c, complete.Namespace}, Namespace: complete.Namespace, Progress: c.progress, Pause: gcp.Pause}
	if complete.NeedsNumber() {
		if g.Number, err = r.Number(ctx, complete.ClusterProject()); err != nil {
			return complete, nil, err
		}
		if complete, err = g.Complete(); err != nil {
			return complete, nil, err
		}
	}
	done, err := r.Run(ctx, gcp.Plan(complete))
	return complete, done, err
}

// InstalledFor says whether the MLflow that g, which is complete, is for is installed.
func (c *Client) InstalledFor(ctx context.Context, g Google) (bool, error) {
	record, err := c.records.Load(ctx, g.Namespace)
	if err != nil || record == nil {
		return false, err
	}
	overlay := overlayGCP
	if g.CloudSQL {
		overlay = CloudSQLOverlay
	}
	return record.Overlay == overlay, nil
}

// SetIdentity annotates the Kubernetes accounts of an MLflow that is installed with the service accounts of g. It waits for
// nothing: pods that failed for want of a role come up when Google knows of it.
func (c *Client) SetIdentity(ctx context.Context, g Google) ([]Change, error) {
	google, cloudSQL := g.Accounts()
	p := Parameters{Namespace: g.Namespace, GoogleServiceAccount: google, CloudSQLServiceAccount: cloudSQL}
	return c.bring(ctx, p, install, Options{}, (*installation).identify)
}

// identify writes the accounts, and the record: the next install keeps them.
func (in *installation) identify(ctx context.Context) error {
	in.takeInventory()
	if err := in.save(ctx); err != nil {
		return err
	}
	accounts := slices.DeleteFunc(in.rendered.all(), func(obj *unstructured.Unstructured) bool { return obj.GetKind() != "ServiceAccount" })
	if err := in.apply(ctx, accounts); err != nil {
		return err
	}
	return in.save(ctx)
}

// secretsIn are the Secrets of a namespace, for the setup at Google. They are the user's: uninstall does not know them, as
// what they open stays at Google too.
type secretsIn struct {
	client    *Client
	namespace string
}

func (s secretsIn) Read(ctx context.Context, at gcp.SecretKey) ([]byte, error) {
	ref := core("Secret", s.namespace, at.Secret)
	secret, err := s.client.get(ctx, ref)
	if err != nil || secret == nil {
		return nil, err
	}
	text, _, err := unstructured.NestedString(secret.Object, "data", at.Key)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ref, err)
	}
	value, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", ref, at.Key, err)
	}
	if len(value) == 0 {
		return nil, &failure.Error{Class: failure.Refused, Reason: "SecretIncomplete", Object: ref.String(),
			Message: "it has no " + at.Key, Hint: "add it; or delete the Secret, if nothing uses it yet"}
	}
	if at.Key != keyDatabasePassword {
		return value, nil
	}
	// In the Secret it is part of a URI; the database knows it plain.
	plain, err := url.PathUnescape(string(value))
	if err != nil || !inURI(string(value)) {
		return nil, &failure.Error{Class: failure.Refused, Reason: "PasswordNotEscaped", Object: ref.String(),
			Message: fmt.Sprintf("its %s becomes part of a URI and has characters that end it there, perhaps a line break", at.Key),
			Hint:    "percent-encode them in the Secret (@ is %40), without a line break at the end"}
	}
	return []byte(plain), nil
}

func (s secretsIn) Create(ctx context.Context, at gcp.SecretKey, value []byte, dryRun bool) error {
	namespace, err := s.client.bareNamespace(s.namespace)
	if err != nil {
		return err
	}
	// Who may not look at namespaces may still have this one.
	if _, err := s.client.cluster.CreateOnce(ctx, namespace); err != nil && failure.ClassOf(err) != failure.Forbidden {
		return err
	}
	ref := core("Secret", s.namespace, at.Secret)
	secret := &unstructured.Unstructured{Object: map[string]any{
		"type": "Opaque",
		"data": map[string]any{at.Key: base64.StdEncoding.EncodeToString(value)},
	}}
	secret.SetGroupVersionKind(ref.GroupVersionKind)
	secret.SetNamespace(s.namespace)
	secret.SetName(at.Secret)
	secret.SetLabels(map[string]string{"app.kubernetes.io/part-of": "mlflow", cluster.KeepKey: "true"})
	if dryRun {
		_, err = s.client.cluster.Create(ctx, secret, true)
		return err
	}
	if _, err := s.client.cluster.CreateOnce(ctx, secret); err != nil {
		return err
	}
	kept, err := s.Read(ctx, at)
	if err == nil && !bytes.Equal(kept, value) {
		err = &failure.Error{Class: failure.Refused, Reason: "SecretTaken", Object: ref.String(),
			Message: "somebody else made it at the same time, with another " + at.Key, Hint: "run the same command again"}
	}
	return err
}

// bareNamespace is the namespace that install would make, without what says that install made it.
func (c *Client) bareNamespace(name string) (*unstructured.Unstructured, error) {
	text, err := fs.ReadFile(c.manifests, "base/namespace.yaml")
	if err != nil {
		return nil, fmt.Errorf("the manifests' namespace: %w", err)
	}
	namespace := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(text, &namespace.Object); err != nil {
		return nil, fmt.Errorf("the manifests' namespace: %w", err)
	}
	namespace.SetName(name)
	return namespace, nil
}

func (secretsIn) NewPassword() (string, error) { return newPassword() }
