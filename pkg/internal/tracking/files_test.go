package tracking

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/model"
)

func TestFiles(t *testing.T) {
	_, c := newRecorded(t)
	files := c.Files(Version{Source: source})
	list, err := files.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range list {
		names = append(names, fmt.Sprintf("%s %d", f.Path, f.Size))
	}
	want := "MLmodel 1300,conda.yaml 206,input_example.json 149,model.skops 11081,python_env.yaml 114,requirements.txt 89,serving_input_example.json 314"
	if got := strings.Join(names, ","); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	text, err := readAll(t, files, "requirements.txt", 0)
	if err != nil || !strings.HasPrefix(text, "mlflow==3.17.2\n") || len(text) != 89 {
		t.Errorf("%q, %v", text, err)
	}
	if half, err := readAll(t, files, "requirements.txt", 40); err != nil || half != text[40:] {
		t.Errorf("%q, %v", half, err)
	}
	if end, err := readAll(t, files, "requirements.txt", 89); err != nil || end != "" {
		t.Errorf("%q, %v", end, err)
	}
	if _, err := readAll(t, files, "none", 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}

func TestFilesWithSpacesAndSigns(t *testing.T) {
	_, c := newRecorded(t)
	files := c.Files(Version{Source: "mlflow-artifacts:/1/" + runID + "/artifacts/notes"})
	list, err := files.List(t.Context())
	if err != nil || len(list) != 1 || list[0].Path != "a b+c.txt" {
		t.Fatalf("%+v, %v", list, err)
	}
	if text, err := readAll(t, files, "a b+c.txt", 0); err != nil || text != "hello" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestNoFiles(t *testing.T) {
	_, c := newRecorded(t)
	files := c.Files(Version{Source: "mlflow-artifacts:/1/nothing"})
	if list, err := files.List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := model.Read(t.Context(), files); failure.ClassOf(err) != failure.Invalid {
		t.Errorf("error = %v", err)
	}
}

func TestSourcesThatAreNotServed(t *testing.T) {
	_, c := newRecorded(t)
	for source, want := range map[string]string{
		"s3://bucket/1/models/x":                    "the model's artifacts are in s3",
		"/var/mlruns/1/x":                           "ArtifactsNotServed",
		"mlflow-artifacts://evil.example.com:80/1":  "another host, evil.example.com:80",
		"mlflow-artifacts://169.254.169.254/latest": "another host",
	} {
		_, err := c.Files(Version{Source: source}).List(t.Context())
		e, ok := errors.AsType[*failure.Error](err)
		if !ok || !strings.Contains(err.Error()+e.Reason, want) {
			t.Errorf("%s: %v", source, err)
		}
	}
}

func TestHostileListings(t *testing.T) {
	for _, name := range []string{"..", "../x", "/etc/passwd", "a/b", `a\\b`, `a\u0000b`, "a#b", "", "."} {
		rec, c := newRecorded(t)
		rec.answering("/"+artifacts, http.StatusOK, `{"files":[{"path":"`+name+`","is_dir":false,"file_size":1}]}`)
		_, err := c.Files(Version{Source: source}).List(t.Context())
		if failure.ClassOf(err) != failure.Refused {
			t.Errorf("%q: %v", name, err)
		}
	}
	rec, c := newRecorded(t)
	rec.answering("/"+artifacts, http.StatusOK, `{"files":[{"path":"again","is_dir":true}]}`)
	if _, err := c.Files(Version{Source: source}).List(t.Context()); failure.ClassOf(err) != failure.Refused {
		t.Errorf("directories without end: %v", err)
	}
	rec.answering("/"+artifacts, http.StatusOK, `{"files":[{"path":"a","file_size":1},{"path":"a","file_size":2}]}`)
	if _, err := c.Files(Version{Source: source}).List(t.Context()); failure.ClassOf(err) != failure.Refused {
		t.Errorf("a name twice: %v", err)
	}
	if _, err := c.Files(Version{Source: source}).Open(t.Context(), "../../secret", 0); failure.ClassOf(err) != failure.Refused {
		t.Errorf("a path that leads out: %v", err)
	}
}

func readAll(t *testing.T, files model.Files, name string, offset int64) (string, error) {
	t.Helper()
	body, err := files.Open(t.Context(), name, offset)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(body)
	if closeErr := body.Close(); closeErr != nil {
		t.Error(closeErr)
	}
	return string(b), err
}

// flaky serves content, listed with size, and breaks the first answers off after a while.
type flaky struct {
	content  []byte
	size     int
	breaks   int32 // answers that break off
	after    int   // bytes
	ranges   bool
	stalls   bool // instead of breaking the connection
	etag     func(answer int32) string
	answers  atomic.Int32
	asked    atomic.Pointer[string] // the last Range
	released chan struct{}
}

func (f *flaky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/"+artifacts {
		_, _ = fmt.Fprintf(w, `{"files":[{"path":"model.bin","is_dir":false,"file_size":%d}]}`, f.size)
		return
	}
	n := f.answers.Add(1)
	asked := r.Header.Get("Range")
	f.asked.Store(&asked)
	if f.etag != nil {
		w.Header().Set("ETag", f.etag(n))
	}
	content := f.content
	status := http.StatusOK
	if first, ok := strings.CutPrefix(asked, "bytes="); ok && f.ranges {
		start, err := strconv.Atoi(strings.TrimSuffix(first, "-"))
		if err != nil {
			panic(err)
		}
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, len(content)-1, len(content)))
		content, status = content[start:], http.StatusPartialContent
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(content)))
	w.WriteHeader(status)
	if n > f.breaks {
		_, _ = w.Write(content)
		return
	}
	_, _ = w.Write(content[:f.after])
	_ = http.NewResponseController(w).Flush()
	if f.stalls {
		select {
		case <-f.released:
		case <-r.Context().Done():
		}
	}
	panic(http.ErrAbortHandler)
}

