package tracking

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// Open implements model.Files. The body goes on by itself where a connection breaks or stands still, and ends with an error
// where it has another size than List said or the file changed meanwhile.
func (f *files) Open(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	if err := checkPath(name); err != nil {
		return nil, f.hostile(err.Error())
	}
	b := &body{ctx: ctx, files: f, name: name, offset: offset, size: f.size(name)}
	if b.size >= 0 && offset >= b.size {
		return http.NoBody, nil // a server has no answer to a range that starts at the end
	}
	if err := f.client.retry(ctx, b.open); err != nil {
		return nil, err
	}
	return b, nil
}

// body reads one file over as many requests as it takes.
type body struct {
	ctx    context.Context
	files  *files
	name   string
	offset int64  // of the next byte
	size   int64  // of the file, -1 if not known
	etag   string // of the first answer, or ""

	failures int // in a row, without a byte between them
	stream   io.ReadCloser
	cancel   context.CancelFunc
	stall    *time.Timer // cancels a read that stands still
}

// open sends a request for the rest of the file.
func (b *body) open() error {
	root, err := b.files.root()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(b.ctx)
	stall := time.AfterFunc(b.files.client.policy.stall, cancel)
	resp, err := b.get(ctx, root)
	if err == nil {
		if err = b.check(resp); err == nil {
			err = b.skip(resp)
		}
		if err != nil {
			_ = resp.Body.Close() // it is given up: what its end says does not matter
		}
	}
	stall.Stop()
	if err != nil {
		cancel()
		if b.ctx.Err() == nil && errors.Is(err, context.Canceled) {
			return &transient{err: b.stopped(fmt.Errorf("no byte for %s", b.files.client.policy.stall))}
		}
		return err
	}
	b.stream, b.cancel, b.stall = resp.Body, cancel, stall
	return nil
}

func (b *body) get(ctx context.Context, root string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.files.url(root, b.name).String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept-Encoding", "identity") // the bytes of the file, and their number
	if b.offset > 0 {
		req.Header.Set("Range", "bytes="+strconv.FormatInt(b.offset, 10)+"-")
	}
	resp, err := b.files.client.send(req)
	if isAbsent(err) {
		return nil, fmt.Errorf("%s: %w (%w)", b.name, fs.ErrNotExist, err)
	}
	return resp, err
}

// check compares the answer with what is known of the file, and learns from the first one.
func (b *body) check(resp *http.Response) error {
	etag := resp.Header.Get("ETag")
	if b.etag != "" && etag != b.etag {
		return b.changed("it changed while it was read")
	}
	b.etag = etag
	size := resp.ContentLength
	if resp.StatusCode == http.StatusPartialContent {
		start, total, err := contentRange(resp.Header.Get("Content-Range"))
		if err != nil || start != b.offset {
			return b.changed(fmt.Sprintf("the server answered with the range %q", resp.Header.Get("Content-Range")))
		}
		size = total
	}
	if size < 0 {
		return nil
	}
	if b.size >= 0 && size != b.size {
		return b.changed(fmt.Sprintf("it has %d bytes and was listed with %d", size, b.size))
	}
	b.size = size
	return nil
}

// skip reads up to the offset where the server does not know ranges.
func (b *body) skip(resp *http.Response) error {
	if resp.StatusCode == http.StatusPartialContent || b.offset == 0 {
		return nil
	}
	n, err := io.CopyN(io.Discard, resp.Body, b.offset)
	if errors.Is(err, io.EOF) {
		return b.changed(fmt.Sprintf("it ended at %d bytes", n))
	}
	if err != nil {
		return &transient{err: b.stopped(err)}
	}
	return nil
}

// contentRange parses "bytes 10-20/314"; total is -1 for "*".
func contentRange(s string) (start, total int64, err error) {
	span, size, ok := strings.Cut(strings.TrimPrefix(s, "bytes "), "/")
	first, _, ok2 := strings.Cut(span, "-")
	if !ok || !ok2 {
		return 0, 0, errors.New("not a content range")
	}
	if start, err = strconv.ParseInt(first, 10, 64); err != nil {
		return 0, 0, err
	}
	if size == "*" {
		return start, -1, nil
	}
	total, err = strconv.ParseInt(size, 10, 64)
	return start, total, err
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	for {
		if b.stream == nil {
			if err := b.again(); err != nil {
				return 0, err
			}
		}
		b.stall.Reset(b.files.client.policy.stall)
		n, err := b.stream.Read(p)
		b.stall.Stop()
		b.offset += int64(n)
		if n > 0 {
			b.failures = 0
		}
		switch {
		case b.size >= 0 && b.offset > b.size:
			return 0, b.changed(fmt.Sprintf("it has more than the %d bytes that were listed", b.size))
		case err == nil:
			return n, nil
		case b.offset == b.size || b.size < 0 && errors.Is(err, io.EOF):
			return n, io.EOF
		case b.ctx.Err() != nil:
			return n, context.Cause(b.ctx)
		}
		if err := b.broke(err); err != nil {
			return n, err
		}
		if n > 0 {
			return n, nil
		}
	}
}

// broke closes a stream that ended too early; it is an error when it did so too often.
func (b *body) broke(err error) error {
	b.failures++
	b.drop()
	if b.failures < b.files.client.policy.attempts {
		return nil
	}
	if errors.Is(err, io.EOF) || errors.Is(err, context.Canceled) {
		err = io.ErrUnexpectedEOF
	}
	return b.stopped(err)
}

// again asks for the rest, after a pause.
func (b *body) again() error {
	if b.failures > 0 {
		if err := b.files.client.pause(b.ctx, b.failures, 0); err != nil {
			return err
		}
	}
	return b.files.client.retry(b.ctx, b.open)
}

func (b *body) drop() {
	b.cancel()
	_ = b.stream.Close() // it is given up: what its end says does not matter
	b.stream = nil
}

// Close implements io.Closer.
func (b *body) Close() error {
	if b.stream == nil {
		return nil
	}
	b.stall.Stop()
	b.cancel()
	err := b.stream.Close()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (b *body) stopped(err error) error {
	return &failure.Error{
		Class:   failure.Diagnosed,
		Reason:  "DownloadBroken",
		Object:  b.files.client.name(),
		Message: fmt.Sprintf("%s broke off at byte %d", b.name, b.offset),
		Hint:    "run the command again; if it breaks off again, see the server's log",
		Err:     err,
	}
}

func (b *body) changed(how string) error {
	return &failure.Error{
		Class:   failure.Refused,
		Reason:  "ModelChanged",
		Object:  b.files.source,
		Message: b.name + ": " + how,
		Hint:    "run the command again when nobody writes to the model",
	}
}
