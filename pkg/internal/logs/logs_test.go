package logs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

// pass is one answer to a request for a log. It may stay open for some time or for ever, as that of a container that runs.
type pass struct {
	text string
	open bool
	ends time.Duration
	err  error
}

// film is a Cluster: snapshots of pods, one a second, and the answers for each log, by "pod/container" or "pod/container/previous".
type film struct {
	snapshots [][]*unstructured.Unstructured
	failing   error // of Observe, after the last snapshot

	mu    sync.Mutex
	logs  map[string][]pass
	asked []string
}

func (f *film) List(context.Context, cluster.Query) ([]*unstructured.Unstructured, error) {
	return f.snapshots[0], nil
}

func (f *film) Observe(ctx context.Context, _ []cluster.Query, show func([]*unstructured.Unstructured) (bool, error)) error {
	for _, s := range f.snapshots {
		if _, err := show(s); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Second):
		}
	}
	if f.failing != nil {
		return f.failing
	}
	<-ctx.Done()
	return ctx.Err()
}

func (f *film) Log(ctx context.Context, pod cluster.Ref, container string, o cluster.LogOptions) (io.ReadCloser, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := pod.Name + "/" + container
	if o.Previous {
		key += "/previous"
	}
	asked := fmt.Sprintf("%s follow=%t", key, o.Follow)
	if !o.Since.IsZero() {
		asked += " since=" + o.Since.Format("05.0")
	}
	if o.Tail > 0 {
		asked += fmt.Sprintf(" tail=%d", o.Tail)
	}
	f.asked = append(f.asked, asked)
	if len(f.logs[key]) == 0 {
		if o.Follow {
			return body{ctx, strings.NewReader(""), nil}, nil
		}
		return io.NopCloser(strings.NewReader("")), nil
	}
	p := f.logs[key][0]
	f.logs[key] = f.logs[key][1:]
	b := body{ctx, strings.NewReader(p.text), nil}
	if !p.open {
		ended, cancel := context.WithTimeout(ctx, p.ends)
		context.AfterFunc(ended, cancel)
		b.ends = ended.Done()
	}
	return b, p.err
}

// body is a log that may stay open.
type body struct {
	ctx context.Context
	io.Reader
	ends <-chan struct{} // nil stays open
}

func (b body) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	select {
	case <-b.ctx.Done():
		return 0, b.ctx.Err()
	case <-b.ends:
		if b.ctx.Err() != nil {
			return 0, b.ctx.Err()
		}
		return 0, io.EOF
	}
}

func (body) Close() error { return nil }

// at is a line of a log, of the second n.
func at(n float64, text string) string {
	return time.Unix(0, int64(n*1e9)).UTC().Format(time.RFC3339Nano) + " " + text + "\n"
}

type state struct {
	id, before string // of the run, and of the one before
	over       bool
}

func podWith(t *testing.T, name string, containers map[string]state) *unstructured.Unstructured {
	t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ml", Name: name, UID: types.UID(name)}}
	var names []string
	for name := range containers {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		s := containers[name]
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: name})
		status := corev1.ContainerStatus{Name: name, ContainerID: s.id}
		switch {
		case s.id == "":
			status.State.Waiting = &corev1.ContainerStateWaiting{}
		case s.over:
			status.State.Terminated = &corev1.ContainerStateTerminated{ContainerID: s.id}
		default:
			status.State.Running = &corev1.ContainerStateRunning{}
		}
		if s.before != "" {
			status.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ContainerID: s.before}
		}
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, status)
	}
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(pod)
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{Object: object}
	u.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Pod"))
	return u
}

func label(pod *corev1.Pod, container string) (string, bool) {
	return pod.Name + "/" + container, container != "unwanted"
}

func refused(code int32) error {
	return fmt.Errorf("get pod: %w", &apierrors.StatusError{ErrStatus: metav1.Status{Code: code, Message: "no log"}})
}

