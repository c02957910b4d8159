// Package completion is the group of commands about the TAB key.
package completion

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/args"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// NewCommand makes the group; alone is what it does when no subcommand is named.
func NewCommand(streams genericiooptions.IOStreams, talk *ui.Progress, getenv func(string) string, alone func(*cobra.Command, []string) error) *cobra.Command {
	command := &cobra.Command{
		Use:   "completion",
		Short: "Let the TAB key complete kubectl mlflow",
		Args:  cobra.ArbitraryArgs,
		RunE:  alone,
	}
	command.AddCommand(newInstall(streams, talk, getenv))
	return command
}

func newInstall(streams genericiooptions.IOStreams, talk *ui.Progress, getenv func(string) string) *cobra.Command {
	directory := ""
	command := &cobra.Command{
		Use:   "install",
		Short: "Make the link through which kubectl completes the plugin",
		Long: `Make the link through which kubectl completes the plugin: kubectl_complete-mlflow, beside the
plugin or in --directory. It leads to the plugin itself, and stays right when that is upgraded.
A file of this name that is something else stays as it is.

Your shell has to complete kubectl already: kubectl completion --help says how.`,
		Example: `  kubectl mlflow completion install

  # Where the plugin's own directory is not yours
  kubectl mlflow completion install --directory ~/.local/bin`,
		Args: args.Exactly(),
		RunE: func(*cobra.Command, []string) error {
			plugin, err := find()
			if err != nil {
				return err
			}
			if directory == "" {
				directory = filepath.Dir(plugin)
			}
			if directory, err = filepath.Abs(directory); err != nil {
				return fmt.Errorf("--directory: %w", err)
			}
			l := newLink(runtime.GOOS, plugin, directory)
			made, err := l.make()
			if err != nil {
				return err
			}
			if !slices.Contains(filepath.SplitList(getenv("PATH")), directory) {
				talk.Say("Warning: %s is not in your PATH: kubectl finds nothing there", directory)
			}
			if !made {
				talk.Say("It is there already")
			}
			_, err = fmt.Fprintln(streams.Out, ui.Escape(l.file))
			return err
		},
	}
	command.Flags().StringVar(&directory, "directory", directory, "Directory of your PATH that gets the link. Default: the plugin's")
	return command
}

// find is the plugin as kubectl finds it: a package manager's link stays where it is when what it leads to changes with each version.
func find() (string, error) {
	if found, err := exec.LookPath(plugin); err == nil {
		return filepath.Abs(found)
	}
	found, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("finding the plugin's own file: %w", err)
	}
	return found, nil
}

const (
	plugin   = "kubectl-mlflow"
	linkName = "kubectl_complete-mlflow"
)

// foreign is a file in the way of the link.
func foreign(file string) error {
	return &failure.Error{
		Class: failure.Refused, Reason: "ForeignFile", Object: file, Message: "there is a file of this name that is not ours",
		Hint: "look what it is, and remove it; or choose another directory of your PATH with --directory",
	}
}

// unwritable is a directory that is not the user's.
func unwritable(file string, err error) error {
	f := &failure.Error{
		Class: failure.Invalid, Reason: "LinkFailed", Object: file, Message: "it cannot be made", Err: errors.Unwrap(err),
		Hint: "choose another directory of your PATH with --directory",
	}
	if errors.Is(err, os.ErrPermission) {
		f.Class = failure.Forbidden
	}
	return f
}

// ours tells whether a link to target may be made anew: it leads to a plugin of this name, there or no more.
func ours(target string) bool {
	return strings.TrimSuffix(filepath.Base(target), ".exe") == plugin
}
