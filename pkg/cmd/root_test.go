package cmd

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// every calls f with every command of the program.
func every(t *testing.T, f func(t *testing.T, c *cobra.Command)) {
	t.Helper()
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		t.Run(c.CommandPath(), func(t *testing.T) { f(t, c) })
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(NewCommand(genericiooptions.NewTestIOStreamsDiscard()))
}

func TestNoCommandRedefinesAFlagOfKubectl(t *testing.T) {
	kubectls := pflag.NewFlagSet("kubectl", pflag.ContinueOnError)
	genericclioptions.NewConfigFlags(true).AddFlags(kubectls)
	every(t, func(t *testing.T, c *cobra.Command) {
		if c.Parent() == nil {
			return
		}
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if c.InheritedFlags().Lookup(f.Name) != nil {
				return
			}
			if kubectls.Lookup(f.Name) != nil || f.Shorthand != "" && kubectls.ShorthandLookup(f.Shorthand) != nil {
				t.Errorf("--%s (-%s) is a flag of kubectl's", f.Name, f.Shorthand)
			}
		})
	})
}

func TestEveryCommandExplainsItselfAndChecksItsArguments(t *testing.T) {
	every(t, func(t *testing.T, c *cobra.Command) {
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("its short text is %q", c.Short)
		}
		if c.Args == nil {
			t.Error("it takes any arguments")
		}
		if c.RunE == nil {
			t.Error("it cannot fail, or does nothing")
		}
		for line := range strings.SplitSeq(c.Long, "\n") {
			if len([]rune(line)) > 105 {
				t.Errorf("a line of its help is %d characters long: %s", len([]rune(line)), line)
			}
		}
		c.NonInheritedFlags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("--%s has no meaning", f.Name)
			}
		})
	})
}

func TestEveryMisspelledCommandIsAnError(t *testing.T) {
	for _, args := range [][]string{{"instal"}, {"deployment", "list"}, {"deployments", "lst"}, {"help", "instal"}, {"Install"}} {
		var out, errOut strings.Builder
		streams := genericiooptions.IOStreams{In: strings.NewReader(""), Out: &out, ErrOut: &errOut}
		if code := Main(t.Context(), "", args, streams); code != exitInvalid {
			t.Errorf("%v: exit code %d, want %d", args, code, exitInvalid)
		}
		if out.Len() > 0 || !strings.Contains(errOut.String(), "unknown command") {
			t.Errorf("%v: stdout %q, stderr %q", args, out.String(), errOut.String())
		}
	}
}

// A flag of ours by the name of one of kubectl's would hide that.
func TestNoCommandRedefinesAKubeconfigFlag(t *testing.T) {
	root := NewCommand(genericiooptions.NewTestIOStreamsDiscard())
	taken := map[string]string{}
	root.PersistentFlags().VisitAll(func(f *pflag.Flag) {
		taken["--"+f.Name] = f.Name
		if f.Shorthand != "" {
			taken["-"+f.Shorthand] = f.Name
		}
	})
	if taken["--context"] == "" || taken["-n"] != "namespace" {
		t.Fatalf("kubectl's flags are %v", taken)
	}
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		for _, child := range c.Commands() {
			child.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
				if taken["--"+f.Name] != "" || f.Shorthand != "" && taken["-"+f.Shorthand] != "" {
					t.Errorf("%s: --%s -%s is a flag of kubectl's", child.CommandPath(), f.Name, f.Shorthand)
				}
			})
			walk(child)
		}
	}
	walk(root)
}
