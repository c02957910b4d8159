package restore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/trackingserver"
)

// magic begins what pg_dump --format=custom writes.
const magic = "PGDMP"

// openDump looks at the file before anything is asked of a cluster.
func openDump(ctx context.Context, path string) (*trackingserver.Dump, error) {
	file, err := os.Open(path) //nolint:gosec // the file that the user names
	if err != nil {
		return nil, noDump(path, "it cannot be read", err)
	}
	dump, err := measure(ctx, file)
	if closed := file.Close(); err == nil {
		err = closed
	}
	if ctx.Err() != nil {
		return nil, err
	}
	if err != nil {
		return nil, noDump(path, "it is no dump in PostgreSQL's custom format", err)
	}
	dump.Open = func() (io.ReadCloser, error) { return os.Open(path) } //nolint:gosec // as above
	return dump, nil
}

// measure reads all of it: what arrives is compared with that.
func measure(ctx context.Context, file *os.File) (*trackingserver.Dump, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is no file")
	}
	begin := make([]byte, len(magic))
	if _, err := io.ReadFull(file, begin); err != nil || string(begin) != magic {
		return nil, errors.New("it does not begin with " + magic)
	}
	sum := sha256.New()
	n, err := io.Copy(sum, reader{ctx, io.MultiReader(bytes.NewReader(begin), file)})
	if err != nil {
		return nil, err
	}
	return &trackingserver.Dump{Size: n, SHA256: hex.EncodeToString(sum.Sum(nil))}, nil
}

// reader ends with ctx.
type reader struct {
	ctx context.Context
	io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, fmt.Errorf("reading the dump: %w", context.Cause(r.ctx))
	}
	return r.Reader.Read(p)
}

func noDump(path, message string, err error) error {
	return &failure.Error{
		Class: failure.Invalid, Reason: "NoDump", Object: path, Message: message,
		Hint: "make one with: pg_dump --format=custom --file=FILE DATABASE", Err: err,
	}
}
