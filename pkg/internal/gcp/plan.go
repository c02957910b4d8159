package gcp

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// SecretKey is a place in a Secret of the namespace.
type SecretKey struct{ Secret, Key string }

// Step is one thing that has to be so. Argument lists are without the program's name, which is gcloud.
type Step struct {
	Object string // "bucket gs://mlflow-prod"
	Why    string // one line

	Look []string                         // shows, as JSON, what is there; nil where there is nothing to look at
	Show []string                         // shows the same to a person, where nothing is done
	Seen func(shown []byte) (bool, error) // whether that has it already
	Note func(shown []byte) string        // on what is there, which is not changed; nil is none
	Do   []string                         // makes it so; nil where that is not for this program to do
	Did  string                           // what is said then; empty is Created
	Role string                           // that lets one look and do
	On   string                           // what the role is on: "project my-project"

	Password *SecretKey // Do reads it as flags on standard input: {"--password": "..."}. It is made where it is not there
	Keep     *SecretKey // what Do prints goes there
	SQL      []string   // statements that a person runs, as postgres; they can be repeated
	Database string     // where
	Instance Instance   // there
}

const (
	adminServices = "roles/serviceusage.serviceUsageAdmin"
	adminProject  = "roles/resourcemanager.projectIamAdmin"
	adminAccounts = "roles/iam.serviceAccountAdmin"
	adminKeys     = "roles/iam.serviceAccountKeyAdmin" // #nosec G101 -- a role
	adminStorage  = "roles/storage.admin"
	adminSQL      = "roles/cloudsql.admin"

	useBucket   = "roles/storage.objectUser"
	useSQL      = "roles/cloudsql.client"
	logInToSQL  = "roles/cloudsql.instanceUser"
	actAs       = "roles/iam.workloadIdentityUser"
	accountKind = "cloud_iam_service_account"
)

// NeedsNumber says whether plans of s have ProjectNumber in them.
func (s Setup) NeedsNumber() bool {
	return s.Number == "" && (s.Identity == Principal || s.Identity == Node && s.NodeServiceAccount == "")
}

// ClusterProject is the project whose number Plan needs: pool and nodes are the cluster's.
func (s Setup) ClusterProject() string { return strings.TrimSuffix(s.WorkloadPool, ".svc.id.goog") }

// Plan is what has to be so for s, which is complete, in the order in which it is made. It is pure.
func Plan(s Setup) []Step {
	var steps []Step
	add := func(more ...Step) { steps = append(steps, more...) }

	for _, project := range s.projects() {
		add(services(project, s.apis(project)))
	}
	if s.CloudSQL {
		add(s.instanceStep())
	}
	add(s.bucketStep())
	if s.Identity == WorkloadIdentity || s.Identity == Key {
		add(accountStep(s.account, "MLflow", "An account of Google's for MLflow's pods."))
		if s.CloudSQL && !s.Sidecar {
			add(accountStep(s.proxy, "MLflow Cloud SQL proxy", "An account of Google's for the Cloud SQL Auth Proxy, which alone reaches the database."))
		}
	}
	add(s.bucketRole())
	if s.CloudSQL {
		add(s.projectRole(useSQL, "Lets the Cloud SQL Auth Proxy connect to the instances of the project."))
		if s.AutoIAMAuthn {
			add(s.projectRole(logInToSQL, "Lets it log in as itself, without a password."))
		}
	}
	switch s.Identity {
	case WorkloadIdentity:
		add(s.mayActAs(s.account, kubernetesAccount))
		if s.CloudSQL && !s.Sidecar {
			add(s.mayActAs(s.proxy, proxyKubernetesAccount))
		}
	case Key:
		add(keyStep(s.account, keySecret))
		if s.CloudSQL && !s.Sidecar {
			add(keyStep(s.proxy, proxyKeySecret))
		}
	}
	if s.CloudSQL {
		add(s.databaseStep(), s.userStep())
		if s.AutoIAMAuthn {
			add(s.grants())
		}
	}
	return steps
}

// projects are those in which APIs are called: that of the callers, and that of the instance.
func (s Setup) projects() []string {
	projects := []string{s.Project}
	if s.CloudSQL && s.instance.Project != s.Project {
		projects = append(projects, s.instance.Project)
	}
	return projects
}

func (s Setup) apis(project string) []string {
	if project != s.Project {
		return []string{"sqladmin.googleapis.com"}
	}
	apis := []string{"storage.googleapis.com", "iam.googleapis.com"}
	if s.Identity == WorkloadIdentity || s.Identity == Principal {
		apis = append(apis, "iamcredentials.googleapis.com")
	}
	if s.CloudSQL {
		apis = append(apis, "sqladmin.googleapis.com")
	}
	return apis
}

