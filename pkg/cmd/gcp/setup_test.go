package gcp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/trackingserver"
	"github.com/kubectl-mlflow/kubectl-mlflow/test/kit"
)

// setup runs `kubectl mlflow gcp setup`, and returns both streams.
func setup(t *testing.T, environment map[string]string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	streams, _, out, errOut := genericiooptions.NewTestIOStreams()
	config, talk := genericclioptions.NewConfigFlags(true), ui.NewProgress(streams.ErrOut)
	root := &cobra.Command{Use: "kubectl-mlflow", Annotations: map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl mlflow"}, SilenceErrors: true, SilenceUsage: true}
	config.AddFlags(root.PersistentFlags())
	root.AddCommand(NewCommand(config, streams, talk, func(name string) string { return environment[name] }, func(*cobra.Command, []string) error { return nil }))
	root.SetOut(io.Discard)
	root.SetArgs(append([]string{"gcp", "setup"}, args...))
	err = root.ExecuteContext(t.Context())
	talk.Close()
	return out.String(), errOut.String(), err
}

const bucket = "--artifacts-destination=gs://mlflow-prod/artifacts"

func TestTheLinesOfEachIdentityAndOverlay(t *testing.T) {
	gcp := []string{"--project=my-project", "--location=europe-west1", bucket}
	sql := []string{"--cloudsql", "--cloudsql-instance=my-project:europe-west1:mlops", bucket}
	for name, args := range map[string][]string{
		"gcp":          gcp,
		"gcp-cloudsql": sql,
		"sidecar":      append(sql, "--cloudsql-proxy=sidecar"),
		"iam":          append(sql, "--auto-iam-authn", "--private-ip"),
		"sidecar-iam":  append(sql, "--auto-iam-authn", "--cloudsql-proxy=sidecar", "--psc"),
	} {
		for _, identity := range trackingserver.GoogleIdentities() {
			if identity == "principal" && strings.HasSuffix(name, "iam") {
				continue // refused: see below
			}
			t.Run(name+"/"+identity, func(t *testing.T) {
				out, _, err := setup(t, nil, append(args, "--identity="+identity)...)
				if err != nil {
					t.Fatal(err)
				}
				kit.Golden(t, name+"-"+identity+".sh", []byte(out))
				check := exec.CommandContext(t.Context(), "sh", "-n")
				check.Stdin = strings.NewReader(out)
				if said, err := check.CombinedOutput(); err != nil {
					t.Errorf("no shell reads this: %v: %s", err, said)
				}
				why := true
				for i, line := range strings.Split(strings.TrimSuffix(out, "\n"), "\n") {
					if strings.HasPrefix(line, "# ") != why {
						t.Errorf("line %d: comments and commands do not take turns: %s", i+1, line)
					}
					why = !why
				}
			})
		}
	}
}

func TestADomainScopedProjectOthersProjectsAndAnotherCluster(t *testing.T) {
	out, _, err := setup(t, nil, "--context=prod", "-n", "ml-prod", "--project=example.com:models", "--workload-pool=example.com:clusters.svc.id.goog", "--artifacts-destination=gs://mlflow-prod",
		"--cloudsql-instance=example.com:databases:europe-west1:mlops", "--google-service-account=mlflow@models.example.com.iam.gserviceaccount.com",
		"--cloudsql-service-account=mlflow-proxy", "--database-name=tracking", "--database-user=tracker", "--database-secret=tracker-password")
	if err != nil {
		t.Fatal(err)
	}
	kit.Golden(t, "domain-scoped.sh", []byte(out))
}

func TestTheGuidesVariablesAreRead(t *testing.T) {
	guide := map[string]string{
		"PROJECT_ID": "guide-project", "REGION": "europe-north1", "BUCKET_NAME_MLFLOW": "gs://mlflow-guide", "CLOUDSQL_INSTANCE_NAME": "mlops-guide",
		"MLFLOW_SERVICE_ACCOUNT_ID": "mlops-mlflow-guide", "MLFLOW_CLOUDSQL_SERVICE_ACCOUNT_ID": "mlflow-csql-proxy-guide",
	}
	out, said, err := setup(t, guide, "--cloudsql")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"buckets create gs://mlflow-guide --project=guide-project --location=europe-north1 ",
		"service-accounts create mlops-mlflow-guide --project=guide-project ",
		"service-accounts create mlflow-csql-proxy-guide ",
		"sql databases create mlflowdb --instance=mlops-guide --project=guide-project\n",
		" --cloudsql-instance guide-project:europe-north1:mlops-guide ",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	if want := "Taken from the environment: CLOUDSQL_INSTANCE_NAME, MLFLOW_CLOUDSQL_SERVICE_ACCOUNT_ID, PROJECT_ID, REGION, BUCKET_NAME_MLFLOW, MLFLOW_SERVICE_ACCOUNT_ID.\n"; said != want {
		t.Errorf("stderr %q, want %q", said, want)
	}

	// A flag wins, and is not said to be from the environment; without Cloud SQL its variables have no meaning.
	out, said, err = setup(t, guide, "--project=mine-instead", "--location=EU")
	if err != nil || !strings.Contains(out, "--project=mine-instead --location=EU ") || strings.Contains(out, "sql") ||
		said != "Taken from the environment: BUCKET_NAME_MLFLOW, MLFLOW_SERVICE_ACCOUNT_ID.\n" {
		t.Errorf("%v, stderr %q, stdout\n%s", err, said, out)
	}
}

func TestWhatCannotBeRightIsSaid(t *testing.T) {
	whole := []string{"--project=my-project", "--location=EU", bucket}
	for name, c := range map[string]struct {
		args []string
		want string
		hint string
	}{
		"nothing":           {nil, "--project is missing", "PROJECT_ID"},
		"no bucket":         {[]string{"--project=my-project"}, "--artifacts-destination is missing", "gs://BUCKET"},
		"no location":       {[]string{"--project=my-project", bucket}, "--location is missing", "REGION"},
		"no instance":       {append(whole, "--cloudsql"), "--cloudsql-instance is missing", "connectionName"},
		"dots":              {append(whole, "--cloudsql-instance=my-project.europe-west1.mlops"), "--cloudsql-instance", "write my-project:europe-west1:mlops"},
		"local":             {append(whole, "--overlay=local"), `--overlay "local" needs nothing`, "gcp-cloudsql"},
		"two overlays":      {append(whole, "--overlay=gcp", "--cloudsql"), "overlay gcp has its database in the cluster", "gcp-cloudsql"},
		"identity":          {append(whole, "--identity=passport"), `--identity "passport"`, "workload-identity, principal, key, node"},
		"project":           {append(whole, "--project=$(id)"), `--project "$(id)"`, "project's ID"},
		"bucket":            {append(whole, "--artifacts-destination=gs://BUCKET"), "--artifacts-destination", "small letters"},
		"location":          {append(whole, "--location=eu; rm"), "--location", "region"},
		"pool":              {append(whole, "--workload-pool=pool"), "--workload-pool", "svc.id.goog"},
		"namespace":         {append(whole, "-n", "a b"), "--namespace", "small letters"},
		"account":           {append(whole, "--google-service-account=ml"), `--google-service-account "ml"`, "6 to 30"},
		"node account":      {append(whole, "--identity=node", "--node-service-account=me"), "--node-service-account", "address"},
		"proxy":             {append(whole, "--cloudsql-proxy=pod"), "--cloudsql-proxy", "sidecar"},
		"one account":       {append(whole, "--cloudsql-instance=my-project:europe-west1:mlops", "--cloudsql-service-account=mlflow"), "both mlflow@my-project", "sidecar"},
		"sidecar's account": {append(whole, "--cloudsql-proxy=sidecar", "--cloudsql-service-account=mlflow-x"), "--cloudsql-service-account is for", "leave"},
		"two ways":          {append(whole, "--cloudsql-instance=my-project:europe-west1:mlops", "--psc", "--private-ip"), "two ways", "choose one"},
		"principal's user":  {append(whole, "--cloudsql-instance=my-project:europe-west1:mlops", "--identity=principal", "--auto-iam-authn"), "--auto-iam-authn does not go with", "workload-identity"},
		"IAM user":          {append(whole, "--cloudsql-instance=my-project:europe-west1:mlops", "--auto-iam-authn", "--database-user=mlflow"), "--database-user", "mlflow-cloudsql-proxy@my-project.iam"},
		"user":              {append(whole, "--cloudsql-instance=my-project:europe-west1:mlops", "--database-user=a@b"), "--database-user", "--auto-iam-authn"},
		"database":          {append(whole, "--cloudsql-instance=my-project:europe-west1:mlops", "--database-name=a;b"), "--database-name", "mlflowdb"},
		"secret":            {append(whole, "--cloudsql-instance=my-project:europe-west1:mlops", "--database-secret=A B"), "--database-secret", "DB_PASSWORD"},
	} {
		t.Run(name, func(t *testing.T) {
			out, _, err := setup(t, nil, c.args...)
			known, ok := errors.AsType[*failure.Error](err)
			if !ok || known.Class != failure.Invalid || !strings.Contains(known.Error(), c.want) || !strings.Contains(known.Hint, c.hint) {
				t.Errorf("%v (%+v), want Invalid with %q and hint %q", err, known, c.want, c.hint)
			}
			if out != "" {
				t.Errorf("stdout %q", out)
			}
		})
	}
}

func TestASharedAccountIsWarnedOf(t *testing.T) {
	_, said, err := setup(t, nil, "--project=my-project", "--location=EU", bucket, "--identity=node")
	if err != nil || !strings.HasPrefix(said, "warning: the account of the nodes is shared") {
		t.Errorf("%v, stderr %q", err, said)
	}
}

// preparer says that some things were done.
type preparer struct {
	number string
	done   []trackingserver.GoogleResult
	err    error

	installed bool
	unseen    error
	refused   error
}

func (p preparer) InstalledFor(context.Context, trackingserver.Google) (bool, error) {
	return p.installed, p.unseen
}

func (p preparer) SetIdentity(_ context.Context, g trackingserver.Google) ([]trackingserver.Change, error) {
	google, _ := g.Accounts()
	return []trackingserver.Change{{GroupVersionKind: schema.GroupVersionKind{Version: "v1", Kind: "ServiceAccount"}, Name: google, Action: "configured"}}, p.refused
}

func (p preparer) SetUpGoogle(_ context.Context, g trackingserver.Google) (trackingserver.Google, []trackingserver.GoogleResult, error) {
	g.Number = p.number
	complete, err := g.Complete()
	return complete, p.done, errors.Join(err, p.err)
}

func TestWhatWasDoneIsData(t *testing.T) {
	done := []trackingserver.GoogleResult{{Object: "bucket gs://mlflow-prod", Action: "created"}, {Object: "grants to x", Action: "left to you"}}
	flags := Flags{Proxy: "deployment", Apply: true}
	flags.Google = trackingserver.Google{CloudSQLInstance: "my-project:europe-west1:mlops", ArtifactsDestination: "gs://mlflow-prod", Identity: "node", AutoIAMAuthn: true}
	run := func(p preparer) (stdout, stderr string, err error) {
		streams, _, out, errOut := genericiooptions.NewTestIOStreams()
		o, err := flags.ToOptions(func(string) string { return "" })
		if err != nil {
			t.Fatal(err)
		}
		o.Preparer, o.Streams, o.Talk = p, streams, ui.NewProgress(streams.ErrOut)
		o.Next = func(words ...string) string { return "kubectl mlflow " + strings.Join(words, " ") }
		err = o.Run(t.Context())
		o.Talk.Close()
		return out.String(), errOut.String(), err
	}
	out, said, err := run(preparer{number: "123", done: done})
	if err != nil || out != "bucket gs://mlflow-prod: created\ngrants to x: left to you\n" {
		t.Errorf("%v, stdout %q", err, out)
	}
	for _, want := range []string{
		"Left to you, as user postgres in database mlflowdb of my-project:europe-west1:mlops:\n",
		`  GRANT USAGE, CREATE ON SCHEMA public TO "123-compute@developer";` + "\n",
		"Next: kubectl mlflow install --overlay gcp-cloudsql ", "--database-user 123-compute@developer\n",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not in stderr\n%s", want, said)
		}
	}
	lost := fmt.Errorf("no more")
	if out, said, err := run(preparer{number: "123", done: done[:1], err: lost}); !errors.Is(err, lost) || out != "bucket gs://mlflow-prod: created\n" || strings.Contains(said, "Next") {
		t.Errorf("%v, stdout %q, stderr %q", err, out, said)
	}
}

