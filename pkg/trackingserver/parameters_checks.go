package trackingserver

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/gcp"
)

// Validate is pure. failure.Invalid names the flag and shows the right spelling. Whether there is such an overlay is
// known where the manifests are: Render says so. What p leaves open may be in the record: whether anything is missing is
// also Render's to say.
func (p Parameters) Validate() error {
	if p.Namespace != "" {
		if wrong := validation.IsDNS1123Label(p.Namespace); len(wrong) > 0 {
			return invalid("--namespace", p.Namespace, strings.Join(wrong, "; "))
		}
	}
	for _, row := range p.table() {
		if err := row.valid(*row.value); err != nil {
			return invalid(row.flag, *row.value, err.Error())
		}
	}
	return p.fits()
}

// fits is failure.Invalid where what p says does not go together, whatever the record says.
func (p Parameters) fits() error {
	for _, row := range p.table() {
		if p.Overlay != "" && given(*row.value) && row.overlays != nil && !slices.Contains(row.overlays, p.Overlay) {
			return &failure.Error{
				Class: failure.Invalid, Reason: "OtherOverlaysParameter",
				Message: fmt.Sprintf("%s has no meaning with overlay %q", row.flag, p.Overlay),
				Hint:    fmt.Sprintf("leave it out, or choose --overlay %s", strings.Join(row.overlays, " or --overlay ")),
			}
		}
	}
	if p.PrivateIP == yes && p.PSC == yes {
		return &failure.Error{
			Class: failure.Invalid, Reason: "TwoWays",
			Message: "--private-ip and --psc are two ways to the instance",
			Hint:    "choose one, and say =false to the other if it was chosen before",
		}
	}
	if p.CloudSQLProxy == sidecar {
		for _, own := range []struct{ flag, value, instead string }{
			{"--cloudsql-service-account", p.CloudSQLServiceAccount, "--google-service-account"},
			{"--cloudsql-key-secret", p.CloudSQLKeySecret, "--google-key-secret"},
		} {
			if given(own.value) {
				return &failure.Error{
					Class: failure.Invalid, Reason: "SidecarHasNoIdentity",
					Message: fmt.Sprintf("%s is for a proxy with pods of its own; in the sidecar it has the identity of MLflow's pods", own.flag),
					Hint:    fmt.Sprintf("give that identity the role cloudsql.client and name it with %s, or leave --cloudsql-proxy=sidecar out", own.instead),
				}
			}
		}
	}
	return nil
}

// complete is failure.Invalid where something is missing from p, which says all that there is to say.
func (p Parameters) complete() error {
	p.Overlay = p.overlay()
	if err := p.fits(); err != nil {
		return err
	}
	said := map[string]bool{}
	for _, row := range p.table() {
		said[row.flag] = given(*row.value)
	}
	for _, row := range p.table() {
		if row.of != "" && said[row.flag] && !said[row.of] {
			return missing(row.of, fmt.Sprintf("%s is a detail of it", row.flag), "give it too, or leave "+row.flag+" out")
		}
	}
	if p.Overlay != overlayLocal && p.artifacts() == "" {
		return missing("--artifacts-destination", fmt.Sprintf("overlay %q keeps artifacts in a bucket", p.Overlay), "give it as --artifacts-destination gs://BUCKET/PREFIX")
	}
	if p.Overlay != overlayLocal {
		if err := checkBucket(p.artifacts()); err != nil {
			return invalid("--default-artifact-root", p.artifacts(), err.Error()+"; or name the server's own bucket with --artifacts-destination")
		}
	}
	if p.Overlay == CloudSQLOverlay && p.CloudSQLInstance == "" {
		return missing("--cloudsql-instance", fmt.Sprintf("overlay %q has its database there", p.Overlay), "give it as --cloudsql-instance PROJECT:REGION:INSTANCE; "+
			"gcloud sql instances describe INSTANCE --format='value(connectionName)' shows it")
	}
	if p.AutoIAMAuthn == yes && p.DatabaseUser == "" {
		return missing("--database-user", "with --auto-iam-authn the user is a service account",
			"give it as --database-user NAME@PROJECT.iam: the account's address without .gserviceaccount.com")
	}
	return nil
}

