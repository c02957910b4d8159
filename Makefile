# kubectl mlflow. `make help` lists the verbs. Nothing but Go, bash and (for the lab) Debian 12 as root is needed.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

VERSION ?= $(shell git describe --tags --match 'v[0-9]*' --dirty 2>/dev/null || echo v0.1.0-dev)
INSTALL_DIR ?= /usr/local/bin
DIST ?= dist
PLATFORMS ?= # all

# The product: one static binary, the same for who builds it here, in a release or in a test. grpc's tracing would bring in html/template,
# and with it keep the linker from leaving out methods that nobody calls: 8 MB.
export CGO_ENABLED ?= 0
# Programs, tests and lint alike: what they import is then compiled once and not twice.
export GOFLAGS += -trimpath
TAGS := kustomize_disable_go_plugin_support,grpcnotrace
BUILD := go build -tags $(TAGS) -ldflags "-s -w -X main.version=$(VERSION)"

.PHONY: build install test test-unit test-api test-e2e test-release test-long demo demo-down lab-up lab-down bench bench-go verify lint generate dist krew clean help
.PHONY: bin/kubectl-mlflow bin/lab bin/testsum

build: bin/kubectl-mlflow ## Build the plugin into bin/

install: build ## Build, and put the plugin where kubectl finds it (INSTALL_DIR=/usr/local/bin)
	install -m 0755 bin/kubectl-mlflow "$(INSTALL_DIR)/kubectl-mlflow"
	ln -sf kubectl-mlflow "$(INSTALL_DIR)/kubectl_complete-mlflow"
	echo "kubectl mlflow is installed in $(INSTALL_DIR)"

test: bin/kubectl-mlflow bin/lab bin/testsum ## All tests: unit, api, e2e, release; the last line counts them (first time about 40 minutes)
	hack/test.sh unit api e2e release

test-unit: bin/testsum ## Unit tests, golden files, command line stories (no cluster)
	hack/test.sh unit

test-api: bin/lab bin/testsum ## Tests against a real kube-apiserver (no root)
	hack/test.sh api

test-e2e: bin/kubectl-mlflow bin/lab bin/testsum ## The main job on a real cluster (Linux, root)
	hack/test.sh e2e

test-release: bin/testsum ## A release of this platform twice, through krew, under old and new kubectls (Linux)
	hack/test.sh release

test-long: bin/kubectl-mlflow bin/lab bin/testsum ## Soaks and sweeps on a real cluster, for hours (Linux, root)
	hack/test.sh long

demo: bin/kubectl-mlflow bin/lab ## The main job, end to end, on a cluster that is built here (first time about 10 minutes)
	hack/demo.sh

demo-down: lab-down ## Remove what the demo left

lab-up: bin/lab ## Boot a real Kubernetes with Knative on this machine (Linux, root)
	bin/lab up

lab-down: bin/lab ## Remove it without a trace
	bin/lab down

bench: bin/kubectl-mlflow bin/lab ## What users feel beside what they would use instead, on a cluster and a Docker engine (ROW=BenchImages/further)
	hack/bench.sh $(ROW)

bench-go: ## Go benchmarks of what runs on the user's machine: start, rendering, a further version's layers
	go test -tags $(TAGS) -run '^$$' -bench . -benchmem ./... | sed '/^ok\|no test files\|^PASS/d'

verify: bin/tools/golangci-lint ## Lint, format, go.mod, generated docs, krew.yaml: everything but tests
	hack/verify.sh

lint: bin/tools/golangci-lint ## golangci-lint of the plugin
	bin/tools/golangci-lint run ./...

generate: ## Write what is generated: docs/reference, formatting
	gofmt -w $$(git ls-files --cached --others --exclude-standard -- '*.go')
	rm -rf docs/reference
	go run ./hack/gendocs docs/reference

dist: ## Archives of five platforms, checksums.txt and the krew manifest into dist/ (VERSION=v0.1.0)
	go run ./hack/dist -version $(VERSION) -tags $(TAGS) -platforms "$(PLATFORMS)" -out "$(DIST)"

krew: dist ## The same, and krew.yaml with the checksums of these archives (VERSION=v0.1.0)
	{ sed '/^[^#]/,$$d' krew.yaml; cat "$(DIST)/krew/mlflow.yaml"; } > "$(DIST)/krew.yaml"
	mv "$(DIST)/krew.yaml" krew.yaml

clean: ## Remove bin/ and dist/ (a running lab and its cache stay: see demo-down)
	rm -rf bin dist

help: ## This list
	awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

bin/kubectl-mlflow:
	mkdir -p bin
	[ -x $@ ] || echo "Building kubectl-mlflow (first time about 2 minutes)" >&2
	$(BUILD) -o $@ ./cmd/kubectl-mlflow

bin/lab:
	mkdir -p bin
	cd hack/lab && go build -o ../../bin/lab .

bin/testsum:
	mkdir -p bin
	go build -o $@ ./hack/testsum

bin/tools/golangci-lint: hack/tools/go.mod hack/tools/go.sum
	mkdir -p bin/tools
	echo "Building golangci-lint (about 3 minutes, once)" >&2
	cd hack/tools && go build -ldflags "-s -w" -o ../../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

# Recipes are told by what they print themselves.
.SILENT:
