package gcp

import (
	"fmt"
	"regexp"
	"strings"
)

// Instance names a Cloud SQL instance.
type Instance struct {
	Project string // "my-project", or domain-scoped, "example.com:my-project"
	Region  string // "europe-west1"
	Name    string
}

// String is the connection name, PROJECT:REGION:INSTANCE.
func (i Instance) String() string { return i.Project + ":" + i.Region + ":" + i.Name }

const (
	projectPattern = `(?:[a-z0-9][a-z0-9.\-]*\.[a-z]{2,}:)?[a-z][a-z0-9\-]{4,28}[a-z0-9]`
	regionPattern  = `[a-z]+-[a-z]+[0-9]+`
	namePattern    = `[a-z][a-z0-9\-]{0,96}[a-z0-9]|[a-z]`
)

func instancePattern() *regexp.Regexp {
	return regexp.MustCompile(`^(` + projectPattern + `):(` + regionPattern + `):(` + namePattern + `)$`)
}

// dottedPattern is how some guides write it. A project has no dots, so that what stands before the last one is a domain.
func dottedPattern() *regexp.Regexp {
	return regexp.MustCompile(`^(?:((?:[a-z0-9][a-z0-9\-]*\.)+[a-z]{2,})[.:])?([a-z][a-z0-9\-]{4,28}[a-z0-9])[.:](` + regionPattern + `)[.:](` + namePattern + `)$`)
}

// ParseInstance reads PROJECT:REGION:INSTANCE. The error says how it is written right; where there are dots instead of
// colons it says so with the very name.
func ParseInstance(s string) (Instance, error) {
	if m := instancePattern().FindStringSubmatch(s); m != nil {
		return Instance{Project: m[1], Region: m[2], Name: m[3]}, nil
	}
	if m := dottedPattern().FindStringSubmatch(s); m != nil {
		right := Instance{Project: m[2], Region: m[3], Name: m[4]}
		if m[1] != "" {
			right.Project = m[1] + ":" + m[2]
		}
		return Instance{}, fmt.Errorf("its parts are separated by colons: write %s", right)
	}
	hint := "write it as PROJECT:REGION:INSTANCE, for instance my-project:europe-west1:mlops"
	if strings.Count(s, ":") == 1 || !strings.ContainsAny(s, ":.") {
		hint += "; gcloud sql instances list --format='value(connectionName)' shows it"
	}
	return Instance{}, fmt.Errorf("%s", hint)
}
