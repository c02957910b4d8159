package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// defaultGrace is how long a process has between SIGTERM and SIGKILL.
const defaultGrace = 2 * time.Second

// processes starts children and collects every one that dies, its own and, for PID 1, those that others left behind.
// It does without os/exec, whose Wait would race with the collecting.
type processes struct {
	forks chan fork

	mu    sync.Mutex
	alive map[int]*process
}

// process is one child that was started here.
type process struct {
	pid int
	// done is closed when the process has been collected; status is valid from then on.
	done   chan struct{}
	status syscall.WaitStatus
}

type fork struct {
	command []string
	env     []string
	dir     string
	log     string
	answer  chan<- forked
}

type forked struct {
	p   *process
	err error
}

// newProcesses returns a starter of processes that works until ctx ends; the collecting goes on as long as there are children.
func newProcesses(ctx context.Context) *processes {
	ps := &processes{forks: make(chan fork), alive: map[int]*process{}}
	go ps.forkAll(ctx)
	go ps.reapAll(ctx)
	return ps
}

// start runs a command with its output appended to the file log.
func (ps *processes) start(ctx context.Context, command, env []string, dir, log string) (*process, error) {
	answer := make(chan forked, 1)
	select {
	case ps.forks <- fork{command: command, env: env, dir: dir, log: log, answer: answer}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	a := <-answer
	return a.p, a.err
}

// forkAll does every fork from one thread that lives as long as the supervisor does: the kernel sends a child's
// death signal when the thread that forked it ends, not the process.
func (ps *processes) forkAll(ctx context.Context) {
	runtime.LockOSThread()
	for {
		select {
		case f := <-ps.forks:
			p, err := ps.fork(f)
			f.answer <- forked{p, err}
		case <-ctx.Done():
			// Left locked: the thread ends with this goroutine, and with it whatever is still alive.
			return
		}
	}
}

func (ps *processes) fork(f fork) (p *process, err error) {
	log, err := os.OpenFile(f.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, null.Close()) }()

	// Held from fork to entry, so that the reaper finds every child of ours, however short its life.
	ps.mu.Lock()
	defer ps.mu.Unlock()
	// #nosec G204 -- running the spec's commands is what a supervisor is for
	pid, err := syscall.ForkExec(f.command[0], f.command, &syscall.ProcAttr{
		Dir:   f.dir,
		Env:   f.env,
		Files: []uintptr{null.Fd(), log.Fd(), log.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.command[0], err)
	}
	p = &process{pid: pid, done: make(chan struct{})}
	ps.alive[pid] = p
	return p, nil
}

// reapAll collects the dead, woken by SIGCHLD.
func (ps *processes) reapAll(ctx context.Context) {
	woken := make(chan os.Signal, 1)
	signal.Notify(woken, syscall.SIGCHLD)
	defer signal.Stop(woken)
	for {
		ps.reap()
		select {
		case <-woken:
		case <-ctx.Done():
			return
		}
	}
}

// reap collects all that are dead now.
func (ps *processes) reap() {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil || pid <= 0:
			return
		}
		if p, ours := ps.alive[pid]; ours {
			delete(ps.alive, pid)
			p.status = status
			close(p.done)
		}
	}
}

// signal sends a signal to the process, unless it has been collected already: its number may be another's by now.
func (ps *processes) signal(p *process, sig syscall.Signal) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if _, alive := ps.alive[p.pid]; alive {
		// The one possible error is that it has just died, which the reaper tells.
		_ = syscall.Kill(p.pid, sig)
	}
}

// stop asks the process to end, and ends it after the grace.
func (ps *processes) stop(p *process, grace time.Duration) {
	if grace <= 0 {
		grace = defaultGrace
	}
	ps.signal(p, syscall.SIGTERM)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		ps.signal(p, syscall.SIGKILL)
		<-p.done
	}
}

// describe says how a process ended.
func describe(status syscall.WaitStatus) string {
	if status.Signaled() {
		return fmt.Sprintf("signal %d (%s)", status.Signal(), status.Signal())
	}
	return fmt.Sprintf("exit code %d", status.ExitStatus())
}