func services(project string, apis []string) Step {
	return Step{
		Object: "APIs of project " + project,
		Why:    "The APIs that the steps below and MLflow itself call.",
		Look:   []string{"services", "list", "--enabled", "--project=" + project, "--format=json"},
		Seen: list(func(enabled []struct{ Config struct{ Name string } }) (bool, error) {
			names := make([]string, 0, len(enabled))
			for _, e := range enabled {
				names = append(names, e.Config.Name)
			}
			return !slices.ContainsFunc(apis, func(api string) bool { return !slices.Contains(names, api) }), nil
		}),
		Do:   append(append([]string{"services", "enable"}, apis...), "--project="+project),
		Did:  Enabled,
		Role: adminServices, On: "project " + project,
	}
}

// instanceStep looks whether the instance that is already there is one that MLflow can use.
func (s Setup) instanceStep() Step {
	at := s.instance
	return Step{
		Object: "Cloud SQL instance " + at.String(),
		Why:    "The instance is yours already. Look that it is RUNNABLE and speaks PostgreSQL" + s.reach() + ".",
		Look:   []string{"sql", "instances", "describe", at.Name, "--project=" + at.Project, "--format=json"},
		Show: []string{"sql", "instances", "describe", at.Name, "--project=" + at.Project,
			"--format=yaml(connectionName,state,databaseVersion,ipAddresses,settings.ipConfiguration.pscConfig,settings.databaseFlags)"},
		Seen: list(func(i sqlInstance) (bool, error) { return true, s.usable(i) }),
		Role: adminSQL, On: "project " + at.Project, Instance: at,
	}
}

func (s Setup) reach() string {
	var text string
	switch {
	case s.PSC:
		text = ", with Private Service Connect on"
	case s.PrivateIP:
		text = ", with a private address"
	default:
		text = ", with a public address"
	}
	if s.AutoIAMAuthn {
		text += " and the flag " + iamFlag + "=on"
	}
	return text
}

const iamFlag = "cloudsql.iam_authentication"

type sqlInstance struct {
	DatabaseVersion, Region, State string
	IPAddresses                    []struct{ Type string } `json:"ipAddresses"`
	Settings                       struct {
		DatabaseFlags   []struct{ Name, Value string }
		IPConfiguration struct {
			PSCConfig struct {
				Enabled bool `json:"pscEnabled"`
			} `json:"pscConfig"`
		} `json:"ipConfiguration"`
	}
}

// usable is failure.Diagnosed where MLflow could not work with the instance.
func (s Setup) usable(i sqlInstance) error {
	at := s.instance
	wrong := func(reason, message, hint string) error {
		return &failure.Error{Class: failure.Diagnosed, Reason: reason, Object: "Cloud SQL instance " + at.Name, Message: message, Hint: hint}
	}
	has := func(kind string) bool {
		return slices.ContainsFunc(i.IPAddresses, func(a struct{ Type string }) bool { return a.Type == kind })
	}
	patch := fmt.Sprintf("gcloud sql instances patch %s --project=%s ", at.Name, at.Project)
	switch {
	case !strings.HasPrefix(i.DatabaseVersion, "POSTGRES"):
		return wrong("NotPostgreSQL", "it is "+i.DatabaseVersion+", and MLflow is installed for PostgreSQL", "name another instance; a PostgreSQL one is made with: "+createInstance(at))
	case i.Region != at.Region:
		right := Instance{Project: at.Project, Region: i.Region, Name: at.Name}
		return wrong("OtherRegion", "it is in "+i.Region+", not in "+at.Region, "write --cloudsql-instance "+right.String())
	case i.State != "RUNNABLE":
		return wrong("InstanceNotRunning", "it is "+i.State, "start it with: "+patch+"--activation-policy=ALWAYS; or wait until it is RUNNABLE")
	case s.PSC && !i.Settings.IPConfiguration.PSCConfig.Enabled:
		return wrong("NoPrivateServiceConnect", "Private Service Connect is off", "leave --psc out, or see https://cloud.google.com/sql/docs/postgres/configure-private-service-connect")
	case s.PrivateIP && !has("PRIVATE"):
		return wrong("NoPrivateAddress", "it has no private address", "leave --private-ip out, or see https://cloud.google.com/sql/docs/postgres/configure-private-ip")
	case !s.PSC && !s.PrivateIP && !has("PRIMARY"):
		return wrong("NoPublicAddress", "it has no public address", "say --private-ip or --psc, as the instance has it")
	}
	if !s.AutoIAMAuthn {
		return nil
	}
	var flags []string
	for _, f := range i.Settings.DatabaseFlags {
		if f.Name == iamFlag && f.Value == "on" {
			return nil
		}
		if f.Name != iamFlag {
			flags = append(flags, f.Name+"="+f.Value)
		}
	}
	// The flags are set all at once, on a server that may be others' too: that is not done behind anybody's back.
	return wrong("IAMAuthenticationOff", "its flag "+iamFlag+" is not on, so that service accounts cannot log in",
		"set it, beside the flags that the instance has, with: "+patch+"--database-flags='^;^"+strings.Join(append(flags, iamFlag+"=on"), ";")+"'")
}