// artifacts is where the server keeps artifacts, or "" where the overlay has a volume for them.
func (p Parameters) artifacts() string {
	if given(p.ArtifactsDestination) {
		return p.ArtifactsDestination
	}
	if p.overlay() != overlayLocal && given(p.DefaultArtifactRoot) {
		return p.DefaultArtifactRoot
	}
	return ""
}

func invalid(flag, value, hint string) error {
	return &failure.Error{
		Class: failure.Invalid, Reason: "InvalidParameter",
		Message: fmt.Sprintf("%s %q is not valid", flag, value),
		Hint:    hint,
	}
}

func missing(flag, why, hint string) error {
	return &failure.Error{Class: failure.Invalid, Reason: "ParameterMissing", Message: fmt.Sprintf("%s is missing: %s", flag, why), Hint: hint}
}

// reference is the grammar of an image reference: repository, then tag or digest or both.
func reference() *regexp.Regexp {
	return regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9.\-]*(:[0-9]+)?(/[a-z0-9]+([._\-]+[a-z0-9]+)*)*(:[A-Za-z0-9_][A-Za-z0-9_.\-]{0,127})?(@sha256:[0-9a-f]{64})?$`)
}

func checkImage(value string) error {
	if !reference().MatchString(value) {
		return fmt.Errorf("write it as REPOSITORY[:TAG][@sha256:DIGEST], for instance %s:v3.17.2-full", mlflowImage)
	}
	return nil
}

// registryName is a host with perhaps a port, and perhaps a path in it.
func registryName() *regexp.Regexp {
	return regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9.\-]*(:[0-9]+)?(/[a-z0-9]+([._\-]+[a-z0-9]+)*)*$`)
}

func checkRegistry(value string) error {
	if !registryName().MatchString(value) {
		return errors.New("write it as HOST[:PORT][/PATH], for instance registry.example.com/mirror; images keep the rest of their names: mlflow/mlflow, library/postgres")
	}
	return nil
}

func checkName(value string) error {
	if wrong := validation.IsDNS1123Subdomain(value); len(wrong) > 0 {
		return errors.New(strings.Join(wrong, "; "))
	}
	return nil
}

func checkStorageClass(value string) error {
	if err := checkName(value); err != nil {
		return fmt.Errorf("see the names there are with: kubectl get storageclass; %w", err)
	}
	return nil
}

func checkSize(value string) error {
	if size, err := resource.ParseQuantity(value); err != nil || size.Sign() <= 0 {
		return errors.New("write a size as Kubernetes does, for instance 10Gi")
	}
	return nil
}

func oneOf(values ...string) func(string) error {
	return func(value string) error {
		if !slices.Contains(values, value) {
			return errors.New("choose one of: " + strings.Join(values, ", "))
		}
		return nil
	}
}

// bucket is the URL of a place in Google Cloud Storage. A placeholder, in capitals, is none.
func bucket() *regexp.Regexp {
	return regexp.MustCompile(`^gs://[a-z0-9][a-z0-9_.\-]{1,220}[a-z0-9](/[A-Za-z0-9_.\-=+/]*)?$`)
}

func checkBucket(value string) error {
	if !bucket().MatchString(value) {
		return errors.New("write it as gs://BUCKET or gs://BUCKET/PREFIX, with a bucket's name in small letters")
	}
	return nil
}

func artifactURI() *regexp.Regexp {
	return regexp.MustCompile(`^[a-z][a-z0-9+.\-]*://[A-Za-z0-9@][A-Za-z0-9_.\-=+@:/]*$`)
}

func checkArtifactURI(value string) error {
	if !artifactURI().MatchString(value) || strings.HasPrefix(value, "file:") {
		return errors.New("write it as MLflow does, for instance gs://BUCKET/PREFIX")
	}
	return nil
}

func checkInstance(value string) error {
	_, err := gcp.ParseInstance(value)
	return err
}

func databaseName() *regexp.Regexp {
	return regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_\-]{0,62}$`)
}

func databaseRole() *regexp.Regexp {
	return regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.@\-]{0,62}$`)
}

