// Package version prints what this program is.
package version

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/args"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
)

// Info is what `version -o json` prints.
type Info struct {
	// Version is a semantic version with a leading v; "devel" where it was built outside a release.
	Version   string `json:"version"`
	GoVersion string `json:"goVersion"`
	// Platform is GOOS/GOARCH.
	Platform string `json:"platform"`
}

// NewCommand makes the command. build is the version that the linker set, or "".
func NewCommand(build string, streams genericiooptions.IOStreams) *cobra.Command {
	var output string
	command := &cobra.Command{
		Use:   "version",
		Short: "Print the version of this plugin",
		Long:  "Print the version of this plugin. It reads no kubeconfig and asks no cluster.",
		Args:  args.Exactly(),
		RunE: func(*cobra.Command, []string) error {
			if err := ui.CheckFormat(output); err != nil {
				return err
			}
			i := info(build)
			return ui.Print(streams.Out, output, i, fmt.Sprintf("kubectl-mlflow %s (%s, %s)\n", i.Version, i.GoVersion, i.Platform))
		},
	}
	command.Flags().StringVarP(&output, "output", "o", output, "Output format: "+ui.Formats)
	return command
}

// Of is this program's version; build is the one that the linker set, or "".
func Of(build string) string {
	if build != "" {
		return build
	}
	// `go install module@version` sets no linker flag, but the module's version.
	if b, ok := debug.ReadBuildInfo(); ok && b.Main.Version != "" && b.Main.Version != "(devel)" {
		return b.Main.Version
	}
	return "devel"
}

func info(build string) Info {
	return Info{Version: Of(build), GoVersion: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
}
