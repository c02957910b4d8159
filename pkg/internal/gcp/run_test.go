package gcp

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
	"github.com/kubectl-mlflow/kubectl-mlflow/test/gcloud"
)

// secrets is a namespace.
type secrets struct {
	values map[SecretKey]string
	refuse func(dryRun bool) error
}

func (s *secrets) Read(_ context.Context, at SecretKey) ([]byte, error) {
	if value, there := s.values[at]; there {
		return []byte(value), nil
	}
	return nil, nil
}

func (s *secrets) Create(_ context.Context, at SecretKey, value []byte, dryRun bool) error {
	if s.refuse != nil {
		if err := s.refuse(dryRun); err != nil {
			return err
		}
	}
	if !dryRun {
		s.values[at] = string(value)
	}
	return nil
}

func (*secrets) NewPassword() (string, error) { return "S3cretOfTheDatabase", nil }

// stage is a runner over doubles; it tells every argument that was used.
type stage struct {
	cloud   *gcloud.Cloud
	secrets *secrets
	argv    []string
	pauses  int
	killed  int // after so many commands everything ends; 0 is never
}

func newStage() *stage {
	return &stage{cloud: gcloud.New(), secrets: &secrets{values: map[SecretKey]string{}}}
}

// made is all that there is now.
func (st *stage) made() string {
	return fmt.Sprint(st.cloud.Services, st.cloud.Buckets, st.cloud.Accounts, st.cloud.Policies, st.cloud.Keys, *st.cloud.Instances["my-project/mlops"], st.secrets.values)
}

var errKilled = errors.New("killed")

func (st *stage) run(t *testing.T, s Setup) ([]Result, error) {
	t.Helper()
	commands := 0
	r := &Runner{
		Secrets: st.secrets, Progress: progress.Discard{},
		Pause: func(context.Context) error { st.pauses++; return nil },
		Exec: func(_ context.Context, args []string, stdin []byte) ([]byte, []byte, error) {
			if commands++; st.killed > 0 && commands > st.killed {
				return nil, nil, errKilled
			}
			st.argv = append(st.argv, args...)
			stdout, stderr, code := st.cloud.Exec(args, stdin)
			if code != 0 {
				return []byte(stdout), []byte(stderr), fmt.Errorf("exit status %d", code)
			}
			return []byte(stdout), []byte(stderr), nil
		},
	}
	complete, err := s.Complete()
	if err != nil {
		t.Fatal(err)
	}
	if complete.NeedsNumber() {
		if s.Number, err = r.Number(t.Context(), complete.ClusterProject()); err != nil {
			return nil, err
		}
		if complete, err = s.Complete(); err != nil {
			t.Fatal(err)
		}
	}
	return r.Run(t.Context(), Plan(complete))
}

func cloudSQL() Setup {
	return Setup{CloudSQL: true, CloudSQLInstance: "my-project:europe-west1:mlops", ArtifactsDestination: "gs://mlflow-prod/a"}
}

// setups are all ways that there are.
func setups() map[string]Setup {
	ways := map[string]Setup{}
	for _, identity := range Identities() {
		for _, c := range []Setup{{Project: "my-project", Location: "EU", ArtifactsDestination: "gs://mlflow-prod"}, cloudSQL()} {
			for _, sidecar := range []bool{false, true} {
				for _, iam := range []bool{false, true} {
					if iam && (identity == Principal || !c.CloudSQL) || sidecar && !c.CloudSQL {
						continue
					}
					c.Identity, c.Sidecar, c.AutoIAMAuthn = identity, sidecar, iam
					ways[fmt.Sprintf("%s cloudsql=%v sidecar=%v iam=%v", identity, c.CloudSQL, sidecar, iam)] = c
				}
			}
		}
	}
	return ways
}

func TestASecondRunChangesNothing(t *testing.T) {
	for name, s := range setups() {
		t.Run(name, func(t *testing.T) {
			st := newStage()
			st.cloud.Slow = 2
			if s.Identity == Principal || s.Identity == Node {
				st.cloud.Slow = 0 // no service account is made
			}
			slow := st.cloud.Slow
			first, err := st.run(t, s)
			if err != nil {
				t.Fatal(err)
			}
			if st.pauses != slow {
				t.Errorf("%d pauses, want %d", st.pauses, slow)
			}
			writes := len(st.cloud.Writes())
			second, err := st.run(t, s)
			if err != nil {
				t.Fatal(err)
			}
			if more := st.cloud.Writes()[writes:]; len(more) > 0 {
				t.Errorf("the second run did %q", more)
			}
			if len(first) != len(second) {
				t.Errorf("results %v, then %v", first, second)
			}
			for i, r := range second {
				if r.Changed() || first[i].Action == Unchanged {
					t.Errorf("%s: %s, then %s", r.Object, first[i].Action, r.Action)
				}
			}
			for _, arg := range st.argv {
				if strings.Contains(strings.ToLower(arg), "secret") || strings.Contains(arg, ProjectNumber) {
					t.Errorf("argument %q", arg)
				}
			}
		})
	}
}

