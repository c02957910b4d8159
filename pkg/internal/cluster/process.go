package cluster

import (
	"fmt"
	"strconv"
	"strings"
)

// process is a program that runs, or ran, somewhere. Empty where the system does not tell.
type process struct {
	place   string // the machine since it was booted, and the space in which the number counts
	pid     int
	started string // tells apart processes that have had the same number
}

// What can be known about a process.
const (
	unknown = iota // it is elsewhere
	alive
	dead
)

func (p process) String() string {
	if p.place == "" {
		return ""
	}
	return fmt.Sprintf("%s %d %s", p.place, p.pid, p.started)
}

func readProcess(text string) process {
	words := strings.Fields(text)
	if len(words) != 3 {
		return process{}
	}
	pid, err := strconv.Atoi(words[1])
	if err != nil || pid <= 0 { // a signal to 0 or less would go to many
		return process{}
	}
	return process{place: words[0], pid: pid, started: words[2]}
}
