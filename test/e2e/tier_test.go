//go:build e2e && !long

package e2e

// long tells whether the tests take their time: kubectl is asked about the same fault, which takes it a minute each time, and every
// variant is installed, not one of each pair.
const long = false
