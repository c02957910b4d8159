//go:build real

package gcp

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"
)

// depth is of how many words the command of args is: what follows are names.
func depth(args []string) int {
	switch {
	case args[0] == "projects" || args[0] == "services":
		return 2
	case slices.Contains(args, "keys"):
		return 4
	default:
		return 3
	}
}

func TestTheRealGcloudHasAllCommandsAndFlags(t *testing.T) {
	realGcloud(t)
	wide := []string{"--format", "--project"}
	used := map[string]map[string]bool{} // flags by command
	use := func(args []string) {
		if args == nil {
			return
		}
		of := strings.Join(args[:depth(args)], " ")
		if used[of] == nil {
			used[of] = map[string]bool{}
		}
		for _, arg := range args {
			if flag, _, _ := strings.Cut(arg, "="); strings.HasPrefix(flag, "--") && !slices.Contains(wide, flag) {
				used[of][flag] = true
			}
		}
	}
	for _, s := range []Setup{{}, {Identity: Key}, {AutoIAMAuthn: true}} {
		s.CloudSQL, s.CloudSQLInstance, s.ArtifactsDestination = true, "my-project:europe-west1:mlops", "gs://mlflow-prod"
		complete, err := s.Complete()
		if err != nil {
			t.Fatal(err)
		}
		for _, step := range Plan(complete) {
			use(step.Look)
			use(step.Do)
			use(step.Show)
		}
	}
	use([]string{"projects", "describe", "my-project"})
	for of, flags := range used {
		t.Run(of, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			stdout, stderr, err := Gcloud(ctx, append(strings.Fields(of), "--help"), nil)
			if err != nil {
				t.Fatalf("gcloud %s --help: %v: %s", of, err, stderr)
			}
			if !strings.Contains(string(stdout), "gcloud "+of+" - ") {
				t.Fatalf("gcloud %s is no command: %s", of, stdout)
			}
			for flag := range flags {
				if !strings.Contains(string(stdout), flag) && !strings.Contains(string(stdout), "--[no-]"+strings.TrimPrefix(flag, "--")) {
					t.Errorf("gcloud %s has no %s", of, flag)
				}
			}
		})
	}
}

// Without a login gcloud fails, but only once it has understood the arguments, one by one.
func TestTheRealGcloudUnderstandsAllArguments(t *testing.T) {
	realGcloud(t)
	seen := map[string]bool{}
	for name, s := range setups() {
		s.Number = "123456789012"
		complete, err := s.Complete()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, step := range Plan(complete) {
			for _, args := range [][]string{step.Look, step.Do, step.Show} {
				line := strings.Join(args, " ")
				if args == nil || seen[line] {
					continue
				}
				seen[line] = true
				t.Run(line, func(t *testing.T) {
					t.Parallel()
					ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
					defer cancel()
					_, stderr, err := Gcloud(ctx, args, []byte(`{"--password": "x"}`))
					if err == nil || !loggedOut().Match(stderr) {
						t.Errorf("gcloud %s: %v: %s", line, err, stderr)
					}
				})
			}
		}
	}
}
