//go:build !linux

// Command lab makes real Kubernetes clusters for tests and demos. It needs Linux: namespaces, cgroups, overlayfs.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "lab: needs Linux")
	os.Exit(1)
}
