// Package registry is the group of verbs about the registry that images go to.
package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/args"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/deployments"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// NewCommand makes the group; group is what it does when no subcommand is named. getenv is os.Getenv.
func NewCommand(streams genericiooptions.IOStreams, talk *ui.Progress, getenv func(string) string, group func(*cobra.Command, []string) error) *cobra.Command {
	command := &cobra.Command{
		Use:   "registry",
		Short: "Log in to the registry that images go to, and out of it",
		Args:  cobra.ArbitraryArgs,
		RunE:  group,
	}
	command.AddCommand(newLogin(streams, talk, getenv), newLogout(talk, getenv))
	return command
}

// LoginFlags is what the user typed.
type LoginFlags struct {
	Username      string
	PasswordStdin bool
}

func newLogin(streams genericiooptions.IOStreams, talk *ui.Progress, getenv func(string) string) *cobra.Command {
	flags := LoginFlags{}
	command := &cobra.Command{
		Use:   "login HOST",
		Short: "Store credentials for a registry, without Docker",
		Long: `Ask a registry whether it accepts a user's name and password, or token, and store them where
'docker login' does: in the credential helper that Docker's configuration names, else in the
configuration itself. Whoever reads it finds them: docker, podman and this plugin. No Docker is needed.

Where you have logged in with docker or podman before, or a cloud's identity opens the registry,
nothing is to be done: those credentials are found.`,
		Example: `  # The password, or a token, from standard input
  kubectl mlflow registry login registry.example.com --username ci --password-stdin < token

  # Providers make passwords that last some hours
  aws ecr get-login-password --region eu-west-1 |
    kubectl mlflow registry login 123456789012.dkr.ecr.eu-west-1.amazonaws.com --username AWS --password-stdin
  gcloud auth print-access-token |
    kubectl mlflow registry login europe-west4-docker.pkg.dev --username oauth2accesstoken --password-stdin`,
		Args:        args.Exactly("HOST"),
		Annotations: map[string]string{ui.Interrupted: "nothing was stored"},
		RunE: func(c *cobra.Command, typed []string) error {
			o := &LoginOptions{LoginFlags: flags, Host: typed[0], Streams: streams, Talk: talk, LogIn: func(ctx context.Context, host, username, password string) (deployments.RegistryLogin, error) {
				return deployments.LogIn(ctx, getenv, host, username, password)
			}}
			return o.Run(c.Context())
		},
	}
	command.Flags().StringVarP(&flags.Username, "username", "u", flags.Username, "Name of the user, or what the registry wants in its place beside a token")
	command.Flags().BoolVar(&flags.PasswordStdin, "password-stdin", flags.PasswordStdin, "Read the password, or a token, from standard input. Default: ask for it on the terminal")
	return command
}

// LoginOptions is what login needs.
type LoginOptions struct {
	LoginFlags
	Host    string
	LogIn   func(ctx context.Context, host, username, password string) (deployments.RegistryLogin, error)
	Streams genericiooptions.IOStreams
	Talk    *ui.Progress
}

// Run logs in.
func (o *LoginOptions) Run(ctx context.Context) error {
	if o.Username == "" {
		return &failure.Error{
			Class: failure.Invalid, Reason: "UsernameMissing", Message: "no user is named for " + o.Host,
			Hint: "name one with --username; many registries have a fixed one for tokens, as AWS for Amazon ECR and oauth2accesstoken for Google",
		}
	}
	password, err := o.password(ctx)
	if err != nil {
		return err
	}
	l, err := o.LogIn(ctx, o.Host, o.Username, password)
	if err != nil {
		return err
	}
	if l.Plain {
		o.Talk.Say("Warning: the password is in %s, unencrypted; a credential helper (credsStore in that file) would keep it better", l.Store)
	}
	if !l.Checked {
		o.Talk.Say("%s asks nobody for a password now: it was stored unchecked.", l.Registry)
		return nil
	}
	o.Talk.Say("%s accepts user %s. Stored in %s.", l.Registry, o.Username, l.Store)
	return nil
}

// tooLong is more than any password or token.
const tooLong = 1 << 20

// password is one line.
func (o *LoginOptions) password(ctx context.Context) (string, error) {
	if !o.PasswordStdin {
		typed, err := ui.AskSecret(ctx, o.Streams.In, o.Streams.ErrOut, ui.Escape(fmt.Sprintf("Password, or token, of %s at %s: ", o.Username, o.Host)))
		if errors.Is(err, ui.ErrNoTerminal) {
			return "", &failure.Error{
				Class: failure.Invalid, Reason: "PasswordMissing", Message: "no password is given for " + o.Host, Hint: "pass it on standard input, and say so with --password-stdin",
			}
		}
		return typed, err
	}
	read, err := io.ReadAll(io.LimitReader(o.Streams.In, tooLong))
	if err != nil {
		return "", fmt.Errorf("read the password from standard input: %w", err)
	}
	password := strings.TrimSuffix(strings.TrimSuffix(string(read), "\n"), "\r")
	if strings.ContainsAny(password, "\r\n") {
		return "", &failure.Error{
			Class: failure.Invalid, Reason: "PasswordInvalid", Message: "standard input has more than one line", Hint: "pass the password, or the token, alone",
		}
	}
	return password, nil
}

func newLogout(talk *ui.Progress, getenv func(string) string) *cobra.Command {
	return &cobra.Command{
		Use:         "logout HOST",
		Short:       "Remove the credentials that are stored for a registry",
		Example:     `  kubectl mlflow registry logout registry.example.com`,
		Args:        args.Exactly("HOST"),
		Annotations: map[string]string{ui.Interrupted: "the credentials are stored still"},
		RunE: func(_ *cobra.Command, typed []string) error {
			l, err := deployments.LogOut(getenv, typed[0])
			if err != nil {
				return err
			}
			talk.Say("The credentials for %s are removed from %s.", l.Registry, l.Store)
			return nil
		},
	}
}
