package kit

import (
	"net/http"
	"slices"
	"strings"
)

// request is a call of the API in RBAC's words.
type request struct {
	verb, group, resource, subresource, namespace, name string
}

// parse reads the path as the API server does. What holds no objects has no resource.
func parse(r *http.Request) request {
	var q request
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case parts[0] == "api" && len(parts) > 2:
		parts = parts[2:]
	case parts[0] == "apis" && len(parts) > 3:
		q.group, parts = parts[1], parts[3:]
	default:
		q.verb = strings.ToLower(r.Method)
		return q
	}
	if parts[0] == "namespaces" && len(parts) > 2 && parts[2] != "status" && parts[2] != "finalize" {
		q.namespace, parts = parts[1], parts[2:]
	}
	for i, at := range []*string{&q.resource, &q.name, &q.subresource} {
		if i < len(parts) {
			*at = parts[i]
		}
	}
	q.verb = q.verbOf(r)
	return q
}

func (q request) verbOf(r *http.Request) string {
	watch := r.URL.Query().Get("watch")
	switch {
	case r.Method == http.MethodGet && q.name == "" && (watch == "true" || watch == "1"):
		return "watch"
	case r.Method == http.MethodGet && q.name == "":
		return "list"
	case r.Method == http.MethodDelete && q.name == "":
		return "deletecollection"
	}
	return map[string]string{
		http.MethodGet: "get", http.MethodPost: "create", http.MethodPut: "update", http.MethodPatch: "patch", http.MethodDelete: "delete",
	}[r.Method]
}

// whole is the resource as a Role names it.
func (q request) whole() string {
	if q.subresource == "" {
		return q.resource
	}
	return q.resource + "/" + q.subresource
}

// writes tells whether a request changes something. A Lease's renewals do, but by the clock: they are left out, so that the
// n-th write is the same one each time.
func (q request) writes(r *http.Request) bool {
	if !slices.Contains([]string{"create", "update", "patch", "delete", "deletecollection"}, q.verb) {
		return false
	}
	switch {
	case slices.Contains(r.URL.Query()["dryRun"], "All"):
		return false
	case q.group == "authorization.k8s.io", q.group == "authentication.k8s.io": // questions that are asked by POST
		return false
	case q.resource == "leases" && (q.verb == "update" || q.verb == "patch"):
		return false
	case q.subresource == "portforward", q.subresource == "exec", q.subresource == "attach":
		return false
	}
	return true
}
