package predict

import (
	"bytes"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/net/http/httpguts"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/deployments"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// tokenVariable is the environment variable that stands in for --token-file: with the token itself.
const tokenVariable = "KUBECTL_MLFLOW_PREDICT_TOKEN" //nolint:gosec // a name, no credential

// Way is how the request comes to the model, and who asks.
type Way struct {
	Via       string
	Tag       string
	Headers   []string
	TokenFile string
	CAFile    string
}

func (w *Way) add(flags *pflag.FlagSet) {
	flags.StringVar(&w.Via, "via", w.Via, "The way to the model: "+deployments.ViaGateway+" or "+deployments.ViaURL)
	flags.StringVar(&w.Tag, "tag", w.Tag, "Ask the revision that has this tag, whatever its share of the traffic")
	flags.StringArrayVar(&w.Headers, "header", w.Headers, "Header to send besides, as 'NAME: VALUE'; can be given again. A token is never one: see --token-file")
	flags.StringVar(&w.TokenFile, "token-file", w.TokenFile, "File with the bearer token to send. Default: $"+tokenVariable+", else none")
	flags.StringVar(&w.CAFile, "ca-file", w.CAFile, "File with the certificates, as PEM, that --via url trusts instead of the system's")
}

func (w *Way) fill(p *deployments.Prediction, getenv func(string) string) error {
	p.Via, p.Tag = w.Via, w.Tag
	for _, text := range w.Headers {
		name, value, err := header(text)
		if err != nil {
			return err
		}
		if p.Header == nil {
			p.Header = http.Header{}
		}
		p.Header.Add(name, value)
	}
	var err error
	if p.Token, err = w.token(getenv); err != nil || w.CAFile == "" {
		return err
	}
	p.CA, err = os.ReadFile(w.CAFile)
	return unreadable("--ca-file", err)
}

// header reads NAME: VALUE.
func header(text string) (name, value string, err error) {
	name, value, colon := strings.Cut(text, ":")
	name, value = http.CanonicalHeaderKey(strings.TrimSpace(name)), strings.TrimSpace(value)
	refused := &failure.Error{Class: failure.Invalid, Reason: "HeaderInvalid", Object: "--header"}
	switch {
	case slices.Contains([]string{"Authorization", "Proxy-Authorization", "Cookie"}, name): // its value is not repeated
		refused.Message = name + " is not taken from the command line, which others on this machine can read"
		refused.Hint = "a bearer token is read from $" + tokenVariable + ", or from a file: --token-file FILE"
	case name == "Host":
		refused.Message, refused.Hint = "Host is the deployment's address, by which the gateway routes", "a tagged revision is asked with --tag TAG"
	case name == "Content-Type":
		refused.Message, refused.Hint = "Content-Type has a flag of its own", "use --content-type"
	case !colon || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value):
		refused.Message, refused.Hint = "it has no name and value", "write it as 'NAME: VALUE'"
	default:
		return name, value, nil
	}
	return "", "", refused
}

// token is the bearer token, "" where there is none. It is in no error.
func (w *Way) token(getenv func(string) string) (string, error) {
	text, from := getenv(tokenVariable), "$"+tokenVariable
	if w.TokenFile != "" {
		content, err := os.ReadFile(w.TokenFile)
		if err != nil {
			return "", unreadable("--token-file", err)
		}
		text, from = string(bytes.TrimSpace(content)), "--token-file"
	}
	if text == "" && w.TokenFile == "" {
		return "", nil
	}
	if text == "" || strings.ContainsAny(text, " \t") || !httpguts.ValidHeaderFieldValue(text) {
		return "", &failure.Error{
			Class: failure.Invalid, Reason: "TokenInvalid", Object: from, Message: "there is no bearer token in it: that is one word",
			Hint: "write the token alone, without \"Bearer\"",
		}
	}
	return text, nil
}

func unreadable(flag string, err error) error {
	if err == nil {
		return nil
	}
	return &failure.Error{Class: failure.Invalid, Reason: "FileUnreadable", Object: flag, Message: "it cannot be read", Hint: "check the name after " + flag, Err: err}
}