func TestAnInstalledMLflowIsToldItsAccounts(t *testing.T) {
	refused := errors.New("another run is under way")
	for name, c := range map[string]struct {
		preparer preparer
		identity string
		out      string
		said     string
		err      error
	}{
		"installed":     {preparer{installed: true}, "workload-identity", "serviceaccount/mlflow@my-project.iam.gserviceaccount.com configured\n", "Next: kubectl mlflow install", nil},
		"not installed": {preparer{}, "workload-identity", "", "Next: kubectl mlflow install", nil},
		"not seen":      {preparer{unseen: errors.New("no kubeconfig")}, "workload-identity", "", "was not to be seen: no kubeconfig\nNext: ", nil},
		"no accounts":   {preparer{installed: true, unseen: errors.New("not asked")}, "principal", "", "Next: kubectl mlflow install", nil},
		"refused":       {preparer{installed: true, refused: refused}, "workload-identity", "serviceaccount/mlflow@my-project.iam.gserviceaccount.com configured\n", "", refused},
	} {
		t.Run(name, func(t *testing.T) {
			flags := Flags{Proxy: "deployment", Apply: true}
			flags.Google = trackingserver.Google{Project: "my-project", Location: "EU", ArtifactsDestination: "gs://mlflow-prod", Identity: c.identity}
			streams, _, out, errOut := genericiooptions.NewTestIOStreams()
			o, err := flags.ToOptions(func(string) string { return "" })
			if err != nil {
				t.Fatal(err)
			}
			o.Preparer, o.Streams, o.Talk = c.preparer, streams, ui.NewProgress(streams.ErrOut)
			o.Next = func(words ...string) string { return "kubectl mlflow " + strings.Join(words, " ") }
			err = o.Run(t.Context())
			o.Talk.Close()
			if !errors.Is(err, c.err) || out.String() != c.out || !strings.Contains(errOut.String(), c.said) {
				t.Errorf("%v, stdout %q, stderr %q", err, out, errOut)
			}
		})
	}
}
