package deployments

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/instance"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/readiness"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/serving"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/tracking"
)

func irisRequest() Request {
	return Request{Name: "iris", ModelURI: "models:/iris@champion", ImageRepository: "registry.example.com/models/iris"}
}

func TestDeploy(t *testing.T) {
	s := newStage()
	result, err := s.client().Deploy(t.Context(), irisRequest())
	if err != nil {
		t.Fatal(err)
	}
	timings := result.Timings
	result.Timings = Timings{}
	want := &Result{
		Namespace: "models", Name: "iris", Action: "configured", URL: "http://iris.models.example.com", Revision: "iris-00002",
		Image: "registry.example.com/models/iris@sha256:1234", ModelURI: "models:/iris/3", Version: "3",
		Traffic: []Share{{Revision: "iris-00002", Percent: 100}},
	}
	if !reflect.DeepEqual(result, want) {
		t.Errorf("result is %+v, want %+v", result, want)
	}
	if timings.Resolve <= 0 || timings.Apply <= 0 || timings.Ready <= 0 || timings.Environment != time.Minute || timings.Model != time.Second {
		t.Errorf("timings are %+v", timings)
	}
	order := []string{"dial mlflow/mlflow:5000", "make", "apply", "wait revision.serving.knative.dev/iris-00002", "wait service.serving.knative.dev/iris", "close"}
	if !reflect.DeepEqual(s.calls, order) {
		t.Errorf("calls were %q, want %q", s.calls, order)
	}
	if e := s.environment; e.Platform != "linux/arm64" || e.Base != "python:3.11.7@sha256:ba5e" || !slices.Contains(e.Requirements, "scikit-learn==1.7.2") {
		t.Errorf("environment is %+v", e)
	}
	if s.content.Tag != "" || s.content.Anew {
		t.Errorf("content is %+v", s.content)
	}
	if s.content.Key == "" || s.content.Labels[serving.ModelURIKey] != "models:/iris/3" || len(s.content.Command) == 0 {
		t.Errorf("content is %+v", s.content)
	}
	spec := s.spec
	if spec.Image != result.Image || spec.Timeout != DefaultTimeout || spec.Port == 0 || !strings.Contains(spec.ReadyPath, "/") {
		t.Errorf("spec is %+v", spec)
	}
	annotations := map[string]string{
		serving.ModelURIKey: "models:/iris/3", serving.VersionKey: "3", serving.RunIDKey: "run3", serving.EnvironmentKey: s.environment.Key(),
	}
	if !reflect.DeepEqual(spec.Annotations, annotations) {
		t.Errorf("annotations are %v, want %v", spec.Annotations, annotations)
	}
	if !slices.ContainsFunc(s.notes, func(n string) bool { return strings.Contains(n, "namespace mlflow") }) {
		t.Errorf("nobody is told which tracking server it is: %q", s.notes)
	}
}

