package gcp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-mlflow/kubectl-mlflow/manifests"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/args"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/trackingserver"
)

// Flags is what the user typed.
type Flags struct {
	Google  trackingserver.Google
	Overlay string
	Proxy   string
	Apply   bool
}

func newSetup(getter trackingserver.Getter, streams genericiooptions.IOStreams, talk *ui.Progress, getenv func(string) string) *cobra.Command {
	flags := Flags{Proxy: "deployment"}
	command := &cobra.Command{
		Use:   "setup",
		Short: "Print, or run, the gcloud commands that MLflow needs on Google Cloud",
		Long: `Print the gcloud commands that make what MLflow needs on Google Cloud: a bucket, service
accounts with no more roles than they need, and with --cloudsql a database and its user. Last
comes the install that uses it all. Nothing is asked or changed anywhere.

With --apply they are run by the gcloud on the PATH, but for what is there already, and where
MLflow is installed its Kubernetes accounts are annotated. It can be interrupted and repeated.
A password or a key goes from gcloud into a Secret or from a Secret into gcloud: it is in no
file, no argument and no output.

How MLflow's pods show who they are is chosen with --identity:
  workload-identity  the Kubernetes accounts act as service accounts (recommended)
  principal          the Kubernetes accounts hold the roles themselves
  key                keys of the service accounts, exported into Secrets
  node               the account of the nodes, which all pods on them share

What a flag does not say is read from the variables PROJECT_ID, REGION, BUCKET_NAME_MLFLOW,
MLFLOW_SERVICE_ACCOUNT_ID, MLFLOW_CLOUDSQL_SERVICE_ACCOUNT_ID and, with --cloudsql,
GCP_CLOUDSQL_INSTANCE_NAME or CLOUDSQL_INSTANCE_NAME. The namespace is that of -n, else mlflow.`,
		Example: `  # What would have to be done for artifacts in a bucket
  kubectl mlflow gcp setup --project my-project --location europe-west1 --artifacts-destination gs://my-mlflow

  # Do it, with the database in Cloud SQL, where no password is needed
  kubectl mlflow gcp setup --cloudsql --cloudsql-instance my-project:europe-west1:mlops \
    --artifacts-destination gs://my-mlflow --auto-iam-authn --apply`,
		Args:        args.Exactly(),
		Annotations: map[string]string{ui.Interrupted: "what was made at Google stays there"},
		RunE: func(c *cobra.Command, _ []string) error {
			flags.Google.Namespace = c.Flag("namespace").Value.String()
			o, err := flags.ToOptions(getenv)
			if err != nil {
				return err
			}
			o.Streams, o.Talk = streams, talk
			o.Next = func(words ...string) string { return ui.Next(c, words...) }
			o.Kubectl = "kubectl" + strings.TrimPrefix(ui.Next(c), c.Root().DisplayName())
			if flags.Google.Namespace == "" {
				o.Kubectl += " -n " + o.Complete.Namespace
			}
			o.Preparer = trackingserver.New(getter, manifests.FS, talk)
			return o.Run(c.Context())
		},
	}
	g, f := &flags.Google, command.Flags()
	f.BoolVar(&flags.Apply, "apply", false, "Run the commands, but for what is there already")
	f.StringVar(&g.Identity, "identity", g.Identity, "How pods show who they are: "+strings.Join(trackingserver.GoogleIdentities(), ", ")+". Default: "+trackingserver.GoogleIdentities()[0])
	f.StringVar(&flags.Overlay, "overlay", flags.Overlay, "What will be installed: gcp (artifacts in a bucket), gcp-cloudsql (the database in Cloud SQL too). Default: gcp")
	f.BoolVar(&g.CloudSQL, "cloudsql", g.CloudSQL, "Short for --overlay gcp-cloudsql")
	f.StringVar(&g.Project, "project", g.Project, "ID of the project of bucket and service accounts. Default: $PROJECT_ID, else the instance's")
	f.StringVar(&g.Location, "location", g.Location, "Where a new bucket is, as europe-west1 or EU. Default: $REGION, else the instance's")
	f.StringVar(&g.WorkloadPool, "workload-pool", g.WorkloadPool, "Workload identity pool of the cluster. Default: that of clusters in the project, PROJECT.svc.id.goog")
	f.StringVar(&g.ArtifactsDestination, "artifacts-destination", g.ArtifactsDestination, "Where MLflow will keep artifacts, as gs://BUCKET/PREFIX. Default: gs://$BUCKET_NAME_MLFLOW")
	f.StringVar(&g.ServiceAccount, "google-service-account", g.ServiceAccount, "ID or address of MLflow's service account. Default: $MLFLOW_SERVICE_ACCOUNT_ID, else mlflow")
	f.StringVar(&g.CloudSQLServiceAccount, "cloudsql-service-account", g.CloudSQLServiceAccount,
		"ID or address of the Cloud SQL proxy's service account. Default: $MLFLOW_CLOUDSQL_SERVICE_ACCOUNT_ID, else mlflow-cloudsql-proxy")
	f.StringVar(&g.NodeServiceAccount, "node-service-account", g.NodeServiceAccount, "With --identity node: address of the nodes' account. Default: Compute Engine's own of the cluster's project")
	f.StringVar(&g.CloudSQLInstance, "cloudsql-instance", g.CloudSQLInstance, "The instance, as PROJECT:REGION:INSTANCE. Default: $GCP_CLOUDSQL_INSTANCE_NAME, else of $PROJECT_ID, $REGION and $CLOUDSQL_INSTANCE_NAME")
	f.StringVar(&flags.Proxy, "cloudsql-proxy", flags.Proxy, "How the Cloud SQL Auth Proxy will run: deployment (with an account of its own), sidecar (as MLflow)")
	f.BoolVar(&g.PrivateIP, "private-ip", g.PrivateIP, "The instance is reached at its private address")
	f.BoolVar(&g.PSC, "psc", g.PSC, "The instance is reached through Private Service Connect")
	f.BoolVar(&g.AutoIAMAuthn, "auto-iam-authn", g.AutoIAMAuthn, "The proxy logs in to the database as its service account, without a password")
	f.StringVar(&g.DatabaseName, "database-name", g.DatabaseName, "Name of the database. Default: mlflowdb")
	f.StringVar(&g.DatabaseUser, "database-user", g.DatabaseUser, "User of the database. Default: mlflow; with --auto-iam-authn the proxy's account")
	f.StringVar(&g.DatabaseSecret, "database-secret", g.DatabaseSecret, "Secret with the user's password in DB_PASSWORD; one that is not there is made. Default: mlflow-database")
	return command
}

