package trackingserver

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/instance"
)

// The Secrets that install makes where they are needed, and their keys.
const (
	secretName = "mlflow-secret"
	// AuthSecretName is the Secret of basic-auth, with the admin's password under AdminPasswordKey.
	AuthSecretName    = "mlflow-auth"               //nolint:gosec // a name
	googleKeySecret   = "mlflow-google-key"         //nolint:gosec // a name
	cloudSQLKeySecret = "mlflow-cloudsql-proxy-key" //nolint:gosec // a name

	// AdminPasswordKey is the key of the password of basic-auth's user admin.
	AdminPasswordKey = instance.AdminPasswordKey

	keyDatabasePassword = "DB_PASSWORD"
	keyAdminUser        = "MLFLOW_AUTH_ADMIN_USERNAME" // a ServiceMonitor wants to read this from a Secret too
	keyGoogleKey        = "key.json"

	// databaseClaim holds the data that the password in the Secret opens.
	databaseClaim = "postgres-data"

	// alphabet needs no escape in a URI, a shell or YAML.
	alphabet       = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	passwordLength = 32 // 190 bits
)

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

// wantedSecret is a Secret that the pods read.
type wantedSecret struct {
	name string
	keys []secretKey
	flag string // that names it; "" where install makes it
}

// secretKey is one key of a Secret.
type secretKey struct {
	name   string
	given  string // what the caller says it is
	flag   string // by which it can be given; "" where it cannot
	opens  bool   // data that is there already: made anew, it would not fit
	others bool   // only somebody else knows it: it cannot be made
}

// UseGivenKeys names the Secrets of keys that are given, so that the manifests mount them.
func (p *Parameters) UseGivenKeys(g GivenSecrets) {
	if g.GoogleKey != "" && !given(p.GoogleKeySecret) {
		p.GoogleKeySecret = googleKeySecret
	}
	if g.CloudSQLKey != "" && !given(p.CloudSQLKeySecret) {
		p.CloudSQLKeySecret = cloudSQLKeySecret
	}
}

// wantedSecrets are those that the pods of p read, in the order in which they are made.
func (p Parameters) wantedSecrets(g GivenSecrets, why intent) []wantedSecret {
	own := wantedSecret{name: secretName, keys: []secretKey{{name: "MLFLOW_CRYPTO_KEK_PASSPHRASE", opens: true}}}
	password := secretKey{name: keyDatabasePassword, given: g.DatabasePassword, flag: "--database-password-file", opens: true}
	if p.overlay() == CloudSQLOverlay { // PostgreSQL in the cluster reads the Secret too, and knows no escapes
		password.given = escaped(g.DatabasePassword)
	}
	// A database that is not ours has its password from somebody else; made before it, the Secret tells them which.
	password.others = p.overlay() == CloudSQLOverlay && p.AutoIAMAuthn != yes && why != makeSecrets
	wanted := []wantedSecret{own}
	if given(p.DatabaseSecret) {
		wanted = append(wanted, wantedSecret{name: p.DatabaseSecret, keys: []secretKey{password}, flag: "--database-secret"})
	} else {
		wanted[0].keys = append([]secretKey{password}, wanted[0].keys...)
	}
	if p.BasicAuth == yes {
		wanted = append(wanted, wantedSecret{name: AuthSecretName, keys: []secretKey{
			{name: instance.AdminPasswordKey, given: g.AdminPassword, flag: "--admin-password-file", opens: true},
			{name: "MLFLOW_FLASK_SERVER_SECRET_KEY"},
			{name: keyAdminUser, given: instance.AdminUser, flag: "--basic-auth"},
		}})
	}
	for _, key := range []struct{ secret, given, flag, file string }{
		{p.GoogleKeySecret, g.GoogleKey, "--google-key-secret", "--google-key-file"},
		{p.CloudSQLKeySecret, g.CloudSQLKey, "--cloudsql-key-secret", "--cloudsql-key-file"},
	} {
		if !given(key.secret) {
			continue
		}
		w := wantedSecret{name: key.secret, keys: []secretKey{{name: keyGoogleKey, given: key.given, flag: key.file, others: true}}}
		if key.given == "" {
			w.flag = key.flag
		}
		wanted = append(wanted, w)
	}
	if given(p.ImagePullSecret) {
		wanted = append(wanted, wantedSecret{name: p.ImagePullSecret, flag: "--image-pull-secret"})
	}
	return wanted
}

