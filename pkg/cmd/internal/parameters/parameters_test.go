package parameters

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/trackingserver"
)

func parse(t *testing.T, args ...string) (trackingserver.Parameters, []string, error) {
	t.Helper()
	set := pflag.NewFlagSet("install", pflag.ContinueOnError)
	flags := Add(set)
	if err := set.Parse(args); err != nil {
		t.Fatal(err)
	}
	return flags.Parameters("ml")
}

func TestFlagsBecomeParameters(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "config.env")
	if err := os.WriteFile(file, []byte("DEFAULT_ARTIFACT_ROOT=gs://team-mlflow\nBACKUP_KEEP=5\nBASIC_AUTH=true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	mine := filepath.Join(dir, "mine")
	if err := os.Mkdir(mine, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(mine, "kustomization.yaml"), []byte("commonAnnotations: {a: b}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args  []string
		want  trackingserver.Parameters
		notes int
	}{
		"nothing":        {nil, trackingserver.Parameters{}, 0},
		"a value":        {[]string{"--database-storage", "50Gi"}, trackingserver.Parameters{DatabaseStorage: "50Gi"}, 0},
		"a switch":       {[]string{"--basic-auth", "--psc=false", "--service-monitor=1"}, trackingserver.Parameters{BasicAuth: "true", PSC: "false", ServiceMonitor: "true"}, 0},
		"cloudsql":       {[]string{"--cloudsql"}, trackingserver.Parameters{Overlay: "gcp-cloudsql"}, 0},
		"cloudsql twice": {[]string{"--cloudsql", "--overlay=gcp-cloudsql"}, trackingserver.Parameters{Overlay: "gcp-cloudsql"}, 0},
		"a file": {[]string{"--overlay=gcp", "--params-file", file, "--backup-keep=7"},
			trackingserver.Parameters{Overlay: "gcp", ArtifactsDestination: "gs://team-mlflow", BackupKeep: "7", BasicAuth: "true"}, 1},
		"a switch over a file": {[]string{"--overlay=gcp", "--params-file", file, "--basic-auth=false"},
			trackingserver.Parameters{Overlay: "gcp", ArtifactsDestination: "gs://team-mlflow", BackupKeep: "5", BasicAuth: "false"}, 1},
		"a kustomization":    {[]string{"-k", mine}, trackingserver.Parameters{Kustomization: map[string]string{"kustomization.yaml": "commonAnnotations: {a: b}\n"}}, 0},
		"no kustomization":   {[]string{"-k", "none"}, trackingserver.Parameters{Kustomization: map[string]string{}}, 0},
		"something no more":  {[]string{"--ingress-host=none"}, trackingserver.Parameters{IngressHost: "none"}, 0},
		"a comma in a value": {[]string{"--requests=cpu=1,memory=2Gi"}, trackingserver.Parameters{Requests: "cpu=1,memory=2Gi"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			got, notes, err := parse(t, c.args...)
			if err != nil {
				t.Fatal(err)
			}
			c.want.Namespace = "ml"
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			if len(notes) != c.notes {
				t.Errorf("notes are %q", notes)
			}
		})
	}
}

func TestWhatIsWrongIsInvalid(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "large.env")
	if err := os.WriteFile(large, []byte(strings.Repeat("#\n", maxFile)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"--cloudsql", "--overlay=local"}, {"--params-file", filepath.Join(dir, "missing.env")}, {"--params-file", dir}, {"--params-file", large},
		{"-k", filepath.Join(dir, "missing")}, {"-k", dir}, {"--database-storage=much"}, {"--cloudsql", "--database-storage=1Gi"},
	} {
		if _, _, err := parse(t, args...); failure.ClassOf(err) != failure.Invalid {
			t.Errorf("%q: got %v, want Invalid", args, err)
		}
	}
	set := pflag.NewFlagSet("install", pflag.ContinueOnError)
	Add(set)
	if err := set.Parse([]string{"--basic-auth=perhaps"}); err == nil {
		t.Error("--basic-auth=perhaps is taken")
	}
}

// Whoever reads --help finds every parameter, in one line with an example of a value.
func TestEveryFlagIsExplained(t *testing.T) {
	set := pflag.NewFlagSet("install", pflag.ContinueOnError)
	Add(set)
	var p trackingserver.Parameters
	for _, parameter := range p.All() {
		flag := set.Lookup(strings.TrimPrefix(parameter.Flag, "--"))
		switch {
		case flag == nil:
			t.Errorf("there is no flag %s", parameter.Flag)
		case flag.Usage == "" || strings.Contains(flag.Usage, "\n") || strings.HasSuffix(flag.Usage, ".") || strings.Contains(flag.Usage, "`"):
			t.Errorf("%s is explained with %q", parameter.Flag, flag.Usage)
		case !parameter.Switch && parameter.Flag != "--cloudsql-proxy" && !strings.Contains(flag.Usage, "for instance "):
			t.Errorf("%s is explained without an example: %q", parameter.Flag, flag.Usage)
		case !slices.Contains([]string{"string", "bool"}, flag.Value.Type()) || flag.DefValue != "":
			t.Errorf("%s is a %s with the default %q", parameter.Flag, flag.Value.Type(), flag.DefValue)
		}
	}
}
