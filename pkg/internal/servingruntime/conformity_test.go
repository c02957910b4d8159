//go:build real

package servingruntime_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// columnsOfAll is one tensor for each type of column that MLflow has, two rows each.
func columnsOfAll() []tensor {
	return []tensor{
		{"boolean", []int{2}, "BOOL", []any{true, false}},
		{"integer", []int{2}, "INT32", []any{1, -2}},
		{"long", []int{2, 1}, "INT64", []any{1, 9007199254740993}},
		{"float", []int{2}, "FP32", []any{0.5, nil}},
		{"double", []int{2, 1}, "FP64", []any{[]any{1.5}, []any{nil}}},
		{"string", []int{2}, "BYTES", []any{"a", "ü"}},
		{"datetime", []int{2}, "BYTES", []any{"2020-01-02T03:04:05.000006Z", "2020-01-02"}},
		{"binary", []int{2}, "BYTES", []any{"AP8=", "Yg=="}},
	}
}

// everyDatatype sends what an echoing model sends back.
func everyDatatype(t *testing.T, url string) {
	got := infer(t, url, map[string]any{"inputs": columnsOfAll()}, 200)
	want := map[string]string{
		"boolean": "BOOL [true false]", "integer": "INT32 [1 -2]", "long": "INT64 [1 9.007199254740992e+15]", "float": "FP32 [0.5 <nil>]",
		"double": "FP64 [1.5 <nil>]", "string": "BYTES [a ü]", "binary": "BYTES [AP8= Yg==]",
		"datetime": "BYTES [2020-01-02T03:04:05.000006 2020-01-02T00:00:00]",
	}
	if len(got.Outputs) != len(want) {
		t.Errorf("%d outputs, want %d", len(got.Outputs), len(want))
	}
	for _, o := range got.Outputs {
		if said := fmt.Sprint(o.Datatype, " ", o.Data); said != want[o.Name] || fmt.Sprint(o.Shape) != "[2 1]" {
			t.Errorf("%s: %v %s, want %s", o.Name, o.Shape, said, want[o.Name])
		}
	}
	asked := infer(t, url, map[string]any{"inputs": columnsOfAll(), "outputs": []map[string]string{{"name": "string"}}}, 200)
	if len(asked.Outputs) != 1 || asked.Outputs[0].Name != "string" {
		t.Errorf("one output was asked for: %+v", asked.Outputs)
	}
}