func createInstance(at Instance) string {
	return fmt.Sprintf("gcloud sql instances create %s --project=%s --region=%s --database-version=POSTGRES_17 --edition=enterprise --tier=db-custom-2-7680 --storage-auto-increase",
		at.Name, at.Project, at.Region)
}

func (s Setup) bucketStep() Step {
	return Step{
		Object: "bucket " + s.bucket,
		Why:    "The bucket of MLflow's artifacts: access by roles alone, never public.",
		Look:   []string{"storage", "buckets", "describe", s.bucket, "--format=json"},
		Seen:   list(func(b struct{ Name string }) (bool, error) { return b.Name != "", nil }),
		Note:   s.openings,
		Do: []string{"storage", "buckets", "create", s.bucket, "--project=" + s.Project, "--location=" + s.Location,
			"--uniform-bucket-level-access", "--public-access-prevention"},
		Role: adminStorage, On: "project " + s.Project,
	}
}

// openings are the ways past roles that a bucket has which is there already.
func (s Setup) openings(shown []byte) string {
	var b struct {
		Uniform bool   `json:"uniform_bucket_level_access"`
		Public  string `json:"public_access_prevention"`
	}
	var flags []string
	if err := json.Unmarshal(shown, &b); err == nil && !b.Uniform {
		flags = append(flags, "--uniform-bucket-level-access")
	}
	if b.Public != "enforced" {
		flags = append(flags, "--public-access-prevention")
	}
	if len(flags) == 0 {
		return ""
	}
	return "it can be opened to others past its roles; close it with: gcloud storage buckets update " + s.bucket + " " + strings.Join(flags, " ")
}

func accountStep(a account, display, why string) Step {
	return Step{
		Object: "service account " + a.address,
		Why:    why,
		Look:   []string{"iam", "service-accounts", "list", "--project=" + a.project, "--filter=email=" + a.address, "--format=json"},
		Seen: list(func(found []struct{ Email string }) (bool, error) {
			return slices.ContainsFunc(found, func(f struct{ Email string }) bool { return f.Email == a.address }), nil
		}),
		Do:   []string{"iam", "service-accounts", "create", a.id, "--project=" + a.project, "--display-name=" + display},
		Role: adminAccounts, On: "project " + a.project,
	}
}

// member is how a policy names who the pods with a certain Kubernetes account are.
func (s Setup) member(a account, kubernetes string) string {
	if s.Identity != Principal {
		return "serviceAccount:" + a.address
	}
	number := s.Number
	if number == "" {
		number = ProjectNumber
	}
	return fmt.Sprintf("principal://iam.googleapis.com/projects/%s/locations/global/workloadIdentityPools/%s/subject/ns/%s/sa/%s", number, s.WorkloadPool, s.Namespace, kubernetes)
}

// proxyMember is whom the proxy is known as.
func (s Setup) proxyMember() string {
	if s.Sidecar {
		return s.member(s.account, kubernetesAccount)
	}
	return s.member(s.proxy, proxyKubernetesAccount)
}

// binding gives one member one role in one policy, whose commands are verb with get-iam-policy and add-iam-policy-binding.
func binding(why, where, role, member string, verb []string, on ...string) Step {
	argv := func(command string, more ...string) []string {
		words := slices.Concat(verb, []string{command}, on)
		return append(words, more...)
	}
	return Step{
		Object: fmt.Sprintf("%s on %s for %s", role, where, member),
		Why:    why,
		Look:   argv("get-iam-policy", "--format=json"),
		Seen: list(func(p struct {
			Bindings []struct {
				Role      string
				Members   []string
				Condition *struct{ Expression string }
			}
		}) (bool, error) {
			for _, b := range p.Bindings {
				if b.Role == role && b.Condition == nil && slices.Contains(b.Members, member) {
					return true, nil
				}
			}
			return false, nil
		}),
		// Without --condition, gcloud asks where any binding has one.
		Do:  argv("add-iam-policy-binding", "--role="+role, "--member="+member, "--condition=None"),
		Did: Granted,
		On:  where,
	}
}

