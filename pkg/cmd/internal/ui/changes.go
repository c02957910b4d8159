package ui

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/trackingserver"
)

// ObjectFormats are the values of -o that PrintChanges knows.
const ObjectFormats = "name, json or yaml"

// CheckObjectFormat is for before the work: failure.Invalid where PrintChanges will not know the format.
func CheckObjectFormat(format string) error {
	switch format {
	case "", "name", "json", "yaml":
		return nil
	}
	return &failure.Error{Class: failure.Invalid, Reason: "UnknownOutput",
		Object: "--output", Message: fmt.Sprintf("%q is not a format", format), Hint: "use " + ObjectFormats + ", or leave it out"}
}

// PrintChanges writes one line an object, in kubectl's words: "deployment.apps/mlflow created"; suffix ends the line. As json or
// yaml it writes the objects as they are now: what is deleted, and Secrets, are not among them.
func PrintChanges(w io.Writer, format, suffix string, changes []trackingserver.Change) error {
	if format == "json" || format == "yaml" {
		var objs []*unstructured.Unstructured
		for _, c := range changes {
			if c.After != nil {
				objs = append(objs, c.After)
			}
		}
		return PrintObjects(w, format, objs)
	}
	var b strings.Builder
	for _, c := range changes {
		b.WriteString(Escape(c.Object()))
		if format != "name" {
			b.WriteString(" " + Escape(c.Action) + suffix)
		}
		b.WriteString("\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// PrintObjects writes manifests that kubectl apply takes: documents of YAML, or a List of JSON.
func PrintObjects(w io.Writer, format string, objs []*unstructured.Unstructured) error {
	var out []byte
	items := make([]any, 0, len(objs))
	for i, obj := range objs {
		bare := WithoutBookkeeping(obj).Object
		items = append(items, bare)
		if format == "json" {
			continue
		}
		text, err := yaml.Marshal(bare)
		if err != nil {
			return fmt.Errorf("printing %s %s: %w", obj.GetKind(), obj.GetName(), err)
		}
		if i > 0 {
			out = append(out, "---\n"...)
		}
		out = append(out, text...)
	}
	if format == "json" {
		text, err := json.MarshalIndent(map[string]any{"apiVersion": "v1", "kind": "List", "items": items}, "", "  ")
		if err != nil {
			return fmt.Errorf("printing as json: %w", err)
		}
		out = append(text, '\n')
	}
	_, err := w.Write(out)
	return err
}

// WithoutBookkeeping is obj without what the API server writes into it, which is nothing to apply or to compare.
func WithoutBookkeeping(obj *unstructured.Unstructured) *unstructured.Unstructured {
	bare := obj.DeepCopy()
	for _, field := range []string{"managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink"} {
		unstructured.RemoveNestedField(bare.Object, "metadata", field)
	}
	delete(bare.Object, "status")
	return bare
}
