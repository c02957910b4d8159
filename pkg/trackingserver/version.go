package trackingserver

import (
	"fmt"
	"path"
	"strings"

	"k8s.io/apimachinery/pkg/util/version"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/instance"
)

// keepVersion renders p with the version of MLflow that is recorded, whatever the manifests' own is by now: only an upgrade
// changes it. typed is the image that the caller names; failure.Refused where that is of another version.
func (c *Client) keepVersion(p Parameters, typed string, old *instance.Instance) (*rendered, error) {
	r, err := c.sorted(p)
	if err != nil || old == nil || old.Image == "" || sameVersion(r.image, old.Image) {
		return r, err
	}
	if typed != "" {
		return nil, &failure.Error{
			Class: failure.Refused, Reason: "OtherVersion", Object: r.server.String(),
			Message: fmt.Sprintf("MLflow is installed as %s; to install %s would migrate its database", old.Image, r.image),
			Hint:    "upgrade, which says what will happen and can back up first: kubectl mlflow upgrade --image " + typed,
		}
	}
	p.Image = repositoryOf(r.image) + strings.TrimPrefix(old.Image, repositoryOf(old.Image))
	return c.sorted(p)
}

// nextVersion renders p with the version to upgrade to: that of typed, or else the manifests' own. p gets the image that is
// then recorded. failure.Refused where the recorded version is newer: a schema does not go back.
func (c *Client) nextVersion(p *Parameters, typed string, old *instance.Instance) (*rendered, error) {
	if typed == "" && p.Image != "" {
		if strings.Contains(p.Image, "@") {
			return nil, missing("--image", "MLflow is installed by a digest, "+p.Image, "name the image to upgrade to, as REPOSITORY[:TAG]@sha256:DIGEST")
		}
		p.Image = repositoryOf(p.Image)
	}
	r, err := c.sorted(*p)
	if err != nil {
		return nil, err
	}
	if older(r.image, old.Image) {
		return nil, &failure.Error{
			Class: failure.Refused, Reason: "Downgrade", Object: r.server.String(),
			Message: fmt.Sprintf("MLflow is %s, which is newer than %s: its database's schema does not go back", tagOf(old.Image), tagOf(r.image)),
			Hint: "the way back is a backup from before the upgrade: uninstall, which keeps the data as it is, install the older version into another namespace, " +
				"and there: kubectl mlflow restore --from-file FILE",
		}
	}
	return r, nil
}

// sorted renders p, sorted by stages.
func (c *Client) sorted(p Parameters) (*rendered, error) {
	objs, err := c.Render(p)
	if err != nil {
		return nil, err
	}
	return sortOut(objs)
}

// sameVersion tells by the tag, which for MLflow's images names the version; where there is none, by the digest.
func sameVersion(a, b string) bool {
	if tagOf(a) == "" && tagOf(b) == "" {
		return strings.TrimPrefix(a, repositoryOf(a)) == strings.TrimPrefix(b, repositoryOf(b))
	}
	return tagOf(a) == tagOf(b)
}

// older tells whether image a is surely of an earlier version than b.
func older(a, b string) bool {
	va, err := version.ParseGeneric(strings.TrimPrefix(tagOf(a), "v"))
	if err != nil {
		return false
	}
	vb, err := version.ParseGeneric(strings.TrimPrefix(tagOf(b), "v"))
	return err == nil && va.LessThan(vb)
}

// tagOf is the tag of an image reference, or "" where it has none.
func tagOf(image string) string {
	image, _, _ = strings.Cut(image, "@")
	_, tag, _ := strings.Cut(path.Base(image), ":")
	return tag
}

// repositoryOf is an image reference without tag and digest.
func repositoryOf(image string) string {
	image, _, _ = strings.Cut(image, "@")
	if tag := tagOf(image); tag != "" {
		image = strings.TrimSuffix(image, ":"+tag)
	}
	return image
}