// ToOptions checks what needs no network.
func (f *Flags) ToOptions(getenv func(string) string) (*Options, error) {
	g := f.Google
	switch f.Overlay {
	case "gcp-cloudsql":
		g.CloudSQL = true
	case "":
		g.CloudSQL = g.CloudSQL || g.CloudSQLInstance != ""
	case "gcp":
		if g.CloudSQL || g.CloudSQLInstance != "" {
			return nil, invalid("OtherOverlaysParameter", "overlay gcp has its database in the cluster", "leave --cloudsql and --cloudsql-instance out, or choose --overlay gcp-cloudsql")
		}
	default:
		return nil, invalid("InvalidParameter", fmt.Sprintf("--overlay %q needs nothing of Google Cloud", f.Overlay), "choose one of: gcp, gcp-cloudsql")
	}
	switch f.Proxy {
	case "deployment":
	case "sidecar":
		g.Sidecar = true
	default:
		return nil, invalid("InvalidParameter", fmt.Sprintf("--cloudsql-proxy %q is not valid", f.Proxy), "choose one of: deployment, sidecar")
	}
	if g.Sidecar && g.CloudSQLServiceAccount != "" {
		return nil, invalid("SidecarHasNoIdentity", "--cloudsql-service-account is for a proxy with pods of its own; in the sidecar it has the identity of MLflow's pods",
			"leave it out, or leave --cloudsql-proxy=sidecar out")
	}
	variables := fromEnvironment(&g, getenv)
	complete, err := g.Complete()
	return &Options{Google: g, Complete: complete, Variables: variables, Apply: f.Apply}, err
}

// fromEnvironment fills in what the flags do not say, from the variables of the guide, and returns the names of those it took.
func fromEnvironment(g *trackingserver.Google, getenv func(string) string) []string {
	var took []string
	take := func(to *string, variable string, form func(string) string) {
		if value := getenv(variable); *to == "" && value != "" {
			*to = form(value)
			took = append(took, variable)
		}
	}
	as := func(value string) string { return value }
	if g.CloudSQL {
		take(&g.CloudSQLInstance, "GCP_CLOUDSQL_INSTANCE_NAME", as)
		project, region := cmp.Or(g.Project, getenv("PROJECT_ID")), getenv("REGION")
		if project != "" && region != "" {
			take(&g.CloudSQLInstance, "CLOUDSQL_INSTANCE_NAME", func(name string) string { return project + ":" + region + ":" + name })
		}
		if !g.Sidecar {
			take(&g.CloudSQLServiceAccount, "MLFLOW_CLOUDSQL_SERVICE_ACCOUNT_ID", as)
		}
	}
	take(&g.Project, "PROJECT_ID", as)
	take(&g.Location, "REGION", as)
	take(&g.ArtifactsDestination, "BUCKET_NAME_MLFLOW", func(name string) string { return "gs://" + strings.TrimPrefix(name, "gs://") })
	take(&g.ServiceAccount, "MLFLOW_SERVICE_ACCOUNT_ID", as)
	return took
}