func TestFailuresBeforeTheFirstChange(t *testing.T) {
	fail := func(class failure.Class, reason string) error {
		return &failure.Error{Class: class, Reason: reason, Message: "no", Hint: "do"}
	}
	for name, c := range map[string]struct {
		given  func(s *stage, r *Request)
		class  failure.Class
		reason string
	}{
		"no Knative": {func(s *stage, _ *Request) {
			s.check = func(serving.Spec) error { return fail(failure.Diagnosed, "KnativeMissing") }
		}, failure.Diagnosed, "KnativeMissing"},
		"foreign Service": {func(s *stage, _ *Request) {
			s.check = func(serving.Spec) error { return fail(failure.Refused, "ForeignService") }
		}, failure.Refused, "ForeignService"},
		"repository not writable": {func(s *stage, _ *Request) {
			s.checkPush = func(context.Context) error { return fail(failure.Forbidden, "PushDenied") }
		}, failure.Forbidden, "PushDenied"},
		"no such model": {func(s *stage, _ *Request) {
			s.resolve = func(tracking.URI) (tracking.Version, error) {
				return tracking.Version{}, fail(failure.Invalid, "ModelNotFound")
			}
		}, failure.Invalid, "ModelNotFound"},
		"no model at its URI": {func(s *stage, _ *Request) { delete(s.model, "MLmodel") }, failure.Invalid, ""},
		"no tracking server": {func(s *stage, _ *Request) {
			s.find = func([]string) (*instance.Instance, error) {
				return nil, fail(failure.Invalid, "TrackingServerNotFound")
			}
		}, failure.Invalid, "TrackingServerNotFound"},
		"only the data of an uninstalled one": {func(s *stage, _ *Request) {
			s.find = func([]string) (*instance.Instance, error) { return &instance.Instance{Namespace: "mlflow"}, nil }
		}, failure.Invalid, "Uninstalled"},
		"no repository": {func(s *stage, r *Request) {
			r.ImageRepository = ""
			s.present = func() (serving.Deployment, error) {
				return serving.Deployment{}, fail(failure.Invalid, "DeploymentNotFound")
			}
		}, failure.Invalid, "ImageRepositoryMissing"},
		"unknown model server": {func(_ *stage, r *Request) { r.ModelServer = "abacus" }, failure.Invalid, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s, r := newStage(), irisRequest()
			c.given(s, &r)
			_, err := s.client().Deploy(t.Context(), r)
			f, ok := errors.AsType[*failure.Error](err)
			if !ok || f.Class != c.class || c.reason != "" && f.Reason != c.reason {
				t.Errorf("error is %v (%+v), want %s %s", err, f, c.class, c.reason)
			}
			if s.called("make") || s.called("apply") {
				t.Errorf("something was written: %q", s.calls)
			}
			if s.called("dial mlflow/mlflow:5000") && !s.called("close") {
				t.Errorf("the tunnel is left open: %q", s.calls)
			}
		})
	}
}

func TestAllFailuresAreTold(t *testing.T) {
	s := newStage()
	both := make(chan struct{})
	s.checkPush = func(context.Context) error {
		close(both)
		return &failure.Error{Class: failure.Forbidden, Reason: "PushDenied", Message: "no push"}
	}
	s.check = func(serving.Spec) error {
		<-both
		return &failure.Error{Class: failure.Diagnosed, Reason: "KnativeMissing", Message: "no Knative"}
	}
	_, err := s.client().Deploy(t.Context(), irisRequest())
	if err == nil || err.Error() != "no Knative\nno push" || failure.ClassOf(err) != failure.Diagnosed {
		t.Errorf("error is %v", err)
	}
}

func TestFailureEndsTheOtherChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage()
		s.checkPush = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		s.check = func(serving.Spec) error {
			return &failure.Error{Class: failure.Refused, Reason: "ForeignService", Message: "no"}
		}
		_, err := s.client().Deploy(t.Context(), irisRequest())
		if f, ok := errors.AsType[*failure.Error](err); !ok || f.Reason != "ForeignService" || errors.Is(err, context.Canceled) {
			t.Errorf("error is %v", err)
		}
	})
}

func TestEndOfPatienceIsTold(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	<-ctx.Done()
	slow := errors.New("registry.example.com: no answer")
	if err := inTime(ctx, slow); failure.ClassOf(err) != failure.TimedOut || !errors.Is(err, slow) {
		t.Errorf("error is %v", err)
	}
	if err := inTime(t.Context(), slow); err != slow { //nolint:errorlint // the very error, not one around it
		t.Errorf("error is %v", err)
	}
}

func TestFailureOfTheRolloutIsReturned(t *testing.T) {
	s := newStage()
	s.wait = func(targets []readiness.Target) error {
		if targets[0].Object.Kind == "Revision" && targets[0].Pods.String() != "serving.knative.dev/revision=iris-00002" {
			t.Errorf("pods are selected by %s", targets[0].Pods)
		}
		return &failure.Error{Class: failure.Diagnosed, Reason: "CrashLoop", Message: "it crashes"}
	}
	if _, err := s.client().Deploy(t.Context(), irisRequest()); failure.ClassOf(err) != failure.Diagnosed || s.called("wait service.serving.knative.dev/iris") {
		t.Errorf("%v after %q", err, s.calls)
	}
}