// Whoever is killed after any command goes on from there: the end is the same, the password too.
func TestAnyKillIsHealedByAnotherRun(t *testing.T) {
	for name, s := range setups() {
		t.Run(name, func(t *testing.T) {
			whole := newStage()
			if _, err := whole.run(t, s); err != nil {
				t.Fatal(err)
			}
			for n := 1; ; n++ {
				st := newStage()
				st.killed = n
				if _, err := st.run(t, s); err == nil {
					break
				} else if !errors.Is(err, errKilled) {
					t.Fatalf("killed after %d commands: %v", n, err)
				}
				st.killed = 0
				if _, err := st.run(t, s); err != nil {
					t.Fatalf("after a kill at %d: %v", n, err)
				}
				if got, want := st.made(), whole.made(); got != want {
					t.Errorf("after a kill at %d:\n%s\nwant\n%s", n, got, want)
				}
			}
		})
	}
}

func TestThePasswordIsThatOfTheSecret(t *testing.T) {
	st := newStage()
	at := SecretKey{defaultSecret, passwordKey}
	st.secrets.values[at] = "given by a person"
	if _, err := st.run(t, cloudSQL()); err != nil {
		t.Fatal(err)
	}
	if got, want := st.cloud.Instances["my-project/mlops"].Users["mlflow"], gcloud.PasswordOf("given by a person"); got != want {
		t.Errorf("user's password %q, want %q", got, want)
	}

	st = newStage()
	if _, err := st.run(t, cloudSQL()); err != nil {
		t.Fatal(err)
	}
	if got, want := st.cloud.Instances["my-project/mlops"].Users["mlflow"], gcloud.PasswordOf(st.secrets.values[at]); got != want {
		t.Errorf("user's password %q, want that of the Secret", got)
	}
}

func TestABucketThatIsOpenIsLeftAsItIsAndSaid(t *testing.T) {
	for _, open := range []bool{false, true} {
		st := newStage()
		st.cloud.Buckets["gs://mlflow-prod"], st.cloud.Open = "other-project", open
		done, err := st.run(t, cloudSQL())
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(done, func(r Result) bool { return r.Object == "bucket gs://mlflow-prod" })
		closing := strings.HasSuffix(done[i].Note, "gcloud storage buckets update gs://mlflow-prod --uniform-bucket-level-access --public-access-prevention")
		if done[i].Action != Unchanged || closing != open || !open && done[i].Note != "" {
			t.Errorf("open %v: %+v", open, done[i])
		}
	}
}

func TestAnInterruptEndsGcloudAndWhatItStarted(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "gcloud"), []byte("#!/bin/sh\nsleep 60 &\necho started >&2\nwait\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, _, err := Gcloud(ctx, []string{"version"}, nil)
	if late := time.Since(deadline(ctx)); err == nil || late > time.Second {
		t.Errorf("%v, %s after the interrupt", err, late)
	}
}

func deadline(ctx context.Context) time.Time {
	at, _ := ctx.Deadline()
	return at
}

func TestAUserWithoutItsPasswordIsRefused(t *testing.T) {
	st := newStage()
	st.cloud.Instances["my-project/mlops"].Users["mlflow"] = "unknown"
	_, err := st.run(t, cloudSQL())
	expect(t, err, failure.Refused, "PasswordUnknown", "--from-file=DB_PASSWORD=FILE")
	if st.cloud.Instances["my-project/mlops"].Users["mlflow"] != "unknown" || len(st.secrets.values) > 0 {
		t.Errorf("the password was changed: %v, %v", st.cloud.Instances["my-project/mlops"].Users, st.secrets.values)
	}
}