func TestReadMergesByTime(t *testing.T) {
	f := &film{
		snapshots: [][]*unstructured.Unstructured{{
			podWith(t, "a", map[string]state{"main": {id: "1"}, "unwanted": {id: "2"}, "waiting": {}}), podWith(t, "b", map[string]state{"main": {id: "3"}}),
		}},
		logs: map[string][]pass{
			"a/main":    {{text: at(1, "one") + at(4, "four") + at(5, "five\r")}},
			"a/waiting": {{err: refused(400)}},
			"b/main":    {{text: at(0.5, "too early") + at(2, "two") + at(3, "three, and no end")[:len(at(3, "three, and no end"))-1]}},
		},
	}
	var lines []string
	n, err := Read(t.Context(), f, cluster.Query{}, Options{Label: label, Since: time.Unix(1, 0), Tail: 7}, func(l Line) error {
		lines = append(lines, l.Source.Label+": "+l.Text)
		return nil
	})
	if err != nil || n != 2 {
		t.Errorf("%d containers, %v", n, err)
	}
	want := []string{"a/main: one", "b/main: two", "b/main: three, and no end", "a/main: four", "a/main: five"}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Error(diff)
	}
	if !slices.Contains(f.asked, "b/main follow=false since=01.0 tail=7") {
		t.Errorf("asked %q", f.asked)
	}
}

func TestReadFails(t *testing.T) {
	for name, p := range map[string]pass{"it may not be read": {err: errors.New("no")}, "who reads has enough": {text: at(1, "x")}} {
		f := &film{snapshots: [][]*unstructured.Unstructured{{podWith(t, "a", map[string]state{"main": {id: "1"}})}}, logs: map[string][]pass{"a/main": {p}}}
		if _, err := Read(t.Context(), f, cluster.Query{}, Options{Label: label}, func(Line) error { return errors.New("no") }); err == nil || err.Error() != "no" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestALongLineComesInPieces(t *testing.T) {
	long := strings.Repeat("x", 3*longest)
	r := newReader(Source{}, io.NopCloser(strings.NewReader(at(1, long)+at(2, "short"))))
	var got strings.Builder
	for {
		line, err := r.next()
		if err != nil || line.Text == "short" {
			if line.Time.Unix() != 2 {
				t.Errorf("the next line has the time %s", line.Time)
			}
			break
		}
		if len(line.Text) > longest || line.Time.Unix() != 1 {
			t.Fatalf("a piece of %d bytes, of %s", len(line.Text), line.Time)
		}
		got.WriteString(line.Text)
	}
	if got.String() != long {
		t.Errorf("%d bytes came", got.Len())
	}
}

// follow plays a film for a minute, and returns what was printed.
func follow(t *testing.T, f *film, o Options) (lines []string, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		o.Label = label
		err = Follow(ctx, f, cluster.Query{}, o, func(l Line) error {
			lines = append(lines, l.Source.Label+": "+l.Text)
			if l.Text == "enough" {
				return io.ErrClosedPipe
			}
			return nil
		})
	})
	return lines, err
}

