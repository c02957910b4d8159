package cluster

import (
	"bufio"
	"context"
	"io"
	"strconv"
	"strings"
	"time"
)

// logLimit is how much of a log is read at once, in bytes: enough for any tail that a person reads.
const logLimit = 256 << 10

// LogOptions say what of a container's log is read; the zero value is all that the kubelet still has.
type LogOptions struct {
	Follow     bool
	Previous   bool      // of the run before the last restart
	Timestamps bool      // each line begins with its time, in RFC 3339 with nanoseconds, and a space
	Since      time.Time // the server may begin up to a second earlier
	Tail       int64     // lines at most; 0 is all
}

// Log opens a container's log. The caller closes it.
func (c *Client) Log(ctx context.Context, pod Ref, container string, o LogOptions) (io.ReadCloser, error) {
	var log io.ReadCloser
	err := c.do(ctx, "get", pod, func(ctx context.Context, conn *connection) error {
		request := conn.raw.Get().AbsPath("/api/v1/namespaces", pod.Namespace, "pods", pod.Name, "log").Param("container", container)
		for name, on := range map[string]bool{"follow": o.Follow, "previous": o.Previous, "timestamps": o.Timestamps} {
			if on {
				request.Param(name, "true")
			}
		}
		if !o.Since.IsZero() {
			request.Param("sinceTime", o.Since.UTC().Format(time.RFC3339))
		}
		if o.Tail > 0 {
			request.Param("tailLines", strconv.FormatInt(o.Tail, 10))
		}
		stream, err := request.Stream(ctx)
		log = stream
		return err
	})
	return log, err
}

// Tail returns the last n lines of a container's log, without the line breaks; previous is the log of the run before the
// last restart.
func (c *Client) Tail(ctx context.Context, pod Ref, container string, previous bool, n int) ([]string, error) {
	log, err := c.Log(ctx, pod, container, LogOptions{Previous: previous, Tail: int64(n)})
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(log, logLimit))
	if closeErr := log.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, c.explain(ctx, err, "get", pod)
	}
	text := strings.TrimRight(string(body), "\n")
	if text == "" {
		return nil, nil
	}
	return strings.Split(text, "\n"), nil
}

// Follow gives f each line of a container's log, from the first on, until the container ends or f fails.
func (c *Client) Follow(ctx context.Context, pod Ref, container string, f func(line string) error) error {
	log, err := c.Log(ctx, pod, container, LogOptions{Follow: true})
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, logLimit)
	for err == nil && lines.Scan() {
		err = f(lines.Text())
	}
	if err == nil {
		err = lines.Err()
	}
	if closeErr := log.Close(); err == nil {
		err = closeErr
	}
	return err
}
