package layer

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync/atomic"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/model"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

const (
	// large files are layers of their own: a version that changes one of them sends that one.
	large = 64 << 20
	// most is the number of layers that a model may have; a container runtime stacks about 125 in all.
	most = 16
	// parallel is the number of layers packed at a time.
	parallel = 4
	// small files are read ahead, ahead of them at a time: each costs a round trip.
	small = 1 << 20
	ahead = 16
)

// Pack packs a model's files under root, each read once. Files of 64 MiB and more are layers of their own; the rest shares one.
// There are at most 16. failure.Invalid on a path that is not local, on duplicate and on case-folded names.
func (s *Scratch) Pack(ctx context.Context, f model.Files, root string, step progress.Step) ([]v1.Layer, error) {
	list, err := f.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the model's files: %w", err)
	}
	if err := validate(list); err != nil {
		return nil, err
	}
	read := &meter{step: step, total: total(list)}
	groups := split(list)
	layers := make([]v1.Layer, len(groups))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for i, group := range groups {
		g.Go(func() error {
			// Ends the reads ahead when packing has failed.
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			l, err := s.Layer(ctx, root, readAhead(ctx, f, group, read))
			if err != nil {
				return err
			}
			layers[i] = l
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return layers, nil
}

// validate refuses what could leave the model's directory, or what two file systems could read as two different models.
func validate(list []model.File) error {
	if len(list) == 0 {
		return invalid("ModelEmpty", "the model has no files", "check the model's URI")
	}
	folded := map[string]string{}
	for _, f := range list {
		if !fs.ValidPath(f.Path) || f.Path == "." || strings.ContainsFunc(f.Path, unfit) {
			return invalid("ModelPathInvalid", fmt.Sprintf("the model has a file named %q, which is not a local path", f.Path),
				"log the model again with plain file names")
		}
		if other, ok := folded[strings.ToLower(f.Path)]; ok {
			return invalid("ModelPathInvalid", fmt.Sprintf("the model has both %q and %q", other, f.Path),
				"log the model again with names that differ by more than case")
		}
		folded[strings.ToLower(f.Path)] = f.Path
	}
	for _, f := range list {
		for dir := path.Dir(f.Path); dir != "."; dir = path.Dir(dir) {
			if other, ok := folded[strings.ToLower(dir)]; ok {
				return invalid("ModelPathInvalid", fmt.Sprintf("the model has %q both as a file and as a directory", other),
					"log the model again with names that differ")
			}
		}
	}
	return nil
}

// unfit are characters that one of the file systems on the way cannot hold, or that a terminal would obey.
func unfit(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' }

func invalid(reason, message, hint string) error {
	return &failure.Error{Class: failure.Invalid, Reason: reason, Message: message, Hint: hint}
}

func total(list []model.File) int64 {
	var n int64
	for _, f := range list {
		if f.Size < 0 {
			return -1
		}
		n += f.Size
	}
	return n
}

// split gives each large file a layer of its own. Where there are more of them than layers, the emptiest layer takes the next.
func split(list []model.File) [][]model.File {
	var rest []model.File
	var big []model.File
	for _, f := range list {
		if f.Size >= large {
			big = append(big, f)
		} else {
			rest = append(rest, f)
		}
	}
	// Largest first, then by name: the outcome depends on the files alone.
	slices.SortFunc(big, func(a, b model.File) int {
		return cmp.Or(cmp.Compare(b.Size, a.Size), cmp.Compare(a.Path, b.Path))
	})
	groups := make([][]model.File, min(len(big), most-1))
	sizes := make([]int64, len(groups))
	for _, f := range big {
		i := slices.Index(sizes, slices.Min(sizes))
		groups[i] = append(groups[i], f)
		sizes[i] += f.Size
	}
	if len(rest) > 0 {
		groups = append(groups, rest)
	}
	return groups
}

// readAhead returns the files of one layer. Small ones are read in parallel, in the order in which they are packed.
func readAhead(ctx context.Context, from model.Files, group []model.File, read *meter) []File {
	slices.SortFunc(group, func(a, b model.File) int { return cmp.Compare(a.Path, b.Path) })
	type result struct {
		content []byte
		err     error
	}
	tokens := make(chan struct{}, ahead)
	results := make(map[string]chan result)
	_, near := from.(interface{ Near() })
	files := make([]File, 0, len(group))
	for _, f := range group {
		file := File{Path: f.Path, Size: f.Size, SHA256: f.SHA256, Again: near && f.Size > small}
		if f.Size < 0 || f.Size > small {
			file.Open = func(ctx context.Context) (io.ReadCloser, error) { return open(ctx, from, f.Path, read) }
		} else {
			done := make(chan result, 1)
			results[f.Path] = done
			file.Open = func(ctx context.Context) (io.ReadCloser, error) {
				select {
				case r := <-done:
					<-tokens
					return io.NopCloser(bytes.NewReader(r.content)), r.err
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}
		}
		files = append(files, file)
	}
	go func() {
		for _, f := range group {
			done, ok := results[f.Path]
			if !ok {
				continue
			}
			select {
			case tokens <- struct{}{}:
			case <-ctx.Done():
				return
			}
			go func() {
				content, err := readAll(ctx, from, f, read)
				done <- result{content, err}
			}()
		}
	}()
	return files
}

func readAll(ctx context.Context, from model.Files, f model.File, read *meter) ([]byte, error) {
	in, err := open(ctx, from, f.Path, read)
	if err != nil {
		return nil, err
	}
	// One byte more than announced: the packer sees a file that grew.
	content, err := io.ReadAll(io.LimitReader(in, f.Size+1))
	if closing := in.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Path, err)
	}
	return content, nil
}

func open(ctx context.Context, from model.Files, name string, read *meter) (io.ReadCloser, error) {
	in, err := from.Open(ctx, name, 0)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.TeeReader(in, read), in}, nil
}

// meter tells a step how much was read.
type meter struct {
	step  progress.Step
	total int64
	n     atomic.Int64
}

func (m *meter) Write(p []byte) (int, error) {
	// What is read once more when it is sent was told already.
	if n := m.n.Add(int64(len(p))); n <= m.total || m.total < 0 {
		m.step.Bytes(n, m.total)
	}
	return len(p), nil
}
