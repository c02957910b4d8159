package forward

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	constants "k8s.io/apimachinery/pkg/util/portforward"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/websocket"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

// handshake bounds the opening of a tunnel's transport.
const handshake = 15 * time.Second

// upgrade opens a connection that carries SPDY frames to the pod's kubelet: in a WebSocket as kubectl does since 1.31, and where
// that is refused, bare.
func upgrade(ctx context.Context, config *rest.Config, pod cluster.Ref) (net.Conn, error) {
	target, err := portForwardURL(config, pod)
	if err != nil {
		return nil, err
	}
	wire, err := inWebSocket(ctx, config, target)
	if httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err) {
		wire, err = bare(ctx, config, target)
	}
	switch {
	case err == nil:
		return wire, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	}
	return nil, explain(err, pod)
}

func portForwardURL(config *rest.Config, pod cluster.Ref) (*url.URL, error) {
	config = rest.CopyConfig(config)
	config.APIPath, config.GroupVersion = "/api", &corev1.SchemeGroupVersion
	host, path, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, fmt.Errorf("the API server's address: %w", err)
	}
	return host.JoinPath(path, "namespaces", pod.Namespace, "pods", pod.Name, "portforward"), nil
}

// inWebSocket negotiates SPDY/3.1+portforward.k8s.io.
func inWebSocket(ctx context.Context, config *rest.Config, target *url.URL) (net.Conn, error) {
	roundTripper, holder, err := websocket.RoundTripperFor(config)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, handshake)
	defer cancel()
	// The dialer behind the RoundTripper gives the handshake ctx's deadline, but does not see that ctx is cancelled.
	release := func() bool { return true }
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		release = context.AfterFunc(ctx, func() { _ = info.Conn.Close() })
	}})
	req, err := http.NewRequestWithContext(traced, http.MethodGet, target.String(), nil)
	if err != nil {
		return nil, err
	}
	conn, err := websocket.Negotiate(roundTripper, holder, req, constants.WebsocketsSPDYTunnelingPortForwardV1)
	if released := release(); err == nil && !released {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, err
	}
	return portforward.NewTunnelingConnection("client", conn), nil
}

// bare sends the upgrade to SPDY through the transport of all other requests, which knows proxies, certificates and ctx.
func bare(ctx context.Context, config *rest.Config, target *url.URL) (net.Conn, error) {
	config = rest.CopyConfig(config)
	config.NextProtos = []string{"http/1.1"} // HTTP/2 has no upgrade
	transport, err := rest.TransportFor(config)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, handshake)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set(httpstream.HeaderConnection, httpstream.HeaderUpgrade)
	req.Header.Set(httpstream.HeaderUpgrade, spdy.HeaderSpdy31)
	req.Header.Set(httpstream.HeaderProtocolVersion, constants.PortForwardV1Name)
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return nil, errors.Join(refused(resp), resp.Body.Close())
	}
	wire, ok := resp.Body.(io.ReadWriteCloser)
	if !ok || !strings.EqualFold(resp.Header.Get(httpstream.HeaderUpgrade), spdy.HeaderSpdy31) {
		return nil, errors.Join(fmt.Errorf("the server upgraded to %q", resp.Header.Get(httpstream.HeaderUpgrade)), resp.Body.Close())
	}
	return &upgraded{ReadWriteCloser: wire}, nil
}

// refused is the Status in an answer, or its status line.
func refused(resp *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return fmt.Errorf("%s: %w", resp.Status, err)
	}
	var status metav1.Status
	if json.Unmarshal(text, &status) == nil && status.Kind == "Status" {
		return &apierrors.StatusError{ErrStatus: status}
	}
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status:  metav1.StatusFailure,
		Code:    int32(resp.StatusCode), //nolint:gosec // three digits
		Message: strings.TrimSpace(resp.Status + " " + string(text)),
	}}
}

// explain turns a refused upgrade into what it means.
func explain(err error, pod cluster.Ref) error {
	status, ok := errors.AsType[*apierrors.StatusError](err)
	if !ok {
		return &failure.Error{
			Class: failure.Diagnosed, Reason: "TunnelFailed", Object: pod.String(),
			Message: "the API server opens no tunnel", Hint: "a proxy between may not let upgraded connections through", Err: err,
		}
	}
	switch code := status.ErrStatus.Code; code {
	case http.StatusUnauthorized:
		return &failure.Error{
			Class: failure.Forbidden, Reason: "Unauthorized",
			Message: "the cluster does not accept your credentials", Hint: "log in again", Err: err,
		}
	case http.StatusForbidden:
		return &failure.Error{
			Class: failure.Forbidden, Reason: "PortForwardForbidden", Object: pod.String(),
			Message: fmt.Sprintf("you may not create pods/portforward in namespace %s", pod.Namespace),
			Hint: fmt.Sprintf("ask for a role with the verbs get and create on pods/portforward; check with: "+
				"kubectl auth can-i create pods/portforward --namespace %s", pod.Namespace),
			Err: err,
		}
	case http.StatusNotFound:
		return fmt.Errorf("%s: %w", pod, errGone)
	default:
		return &failure.Error{
			Class: failure.Diagnosed, Reason: "TunnelFailed", Object: pod.String(),
			Message: "the API server opens no tunnel", Hint: "it may not reach the pod's node", Err: err,
		}
	}
}

// upgraded makes a net.Conn of an upgraded response's body.
type upgraded struct {
	io.ReadWriteCloser
	once sync.Once
}

// Close may be called again: SPDY's shutdown does, and waits where it fails.
func (u *upgraded) Close() (err error) {
	u.once.Do(func() { err = u.ReadWriteCloser.Close() })
	return err
}

func (*upgraded) LocalAddr() net.Addr              { return addr("client") }
func (*upgraded) RemoteAddr() net.Addr             { return addr("api-server") }
func (*upgraded) SetDeadline(time.Time) error      { return errors.ErrUnsupported }
func (*upgraded) SetReadDeadline(time.Time) error  { return errors.ErrUnsupported }
func (*upgraded) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }

// addr is an address within a tunnel.
type addr string

func (addr) Network() string  { return "portforward" }
func (a addr) String() string { return string(a) }
