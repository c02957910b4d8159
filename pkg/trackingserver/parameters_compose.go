package trackingserver

import (
	"net/url"
	"strings"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/render"
)

// maxIdentifier is how long names are in PostgreSQL.
const maxIdentifier = 63

// order is the one order of components. Each sees what those before it did: mlflow-pods copies the server's environment once it
// is whole, and what goes into all pods comes after all pods.
func order() []string {
	return []string{
		"postgres", "artifacts-pvc", "cloudsql-proxy", "artifacts-bucket",
		"database-secret", "basic-auth", "ingress", "service-monitor", "service-monitor-auth", "gc", "backup", "backup-pvc",
		"mlflow-pods",
		"gc-auth", "google-key", "cloudsql-key", "workload-identity", "workload-identity-cloudsql",
		"cloudsql-sidecar", "cloudsql-sidecar-key", "network-policies",
	}
}

// choice tells of components whether p wants them. What it does not name is as the overlay has it.
func (p Parameters) choice() map[string]bool {
	auth, backup, gc, inPods := p.BasicAuth == yes, given(p.BackupSchedule), given(p.GCSchedule), p.CloudSQLProxy == sidecar
	chosen := map[string]bool{
		"database-secret":            given(p.DatabaseSecret),
		"basic-auth":                 auth,
		"ingress":                    given(p.IngressHost),
		"service-monitor":            p.ServiceMonitor == yes,
		"service-monitor-auth":       p.ServiceMonitor == yes && auth,
		"gc":                         gc,
		"gc-auth":                    gc && auth,
		"backup":                     backup,
		"backup-pvc":                 backup && !given(p.BackupDestination),
		"google-key":                 given(p.GoogleKeySecret),
		"cloudsql-key":               given(p.CloudSQLKeySecret),
		"cloudsql-sidecar-key":       inPods && given(p.GoogleKeySecret),
		"workload-identity":          given(p.GoogleServiceAccount),
		"workload-identity-cloudsql": given(p.CloudSQLServiceAccount),
		"network-policies":           p.NetworkPolicies == yes,
	}
	if inPods {
		chosen["cloudsql-proxy"], chosen["cloudsql-sidecar"] = false, true
	}
	return chosen
}

// compose puts p into the tree.
func (p Parameters) compose(t *render.Tree) error {
	if err := t.Compose(order(), p.choice()); err != nil {
		return err
	}
	for _, row := range p.table() {
		if row.apply == nil || !given(*row.value) {
			continue
		}
		if err := row.apply(t, *row.value); err != nil {
			return err
		}
	}
	p.mirror(t)
	if p.BasicAuth == yes && given(p.DatabaseName) {
		if err := env("components/basic-auth/config.env", "AUTH_DB_NAME")(t, p.authDatabase()); err != nil {
			return err
		}
	}
	if destination := p.artifacts(); destination != "" {
		if err := env("overlays/"+p.overlay()+"/config.env", "DEFAULT_ARTIFACT_ROOT")(t, destination); err != nil {
			return err
		}
	}
	if origins := p.origins(); origins != "" {
		if err := env("base/config.env", "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS")(t, origins); err != nil {
			return err
		}
	}
	if given(p.IngressHost) && given(p.IngressTLSSecret) {
		tls := []any{map[string]any{"hosts": []any{p.IngressHost}, "secretName": p.IngressTLSSecret}}
		if err := t.Add("Ingress", "/spec/tls", tls); err != nil {
			return err
		}
	}
	if len(p.Kustomization) > 0 {
		return t.Mount(p.Kustomization)
	}
	return nil
}

// authDatabase is named after a database of another name than the usual one: two installations may share a Cloud SQL instance,
// and are not to share their users.
func (p Parameters) authDatabase() string {
	const end = "_auth"
	return p.DatabaseName[:min(len(p.DatabaseName), maxIdentifier-len(end))] + end
}

// mirror takes images that are not named one by one from the mirror.
func (p Parameters) mirror(t *render.Tree) {
	if !given(p.ImageRegistry) {
		return
	}
	for _, image := range []struct{ named, original, path string }{
		{p.Image, mlflowImage, "mlflow/mlflow"},
		{p.PostgresImage, postgresImage, "library/postgres"},
		{p.CloudSQLProxyImage, proxyImage, "cloud-sql-connectors/cloud-sql-proxy"},
	} {
		if image.named == "" {
			t.SetImage(image.original, p.ImageRegistry+"/"+image.path)
		}
	}
}

// origins are those from which browsers may write: MLflow refuses even its own page where it is not among them.
func (p Parameters) origins() string {
	var origins []string
	if given(p.IngressHost) {
		scheme := "http://"
		if given(p.IngressTLSSecret) {
			scheme = "https://"
		}
		origins = append(origins, scheme+p.IngressHost)
	}
	if given(p.CORSAllowedOrigins) {
		origins = append(origins, p.CORSAllowedOrigins)
	}
	return strings.Join(origins, ",")
}

func env(file, key string) func(*render.Tree, string) error {
	return func(t *render.Tree, value string) error {
		return t.SetEnv(file, map[string]string{key: value})
	}
}

func cloudSQLParam(key string) func(*render.Tree, string) error {
	return env("overlays/"+CloudSQLOverlay+"/params.env", key)
}

func image(name string) func(*render.Tree, string) error {
	return func(t *render.Tree, value string) error {
		t.SetImage(name, value)
		return nil
	}
}

// databaseUser escapes the name, which becomes part of a URI.
func databaseUser(t *render.Tree, value string) error {
	return env("base/config.env", "DB_USER")(t, url.User(value).String())
}

func pullSecret(t *render.Tree, value string) error {
	secrets := []any{map[string]any{"name": value}}
	if err := t.Add("Deployment|StatefulSet|Job", "/spec/template/spec/imagePullSecrets", secrets); err != nil {
		return err
	}
	return t.Add("CronJob", "/spec/jobTemplate/spec/template/spec/imagePullSecrets", secrets)
}

// backupSchedule of "manual" leaves the CronJob in place, for whoever makes a Job from it, and stops it from making its own.
func backupSchedule(t *render.Tree, value string) error {
	if value == manual {
		return t.Patch("CronJob", "mlflow-backup", map[string]any{"spec": map[string]any{"suspend": true}})
	}
	return env("components/backup/params.env", "BACKUP_SCHEDULE")(t, value)
}

// resources sets some of the server's; those that value does not name stay.
func resources(of string) func(*render.Tree, string) error {
	return func(t *render.Tree, value string) error {
		amounts, err := parseResources(value)
		if err != nil {
			return err
		}
		container := map[string]any{"name": "mlflow", "resources": map[string]any{of: amounts}}
		return t.Patch("Deployment", "mlflow", map[string]any{"spec": map[string]any{"template": map[string]any{"spec": map[string]any{
			"containers": []any{container},
		}}}})
	}
}
