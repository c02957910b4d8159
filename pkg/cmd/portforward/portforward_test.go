package portforward

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
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
	ls, err := listen(t.Context(), []string{"127.0.0.1"}, []int{0})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ls[0].Close() })
	return portOf(ls[0])
}

type forwarder func(ctx context.Context, ls []net.Listener, ready func()) error

func (f forwarder) PortForward(ctx context.Context, ls []net.Listener, ready func()) error {
	return f(ctx, ls, ready)
}

func TestRunPrintsTheURLWhenItAnswersAndEndsWithTheContext(t *testing.T) {
	streams, _, out, errOut := genericiooptions.NewTestIOStreams()
	ctx, interrupt := context.WithCancel(t.Context())
	o := Options{Flags: Flags{Addresses: []string{localhost}}, Ports: []int{0}, Streams: streams, Talk: ui.NewProgress(errOut), Next: "kubectl mlflow deploy NAME"}
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
	for _, text := range []string{"export MLFLOW_TRACKING_URI=" + url, "Next: kubectl mlflow deploy NAME\n"} {
		if !strings.Contains(errOut.String(), text) {
			t.Errorf("stderr %q lacks %q", errOut.String(), text)
		}
	}
}

func TestATakenDefaultPortGivesWayAndSaysSo(t *testing.T) {
	port := taken(t)
	streams, _, _, errOut := genericiooptions.NewTestIOStreams()
	o := Options{Flags: Flags{Addresses: []string{localhost}}, Ports: []int{port, 0}, Streams: streams, Talk: ui.NewProgress(errOut)}
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
	o := Options{Flags: Flags{Addresses: []string{localhost}}, Ports: []int{port}}
	err := o.Run(t.Context())
	if failure.ClassOf(err) != failure.Refused || !strings.Contains(err.Error(), fmt.Sprintf("port %d", port)) {
		t.Errorf("error is %v", err)
	}
	if want := fmt.Sprintf("(process %d)", os.Getpid()); runtime.GOOS == "linux" && !strings.Contains(err.Error(), want) {
		t.Errorf("error %v does not say who has the port, %s", err, want)
	}
}

func TestOptions(t *testing.T) {
	here := Flags{Addresses: []string{localhost}}
	for _, c := range []struct {
		words   []string
		dash    int
		first   int
		several bool
		command int
	}{
		{nil, -1, 5000, true, 0},
		{[]string{"8080"}, -1, 8080, false, 0},
		{[]string{"python", "train.py"}, 0, 0, false, 2},
		{[]string{"8080", "python", "train.py", "8081"}, 1, 8080, false, 3},
	} {
		o, err := ToOptions(here, c.words, c.dash)
		if err != nil || o.Ports[0] != c.first || len(o.Ports) > 1 != c.several || len(o.Command) != c.command {
			t.Errorf("%v: %+v, %v", c.words, o, err)
		}
	}
	for says, f := range map[string]func() (*Options, error){
		"no command follows": func() (*Options, error) { return ToOptions(here, nil, 0) },
		`"myhost" is no IP`:  func() (*Options, error) { return ToOptions(Flags{Addresses: []string{"127.0.0.1", "myhost"}}, nil, -1) },
		"there is none":      func() (*Options, error) { return ToOptions(Flags{}, nil, -1) },
	} {
		if _, err := f(); failure.ClassOf(err) != failure.Invalid || !strings.Contains(err.Error(), says) {
			t.Errorf("error is %v, want %q", err, says)
		}
	}
}

func TestOnePortOnAllAddresses(t *testing.T) {
	ls, err := listen(t.Context(), []string{localhost, "127.0.0.2"}, []int{0})
	if err != nil {
		t.Skipf("SKIPPED: this machine has no 127.0.0.2: %v", err)
	}
	for _, l := range ls {
		if portOf(l) != portOf(ls[0]) {
			t.Errorf("%s and %s", l.Addr(), ls[0].Addr())
		}
		_ = l.Close()
	}
	port := taken(t)
	if ls, err := listen(t.Context(), []string{"127.0.0.2", "127.0.0.1"}, []int{port}); err == nil {
		t.Errorf("port %d is taken on one of two addresses, and %v listens", port, ls)
	}
}

// answering is an MLflow that answers until its context ends, and then ends with err.
func answering(err error) forwarder {
	return func(ctx context.Context, _ []net.Listener, ready func()) error {
		ready()
		<-ctx.Done()
		return err
	}
}

func TestACommandFindsMLflowAndItsExitCodeIsOurs(t *testing.T) {
	if _, err := exec.LookPath("env"); err != nil {
		t.Skip("SKIPPED: there is no env on PATH")
	}
	for _, c := range []struct {
		command []string
		code    ui.ExitCode
		class   failure.Class
		stdout  string
	}{
		{[]string{"env"}, 0, "", "MLFLOW_TRACKING_URI=http://127.0.0.1:"},
		{[]string{"false"}, 1, "", ""},
		{[]string{"no-such-program"}, 0, failure.Invalid, ""},
	} {
		streams, _, out, errOut := genericiooptions.NewTestIOStreams()
		o := Options{Flags: Flags{Addresses: []string{localhost}}, Ports: []int{0}, Command: c.command, Streams: streams, Talk: ui.NewProgress(errOut), Forwarder: answering(nil)}
		err := o.Run(t.Context())
		code, _ := errors.AsType[ui.ExitCode](err)
		if code != c.code || failure.ClassOf(err) != c.class || (err == nil) != (c.code == 0 && c.class == "") {
			t.Errorf("%v ends with %v", c.command, err)
		}
		if !strings.Contains(out.String(), c.stdout) || strings.HasPrefix(out.String(), "http") {
			t.Errorf("%v prints %q", c.command, out.String())
		}
	}
}

func TestACommandEndsWithTheTunnelAndWithTheContext(t *testing.T) {
	if _, err := exec.LookPath("sleep"); err != nil {
		t.Skip("SKIPPED: there is no sleep on PATH")
	}
	broken := errors.New("you may not")
	options := func(f forwarder) *Options {
		streams, _, _, errOut := genericiooptions.NewTestIOStreams()
		return &Options{Flags: Flags{Addresses: []string{localhost}}, Ports: []int{0}, Command: []string{"sleep", "60"}, Streams: streams, Talk: ui.NewProgress(errOut), Forwarder: f}
	}
	err := options(func(_ context.Context, _ []net.Listener, ready func()) error { ready(); return broken }).Run(t.Context())
	if !errors.Is(err, broken) {
		t.Errorf("a tunnel that ends: %v", err)
	}
	ctx, interrupt := context.WithCancel(t.Context())
	err = options(func(ctx context.Context, _ []net.Listener, ready func()) error {
		ready()
		interrupt()
		<-ctx.Done()
		return nil
	}).Run(ctx)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("an interrupt: %v", err)
	}
}

func TestClientsFindNoProxyOnTheWay(t *testing.T) {
	got := withMLflow([]string{"A=b", "MLFLOW_TRACKING_URI=http://elsewhere", "no_proxy=example.com", "NO_PROXY=", "HTTPS_PROXY=http://proxy"}, "http://127.0.0.1:1")
	slices.Sort(got)
	want := []string{"A=b", "HTTPS_PROXY=http://proxy", "MLFLOW_TRACKING_URI=http://127.0.0.1:1", "NO_PROXY=127.0.0.1,localhost,::1", "no_proxy=example.com,127.0.0.1,localhost,::1"}
	if !slices.Equal(got, want) {
		t.Errorf("the environment is %q", got)
	}
}
