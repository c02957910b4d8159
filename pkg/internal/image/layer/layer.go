package layer

import (
	"archive/tar"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
)

// File is one file of a layer. Path is slash-separated and relative to the layer's root.
type File struct {
	Path       string
	Size       int64  // bytes, -1 where it is not known before reading
	SHA256     string // lower-case hex, or "" where it is not known before reading
	Executable bool
	Open       func(context.Context) (io.ReadCloser, error)
	Again      bool // Open may be called again, and costs no more than to read what was kept of it
}

// Layer packs files under root ("/opt/ml/model") as one layer. It reads each file once.
func (s *Scratch) Layer(ctx context.Context, root string, files []File) (v1.Layer, error) {
	blob := &spool{scratch: s}
	layer, err := s.pack(ctx, root, files, blob)
	if err != nil {
		return nil, errors.Join(err, blob.discard())
	}
	return layer, nil
}

func (s *Scratch) pack(ctx context.Context, root string, files []File, blob *spool) (v1.Layer, error) {
	files = slices.SortedFunc(slices.Values(files), func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	digest, diffID := sha256.New(), sha256.New()
	var plain io.Writer = blob
	// What can be read again, and is not compressed, need not be kept.
	again := !slices.ContainsFunc(files, func(f File) bool { return !f.Again })
	var unkept counter
	if again {
		plain = &unkept
	}
	body := &compressor{plain: plain, zipped: io.MultiWriter(blob, digest)}
	if err := s.write(ctx, root, files, beside{diffID, body}); err != nil {
		return nil, err
	}
	if err := body.Close(); err != nil {
		return nil, fmt.Errorf("pack layer: %w", err)
	}
	if body.gzip == nil {
		digest = diffID
		if again {
			// It is opened when ctx may have ended, and ends with its reader.
			ctx := context.WithoutCancel(ctx)
			open := func() (io.ReadCloser, error) {
				out, in := io.Pipe()
				go func() { in.CloseWithError(s.write(ctx, root, files, in)) }()
				return out, nil
			}
			return &packed{diffID: sum(diffID), digest: sum(digest), size: int64(unkept), open: open}, nil
		}
	}
	open, err := blob.done()
	if err != nil {
		return nil, err
	}
	return &packed{diffID: sum(diffID), digest: sum(digest), size: blob.size, gzipped: body.gzip != nil, open: open}, nil
}

// write writes the archive of files, which are sorted, below root.
func (s *Scratch) write(ctx context.Context, root string, files []File, to io.Writer) error {
	archive := &archive{tar: tar.NewWriter(to), seen: map[string]bool{}}
	root = strings.Trim(root, "/")
	if err := archive.directories(path.Join(root, "x")); err != nil {
		return err
	}
	for _, f := range files {
		if err := s.add(ctx, archive, root, f); err != nil {
			return fmt.Errorf("pack %s: %w", f.Path, err)
		}
	}
	if err := archive.tar.Close(); err != nil {
		return fmt.Errorf("pack layer: %w", err)
	}
	return nil
}

// atOnce is how much is copied at a time: enough for two writers of it to be worth two processors.
const atOnce = 1 << 20

// beside writes to two writers at the same time, a hash and what is slower than it.
type beside struct {
	one hash.Hash
	two io.Writer
}

func (b beside) Write(p []byte) (int, error) {
	if len(p) < atOnce/4 {
		_, _ = b.one.Write(p) // a hash takes everything
		return b.two.Write(p)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = b.one.Write(p)
	}()
	n, err := b.two.Write(p)
	<-done
	return n, err
}

// add writes one file. A file of unknown size is read into a spool first: a tar header comes before the content.
func (s *Scratch) add(ctx context.Context, a *archive, root string, f File) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	in, err := f.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	var reader io.Reader = in
	if f.Size < 0 {
		spooled := &spool{scratch: s}
		defer func() { err = errors.Join(err, spooled.discard()) }()
		if _, err := io.Copy(spooled, in); err != nil {
			return err
		}
		open, err := spooled.done()
		if err != nil {
			return err
		}
		again, err := open()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, again.Close()) }()
		reader, f.Size = again, spooled.size
	}
	return a.file(path.Join(root, f.Path), f, reader)
}

// archive writes a tar in which nothing depends on when, where and by whom it is written.
type archive struct {
	tar  *tar.Writer
	seen map[string]bool
}

func (a *archive) directories(name string) error {
	dir := path.Dir(name)
	if dir == "." || a.seen[dir] {
		return nil
	}
	if err := a.directories(dir); err != nil {
		return err
	}
	a.seen[dir] = true
	return a.tar.WriteHeader(header(dir+"/", tar.TypeDir, 0o755, 0))
}

