package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// specVariable makes the test binary a supervisor: it collects all its children, so it has to be a process of its own.
const specVariable = "LAB_TEST_SPEC"

func TestMain(m *testing.M) {
	if file := os.Getenv(specVariable); file != "" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		if err := Main(ctx, file, os.Stdout); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// running is a supervisor under test.
type running struct {
	t      *testing.T
	folder string
	cmd    *exec.Cmd
	talk   *strings.Builder
}

func supervise(t *testing.T, components ...Component) *running {
	t.Helper()
	folder := t.TempDir()
	for i := range components {
		for j, argument := range components[i].Command {
			components[i].Command[j] = strings.ReplaceAll(argument, "FOLDER", folder)
		}
		for _, list := range [][]Condition{components[i].After, components[i].Ready} {
			for j := range list {
				list[j].File = strings.ReplaceAll(list[j].File, "FOLDER", folder)
			}
		}
	}
	spec := Spec{Key: "test", Folder: folder, Env: []string{"PATH=" + os.Getenv("PATH")}, Components: components}
	file := filepath.Join(folder, "node.json")
	if err := spec.Write(file); err != nil {
		t.Fatal(err)
	}
	r := &running{t: t, folder: folder, talk: &strings.Builder{}}
	r.cmd = exec.Command(os.Args[0]) // #nosec G204 G702 -- the test binary itself
	r.cmd.Env = append(os.Environ(), specVariable+"="+file)
	r.cmd.Stdout, r.cmd.Stderr = r.talk, r.talk
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if r.cmd.ProcessState == nil {
			_ = r.cmd.Process.Kill()
			_ = r.cmd.Wait()
		}
	})
	return r
}

// await polls until the state of the node is as wanted, and returns it.
func (r *running) await(what string, as func(State) bool) State {
	r.t.Helper()
	var state State
	r.eventually(what, func() bool {
		var err error
		state, err = ReadState(r.folder)
		return err == nil && as(state)
	})
	return state
}

func (r *running) eventually(what string, holds func() bool) {
	r.t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-ticker.C:
		case <-deadline.C:
			state, err := ReadState(r.folder)
			r.t.Fatalf("never: %s; state %+v, %v", what, state, err)
		}
	}
}

func (r *running) stop() {
	r.t.Helper()
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		r.t.Fatal(err)
	}
	if err := r.cmd.Wait(); err != nil {
		r.t.Fatalf("the supervisor ended with %v:\n%s", err, r.talk)
	}
}

// server is a component that is ready once it has made a file of its name, and says when it is told to end.
func server(name string, after ...Condition) Component {
	script := fmt.Sprintf(`trap 'echo %[1]s >> FOLDER/ended; exit 0' TERM; echo %[1]s >> FOLDER/began; touch FOLDER/%[1]s; while :; do sleep 0.05; done`, name)
	return Component{
		Name: name, Command: []string{"/bin/sh", "-c", script},
		After: after, Ready: []Condition{{File: "FOLDER/" + name}},
	}
}

func ready(s State) bool { return len(s.Unready()) == 0 }

func TestComponentsStartInOrderAndEndInReverse(t *testing.T) {
	// The list is in the order of ending; who needs whom is told by the conditions.
	r := supervise(t,
		server("store"),
		server("api", Condition{File: "FOLDER/store"}),
		server("agent", Condition{File: "FOLDER/api"}),
	)
	r.await("all ready", ready)
	r.stop()
	if got := r.lines("began"); got != "store api agent" {
		t.Errorf("began in the order %s", got)
	}
	if got := r.lines("ended"); got != "agent api store" {
		t.Errorf("ended in the order %s", got)
	}
}

func TestComponentThatIsKilledComesBack(t *testing.T) {
	r := supervise(t, server("store"))
	before := r.await("ready", ready)
	if err := syscall.Kill(before.Components[0].PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	after := r.await("restarted", func(s State) bool { return s.Components[0].Restarts == 1 && ready(s) })
	if after.Components[0].PID == before.Components[0].PID || after.Components[0].LastExit != "signal 9 (killed)" {
		t.Errorf("after the kill: %+v", after.Components[0])
	}
	r.stop()
}

func TestComponentThatCannotRunIsTriedAgainAndDoesNotHinderTheEnd(t *testing.T) {
	r := supervise(t,
		Component{Name: "broken", Command: []string{"/nowhere/to/be/found"}},
		Component{Name: "failing", Command: []string{"/bin/sh", "-c", "exit 7"}, Ready: []Condition{{File: "/nowhere"}}},
		Component{Name: "waiting", Command: []string{"/bin/true"}, After: []Condition{{File: "/nowhere"}}},
	)
	state := r.await("two tries", func(s State) bool { return s.Components[1].Restarts >= 2 })
	for i, want := range []string{"no such file", "exit code 7", ""} {
		if got := state.Components[i].LastExit; !strings.Contains(got, want) {
			t.Errorf("%s ended with %q", state.Components[i].Name, got)
		}
	}
	if got := state.Components[2].Waiting; !strings.Contains(got, "file /nowhere") {
		t.Errorf("waiting waits for %q", got)
	}
	r.stop()
}

func TestNothingOutlivesAKilledSupervisor(t *testing.T) {
	r := supervise(t, server("store"))
	child := r.await("ready", ready).Components[0].PID
	if pid, err := Alive(r.folder); err != nil || pid != r.cmd.Process.Pid {
		t.Errorf("Alive says %d, %v; the supervisor is %d", pid, err, r.cmd.Process.Pid)
	}
	if err := r.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = r.cmd.Wait() // it was killed, which is what Wait says
	r.eventually("child gone", func() bool { return dead(child) })
	if pid, err := Alive(r.folder); err != nil || pid != 0 {
		t.Errorf("Alive says %d, %v after the supervisor's death", pid, err)
	}
	if got := r.lines("ended"); got != "" {
		t.Errorf("%s had time to end by itself", got)
	}
}

func TestStubbornComponentIsKilledAfterItsGrace(t *testing.T) {
	r := supervise(t, Component{
		Name:    "stubborn",
		Command: []string{"/bin/sh", "-c", `trap '' TERM; touch FOLDER/there; while :; do sleep 0.05; done`},
		Ready:   []Condition{{File: "FOLDER/there"}},
		Grace:   Duration(200 * time.Millisecond),
	})
	child := r.await("ready", ready).Components[0].PID
	r.stop()
	if !dead(child) {
		t.Error("it is still there")
	}
	if !strings.Contains(r.talk.String(), "stubborn stopped: signal 9 (killed)") {
		t.Errorf("the log does not tell:\n%s", r.talk)
	}
}

func TestOneSupervisorPerFolder(t *testing.T) {
	r := supervise(t, server("store"))
	r.await("ready", ready)
	second := exec.Command(os.Args[0]) // #nosec G204 G702 -- the test binary itself
	second.Env = append(os.Environ(), specVariable+"="+filepath.Join(r.folder, "node.json"))
	out, err := second.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "another supervisor") {
		t.Errorf("a second supervisor: %v, %s", err, out)
	}
	r.stop()
}

func TestConditions(t *testing.T) {
	folder := t.TempDir()
	socket := filepath.Join(folder, "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/readyz" {
			return
		}
		http.Error(w, "[+]ping ok\n[-]etcd failed: reason withheld\n", http.StatusInternalServerError)
	}))
	defer web.Close()
	for _, test := range []struct {
		condition Condition
		want      string
	}{
		{Condition{Unix: socket}, ""},
		{Condition{Unix: socket + "2"}, "no such file"},
		{Condition{TCP: web.Listener.Addr().String()}, ""},
		{Condition{File: folder}, ""},
		{Condition{File: folder + "/none"}, "no such file"},
		{Condition{URL: web.URL + "/readyz"}, ""},
		{Condition{URL: web.URL + "/healthz"}, "[-]etcd failed"},
	} {
		err := test.condition.Check(context.Background())
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", test.condition, err, test.want)
		}
	}
}

func TestSpecNamesEverythingThatIsWrong(t *testing.T) {
	err := Spec{Components: []Component{
		{Name: "a", Command: []string{"x"}, Ready: []Condition{{}}},
		{Name: "a", Command: []string{"x"}},
		{Name: "b", After: []Condition{{File: "f", TCP: "t"}}},
		{},
	}}.Validate()
	for _, want := range []string{"no folder", "a: a condition needs exactly one", "a is there twice", "b has no command", "this one has 2", "has no name"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("nothing says %q: %v", want, err)
		}
	}
}

func TestSpecSurvivesItsFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "spec")
	want := Spec{Key: "k", Folder: "/f", Components: []Component{{Name: "a", Command: []string{"x"}, Grace: Duration(1500 * time.Millisecond)}}}
	if err := want.Write(file); err != nil {
		t.Fatal(err)
	}
	got, err := ReadSpec(file)
	if err != nil || got.Components[0].Grace != want.Components[0].Grace || got.Key != want.Key {
		t.Errorf("read %+v, %v", got, err)
	}
	if _, err := ReadSpec(file + ".none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

func (r *running) lines(file string) string {
	text, err := os.ReadFile(filepath.Join(r.folder, file)) // #nosec G304 -- a file of this test
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		r.t.Fatal(err)
	}
	return strings.Join(strings.Fields(string(text)), " ")
}

// dead tells whether a process is gone or is a zombie that its new parent has not collected yet.
func dead(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}