// readSecrets returns the Secrets that the pods will read: as they are there, or new ones that are not written yet and have
// no UID. failure.Refused where one is gone that opens data which is there, where one lacks a key, and where another password
// is given than the one in use; failure.Invalid where one is missing that only the caller can bring.
func (in *installation) readSecrets(ctx context.Context, p Parameters) error {
	for _, w := range p.wantedSecrets(in.options.Secrets, in.intent) {
		ref := core("Secret", p.Namespace, w.name)
		live, err := in.get(ctx, ref)
		switch {
		case err != nil:
			return err
		case live != nil:
			err = w.fits(live)
		case w.flag != "":
			err = &failure.Error{
				Class: failure.Invalid, Reason: "SecretMissing", Object: ref.String(),
				Message: fmt.Sprintf("%s names it, but namespace %s does not have it", w.flag, p.Namespace),
				Hint:    w.howToMake(p.Namespace),
			}
		default:
			if err = in.mayMake(ctx, ref, w); err == nil {
				live, err = w.make(p.Namespace)
			}
		}
		if err != nil {
			return err
		}
		in.secrets = append(in.secrets, live)
	}
	return nil
}

// howToMake is a command line without the secret in it.
func (w wantedSecret) howToMake(namespace string) string {
	if len(w.keys) == 0 {
		return fmt.Sprintf("kubectl create secret docker-registry %s --namespace %s --from-file=.dockerconfigjson=FILE", w.name, namespace)
	}
	return fmt.Sprintf("kubectl create secret generic %s --namespace %s --from-file=%s=FILE", w.name, namespace, w.keys[0].name)
}

// fits is failure.Refused where the Secret that is there is not what the pods, or the caller, want.
func (w wantedSecret) fits(live *unstructured.Unstructured) error {
	ref := cluster.RefOf(live)
	data, _, err := unstructured.NestedStringMap(live.Object, "data")
	if err != nil {
		return fmt.Errorf("%s: %w", ref, err)
	}
	var lacks []string
	for _, key := range w.keys {
		value, there := data[key.name]
		if !there {
			lacks = append(lacks, key.name)
			continue
		}
		if raw, err := base64.StdEncoding.DecodeString(value); key.name == keyDatabasePassword && (err != nil || !inURI(string(raw))) {
			return &failure.Error{
				Class: failure.Refused, Reason: "PasswordNotEscaped", Object: ref.String(),
				Message: fmt.Sprintf("its %s becomes part of a URI and has characters that end it there, perhaps a line break", key.name),
				Hint:    "percent-encode them in the Secret (@ is %40), without a line break at the end",
			}
		}
		if key.given != "" && value != base64.StdEncoding.EncodeToString([]byte(key.given)) {
			hint := fmt.Sprintf("leave %s out to keep the one in use", key.flag)
			if key.name == keyGoogleKey {
				hint = "to change keys, put the new one into a Secret of another name and give that name; the old one can go when MLflow runs"
			}
			return &failure.Error{
				Class: failure.Refused, Reason: "OtherPassword", Object: ref.String(),
				Message: fmt.Sprintf("its %s is in use, and %s gives another one", key.name, key.flag), Hint: hint,
			}
		}
	}
	if len(lacks) > 0 {
		return &failure.Error{
			Class: failure.Refused, Reason: "SecretIncomplete", Object: ref.String(),
			Message: "it lacks what MLflow's pods read: " + strings.Join(lacks, ", "),
			Hint:    "add the keys; or delete the Secret, if nothing uses its passwords yet",
		}
	}
	return nil
}