func TestNoKeyIsMadeThatCannotBeKept(t *testing.T) {
	st := newStage()
	s := Setup{Project: "my-project", Location: "EU", ArtifactsDestination: "gs://mlflow-prod", Identity: Key}
	st.secrets.refuse = func(bool) error { return &failure.Error{Class: failure.Forbidden, Message: "no Secrets for you"} }
	if _, err := st.run(t, s); failure.ClassOf(err) != failure.Forbidden || len(st.cloud.Keys) > 0 {
		t.Errorf("%v, keys %v", err, st.cloud.Keys)
	}

	// What was made and then lost is named, so that it can be deleted; the key itself is not shown.
	st.secrets.refuse = func(dryRun bool) error {
		if dryRun {
			return nil
		}
		return &failure.Error{Class: failure.Refused, Message: "gone"}
	}
	_, err := st.run(t, s)
	if failure.ClassOf(err) != failure.Refused || !strings.Contains(err.Error(), "key abc123 was made but not kept") || strings.Contains(err.Error(), "SECRET-KEY") {
		t.Errorf("%v", err)
	}
}

func expect(t *testing.T, err error, class failure.Class, reason, hint string) {
	t.Helper()
	known, ok := errors.AsType[*failure.Error](err)
	if !ok || known.Class != class || known.Reason != reason || !strings.Contains(known.Hint, hint) {
		t.Errorf("%v (%+v), want %s %s with hint %q", err, known, class, reason, hint)
	}
}

func TestFailuresOfGcloudAreExplained(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*gcloud.Cloud)
		class  failure.Class
		reason string
		hint   string
	}{
		"logged out":     {func(c *gcloud.Cloud) { c.LoggedOut = true }, failure.Forbidden, "GcloudLoggedOut", "gcloud auth login"},
		"services":       {func(c *gcloud.Cloud) { c.Forbidden = []string{"services list"} }, failure.Forbidden, "RoleMissing", "roles/serviceusage.serviceUsageAdmin on project my-project"},
		"bucket":         {func(c *gcloud.Cloud) { c.Forbidden = []string{"storage buckets create"} }, failure.Forbidden, "RoleMissing", "roles/storage.admin on project my-project"},
		"account":        {func(c *gcloud.Cloud) { c.Forbidden = []string{"iam service-accounts create"} }, failure.Forbidden, "RoleMissing", "roles/iam.serviceAccountAdmin"},
		"project policy": {func(c *gcloud.Cloud) { c.Forbidden = []string{"projects"} }, failure.Forbidden, "RoleMissing", "roles/resourcemanager.projectIamAdmin"},
		"database":       {func(c *gcloud.Cloud) { c.Forbidden = []string{"sql"} }, failure.Forbidden, "RoleMissing", "roles/cloudsql.admin"},
		"API": {func(c *gcloud.Cloud) {
			c.Broken = map[string]string{"sql": "PERMISSION_DENIED: Cloud SQL Admin API has not been used in project 123 before or it is disabled. Enable it by visiting https://console.developers.google.com/apis/api/sqladmin.googleapis.com/overview?project=123 then retry."}
		}, failure.Diagnosed, "APIDisabled", "gcloud services enable sqladmin.googleapis.com"},
		"billing": {func(c *gcloud.Cloud) {
			c.Broken = map[string]string{"storage": "HTTPError 403: The billing account for the owning project is disabled in state absent"}
		}, failure.Diagnosed, "BillingDisabled", "link one"},
		"something else": {func(c *gcloud.Cloud) { c.Broken = map[string]string{"storage": "gcloud crashed (ValueError): x"} }, failure.Diagnosed, "GcloudFailed", "run the same command again"},
		"no instance":    {func(c *gcloud.Cloud) { c.Instances = nil }, failure.Diagnosed, "NotFound", "gcloud sql instances create mlops --project=my-project --region=europe-west1 --database-version=POSTGRES_17"},
		"MySQL":          {func(c *gcloud.Cloud) { c.Instances["my-project/mlops"].Version = "MYSQL_8_0" }, failure.Diagnosed, "NotPostgreSQL", "POSTGRES"},
		"other region":   {func(c *gcloud.Cloud) { c.Instances["my-project/mlops"].Region = "europe-north1" }, failure.Diagnosed, "OtherRegion", "my-project:europe-north1:mlops"},
		"stopped":        {func(c *gcloud.Cloud) { c.Instances["my-project/mlops"].State = "STOPPED" }, failure.Diagnosed, "InstanceNotRunning", "--activation-policy=ALWAYS"},
		"private alone":  {func(c *gcloud.Cloud) { c.Instances["my-project/mlops"].Addresses = []string{"PRIVATE"} }, failure.Diagnosed, "NoPublicAddress", "--private-ip"},
	} {
		t.Run(name, func(t *testing.T) {
			st := newStage()
			c.change(st.cloud)
			_, err := st.run(t, cloudSQL())
			expect(t, err, c.class, c.reason, c.hint)
		})
	}
	for name, c := range map[string]struct {
		setup        func(*Setup)
		change       func(*gcloud.Cloud)
		class        failure.Class
		reason, hint string
	}{
		"no private address": {func(s *Setup) { s.PrivateIP = true }, func(*gcloud.Cloud) {}, failure.Diagnosed, "NoPrivateAddress", "--private-ip"},
		"no PSC":             {func(s *Setup) { s.PSC = true }, func(*gcloud.Cloud) {}, failure.Diagnosed, "NoPrivateServiceConnect", "--psc"},
		"IAM off": {func(s *Setup) { s.AutoIAMAuthn = true }, func(c *gcloud.Cloud) {
			c.Instances["my-project/mlops"].Flags = map[string]string{"log_statement": "ddl"}
		}, failure.Diagnosed, "IAMAuthenticationOff", "--database-flags='^;^log_statement=ddl;cloudsql.iam_authentication=on'"},
		"no pool": {func(*Setup) {}, func(c *gcloud.Cloud) {
			c.Broken = map[string]string{"iam service-accounts add-iam-policy-binding": "INVALID_ARGUMENT: Identity Pool does not exist (my-project.svc.id.goog). Please check that you specified a valid resource name as returned in the `name` attribute in the configuration API."}
		}, failure.Diagnosed, "NoWorkloadPool", "gcloud container clusters update CLUSTER --workload-pool=my-project.svc.id.goog"},
		"no keys": {func(s *Setup) { s.Identity = Key }, func(c *gcloud.Cloud) {
			c.Broken = map[string]string{"iam service-accounts keys": "FAILED_PRECONDITION: Key creation is not allowed on this service account."}
		}, failure.Forbidden, "KeysForbidden", "workload-identity"},
		"no number": {func(s *Setup) { s.Identity = Principal }, func(c *gcloud.Cloud) { c.Forbidden = []string{"projects describe"} }, failure.Forbidden, "RoleMissing", "roles/browser"},
	} {
		t.Run(name, func(t *testing.T) {
			st, s := newStage(), cloudSQL()
			c.setup(&s)
			c.change(st.cloud)
			_, err := st.run(t, s)
			expect(t, err, c.class, c.reason, c.hint)
			if st.pauses > 0 {
				t.Errorf("%d pauses, for what will not get better", st.pauses)
			}
		})
	}
}

