package deployments

import (
	"context"
	"errors"
	"testing"
	"time"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/deployments"
)

// client is a cluster with certain deployments.
type client struct {
	found   []deployments.Deployment
	deleted []string
	err     error
}

func (c *client) List(_ context.Context, namespace string) ([]deployments.Deployment, error) {
	var found []deployments.Deployment
	for _, d := range c.found {
		if namespace == "" || d.Namespace == namespace {
			found = append(found, d)
		}
	}
	return found, c.err
}

func (c *client) Delete(_ context.Context, namespace, name string) error {
	c.deleted = append(c.deleted, namespace+"/"+name)
	return c.err
}

func TestList(t *testing.T) {
	two := []deployments.Deployment{
		{Namespace: "default", Name: "iris", ModelURI: "models:/iris/3", URL: "http://iris.example.com", Ready: true, Created: time.Now().Add(-50 * time.Hour),
			Traffic: []deployments.Share{{Revision: "iris-00002", Percent: 90}, {Revision: "iris-00003", Percent: 10, Tag: "candidate"}}},
		{Namespace: "ml", Name: "wine", ModelURI: "models:/wine/1", Reason: "ImagePullBackOff"},
	}
	for name, c := range map[string]struct {
		namespace, output string
		out, errOut       string
	}{
		"one namespace": {"default", "", "NAME   MODEL            READY   TRAFFIC                         AGE    URL\n" +
			"iris   models:/iris/3   True    iris-00002=90%,iris-00003=10%   2d2h   http://iris.example.com\n", ""},
		"all": {"", "", "NAMESPACE   NAME   MODEL            READY                    TRAFFIC                         AGE      URL\n" +
			"default     iris   models:/iris/3   True                     iris-00002=90%,iris-00003=10%   2d2h     http://iris.example.com\n" +
			"ml          wine   models:/wine/1   False ImagePullBackOff   <none>                          <none>   <none>\n", ""},
		"none":         {"empty", "", "", "No deployed models in namespace empty.\n"},
		"none as JSON": {"empty", "json", "{\n  \"items\": []\n}\n", ""},
		"as YAML": {"ml", "yaml",
			"items:\n- generation: 0\n  modelURI: models:/wine/1\n  name: wine\n  namespace: ml\n  ready: false\n  reason: ImagePullBackOff\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			streams, _, out, errOut := genericiooptions.NewTestIOStreams()
			if err := list(t.Context(), &client{found: two}, c.namespace, c.output, streams); err != nil {
				t.Fatal(err)
			}
			if out.String() != c.out || errOut.String() != c.errOut {
				t.Errorf("stdout:\n%s\nwant:\n%s\nstderr %q, want %q", out.String(), c.out, errOut.String(), c.errOut)
			}
		})
	}
}

func TestDelete(t *testing.T) {
	streams, _, out, _ := genericiooptions.NewTestIOStreams()
	c := &client{}
	if err := remove(t.Context(), c, "ml", "iris", streams.Out); err != nil {
		t.Fatal(err)
	}
	if len(c.deleted) != 1 || c.deleted[0] != "ml/iris" || out.String() != "service.serving.knative.dev/iris deleted\n" {
		t.Errorf("deleted %v, stdout %q", c.deleted, out.String())
	}
	out.Reset()
	c.err = errors.New("not ours")
	if err := remove(t.Context(), c, "ml", "iris", streams.Out); !errors.Is(err, c.err) || out.Len() > 0 {
		t.Errorf("error %v, stdout %q", err, out.String())
	}
}
