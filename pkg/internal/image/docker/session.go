package docker

import (
	"context"
	"io"
	"net"

	"github.com/docker/docker/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth"
	"github.com/moby/buildkit/session/filesync"
	"github.com/moby/buildkit/session/secrets/secretsprovider"
	"google.golang.org/grpc"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image/registry"
)

// openSession lets the engine ask this process, while it builds, for secrets and for the base image's credentials, and send the result
// to out. end ends it; it is to be called.
func openSession(ctx context.Context, c *client.Client, secrets map[string][]byte, from *registry.Repository, base string, out io.Writer) (id string, end func() error, err error) {
	s, err := session.NewSession(ctx, "kubectl-mlflow")
	if err != nil {
		return "", nil, err
	}
	s.Allow(secretsprovider.FromMap(secrets))
	s.Allow(&credentials{from: from, base: base})
	s.Allow(filesync.NewFSSyncTarget(filesync.WithFSSync(0, func(map[string]string) (io.WriteCloser, error) { return unclosed{out}, nil })))
	running, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		// A failure of it is one of the build, too, which tells it.
		_ = s.Run(running, func(ctx context.Context, proto string, meta map[string][]string) (net.Conn, error) {
			return c.DialHijack(ctx, "/session", proto, meta)
		})
	}()
	return s.ID(), func() error {
		err := s.Close()
		cancel()
		<-done
		return err
	}, nil
}

// unclosed is closed by who made it.
type unclosed struct{ io.Writer }

func (unclosed) Close() error { return nil }

// credentials are those of the base image's registry, for the engine that pulls it.
type credentials struct {
	auth.UnimplementedAuthServer
	from *registry.Repository
	base string
}

// Register implements session.Attachable.
func (c *credentials) Register(server *grpc.Server) { auth.RegisterAuthServer(server, c) }

// Credentials implements auth.AuthServer. Another host than the base's gets nothing.
func (c *credentials) Credentials(ctx context.Context, asked *auth.CredentialsRequest) (*auth.CredentialsResponse, error) {
	user, secret, err := c.from.Credentials(ctx, c.base, asked.Host)
	if err != nil {
		return nil, err
	}
	return &auth.CredentialsResponse{Username: user, Secret: secret}, nil
}
