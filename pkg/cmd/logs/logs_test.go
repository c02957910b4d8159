package logs

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/trackingserver"
)

type written []trackingserver.LogLine

func (w written) Logs(_ context.Context, _ trackingserver.LogOptions, show func(trackingserver.LogLine) error) error {
	for _, line := range w {
		if err := show(line); err != nil {
			return err
		}
	}
	return nil
}

type closed struct{}

func (closed) Write([]byte) (int, error) { return 0, errors.New("nobody reads") }

func TestLinesArePrinted(t *testing.T) {
	lines := written{{Source: "server-1", Component: "server", Time: time.Unix(0, 0), Text: "hello"}}
	var b strings.Builder
	if err := run(t.Context(), lines, trackingserver.LogOptions{}, ui.NewLog(&b)); err != nil || b.String() != "[server-1] hello\n" {
		t.Errorf("printed %q, %v", b.String(), err)
	}
	if err := run(t.Context(), lines, trackingserver.LogOptions{}, ui.NewLog(closed{})); err == nil || !strings.Contains(err.Error(), "nobody reads") {
		t.Errorf("a reader that is gone: %v", err)
	}
}
