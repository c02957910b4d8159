package trackingserver

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParametersAreDocumented(t *testing.T) {
	const file, head = "../../docs/parameters.md", "| flag | key in files | overlays | meaning |\n|---|---|---|---|\n"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, table, _ := strings.Cut(string(text), head)
	var want strings.Builder
	var p Parameters
	for _, parameter := range p.All() {
		overlays := strings.Join(parameter.Overlays, ", ")
		if slices.Equal(parameter.Overlays, Overlays()) {
			overlays = "all"
		}
		fmt.Fprintf(&want, "| `%s` | `%s` | %s | %s |\n", parameter.Flag, parameter.Key, overlays, parameter.Help)
	}
	if updating() {
		if err := os.WriteFile(file, []byte(before+head+want.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want.String(), table); diff != "" {
		t.Errorf("docs/parameters.md differs from the table of parameters; write it anew with -update:\n%s", diff)
	}
}
