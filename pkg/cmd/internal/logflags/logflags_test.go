package logflags

import (
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

func TestFlags(t *testing.T) {
	now := time.Unix(1000, 0)
	for _, c := range []struct {
		args  []string
		ok    bool
		since int64
		tail  int64
	}{
		{nil, true, 0, 100},
		{[]string{"--tail", "-1"}, true, 0, 0},
		{[]string{"--tail", "5", "-f"}, true, 0, 5},
		{[]string{"--since", "10s"}, true, 990, 0},
		{[]string{"--since", "10s", "--tail", "3", "-p"}, true, 990, 3},
		{[]string{"-f", "-p"}, false, 0, 0},
		{[]string{"--since", "-1s"}, false, 0, 0},
	} {
		set := pflag.NewFlagSet("logs", pflag.ContinueOnError)
		f := Add(set)
		if err := set.Parse(c.args); err != nil {
			t.Fatal(err)
		}
		err := f.Check()
		if !c.ok {
			if failure.ClassOf(err) != failure.Invalid {
				t.Errorf("%v: %v", c.args, err)
			}
			continue
		}
		since, tail := f.Begin(now, set.Changed("tail"))
		if err != nil || tail != c.tail || c.since == 0 != since.IsZero() || c.since > 0 && since.Unix() != c.since {
			t.Errorf("%v: since %s, %d lines, %v", c.args, since, tail, err)
		}
	}
}
