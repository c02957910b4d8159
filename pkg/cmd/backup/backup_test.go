package backup

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/trackingserver"
)

type keeper struct {
	backups []trackingserver.Backup
	err     error
}

func (k keeper) Backup(context.Context) (string, error) { return "mlflow-20260102T030405Z", k.err }

func (k keeper) Backups(context.Context) ([]trackingserver.Backup, error) { return k.backups, k.err }

func run(t *testing.T, k keeper, flags Flags) (stdout, stderr string, err error) {
	t.Helper()
	streams, _, out, talk := genericiooptions.NewTestIOStreams()
	flags.Timeout = time.Minute
	said := ui.NewProgress(talk)
	o := &Options{Flags: flags, Keeper: k, Streams: streams, Talk: said, Make: "kubectl mlflow backup"}
	err = o.Run(t.Context())
	said.Close()
	return out.String(), talk.String(), err
}

func TestABackupIsItsName(t *testing.T) {
	out, _, err := run(t, keeper{}, Flags{})
	if err != nil || out != "mlflow-20260102T030405Z\n" {
		t.Errorf("got %q, %v", out, err)
	}
	if out, _, err = run(t, keeper{err: errors.New("no")}, Flags{}); err == nil || out != "" {
		t.Errorf("one that failed prints %q, %v", out, err)
	}
}

func TestListSaysNameTimeAndSize(t *testing.T) {
	one := keeper{backups: []trackingserver.Backup{{Name: "mlflow-20260102T030405Z", Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Size: 2048}}}
	for format, want := range map[string]string{
		"":     "NAME                      BEGUN                  SIZE\nmlflow-20260102T030405Z   2026-01-02T03:04:05Z   2.0 KiB\n",
		"yaml": "items:\n- name: mlflow-20260102T030405Z\n  size: 2048\n  time: \"2026-01-02T03:04:05Z\"\n",
	} {
		if out, _, err := run(t, one, Flags{List: true, Output: format}); err != nil || out != want {
			t.Errorf("as %q: %v\n%s", format, err, out)
		}
	}
	out, talk, err := run(t, keeper{}, Flags{List: true})
	if err != nil || out != "" || !strings.Contains(talk, "kubectl mlflow backup") {
		t.Errorf("of none: %q, %q, %v", out, talk, err)
	}
	if out, _, err = run(t, keeper{}, Flags{List: true, Output: "json"}); err != nil || !strings.Contains(out, `"items": []`) {
		t.Errorf("of none as json: %q, %v", out, err)
	}
}
