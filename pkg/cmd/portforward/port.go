package portforward

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// DefaultPort is MLflow's own, here and there.
const DefaultPort = 5000

// tries is how many ports are tried where nobody asked for a certain one.
const tries = 100

// parse reads LOCAL_PORT in kubectl's forms: 8080, 8080:5000 and, for any free port, :5000 or 0.
func parse(text string) (int, error) {
	local, remote, both := strings.Cut(text, ":")
	if both && remote != strconv.Itoa(DefaultPort) && remote != "0" {
		return 0, &failure.Error{Class: failure.Invalid, Reason: "InvalidPort",
			Message: fmt.Sprintf("%q: MLflow has no port %q", text, remote), Hint: fmt.Sprintf("MLflow's port is %d; the local one stands before the colon", DefaultPort)}
	}
	if both && local == "" {
		return 0, nil
	}
	port, err := strconv.ParseUint(local, 10, 16)
	if err != nil {
		return 0, &failure.Error{Class: failure.Invalid, Reason: "InvalidPort",
			Message: fmt.Sprintf("%q is not a port", text), Hint: "give a number up to 65535, or :5000 for any free port"}
	}
	return int(port), nil
}

// listen takes the first free one of ports on this machine's loopback address.
func listen(ctx context.Context, ports []int) (net.Listener, error) {
	var config net.ListenConfig
	var err error
	for _, port := range ports {
		var l net.Listener
		if l, err = config.Listen(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return l, nil
		}
	}
	if len(ports) > 1 {
		return nil, &failure.Error{Class: failure.Refused, Reason: "PortTaken",
			Message: fmt.Sprintf("no free port from %d to %d", ports[0], ports[len(ports)-1]), Hint: "take any free one with: kubectl mlflow port-forward :5000", Err: err}
	}
	return nil, &failure.Error{Class: failure.Refused, Reason: "PortTaken", Object: fmt.Sprintf("port %d", ports[0]),
		Message: "cannot listen on it", Hint: "give another one, or :5000 for any free port", Err: err}
}
