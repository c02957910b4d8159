package trackingserver

import (
	"cmp"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/render"
)

// The overlays that there are.
const (
	overlayLocal    = "local"
	overlayGCP      = "gcp"
	overlayCloudSQL = "gcp-cloudsql"
	// DefaultOverlay is what is installed unless something else is said or recorded.
	DefaultOverlay = overlayLocal
)

// The images as the manifests name them.
const (
	mlflowImage   = "ghcr.io/mlflow/mlflow"
	postgresImage = "postgres"
	proxyImage    = "gcr.io/cloud-sql-connectors/cloud-sql-proxy"
)

// What a parameter says to be rid of something that an earlier install had.
const (
	none = "none"
	yes  = "true"
	no   = "false"
)

// sidecar is the CloudSQLProxy that runs in each pod; the other one is "deployment".
const sidecar = "sidecar"

// Parameters are all that a person can say of an install. What is empty is as in the last install, or else as in the manifests.
// Switches are "true" or "false". "none" takes away what is optional.
type Parameters struct {
	Overlay   string // "local", "gcp", "gcp-cloudsql"
	Namespace string

	Image              string // of MLflow, "registry.example.com/mlflow:v3.17.2-full"; without a tag, the manifests' own
	PostgresImage      string // of the database, and of what backs it up
	CloudSQLProxyImage string
	ImageRegistry      string // a mirror, "registry.example.com/mirror", in place of the registries of images that are not named above
	ImagePullSecret    string // name of a Secret of type kubernetes.io/dockerconfigjson

	StorageClass     string // of all volumes; empty is the cluster's default
	DatabaseStorage  string // size of the database's volume, "10Gi"
	ArtifactsStorage string // size of the artifacts' volume, "20Gi"

	ArtifactsDestination string // where the server keeps artifacts, "gs://bucket/prefix"
	DefaultArtifactRoot  string // where clients write by themselves, "gs://bucket/prefix"

	CloudSQLInstance string // "project:region:instance", "example.com:project:region:instance"
	CloudSQLProxy    string // "deployment" or "sidecar"
	PrivateIP        string
	PSC              string
	AutoIAMAuthn     string
	DatabaseName     string
	DatabaseUser     string // as the database knows it, not escaped: "mlflow@project.iam"
	DatabaseSecret   string // name of a Secret with the key DB_PASSWORD

	GoogleServiceAccount   string // of MLflow's pods, "mlflow@project.iam.gserviceaccount.com"
	CloudSQLServiceAccount string // of the proxy
	GoogleKeySecret        string // name of a Secret with the key key.json
	CloudSQLKeySecret      string

	BasicAuth          string
	IngressHost        string
	IngressClass       string
	IngressTLSSecret   string
	AllowedHosts       string // comma-separated, added to those that the manifests allow
	CORSAllowedOrigins string // comma-separated, "https://host"
	ServiceMonitor     string
	NetworkPolicies    string

	GCSchedule        string // cron
	GCOlderThan       string // "30d"
	BackupSchedule    string // cron, or "manual": never by itself
	BackupDestination string // an artifact URI of MLflow's; empty is a volume
	BackupStorage     string // size of that volume
	BackupKeep        string // number of backups

	Requests string // of the server, "cpu=500m,memory=1Gi"
	Limits   string

	// Kustomization is a kustomization of the user's, on top of all others: texts by slash-separated path. An empty map
	// that is not nil takes away that of the last install. See ReadKustomization.
	Kustomization map[string]string
}

// parameter is one row of the table that leads from a field of Parameters to where its value goes.
type parameter struct {
	flag  string
	key   string // in the instance's record; of env files, where the value goes into one
	value *string
	check func(string) error
	apply func(t *render.Tree, value string) error // nil where compose does it, seeing other fields too

	optional bool     // "none" takes it away
	overlays []string // those that have it; nil is all
	of       string   // flag of what this is a detail of: without that, it is not
}

