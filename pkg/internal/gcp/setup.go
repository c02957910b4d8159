package gcp

import (
	"cmp"
	"fmt"
	"regexp"
	"strings"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// The ways in which pods prove to Google who they are.
const (
	WorkloadIdentity = "workload-identity" // each Kubernetes account may act as a service account of Google's
	Principal        = "principal"         // the Kubernetes accounts hold the roles themselves
	Key              = "key"               // exported keys of the service accounts, in Secrets
	Node             = "node"              // the account of the nodes, shared by all that runs on them
)

// Identities are the values of Setup.Identity.
func Identities() []string { return []string{WorkloadIdentity, Principal, Key, Node} }

// What a Setup says where it says nothing.
const (
	defaultNamespace    = "mlflow"
	defaultAccount      = "mlflow"
	defaultProxyAccount = "mlflow-cloudsql-proxy"
	defaultDatabase     = "mlflowdb"
	defaultUser         = "mlflow"
	defaultSecret       = "mlflow-database"

	// The names that install gives: of Kubernetes accounts, and of Secrets with exported keys.
	kubernetesAccount      = "mlflow"
	proxyKubernetesAccount = "mlflow-cloudsql-proxy"
	keySecret              = "mlflow-google-key"         // #nosec G101 -- a name
	proxyKeySecret         = "mlflow-cloudsql-proxy-key" // #nosec G101 -- a name
	keyFile                = "key.json"
	passwordKey            = "DB_PASSWORD"
)

// ProjectNumber stands in a Plan for the number of the project until it is known. A shell reads it as a variable.
const ProjectNumber = "$PROJECT_NUMBER"

// Setup is what an install needs of Google Cloud. What is empty has a default, but for project, bucket, location and instance.
type Setup struct {
	Project      string // of bucket and service accounts
	Number       string // of the project; where it is empty, plans have ProjectNumber
	Namespace    string
	Identity     string
	WorkloadPool string // of the cluster; empty is that of clusters in the project

	ArtifactsDestination string // "gs://bucket/prefix"
	Location             string // of the bucket, where it is not there yet

	ServiceAccount         string // of MLflow's pods: an ID in the project, or an address
	CloudSQLServiceAccount string // of the proxy
	NodeServiceAccount     string // address; empty is Compute Engine's default one

	CloudSQL         bool // or else the database is in the cluster
	CloudSQLInstance string
	Sidecar          bool // the proxy runs in MLflow's pods, as MLflow
	PrivateIP, PSC   bool
	AutoIAMAuthn     bool
	DatabaseName     string
	DatabaseUser     string
	DatabaseSecret   string // with the user's password

	instance       Instance
	bucket         string
	account, proxy account
}

// account is a service account of Google's.
type account struct {
	id, project string // "" where only the address is known
	address     string
}

func projectOnly() *regexp.Regexp {
	return regexp.MustCompile(`^` + projectPattern + `$`)
}

func accountID() *regexp.Regexp {
	return regexp.MustCompile(`^[a-z][a-z0-9\-]{4,28}[a-z0-9]$`)
}

func accountMail() *regexp.Regexp {
	return regexp.MustCompile(`^([a-z][a-z0-9\-]{4,28}[a-z0-9])@([a-z0-9.\-]+)\.iam\.gserviceaccount\.com$`)
}

func anyAccount() *regexp.Regexp {
	return regexp.MustCompile(`^[a-z0-9\-]+@[a-z0-9.\-]+\.gserviceaccount\.com$`)
}

func poolPattern() *regexp.Regexp {
	return regexp.MustCompile(`^(?:` + projectPattern + `)\.svc\.id\.goog$`)
}

func bucketPattern() *regexp.Regexp {
	return regexp.MustCompile(`^gs://([a-z0-9][a-z0-9_.\-]{1,220}[a-z0-9])(?:/[A-Za-z0-9_.\-=+/]*)?$`)
}

func namespaceName() *regexp.Regexp {
	return regexp.MustCompile(`^[a-z0-9]([a-z0-9\-]{0,61}[a-z0-9])?$`)
}

func secretName() *regexp.Regexp {
	return regexp.MustCompile(`^[a-z0-9]([a-z0-9.\-]{0,251}[a-z0-9])?$`)
}

func locationName() *regexp.Regexp {
	return regexp.MustCompile(`^[A-Za-z][A-Za-z0-9\-]{1,40}$`)
}

func databaseName() *regexp.Regexp {
	return regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_\-]{0,62}$`)
}

func databaseRole() *regexp.Regexp {
	return regexp.MustCompile(`^[A-Za-z_0-9][A-Za-z0-9_.@\-]{0,62}$`)
}

// Complete is s with its defaults, or failure.Invalid.
func (s Setup) Complete() (Setup, error) {
	s.Namespace = cmp.Or(s.Namespace, defaultNamespace)
	s.Identity = cmp.Or(s.Identity, WorkloadIdentity)
	s.DatabaseName = cmp.Or(s.DatabaseName, defaultDatabase)
	s.DatabaseSecret = cmp.Or(s.DatabaseSecret, defaultSecret)
	if err := s.place(); err != nil {
		return s, err
	}
	if err := s.who(); err != nil {
		return s, err
	}
	if !s.CloudSQL {
		return s, nil
	}
	return s, s.database()
}

// place is where it all is: project, bucket, instance, pool.
func (s *Setup) place() error {
	if s.CloudSQL {
		if s.CloudSQLInstance == "" {
			return missing("--cloudsql-instance", "the database is in Cloud SQL", "give it as --cloudsql-instance PROJECT:REGION:INSTANCE; "+
				"gcloud sql instances describe INSTANCE --format='value(connectionName)' shows it")
		}
		instance, err := ParseInstance(s.CloudSQLInstance)
		if err != nil {
			return invalid("--cloudsql-instance", s.CloudSQLInstance, err.Error())
		}
		s.instance = instance
		s.Project = cmp.Or(s.Project, instance.Project)
		s.Location = cmp.Or(s.Location, instance.Region)
	}
	if s.Project == "" {
		return missing("--project", "bucket and service accounts belong to one", "give it as --project PROJECT, or as the variable PROJECT_ID; gcloud config get-value project shows gcloud's own")
	}
	if s.ArtifactsDestination == "" {
		return missing("--artifacts-destination", "MLflow keeps its artifacts in a bucket", "give it as --artifacts-destination gs://BUCKET/PREFIX, or as the variable BUCKET_NAME_MLFLOW")
	}
	if s.Location == "" {
		return missing("--location", "a new bucket has to be somewhere", "give it as --location REGION, for instance europe-west1, or as the variable REGION")
	}
	s.WorkloadPool = cmp.Or(s.WorkloadPool, s.Project+".svc.id.goog")
	for _, c := range []struct {
		flag, value string
		form        func() *regexp.Regexp
		hint        string
	}{
		{"--project", s.Project, projectOnly, "write the project's ID, not its name or number: my-project, or example.com:my-project"},
		{"--artifacts-destination", s.ArtifactsDestination, bucketPattern, "write it as gs://BUCKET or gs://BUCKET/PREFIX, with a bucket's name in small letters"},
		{"--location", s.Location, locationName, "write a region, for instance europe-west1, or a multi-region, for instance EU"},
		{"--workload-pool", s.WorkloadPool, poolPattern, "write it as PROJECT.svc.id.goog, with the project of the cluster"},
		{"--namespace", s.Namespace, namespaceName, "a namespace's name has small letters, digits and dashes, at most 63"},
	} {
		if !c.form().MatchString(c.value) {
			return invalid(c.flag, c.value, c.hint)
		}
	}
	s.bucket = "gs://" + bucketPattern().FindStringSubmatch(s.ArtifactsDestination)[1]
	return nil
}

// who is whom pods are known as.
func (s *Setup) who() error {
	switch s.Identity {
	case WorkloadIdentity, Key, Principal:
	case Node:
		address := cmp.Or(s.NodeServiceAccount, ProjectNumber+"-compute@developer.gserviceaccount.com")
		if s.Number != "" {
			address = strings.ReplaceAll(address, ProjectNumber, s.Number)
		}
		if s.NodeServiceAccount != "" && !anyAccount().MatchString(s.NodeServiceAccount) {
			return invalid("--node-service-account", s.NodeServiceAccount, "write the account's address, for instance nodes@my-project.iam.gserviceaccount.com")
		}
		s.account = account{address: address}
		s.proxy = s.account
		return nil
	default:
		return invalid("--identity", s.Identity, "choose one of: "+strings.Join(Identities(), ", "))
	}
	var err error
	if s.account, err = s.read("--google-service-account", cmp.Or(s.ServiceAccount, defaultAccount)); err != nil {
		return err
	}
	if s.Sidecar {
		s.proxy = s.account
		return nil
	}
	s.proxy, err = s.read("--cloudsql-service-account", cmp.Or(s.CloudSQLServiceAccount, defaultProxyAccount))
	if err == nil && s.CloudSQL && s.proxy == s.account {
		return &failure.Error{
			Class: failure.Invalid, Reason: "OneAccount",
			Message: fmt.Sprintf("MLflow and the proxy are both %s: each has an account of its own, so that only the proxy reaches the database", s.proxy.address),
			Hint:    "name another one with --cloudsql-service-account, or choose --cloudsql-proxy=sidecar, where one account is meant",
		}
	}
	return err
}

// read takes an account's ID, which is in the project, or its address.
func (s *Setup) read(flag, value string) (account, error) {
	if accountID().MatchString(value) {
		return account{id: value, project: s.Project, address: value + "@" + accountDomain(s.Project)}, nil
	}
	m := accountMail().FindStringSubmatch(value)
	if m == nil {
		return account{}, invalid(flag, value, "write the account's ID, 6 to 30 small letters, digits and dashes, or its address, for instance mlflow@my-project.iam.gserviceaccount.com")
	}
	project := m[2]
	if id, domain, scoped := strings.Cut(project, "."); scoped {
		project = domain + ":" + id
	}
	return account{id: m[1], project: project, address: value}, nil
}

// accountDomain is what stands behind the @ of a project's service accounts: in a domain-scoped project the domain comes last.
func accountDomain(project string) string {
	if domain, id, scoped := strings.Cut(project, ":"); scoped {
		return id + "." + domain + ".iam.gserviceaccount.com"
	}
	return project + ".iam.gserviceaccount.com"
}

// database is who logs in there, and how.
func (s *Setup) database() error {
	if s.PrivateIP && s.PSC {
		return &failure.Error{Class: failure.Invalid, Reason: "TwoWays", Message: "--private-ip and --psc are two ways to the instance", Hint: "choose one"}
	}
	if !databaseName().MatchString(s.DatabaseName) {
		return invalid("--database-name", s.DatabaseName, "write it as PostgreSQL does, for instance mlflowdb")
	}
	if !secretName().MatchString(s.DatabaseSecret) {
		return invalid("--database-secret", s.DatabaseSecret, "write the name of a Secret in the namespace, with the key "+passwordKey)
	}
	if !s.AutoIAMAuthn {
		s.DatabaseUser = cmp.Or(s.DatabaseUser, defaultUser)
		if !databaseRole().MatchString(s.DatabaseUser) || strings.Contains(s.DatabaseUser, "@") {
			return invalid("--database-user", s.DatabaseUser, "write a user who has a password, for instance mlflow; service accounts log in with --auto-iam-authn")
		}
		return nil
	}
	if s.Identity == Principal {
		return &failure.Error{
			Class: failure.Invalid, Reason: "PrincipalIsNoUser",
			Message: "--auto-iam-authn does not go with --identity principal: Cloud SQL knows service accounts as users, not Kubernetes accounts",
			Hint:    "use --identity workload-identity, or leave --auto-iam-authn out",
		}
	}
	own := strings.TrimSuffix(s.proxy.address, ".gserviceaccount.com")
	if s.DatabaseUser != "" && s.DatabaseUser != own {
		return invalid("--database-user", s.DatabaseUser, "with --auto-iam-authn the user is the account that the proxy has: leave it out, or write "+own)
	}
	s.DatabaseUser = own
	return nil
}

func invalid(flag, value, hint string) error {
	return &failure.Error{Class: failure.Invalid, Reason: "InvalidParameter", Message: fmt.Sprintf("%s %q is not valid", flag, value), Hint: hint}
}

func missing(flag, why, hint string) error {
	return &failure.Error{Class: failure.Invalid, Reason: "ParameterMissing", Message: fmt.Sprintf("%s is missing: %s", flag, why), Hint: hint}
}

// InstallWords are the words of the install that goes with s.
func (s Setup) InstallWords() []string {
	words := []string{"install", "--overlay", "gcp", "--artifacts-destination", s.ArtifactsDestination}
	if s.CloudSQL {
		words = []string{"install", "--overlay", "gcp-cloudsql", "--artifacts-destination", s.ArtifactsDestination, "--cloudsql-instance", s.instance.String()}
	}
	google, cloudsql := s.Accounts()
	switch s.Identity {
	case WorkloadIdentity:
		words = append(words, "--google-service-account", google)
		if cloudsql != "" {
			words = append(words, "--cloudsql-service-account", cloudsql)
		}
	case Key:
		words = append(words, "--google-key-secret", keySecret)
		if s.CloudSQL && !s.Sidecar {
			words = append(words, "--cloudsql-key-secret", proxyKeySecret)
		}
	}
	if !s.CloudSQL {
		return words
	}
	if s.Sidecar {
		words = append(words, "--cloudsql-proxy=sidecar")
	}
	if s.PrivateIP {
		words = append(words, "--private-ip")
	}
	if s.PSC {
		words = append(words, "--psc")
	}
	if s.DatabaseName != defaultDatabase {
		words = append(words, "--database-name", s.DatabaseName)
	}
	if s.AutoIAMAuthn {
		return append(words, "--auto-iam-authn", "--database-user", s.DatabaseUser)
	}
	if s.DatabaseUser != defaultUser {
		words = append(words, "--database-user", s.DatabaseUser)
	}
	return append(words, "--database-secret", s.DatabaseSecret)
}

// Accounts are the addresses with which the Kubernetes accounts are annotated; "" where one is not.
func (s Setup) Accounts() (google, cloudsql string) {
	if s.Identity != WorkloadIdentity {
		return "", ""
	}
	if s.CloudSQL && !s.Sidecar {
		cloudsql = s.proxy.address
	}
	return s.account.address, cloudsql
}