func invalid(reason, message, hint string) error {
	return &failure.Error{Class: failure.Invalid, Reason: reason, Message: message, Hint: hint}
}

// Preparer is the part of trackingserver.Client that this verb needs.
type Preparer interface {
	InstalledFor(ctx context.Context, g trackingserver.Google) (bool, error)
	SetIdentity(ctx context.Context, g trackingserver.Google) ([]trackingserver.Change, error)
	SetUpGoogle(ctx context.Context, g trackingserver.Google) (trackingserver.Google, []trackingserver.GoogleResult, error)
}

// Options is what the verb needs.
type Options struct {
	Preparer  Preparer
	Google    trackingserver.Google // as it was said
	Complete  trackingserver.Google // with all that it was not
	Variables []string              // of the environment, that were taken
	Apply     bool
	Streams   genericiooptions.IOStreams
	Talk      *ui.Progress
	Kubectl   string                       // kubectl, with the flags that choose cluster and namespace
	Next      func(words ...string) string // command line of this program
}

// Run prints the commands, or runs them.
func (o *Options) Run(ctx context.Context) error {
	if len(o.Variables) > 0 {
		o.Talk.Say("Taken from the environment: %s.", strings.Join(o.Variables, ", "))
	}
	if o.Complete.Identity == "node" {
		o.Talk.Say("warning: %s", nodeWarning)
	}
	if !o.Apply {
		_, err := io.WriteString(o.Streams.Out, o.script())
		return err
	}
	complete, done, err := o.Preparer.SetUpGoogle(ctx, o.Google)
	var b strings.Builder
	for _, d := range done {
		fmt.Fprintf(&b, "%s: %s\n", ui.Escape(d.Object), ui.Escape(d.Action))
		if d.Note != "" {
			o.Talk.Say("warning: %s: %s", d.Object, d.Note)
		}
	}
	_, werr := io.WriteString(o.Streams.Out, b.String())
	if err = errors.Join(err, werr); err != nil {
		return err
	}
	if slices.ContainsFunc(done, trackingserver.GoogleResult.Changed) {
		o.Talk.Say("Google Cloud is prepared. A new role may need 2 to 7 minutes until it holds everywhere.")
	} else {
		o.Talk.Say("Google Cloud is prepared; nothing changed.")
	}
	if err := o.identify(ctx, complete); err != nil {
		return err
	}
	for _, step := range trackingserver.PlanGoogle(complete) {
		if step.SQL == nil {
			continue
		}
		o.Talk.Say("Left to you, as user postgres in database %s of %s:", step.Database, step.Instance)
		for _, statement := range step.SQL {
			o.Talk.Say("  %s", statement)
		}
	}
	o.Talk.Say("Next: %s", o.install(complete))
	return nil
}

// looking is how long a cluster may take to say whether MLflow is installed: there may be none yet.
const looking = 10 * time.Second

// identify annotates the Kubernetes accounts where MLflow is installed already.
func (o *Options) identify(ctx context.Context, g trackingserver.Google) error {
	if google, _ := g.Accounts(); google == "" {
		return nil
	}
	looked, cancel := context.WithTimeout(ctx, looking)
	defer cancel()
	installed, err := o.Preparer.InstalledFor(looked, g)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		o.Talk.Say("Whether MLflow is installed in namespace %s was not to be seen: %v", g.Namespace, err)
		return nil
	case !installed:
		return nil
	}
	changes, err := o.Preparer.SetIdentity(ctx, g)
	return errors.Join(err, ui.PrintChanges(o.Streams.Out, "", "", changes))
}

// nodeWarning is the guide's.
const nodeWarning = "the account of the nodes is shared by all that runs on them: every pod there gets these roles, which is more than it needs. " +
	"Nodes need the access scope cloud-platform, and in clusters with Workload Identity pods do not have this account at all"