// table is the one home of parameters that go into the tree. A new parameter is a field, a row here, and a flag.
func (p *Parameters) table() []parameter {
	inCluster, onGoogle, cloudSQL := []string{overlayLocal, overlayGCP}, []string{overlayGCP, overlayCloudSQL}, []string{overlayCloudSQL}
	return []parameter{
		{flag: "--image", key: "MLFLOW_IMAGE", value: &p.Image, check: checkImage, apply: image(mlflowImage)},
		{flag: "--postgres-image", key: "POSTGRES_IMAGE", value: &p.PostgresImage, check: checkImage, apply: image(postgresImage)},
		{flag: "--cloudsql-proxy-image", key: "CLOUDSQL_PROXY_IMAGE", value: &p.CloudSQLProxyImage, check: checkImage, apply: image(proxyImage), overlays: cloudSQL},
		{flag: "--image-registry", key: "IMAGE_REGISTRY", value: &p.ImageRegistry, check: checkRegistry, optional: true},
		{flag: "--image-pull-secret", key: "IMAGE_PULL_SECRET", value: &p.ImagePullSecret, check: checkName, apply: pullSecret, optional: true},

		{flag: "--storage-class", key: "STORAGE_CLASS", value: &p.StorageClass, check: checkStorageClass, optional: true, apply: func(t *render.Tree, value string) error {
			return t.Add("PersistentVolumeClaim", "/spec/storageClassName", value)
		}},
		{flag: "--database-storage", key: "POSTGRES_STORAGE_SIZE", value: &p.DatabaseStorage, check: checkSize, overlays: inCluster,
			apply: env("components/postgres/params.env", "POSTGRES_STORAGE_SIZE")},
		{flag: "--artifacts-storage", key: "ARTIFACTS_STORAGE_SIZE", value: &p.ArtifactsStorage, check: checkSize, overlays: []string{overlayLocal},
			apply: env("components/artifacts-pvc/params.env", "ARTIFACTS_STORAGE_SIZE")},

		{flag: "--artifacts-destination", key: "DEFAULT_ARTIFACT_ROOT", value: &p.ArtifactsDestination, check: checkBucket, overlays: onGoogle},
		{flag: "--default-artifact-root", key: "MLFLOW_DEFAULT_ARTIFACT_ROOT", value: &p.DefaultArtifactRoot, check: checkArtifactURI, optional: true,
			apply: env("base/config.env", "MLFLOW_DEFAULT_ARTIFACT_ROOT")},

		{flag: "--cloudsql-instance", key: "GCP_CLOUDSQL_INSTANCE_NAME", value: &p.CloudSQLInstance, check: checkInstance, overlays: cloudSQL, apply: cloudSQLParam("GCP_CLOUDSQL_INSTANCE_NAME")},
		{flag: "--cloudsql-proxy", key: "CLOUDSQL_PROXY", value: &p.CloudSQLProxy, check: oneOf("deployment", sidecar), overlays: cloudSQL},
		{flag: "--private-ip", key: "PRIVATE_IP", value: &p.PrivateIP, check: checkSwitch, overlays: cloudSQL, apply: cloudSQLParam("CSQL_PROXY_PRIVATE_IP")},
		{flag: "--psc", key: "PSC", value: &p.PSC, check: checkSwitch, overlays: cloudSQL, apply: cloudSQLParam("CSQL_PROXY_PSC")},
		{flag: "--auto-iam-authn", key: "AUTO_IAM_AUTHN", value: &p.AutoIAMAuthn, check: checkSwitch, overlays: cloudSQL, apply: cloudSQLParam("CSQL_PROXY_AUTO_IAM_AUTHN")},
		{flag: "--database-name", key: "DB_NAME", value: &p.DatabaseName, check: checkDatabaseName, overlays: cloudSQL, apply: env("base/config.env", "DB_NAME")},
		{flag: "--database-user", key: "DB_USER", value: &p.DatabaseUser, check: checkDatabaseUser, overlays: cloudSQL, apply: databaseUser},
		{flag: "--database-secret", key: "DATABASE_SECRET", value: &p.DatabaseSecret, check: checkName, apply: env("components/database-secret/params.env", "DATABASE_SECRET"), optional: true},

		{flag: "--google-service-account", key: "MLFLOW_SERVICE_ACCOUNT", value: &p.GoogleServiceAccount, check: checkServiceAccount, optional: true,
			apply: env("components/workload-identity/params.env", "MLFLOW_SERVICE_ACCOUNT")},
		{flag: "--cloudsql-service-account", key: "MLFLOW_CLOUDSQL_SERVICE_ACCOUNT", value: &p.CloudSQLServiceAccount, check: checkServiceAccount, optional: true, overlays: cloudSQL,
			apply: env("components/workload-identity-cloudsql/params.env", "MLFLOW_CLOUDSQL_SERVICE_ACCOUNT")},
		{flag: "--google-key-secret", key: "GOOGLE_KEY_SECRET", value: &p.GoogleKeySecret, check: checkName, optional: true, apply: env("components/google-key/params.env", "GOOGLE_KEY_SECRET")},
		{flag: "--cloudsql-key-secret", key: "CLOUDSQL_KEY_SECRET", value: &p.CloudSQLKeySecret, check: checkName, optional: true, overlays: cloudSQL,
			apply: env("components/cloudsql-key/params.env", "CLOUDSQL_KEY_SECRET")},

		{flag: "--basic-auth", key: "BASIC_AUTH", value: &p.BasicAuth, check: checkSwitch},
		{flag: "--ingress-host", key: "MLFLOW_HOST_NAME", value: &p.IngressHost, check: checkHost, optional: true, apply: env("components/ingress/params.env", "MLFLOW_HOST_NAME")},
		{flag: "--ingress-class", key: "INGRESS_CLASS", value: &p.IngressClass, check: checkName, optional: true, of: "--ingress-host", apply: func(t *render.Tree, value string) error {
			return t.Add("Ingress", "/spec/ingressClassName", value)
		}},
		{flag: "--ingress-tls-secret", key: "INGRESS_TLS_SECRET", value: &p.IngressTLSSecret, check: checkName, optional: true, of: "--ingress-host"},
		{flag: "--allowed-hosts", key: "MLFLOW_SERVER_ALLOWED_HOSTS", value: &p.AllowedHosts, check: checkHosts, optional: true, apply: env("base/config.env", "MLFLOW_MORE_ALLOWED_HOSTS")},
		{flag: "--cors-allowed-origins", key: "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS", value: &p.CORSAllowedOrigins, check: checkOrigins, optional: true},
		{flag: "--service-monitor", key: "SERVICE_MONITOR", value: &p.ServiceMonitor, check: checkSwitch},
		{flag: "--network-policies", key: "NETWORK_POLICIES", value: &p.NetworkPolicies, check: checkSwitch},

		{flag: "--gc-schedule", key: "GC_SCHEDULE", value: &p.GCSchedule, check: checkSchedule, optional: true, apply: env("components/gc/params.env", "GC_SCHEDULE")},
		{flag: "--gc-older-than", key: "GC_OLDER_THAN", value: &p.GCOlderThan, check: checkAge, of: "--gc-schedule", apply: env("components/gc/config.env", "GC_OLDER_THAN")},
		{flag: "--backup-schedule", key: "BACKUP_SCHEDULE", value: &p.BackupSchedule, check: checkBackupSchedule, optional: true, apply: backupSchedule},
		{flag: "--backup-destination", key: "BACKUP_DESTINATION", value: &p.BackupDestination, check: checkArtifactURI, optional: true, of: "--backup-schedule",
			apply: env("components/backup/config.env", "BACKUP_DESTINATION")},
		{flag: "--backup-storage", key: "BACKUP_STORAGE_SIZE", value: &p.BackupStorage, check: checkSize, of: "--backup-schedule", apply: env("components/backup-pvc/params.env", "BACKUP_STORAGE_SIZE")},
		{flag: "--backup-keep", key: "BACKUP_KEEP", value: &p.BackupKeep, check: checkCount, of: "--backup-schedule", apply: env("components/backup/config.env", "BACKUP_KEEP")},

		{flag: "--requests", key: "REQUESTS", value: &p.Requests, check: checkResources, optional: true, apply: resources("requests")},
		{flag: "--limits", key: "LIMITS", value: &p.Limits, check: checkResources, optional: true, apply: resources("limits")},
	}
}

// given tells a value from what says that there should be none.
func given(value string) bool { return value != "" && value != none && value != no }

// overlay is the one that p renders.
func (p Parameters) overlay() string { return cmp.Or(p.Overlay, DefaultOverlay) }

// record is what the instance's record keeps of p. What was taken away is not in it.
func (p *Parameters) record() map[string]string {
	kept := map[string]string{}
	for _, row := range p.table() {
		if given(*row.value) {
			kept[row.key] = *row.value
		}
	}
	if len(p.Kustomization) > 0 {
		kept[kustomizationKey] = encodeKustomization(p.Kustomization)
	}
	return kept
}

// over returns p, with recorded values where p says nothing. The details of what p takes away are not taken from the record.
func (p Parameters) over(recorded map[string]string) Parameters {
	rows := p.table()
	gone := map[string]bool{}
	for _, row := range rows {
		gone[row.flag] = *row.value != "" && !given(*row.value)
	}
	for _, row := range rows {
		if *row.value == "" && !gone[row.of] {
			*row.value = recorded[row.key]
		}
	}
	if p.Kustomization == nil {
		p.Kustomization = decodeKustomization(recorded[kustomizationKey])
	}
	return p
}