// badRequests are answered with 4xx and the reason, whatever they are.
func badRequests(t *testing.T, url string) {
	with := func(name string, replacement tensor) map[string]any {
		inputs := columnsOfAll()
		for i := range inputs {
			if inputs[i].Name == name {
				inputs[i] = replacement
			}
		}
		return map[string]any{"inputs": inputs}
	}
	all := func(more map[string]any) map[string]any {
		more["inputs"] = columnsOfAll()
		return more
	}
	for what, c := range map[string]struct {
		body any // JSON, or bytes as they are
		says string
	}{
		"nothing":                {[]byte{}, "not JSON"},
		"half an object":         {[]byte("{"), "not JSON"},
		"no text":                {[]byte{0xff, 0xfe, 0}, "not JSON"},
		"a deep nest":            {[]byte(strings.Repeat("[", 100_000)), "not JSON"},
		"parameters of another":  {all(map[string]any{"parameters": "x"}), "parameters"},
		"an id that is none":     {all(map[string]any{"id": 5}), "id"},
		"outputs that are none":  {all(map[string]any{"outputs": []string{"double"}}), "outputs"},
		"a param of another":     {all(map[string]any{"parameters": map[string]any{"seconds": "long"}}), "seconds"},
		"a model that fails":     {all(map[string]any{"parameters": map[string]any{"fails": true}}), "RuntimeError: the model is broken"},
		"a name that is none":    {map[string]any{"inputs": []any{map[string]any{"name": 3}}}, "name"},
		"a list of datatypes":    {map[string]any{"inputs": []any{map[string]any{"name": "x", "datatype": []string{"FP64"}}}}, "datatype"},
		"an input twice":         {map[string]any{"inputs": append(columnsOfAll(), columnsOfAll()...)}, "two inputs"},
		"a negative size":        {with("double", tensor{"double", []int{-1, 2}, "FP64", []any{1, 2}}), "shape"},
		"a size beyond all":      {with("double", tensor{"double", []int{1 << 62, 1 << 62}, "FP64", []any{1, 2}}), "holds"},
		"rows of two lengths":    {with("double", tensor{"double", []int{1}, "FP64", []any{1}}), "different numbers of rows"},
		"a fraction":             {with("long", tensor{"long", []int{2}, "INT64", []any{1, 1.5}}), "1.5 is not a whole number"},
		"no whole number":        {with("long", tensor{"long", []int{2}, "INT64", []any{1, nil}}), "whole number"},
		"too large a number":     {with("integer", tensor{"integer", []int{2}, "INT64", []any{1, 1 << 40}}), "int32"},
		"beyond its datatype":    {with("integer", tensor{"integer", []int{2}, "UINT8", []any{1, -1}}), "between 0 and 255"},
		"a number as text":       {with("string", tensor{"string", []int{2}, "BYTES", []any{"a", 1}}), "not a string"},
		"no time":                {with("datetime", tensor{"datetime", []int{2}, "BYTES", []any{"never", "x"}}), "never"},
		"no base64":              {with("binary", tensor{"binary", []int{2}, "BYTES", []any{"x", "y"}}), "base64"},
		"parameters of a tensor": {map[string]any{"inputs": []any{map[string]any{"name": "double", "shape": []int{1}, "datatype": "FP64", "data": []int{1}, "parameters": "x"}}}, "parameters"},
	} {
		body, ok := c.body.([]byte)
		if !ok {
			var err error
			if body, err = json.Marshal(c.body); err != nil {
				t.Fatal(err)
			}
		}
		refused(t, what, url+"/v2/models/iris/infer", body, http.StatusBadRequest, c.says)
	}
	refused(t, "too large a body", url+"/v2/models/iris/infer", bytes.Repeat([]byte(" "), 65<<20), http.StatusRequestEntityTooLarge, "64 MiB")
	refused(t, "a repository", url+"/v2/repository/models/iris/unload", nil, http.StatusNotFound, "/v2/repository")
	refused(t, "another method", url+"/v2/models/iris/ready", nil, http.StatusMethodNotAllowed, "Method Not Allowed")
	infer(t, url, map[string]any{"inputs": columnsOfAll()}, 200)
}

func refused(t *testing.T, what, url string, body []byte, status int, says string) {
	t.Helper()
	resp, err := http.Post(url, "application/json", bytes.NewReader(body))
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	defer closing(t, resp.Body)
	var a answer
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil || resp.StatusCode != status || !strings.Contains(a.Error, says) {
		t.Errorf("%s: %d %q %v, want %d and %q", what, resp.StatusCode, a.Error, err, status, says)
	}
}