// An API that was just enabled says for a while that it was not.
func TestANewAPIIsWaitedFor(t *testing.T) {
	st := newStage()
	st.cloud.Late = 3
	if _, err := st.run(t, cloudSQL()); err != nil || st.pauses != 3 {
		t.Errorf("%v, %d pauses", err, st.pauses)
	}
}

func TestAnAccountThatGoogleNeverGetsToKnowIsNoReasonToWaitForEver(t *testing.T) {
	st := newStage()
	st.cloud.Slow = 1000
	_, err := st.run(t, cloudSQL())
	expect(t, err, failure.Diagnosed, "GcloudFailed", "run the same command again")
	if st.pauses != tries-1 {
		t.Errorf("%d pauses", st.pauses)
	}
}

func TestNoGcloud(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, _, err := Gcloud(t.Context(), []string{"version"}, nil)
	if !errors.Is(err, exec.ErrNotFound) {
		t.Fatalf("%v", err)
	}
	expect(t, explain(t.Context(), Step{}, nil, "", err), failure.Diagnosed, "GcloudMissing", "leave --apply out")
}

func TestEvidenceBeginsWithTheError(t *testing.T) {
	said := complaint("Creating user...\nWARNING: x\nERROR: (gcloud) one\n\n- two\n- 3\n- 4\n- 5\n- 6\n- 7\n")
	if want := []string{"ERROR: (gcloud) one", "- two", "- 3", "- 4", "- 5", "- 6"}; !slices.Equal(said, want) {
		t.Errorf("%q, want %q", said, want)
	}
	if said := complaint("Traceback\nValueError\n"); len(said) != 2 {
		t.Errorf("%q", said)
	}
}
