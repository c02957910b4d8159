package kit

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"
)

// Knative gives an API server Knative Serving's own definitions of Services and Revisions, for as long as the test runs. They, and all that is
// of their kinds, belong to one test at a time: another one waits until they are gone.
func Knative(t testing.TB, kubeconfig string) {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	module, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "knative.dev/serving").Output()
	if err != nil {
		t.Fatalf("go list knative.dev/serving: %v", err)
	}
	definitions := client.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	for _, name := range []string{"service.yaml", "revision.yaml"} { // in this order: who has the first one has both
		text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(module)), "config/core/300-resources", name))
		if err != nil {
			t.Fatal(err)
		}
		definition := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(text, &definition.Object); err != nil {
			t.Fatal(err)
		}
		define(t, definitions, definition)
	}
}

func define(t testing.TB, definitions dynamic.ResourceInterface, definition *unstructured.Unstructured) {
	t.Helper()
	name := definition.GetName()
	until := func(what string, done wait.ConditionWithContextFunc) {
		t.Helper()
		if err := wait.PollUntilContextTimeout(context.WithoutCancel(t.Context()), 50*time.Millisecond, 2*time.Minute, true, done); err != nil {
			t.Fatalf("%s is not %s: %v", name, what, err)
		}
	}
	until("ours", func(ctx context.Context) (bool, error) {
		_, err := definitions.Create(ctx, definition, metav1.CreateOptions{})
		return err == nil, ignore(err, apierrors.IsAlreadyExists)
	})
	t.Cleanup(func() {
		until("gone", func(ctx context.Context) (bool, error) {
			err := definitions.Delete(ctx, name, metav1.DeleteOptions{})
			return apierrors.IsNotFound(err), ignore(err, apierrors.IsNotFound, apierrors.IsConflict)
		})
	})
	until("established", func(ctx context.Context) (bool, error) {
		live, err := definitions.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		status, _ := live.Object["status"].(map[string]any)
		conditions, _ := status["conditions"].([]any) // null at first
		for _, c := range conditions {
			if m, ok := c.(map[string]any); ok && m["type"] == "Established" && m["status"] == "True" {
				return true, nil
			}
		}
		return false, nil
	})
}
