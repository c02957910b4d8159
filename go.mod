module github.com/kubectl-mlflow/kubectl-mlflow

go 1.26.0

require (
	github.com/blang/semver/v4 v4.0.0 // indirect
	github.com/docker/docker v28.5.2+incompatible // indirect
	github.com/fluxcd/cli-utils v1.2.3 // indirect
	github.com/google/go-cmp v0.7.0 // indirect
	github.com/google/go-containerregistry v0.22.1 // indirect
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/klauspost/compress v1.20.3 // indirect
	github.com/rogpeppe/go-internal v1.16.0 // indirect
	github.com/spf13/cobra v1.10.2 // indirect
	github.com/spf13/pflag v1.0.10 // indirect
	go.uber.org/goleak v1.3.0 // indirect
	go.yaml.in/yaml/v2 v2.4.3 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/term v0.47.0 // indirect
	k8s.io/api v0.36.6 // indirect
	k8s.io/apimachinery v0.36.6 // indirect
	k8s.io/cli-runtime v0.36.6 // indirect
	k8s.io/client-go v0.36.6 // indirect
	k8s.io/kubectl v0.36.6 // indirect
	knative.dev/client/pkg v0.0.0-20250424014425-1e24794f765f // indirect
	knative.dev/serving v0.48.0 // indirect
	sigs.k8s.io/kustomize/api v0.21.1 // indirect
	sigs.k8s.io/kustomize/kyaml v0.21.1 // indirect
	sigs.k8s.io/yaml v1.6.0 // indirect
)