func (a *archive) file(name string, f File, in io.Reader) error {
	if err := a.directories(name); err != nil {
		return err
	}
	mode := int64(0o644)
	if f.Executable {
		mode = 0o755
	}
	if err := a.tar.WriteHeader(header(name, tar.TypeReg, mode, f.Size)); err != nil {
		return err
	}
	content := sha256.New()
	out := io.Writer(a.tar)
	if f.SHA256 != "" {
		out = io.MultiWriter(a.tar, content)
	}
	// The structs hide ways of copying that take less at a time.
	n, err := io.CopyBuffer(struct{ io.Writer }{out}, struct{ io.Reader }{io.LimitReader(in, f.Size)}, make([]byte, min(atOnce, f.Size+1)))
	if err != nil {
		return err
	}
	if n != f.Size {
		return fmt.Errorf("%w: %d bytes of %d", io.ErrUnexpectedEOF, n, f.Size)
	}
	// The source must end here: a file that grew is another file.
	if more, err := io.CopyN(io.Discard, in, 1); err != nil && !errors.Is(err, io.EOF) {
		return err
	} else if more > 0 {
		return fmt.Errorf("content is longer than the %d bytes that were announced", f.Size)
	}
	if got := hex.EncodeToString(content.Sum(nil)); f.SHA256 != "" && got != f.SHA256 {
		return fmt.Errorf("content has sha256 %s, want %s", got, f.SHA256)
	}
	return nil
}

func header(name string, kind byte, mode, size int64) *tar.Header {
	return &tar.Header{Typeflag: kind, Name: name, Mode: mode, Size: size, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
}

func sum(h hash.Hash) v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(h.Sum(nil))}
}

// Files lists all files of fsys. What is neither a directory nor a regular file is an error: no layer of ours holds it.
func Files(fsys fs.FS) ([]File, error) {
	var files []File
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%s is not a regular file", name)
		}
		files = append(files, File{
			Path:       name,
			Size:       info.Size(),
			Executable: info.Mode()&0o100 != 0,
			Open:       func(context.Context) (io.ReadCloser, error) { return fsys.Open(name) },
		})
		return nil
	})
	return files, err
}

// FS packs all files of fsys under root as one layer.
func (s *Scratch) FS(ctx context.Context, root string, fsys fs.FS) (v1.Layer, error) {
	files, err := Files(fsys)
	if err != nil {
		return nil, fmt.Errorf("list files of a layer: %w", err)
	}
	return s.Layer(ctx, root, files)
}

// Tar makes a layer of an archive as it is. What is in it, and whether it is reproducible, is its maker's business.
func (s *Scratch) Tar(in io.Reader) (v1.Layer, error) {
	blob := &spool{scratch: s}
	layer, err := s.repack(in, blob)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("pack layer: %w", err), blob.discard())
	}
	return layer, nil
}

func (s *Scratch) repack(in io.Reader, blob *spool) (v1.Layer, error) {
	digest, diffID := sha256.New(), sha256.New()
	body := &compressor{plain: blob, zipped: io.MultiWriter(blob, digest)}
	if _, err := io.Copy(io.MultiWriter(diffID, body), in); err != nil {
		return nil, err
	}
	if err := body.Close(); err != nil {
		return nil, err
	}
	open, err := blob.done()
	if err != nil {
		return nil, err
	}
	if body.gzip == nil {
		digest = diffID
	}
	return &packed{diffID: sum(diffID), digest: sum(digest), size: blob.size, gzipped: body.gzip != nil, open: open}, nil
}

// packed is a layer whose bytes lie in a spool.
type packed struct {
	diffID, digest v1.Hash
	size           int64
	gzipped        bool
	open           func() (io.ReadCloser, error)
}

func (p *packed) Digest() (v1.Hash, error)           { return p.digest, nil }
func (p *packed) DiffID() (v1.Hash, error)           { return p.diffID, nil }
func (p *packed) Size() (int64, error)               { return p.size, nil }
func (p *packed) Compressed() (io.ReadCloser, error) { return p.open() }
func (p *packed) MediaType() (types.MediaType, error) {
	if p.gzipped {
		return types.OCILayer, nil
	}
	return types.OCIUncompressedLayer, nil
}

func (p *packed) Uncompressed() (io.ReadCloser, error) {
	in, err := p.open()
	if err != nil || !p.gzipped {
		return in, err
	}
	out, err := gzip.NewReader(in)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read a packed layer: %w", err), in.Close())
	}
	return struct {
		io.Reader
		io.Closer
	}{out, in}, nil
}
