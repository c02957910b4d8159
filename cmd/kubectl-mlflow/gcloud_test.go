package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/kubectl-mlflow/kubectl-mlflow/test/gcloud"
)

// gcloudDouble is the gcloud of the stories. What there is at Google is in the file $GCLOUD_CLOUD, what came in that file with
// .argv behind it, and those commands that change something with .writes.
func gcloudDouble() {
	code, err := runGcloud(os.Getenv("GCLOUD_CLOUD"), os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "the double of gcloud:", err)
		code = 3
	}
	os.Exit(code)
}

func runGcloud(file string, args []string) (int, error) {
	cloud := gcloud.New()
	switch text, err := os.ReadFile(file); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return 0, err
	default:
		if err := json.Unmarshal(text, cloud); err != nil {
			return 0, err
		}
	}
	var stdin []byte
	if slices.Contains(args, "--flags-file=-") {
		var err error
		if stdin, err = io.ReadAll(os.Stdin); err != nil {
			return 0, err
		}
		if os.Getenv("CLOUDSDK_CORE_DISABLE_FILE_LOGGING") != "1" {
			return 0, errors.New("gcloud would write the flags into its log")
		}
	}
	stdout, stderr, code := cloud.Exec(args, stdin)
	_, wrote := os.Stdout.WriteString(stdout)
	if _, err := os.Stderr.WriteString(stderr); err != nil || wrote != nil {
		return 0, errors.Join(wrote, err)
	}
	text, err := json.MarshalIndent(cloud, "", "  ")
	if err != nil {
		return 0, err
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return 0, err
	}
	argv, err := os.ReadFile(file + ".argv")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	if err := os.WriteFile(file+".argv", append(argv, strings.Join(args, " ")+"\n"...), 0o600); err != nil {
		return 0, err
	}
	return code, os.WriteFile(file+".writes", []byte(strings.Join(cloud.Writes(), "\n")+"\n"), 0o600)
}
