// Package node runs the processes of one lab node: it starts them in order, each when what it needs is there,
// starts anew whatever dies, and ends them in reverse order.
//
// With an Isolation it is also PID 1 of namespaces of its own, so that no process, mount or interface of the node
// can outlive it. Without one it is a plain supervisor that any user may run.
package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"
)

// Spec says what a node is made of. `lab up` writes it, the supervisor reads it.
type Spec struct {
	// Key names the artifacts that the node was made from; a node of another key is stale.
	Key string `json:"key"`
	// Folder holds what the supervisor writes: lock, state and logs.
	Folder string `json:"folder"`
	// Env is the whole environment of every component.
	Env        []string    `json:"env"`
	Isolation  *Isolation  `json:"isolation,omitempty"`
	Components []Component `json:"components"`
}

// Isolation is what the supervisor sets up for itself when it is PID 1 of new namespaces (PID, net, mount, UTS, IPC).
type Isolation struct {
	Hostname string `json:"hostname"`
	// Keep is a folder that stays visible at its path, whatever the mounts hide.
	Keep   string   `json:"keep"`
	Mounts []Mount  `json:"mounts"`
	Sysctl []Sysctl `json:"sysctl,omitempty"`
	// Cgroup is the parent of all cgroups of the node, as a path from the root of each hierarchy.
	Cgroup string `json:"cgroup"`
	Link   Link   `json:"link"`
}

// Mount is one mount of the node's own mount namespace. Type is "bind", "tmpfs" or "overlay".
// Where a bind's source is missing, it is made: as a folder, or as a file when Target is one.
type Mount struct {
	Type   string `json:"type"`
	Source string `json:"source,omitempty"`
	Target string `json:"target"`
	// Data is the filesystem's own options, as in mount -o.
	Data string `json:"data,omitempty"`
}

// Sysctl is a value below /proc/sys, written into the node's own namespaces. One that the kernel lacks is left out.
type Sysctl struct {
	Path  string `json:"path"`
	Value string `json:"value"`
}

// Link is the node's end of the veth pair: `lab up` moves it in, the supervisor gives it its addresses.
type Link struct {
	Name      string   `json:"name"`
	Addresses []string `json:"addresses"`
	Gateway   string   `json:"gateway"`
}

// Component is one process. Components start when their After holds and are stopped in reverse order of the list.
type Component struct {
	Name    string      `json:"name"`
	Command []string    `json:"command"`
	After   []Condition `json:"after,omitempty"`
	Ready   []Condition `json:"ready,omitempty"`
	// Cgroup names what the component started and left to others: the processes in and below it are ended after it.
	Cgroup string `json:"cgroup,omitempty"`
	// Grace is how long the process has between SIGTERM and SIGKILL; 2 s when zero.
	Grace Duration `json:"grace,omitempty"`
}

// Duration is a time.Duration that reads well in JSON: "2s".
type Duration time.Duration

// MarshalText writes the duration in Go's notation.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads Go's notation.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = Duration(v)
	return err
}

// ReadSpec reads and checks the spec in a file.
func ReadSpec(file string) (Spec, error) {
	var s Spec
	text, err := os.ReadFile(file) // #nosec G304 -- the file is the one that lab up wrote
	if err != nil {
		return s, fmt.Errorf("spec of the node: %w", err)
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("spec of the node %s: %w", file, err)
	}
	return s, s.Validate()
}

// Write stores the spec in a file that only its owner reads.
func (s Spec) Write(file string) error {
	if err := s.Validate(); err != nil {
		return err
	}
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("spec of the node: %w", err)
	}
	return os.WriteFile(file, append(text, '\n'), 0o600)
}

// Validate names everything that is wrong with the spec.
func (s Spec) Validate() error {
	var problems []error
	if s.Folder == "" {
		problems = append(problems, errors.New("spec of the node has no folder"))
	}
	if len(s.Components) == 0 {
		problems = append(problems, errors.New("spec of the node has no components"))
	}
	seen := map[string]bool{}
	for _, c := range s.Components {
		switch {
		case c.Name == "":
			problems = append(problems, errors.New("a component has no name"))
		case seen[c.Name]:
			problems = append(problems, fmt.Errorf("component %s is there twice", c.Name))
		case len(c.Command) == 0:
			problems = append(problems, fmt.Errorf("component %s has no command", c.Name))
		}
		seen[c.Name] = true
		for _, k := range append(append([]Condition{}, c.After...), c.Ready...) {
			if err := k.validate(); err != nil {
				problems = append(problems, fmt.Errorf("component %s: %w", c.Name, err))
			}
		}
	}
	return errors.Join(problems...)
}
