// Package version prints what this program is.
package version

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/yaml"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
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
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return run(info(build), output, streams)
		},
	}
	command.Flags().StringVarP(&output, "output", "o", output, "Output format: json or yaml")
	return command
}

func info(build string) Info {
	if build == "" {
		build = "devel"
		// `go install module@version` sets no linker flag, but the module's version.
		if b, ok := debug.ReadBuildInfo(); ok && b.Main.Version != "" && b.Main.Version != "(devel)" {
			build = b.Main.Version
		}
	}
	return Info{Version: build, GoVersion: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
}

func run(i Info, output string, streams genericiooptions.IOStreams) error {
	var text []byte
	var err error
	switch output {
	case "":
		text = fmt.Appendf(nil, "kubectl-mlflow %s (%s, %s)\n", i.Version, i.GoVersion, i.Platform)
	case "json":
		text, err = json.MarshalIndent(i, "", "  ")
		text = append(text, '\n')
	case "yaml":
		text, err = yaml.Marshal(i)
	default:
		return &failure.Error{Class: failure.Invalid, Reason: "UnknownOutput",
			Object: "--output", Message: fmt.Sprintf("%q is not a format", output), Hint: "use json or yaml, or leave it out"}
	}
	if err != nil {
		return fmt.Errorf("printing the version: %w", err)
	}
	_, err = streams.Out.Write(text)
	return err
}