func (f *flaky) files(t *testing.T) *files {
	t.Helper()
	f.released = make(chan struct{})
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(f.released) })
	c := clientOf(t, server.URL)
	c.policy.stall = 50 * time.Millisecond
	return &files{client: c, source: "mlflow-artifacts:/1/x"}
}

func TestReadsResume(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789"), 100_000)
	same := func(int32) string { return `"same"` }
	for name, f := range map[string]*flaky{
		"ranges":    {breaks: 3, after: 300_000, ranges: true, etag: same},
		"no ranges": {breaks: 2, after: 300_000, etag: same},
		"stalls":    {breaks: 2, after: 300_000, ranges: true, stalls: true},
		"at once":   {breaks: 5, after: 0, ranges: true},
	} {
		t.Run(name, func(t *testing.T) {
			f.content, f.size = content, len(content)
			files := f.files(t)
			if _, err := files.List(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, offset := range []int64{0, 12_345} {
				f.answers.Store(0)
				text, err := readAll(t, files, "model.bin", offset)
				if err != nil || text != string(content[offset:]) {
					t.Errorf("from %d: %d bytes, %v", offset, len(text), err)
				}
			}
		})
	}
}

func TestReadsThatCannotBeTrusted(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789"), 1000)
	for name, tc := range map[string]struct {
		f     *flaky
		class failure.Class
		want  string
	}{
		"shorter than listed": {&flaky{size: len(content) + 1}, failure.Refused, "it has 10000 bytes and was listed with 10001"},
		"longer than listed":  {&flaky{size: len(content) - 1}, failure.Refused, "it has 10000 bytes and was listed with 9999"},
		"another file":        {&flaky{size: len(content), breaks: 1, after: 100, ranges: true, etag: func(n int32) string { return fmt.Sprint(`"`, n, `"`) }}, failure.Refused, "it changed while it was read"},
		"breaks for ever":     {&flaky{size: len(content), breaks: 1 << 30, after: 0, ranges: true}, failure.Diagnosed, "model.bin broke off at byte 0"},
	} {
		t.Run(name, func(t *testing.T) {
			tc.f.content = content
			files := tc.f.files(t)
			if _, err := files.List(t.Context()); err != nil {
				t.Fatal(err)
			}
			_, err := readAll(t, files, "model.bin", 0)
			if failure.ClassOf(err) != tc.class || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error = %v", err)
			}
		})
	}
}
