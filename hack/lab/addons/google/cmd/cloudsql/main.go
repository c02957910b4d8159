// Cloudsql is a double of Cloud SQL, enough for the real Cloud SQL Auth Proxy: the Admin API as far as the proxy asks it, and an
// instance's TLS on port 3307 in front of a PostgreSQL. It knows one instance.
//
// Keys of service accounts whose token_uri is http://HOST/token get tokens there. Who brings the token "denied" is refused, as Google
// refuses who lacks the role. Who asks for a certificate with a token of a database user (--auto-iam-authn) is let in without a
// password, through the PostgreSQL's unix socket.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		slog.Error("cloudsql ends", "error", err)
		os.Exit(1)
	}
}

// settings are what the double is told.
type settings struct {
	instance         string
	host             string
	database, socket string
	api, tls         string
}

func run(ctx context.Context, args []string) error {
	var s settings
	flags := flag.NewFlagSet("cloudsql", flag.ContinueOnError)
	flags.StringVar(&s.instance, "instance", "project:region:instance", "name of the instance, as the proxy is given it")
	flags.StringVar(&s.host, "host", "localhost", "where the proxy finds the instance: a name, which is looked up, or an address")
	flags.StringVar(&s.database, "database", "127.0.0.1:5432", "address of the PostgreSQL behind it")
	flags.StringVar(&s.socket, "socket", "", "unix socket of that PostgreSQL, which asks for no password")
	flags.StringVar(&s.api, "api", ":8080", "address for the Admin API")
	flags.StringVar(&s.tls, "tls", ":3307", "address for the instance")
	if err := flags.Parse(args); err != nil {
		return err
	}
	i, err := newInstance(s)
	if err != nil {
		return err
	}
	listener, err := tls.Listen("tcp", s.tls, i.authority.server())
	if err != nil {
		return err
	}
	server := &http.Server{Addr: s.api, Handler: i, ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 2)
	go func() { ended <- i.serve(listener) }()
	go func() { ended <- server.ListenAndServe() }()
	select {
	case err = <-ended:
	case <-ctx.Done():
	}
	return errors.Join(err, listener.Close(), server.Close())
}

// serve lets connections through to the database.
func (i *instance) serve(listener net.Listener) error {
	for {
		client, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			if err := i.pass(client); err != nil {
				slog.Warn("connection", "from", client.RemoteAddr(), "error", err)
			}
		}()
	}
}

func (i *instance) pass(client net.Conn) error {
	defer func() { _ = client.Close() }() // both ends are done with it
	secured, ok := client.(*tls.Conn)
	if !ok {
		return fmt.Errorf("%T is no TLS connection", client)
	}
	if err := secured.Handshake(); err != nil {
		return err
	}
	network, address := "tcp", i.database
	if iam := secured.ConnectionState().PeerCertificates[0].Subject.OrganizationalUnit; len(iam) > 0 && i.socket != "" {
		network, address = "unix", i.socket
	}
	database, err := net.Dial(network, address)
	if err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(database, client) // whoever hangs up ends both
		_ = database.Close()
	}()
	_, _ = io.Copy(client, database)
	return nil
}

// instance is the one that there is.
type instance struct {
	settings
	project, region, name string
	authority             *authority
}

func newInstance(s settings) (*instance, error) {
	// A project of an organisation's own domain has that in front, with a colon of its own.
	at := strings.LastIndex(s.instance, ":")
	if at < 0 {
		return nil, fmt.Errorf("instance %q is not project:region:instance", s.instance)
	}
	before, name := s.instance[:at], s.instance[at+1:]
	if at = strings.LastIndex(before, ":"); at < 0 {
		return nil, fmt.Errorf("instance %q is not project:region:instance", s.instance)
	}
	i := &instance{settings: s, project: before[:at], region: before[at+1:], name: name}
	var err error
	i.authority, err = newAuthority(i.project+":"+i.name, s.host)
	return i, err
}
