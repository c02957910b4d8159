// Command testsum reads what `go test -json` prints, shows failures while the tests run, and ends with one line:
//
//	12 passed, 0 failed, 1 skipped
//
// It reads the files named, or standard input. It exits 1 when anything failed. A test with subtests is not counted beside
// them, unless it failed by itself. A package that does not build, or dies outside a test, counts as one failure.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("testsum", flag.ContinueOnError)
	flags.SetOutput(stderr)
	mustRun := flags.String("must-run", "", "skipped tests of packages whose path contains this count as failed")
	quiet := flags.Bool("quiet", false, "print the names of failed tests without their output: it was shown before")
	event := flags.String("event", "", "print the event of a test that was skipped (skip) or failed (fail) outside go test, and exit; arguments: PACKAGE TEST REASON")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if *event != "" {
		if flags.NArg() != 3 || *event != "skip" && *event != "fail" {
			flags.Usage()
			return 2
		}
		if err := writeEvent(stdout, *event, flags.Arg(0), flags.Arg(1), flags.Arg(2)); err != nil {
			complain(stderr, err)
			return 1
		}
		return 0
	}
	s := &summary{out: stdout, mustRun: *mustRun, quiet: *quiet}
	if err := read(s, flags.Args(), stdin); err != nil {
		complain(stderr, err)
		return 1
	}
	if !s.finish() {
		return 1
	}
	return 0
}

func complain(stderr io.Writer, err error) {
	_, _ = fmt.Fprintln(stderr, "testsum:", err)
}

func read(s *summary, files []string, stdin io.Reader) error {
	if len(files) == 0 {
		return s.read(stdin)
	}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		err = s.read(f)
		if e := f.Close(); err == nil {
			err = e
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}
