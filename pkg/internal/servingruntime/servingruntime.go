// Package servingruntime decides which model server runs a model, and holds its launcher.
//
// The first choice is MLflow's own scoring app (/invocations), to which the launcher adds the Open Inference Protocol (/v2). It asks
// for nothing that a model does not require already, so its pins cannot clash with the model's. MLServer answers to the same routes;
// it takes the models whose MLflow is older than that app, and those whose clients want its very answers.
// docs/model-servers.md has what was measured of both.
package servingruntime

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"strings"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/model"
)

// The model servers, as --model-server names them.
const (
	Auto     = "auto"     // one that fits the model
	MLflow   = "mlflow"   // MLflow's own scoring app with V2 routes
	MLServer = "mlserver" // MLServer with mlserver-mlflow
)

// VersionVariable tells the launcher the model's version, which it then answers to: /v2/models/NAME/versions/VERSION.
const VersionVariable = "KUBECTL_MLFLOW_MODEL_VERSION"

const (
	nameVariable = "KUBECTL_MLFLOW_MODEL_NAME"
	port         = 8080
	launcherPath = "/opt/mlflow/launcher.py"
)

//go:embed launcher/launcher.py launcher/open_inference.py launcher/mlserver_app.py launcher/time_limit.py
var launcher embed.FS

// Runtime is a model server, ready to be put in an image and to be probed.
type Runtime struct {
	Kind         string   // mlflow or mlserver
	Requirements []string // pip, added to the model's: part of the environment's key
	Files        fs.FS    // the launcher, for /opt/mlflow: the last layer, never part of the environment
	Command      []string
	Env          map[string]string // of the Service, not of the image: two Services may share one
	Port         int32
	ReadyPath    string // /v2/models/NAME/ready
	Protocols    []string
}

// Launcher is a directory with launcher.py and what it imports.
func Launcher() (fs.FS, error) {
	files, err := fs.Sub(launcher, "launcher")
	if err != nil {
		return nil, fmt.Errorf("read the embedded launcher: %w", err)
	}
	return files, nil
}

// Validate needs no model. failure.Invalid names the servers that there are; "" is auto.
func Validate(want string) error {
	switch want {
	case "", Auto, MLflow, MLServer:
		return nil
	}
	return &failure.Error{
		Class:   failure.Invalid,
		Reason:  "ModelServerUnknown",
		Message: fmt.Sprintf("there is no model server %q", want),
		Hint:    "choose auto, mlflow or mlserver",
	}
}

// Choose takes the server that is wanted, "" or "auto" for the first that fits the model, and the name that the model answers to.
// failure.Invalid where there is no such server, or where it does not fit the model.
func Choose(m *model.Model, name, want string) (*Runtime, error) {
	if err := Validate(want); err != nil {
		return nil, err
	}
	if want == MLServer {
		return mlserver(m, name)
	}
	r, err := mlflow(m, name)
	if err == nil || want == MLflow {
		return r, err
	}
	second, unfit := mlserver(m, name)
	if unfit == nil {
		return second, nil
	}
	// The first one's reason is the one to act on; the other's is told beside it.
	if first, ok := errors.AsType[*failure.Error](err); ok && unfit.Error() != err.Error() {
		first.Evidence = append(first.Evidence, "mlserver: "+unfit.Error())
	}
	return nil, err
}

// OfImage is how an image that was made before is served: what it runs is in the image, and who asks it is told by the name alone.
func OfImage(name string) (*Runtime, error) { return runtime(MLflow, name, nil) }

func mlflow(m *model.Model, name string) (*Runtime, error) {
	requirements, err := mlflowRequirement(m, firstFastAPI)
	if err != nil {
		return nil, err
	}
	return runtime(MLflow, name, requirements)
}

func runtime(kind, name string, requirements []string) (*Runtime, error) {
	files, err := Launcher()
	if err != nil {
		return nil, err
	}
	return &Runtime{
		Kind:         kind,
		Requirements: requirements,
		Files:        files,
		Command:      []string{"python", launcherPath, "--server", kind},
		Env:          map[string]string{nameVariable: name},
		Port:         port,
		ReadyPath:    "/v2/models/" + name + "/ready",
		Protocols:    []string{"v2", "invocations"},
	}, nil
}

// The oldest MLflow that a server takes is of major version 2, and of a minor one.
const (
	oldestMajor    = 2
	firstFastAPI   = 22 // the first whose scoring app is a FastAPI one, which takes further routes, and that requires FastAPI
	mlserverOldest = 19 // what mlserver-mlflow asks for
)

var (
	// mlflowLine is a requirement of mlflow or of mlflow-skinny, with extras.
	mlflowLine = regexp.MustCompile(`(?i)^mlflow(?:[-_.]skinny)?\s*(?:\[[^\]]*\])?\s*($|[=<>!~;@\s(].*)`)
	// ceiling is a version that a requirement does not go beyond.
	ceiling = regexp.MustCompile(`(===?|<=?|~=)\s*(\d+)(?:\.(\d+))?(?:\.(\d+))?(\.\*)?`)
)

// mlflowRequirement returns what to add to the model's requirements: nothing, or the MLflow that logged it where they do not name one.
// failure.Invalid where that is older than 2.oldest.
func mlflowRequirement(m *model.Model, oldest int) ([]string, error) {
	for _, line := range m.Requirements {
		found := mlflowLine.FindStringSubmatch(strings.TrimSpace(model.Plain(line)))
		if found == nil {
			continue
		}
		specifier, _, _ := strings.Cut(found[1], ";")
		for _, bound := range ceiling.FindAllStringSubmatch(specifier, -1) {
			if tooOld(bound, oldest) {
				return nil, tooOldFor("the model requires "+strings.TrimSpace(line), oldest)
			}
		}
		return nil, nil
	}
	if m.MLflowVersion == "" {
		return nil, &failure.Error{
			Class:   failure.Invalid,
			Reason:  "MLflowMissing",
			Message: "neither the model's requirements nor its MLmodel file name a version of MLflow",
			Hint:    "log the model again with MLflow 2.22 or later",
		}
	}
	exact := "==" + m.MLflowVersion
	if bound := ceiling.FindStringSubmatch(exact); bound != nil && tooOld(bound, oldest) {
		return nil, tooOldFor("the model was logged with MLflow "+m.MLflowVersion, oldest)
	}
	return []string{"mlflow" + exact}, nil
}

// tooOld tells whether a bound leaves only versions that are too old.
func tooOld(bound []string, oldest int) bool {
	operator, patch := bound[1], bound[4]
	numbers := [2]int{}
	for i, text := range bound[2:4] {
		n, err := strconv.Atoi(text)
		if err != nil && text != "" {
			return false // too large to be too old
		}
		numbers[i] = n
	}
	major, minor := numbers[0], numbers[1]
	switch {
	case operator == "~=" && patch == "", strings.HasPrefix(operator, "==") && bound[5] != "" && bound[3] == "":
		return major < oldestMajor // ~=2.5 and ==2.* go up to the next major version
	case operator == "<" && (patch == "" || patch == "0"):
		return major < oldestMajor || major == oldestMajor && minor <= oldest
	default:
		return major < oldestMajor || major == oldestMajor && minor < oldest
	}
}

func tooOldFor(why string, oldest int) error {
	return &failure.Error{
		Class:   failure.Invalid,
		Reason:  "MLflowTooOld",
		Message: fmt.Sprintf("%s; the model server needs %d.%d or later", why, oldestMajor, oldest),
		Hint:    "log the model again with a newer MLflow",
	}
}
