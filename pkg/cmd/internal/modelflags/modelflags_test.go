package modelflags

import (
	"reflect"
	"testing"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/deployments"
)

func TestFlagsWinOverTheEnvironment(t *testing.T) {
	environment := map[string]string{"MLFLOW_TRACKING_URI": "http://env.example.com", "KUBECTL_MLFLOW_IMAGE_REPOSITORY": "env.example.com/models"}
	getenv := func(name string) string { return environment[name] }
	typed := []string{"iris", "models:/iris/3"}
	fromEnvironment := deployments.Request{
		Name: "iris", ModelURI: "models:/iris/3", TrackingURI: "http://env.example.com", TrackingURIFrom: "MLFLOW_TRACKING_URI",
		ImageRepository: "env.example.com/models",
	}
	fromFlags := fromEnvironment
	fromFlags.TrackingURI, fromFlags.TrackingURIFrom, fromFlags.ImageRepository = "http://flag.example.com", "--tracking-uri", "flag.example.com/models"
	service := fromEnvironment
	service.TrackingURI, service.TrackingURIFrom, service.TrackingService = "", "--tracking-uri", "ml/mlflow"
	for name, c := range map[string]struct {
		flags Flags
		want  deployments.Request
	}{
		"nothing":           {Flags{}, fromEnvironment},
		"a server, a place": {Flags{TrackingURI: "http://flag.example.com", ImageRepository: "flag.example.com/models"}, fromFlags},
		"a Service":         {Flags{TrackingService: "ml/mlflow"}, service},
	} {
		if got := c.flags.Request(typed, getenv); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func TestTimings(t *testing.T) {
	got := Timings(deployments.Timings{Resolve: 300 * time.Millisecond, Model: time.Second, Ready: 6 * time.Second})
	if want := "checks 0.3s, model layers 1.0s, ready 6.0s; 7.3s together"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