// mayMake is failure.Refused where a Secret that is not there opened data that is, and failure.Invalid where only the caller
// has what belongs into it.
func (in *installation) mayMake(ctx context.Context, ref cluster.Ref, w wantedSecret) error {
	if w.name == secretName {
		claim, err := in.get(ctx, core("PersistentVolumeClaim", ref.Namespace, databaseClaim))
		if err != nil {
			return err
		}
		if claim != nil {
			return secretLost(ref, fmt.Sprintf("persistentvolumeclaim/%s in namespace %s holds a database whose password was in it", databaseClaim, ref.Namespace))
		}
	}
	if slices.ContainsFunc(in.old.Items, func(i cluster.Change) bool { return i.Ref == ref && i.UID != "" }) && w.opens() {
		return secretLost(ref, "the last install made it, and data that is there needs it")
	}
	for _, key := range w.keys {
		if key.name == keyDatabasePassword && key.given != "" && !inURI(key.given) {
			return &failure.Error{
				Class: failure.Invalid, Reason: "InvalidParameter", Object: ref.String(),
				Message: key.flag + " has a password that cannot be part of a URI as it is",
				Hint:    "choose one of letters, digits and any of - . _ ~",
			}
		}
		if key.others && key.given == "" {
			return &failure.Error{
				Class: failure.Invalid, Reason: "SecretMissing", Object: ref.String(),
				Message: "the password of the database's user is not known",
				Hint: key.flag + " FILE gives it; or --database-secret names a Secret that has it; " +
					"or --auto-iam-authn does without; `kubectl mlflow install --secrets-only` makes one for a user that you create with it",
			}
		}
	}
	return nil
}

// inURI tells whether a password can be part of a URI as it is, or is percent-encoded.
func inURI(password string) bool {
	_, err := url.PathUnescape(password)
	return err == nil && password != "" && !strings.ContainsAny(password, "@/?#[]: \t\r\n\"<>\\^`{|}()$")
}

// escaped is a password as part of a URI.
func escaped(password string) string {
	if password == "" {
		return ""
	}
	_, password, _ = strings.Cut(url.UserPassword("", password).String(), ":")
	return strings.ReplaceAll(password, "+", "%2B") // for some a plus is a blank
}

func (w wantedSecret) opens() bool {
	return slices.ContainsFunc(w.keys, func(k secretKey) bool { return k.opens })
}

func secretLost(ref cluster.Ref, why string) error {
	return &failure.Error{
		Class: failure.Refused, Reason: "SecretLost", Object: ref.String(),
		Message: "it is gone, but " + why,
		Hint:    "restore the Secret; or, if the data may go, run `kubectl mlflow uninstall --delete-data` and install again",
	}
}

// make makes the Secret, with what is given and otherwise new passwords.
func (w wantedSecret) make(namespace string) (*unstructured.Unstructured, error) {
	values := map[string]any{}
	for _, key := range w.keys {
		value := key.given
		if value == "" {
			made, err := newPassword()
			if err != nil {
				return nil, err
			}
			value = made
		}
		values[key.name] = value
	}
	ref := core("Secret", namespace, w.name)
	secret := &unstructured.Unstructured{Object: map[string]any{"type": "Opaque", "stringData": values}}
	secret.SetGroupVersionKind(ref.GroupVersionKind)
	secret.SetNamespace(namespace)
	secret.SetName(w.name)
	secret.SetLabels(map[string]string{
		cluster.ManagedByLabel:      cluster.FieldManager,
		"app.kubernetes.io/name":    "mlflow",
		"app.kubernetes.io/part-of": "mlflow",
		cluster.KeepKey:             "true",
	})
	return secret, nil
}

// ensureSecrets creates the Secrets, once for all time: PostgreSQL reads the password when it initialises its data, never again.
func (in *installation) ensureSecrets(ctx context.Context) error {
	for _, secret := range in.secrets {
		change := cluster.Change{Ref: cluster.RefOf(secret), Action: cluster.Unchanged, UID: secret.GetUID()}
		if change.UID == "" {
			made, err := in.cluster.CreateOnce(ctx, secret)
			if err != nil {
				return err
			}
			change.Action, change.UID = cluster.Created, made.GetUID()
		}
		in.note(cluster.Applied{Change: change})
	}
	return in.save(ctx)
}
