package kit

import (
	"bufio"
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The clients of a Provider.
const (
	NativeClient  = "native"              // of a user with a browser
	MachineClient = "machine"             // which logs in by itself, and is the audience of its tokens
	MachineSecret = "machine-secret"      //nolint:gosec // of nothing that is worth anything
	ProviderUser  = "test-user@127.0.0.1" // of the provider's login page
	ProviderPass  = "verysecure"          //nolint:gosec // as above
	RedirectPath  = "/oauth2/callback"    // of the native client, on any port of 127.0.0.1
)

// Provider runs the OpenID provider of test/oidcprovider until the test ends, and returns its issuer.
func Provider(t testing.TB) string {
	t.Helper()
	gomod, err := exec.CommandContext(t.Context(), "go", "env", "GOMOD").Output()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "oidcprovider")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".")
	build.Dir = filepath.Join(filepath.Dir(strings.TrimSpace(string(gomod))), "test", "oidcprovider")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	var log bytes.Buffer
	provider := exec.Command(program) //nolint:noctx // it ends with its standard input
	provider.Stderr = &log
	until, err := provider.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := provider.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := provider.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	t.Cleanup(func() {
		_ = until.Close()
		if err := provider.Wait(); err != nil || t.Failed() {
			t.Logf("the provider: %v\n%s", err, &log)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}
