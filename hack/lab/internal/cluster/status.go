package cluster

import (
	"context"
	"errors"
	"io/fs"
	"strconv"

	"github.com/kubectl-mlflow/kubectl-mlflow/hack/lab/internal/node"
)

// Status is how a cluster is: its processes, then what the cluster itself says.
type Status struct {
	Key    string
	Checks []Check
}

// Ready tells whether everything is.
func (s Status) Ready() bool { return len(pending(s.Checks)) == 0 }

// Status looks at everything once; ErrDown where nothing runs.
func (l Layout) Status(ctx context.Context) (Status, error) {
	env, err := l.Env()
	if err != nil {
		return Status{}, err
	}
	state, err := node.ReadState(l.Run())
	if errors.Is(err, fs.ErrNotExist) {
		return Status{}, ErrDown
	}
	if err != nil {
		return Status{}, err
	}
	s := Status{Key: state.Key}
	for _, c := range state.Components {
		check := Check{Name: c.Name, Ready: c.Ready, Detail: "pid " + strconv.Itoa(c.PID)}
		if c.Restarts > 0 {
			check.Detail += ", restarted " + strconv.Itoa(c.Restarts) + " times, last ended with " + c.LastExit
		}
		if !c.Ready {
			check.Detail = describe(c)
		}
		s.Checks = append(s.Checks, check)
	}
	client, err := l.client(env.Server, env.Bin)
	if err != nil {
		return s, err
	}
	defer client.http.CloseIdleConnections()
	s.Checks = append(s.Checks, client.checks(ctx, l.Profile)...)
	return s, nil
}
