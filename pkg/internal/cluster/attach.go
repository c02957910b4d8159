package cluster

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// Send gives a running container all of stdin, and returns when the container has taken it and let go, or has ended: whether it
// ended well is in the pod's status. The container has to have stdin and stdinOnce.
func (c *Client) Send(ctx context.Context, pod Ref, container string, stdin io.Reader) error {
	conn, err := c.connect()
	if err != nil {
		return err
	}
	target := conn.raw.Post().AbsPath("/api/v1/namespaces", pod.Namespace, "pods", pod.Name, "attach").
		Param("container", container).Param("stdin", "true").URL()
	bare, err := remotecommand.NewSPDYExecutor(conn.config, http.MethodPost, target)
	if err != nil {
		return fmt.Errorf("%s: %w", pod, err)
	}
	inWebSocket, err := remotecommand.NewWebSocketExecutor(conn.config, http.MethodGet, target.String())
	if err != nil {
		return fmt.Errorf("%s: %w", pod, err)
	}
	both, err := remotecommand.NewFallbackExecutor(inWebSocket, bare, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", pod, err)
	}
	err = both.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: stdin})
	if err == nil || ctx.Err() != nil {
		return c.explain(ctx, err, "attach to", pod)
	}
	return &failure.Error{ // a refusal too is told in words alone
		Class: failure.Diagnosed, Reason: "AttachFailed", Object: pod.String(), Message: "nothing can be sent to container " + container,
		Hint: "a proxy between may not let upgraded connections through; is it allowed? kubectl auth can-i create pods/attach --namespace " + pod.Namespace,
		Err:  err,
	}
}
