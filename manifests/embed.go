// Package manifests holds the kustomize tree that kubectl-mlflow installs. It is plain kustomize:
// `kubectl kustomize manifests/overlays/local` gives what the program renders, parameters aside.
package manifests

import "embed"

// FS is the tree: base, components, overlays.
//
//go:embed base components overlays
var FS embed.FS
