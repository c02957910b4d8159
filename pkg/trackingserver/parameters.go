package trackingserver

import (
	"cmp"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/render"
)

// The overlays that there are.
const (
	overlayLocal = "local"
	overlayGCP   = "gcp"
	// DefaultOverlay is what is installed unless something else is said or recorded.
	DefaultOverlay = overlayLocal
	// CloudSQLOverlay is the one with the database in Cloud SQL.
	CloudSQLOverlay = "gcp-cloudsql"
)

// Overlays are those that there are.
func Overlays() []string { return []string{overlayLocal, overlayGCP, CloudSQLOverlay} }

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
	key   string // in the instance's record and in a person's env files; of the manifests' env files, where the value goes into one
	help  string // one line, with an example
	value *string
	check func(string) error
	apply func(t *render.Tree, value string) error // nil where compose does it, seeing other fields too

	toggle   bool     // "true" or "false", and no other check
	optional bool     // "none" takes it away
	overlays []string // those that have it; nil is all
	of       string   // flag of what this is a detail of: without that, it is not
}

// table is the one home of parameters that go into the tree. A new parameter is a field, a row here, and a flag.
func (p *Parameters) table() []parameter {
	inCluster, onGoogle, cloudSQL := []string{overlayLocal, overlayGCP}, []string{overlayGCP, CloudSQLOverlay}, []string{CloudSQLOverlay}
	return []parameter{
		{flag: "--image", key: "MLFLOW_IMAGE", value: &p.Image,
			help:  "Image of MLflow, for instance registry.example.com/mlflow:v3.17.2-full; without tag and digest, the tag stays",
			check: checkImage, apply: image(mlflowImage)},
		{flag: "--postgres-image", key: "POSTGRES_IMAGE", value: &p.PostgresImage,
			help:  "Image of the database and of what backs it up, for instance registry.example.com/postgres:17",
			check: checkImage, apply: image(postgresImage)},
		{flag: "--cloudsql-proxy-image", key: "CLOUDSQL_PROXY_IMAGE", value: &p.CloudSQLProxyImage,
			help:  "Image of the Cloud SQL Auth Proxy, for instance registry.example.com/cloud-sql-proxy:2.27.0",
			check: checkImage, apply: image(proxyImage), overlays: cloudSQL},
		{flag: "--image-registry", key: "IMAGE_REGISTRY", value: &p.ImageRegistry,
			help:  "Mirror of the images that are not named one by one, for instance registry.example.com/mirror; none for no mirror",
			check: checkRegistry, optional: true},
		{flag: "--image-pull-secret", key: "IMAGE_PULL_SECRET", value: &p.ImagePullSecret,
			help:  "Secret with the credentials of the images' registry, for instance mirror-login; none for no Secret",
			check: checkName, apply: pullSecret, optional: true},

		{flag: "--storage-class", key: "STORAGE_CLASS", value: &p.StorageClass,
			help:  "Storage class of all volumes, for instance premium-rwo; none for the cluster's default",
			check: checkStorageClass, optional: true, apply: func(t *render.Tree, value string) error {
				return t.Add("PersistentVolumeClaim", "/spec/storageClassName", value)
			}},
		{flag: "--database-storage", key: "POSTGRES_STORAGE_SIZE", value: &p.DatabaseStorage,
			help:  "Size of the database's volume, for instance 50Gi",
			check: checkSize, overlays: inCluster,
			apply: env("components/postgres/params.env", "POSTGRES_STORAGE_SIZE")},
		{flag: "--artifacts-storage", key: "ARTIFACTS_STORAGE_SIZE", value: &p.ArtifactsStorage,
			help:  "Size of the artifacts' volume, for instance 200Gi",
			check: checkSize, overlays: []string{overlayLocal},
			apply: env("components/artifacts-pvc/params.env", "ARTIFACTS_STORAGE_SIZE")},

		{flag: "--artifacts-destination", key: "DEFAULT_ARTIFACT_ROOT", value: &p.ArtifactsDestination,
			help:  "Bucket where the server keeps artifacts, for instance gs://BUCKET/PREFIX; clients need no access to it",
			check: checkBucket, overlays: onGoogle},
		{flag: "--default-artifact-root", key: "MLFLOW_DEFAULT_ARTIFACT_ROOT", value: &p.DefaultArtifactRoot,
			help:  "Where clients write artifacts by themselves, for instance gs://BUCKET/PREFIX; each needs access to it, and deploy does not read from there; none for by way of the server",
			check: checkArtifactURI, optional: true,
			apply: env("base/config.env", "MLFLOW_DEFAULT_ARTIFACT_ROOT")},

		{flag: "--cloudsql-instance", key: "GCP_CLOUDSQL_INSTANCE_NAME", value: &p.CloudSQLInstance,
			help:  "Cloud SQL instance with the database, for instance PROJECT:REGION:INSTANCE",
			check: checkInstance, overlays: cloudSQL, apply: cloudSQLParam("GCP_CLOUDSQL_INSTANCE_NAME")},
		{flag: "--cloudsql-proxy", key: "CLOUDSQL_PROXY", value: &p.CloudSQLProxy,
			help:  "Where the Cloud SQL Auth Proxy runs: deployment (pods of its own) or sidecar (in each of MLflow's pods)",
			check: oneOf("deployment", sidecar), overlays: cloudSQL},
		{flag: "--private-ip", key: "PRIVATE_IP", value: &p.PrivateIP,
			help:   "Reach the Cloud SQL instance by its private IP",
			toggle: true, overlays: cloudSQL, apply: cloudSQLParam("CSQL_PROXY_PRIVATE_IP")},
		{flag: "--psc", key: "PSC", value: &p.PSC,
			help:   "Reach the Cloud SQL instance by Private Service Connect",
			toggle: true, overlays: cloudSQL, apply: cloudSQLParam("CSQL_PROXY_PSC")},
		{flag: "--auto-iam-authn", key: "AUTO_IAM_AUTHN", value: &p.AutoIAMAuthn,
			help:   "Log in to the database as a Google service account instead of with a password; see --database-user",
			toggle: true, overlays: cloudSQL, apply: cloudSQLParam("CSQL_PROXY_AUTO_IAM_AUTHN")},
		{flag: "--database-name", key: "DB_NAME", value: &p.DatabaseName,
			help:  "Database in the Cloud SQL instance, for instance mlflowdb",
			check: checkDatabaseName, overlays: cloudSQL, apply: env("base/config.env", "DB_NAME")},
		{flag: "--database-user", key: "DB_USER", value: &p.DatabaseUser,
			help:  "User of the database, for instance mlflow, or NAME@PROJECT.iam with --auto-iam-authn",
			check: checkDatabaseUser, overlays: cloudSQL, apply: databaseUser},
		{flag: "--database-secret", key: "DATABASE_SECRET", value: &p.DatabaseSecret,
			help:  "Secret with the database's password under the key DB_PASSWORD, for instance team-database; none for the one that install makes",
			check: checkName, apply: env("components/database-secret/params.env", "DATABASE_SECRET"), optional: true},

		{flag: "--google-service-account", key: "MLFLOW_SERVICE_ACCOUNT", value: &p.GoogleServiceAccount,
			help:  "Google service account of MLflow's pods by Workload Identity, for instance mlflow@PROJECT.iam.gserviceaccount.com; none for no annotation",
			check: checkServiceAccount, optional: true,
			apply: env("components/workload-identity/params.env", "MLFLOW_SERVICE_ACCOUNT")},
		{flag: "--cloudsql-service-account", key: "MLFLOW_CLOUDSQL_SERVICE_ACCOUNT", value: &p.CloudSQLServiceAccount,
			help:  "Google service account of the proxy by Workload Identity, for instance mlflow-cloudsql@PROJECT.iam.gserviceaccount.com; none for no annotation",
			check: checkServiceAccount, optional: true, overlays: cloudSQL,
			apply: env("components/workload-identity-cloudsql/params.env", "MLFLOW_CLOUDSQL_SERVICE_ACCOUNT")},
		{flag: "--google-key-secret", key: "GOOGLE_KEY_SECRET", value: &p.GoogleKeySecret,
			help:  "Secret with a Google service account's key under the key key.json, mounted into MLflow's pods, for instance mlflow-google-key; none for no key",
			check: checkName, optional: true, apply: env("components/google-key/params.env", "GOOGLE_KEY_SECRET")},
		{flag: "--cloudsql-key-secret", key: "CLOUDSQL_KEY_SECRET", value: &p.CloudSQLKeySecret,
			help:  "Secret with the proxy's own key under the key key.json, for instance mlflow-cloudsql-proxy-key; none for no key",
			check: checkName, optional: true, overlays: cloudSQL,
			apply: env("components/cloudsql-key/params.env", "CLOUDSQL_KEY_SECRET")},

		{flag: "--basic-auth", key: "BASIC_AUTH", value: &p.BasicAuth,
			help:   "Ask for user and password: MLflow's basic-auth, with a database of its own and the user admin",
			toggle: true},
		{flag: "--ingress-host", key: "MLFLOW_HOST_NAME", value: &p.IngressHost,
			help:  "Host name of an Ingress to MLflow, for instance mlflow.example.com; none for no Ingress",
			check: checkHost, optional: true, apply: env("components/ingress/params.env", "MLFLOW_HOST_NAME")},
		{flag: "--ingress-class", key: "INGRESS_CLASS", value: &p.IngressClass,
			help:  "Class of the Ingress, for instance nginx; none for the cluster's default",
			check: checkName, optional: true, of: "--ingress-host", apply: func(t *render.Tree, value string) error {
				return t.Add("Ingress", "/spec/ingressClassName", value)
			}},
		{flag: "--ingress-tls-secret", key: "INGRESS_TLS_SECRET", value: &p.IngressTLSSecret,
			help:  "Secret with the certificate of the Ingress, for instance mlflow-tls; none for plain HTTP",
			check: checkName, optional: true, of: "--ingress-host"},
		{flag: "--allowed-hosts", key: "MLFLOW_SERVER_ALLOWED_HOSTS", value: &p.AllowedHosts,
			help:  "More names by which clients may call MLflow, for instance mlflow.example.com,mlflow.example.com:8443; none for no more",
			check: checkHosts, optional: true, apply: env("base/config.env", "MLFLOW_MORE_ALLOWED_HOSTS")},
		{flag: "--cors-allowed-origins", key: "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS", value: &p.CORSAllowedOrigins,
			help:  "More origins from which browsers may write, for instance https://ui.example.com; none for no more",
			check: checkOrigins, optional: true},
		{flag: "--service-monitor", key: "SERVICE_MONITOR", value: &p.ServiceMonitor,
			help:   "Make a ServiceMonitor, for the Prometheus operator to read MLflow's metrics",
			toggle: true},
		{flag: "--network-policies", key: "NETWORK_POLICIES", value: &p.NetworkPolicies,
			help:   "Close the network of MLflow's pods to all that they do not need",
			toggle: true},

		{flag: "--gc-schedule", key: "GC_SCHEDULE", value: &p.GCSchedule,
			help:  "When runs that were deleted are removed for good, as cron says it, for instance \"0 3 * * 0\"; none for never",
			check: checkSchedule, optional: true, apply: env("components/gc/params.env", "GC_SCHEDULE")},
		{flag: "--gc-older-than", key: "GC_OLDER_THAN", value: &p.GCOlderThan,
			help:  "Age from which deleted runs are removed, for instance 30d",
			check: checkAge, of: "--gc-schedule", apply: env("components/gc/config.env", "GC_OLDER_THAN")},
		{flag: "--backup-schedule", key: "BACKUP_SCHEDULE", value: &p.BackupSchedule,
			help:  "When the database is backed up, as cron says it, for instance \"0 2 * * *\"; manual for by hand alone; none for no backups",
			check: checkBackupSchedule, optional: true, apply: backupSchedule},
		{flag: "--backup-destination", key: "BACKUP_DESTINATION", value: &p.BackupDestination,
			help:  "Where backups go, for instance gs://BUCKET/backups; none for a volume",
			check: checkArtifactURI, optional: true, of: "--backup-schedule",
			apply: env("components/backup/config.env", "BACKUP_DESTINATION")},
		{flag: "--backup-storage", key: "BACKUP_STORAGE_SIZE", value: &p.BackupStorage,
			help:  "Size of the backups' volume, for instance 20Gi",
			check: checkSize, of: "--backup-schedule", apply: env("components/backup-pvc/params.env", "BACKUP_STORAGE_SIZE")},
		{flag: "--backup-keep", key: "BACKUP_KEEP", value: &p.BackupKeep,
			help:  "How many backups are kept, for instance 7",
			check: checkCount, of: "--backup-schedule", apply: env("components/backup/config.env", "BACKUP_KEEP")},

		{flag: "--requests", key: "REQUESTS", value: &p.Requests,
			help:  "Resources that the server asks for, for instance cpu=500m,memory=1Gi; none for the manifests' own",
			check: checkResources, optional: true, apply: resources("requests")},
		{flag: "--limits", key: "LIMITS", value: &p.Limits,
			help:  "Resources that the server may use, for instance memory=4Gi; none for the manifests' own",
			check: checkResources, optional: true, apply: resources("limits")},
	}
}

// valid tells what is wrong with a value, if anything.
func (row parameter) valid(value string) error {
	switch {
	case value == "" || row.optional && value == none:
		return nil
	case row.toggle:
		return oneOf(yes, no)(value)
	}
	return row.check(value)
}

// Parameter is one of Parameters' fields, for whoever binds it to a flag or tells of it.
type Parameter struct {
	Flag     string   // with its dashes
	Key      string   // in env files
	Help     string   // one line, with an example
	Switch   bool     // "true" or "false"
	Overlays []string // those that have it
	Value    *string
}

// All are the parameters but where to install, which is no part of the table, in the order in which they are told.
func (p *Parameters) All() []Parameter {
	var all []Parameter
	for _, row := range p.table() {
		overlays := row.overlays
		if overlays == nil {
			overlays = Overlays()
		}
		all = append(all, Parameter{Flag: row.flag, Key: row.key, Help: row.help, Switch: row.toggle, Overlays: overlays, Value: row.value})
	}
	return all
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
