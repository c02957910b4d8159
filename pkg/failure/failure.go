// Package failure holds the one error type that people and programs read.
package failure

import (
	"errors"
	"strings"
)

// Class tells what kind of failure it is. pkg/cmd turns it into the exit code; nothing else does.
type Class string

// The classes, with the exit code that pkg/cmd gives each. An error without a class exits 1.
const (
	Invalid   Class = "Invalid"   // 2: bad input; nothing was changed
	TimedOut  Class = "TimedOut"  // 3: still under way when the time was over
	Diagnosed Class = "Diagnosed" // 4: will not get better by waiting
	Refused   Class = "Refused"   // 5: conflict, lock, foreign object, data at risk
	Forbidden Class = "Forbidden" // 6: RBAC, or credentials not accepted
)

// Error is a failure with its cause and its cure.
type Error struct {
	Class    Class
	Reason   string   // CamelCase and stable, "ImagePullDenied": anchor in docs/troubleshooting.md, key in JSON
	Object   string   // in kubectl's form, "pod/mlflow-0"; empty if none is at fault
	Message  string   // one line: what is wrong
	Hint     string   // one line: what to do next
	Evidence []string // conditions, events, last log lines; never a secret
	Err      error    // what it wraps, or nil
}

// Error is object, message and the wrapped error in one line. Hint and evidence are for the printer.
func (e *Error) Error() string {
	parts := make([]string, 0, 3)
	if e.Object != "" {
		parts = append(parts, e.Object)
	}
	if e.Message != "" {
		parts = append(parts, e.Message)
	}
	if e.Err != nil {
		parts = append(parts, e.Err.Error())
	}
	return strings.Join(parts, ": ")
}

// Unwrap returns the wrapped error.
func (e *Error) Unwrap() error { return e.Err }

// ClassOf is the class of the first Error in err's chain, or "" where there is none.
func ClassOf(err error) Class {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Class
	}
	return ""
}