func TestRepositoryOfThePresentImage(t *testing.T) {
	s, r := newStage(), irisRequest()
	r.ImageRepository = ""
	s.present = func() (serving.Deployment, error) {
		return serving.Deployment{Image: "localhost:5001/models/tulip@sha256:99"}, nil
	}
	if _, err := s.client().Deploy(t.Context(), r); err != nil || s.repository != "localhost:5001/models/tulip" {
		t.Errorf("repository is %q, %v", s.repository, err)
	}
	for image, want := range map[string]string{"": "", "a:1": "a", "h:5000/a/b": "h:5000/a/b", "h:5000/a:t@sha256:1": "h:5000/a"} {
		if got := repositoryOf(image); got != want {
			t.Errorf("repository of %q is %q, want %q", image, got, want)
		}
	}
}

func TestPlatform(t *testing.T) {
	for name, c := range map[string]struct {
		nodes    []string
		asked    string
		want     string
		wantNote string
	}{
		"of the nodes":   {[]string{"arm64"}, "", "linux/arm64", ""},
		"as asked":       {[]string{"arm64"}, "linux/amd64", "linux/amd64", ""},
		"not to be seen": {nil, "", "linux/amd64", ""},
		"mixed":          {[]string{"amd64", "arm64"}, "", "linux/amd64", "amd64, arm64"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage()
			s.architectures = c.nodes
			got, err := s.client().platform(t.Context(), c.asked, toDeploy, step{s})
			if err != nil || got != c.want || c.wantNote != "" && !strings.Contains(strings.Join(s.notes, ""), c.wantNote) {
				t.Errorf("%s, %v, told %q", got, err, s.notes)
			}
		})
	}
}

// The tracking server on the cluster is asked through the tunnel, and by a name that MLflow accepts.
func TestTrackingServerThroughTheTunnel(t *testing.T) {
	var host string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { host = r.Host }))
	defer server.Close()
	s := newStage()
	s.dialTo = server.Listener.Addr().String()
	var looked []string
	find := s.find
	s.find = func(namespaces []string) (*instance.Instance, error) { looked = namespaces; return find(namespaces) }
	_, closer, err := s.client().connect(t.Context(), irisRequest(), step{s})
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.at.url.JoinPath("health").String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := s.at.transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	closer()
	if host != "localhost" || !s.called("close") || !reflect.DeepEqual(looked, []string{"models", "mlflow"}) {
		t.Errorf("host %q, calls %q, looked in %q", host, s.calls, looked)
	}
}

