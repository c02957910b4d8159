package trackingserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/forward"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/instance"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/readiness"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/tracking"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

const (
	// again is how long to wait before MLflow is asked again.
	again = time.Second
	// answering is how long an MLflow whose pods are ready may take to answer: a database that fails over is away for so long.
	answering = 3 * time.Minute
	// logTail lines of its log say why it does not.
	serverContainer, logTail = "mlflow", 15
)

// Wait returns when the pods of database and server are ready and MLflow answers a question that only its database can
// answer. failure.Diagnosed where waiting will not help, failure.TimedOut when ctx ends first: both say what is not ready.
func (c *Client) Wait(ctx context.Context) error {
	record, err := c.running(ctx)
	if err != nil {
		return err
	}
	for _, item := range record.Inventory.Items {
		if item.Kind != "StatefulSet" && item.Kind != "Deployment" {
			continue
		}
		err := progress.Do(c.progress, fmt.Sprintf("Waiting for the pods of %s", item.Ref), func(s progress.Step) error {
			live, err := c.get(ctx, item.Ref)
			if err == nil {
				err = awake(live)
			}
			if err != nil {
				return err
			}
			return c.wait(ctx, []readiness.Target{{Object: item.Ref}}, s)
		})
		if err != nil {
			return err
		}
	}
	return c.answers(ctx, record)
}

// PortForward serves MLflow on the listeners until ctx ends. It calls ready once MLflow has answered through the tunnel:
// from then on the listeners lead to it. The tunnel outlives the pods. The caller closes the listeners.
func (c *Client) PortForward(ctx context.Context, listeners []net.Listener, ready func()) error {
	record, err := c.running(ctx)
	if err != nil {
		return err
	}
	t := c.dial(record.HTTP)
	err = progress.Do(c.progress, "Asking MLflow and its database", func(progress.Step) error {
		question, err := c.question(ctx, record)
		if err != nil {
			return err
		}
		return question(ctx, t)
	})
	if err == nil {
		ready()
		t.KeepSpare()
		err = forward.Serve(ctx, listeners, t.DialContext, c.progress)
	}
	return errors.Join(err, t.Close())
}

// running is the installation to work on. failure.Invalid where there is none, or only its data.
func (c *Client) running(ctx context.Context) (*instance.Instance, error) {
	record, err := c.installed(ctx)
	if err != nil {
		return nil, err
	}
	return record, record.Running()
}

// answers returns when MLflow has answered from its database.
func (c *Client) answers(ctx context.Context, record *instance.Instance) error {
	return progress.Do(c.progress, "Asking MLflow and its database", func(s progress.Step) error {
		question, err := c.question(ctx, record)
		if err != nil {
			return err
		}
		t := c.dial(record.HTTP)
		err = ask(ctx, func(ctx context.Context) error { return question(ctx, t) }, s)
		return errors.Join(c.withLog(ctx, record, err), t.Close())
	})
}

// withLog adds the end of the server's log to the failure of an MLflow that does not answer.
func (c *Client) withLog(ctx context.Context, record *instance.Instance, err error) error {
	f, ok := errors.AsType[*failure.Error](err)
	if !ok || f.Class != failure.TimedOut {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), parting)
	defer cancel()
	pods, unread := c.cluster.List(ctx, serverPods(record.Namespace, record.HTTP.Service))
	explained := *f
	for _, pod := range pods {
		lines, err := c.cluster.Tail(ctx, cluster.RefOf(pod), serverContainer, false, logTail)
		if unread = err; err == nil {
			explained.Evidence = append(explained.Evidence, fmt.Sprintf("the end of the log of %s:", cluster.RefOf(pod)))
			for _, line := range lines {
				explained.Evidence = append(explained.Evidence, "  "+line)
			}
		}
	}
	if unread != nil {
		explained.Evidence = append(explained.Evidence, fmt.Sprintf("the server's log cannot be read: %v", unread))
	}
	return &explained
}

// question asks MLflow, as basic-auth's admin where the installation has that. To those who may not read the admin's password,
// being asked for one is answer enough.
func (c *Client) question(ctx context.Context, record *instance.Instance) (func(context.Context, tunnel) error, error) {
	password, err := record.AdminPassword(ctx, c.cluster)
	if failure.ClassOf(err) == failure.Forbidden {
		return func(ctx context.Context, t tunnel) error {
			err := c.probe(ctx, t, tracking.Credentials{})
			if failure.ClassOf(err) == failure.Forbidden {
				return nil
			}
			return err
		}, nil
	}
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, t tunnel) error {
		return c.probe(ctx, t, tracking.Credentials{Username: instance.AdminUser, Password: password})
	}, nil
}

// ask asks until there is an answer. A server that has just become ready may still fail to reach its database.
func ask(ctx context.Context, question func(context.Context) error, s progress.Step) error {
	ctx, cancel := context.WithTimeout(ctx, answering)
	defer cancel()
	ticker := time.NewTicker(again)
	defer ticker.Stop()
	var last error
	for {
		err := question(ctx)
		if err == nil || failure.ClassOf(err) == failure.Forbidden {
			return err
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		s.Note(err.Error())
		select {
		case <-ctx.Done():
			return notAnswered(ctx, last)
		case <-ticker.C:
		}
	}
}

func notAnswered(ctx context.Context, last error) error {
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("asking MLflow and its database: %w", ctx.Err())
	}
	return &failure.Error{
		Class: failure.TimedOut, Reason: "NoAnswer", Message: "MLflow's pods are ready, but it does not answer from its database",
		Hint: "see the server's log: kubectl logs -l app=mlflow --tail=50",
		Err:  last,
	}
}

// probe asks MLflow for an experiment. The Host header is one that MLflow always allows.
func probe(ctx context.Context, t tunnel, cred tracking.Credentials) error {
	transport := &http.Transport{DialContext: t.DialContext}
	defer transport.CloseIdleConnections()
	at := &url.URL{Scheme: "http", Host: "localhost:5000"}
	return tracking.New(at, tracking.Authenticate(transport, at, cred)).Probe(ctx)
}
