package layer

import (
	"bytes"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
)

const (
	// probed is how much of a layer decides whether compressing it pays.
	probed = 4 << 20
	// pays is the share of its size to which the probe must shrink. Weights of neural networks shrink to about 0.93 of it: the
	// time to compress and to unpack them is more than the time to send them.
	pays = 0.9
)

// compressor gzips what is written to it, or passes it on as it is where a probe of its beginning says that gzip does not pay.
// The decision depends on the content alone, so it is the same wherever the content is packed.
type compressor struct {
	plain   io.Writer // gets it as it is
	zipped  io.Writer // gets it compressed
	begin   bytes.Buffer
	decided bool
	gzip    *gzip.Writer // nil where the content is passed on
}

func (c *compressor) Write(p []byte) (int, error) {
	if c.decided {
		return c.write(p)
	}
	c.begin.Write(p)
	if c.begin.Len() < probed {
		return len(p), nil
	}
	if err := c.decide(); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (c *compressor) write(p []byte) (int, error) {
	if c.gzip != nil {
		return c.gzip.Write(p)
	}
	return c.plain.Write(p)
}

func (c *compressor) decide() error {
	begin := c.begin.Bytes()
	sample := begin[:min(len(begin), probed)]
	var size counter
	if err := gzipTo(&size, sample); err != nil {
		return err
	}
	if float64(size) < pays*float64(len(sample)) {
		w, err := gzip.NewWriterLevel(c.zipped, gzip.BestSpeed)
		if err != nil {
			return fmt.Errorf("compress a layer: %w", err)
		}
		c.gzip = w
	}
	c.decided = true
	if _, err := c.write(begin); err != nil {
		return err
	}
	c.begin = bytes.Buffer{}
	return nil
}

// Close writes what is left. It does not close the writer below.
func (c *compressor) Close() error {
	if !c.decided {
		if err := c.decide(); err != nil {
			return err
		}
	}
	if c.gzip == nil {
		return nil
	}
	return c.gzip.Close()
}

func gzipTo(w io.Writer, p []byte) error {
	z, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return fmt.Errorf("compress a layer: %w", err)
	}
	if _, err := z.Write(p); err != nil {
		return fmt.Errorf("compress a layer: %w", err)
	}
	return z.Close()
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}