func checkDatabaseName(value string) error {
	if !databaseName().MatchString(value) {
		return errors.New("write it as PostgreSQL does, for instance mlflowdb")
	}
	return nil
}

func checkDatabaseUser(value string) error {
	if short, found := strings.CutSuffix(value, ".gserviceaccount.com"); found {
		return fmt.Errorf("of a service account's address, Cloud SQL does not want the end: %s", short)
	}
	if !databaseRole().MatchString(value) {
		return errors.New("write it as the database knows it, without escapes, for instance mlflow or mlflow@PROJECT.iam")
	}
	return nil
}

func serviceAccount() *regexp.Regexp {
	return regexp.MustCompile(`^[a-z0-9\-]+@[a-z0-9.\-]+\.gserviceaccount\.com$`)
}

func checkServiceAccount(value string) error {
	if !serviceAccount().MatchString(value) {
		return errors.New("write the service account's address, for instance mlflow@PROJECT.iam.gserviceaccount.com")
	}
	return nil
}

func checkHost(value string) error {
	if wrong := validation.IsDNS1123Subdomain(value); len(wrong) > 0 {
		return errors.New("write a host's name alone, for instance mlflow.example.com")
	}
	return nil
}

func hostPattern() *regexp.Regexp {
	return regexp.MustCompile(`^[A-Za-z0-9.*:\[\]\-]+$`)
}

func checkHosts(value string) error {
	for host := range strings.SplitSeq(value, ",") {
		if !hostPattern().MatchString(host) {
			return errors.New("write hosts with commas between, as clients name them: mlflow.example.com,mlflow.example.com:8443; * stands for anything")
		}
	}
	return nil
}

func checkOrigins(value string) error {
	for origin := range strings.SplitSeq(value, ",") {
		u, err := url.Parse(origin)
		if origin != "*" && (err != nil || u.Scheme == "" || u.Host == "" || u.Scheme+"://"+u.Host != origin || strings.ContainsAny(origin, "$ ")) {
			return errors.New("write origins with commas between: https://mlflow.example.com,http://localhost:3000")
		}
	}
	return nil
}

func cronFields() *regexp.Regexp {
	return regexp.MustCompile(`^[0-9A-Za-z*/,?\-]+( [0-9A-Za-z*/,?\-]+){4}$`)
}

func cronName() *regexp.Regexp {
	return regexp.MustCompile(`^@(yearly|annually|monthly|weekly|daily|midnight|hourly)$`)
}

func age() *regexp.Regexp {
	return regexp.MustCompile(`^([0-9]+(\.[0-9]+)?d)?([0-9]+(\.[0-9]+)?h)?([0-9]+(\.[0-9]+)?m)?([0-9]+(\.[0-9]+)?s)?$`)
}

func checkSchedule(value string) error {
	if !cronFields().MatchString(value) && !cronName().MatchString(value) {
		return errors.New(`write minute, hour, day, month and weekday as cron does, for instance "0 3 * * 0"`)
	}
	return nil
}

// manual is the schedule of what runs only when somebody says so.
const manual = "manual"

func checkBackupSchedule(value string) error {
	if value == manual {
		return nil
	}
	if err := checkSchedule(value); err != nil {
		return fmt.Errorf("%w; or %q", err, manual)
	}
	return nil
}

func checkAge(value string) error {
	if !age().MatchString(value) || value == "" {
		return errors.New("write it as MLflow does, for instance 30d or 1d12h")
	}
	return nil
}

func checkCount(value string) error {
	if n, err := strconv.Atoi(value); err != nil || n < 1 {
		return errors.New("write a number from 1 on")
	}
	return nil
}

func checkResources(value string) error {
	_, err := parseResources(value)
	return err
}

func parseResources(value string) (map[string]string, error) {
	parsed := map[string]string{}
	for item := range strings.SplitSeq(value, ",") {
		name, amount, _ := strings.Cut(item, "=")
		if !slices.Contains([]string{"cpu", "memory", "ephemeral-storage"}, name) || parsed[name] != "" || checkSize(amount) != nil {
			return nil, errors.New("write it as kubectl does, for instance cpu=500m,memory=1Gi")
		}
		parsed[name] = amount
	}
	return parsed, nil
}
