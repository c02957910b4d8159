package cmd

import (
	"flag"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/textlogger"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
)

// mostVerbose is as far as -v goes. From 8 on client-go logs the bodies of requests and answers, which may be Secrets; up to 7 it logs
// headers, and of Authorization no more than that it is there.
const mostVerbose = 7

// addVerbosity gives root kubectl's flag -v. Without it nothing of client-go's log is shown: what matters of it are errors, which it also
// returns, and once said is enough.
func addVerbosity(root *cobra.Command, talk *ui.Progress) {
	level := root.PersistentFlags().IntP("v", "v", 0,
		"Tell of the requests to the cluster: 6 each with its time, 7 its headers too. More is never told: bodies may hold secrets")
	root.PersistentPreRunE = func(c *cobra.Command, _ []string) error {
		if *level < 0 {
			return &usageError{c, fmt.Errorf("-v %d: the least is 0", *level)}
		}
		return logRequests(min(*level, mostVerbose), talk)
	}
}

// logRequests has client-go log among talk's steps. Its log is one for the process.
func logRequests(level int, talk *ui.Progress) error {
	if level == 0 {
		klog.SetLogger(logr.Discard())
		return nil
	}
	flags := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(flags)
	if err := flags.Set("v", strconv.Itoa(level)); err != nil {
		return fmt.Errorf("setting the verbosity of the log: %w", err)
	}
	klog.SetLogger(textlogger.NewLogger(textlogger.NewConfig(textlogger.Verbosity(level), textlogger.Output(lines{talk}))))
	return nil
}

// lines says what it is given line by line: headers are of several.
type lines struct{ talk *ui.Progress }

func (l lines) Write(p []byte) (int, error) {
	for line := range strings.Lines(string(p)) {
		l.talk.Say("%s", strings.TrimSuffix(line, "\n"))
	}
	return len(p), nil
}
