//go:build e2e && !long

package e2e

// peers tells whether kubectl is asked about the same, which takes it a minute each time.
const peers = false
