package kit

import (
	"encoding/base64"
	"fmt"
	"regexp"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"
)

// Portrait is a namespace and what is in it.
type Portrait struct {
	// Objects are in YAML, by "RESOURCE/NAME", without what differs from one time to the next: UIDs, versions, times, statuses,
	// addresses, the namespace's name, and the values in Secrets. Pods, events and backups' Jobs, which come and go, are left out.
	Objects map[string]string
	UIDs    map[string]types.UID // by the same names
	Secrets map[string]string    // by "NAME/KEY"
}

// Portrait asks the API server for all of it.
func (c *Controller) Portrait(t testing.TB, namespace string) Portrait {
	t.Helper()
	p := Portrait{Objects: map[string]string{}, UIDs: map[string]types.UID{}, Secrets: map[string]string{}}
	for _, r := range content() {
		if r == core("pods") || r == core("events") {
			continue
		}
		list, err := c.client.Resource(r).Namespace(namespace).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range list.Items {
			p.take(t, r.Resource, namespace, &list.Items[i])
		}
	}
	ns, err := c.client.Resource(core("namespaces")).Get(t.Context(), namespace, metav1.GetOptions{})
	switch {
	case err == nil:
		p.take(t, "namespaces", namespace, ns)
	case !apierrors.IsNotFound(err):
		t.Fatal(err)
	}
	return p
}

func (p Portrait) take(t testing.TB, resource, namespace string, obj *unstructured.Unstructured) {
	t.Helper()
	if resource == "serviceaccounts" && obj.GetName() == "default" { // the controllers', some time after the namespace
		return
	}
	name := resource + "/" + strings.ReplaceAll(obj.GetName(), namespace, "NAMESPACE")
	if resource == "jobs" && regexp.MustCompile(`(-[0-9]{8}-[0-9]{6}|-look-[a-z0-9]{8})$`).MatchString(name) { // a backup, or a look: one each time
		return
	}
	p.UIDs[name] = obj.GetUID()
	if resource == "secrets" {
		data, _, err := unstructured.NestedStringMap(obj.Object, "data")
		if err != nil {
			t.Fatal(err)
		}
		for key, value := range data {
			plain, err := base64.StdEncoding.DecodeString(value)
			if err != nil {
				t.Fatal(err)
			}
			p.Secrets[obj.GetName()+"/"+key] = string(plain)
			data[key] = "SECRET"
		}
		if err := unstructured.SetNestedStringMap(obj.Object, data, "data"); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{
		"metadata.uid", "metadata.resourceVersion", "metadata.generation", "metadata.creationTimestamp", "metadata.managedFields", "status",
		"spec.clusterIP", "spec.clusterIPs", "spec.volumeName", // Service, PersistentVolumeClaim
		"spec.acquireTime", "spec.renewTime", "spec.leaseTransitions", // Lease
	} {
		unstructured.RemoveNestedField(obj.Object, strings.Split(path, ".")...)
	}
	text, err := yaml.Marshal(obj.Object)
	if err != nil {
		t.Fatal(err)
	}
	plain := strings.ReplaceAll(string(text), namespace, "NAMESPACE")
	plain = regexp.MustCompile(`applyset-[A-Za-z0-9_-]{43}-v1`).ReplaceAllString(plain, "APPLYSET") // a hash with the namespace in it
	p.Objects[name] = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`).ReplaceAllString(plain, "UID")
}

// Held names who holds the namespace's Leases, "" for nobody.
func (c *Controller) Held(t testing.TB, namespace string) string {
	t.Helper()
	list, err := c.client.Resource(leaseResource()).Namespace(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, lease := range list.Items {
		holder, _, err := unstructured.NestedString(lease.Object, "spec", "holderIdentity")
		if err != nil {
			t.Fatal(err)
		}
		if holder != "" {
			return fmt.Sprintf("%s holds %s", holder, lease.GetName())
		}
	}
	return ""
}

func leaseResource() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"}
}
