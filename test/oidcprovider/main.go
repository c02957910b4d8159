// Program oidcprovider is an OpenID provider of a machine's own, made of zitadel's, for the tests of logins: a user logs in by the
// browser with the client "native", and the client "machine" by itself. It prints its issuer, and ends when its standard input does.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// The names that tests know.
const (
	native  = "native"
	machine = "machine"
	secret  = "machine-secret" //nolint:gosec // of nothing that is worth anything
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	issuer := "http://" + listener.Addr().String()
	// A native client's redirect may have any port.
	storage.RegisterClients(storage.NativeClient(native, "http://127.0.0.1/oauth2/callback"))
	store := &withMachine{storage.NewStorage(storage.NewUserStore(issuer))}
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	server := &http.Server{Handler: exampleop.SetupServer(issuer, store, logger, false), ReadHeaderTimeout: 10 * time.Second}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // whoever started us has ended, however that came
		_ = server.Close()
	}()
	fmt.Println(issuer)
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// withMachine has one more client, which may log in by itself and gets tokens that a server can read.
type withMachine struct{ *storage.Storage }

// ClientCredentials implements op.ClientCredentialsStorage.
func (s *withMachine) ClientCredentials(_ context.Context, id, shown string) (op.Client, error) {
	if id != machine || shown != secret {
		return nil, errors.New("no such client, or another secret")
	}
	return machineClient{storage.WebClient(machine, secret)}, nil
}

// ClientCredentialsTokenRequest implements op.ClientCredentialsStorage.
func (s *withMachine) ClientCredentialsTokenRequest(_ context.Context, id string, scopes []string) (op.TokenRequest, error) {
	if id != machine {
		return nil, errors.New("no such client")
	}
	return &oidc.JWTTokenRequest{Subject: id, Audience: []string{id}, Scopes: scopes}, nil
}

// GetPrivateClaimsFromScopes implements op.Storage: it puts the client among those that administer MLflow.
func (s *withMachine) GetPrivateClaimsFromScopes(context.Context, string, string, []string) (map[string]any, error) {
	return map[string]any{"groups": []string{"mlflow-admin"}}, nil
}

type machineClient struct{ op.Client }

// AccessTokenType implements op.Client.
func (machineClient) AccessTokenType() op.AccessTokenType { return op.AccessTokenTypeJWT }

// GrantTypes implements op.Client.
func (machineClient) GrantTypes() []oidc.GrantType {
	return []oidc.GrantType{oidc.GrantTypeClientCredentials}
}
