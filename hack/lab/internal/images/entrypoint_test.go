package images

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The database's programs, as shell scripts that note how they are called.
const (
	initdb = `#!/bin/bash
for arg; do case $arg in
  --pwfile=*) echo "initdb password=$(cat "${arg#--pwfile=}")" >>"$NOTES" ;;
  --pgdata=*) echo 15 >"${arg#--pgdata=}/PG_VERSION" ;;
  *) echo "initdb $arg" >>"$NOTES" ;;
esac; done`
	pgCtl    = "#!/bin/bash\necho \"pg_ctl ${*: -1} ${*/*listen_addresses*/on its socket alone}\" >>\"$NOTES\""
	psql     = "#!/bin/bash\necho \"psql $* <<< $(cat)\" >>\"$NOTES\""
	postgres = "#!/bin/bash\necho \"postgres $* password=${POSTGRES_PASSWORD-unset}\" >>\"$NOTES\""
	// As root the entrypoint becomes postgres; the test does not.
	id = "#!/bin/bash\necho 999"
)

// entrypoint runs the PostgreSQL image's entrypoint and returns what it called.
func entrypoint(t *testing.T, pgdata string, env []string, args ...string) (string, error) {
	t.Helper()
	folder := t.TempDir()
	for name, text := range map[string]string{"initdb": initdb, "pg_ctl": pgCtl, "psql": psql, "postgres": postgres, "id": id} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	notes := filepath.Join(folder, "notes")
	cmd := exec.CommandContext(t.Context(), "bash", append([]string{"scripts/docker-entrypoint.sh"}, args...)...)
	cmd.Env = append([]string{"PATH=" + folder + ":" + os.Getenv("PATH"), "NOTES=" + notes, "PGDATA=" + pgdata}, env...)
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	text, readErr := os.ReadFile(notes)
	if readErr != nil && !os.IsNotExist(readErr) {
		t.Fatal(readErr)
	}
	return string(text), err
}

func TestEntrypointMakesADatabaseOnce(t *testing.T) {
	const password = `it's "x" $HOME \`
	pgdata := filepath.Join(t.TempDir(), "pgdata")
	secret := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(secret, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{"POSTGRES_USER=mlflow", "POSTGRES_DB=mlflowdb", "POSTGRES_PASSWORD_FILE=" + secret, "POSTGRES_INITDB_ARGS=--data-checksums --auth-host='scram-sha-256'"}

	calls, err := entrypoint(t, pgdata, env, "postgres", "-c", "jit=off")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"initdb password=" + password + "\n", "initdb --username=mlflow\n", "initdb --data-checksums\n", "initdb --auth-host=scram-sha-256\n",
		"on its socket alone", "--set=db=mlflowdb", `CREATE DATABASE :"db";`, "pg_ctl stop", "postgres -c jit=off password=unset\n",
	} {
		if !strings.Contains(calls, want) {
			t.Errorf("no %q in\n%s", want, calls)
		}
	}
	hba, err := os.ReadFile(filepath.Join(pgdata, "pg_hba.conf"))
	if err != nil || !strings.Contains(string(hba), "host all all all scram-sha-256\n") {
		t.Errorf("pg_hba.conf %q, %v", hba, err)
	}

	calls, err = entrypoint(t, pgdata, env, "-c", "jit=off")
	if err != nil || calls != "postgres -c jit=off password=unset\n" {
		t.Errorf("the second time: %v\n%s", err, calls)
	}
}

func TestEntrypointRefusesADatabaseWithoutPassword(t *testing.T) {
	calls, err := entrypoint(t, filepath.Join(t.TempDir(), "pgdata"), nil, "postgres")
	if err == nil || calls != "" {
		t.Errorf("error %v, calls\n%s", err, calls)
	}
	calls, err = entrypoint(t, filepath.Join(t.TempDir(), "pgdata"), []string{"POSTGRES_HOST_AUTH_METHOD=trust"}, "postgres")
	if err != nil || !strings.Contains(calls, "initdb --username=postgres\n") || strings.Contains(calls, "password=\n") {
		t.Errorf("with trust: %v\n%s", err, calls)
	}
}

func TestEntrypointRunsOtherCommandsAsTheyAre(t *testing.T) {
	calls, err := entrypoint(t, filepath.Join(t.TempDir(), "pgdata"), nil, "psql", "--version")
	if err != nil || calls != "psql --version <<< \n" {
		t.Errorf("%v\n%s", err, calls)
	}
}
