package gcp

import (
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"

	"github.com/kubectl-mlflow/kubectl-mlflow/manifests"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/parameters"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/trackingserver"
)

// What comes last, install has to understand.
func TestInstallKnowsTheWordsThatItIsGiven(t *testing.T) {
	sql := trackingserver.Google{CloudSQLInstance: "example.com:my-project:europe-west1:mlops", CloudSQL: true, ArtifactsDestination: "gs://mlflow-prod/a", DatabaseName: "tracking"}
	bucketOnly := trackingserver.Google{Project: "my-project", Location: "EU", ArtifactsDestination: "gs://mlflow-prod"}
	setups := []trackingserver.Google{bucketOnly, sql}
	for _, change := range []func(*trackingserver.Google){
		func(g *trackingserver.Google) { g.Sidecar, g.PSC = true, true },
		func(g *trackingserver.Google) { g.PrivateIP, g.DatabaseUser = true, "tracker" },
		func(g *trackingserver.Google) { g.AutoIAMAuthn = true },
		func(g *trackingserver.Google) { g.AutoIAMAuthn, g.Sidecar = true, true },
	} {
		g := sql
		change(&g)
		setups = append(setups, g)
	}
	for _, g := range setups {
		for _, identity := range trackingserver.GoogleIdentities() {
			if identity == "principal" && g.AutoIAMAuthn {
				continue
			}
			g.Identity, g.Number = identity, "123456789012"
			complete, err := g.Complete()
			if err != nil {
				t.Fatal(err)
			}
			words := complete.InstallWords()
			set := pflag.NewFlagSet("install", pflag.ContinueOnError)
			flags := parameters.Add(set)
			if err := set.Parse(words[1:]); err != nil || words[0] != "install" || set.NArg() > 0 {
				t.Errorf("%s: %v", strings.Join(words, " "), err)
				continue
			}
			p, _, err := flags.Parameters("mlflow")
			if err == nil {
				err = p.Validate()
			}
			if err != nil {
				t.Errorf("%s: %v", strings.Join(words, " "), err)
			}
			if google, cloudsql := complete.Accounts(); p.GoogleServiceAccount != google || p.CloudSQLServiceAccount != cloudsql {
				t.Errorf("%s: accounts %q and %q, want %q and %q", strings.Join(words, " "), p.GoogleServiceAccount, p.CloudSQLServiceAccount, google, cloudsql)
			}
		}
	}
}

func TestTheNamespaceIsAsInInstalls(t *testing.T) {
	text, err := fs.ReadFile(manifests.FS, "base/namespace.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var namespace struct {
		Metadata struct{ Labels map[string]string }
	}
	if err := yaml.Unmarshal(text, &namespace); err != nil {
		t.Fatal(err)
	}
	var labels []string
	for _, name := range slices.Sorted(maps.Keys(namespace.Metadata.Labels)) {
		labels = append(labels, name+"="+namespace.Metadata.Labels[name])
	}
	if got := strings.Join(labels, " "); got != namespaceLabels {
		t.Errorf("the manifests have %q, want %q", got, namespaceLabels)
	}
}