func TestTrackingServerByURLNeedsNoCluster(t *testing.T) {
	s, r := newStage(), irisRequest()
	r.TrackingURI = "https://user:secret@mlflow.example.com/prefix"
	if _, err := s.client().Deploy(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if s.at.url.Host != "mlflow.example.com" || s.called("dial mlflow/mlflow:5000") {
		t.Errorf("server is %s, calls %q", s.at.url.Redacted(), s.calls)
	}
	if strings.Contains(strings.Join(s.notes, ""), "secret") {
		t.Errorf("a password is told: %q", s.notes)
	}
}

func TestContentKey(t *testing.T) {
	key := func(uri string, change func(files)) string {
		m := irisModel()
		change(m)
		k, err := contentKey(t.Context(), uri, m)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	same := key("models:/iris/3", func(files) {})
	if key("models:/iris/3", func(files) {}) != same {
		t.Error("the same content has two keys")
	}
	for name, other := range map[string]string{
		"another version": key("models:/iris/4", func(files) {}),
		"another MLmodel": key("models:/iris/3", func(f files) { f["MLmodel"] = strings.Replace(f["MLmodel"], "m-0123", "m-9999", 2) }),
		"another size":    key("models:/iris/3", func(f files) { f["model.pkl"] += "!" }),
		"another file":    key("models:/iris/3", func(f files) { f["extra"] = "" }),
	} {
		if other == same {
			t.Errorf("%s has the same key", name)
		}
	}
}

func TestValidate(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Request)
		want   string // in the error, "" for none
	}{
		"good":             {func(*Request) {}, ""},
		"no repository":    {func(r *Request) { r.ImageRepository = "" }, ""},
		"upper case":       {func(r *Request) { r.Name = "Iris" }, "Iris"},
		"too long":         {func(r *Request) { r.Name = strings.Repeat("a", 64) }, "63"},
		"long for its tag": {func(r *Request) { r.Name = strings.Repeat("a", 54) }, "may have 53"},
		"just short":       {func(r *Request) { r.Name = strings.Repeat("a", 53) }, ""},
		"begins with 1":    {func(r *Request) { r.Name = "1iris" }, "1iris"},
		"namespace":        {func(r *Request) { r.Namespace = "a/b" }, "a/b"},
		"model URI":        {func(r *Request) { r.ModelURI = "iris" }, "iris"},
		"tracking URI":     {func(r *Request) { r.TrackingURI = "file:///mlruns" }, "tracking"},
		"tracking service": {func(r *Request) { r.TrackingService = "ml/mlflow:http" }, ""},
		"service by name":  {func(r *Request) { r.TrackingService = "mlflow" }, ""},
		"service in three": {func(r *Request) { r.TrackingService = "a/b/c" }, "a/b/c"},
		"service upper":    {func(r *Request) { r.TrackingService = "ml/MLflow" }, "its name"},
		"no service":       {func(r *Request) { r.TrackingService = "ml/" }, "its name"},
		"no namespace":     {func(r *Request) { r.TrackingService = "/mlflow" }, "its namespace"},
		"port missing":     {func(r *Request) { r.TrackingService = "ml/mlflow:" }, "its port"},
		"port too high":    {func(r *Request) { r.TrackingService = "ml/mlflow:70000" }, "65535"},
		"service as URL":   {func(r *Request) { r.TrackingService = "http://mlflow:5000" }, "its namespace"},
		"two servers": {func(r *Request) {
			r.TrackingService, r.TrackingURI, r.TrackingURIFrom = "ml/mlflow", "http://a", "--tracking-uri"
		}, "--tracking-uri and"},
		"URI of a variable": {func(r *Request) { r.TrackingURI, r.TrackingURIFrom = "mlflow:5000", "MLFLOW_TRACKING_URI" }, "MLFLOW_TRACKING_URI"},
		"image repository":  {func(r *Request) { r.ImageRepository = "Registry/UPPER" }, "UPPER"},
		"with a tag":        {func(r *Request) { r.ImageRepository = "registry.example.com/a:latest" }, "latest"},
		"a tag of its own":  {func(r *Request) { r.ImageTag = "release-2" }, ""},
		"no tag":            {func(r *Request) { r.ImageTag = "a b" }, "a b"},
		"tag and no place":  {func(r *Request) { r.ImageRepository, r.ImageTag = "", "a@b" }, "a@b"},
		"platform":          {func(r *Request) { r.Platform = "windows/amd64" }, "windows"},
		"part of a second":  {func(r *Request) { r.Timeout = 1500 * time.Millisecond }, "1.5s"},
		"negative timeout":  {func(r *Request) { r.Timeout = -time.Second }, "-1s"},
	} {
		t.Run(name, func(t *testing.T) {
			r := irisRequest()
			c.change(&r)
			err := r.Validate()
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			f, ok := errors.AsType[*failure.Error](err)
			if !ok || f.Class != failure.Invalid || f.Hint == "" || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v (%+v), want %q and a hint", err, f, c.want)
			}
		})
	}
}

func TestTrackingURIWithAPasswordIsNotRepeated(t *testing.T) {
	r := irisRequest()
	r.TrackingURI = "ftp://user:secret@host"
	if err := r.Validate(); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("error is %v", err)
	}
}

