package gcp

import (
	"fmt"
	"strings"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/trackingserver"
)

// namespaceLabels are those of the namespace in the manifests.
const namespaceLabels = "app.kubernetes.io/name=mlflow pod-security.kubernetes.io/enforce=restricted pod-security.kubernetes.io/warn=restricted"

// script is the plan as lines for a POSIX shell: before each command, why.
func (o *Options) script() string {
	var b strings.Builder
	line := func(why, command string) { fmt.Fprintf(&b, "# %s\n%s\n", why, command) }
	if o.Complete.NeedsNumber() {
		line("The number of the cluster's project, which names below need.",
			"PROJECT_NUMBER=$("+gcloud([]string{"projects", "describe", o.Complete.ClusterProject(), "--format=value(projectNumber)"})+")")
	}
	namespaced := false
	for _, step := range trackingserver.PlanGoogle(o.Complete) {
		if secret := step.Password != nil || step.Keep != nil; secret && !namespaced {
			namespaced = true
			line("The namespace, for the Secrets below: as install makes it, where it is not there.", fmt.Sprintf("%[1]s get namespace %[2]s || { %[1]s create namespace %[2]s && %[1]s label namespace %[2]s %[3]s; }",
				o.Kubectl, o.Complete.Namespace, namespaceLabels))
		}
		switch {
		case step.SQL != nil:
			words := make([]string, 0, len(step.SQL))
			for _, statement := range step.SQL {
				words = append(words, quote(statement))
			}
			line(step.Why+" Where the instance has no public address, run the two statements in Cloud SQL Studio instead.", fmt.Sprintf(`printf '%%s\n' %s | %s`, strings.Join(words, " "),
				gcloud([]string{"sql", "connect", step.Instance.Name, "--project=" + step.Instance.Project, "--database=" + step.Database, "--user=postgres"})))
		case step.Do == nil:
			line(step.Why, gcloud(step.Show))
		case step.Password != nil:
			at := *step.Password
			line(fmt.Sprintf("A password that nobody sees, in the Secret that MLflow will read. Leave this out where secret/%s is there (and use --apply where it has percent-escapes).", at.Secret),
				fmt.Sprintf(`openssl rand -hex 24 | tr -d '\n' | %s create secret generic %s --from-file=%s=/dev/stdin`, o.Kubectl, at.Secret, at.Key))
			line(step.Why, fmt.Sprintf(`%s get secret %s -o go-template='{"--password": {{.data.%s | base64decode | printf "%%q"}}}' | %s %s`,
				o.Kubectl, at.Secret, at.Key, trackingserver.GcloudNoLog, gcloud(step.Do)))
		case step.Keep != nil:
			line(step.Why, fmt.Sprintf("%s | %s create secret generic %s --from-file=%s=/dev/stdin", gcloud(step.Do), o.Kubectl, step.Keep.Secret, step.Keep.Key))
		default:
			line(step.Why, gcloud(step.Do))
		}
	}
	line(o.last(), o.install(o.Complete))
	return b.String()
}

// last is why install comes last.
func (o *Options) last() string {
	why := "MLflow itself. Where it is installed already, this changes only what is new."
	if google, _ := o.Complete.Accounts(); google != "" {
		why = "MLflow itself, its Kubernetes accounts annotated with the service accounts. Where it is installed already, this changes only what is new."
	}
	return why
}

// install is the command line that comes after the setup of g.
func (o *Options) install(g trackingserver.Google) string {
	words := g.InstallWords()
	for i, word := range words {
		words[i] = quote(word)
	}
	return o.Next(words...)
}

func gcloud(args []string) string {
	words := []string{"gcloud"}
	for _, word := range args {
		flag, value, found := strings.Cut(word, "=")
		if found && strings.HasPrefix(flag, "--") {
			words = append(words, flag+"="+quote(value))
		} else {
			words = append(words, quote(word))
		}
	}
	return strings.Join(words, " ")
}

// quote writes a word for a POSIX shell, which is to put in the project's number where that is not known.
func quote(word string) string {
	parts := strings.Split(word, trackingserver.GoogleProjectNumber)
	if len(parts) == 1 {
		return ui.Quote(word)
	}
	plain := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "`", "\\`", "$", `\$`)
	for i, part := range parts {
		parts[i] = plain.Replace(part)
	}
	return `"` + strings.Join(parts, "${PROJECT_NUMBER}") + `"`
}
