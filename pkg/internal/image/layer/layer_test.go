package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/fstest"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/model"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// files is a model in memory; open, where it is set, stands in for the content.
type files struct {
	list    []model.File
	content map[string]string
	open    func(name string) (io.ReadCloser, error)
	opened  atomic.Int32
}

func (f *files) List(context.Context) ([]model.File, error) { return f.list, nil }

func (f *files) Open(_ context.Context, name string, _ int64) (io.ReadCloser, error) {
	f.opened.Add(1)
	if f.open != nil {
		return f.open(name)
	}
	return io.NopCloser(strings.NewReader(f.content[name])), nil
}

func of(content map[string]string) *files {
	f := &files{content: content}
	for _, name := range slices.Sorted(maps.Keys(content)) {
		f.list = append(f.list, model.File{Path: name, Size: int64(len(content[name]))})
	}
	return f
}

func pack(t *testing.T, f model.Files) ([]v1.Layer, error) {
	t.Helper()
	s := NewScratch(t.TempDir())
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s.Pack(t.Context(), f, "/opt/ml/model", progress.Discard{}.Start(""))
}

// closing closes what a test has read.
func closing(t *testing.T, c io.Closer) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func digests(t *testing.T, layers []v1.Layer) string {
	t.Helper()
	var all []string
	for _, l := range layers {
		d, err := l.Digest()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, d.String())
	}
	return strings.Join(all, " ")
}

func TestAModelPackedTwiceHasTheSameDigests(t *testing.T) {
	content := map[string]string{"MLmodel": "flavors:", "data/model.skops": strings.Repeat("weights", 1000), "requirements.txt": "mlflow"}
	first, err := pack(t, of(content))
	if err != nil {
		t.Fatal(err)
	}
	shuffled := of(content)
	slices.Reverse(shuffled.list)
	second, err := pack(t, shuffled)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := digests(t, first), digests(t, second); a != b {
		t.Errorf("%s and %s: the order in which the store lists files must not count", a, b)
	}
	content["MLmodel"] = "flavours"
	other, err := pack(t, of(content))
	if err != nil {
		t.Fatal(err)
	}
	if digests(t, first) == digests(t, other) {
		t.Error("another model has the same digest")
	}
}

func TestALayerHoldsFilesOfRootWithoutTimes(t *testing.T) {
	layers, err := pack(t, of(map[string]string{"MLmodel": "x", "data/a": "yy"}))
	if err != nil {
		t.Fatal(err)
	}
	in, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer closing(t, in)
	var got []string
	for r := tar.NewReader(in); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.ModTime.Unix() != 0 || h.Uid != 0 || h.Gid != 0 || h.Uname != "" {
			t.Errorf("%s tells when and by whom it was packed: %+v", h.Name, h)
		}
		got = append(got, fmt.Sprintf("%s %o %d", h.Name, h.Mode, h.Size))
	}
	want := []string{
		"opt/ 755 0", "opt/ml/ 755 0", "opt/ml/model/ 755 0", "opt/ml/model/MLmodel 644 1",
		"opt/ml/model/data/ 755 0", "opt/ml/model/data/a 644 2",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func TestDigestsAreThoseOfTheBytes(t *testing.T) {
	noise := make([]byte, 9<<20) // more than stays in memory
	r := rand.NewChaCha8([32]byte{1})
	if _, err := r.Read(noise); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, content string
		media         types.MediaType
	}{
		{"small", "x", types.OCILayer},
		{"text", strings.Repeat("text that shrinks ", 1<<20), types.OCILayer},
		{"weights", string(noise), types.OCIUncompressedLayer},
	} {
		t.Run(c.name, func(t *testing.T) {
			layers, err := pack(t, of(map[string]string{"f": c.content}))
			if err != nil {
				t.Fatal(err)
			}
			l := layers[0]
			if m, err := l.MediaType(); err != nil || m != c.media {
				t.Errorf("media type is %s, %v; want %s", m, err, c.media)
			}
			for range 2 { // a try that failed is read again
				check(t, l.Compressed, l.Digest)
				check(t, l.Uncompressed, l.DiffID)
			}
		})
	}
}

