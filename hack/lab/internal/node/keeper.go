package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// probeEvery is how often a condition is looked at while something waits for it, watchEvery afterwards.
	probeEvery = 100 * time.Millisecond
	watchEvery = 2 * time.Second
	// A component that dies is started again after minBackoff, doubled for every further death up to maxBackoff;
	// one that lived for steadyAfter starts from minBackoff again.
	minBackoff  = 200 * time.Millisecond
	maxBackoff  = 5 * time.Second
	steadyAfter = 20 * time.Second
)

// keeper starts one component again and again.
type keeper struct {
	s *supervisor
	c Component

	// retire ends the waiting and the starting, not the process.
	retired context.Context
	retire  context.CancelFunc

	mu   sync.Mutex
	proc *process
}

func newKeeper(ctx context.Context, s *supervisor, c Component) *keeper {
	k := &keeper{s: s, c: c}
	k.retired, k.retire = context.WithCancel(ctx)
	return k
}

// run returns once the keeper is retired and its process has ended.
func (k *keeper) run() {
	backoff := minBackoff
	for restarts := 0; ; restarts++ {
		if await(k.retired, k.c.After, probeEvery, k.waiting) != nil {
			return
		}
		began := time.Now()
		exit := k.once(restarts)
		if k.retired.Err() != nil {
			return
		}
		k.s.say("%s: %s", k.c.Name, exit)
		k.s.change(k.c.Name, func(c *ComponentState) { c.PID, c.Ready, c.LastExit = 0, false, exit })
		if time.Since(began) > steadyAfter {
			backoff = minBackoff
		}
		if !Wait(k.retired, backoff) {
			return
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// once runs the component's process to its end and says how it ended.
func (k *keeper) once(restarts int) string {
	p, err := k.start(restarts)
	if err != nil {
		return err.Error()
	}
	ctx, cancel := context.WithCancel(k.retired)
	var probing sync.WaitGroup
	probing.Go(func() { k.probe(ctx) })
	<-p.done
	cancel()
	probing.Wait()
	return describe(p.status)
}

// start does nothing once the keeper is retired: what is started afterwards nobody would stop.
func (k *keeper) start(restarts int) (*process, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.retired.Err(); err != nil {
		return nil, err
	}
	p, err := k.s.procs.start(k.retired, k.c.Command, k.s.spec.Env, k.s.spec.Folder, k.s.spec.logOf(k.c.Name))
	if err != nil {
		return nil, err
	}
	k.proc = p
	k.s.say("%s started, pid %d", k.c.Name, p.pid)
	k.s.change(k.c.Name, func(c *ComponentState) {
		c.PID, c.Started, c.Restarts, c.Waiting = p.pid, time.Now().UTC(), restarts, ""
	})
	return p, nil
}

// probe tells whether the component is ready, until ctx ends.
func (k *keeper) probe(ctx context.Context) {
	for {
		if await(ctx, k.c.Ready, probeEvery, k.waiting) != nil {
			return
		}
		k.s.say("%s ready", k.c.Name)
		k.s.change(k.c.Name, func(c *ComponentState) { c.Ready, c.Waiting = true, "" })
		if !k.hold(ctx) {
			return
		}
	}
}

// hold returns true when a ready component is no longer ready, false when ctx ends.
func (k *keeper) hold(ctx context.Context) bool {
	for Wait(ctx, watchEvery) {
		for _, condition := range k.c.Ready {
			if err := condition.Check(ctx); err != nil && ctx.Err() == nil {
				k.s.say("%s no longer ready: %s: %v", k.c.Name, condition, err)
				k.s.change(k.c.Name, func(c *ComponentState) { c.Ready = false })
				return true
			}
		}
	}
	return false
}

func (k *keeper) waiting(condition Condition, err error) {
	k.s.change(k.c.Name, func(c *ComponentState) { c.Waiting = fmt.Sprintf("%s: %v", condition, err) })
}

// stop ends the process of a retired keeper, and then what the process left to others.
func (k *keeper) stop() {
	k.mu.Lock()
	p := k.proc
	k.mu.Unlock()
	if p == nil {
		return
	}
	k.s.procs.stop(p, time.Duration(k.c.Grace))
	k.s.say("%s stopped: %s", k.c.Name, describe(p.status))
	if k.c.Cgroup != "" {
		if err := killCgroup(k.c.Cgroup); err != nil {
			k.s.say("%s: %v", k.c.Name, err)
		}
	}
}

// killCgroup ends every process in and below a cgroup.
func killCgroup(folder string) error {
	return filepath.WalkDir(folder, func(path string, _ os.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil || filepath.Base(path) != "cgroup.procs" {
			return err
		}
		text, err := os.ReadFile(path) // #nosec G304 G122 -- the kernel's own filesystem
		if err != nil {
			return nil //nolint:nilerr // the cgroup went away with its last process, which is what is wanted
		}
		for _, field := range strings.Fields(string(text)) {
			// 0 stands for a process of another PID namespace, which is none of ours.
			if pid, err := strconv.Atoi(field); err == nil && pid > 1 {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		return nil
	})
}

// Wait returns true after the duration, false as soon as ctx ends.
func Wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
