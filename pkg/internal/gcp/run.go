package gcp

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// Exec runs gcloud with these arguments and this standard input.
type Exec func(ctx context.Context, args []string, stdin []byte) (stdout, stderr []byte, err error)

// Environment is what gcloud needs beside the caller's own: it must not ask, and must not write a password into its log.
func Environment() []string {
	return []string{"CLOUDSDK_CORE_DISABLE_PROMPTS=1", NoLog}
}

// NoLog keeps gcloud from writing its arguments, those from --flags-file too, into a file below its configuration.
const NoLog = "CLOUDSDK_CORE_DISABLE_FILE_LOGGING=1"

// Gcloud is the Exec of the gcloud on PATH.
func Gcloud(ctx context.Context, args []string, stdin []byte) (stdout, stderr []byte, err error) {
	program, err := exec.LookPath("gcloud")
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.CommandContext(ctx, program, args...) // #nosec G204 -- gcloud; the arguments are checked one by one
	cmd.Env = append(os.Environ(), Environment()...)
	cmd.Stdin = bytes.NewReader(stdin)
	cmd.WaitDelay = 500 * time.Millisecond // what gcloud started may hold its streams open
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err = cmd.Run()
	return out.Bytes(), errOut.Bytes(), err
}

// Secrets are the Secrets of the namespace.
type Secrets interface {
	// Read is nil where there is no such Secret, and failure.Refused where it has no such key.
	Read(ctx context.Context, at SecretKey) ([]byte, error)
	// Create makes the Secret, and its namespace where that is missing; with dryRun it makes the namespace alone, and fails
	// where it could not make the Secret.
	Create(ctx context.Context, at SecretKey, value []byte, dryRun bool) error
	// NewPassword is one that nobody knows.
	NewPassword() (string, error)
}

// Runner makes plans come true.
type Runner struct {
	Exec      Exec
	Secrets   Secrets
	Namespace string // of the Secrets, for those who are told to make one
	Progress  progress.Reporter
	Pause     func(ctx context.Context) error // between two tries
}

// The actions of a Result.
const (
	Created   = "created"
	Enabled   = "enabled"
	Granted   = "granted"
	Unchanged = "unchanged"
	Usable    = "usable"
	Left      = "left to you"
)

// Result is what was done.
type Result struct {
	Object, Action string
	Note           string // on what was there and stays as it is
}

// Changed says whether anything is other than before.
func (r Result) Changed() bool {
	return r.Action != Unchanged && r.Action != Usable && r.Action != Left
}

// tries is how often something is tried that Google may not know of yet: 2 minutes, with Pauses of 5 seconds.
const tries = 24