// answersBeforeItEnds asks for predictions that take a while, two at once, and tells the server to stop while they are computed.
func answersBeforeItEnds(t *testing.T, s server) {
	begun := t.TempDir()
	body, err := json.Marshal(map[string]any{"inputs": columnsOfAll(), "parameters": map[string]any{"begun": begun, "seconds": 3}})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var asking sync.WaitGroup
	for range 2 {
		asking.Go(func() {
			resp, err := http.Post(s.url+"/v2/models/iris/infer", "application/json", bytes.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			defer closing(t, resp.Body)
			if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
				t.Errorf("%d %s %v", resp.StatusCode, text, err)
			}
		})
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		files, err := os.ReadDir(begun)
		if err != nil {
			t.Fatal(err)
		}
		if len(files) == 2 {
			break
		}
		if time.Since(began) > 30*time.Second {
			t.Fatalf("%d of 2 predictions have begun", len(files))
		}
		<-tick.C
	}
	statuses(t, s.url, map[string]int{"/v2/models/iris/ready": 200})
	if err := s.process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	asking.Wait()
	if took := time.Since(began); took > 5500*time.Millisecond {
		t.Errorf("two predictions of 3 s at once took %s", took)
	}
	select {
	case err := <-s.ended:
		s.ended <- err
		if err != nil {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("did not end within 10 s of its last answer")
	}
}

// doesNotGrow asks 10,000 times. Allocators take a while to settle: what counts is the second half.
func doesNotGrow(t *testing.T, s server, inputs []tensor) {
	body, err := json.Marshal(map[string]any{"inputs": inputs})
	if err != nil {
		t.Fatal(err)
	}
	var sizes [3]int
	for i := range sizes {
		for range min(i, 1) * 5000 {
			resp, err := http.Post(s.url+"/v2/models/iris/infer", "application/json", bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
				t.Fatal(resp.Status, err)
			}
			closing(t, resp.Body)
		}
		sizes[i] = resident(t, s.process.Pid)
	}
	t.Logf("resident when ready, after 5,000 and after 10,000 requests: %d kB", sizes)
	if sizes[2]-sizes[1] > 4<<10 {
		t.Errorf("resident after 5,000 and after 10,000 requests: %d and %d kB", sizes[1], sizes[2])
	}
}

// resident is the size in kB of what a process has in memory.
func resident(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Skipf("only Linux tells the memory of a process: %v", err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	size, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return size
}

// askAsClientsDo is what users of these clients write.
const askAsClientsDo = `
import asyncio, sys
import numpy as np
import kserve, tritonclient.http as triton
from tritonclient.utils import InferenceServerException
url, rows = sys.argv[1], np.array([[5.1, 3.5, 1.4, 0.2]])

client = triton.InferenceServerClient(url.removeprefix("http://"))
assert client.is_server_live() and client.is_server_ready()
assert client.is_model_ready("iris") and client.is_model_ready("iris", "3") and not client.is_model_ready("rose")
assert client.get_server_metadata()["name"] == "mlflow"
about = client.get_model_metadata("iris")
assert about["versions"] == ["3"] and len(about["inputs"]) == 4 and about["inputs"][0]["datatype"] == "FP64", about
def ask(binary, **more):
    x = triton.InferInput("x", [1, 4], "FP64")
    x.set_data_from_numpy(rows, binary_data=binary)
    return client.infer("iris", [x], **more)
for outputs in (None, [triton.InferRequestedOutput("output-1")]):
    answer = ask(False, outputs=outputs, request_id="7")
    assert answer.as_numpy("output-1").shape == (1, 3) and answer.get_response()["id"] == "7"
for call, says in ((lambda: ask(True), "binary"), (lambda: client.unload_model("iris"), "/v2/repository"),
                   (lambda: client.get_model_metadata("rose"), "rose")):
    try:
        call()
    except InferenceServerException as e:
        assert says in e.message(), e
    else:
        raise AssertionError(says)

async def main():
    client = kserve.InferenceRESTClient(kserve.RESTConfig(protocol="v2"))
    assert await client.is_server_live(url) and await client.is_server_ready(url) and await client.is_model_ready(url, "iris")
    x = kserve.InferInput("x", [1, 4], "FP64")
    x.set_data_from_numpy(rows, binary_data=False)
    answer = await client.infer(url, kserve.InferRequest(model_name="iris", infer_inputs=[x]), model_name="iris")
    assert answer.outputs[0].as_numpy().shape == (1, 3) and answer.model_name == "iris", answer
asyncio.run(main())
`

// realClients are kserve's and NVIDIA's. KUBECTL_MLFLOW_TEST_CLIENTS_PYTHON is an interpreter with kserve and tritonclient[http].
func realClients(t *testing.T, url string) {
	python := interpreter(t, "KUBECTL_MLFLOW_TEST_CLIENTS_PYTHON", "kserve and tritonclient[http]")
	if out, err := exec.CommandContext(t.Context(), python, "-c", askAsClientsDo, url).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
