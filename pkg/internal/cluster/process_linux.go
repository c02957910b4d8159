package cluster

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// thisProcess is the one that runs this code.
func thisProcess() process {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return process{}
	}
	numbers, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return process{}
	}
	clock, err := os.Readlink("/proc/self/ns/time") // started is measured by it
	if err != nil {
		clock = "time"
	}
	_, started, err := stat(os.Getpid())
	if err != nil {
		return process{}
	}
	return process{place: strings.Join([]string{strings.TrimSpace(string(boot)), numbers, clock}, ","), pid: os.Getpid(), started: started}
}

// state tells whether p runs. It is known of processes of this machine alone, and of no other container's.
func (p process) state() int {
	if p.place == "" || p.place != thisProcess().place {
		return unknown
	}
	if err := syscall.Kill(p.pid, 0); errors.Is(err, syscall.ESRCH) {
		return dead
	}
	code, started, err := stat(p.pid)
	switch {
	case err != nil: // another user's, hidden from us; or it ended just now
		return unknown
	case started != p.started, code == "Z", code == "X": // another process of the same number, or one that waits for its parent
		return dead
	}
	return alive
}

// stat reads a process's state and the time of its start, in ticks since the boot.
func stat(pid int) (code, started string, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", "", err
	}
	_, rest, _ := strings.Cut(string(text[strings.LastIndexByte(string(text), ')')+1:]), " ") // after the name, which may hold anything
	fields := strings.Fields(rest)
	if len(fields) < 20 {
		return "", "", fmt.Errorf("process %d: unexpected stat", pid)
	}
	return fields[0], fields[19], nil
}
