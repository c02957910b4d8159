//go:build api

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/workqueue"

	"github.com/kubectl-mlflow/kubectl-mlflow/test/kit"
)

// What a list of manyModels may take of the machine of who asks.
const (
	manyModels = 1000
	longest    = 1500 * time.Millisecond
	largest    = 100 << 10 // KiB
)

// TestRealListOfManyModels lists a thousand deployments, among them some whose status says nothing or nonsense.
func TestRealListOfManyModels(t *testing.T) {
	kubeconfig := os.Getenv("KUBECTL_MLFLOW_TEST_KUBECONFIG")
	if kubeconfig == "" {
		t.Skip("KUBECTL_MLFLOW_TEST_KUBECONFIG names no API server")
	}
	kit.Knative(t, kubeconfig)
	statuses := map[int]map[string]any{
		7: nil,
		8: {"url": "http://[::1"},
		9: {"observedGeneration": int64(1), "conditions": []any{map[string]any{"type": "Ready", "status": "True"}}},
	}
	began := time.Now()
	makeModels(t, kubeconfig, func(i int) map[string]any {
		if status, odd := statuses[i]; odd {
			return status
		}
		return map[string]any{
			"url": fmt.Sprintf("http://model-%04d.default.models.example.com", i), "observedGeneration": int64(1),
			"conditions": []any{
				map[string]any{"type": "ConfigurationsReady", "status": "True"}, map[string]any{"type": "Ready", "status": "True"},
				map[string]any{"type": "RoutesReady", "status": "True"},
			},
		}
	})
	t.Logf("%d Services were made in %s", manyModels, time.Since(began))

	took, used := time.Hour, 0
	var list []byte
	for range 3 { // the machine may have other work to do
		var wall time.Duration
		var peak int
		list, wall, peak = measuredList(t, kubeconfig)
		took, used = min(took, wall), max(used, peak)
		if took <= longest {
			break
		}
	}
	t.Logf("the list took %s and %d KiB", took, used)
	if took > longest || used > largest {
		t.Errorf("the list took %s and %d KiB, want no more than %s and %d KiB", took, used, longest, largest)
	}
	lines := strings.Split(strings.TrimSpace(string(list)), "\n")
	if len(lines) != manyModels+1 {
		t.Fatalf("the list has %d lines, want a header and %d", len(lines), manyModels)
	}
	for i, want := range map[int]string{ // the model of a row, and what is known of it
		0: `^model-0000 .*models:/model-0000/1 .*True .*http://model-0000\.default\.models\.example\.com`,
		7: `^model-0007 .*models:/model-0007/1 .*False Knative has not looked at it yet `,
		8: `^model-0008 .*models:/model-0008/1 .*False .*\[::1`,
		9: `^model-0009 .*models:/model-0009/1 .*True .*<none>`,
	} {
		if !regexp.MustCompile(want).MatchString(lines[i+1]) {
			t.Errorf("the list has\n%s\nwant %s", lines[i+1], want)
		}
	}
}

// makeModels creates Services as deploy does, with the status that Knative would write.
func makeModels(t *testing.T, kubeconfig string, status func(i int) map[string]any) {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	services := client.Resource(schema.GroupVersionResource{Group: "serving.knative.dev", Version: "v1", Resource: "services"}).Namespace("default")
	failed := make([]error, manyModels)
	workqueue.ParallelizeUntil(t.Context(), 32, manyModels, func(i int) {
		failed[i] = makeModel(t.Context(), services, i, status(i))
	})
	for _, err := range failed {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func makeModel(ctx context.Context, services dynamic.ResourceInterface, i int, status map[string]any) error {
	name := fmt.Sprintf("model-%04d", i)
	annotations := map[string]any{"mlflow.kubectl/model-uri": "models:/" + name + "/1", "mlflow.kubectl/model-version": "1"}
	made, err := services.Create(ctx, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "serving.knative.dev/v1", "kind": "Service",
		"metadata": map[string]any{"name": name, "labels": map[string]any{"app.kubernetes.io/managed-by": "kubectl-mlflow"}, "annotations": annotations},
		"spec": map[string]any{"template": map[string]any{
			"metadata": map[string]any{"annotations": annotations},
			"spec": map[string]any{"containers": []any{map[string]any{
				"image": "registry.example.com/models@sha256:" + strings.Repeat("0", 64), "ports": []any{map[string]any{"containerPort": int64(8080)}},
				"env": []any{map[string]any{"name": "KUBECTL_MLFLOW_MODEL_NAME", "value": name}},
			}}},
		}},
	}}, metav1.CreateOptions{})
	if err != nil || status == nil {
		return err
	}
	made.Object["status"] = status
	_, err = services.UpdateStatus(ctx, made, metav1.UpdateOptions{})
	return err
}

// measuredList lists the models, and tells how long that took and how much memory, in KiB. What a process is said to have used when it has
// ended is no less than what the one that started it had; so the list is looked at while it waits for someone to read its end.
func measuredList(t *testing.T, kubeconfig string) (list []byte, took time.Duration, peak int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "kubectl-mlflow", "deployments", "list", "--kubeconfig", kubeconfig)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out := bufio.NewReaderSize(pipe, 16)
	if _, err := out.Peek(1); err != nil {
		_ = cmd.Wait() // what it says is told
		t.Fatalf("deployments list: %v\n%s", err, stderr.String())
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if list, err = io.ReadAll(out); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("deployments list: %v\n%s", err, stderr.String())
	}
	took = time.Since(began)
	found := regexp.MustCompile(`(?m)^VmHWM:\s+(\d+) kB$`).FindSubmatch(status)
	if found == nil || len(list) <= 64<<10 { // as much as a pipe takes without a reader
		t.Fatalf("the list was over before it could be looked at: %d bytes", len(list))
	}
	peak, err = strconv.Atoi(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	return list, took, peak
}
