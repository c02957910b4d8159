package cluster

import (
	"bufio"
	"context"
	"io"
	"strconv"
	"strings"
)

// logLimit is how much of a log is read, in bytes: enough for any tail that a person reads.
const logLimit = 256 << 10

// Tail returns the last n lines of a container's log, without the line breaks; previous is the log of the run before the
// last restart.
func (c *Client) Tail(ctx context.Context, pod Ref, container string, previous bool, n int) ([]string, error) {
	var body []byte
	err := c.do(ctx, "get", pod, func(ctx context.Context, conn *connection) error {
		log, err := conn.raw.Get().
			AbsPath("/api/v1/namespaces", pod.Namespace, "pods", pod.Name, "log").
			Param("container", container).
			Param("previous", strconv.FormatBool(previous)).
			Param("tailLines", strconv.Itoa(n)).
			Stream(ctx)
		if err != nil {
			return err
		}
		body, err = io.ReadAll(io.LimitReader(log, logLimit))
		if closeErr := log.Close(); err == nil {
			err = closeErr
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	text := strings.TrimRight(string(body), "\n")
	if text == "" {
		return nil, nil
	}
	return strings.Split(text, "\n"), nil
}

// Follow gives f each line of a container's log, from the first on, until the container ends or f fails.
func (c *Client) Follow(ctx context.Context, pod Ref, container string, f func(line string) error) error {
	var log io.ReadCloser
	err := c.do(ctx, "get", pod, func(ctx context.Context, conn *connection) error {
		stream, err := conn.raw.Get().
			AbsPath("/api/v1/namespaces", pod.Namespace, "pods", pod.Name, "log").
			Param("container", container).
			Param("follow", "true").
			Stream(ctx)
		log = stream
		return err
	})
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
