package portforward

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]int{"5000": 5000, "8080": 8080, "8080:5000": 8080, ":5000": 0, "0": 0, ":0": 0, "65535": 65535} {
		if got, err := parse(text); err != nil || got != want {
			t.Errorf("parse(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "http", "65536", "-1", "8080:80", ":80", "5000:", "1:2:3"} {
		if _, err := parse(text); failure.ClassOf(err) != failure.Invalid {
			t.Errorf("parse(%q): %v, want failure.Invalid", text, err)
		}
	}
}

// taken occupies a port of this machine until the test ends.
func taken(t *testing.T) int {
	t.Helper()
	l, err := listen(t.Context(), []int{0})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().(*net.TCPAddr).Port
}

type forwarder func(ctx context.Context, ls []net.Listener, ready func()) error

func (f forwarder) PortForward(ctx context.Context, ls []net.Listener, ready func()) error {
	return f(ctx, ls, ready)
}

func TestRunPrintsTheURLWhenItAnswersAndEndsWithTheContext(t *testing.T) {
	streams, _, out, errOut := genericiooptions.NewTestIOStreams()
	ctx, interrupt := context.WithCancel(t.Context())
	o := Options{Ports: []int{0}, Streams: streams, Talk: ui.NewProgress(errOut)}
	var url string
	o.Forwarder = forwarder(func(ctx context.Context, ls []net.Listener, ready func()) error {
		if out.Len() > 0 {
			t.Error("the URL is printed before it answers")
		}
		ready()
		url = fmt.Sprintf("http://%s\n", ls[0].Addr())
		interrupt()
		<-ctx.Done()
		return nil
	})
	if err := o.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Run ends with %v, want the context's error", err)
	}
	if out.String() != url {
		t.Errorf("stdout %q, want %q", out.String(), url)
	}
}

func TestATakenDefaultPortGivesWayAndSaysSo(t *testing.T) {
	port := taken(t)
	streams, _, _, errOut := genericiooptions.NewTestIOStreams()
	o := Options{Ports: []int{port, 0}, Streams: streams, Talk: ui.NewProgress(errOut)}
	o.Forwarder = forwarder(func(context.Context, []net.Listener, func()) error { return errors.New("enough") })
	if err := o.Run(t.Context()); err == nil || err.Error() != "enough" {
		t.Errorf("Run ends with %v", err)
	}
	if want := fmt.Sprintf("Port %d is taken", port); !strings.Contains(errOut.String(), want) {
		t.Errorf("stderr %q lacks %q", errOut.String(), want)
	}
}

func TestATakenExplicitPortIsAnErrorThatNamesIt(t *testing.T) {
	port := taken(t)
	o := Options{Ports: []int{port}}
	err := o.Run(t.Context())
	if failure.ClassOf(err) != failure.Refused || !strings.Contains(err.Error(), fmt.Sprintf("port %d", port)) {
		t.Errorf("error is %v", err)
	}
}

func TestWithoutAPortSeveralAreTried(t *testing.T) {
	o, err := ToOptions(nil)
	if err != nil || len(o.Ports) < 2 || o.Ports[0] != 5000 || o.Ports[1] != 5001 {
		t.Errorf("ports are %v, %v", o.Ports, err)
	}
	o, err = ToOptions([]string{"8080"})
	if err != nil || len(o.Ports) != 1 || o.Ports[0] != 8080 {
		t.Errorf("ports are %v, %v", o.Ports, err)
	}
}
