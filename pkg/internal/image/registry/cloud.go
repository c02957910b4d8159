package registry

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strings"

	"github.com/docker/docker-credential-helpers/client"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/google"
)

// cloud is what a provider's registry has of its own. The zero cloud is any other registry's.
type cloud struct {
	helper string // program that makes credentials of the provider's identity, "" for none
	google bool   // Google's Application Default Credentials open it
	login  string // command line that logs in, "" for the usual one
	create string // command line that makes a repository, "" where pushing does
}

func ecr() *regexp.Regexp {
	return regexp.MustCompile(`^[0-9]{12}\.dkr[.-]ecr(?:-fips)?\.([a-z0-9-]+)\.(?:amazonaws\.com(?:\.cn)?|on\.aws|on\.amazonwebservices\.com\.cn)$`)
}

func artifact() *regexp.Regexp {
	return regexp.MustCompile(`^([a-z0-9-]+)-docker\.pkg\.dev$`)
}

func gcr() *regexp.Regexp {
	return regexp.MustCompile(`^(?:[a-z]+\.)?gcr\.io$`)
}

func acr() *regexp.Regexp {
	return regexp.MustCompile(`^([a-z0-9-]+)\.azurecr\.(?:io|cn|us)$`)
}

// cloudOf knows a registry by its host's name; path is that of a repository in it, or "". Neither has characters that mean something to
// a shell.
func cloudOf(host, path string) cloud {
	login := " | kubectl mlflow registry login " + host + " --password-stdin --username "
	switch {
	case ecr().MatchString(host):
		region := ecr().FindStringSubmatch(host)[1]
		return cloud{
			helper: "ecr-login",
			login:  "aws ecr get-login-password --region " + region + login + "AWS",
			create: "aws ecr create-repository --region " + region + " --repository-name " + path,
		}
	case artifact().MatchString(host):
		location := artifact().FindStringSubmatch(host)[1]
		c := cloud{google: true, login: "gcloud auth print-access-token" + login + "oauth2accesstoken"}
		// Google's paths are PROJECT/REPOSITORY/IMAGE.
		if parts := strings.Split(path, "/"); len(parts) > 2 {
			c.create = fmt.Sprintf("gcloud artifacts repositories create %s --repository-format docker --location %s --project %s", parts[1], location, parts[0])
		}
		return c
	case gcr().MatchString(host):
		return cloud{google: true, login: "gcloud auth print-access-token" + login + "oauth2accesstoken"}
	case acr().MatchString(host):
		registry := acr().FindStringSubmatch(host)[1]
		return cloud{
			helper: "acr-env",
			login: "az acr login --name " + registry + " --expose-token --output tsv --query accessToken" + login +
				"00000000-0000-0000-0000-000000000000",
		}
	case host == "ghcr.io":
		return cloud{login: "gh auth token" + login + "USER"}
	}
	return cloud{}
}

// nodesIdentity tells whether nodes of the provider's own clusters pull from the registry without a Secret.
func (c cloud) nodesIdentity() bool { return c.google || c.helper != "" }

// loginHint says how to log in to a registry.
func loginHint(host string) string {
	if login := cloudOf(host, "").login; login != "" {
		return "log in: " + login
	}
	return "log in: kubectl mlflow registry login " + host + " --username USER"
}

// ofIdentity makes credentials of the identity that this program runs as, where Google's library finds one or the provider's helper is
// installed; nil where there is none. They are asked for where nobody has stored any.
func (s *stored) ofIdentity(ctx context.Context, host string) authn.Authenticator {
	c := cloudOf(host, "")
	if c.google {
		// google.Keychain would look for gcloud as well, and run it.
		auth, err := google.NewEnvAuthenticator(ctx)
		if err != nil {
			return nil // the registry's answer tells whether that matters
		}
		return auth
	}
	program := "docker-credential-" + c.helper
	if c.helper == "" {
		return nil
	}
	if _, err := exec.LookPath(program); err != nil {
		return nil
	}
	found, err := client.Get(client.NewShellProgramFunc(program), host)
	if err != nil {
		s.warn(program, "warning: %s has no credentials for %s: %s", program, host, err)
		return nil
	}
	if found.Username == tokenUser {
		return authn.FromConfig(authn.AuthConfig{IdentityToken: found.Secret})
	}
	return authn.FromConfig(authn.AuthConfig{Username: found.Username, Password: found.Secret})
}

// tokenUser is the user's name that helpers give with an identity token.
const tokenUser = "<token>"