func TestListIsInOrder(t *testing.T) {
	got, err := newStage().client().List(t.Context(), "")
	want := []Deployment{{Namespace: "a", Name: "b", Reason: "it failed"}, {Namespace: "a", Name: "z"}, {Namespace: "b", Name: "a"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestDelete(t *testing.T) {
	s := newStage()
	if err := s.client().Delete(t.Context(), "", "iris"); err != nil || !s.called("delete models/iris") {
		t.Errorf("%v, calls %q", err, s.calls)
	}
	if err := s.client().Delete(t.Context(), "", "not a name"); failure.ClassOf(err) != failure.Invalid {
		t.Errorf("error is %v", err)
	}
}

func TestTogetherTellsInItsOwnOrder(t *testing.T) {
	cluster, registry := errors.New("no cluster"), errors.New("no registry")
	after := func(d time.Duration, err error) func(context.Context) error {
		return func(ctx context.Context) error {
			select {
			case <-time.After(d):
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	for _, c := range []struct {
		name          string
		first, second time.Duration
		cluster       error
		want          string
		took          time.Duration
	}{
		{"the first fails first", 0, time.Second, cluster, "no cluster\nno registry", time.Second},
		{"the second fails first", time.Second, 0, cluster, "no cluster\nno registry", time.Second},
		{"the first is slow, and well", time.Second, 0, nil, "no registry", time.Second},
		{"the first does not end", time.Hour, 0, cluster, "no registry", grace},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				err := together(t.Context(), after(c.first, c.cluster), after(c.second, registry))
				if err == nil || err.Error() != c.want || time.Since(began) != c.took {
					t.Errorf("after %s: %v, want %q after %s", time.Since(began), err, c.want, c.took)
				}
			})
		})
	}
}

func TestTogetherReturnsAnEndOfTheirOwnToo(t *testing.T) {
	err := together(t.Context(), func(context.Context) error { return context.Canceled }, func(context.Context) error { return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
}

func TestTogetherTellsOneFailureOnce(t *testing.T) {
	wall := func(context.Context) error { return errors.New("you may not get it") }
	if err := together(t.Context(), wall, wall); err == nil || err.Error() != "you may not get it" {
		t.Errorf("error is %q", err)
	}
}

func TestBuildChangesNothing(t *testing.T) {
	s := newStage()
	s.check = func(serving.Spec) error { return errors.New("Knative is not asked") }
	built, err := s.client().Build(t.Context(), irisRequest())
	if err != nil {
		t.Fatal(err)
	}
	timings := built.Timings
	built.Timings = Timings{}
	want := &Built{
		Image: "registry.example.com/models/iris@sha256:1234", ModelURI: "models:/iris/3", Version: "3", Platform: "linux/arm64", EnvironmentKey: s.environment.Key(),
	}
	if !reflect.DeepEqual(built, want) || timings.Resolve <= 0 || timings.Model != time.Second {
		t.Errorf("built %+v, %+v; want %+v", built, timings, want)
	}
	if order := []string{"dial mlflow/mlflow:5000", "make", "close"}; !reflect.DeepEqual(s.calls, order) {
		t.Errorf("calls were %q, want %q", s.calls, order)
	}
}

// In a pipeline there is no cluster; whatever it would have been asked for has a default, or has to be said.
func TestBuildWithoutACluster(t *testing.T) {
	none := &failure.Error{Class: failure.Invalid, Reason: "NoKubeconfig", Message: "there is no kubeconfig"}
	s := newStage()
	s.present = func() (serving.Deployment, error) { return serving.Deployment{}, none }
	s.nodes = func() ([]string, error) { return nil, none }
	r := irisRequest()
	r.TrackingURI = "https://mlflow.example.com"
	built, err := s.client().Build(t.Context(), r)
	if err != nil || built.Platform != "linux/amd64" || !strings.Contains(strings.Join(s.notes, "|"), "building for linux/amd64") {
		t.Errorf("built %+v, %v; said %q", built, err, s.notes)
	}
	if _, err := s.client().Deploy(t.Context(), r); reasonOf(err) != "NoKubeconfig" {
		t.Errorf("Deploy: %v", err)
	}
	r.ImageRepository = ""
	if _, err := s.client().Build(t.Context(), r); reasonOf(err) != "ImageRepositoryMissing" {
		t.Errorf("without a repository: %v", err)
	}
	s.nodes = func() ([]string, error) {
		return nil, &failure.Error{Class: failure.Diagnosed, Reason: "ClusterUnreachable"}
	}
	r.ImageRepository = irisRequest().ImageRepository
	if _, err := s.client().Build(t.Context(), r); reasonOf(err) != "ClusterUnreachable" {
		t.Errorf("a cluster that is away is not one that is not there: %v", err)
	}
}

func TestTagAndRebuildReachTheMaker(t *testing.T) {
	s := newStage()
	r := irisRequest()
	r.ImageTag, r.Rebuild = "release-2", true
	result, err := s.client().Deploy(t.Context(), r)
	if err != nil || s.content.Tag != "release-2" || !s.content.Anew || !strings.Contains(result.Image, "@sha256:") {
		t.Errorf("%+v, %v; content is %+v", result, err, s.content)
	}
}
