package deployments

import (
	"errors"
	"strings"
	"testing"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image/registry"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/serving"
)

func ofModel() map[string]string {
	return map[string]string{serving.ModelURIKey: "models:/iris/3", serving.VersionKey: "3", serving.RunIDKey: "run3", serving.EnvironmentKey: "e", "org.opencontainers.image.title": "x"}
}

// An image goes from one cluster to the next as it is: what it serves is in its labels.
func TestAnImageIsDeployedAsItIs(t *testing.T) {
	s := newStage()
	s.labels = ofModel()
	result, err := s.client().Deploy(t.Context(), Request{Name: "flowers", Image: "registry.example.com/models/iris@sha256:1234"})
	if err != nil {
		t.Fatal(err)
	}
	if s.called("make") || result.ModelURI != "models:/iris/3" || result.Version != "3" || !strings.HasPrefix(result.Image, "registry.example.com/models/iris") || result.Image != s.spec.Image {
		t.Errorf("%+v, calls %q", result, s.calls)
	}
	if s.spec.ReadyPath != "/v2/models/flowers/ready" || s.spec.Annotations[serving.RunIDKey] != "run3" || len(s.spec.Annotations) != 4 || s.spec.Port == 0 || len(s.spec.Env) == 0 {
		t.Errorf("%+v", s.spec)
	}
}

func TestAnImageThatCannotBeDeployed(t *testing.T) {
	const image = "registry.example.com/models/iris@sha256:1234"
	for name, c := range map[string]struct {
		request Request
		is      func(s *stage)
		reason  string
	}{
		"somebody else's":   {Request{Image: image}, func(s *stage) { s.labels = nil }, "NotAModelImage"},
		"an environment":    {Request{Image: image}, func(s *stage) { s.labels = map[string]string{serving.EnvironmentKey: "e"} }, "NotAModelImage"},
		"not to be pulled":  {Request{Image: image}, func(s *stage) { s.pull = registry.Pull{Denied: true, Secrets: "regcred"} }, "ImagePullDenied"},
		"no name":           {Request{Image: "https://registry.example.com/x"}, func(*stage) {}, "ImageNameInvalid"},
		"with a model":      {Request{Image: image, ModelURI: "models:/iris/3"}, func(*stage) {}, "ImageConflict"},
		"with a builder":    {Request{Image: image, Builder: "uv"}, func(*stage) {}, "ImageConflict"},
		"with a repository": {Request{Image: image, ImageRepository: "registry.example.com/models"}, func(*stage) {}, "ImageConflict"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage()
			s.labels = ofModel()
			c.is(s)
			c.request.Name = "iris"
			_, err := s.client().Deploy(t.Context(), c.request)
			f, ok := errors.AsType[*failure.Error](err)
			if !ok || f.Reason != c.reason || f.Hint == "" || s.called("apply") {
				t.Errorf("%v, calls %q", err, s.calls)
			}
		})
	}
}