func check(t *testing.T, open func() (io.ReadCloser, error), want func() (v1.Hash, error)) {
	t.Helper()
	in, err := open()
	if err != nil {
		t.Fatal(err)
	}
	defer closing(t, in)
	sum := sha256.New()
	if _, err := io.Copy(sum, in); err != nil {
		t.Fatal(err)
	}
	h, err := want()
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != h.Hex {
		t.Errorf("bytes have sha256 %s, the layer says %s", got, h.Hex)
	}
}

func TestPackRefusesWhatIsNotALocalPath(t *testing.T) {
	for _, names := range [][]string{
		{}, {"../x"}, {"/etc/passwd"}, {"a/../b"}, {"a//b"}, {"a\x00b"}, {"a\nb"}, {`a\b`}, {"."}, {""},
		{"a", "a"}, {"Model", "model"}, {"data", "data/x"}, {"DATA", "data/x"},
	} {
		f := &files{}
		for _, n := range names {
			f.list = append(f.list, model.File{Path: n, Size: 0})
		}
		_, err := pack(t, f)
		if failure.ClassOf(err) != failure.Invalid {
			t.Errorf("%q: %v, want failure.Invalid", names, err)
		}
		if f.opened.Load() > 0 {
			t.Errorf("%q: read before it was refused", names)
		}
	}
}

func TestPackRefusesAFileThatIsNotTheOneAnnounced(t *testing.T) {
	right := sha256.Sum256([]byte("abc"))
	for _, c := range []struct {
		name string
		file model.File
		ok   bool
	}{
		{"as announced", model.File{Size: 3, SHA256: hex.EncodeToString(right[:])}, true},
		{"size not known", model.File{Size: -1, SHA256: hex.EncodeToString(right[:])}, true},
		{"shorter", model.File{Size: 4}, false},
		{"longer", model.File{Size: 2}, false},
		{"other content", model.File{Size: 3, SHA256: strings.Repeat("0", 64)}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.file.Path = "MLmodel"
			_, err := pack(t, &files{list: []model.File{c.file}, content: map[string]string{"MLmodel": "abc"}})
			if (err == nil) != c.ok {
				t.Errorf("err = %v, want ok = %v", err, c.ok)
			}
			if err != nil && !strings.Contains(err.Error(), "MLmodel") {
				t.Errorf("%v does not name the file", err)
			}
		})
	}
}

func TestSplit(t *testing.T) {
	var list []model.File
	for i := range 30 {
		list = append(list, model.File{Path: fmt.Sprintf("shard-%02d", i), Size: int64(large + i)})
	}
	list = append(list, model.File{Path: "MLmodel", Size: 100}, model.File{Path: "unknown", Size: -1})
	groups := split(list)
	if len(groups) != most {
		t.Fatalf("%d layers, want %d", len(groups), most)
	}
	seen := map[string]bool{}
	for _, g := range groups[:most-1] {
		if len(g) != 2 {
			t.Errorf("a layer with %d large files among layers of 2", len(g))
		}
	}
	for _, g := range groups {
		for _, f := range g {
			if seen[f.Path] {
				t.Errorf("%s is in two layers", f.Path)
			}
			seen[f.Path] = true
		}
	}
	if len(seen) != len(list) {
		t.Errorf("%d files of %d are in a layer", len(seen), len(list))
	}
}

