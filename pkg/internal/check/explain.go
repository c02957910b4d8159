package check

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// Explain is what is wrong, and the cure: failure.Diagnosed. evidence may be what another log says of it.
func Explain(f Found, evidence []string) *failure.Error {
	e := &failure.Error{Class: failure.Diagnosed, Reason: reasonOf(f), Object: f.Check, Evidence: evidence}
	for _, c := range cures() {
		if c.check == f.Check && (c.reason == f.Reason || c.reason == "") {
			e.Message, e.Hint = fill(c.message, f), fill(c.hint, f)
			break
		}
	}
	if f.Detail != "" {
		e.Evidence = append([]string{f.Detail}, e.Evidence...)
	}
	return e
}

// Waits says why a check is not done yet.
func Waits(f Found) string {
	e := Explain(f, nil)
	return fmt.Sprintf("%s: %s; what was granted at Google a moment ago takes 2 to 7 minutes", f.Check, e.Message)
}

func reasonOf(f Found) string {
	prefix := map[string]string{Artifacts: "Artifacts", Database: "Database"}[f.Check]
	return prefix + cmp.Or(f.Reason, "Failed")
}

// cure is a row of the table of what may be wrong. {where}, {identity}, {bucket}, {member} and {step} are filled in.
type cure struct {
	check, reason string // an empty reason is for all others
	message, hint string
}

func cures() []cure {
	return []cure{
		{Artifacts, "Anonymous", "there are no Google credentials in MLflow's pods, so that it comes to {where} as anonymous, and may not {step}",
			"give the pods an identity: kubectl mlflow gcp setup prints the steps; or a key: kubectl mlflow install --google-key-file KEY.json"},
		{Artifacts, "Forbidden", "{identity} may not {step} at {where}",
			"grant it roles/storage.objectUser: gcloud storage buckets add-iam-policy-binding {bucket} --member={member} --role=roles/storage.objectUser; " +
				"granted a moment ago, it takes 2 to 7 minutes: wait longer with --timeout"},
		{Artifacts, "NoToken", "the Google service account of MLflow's pods gives them no token",
			"let the Kubernetes account mlflow be it, with roles/iam.workloadIdentityUser: kubectl mlflow gcp setup prints the step; " +
				"granted a moment ago, it takes 2 to 7 minutes"},
		{Artifacts, "BucketNotFound", "there is no {where}",
			"make the bucket (kubectl mlflow gcp setup prints the step), or name another one: kubectl mlflow install --artifacts-destination gs://BUCKET/PREFIX"},
		{Artifacts, "NameNotFound", "the name of the artifact store's server is not found from MLflow's pods", "the cluster's DNS, or its way out, does not work for this namespace"},
		{Artifacts, "Unreachable", "the artifact store's server is not reached from MLflow's pods",
			"look for what keeps pods from going out: NetworkPolicies, a firewall, no Private Google Access or NAT; behind a proxy, HTTPS_PROXY"},
		{Artifacts, "NotWritable", "MLflow's pods may not {step} at {where}", "the volume may be full, read-only or somebody else's: see the detail below"},
		{Artifacts, "", "MLflow's pods cannot {step} at {where}", "the detail below is the store's own word"},
		{Database, "PasswordRefused", "the database at {where} does not take the password of {identity}",
			"the Secret has another one than the database: set the user's password to it, or give the right one as --database-secret"},
		{Database, "DatabaseMissing", "something is missing at {where}", "the detail names it: create it there, as kubectl mlflow gcp setup does for Cloud SQL"},
		{Database, "NoAnswer", "the database at {where} does not answer",
			"see its pods: kubectl get pods -l app.kubernetes.io/component=database; for Cloud SQL the proxy's log says why, and roles/cloudsql.client takes 2 to 7 minutes"},
		{Database, "SchemaMissing", "the database at {where} has no schema", anotherDatabase},
		{Database, "SchemaOther", "the schema of the database at {where} is not that of this MLflow", "a newer one needs a newer MLflow; an older one: " + anotherDatabase},
		{Database, "", "the database at {where} cannot be asked", "the detail below is the driver's own word"},
	}
}

// anotherDatabase is what makes a schema where a migration was done already, on what was there before.
const anotherDatabase = "kubectl mlflow install brings it there; where it takes an earlier migration's word, delete that first: " +
	"kubectl delete job -l app.kubernetes.io/component=migration"

func fill(text string, f Found) string {
	bucket, member := f.Where, "serviceAccount:"+f.Identity
	if rest, found := strings.CutPrefix(f.Where, "gs://"); found {
		name, _, _ := strings.Cut(rest, "/")
		bucket = "gs://" + name
	}
	if !strings.Contains(f.Identity, "@") { // a Kubernetes account of its own, by Workload Identity Federation
		member = "MEMBER"
	}
	return strings.NewReplacer(
		"{where}", cmp.Or(f.Where, "where it should be"), "{identity}", cmp.Or(f.Identity, "MLflow"), "{bucket}", bucket, "{member}", member,
		"{step}", map[string]string{"": "work", "write": "write", "read": "read back what it wrote", "delete": "delete what it wrote"}[f.Step],
	).Replace(text)
}

// Doubt is a warning, where a check found something that is not as it should be and yet works; or "".
func Doubt(f Found) string {
	if f.Check == Artifacts && f.State == OK && f.Identity == "anonymous" {
		return fmt.Sprintf("MLflow's pods have no Google credentials and come to %s as anonymous: it is open to the whole world", f.Where)
	}
	return ""
}
