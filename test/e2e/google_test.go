//go:build e2e

package e2e

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/url"
	"strings"
	"testing"
)

// The lab's doubles of Google, as hack/lab/addons/google.yaml has them.
const (
	instance = "lab-project:us-central1:lab-instance"
	bucket   = "lab-bucket"
	// storage leads google-cloud-storage to the double. It goes by way of a kustomization of the user's: it is no parameter.
	storage = `
configMapGenerator:
- name: mlflow-config
  behavior: merge
  literals: [STORAGE_EMULATOR_HOST=http://gcs.google-doubles]
`
	// admin does the same for the Cloud SQL Auth Proxy, which would look for credentials if it had no token.
	admin = `
- name: cloudsql-params
  behavior: merge
  literals: [CSQL_PROXY_SQLADMIN_API_ENDPOINT=http://cloudsql.google-doubles/, CSQL_PROXY_TOKEN=`
	// adminByKey does it for a proxy that has a key.
	adminByKey = `
- name: cloudsql-params
  behavior: merge
  literals: [CSQL_PROXY_SQLADMIN_API_ENDPOINT=http://cloudsql.google-doubles/]
`
)

// TestBucket is the overlay gcp: artifacts go through the server into a bucket that its clients cannot reach, and backups of both databases,
// MLflow's and that of its users, into it as well. TestExport is the same with kubectl.
func TestBucket(t *testing.T) {
	t.Parallel()
	l := openLab(t)
	l.addon(t, "google")
	n := l.namespace(t, "lab-gcp")
	n.create(t)
	n.mlflow(t, "install", "--overlay", "gcp", "--artifacts-destination", "gs://"+bucket+"/overlay-gcp", "-k", kustomization(t, storage),
		"--basic-auth", "--backup-schedule=manual", "--backup-destination=gs://"+bucket+"/backups")
	credentials := n.credentials(t)
	data := n.artifacts(t, "overlay-gcp/", credentials...)
	n.mlflow(t, "check")
	n.losesAndRestores(t, data, credentials...)
	if names := l.objects(t, "backups/"); !strings.Contains(names, "/tracking.dump\n") || !strings.Contains(names, "/auth.dump\n") {
		t.Errorf("the bucket holds no backup of both databases, but\n%s", names)
	}
}

// artifacts logs a model and reads it back, and finds it in the bucket below a prefix.
func (n *installed) artifacts(t *testing.T, prefix string, credentials ...string) logged {
	t.Helper()
	data := n.log(t, credentials...)
	if !strings.HasPrefix(data.Artifacts, "mlflow-artifacts:/") {
		t.Errorf("artifacts are at %s, want them to go through the server", data.Artifacts)
	}
	n.check(t, data, credentials...)
	names := n.objects(t, prefix)
	for _, end := range []string{"/artifacts/notes/text.txt", "/artifacts/MLmodel"} {
		if !strings.Contains(names, end+"\n") {
			t.Errorf("the bucket has no object %s*%s: it has\n%s", prefix, end, names)
		}
	}
	return data
}

// objects lists the bucket's objects below a prefix, one a line, through the API server.
func (l *lab) objects(t *testing.T, prefix string) string {
	t.Helper()
	text := l.kubectl(t, "get", "--raw", "/api/v1/namespaces/google-doubles/services/gcs:80/proxy/storage/v1/b/"+bucket+"/o?prefix="+url.QueryEscape(prefix))
	var list struct{ Items []struct{ Name string } }
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		t.Fatalf("the bucket's list is %q: %v", text, err)
	}
	var names strings.Builder
	for _, item := range list.Items {
		names.WriteString(item.Name + "\n")
	}
	return names.String()
}

// TestCloudSQL is the overlay gcp-cloudsql, with the real Cloud SQL Auth Proxy, as a Deployment or as a sidecar of each pod. There is one
// instance: who uses it, does so after the other.
func TestCloudSQL(t *testing.T) {
	t.Parallel()
	l := openLab(t)
	l.addon(t, "google")
	t.Run("by password", func(t *testing.T) { cloudSQLByPassword(t, l) })
	t.Run("by key", func(t *testing.T) { cloudSQLByKey(t, l) })
	t.Run("denied", func(t *testing.T) { cloudSQLDenied(t, l) })
}

// proxyModes are one, or all of them where there is time.
func proxyModes(one string) []string {
	if long {
		return []string{"deployment", "sidecar"}
	}
	return []string{one}
}

func cloudSQLByPassword(t *testing.T, l *lab) {
	password := write(t, "password", l.kubectl(t, "-n", "google-doubles", "get", "secret", "cloudsql", "-o", "go-template={{.data.password | base64decode}}"))
	for _, mode := range proxyModes("deployment") {
		t.Run(mode, func(t *testing.T) {
			l.emptyCloudSQL(t)
			n := l.namespace(t, "lab-cloudsql-"+mode)
			n.create(t)
			install := []string{
				"--cloudsql", "--cloudsql-instance", instance, "--cloudsql-proxy", mode, "--artifacts-destination", "gs://" + bucket + "/" + mode,
				"--database-password-file", password, "-k", kustomization(t, storage+admin+"any]\n"),
			}
			timed(t, "install", func() { n.mlflow(t, "install", install...) })
			n.artifacts(t, mode+"/")
			n.mlflow(t, "check")
			n.guide(t, "mlflow") // there is no postgres: it is Google's
			if pods := n.kubectl(t, "get", "pods", "-l", "app=postgres", "-o", "name"); pods != "" {
				t.Errorf("app=postgres selects %s", pods)
			}
			if got := l.cloudSQL(t, "SELECT count(*) FROM registered_models"); got != "1" {
				t.Errorf("the instance holds %s registered models, want the one that was logged", got)
			}
			r := n.mlflow(t, "install")
			if !strings.Contains(r.stderr, "nothing changed") {
				t.Errorf("a rerun without flags changed something:\n%s%s", r.stdout, r.stderr)
			}
			if mode == "deployment" {
				l.revoked(t, n)
			}
			n.mlflow(t, "uninstall")
		})
	}
}

