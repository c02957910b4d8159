package restore

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/trackingserver"
)

type restorer struct {
	restored trackingserver.Restored
	err      error
}

func (r restorer) Restore(_ context.Context, _ trackingserver.Restoration, o trackingserver.Options) (trackingserver.Restored, error) {
	o.Say("it is away")
	return r.restored, r.err
}

func TestRestoreSaysTheWayBack(t *testing.T) {
	const name, old = "mlflow-20260102T030405Z", "mlflow-20260103T030405Z"
	for _, c := range []struct {
		name     string
		restorer restorer
		stdout   string
		says     []string
	}{
		{"something was there", restorer{restored: trackingserver.Restored{Backup: name, Before: old}}, name + "\n", []string{"it is away", "kubectl mlflow restore " + old + " --replace"}},
		{"nothing was there", restorer{restored: trackingserver.Restored{Backup: name}}, name + "\n", []string{"it is away", "answers.\n"}},
		{"it failed", restorer{restored: trackingserver.Restored{Backup: name}, err: errors.New("no")}, "", []string{"it is away"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			streams, _, out, talk := genericiooptions.NewTestIOStreams()
			said := ui.NewProgress(talk)
			o := &Options{Flags: Flags{Timeout: time.Minute}, Restorer: c.restorer, Streams: streams, Talk: said}
			err := o.Run(t.Context())
			said.Close()
			if !errors.Is(err, c.restorer.err) || out.String() != c.stdout {
				t.Errorf("printed %q, %v", out, err)
			}
			for _, text := range c.says {
				if !strings.Contains(talk.String(), text) {
					t.Errorf("said %q, want %q", talk, text)
				}
			}
		})
	}
}

func TestADumpIsLookedAtBeforeAnythingElse(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for path, says := range map[string]string{
		filepath.Join(dir, "none"):        "no such file",
		dir:                               "it is no file",
		write("empty", ""):                "custom format",
		write("sql", "-- PostgreSQL"):     "custom format",
		write("short", "PGD"):             "custom format",
		write("gzip", "\x1f\x8b\x08\x00"): "custom format",
	} {
		flags := Flags{FromFile: path, Timeout: time.Minute}
		_, err := flags.restoration(t.Context(), nil)
		if failure.ClassOf(err) != failure.Invalid || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v", path, err)
		}
	}
	flags := Flags{FromFile: write("dump", "PGDMP"+strings.Repeat("x", 5)), Timeout: time.Minute}
	r, err := flags.restoration(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.Dump.Size != 10 || r.Dump.SHA256 != "eee5aa23cb6f616763145f2f92571669915c15ffcdb293fb2910e379ab651ad7" {
		t.Errorf("it is %+v", r.Dump)
	}
	file, err := r.Dump.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if all, err := io.ReadAll(file); err != nil || string(all) != "PGDMPxxxxx" {
		t.Errorf("it holds %q, %v", all, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := flags.restoration(ended, nil); !errors.Is(err, context.Canceled) || failure.ClassOf(err) != "" {
		t.Errorf("interrupted, it is %v", err)
	}
}