func TestFollow(t *testing.T) {
	one := func(s state) []*unstructured.Unstructured {
		return []*unstructured.Unstructured{podWith(t, "a", map[string]state{"main": s})}
	}
	for _, c := range []struct {
		name      string
		snapshots [][]*unstructured.Unstructured
		logs      map[string][]pass
		options   Options
		want      []string
		asked     string // once
	}{
		{
			name: "the connection breaks within a line", snapshots: [][]*unstructured.Unstructured{one(state{id: "1"})},
			logs: map[string][]pass{"a/main": {
				{text: at(1, "one") + at(2, "two") + at(2, "too") + at(3, "three")[:26]},
				{text: at(1, "one") + at(2, "two") + at(2, "too") + at(2, "to") + at(3, "three"), open: true},
			}},
			want: []string{"a/main: one", "a/main: two", "a/main: too", "a/main: to", "a/main: three"}, asked: "a/main follow=true since=02.0",
		},
		{
			name: "the container is started again", snapshots: [][]*unstructured.Unstructured{one(state{id: "1"}), one(state{id: "1", over: true}), one(state{id: "2", before: "1"})},
			logs: map[string][]pass{"a/main": {{text: at(1, "one"), ends: 12 * time.Second}, {text: at(1, "one") + at(2, "last words")[:len(at(2, "last words"))-1]}, {text: at(3, "again"), open: true}}},
			want: []string{"a/main: one", "a/main: last words", "a/main: again"}, asked: "a/main follow=false since=01.0",
		},
		{
			name: "a run came and went unseen", snapshots: [][]*unstructured.Unstructured{one(state{id: "1"}), one(state{id: "3", before: "2"})},
			logs: map[string][]pass{"a/main": {{text: at(1, "one"), ends: 9900 * time.Millisecond}, {text: at(1, "one")}, {text: at(5, "three"), open: true}}, "a/main/previous": {{text: at(3, "two")}}},
			want: []string{"a/main: one", "a/main: two", "a/main: three"},
		},
		{
			name: "the pod is replaced", snapshots: [][]*unstructured.Unstructured{
				one(state{id: "1"}), {podWith(t, "a", map[string]state{"main": {id: "1"}}), podWith(t, "b", map[string]state{"main": {id: "2"}})},
				{podWith(t, "b", map[string]state{"main": {id: "2"}})},
			},
			logs:    map[string][]pass{"a/main": {{text: at(1, "one")}, {text: at(2, "two")}, {err: refused(404)}}, "b/main": {{text: at(3, "next"), open: true}}},
			options: Options{Tail: 5}, want: []string{"a/main: one", "a/main: two", "b/main: next"}, asked: "b/main follow=true",
		},
		{
			name: "it crashed before anybody looked", snapshots: [][]*unstructured.Unstructured{one(state{before: "1"})},
			logs: map[string][]pass{"a/main": {{text: at(1, "one")}}}, want: []string{"a/main: one"}, asked: "a/main follow=false",
		},
		{
			name: "the API server is away", snapshots: [][]*unstructured.Unstructured{one(state{id: "1"})},
			logs: map[string][]pass{"a/main": {{err: errors.New("connection refused")}, {err: errors.New("connection refused")}, {text: at(1, "one"), open: true}}},
			want: []string{"a/main: one"},
		},
		{
			name: "it has ended, and the API server is away", snapshots: [][]*unstructured.Unstructured{one(state{id: "1", over: true})},
			logs: map[string][]pass{"a/main": {{err: errors.New("connection refused")}, {text: at(1, "one")}}},
			want: []string{"a/main: one"},
		},
		{
			name: "the last lines", snapshots: [][]*unstructured.Unstructured{one(state{id: "1"})},
			logs:    map[string][]pass{"a/main": {{text: at(1, "one")}, {text: at(1, "one") + at(2, "two"), open: true}}},
			options: Options{Tail: 5, Since: time.Unix(1, 0)}, want: []string{"a/main: one", "a/main: two"}, asked: "a/main follow=true since=01.0 tail=5",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &film{snapshots: c.snapshots, logs: c.logs}
			lines, err := follow(t, f, c.options)
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("it ended with %v", err)
			}
			if diff := cmp.Diff(c.want, lines); diff != "" {
				t.Errorf("%s\nasked %q", diff, f.asked)
			}
			if n := len(slices.DeleteFunc(slices.Clone(f.asked), func(a string) bool { return a != c.asked })); c.asked != "" && n != 1 {
				t.Errorf("asked %q, want %q once", f.asked, c.asked)
			}
		})
	}
}

func TestFollowEnds(t *testing.T) {
	forbidden := &failure.Error{Class: failure.Forbidden, Message: "you may not"}
	gone := errors.New("you may not watch")
	for _, c := range []struct {
		name    string
		p       pass
		failing error
		want    error
	}{
		{"a log may not be read", pass{err: forbidden}, nil, forbidden},
		{"who reads has enough", pass{text: at(1, "enough")}, nil, io.ErrClosedPipe},
		{"pods may not be watched", pass{open: true}, gone, gone},
	} {
		f := &film{snapshots: [][]*unstructured.Unstructured{{podWith(t, "a", map[string]state{"main": {id: "1"}})}}, logs: map[string][]pass{"a/main": {c.p}}, failing: c.failing}
		if _, err := follow(t, f, Options{}); !errors.Is(err, c.want) {
			t.Errorf("%s: it ended with %v", c.name, err)
		}
	}
}

func TestFollowSaysThatThereIsNothing(t *testing.T) {
	idle := 0
	f := &film{snapshots: [][]*unstructured.Unstructured{{}, {}, {podWith(t, "a", map[string]state{"main": {id: "1"}})}, {}}}
	if _, err := follow(t, f, Options{Idle: func() { idle++ }}); !errors.Is(err, context.DeadlineExceeded) || idle != 2 {
		t.Errorf("it was said %d times, %v", idle, err)
	}
}