// revoked takes the proxy's role away, and asks check what is wrong.
func (l *lab) revoked(t *testing.T, n *installed) {
	t.Helper()
	n.kubectl(t, "set", "env", "deployment/mlflow-cloudsql-proxy", "CSQL_PROXY_TOKEN=denied")
	n.kubectl(t, "rollout", "status", "deployment/mlflow-cloudsql-proxy", "--timeout=1m")
	r := n.run(t, nil, n.Kubectl, "mlflow", "check", "-n", n.namespace, "--timeout=20s")
	if said := r.stdout + r.stderr; r.code != 4 || !strings.Contains(said, "not authorized to make this request") {
		t.Errorf("check: exit %d, want 4 and the proxy's own words:\n%s", r.code, said)
	}
}

// cloudSQLByKey is the same for clusters without Workload Identity, and without a password: the proxy has the exported key of a Google
// service account, which is a user of the database.
func cloudSQLByKey(t *testing.T, l *lab) {
	for _, mode := range proxyModes("sidecar") {
		t.Run(mode, func(t *testing.T) {
			const user = "mlflow@lab-project.iam"
			l.emptyCloudSQL(t)
			l.cloudSQL(t, `DROP ROLE IF EXISTS "`+user+`"; CREATE ROLE "`+user+`" LOGIN; GRANT CREATE, USAGE ON SCHEMA public TO "`+user+`"`)
			n := l.namespace(t, "lab-key-"+mode)
			n.create(t)
			// As a sidecar, the proxy has the identity of the pod that it is in.
			flag := map[string]string{"deployment": "--cloudsql-key-file", "sidecar": "--google-key-file"}[mode]
			r := n.mlflow(t, "install", "--cloudsql", "--cloudsql-instance", instance, "--cloudsql-proxy", mode, "--artifacts-destination", "gs://"+bucket+"/key-"+mode,
				"--auto-iam-authn", "--database-user", user, flag, googleKey(t, "mlflow"), "-k", kustomization(t, storage+adminByKey))
			if strings.Contains(r.stdout+r.stderr, "PRIVATE KEY") {
				t.Error("the key was printed")
			}
			n.artifacts(t, "key-"+mode+"/")
			n.mlflow(t, "check")
			if got := l.cloudSQL(t, "SELECT tableowner FROM pg_tables WHERE tablename = 'runs'"); got != user {
				t.Errorf("the tables belong to %q, want %s", got, user)
			}
			n.mlflow(t, "uninstall", "--delete-data")
		})
	}
}

// googleKey is a file with the key of a Google service account, which gets its tokens from the double.
func googleKey(t *testing.T, account string) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]string{
		"type": "service_account", "project_id": "lab-project", "private_key_id": "1", "client_id": "1",
		"private_key":  string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})),
		"client_email": account + "@lab-project.iam.gserviceaccount.com", "token_uri": "http://cloudsql.google-doubles/token",
	})
	if err != nil {
		t.Fatal(err)
	}
	return write(t, "key.json", string(text))
}

// cloudSQLDenied lacks the role that lets the proxy in. It starts all the same: only its log tells why no connection comes about.
func cloudSQLDenied(t *testing.T, l *lab) {
	for _, mode := range proxyModes("deployment") {
		t.Run(mode, func(t *testing.T) {
			n := l.namespace(t, "lab-denied-"+mode)
			n.refused(t, 3, []string{"not authorized to make this request", "hint:"}, "install", "--timeout=25s",
				"--cloudsql", "--cloudsql-instance", instance, "--cloudsql-proxy", mode, "--artifacts-destination", "gs://"+bucket,
				"--database-password-file", write(t, "password", "any"), "-k", kustomization(t, storage+admin+"denied]\n"))
		})
	}
}

// cloudSQL asks the instance's PostgreSQL itself.
func (l *lab) cloudSQL(t *testing.T, query string) string {
	t.Helper()
	return strings.TrimSpace(l.kubectl(t, "-n", "google-doubles", "exec", "deployment/cloudsql", "-c", "postgres", "--",
		"psql", "--quiet", "--username=mlflow", "--dbname=mlflowdb", "--no-align", "--tuples-only", "--set=ON_ERROR_STOP=1", "--command="+query))
}

// emptyCloudSQL removes what another MLflow has left in the instance.
func (l *lab) emptyCloudSQL(t *testing.T) {
	t.Helper()
	l.cloudSQL(t, "SET client_min_messages = warning; DROP SCHEMA public CASCADE; CREATE SCHEMA public")
}