// Pause is Runner's Pause.
func Pause(ctx context.Context) error {
	timer := time.NewTimer(5 * time.Second)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// Number is the number of a project.
func (r *Runner) Number(ctx context.Context, project string) (string, error) {
	step := Step{Object: "project " + project, Role: "roles/browser", On: "project " + project}
	var number string
	err := progress.Do(r.Progress, "Looking for "+step.Object, func(progress.Step) error {
		shown, err := r.gcloud(ctx, step, []string{"projects", "describe", project, "--format=json"}, nil)
		if err != nil {
			return err
		}
		var p struct{ ProjectNumber string }
		if err := json.Unmarshal(shown, &p); err != nil || p.ProjectNumber == "" {
			return fmt.Errorf("project %s: gcloud does not show its number", project)
		}
		number = p.ProjectNumber
		return nil
	})
	return number, err
}

// Run looks at each step, and makes it so where it is not. It ends at the first that fails.
func (r *Runner) Run(ctx context.Context, steps []Step) ([]Result, error) {
	var done []Result
	for _, step := range steps {
		did := Result{Object: step.Object, Action: Left}
		var err error
		if step.SQL == nil {
			fresh := len(done) > 0 // what was made a moment ago may not be known everywhere yet
			err = progress.Do(r.Progress, "Preparing "+step.Object, func(s progress.Step) error {
				did.Action, did.Note, err = r.step(ctx, step, fresh, s)
				return err
			})
		}
		if err != nil {
			return done, err
		}
		done = append(done, did)
	}
	return done, nil
}

func (r *Runner) step(ctx context.Context, step Step, fresh bool, s progress.Step) (action, note string, err error) {
	there, note, err := r.there(ctx, step, fresh, s)
	if err != nil {
		return "", "", err
	}
	action, err = r.make(ctx, step, there, fresh, s)
	return action, note, err
}

func (r *Runner) make(ctx context.Context, step Step, there, fresh bool, s progress.Step) (string, error) {
	switch {
	case there && step.Do == nil:
		return Usable, nil
	case step.Keep != nil:
		return r.keep(ctx, step, fresh, s)
	}
	var stdin []byte
	if step.Password != nil {
		password, err := r.password(ctx, step, there)
		if err != nil {
			return "", err
		}
		if stdin, err = json.Marshal(map[string]string{"--password": string(password)}); err != nil {
			return "", err
		}
	}
	if there {
		return Unchanged, nil
	}
	_, err := r.patiently(ctx, step, step.Do, stdin, fresh, s)
	return cmp.Or(step.Did, Created), err
}

func (r *Runner) there(ctx context.Context, step Step, fresh bool, s progress.Step) (there bool, note string, err error) {
	if step.Look == nil {
		return false, "", nil
	}
	shown, err := r.patiently(ctx, step, step.Look, nil, fresh, s)
	if absent := (*notThere)(nil); errors.As(err, &absent) {
		if step.Do != nil {
			return false, "", nil
		}
		hint := "check its name"
		if step.Instance != (Instance{}) {
			hint += "; an instance is made with: " + createInstance(step.Instance)
		}
		return false, "", &failure.Error{Class: failure.Diagnosed, Reason: "NotFound", Object: step.Object, Message: "there is none, or it is not for you to see", Hint: hint, Evidence: absent.said}
	}
	if err != nil {
		return false, "", err
	}
	there, err = step.Seen(shown)
	if there && step.Note != nil {
		note = step.Note(shown)
	}
	return there, note, err
}

// password is that of a database user: of the Secret, or a new one. The Secret is there before the user is: who is
// interrupted between the two goes on with the same password.
func (r *Runner) password(ctx context.Context, step Step, there bool) ([]byte, error) {
	password, err := r.Secrets.Read(ctx, *step.Password)
	if err != nil || password != nil {
		return password, err
	}
	if there {
		return nil, &failure.Error{
			Class: failure.Refused, Reason: "PasswordUnknown", Object: step.Object,
			Message: fmt.Sprintf("it is there already, but secret/%s with its password is not", step.Password.Secret),
			Hint: fmt.Sprintf("put the password there with: kubectl -n %s create secret generic %s --from-file=%s=FILE; or choose another --database-user",
				r.Namespace, step.Password.Secret, step.Password.Key),
		}
	}
	made, err := r.Secrets.NewPassword()
	if err != nil {
		return nil, err
	}
	return []byte(made), r.Secrets.Create(ctx, *step.Password, []byte(made), false)
}

// keep makes a Secret of what gcloud prints. It asks first whether it may: a key that cannot be kept would lie around.
func (r *Runner) keep(ctx context.Context, step Step, fresh bool, s progress.Step) (string, error) {
	kept, err := r.Secrets.Read(ctx, *step.Keep)
	if err != nil || kept != nil {
		return Unchanged, err
	}
	if err := r.Secrets.Create(ctx, *step.Keep, []byte("{}"), true); err != nil {
		return "", err
	}
	key, err := r.patiently(ctx, step, step.Do, nil, fresh, s)
	if err != nil {
		return "", err
	}
	if !json.Valid(key) {
		return "", fmt.Errorf("%s: gcloud printed no key", step.Object)
	}
	if err := r.Secrets.Create(ctx, *step.Keep, key, false); err != nil {
		var id struct {
			ID string `json:"private_key_id"`
		}
		_ = json.Unmarshal(key, &id) // it is valid
		return "", fmt.Errorf("key %s was made but not kept (delete it with gcloud iam service-accounts keys delete): %w", id.ID, err)
	}
	return Created, nil
}

// patiently runs a command of step, and again while Google does not know yet what was made before.
func (r *Runner) patiently(ctx context.Context, step Step, args []string, stdin []byte, fresh bool, s progress.Step) ([]byte, error) {
	for try := 1; ; try++ {
		out, err := r.gcloud(ctx, step, args, stdin)
		if later := (*notYet)(nil); !fresh || !errors.As(err, &later) || try == tries {
			return out, err
		}
		s.Note("until Google knows everywhere what was made before")
		if err := r.Pause(ctx); err != nil {
			return nil, err
		}
	}
}

func (r *Runner) gcloud(ctx context.Context, step Step, args []string, stdin []byte) ([]byte, error) {
	stdout, stderr, err := r.Exec(ctx, args, stdin)
	if err != nil {
		return nil, explain(ctx, step, args, string(stderr), err)
	}
	return stdout, nil
}

// command is gcloud's command of args, without its flags.
func command(args []string) string {
	words := []string{"gcloud"}
	for _, word := range args {
		if strings.HasPrefix(word, "-") {
			break
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}
