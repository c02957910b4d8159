package docker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/client"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image/uv"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// submit sends the context in dir to the engine and reads what it tells until the build has ended.
func submit(ctx context.Context, c *client.Client, dir string, options build.ImageBuildOptions, e image.Environment, s progress.Step) error {
	body, archive := io.Pipe()
	defer func() { _ = body.Close() }() // whoever still writes to it ends
	go func() { archive.CloseWithError(sendContext(dir, archive)) }()
	resp, err := c.ImageBuild(ctx, body, options)
	if err != nil {
		return explain(ctx, err, "", e)
	}
	log := &journal{step: s}
	err = errors.Join(log.read(resp.Body), resp.Body.Close())
	if ctx.Err() != nil {
		// The engine ends a build whose client is gone; one behind a proxy may not see that.
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), answering)
		defer cancel()
		_ = c.BuildCancel(late, options.BuildID) // there may be nothing to cancel any more
		return fmt.Errorf("build with Docker: %w", ctx.Err())
	}
	if err != nil {
		return explain(ctx, err, log.text.String(), e)
	}
	return nil
}

// journal is what the engine tells of a build.
type journal struct {
	step progress.Step
	text strings.Builder // what the steps of the build wrote
}

// told is what install.py says itself.
const told = "kubectl-mlflow: "

// read follows the engine's messages. The error is the build's.
func (j *journal) read(in io.Reader) error {
	messages := json.NewDecoder(in)
	for {
		var m struct {
			ID          string
			Aux         json.RawMessage
			Error       string
			ErrorDetail struct{ Message string }
		}
		if err := messages.Decode(&m); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("read the Docker engine's answer: %w", err)
		}
		if message := m.ErrorDetail.Message + m.Error; message != "" {
			if m.ErrorDetail.Message != "" {
				message = m.ErrorDetail.Message
			}
			return errors.New(message)
		}
		if m.ID == "moby.buildkit.trace" {
			if err := j.trace(m.Aux); err != nil {
				return err
			}
		}
	}
}

func (j *journal) trace(aux json.RawMessage) error {
	var status []byte // base64 in JSON
	if err := json.Unmarshal(aux, &status); err != nil {
		return fmt.Errorf("read the Docker engine's progress: %w", err)
	}
	steps, logs := fields(status, statusVertexes), fields(status, statusLogs)
	for _, step := range steps {
		name := string(bytes.Join(fields(step, vertexName), nil))
		if strings.Contains(name, "FROM ") && len(fields(step, vertexStarted)) > 0 && len(fields(step, vertexCompleted)) == 0 {
			j.step.Note("the engine fetches the base image")
		}
	}
	for _, l := range logs {
		text := string(bytes.Join(fields(l, logMessage), nil))
		j.text.WriteString(text)
		for line := range strings.Lines(text) {
			if note, ok := strings.CutPrefix(strings.TrimSpace(line), told); ok {
				j.step.Note(note)
			}
		}
	}
	return nil
}

// Numbers of fields in BuildKit's api/services/control/control.proto: of StatusResponse, Vertex and VertexLog. Its generated Go package is a
// megabyte of the program, for these.
const (
	statusVertexes  = 1
	statusLogs      = 3
	vertexName      = 3
	vertexStarted   = 5
	vertexCompleted = 6
	logMessage      = 4
)

// fields are the values of a message's fields of one number that have a length: messages, strings and bytes. What cannot be read ends them:
// progress is no reason to give up a build.
func fields(message []byte, number protowire.Number) (values [][]byte) {
	for len(message) > 0 {
		n, kind, size := protowire.ConsumeTag(message)
		if size < 0 {
			return values
		}
		message = message[size:]
		if kind == protowire.BytesType && n == number {
			value, size := protowire.ConsumeBytes(message)
			if size < 0 {
				return values
			}
			values = append(values, value)
		}
		if size = protowire.ConsumeFieldValue(n, kind, message); size < 0 {
			return values
		}
		message = message[size:]
	}
	return values
}

// evidence is how many of the build's last lines a failure carries.
const evidence = 15

// explain turns a failure of the engine, or of a step of the build, into one sentence.
func explain(ctx context.Context, err error, log string, e image.Environment) error {
	if ctx.Err() != nil {
		return fmt.Errorf("build with Docker: %w", ctx.Err())
	}
	failed := &failure.Error{Class: failure.Diagnosed, Reason: "DockerBuildFailed", Message: "Docker could not build the environment", Hint: "see its last lines", Err: err}
	if lines := strings.Split(strings.TrimSpace(log), "\n"); log != "" {
		failed.Evidence = lines[max(0, len(lines)-evidence):]
	}
	for _, v := range verdicts(e) {
		if v.pattern.MatchString(err.Error() + "\n" + log) {
			failed.Reason, failed.Message, failed.Hint = v.reason, v.message, v.hint
			return failed
		}
	}
	if strings.Contains(err.Error(), "install.py") {
		return uv.Explain(ctx, err, ours().ReplaceAllString(log, ""), e)
	}
	return failed
}

// ours are the lines of install.py that are not uv's.
func ours() *regexp.Regexp {
	return regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(told) + `(?:installing|fetching|compiling|a requirement) .*\n`)
}

// verdict is one thing that an engine says, in our words.
type verdict struct {
	pattern               *regexp.Regexp
	reason, message, hint string
}

func verdicts(e image.Environment) []verdict {
	compile := func(pattern, reason, message, hint string) verdict {
		return verdict{regexp.MustCompile(pattern), reason, message, hint}
	}
	packages := strings.Join(e.Apt, " ")
	return []verdict{
		compile(`(?i)no space left on device`, "DiskFull", "the Docker engine's disk is full", "make room: docker builder prune"),
		compile(`(?i)exec format error`, "PlatformNotRun", "the Docker engine cannot run programs of "+e.Platform,
			"let it emulate them (docker run --privileged --rm tonistiigi/binfmt --install all), or build on a machine of that platform"),
		compile(`(?i)server gave HTTP response to HTTPS client`, "BaseImageUnreachable", "the Docker engine does not read base images over plain HTTP: "+e.Base,
			"add the registry to its insecure-registries, or give another base image with --base-image"),
		compile(`(?i)pull access denied|insufficient_scope|failed to (?:authorize|fetch anonymous token|fetch oauth token)`, "BaseImageUnauthorized",
			"the registry does not give the Docker engine the base image "+e.Base, "log in: docker login"),
		compile(`(?i)failed to (?:resolve source metadata|do request|copy)|`+regexp.QuoteMeta(e.Base)+`: not found`, "BaseImageUnreachable",
			"the Docker engine cannot fetch the base image "+e.Base, "check its network and its proxy, or give another base image with --base-image"),
		compile(`(?i)secret index: not found|the --mount option requires BuildKit`, "DockerUnfit", "the Docker engine builds without BuildKit", "name one of version 20.10 or later in DOCKER_HOST"),
		compile(`apt-get could not install|has no apt-get`, "SystemPackagesFailed", "the system packages could not be installed: "+packages,
			"check their names, which are those of the base image's Debian, and the engine's network"),
		compile(`uv could not be fetched`, "PackageIndexUnreachable", "uv could not be fetched from the Python package index in the build",
			"check the index's URL in UV_DEFAULT_INDEX, PIP_INDEX_URL or pip.conf, and that the engine reaches it: localhost is its own"),
	}
}
