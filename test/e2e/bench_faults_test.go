//go:build e2e && bench

package e2e

import (
	"bufio"
	"cmp"
	"context"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestBenchFaults is how long people look at a screen until they know what is wrong, against kubectl's waits, which are given a minute. Each
// fault has a namespace of its own, so that some can be waited for side by side.
func TestBenchFaults(t *testing.T) {
	l := openLab(t)
	t.Run("install", func(t *testing.T) { benchInstallFaults(t, l) })
	t.Run("deploy", func(t *testing.T) { benchModelFaults(t, l) })
}

// benchInstallFaults has those that tell most apart: images, containers, the scheduler, admission, probes, volumes. Those that are slow to
// come up stand between those that are not.
func benchInstallFaults(t *testing.T, l *lab) {
	dry := l.mlflow(t, "install", "--namespace=mlflow", "--dry-run=client", "-o", "yaml").stdout
	tag := regexp.MustCompile(`image: \S+/mlflow(:\S+)`).FindStringSubmatch(dry)
	if tag == nil {
		t.Fatalf("no image of MLflow in\n%s", dry)
	}
	for _, name := range []string{
		"image not found", "entry point crashes", "volume that nobody provides", "memory limit",
		"registry with a password", "key missing in a Secret", "database does not answer", "Pod Security",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := l.namespace(t, "e2e-bench-"+strings.ReplaceAll(strings.ToLower(name), " ", "-"))
			n.create(t)
			all := append(n.faults(t, tag[1]), n.noVolume(t))
			f := all[slices.IndexFunc(all, func(f fault) bool { return f.name == name })]
			defer f.prepared()()
			n.diagnosis(t, f, diagnosis{
				what: "install into a fault: " + name, made: `"app.kubernetes.io/component": "` + f.at + `"`, watched: []string{"pods", "events"},
				args: append([]string{"install", "-n", n.namespace}, f.flags...),
				peer: f.peer(), peers: func(t *testing.T) [][]string { t.Helper(); return f.kubectl(t, n) },
			})
		})
	}
}

// peer names f.kubectl's commands.
func (f fault) peer() string {
	if f.rollout == "" {
		return "`kubectl wait`"
	}
	return "`kubectl wait`, `kubectl rollout status`"
}

// benchModelFaults has those of a model's own making, without a version that serves beside it.
func benchModelFaults(t *testing.T, l *lab) {
	trained := &models{installed: l.namespace(t, "e2e-bench-trained"), directory: t.TempDir()}
	trained.train(t)
	for _, name := range []string{"missing package", "load failure", "out of memory", "a Secret that is not there"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := *trained
			m.installed = l.namespace(t, "e2e-bench-"+strings.ReplaceAll(strings.ToLower(name), " ", "-"))
			m.create(t)
			all := m.faults(t)
			f := all[slices.IndexFunc(all, func(f modelFault) bool { return f.name == name })]
			m.diagnosis(t, f.fault, diagnosis{
				what: "deploy into a fault: " + name, made: `"kind": "Pod"`, watched: []string{"pods", "events"},
				args: m.deployment(f.version, f.flags...),
				peer: "`kubectl wait ksvc`", peers: func(*testing.T) [][]string {
					return [][]string{{"wait", "ksvc/iris", "--for=condition=Ready", "--timeout=60s"}}
				},
			})
		})
	}
}

// diagnosis is a fault, and who looks at it.
type diagnosis struct {
	what    string
	watched []string // kinds
	made    string   // is in what is watched when there is something that the fault hits
	args    []string
	peer    string
	peers   func(t *testing.T) [][]string // kubectl's commands, when something was made
}

// diagnosis prints how long after something was made its fault was told. The peers look from then on.
func (n *installed) diagnosis(t *testing.T, f fault, d diagnosis) {
	t.Helper()
	w := n.watch(t, d.watched, d.made, cmp.Or(f.seen, f.sign()))
	peers := make(chan float64, 1)
	go func() {
		select {
		case <-w.made.done:
			peers <- told(n.kubectlSays(t, d.peers(t)), f)
		case <-t.Context().Done():
		}
	}()
	met := n.onScreen(t, f, d.args...)
	if w.made.at().IsZero() || w.seen.at().IsZero() {
		t.Fatalf("the fault was made at %s, and seen at %s", w.made.at(), w.seen.at())
	}
	since := func(at time.Time) []float64 { return []float64{max(0, at.Sub(w.made.at()).Seconds())} }
	row{
		what: d.what, unit: "s", digits: 1,
		ours:  way{values: since(met.told)},
		peer:  way{name: d.peer, values: []float64{<-peers}, most: kubectlWaits},
		floor: way{name: "seen in a pod's status or an event", values: since(w.seen.at())},
	}.print(t)
}

// onScreen runs the plugin on a terminal, where it says what it waits for as soon as it knows; a pipe gets a line every five seconds.
func (n *installed) onScreen(t *testing.T, f fault, args ...string) met {
	t.Helper()
	line := "stty cols 1000; TERM=xterm NO_COLOR=1 exec kubectl-mlflow"
	for _, arg := range args {
		line += " '" + arg + "'"
	}
	return n.tells(t, f, "sh", "-c", `exec script --quiet --return --flush --command "$0" /dev/null >&2`, line)
}

// kubectlWaits is how many seconds kubectl is given.
const kubectlWaits = 60

// told is when the first of kubectl's commands has said a fault's sign: none has by its end, as a rule.
func told(all []said, f fault) float64 {
	least := float64(kubectlWaits)
	for _, said := range all {
		if strings.Contains(said.text, f.sign()) {
			least = min(least, said.took.Seconds())
		}
	}
	return least
}

// witness sees what the API tells.
type witness struct{ made, seen *moment }

// moment is when something was so for the first time.
type moment struct {
	once sync.Once
	when time.Time
	done chan struct{}
}

func (m *moment) now() { m.once.Do(func() { m.when = time.Now(); close(m.done) }) }

// at is zero until then.
func (m *moment) at() time.Time {
	select {
	case <-m.done:
		return m.when
	default:
		return time.Time{}
	}
}

// watch looks for two texts in a namespace's objects until the test ends. What is seen was made.
func (n *installed) watch(t *testing.T, kinds []string, made, seen string) witness {
	t.Helper()
	w := witness{made: &moment{done: make(chan struct{})}, seen: &moment{done: make(chan struct{})}}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	t.Cleanup(func() { stop(); running.Wait() })
	for _, kind := range kinds {
		cmd := n.command(ctx, nil, n.Kubectl, "-n", n.namespace, "get", kind, "--watch", "-o", "json")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		running.Go(func() {
			for lines := bufio.NewScanner(out); lines.Scan(); {
				if strings.Contains(lines.Text(), made) {
					w.made.now()
				}
				if strings.Contains(lines.Text(), seen) {
					w.made.now()
					w.seen.now()
				}
			}
			_ = cmd.Wait() // killed by us
		})
	}
	return w
}
