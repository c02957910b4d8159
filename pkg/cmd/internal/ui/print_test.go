package ui

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestTable(t *testing.T) {
	got := Table([]string{"NAME", "URL"}, [][]string{{"iris", ""}, {"wine\x1b[2J", "http://wine"}})
	want := "NAME          URL\niris          <none>\nwine\\x1b[2J   http://wine\n"
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestDataIsLeftAsItIs(t *testing.T) {
	for in, want := range map[string]string{`{"a":1}`: "{\"a\":1}\n", "x\x1b\n": "x\x1b\n", "": "\n"} {
		var b strings.Builder
		if err := Data(&b, []byte(in)); err != nil || b.String() != want {
			t.Errorf("Data(%q) = %q, %v; want %q", in, b.String(), err, want)
		}
	}
}

func TestPrintFormats(t *testing.T) {
	v := map[string]int{"a": 1}
	for format, want := range map[string]string{"": "text\n", "json": "{\n  \"a\": 1\n}\n", "yaml": "a: 1\n"} {
		var b strings.Builder
		if err := Print(&b, format, v, "text\n"); err != nil || b.String() != want {
			t.Errorf("Print as %q = %q, %v; want %q", format, b.String(), err, want)
		}
		if err := CheckFormat(format); err != nil {
			t.Errorf("CheckFormat(%q): %v", format, err)
		}
	}
	if err := CheckFormat("xml"); err == nil || !strings.Contains(err.Error(), `"xml"`) {
		t.Errorf("CheckFormat(xml) = %v", err)
	}
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{"models:/iris@champion": "models:/iris@champion", "": "''", "it's": `'it'\''s'`, "$(rm)": "'$(rm)'"} {
		if got := Quote(in); got != want {
			t.Errorf("Quote(%q) = %s, want %s", in, got, want)
		}
	}
}

func TestNextRepeatsWhatChoseTheCluster(t *testing.T) {
	root := &cobra.Command{Use: "kubectl-mlflow", Annotations: map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl mlflow"}}
	for _, name := range []string{"context", "namespace", "token"} {
		root.PersistentFlags().String(name, "", "")
	}
	var next string
	root.AddCommand(&cobra.Command{Use: "install", Run: func(c *cobra.Command, _ []string) { next = Next(c, "port-forward") }})
	root.SetArgs([]string{"install", "--context", "my lab", "--namespace", "ml", "--token", "secret"})
	if err := root.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := "kubectl mlflow port-forward --context 'my lab' -n ml"; next != want {
		t.Errorf("got %q, want %q", next, want)
	}
}