func TestALargeFileIsALayerOfItsOwn(t *testing.T) {
	f := &files{
		list: []model.File{{Path: "MLmodel", Size: 1}, {Path: "weights", Size: large}},
		open: func(name string) (io.ReadCloser, error) {
			if name == "weights" {
				return io.NopCloser(io.LimitReader(zeros{}, large)), nil
			}
			return io.NopCloser(strings.NewReader("x")), nil
		},
	}
	layers, err := pack(t, f)
	if err != nil {
		t.Fatal(err)
	}
	if len(layers) != 2 || f.opened.Load() != 2 {
		t.Errorf("%d layers after %d reads, want 2 and 2", len(layers), f.opened.Load())
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// Each read of a small file waits until all of them have begun: one after the other they would never end.
func TestSmallFilesAreReadInParallel(t *testing.T) {
	const n = 6
	begun := make(chan struct{}, n)
	all := make(chan struct{})
	go func() {
		for range n {
			<-begun
		}
		close(all)
	}()
	content := map[string]string{}
	for i := range n {
		content[fmt.Sprint(i)] = "x"
	}
	f := of(content)
	f.open = func(string) (io.ReadCloser, error) {
		begun <- struct{}{}
		<-all
		return io.NopCloser(strings.NewReader("x")), nil
	}
	if _, err := pack(t, f); err != nil {
		t.Fatal(err)
	}
}

func TestAFailedReadNamesTheFileAndLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	s := NewScratch(dir)
	broken := errors.New("connection reset")
	f := of(map[string]string{"a": "x", "b": "x"})
	f.open = func(name string) (io.ReadCloser, error) {
		if name == "b" {
			return nil, broken
		}
		return io.NopCloser(strings.NewReader("x")), nil
	}
	_, err := s.Pack(t.Context(), f, "/", progress.Discard{}.Start(""))
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "b") {
		t.Errorf("got %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestFSKeepsExecutables(t *testing.T) {
	s := NewScratch(t.TempDir())
	defer closing(t, s)
	l, err := s.FS(t.Context(), "/opt/mlflow", fstest.MapFS{"launcher.py": {Data: []byte("x"), Mode: 0o755}})
	if err != nil {
		t.Fatal(err)
	}
	in, err := l.Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer closing(t, in)
	content, err := io.ReadAll(in)
	if err != nil || !bytes.Contains(content, []byte("opt/mlflow/launcher.py\x00")) {
		t.Fatalf("no launcher in the layer, %v", err)
	}
	for r := tar.NewReader(bytes.NewReader(content)); ; {
		h, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if h.Name == "opt/mlflow/launcher.py" {
			if h.Mode != 0o755 {
				t.Errorf("mode %o", h.Mode)
			}
			return
		}
	}
}

// Where there is no room, the directory is named, and what to do.
func TestAFullDiskIsTold(t *testing.T) {
	err := unwritten(&os.PathError{Op: "write", Path: "/scratch/kubectl-mlflow-layers-1/blob-2", Err: syscall.ENOSPC})
	f, ok := errors.AsType[*failure.Error](fmt.Errorf("pack weights.bin: %w", err))
	if !ok || f.Reason != "DiskFull" || f.Object != "/scratch" || !strings.Contains(f.Hint, "TMPDIR") {
		t.Errorf("%+v", f)
	}
	if err := unwritten(os.ErrClosed); failure.ClassOf(err) != "" || !errors.Is(err, os.ErrClosed) {
		t.Errorf("%v", err)
	}
}

// A large file of this machine, which does not compress, is read once more when it is sent, and not kept in between.
func TestLargeFilesOfThisMachineAreNotKept(t *testing.T) {
	name := t.TempDir()
	weights := make([]byte, large+1)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(weights)
	for path, content := range map[string][]byte{"weights.bin": weights, "MLmodel": []byte("flavors: {}")} {
		if err := os.WriteFile(filepath.Join(name, path), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	directory, err := model.OpenDirectory(name)
	if err != nil {
		t.Fatal(err)
	}
	defer closing(t, directory)
	scratch := NewScratch(t.TempDir())
	defer closing(t, scratch)
	ctx, cancel := context.WithCancel(t.Context())
	layers, err := scratch.Pack(ctx, directory, "/opt/ml/model", progress.Discard{}.Start(""))
	cancel() // what was packed outlives it
	if err != nil || len(layers) != 2 {
		t.Fatalf("%v, %d layers", err, len(layers))
	}
	if scratch.dir != "" {
		t.Error("the file was kept")
	}
	for _, l := range layers {
		for range 2 {
			check(t, l.Compressed, l.Digest)
			check(t, l.Uncompressed, l.DiffID)
		}
	}
	kept, err := pack(t, of(map[string]string{"weights.bin": string(weights), "MLmodel": "flavors: {}"}))
	if err != nil || digests(t, kept) != digests(t, layers) {
		t.Errorf("%v: it has another digest than what was kept", err)
	}
	// One that is not read to its end leaves nobody behind who writes to it.
	in, err := layers[0].Compressed()
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
}
