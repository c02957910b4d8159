package artifacts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// logTail is how many lines of a failed command's log an error shows.
const logTail = 30

// StepError is a command that failed.
type StepError struct {
	// Command is its argv, in short.
	Command string
	// Log is the file with all that it printed.
	Log string
	// Tail is the end of that.
	Tail string
	Err  error
}

func (e *StepError) Error() string {
	return fmt.Sprintf("%s: %v\n%s\nThe whole log: %s", e.Command, e.Err, e.Tail, e.Log)
}

func (e *StepError) Unwrap() error { return e.Err }

// command prepares a program that ends with ctx and with this process, together with what it has started in turn.
func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // the recipes' own programs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// run runs a command with its output appended to logs/<log>.log.
func (s *store) run(log string, cmd *exec.Cmd) error {
	name := filepath.Join(s.logs(), log+".log")
	file, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644) //nolint:gosec // build logs hold no secrets
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(file, "# %s\n", strings.Join(cmd.Args, " ")); err != nil {
		return errors.Join(err, file.Close())
	}
	if cmd.Stdout == nil {
		cmd.Stdout = file
	}
	cmd.Stderr = file
	// The death signal is the thread's, not the process's: the thread must outlive the command.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err = cmd.Run()
	if closeErr := file.Close(); err == nil {
		return closeErr
	}
	tail, tailErr := tailOf(name)
	return &StepError{Command: brief(cmd.Args), Log: name, Tail: tail, Err: errors.Join(err, tailErr)}
}

// output runs a command and returns what it printed to stdout.
func (s *store) output(log string, cmd *exec.Cmd) (string, error) {
	var out strings.Builder
	cmd.Stdout = &out
	err := s.run(log, cmd)
	return out.String(), err
}

// newLog forgets what an earlier run of a step logged.
func (s *store) newLog(log string) error {
	if err := os.Remove(filepath.Join(s.logs(), log+".log")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func brief(args []string) string {
	const most = 6
	if len(args) > most {
		return strings.Join(args[:most], " ") + " …"
	}
	return strings.Join(args, " ")
}

// tailOf returns the last lines of a file.
func tailOf(name string) (string, error) {
	file, err := os.Open(name)
	if err != nil {
		return "", err
	}
	end, err := readEnd(file, 16<<10)
	lines := strings.Split(strings.TrimRight(string(end), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-logTail):], "\n"), errors.Join(err, file.Close())
}

func readEnd(file *os.File, most int64) ([]byte, error) {
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.NewSectionReader(file, max(0, size-most), most))
}
