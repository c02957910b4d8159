package portforward

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

const (
	// DefaultPort is MLflow's own, here and there.
	DefaultPort = 5000
	// tries is how many ports are tried where nobody asked for a certain one.
	tries = 100
	// localhost is both loopback addresses, as for kubectl.
	localhost = "localhost"
)

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

// checkAddresses needs no network.
func checkAddresses(addresses []string) error {
	if len(addresses) == 0 {
		return &failure.Error{Class: failure.Invalid, Reason: "InvalidAddress", Object: "--address", Message: "there is none", Hint: "leave it out for localhost"}
	}
	for _, address := range addresses {
		if address != localhost && net.ParseIP(address) == nil {
			return &failure.Error{Class: failure.Invalid, Reason: "InvalidAddress", Object: "--address",
				Message: fmt.Sprintf("%q is no IP address", address), Hint: "give an IP address of this machine, 0.0.0.0 for all of them, or localhost"}
		}
	}
	return nil
}

// listen takes the first of the ports that is free on all addresses.
func listen(ctx context.Context, addresses []string, ports []int) ([]net.Listener, error) {
	var err error
	for _, port := range ports {
		var taken []net.Listener
		if taken, err = listenOn(ctx, addresses, port); err == nil {
			return taken, nil
		}
		if !isTaken(err) && !isKept(err) { // another port would do no better
			break
		}
	}
	if len(ports) > 1 && isTaken(err) {
		return nil, &failure.Error{Class: failure.Refused, Reason: "PortTaken",
			Message: fmt.Sprintf("no free port from %d to %d", ports[0], ports[len(ports)-1]), Hint: "take any free one with: kubectl mlflow port-forward :5000", Err: err}
	}
	return nil, &failure.Error{Class: failure.Refused, Reason: "PortTaken", Object: fmt.Sprintf("port %d", ports[0]),
		Message: "cannot listen on it" + by(ports[0]), Hint: "give another one, or :5000 for any free port", Err: err}
}

// listenOn takes one port on all addresses. Where it is any free one, the first address decides.
func listenOn(ctx context.Context, addresses []string, port int) (taken []net.Listener, err error) {
	defer func() {
		if err != nil {
			for _, l := range taken {
				_ = l.Close()
			}
		}
	}()
	var config net.ListenConfig
	for _, address := range addresses {
		ips := []string{address}
		if address == localhost {
			ips = []string{"127.0.0.1", "::1"}
		}
		for i, ip := range ips {
			l, err := config.Listen(ctx, "tcp", net.JoinHostPort(ip, strconv.Itoa(port)))
			if err != nil && i > 0 && !isTaken(err) { // a machine without IPv6
				continue
			}
			if err != nil {
				return taken, err
			}
			taken = append(taken, l)
			port = portOf(l)
		}
	}
	return taken, nil
}

func portOf(l net.Listener) int {
	return l.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // the address of a TCP listener
}

// reachable is the address by which this machine reaches the listener.
func reachable(l net.Listener) string {
	ip := l.Addr().(*net.TCPAddr).IP //nolint:forcetypeassert // the address of a TCP listener
	if ip.IsUnspecified() {
		return "127.0.0.1"
	}
	return ip.String()
}

// by says in words who listens on a port of this machine, or nothing where that cannot be known.
func by(port int) string {
	if owner := ownerOf(port); owner != "" {
		return ", by " + owner
	}
	return ""
}