func (s Setup) bucketRole() Step {
	step := binding("MLflow reads and writes the artifacts, and nothing else.", "bucket "+s.bucket, useBucket, s.member(s.account, kubernetesAccount),
		[]string{"storage", "buckets"}, s.bucket)
	step.Role = adminStorage
	return step
}

func (s Setup) projectRole(role, why string) Step {
	step := binding(why, "project "+s.instance.Project, role, s.proxyMember(), []string{"projects"}, s.instance.Project)
	step.Role = adminProject
	return step
}

func (s Setup) mayActAs(a account, kubernetes string) Step {
	step := binding(fmt.Sprintf("Pods of the Kubernetes account %s in namespace %s may act as the service account.", kubernetes, s.Namespace), "service account "+a.address, actAs,
		fmt.Sprintf("serviceAccount:%s[%s/%s]", s.WorkloadPool, s.Namespace, kubernetes),
		[]string{"iam", "service-accounts"}, a.address, "--project="+a.project)
	step.Role = adminAccounts
	return step
}

func keyStep(a account, secret string) Step {
	return Step{
		Object: fmt.Sprintf("key of %s in secret/%s", a.address, secret),
		Why:    "A key of the account, from gcloud into a Secret without a file between. It never expires: Workload Identity needs none.",
		Do:     []string{"iam", "service-accounts", "keys", "create", "-", "--iam-account=" + a.address, "--project=" + a.project},
		Keep:   &SecretKey{secret, keyFile},
		Role:   adminKeys, On: "project " + a.project,
	}
}

func (s Setup) databaseStep() Step {
	at := s.instance
	return Step{
		Object: "database " + s.DatabaseName,
		Why:    "The database of MLflow.",
		Look:   []string{"sql", "databases", "list", "--instance=" + at.Name, "--project=" + at.Project, "--format=json"},
		Seen: list(func(found []struct{ Name string }) (bool, error) {
			return slices.ContainsFunc(found, func(f struct{ Name string }) bool { return f.Name == s.DatabaseName }), nil
		}),
		Do:   []string{"sql", "databases", "create", s.DatabaseName, "--instance=" + at.Name, "--project=" + at.Project},
		Role: adminSQL, On: "project " + at.Project,
	}
}

func (s Setup) userStep() Step {
	at := s.instance
	step := Step{
		Object: "database user " + s.DatabaseUser,
		Look:   []string{"sql", "users", "list", "--instance=" + at.Name, "--project=" + at.Project, "--format=json"},
		Seen: list(func(found []struct{ Name string }) (bool, error) {
			return slices.ContainsFunc(found, func(f struct{ Name string }) bool { return f.Name == s.DatabaseUser }), nil
		}),
		Do:   []string{"sql", "users", "create", s.DatabaseUser, "--instance=" + at.Name, "--project=" + at.Project},
		Role: adminSQL, On: "project " + at.Project,
	}
	if s.AutoIAMAuthn {
		step.Why = "The proxy's account as a user of the database, without a password."
		step.Do = append(step.Do, "--type="+accountKind)
		return step
	}
	step.Why = "The user of the database. The password goes from the Secret to gcloud on its standard input, and not into gcloud's log."
	step.Do = append(step.Do, "--flags-file=-")
	step.Password = &SecretKey{s.DatabaseSecret, passwordKey}
	return step
}

// grants are for a user that is a service account: one with a password owns what it needs, as a member of cloudsqlsuperuser.
func (s Setup) grants() Step {
	user := `"` + s.DatabaseUser + `"`
	return Step{
		Object: "grants to " + s.DatabaseUser,
		Why:    "A service account may log in, but not make tables until it is let. psql asks for the password of postgres.",
		SQL: []string{
			fmt.Sprintf(`GRANT CONNECT, CREATE, TEMPORARY ON DATABASE "%s" TO %s;`, s.DatabaseName, user),
			fmt.Sprintf(`GRANT USAGE, CREATE ON SCHEMA public TO %s;`, user),
		},
		Database: s.DatabaseName, Instance: s.instance,
	}
}

// list makes Seen of what gcloud shows, which is nothing at all where it has nothing to show.
func list[T any](f func(T) (bool, error)) func([]byte) (bool, error) {
	return func(shown []byte) (bool, error) {
		var value T
		if len(strings.TrimSpace(string(shown))) > 0 {
			if err := json.Unmarshal(shown, &value); err != nil {
				return false, fmt.Errorf("reading what gcloud shows: %w", err)
			}
		}
		return f(value)
	}
}
