//go:build e2e

package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"testing"
)

// The media types of what these tests make themselves.
const (
	ociIndex    = "application/vnd.oci.image.index.v1+json"
	ociManifest = "application/vnd.oci.image.manifest.v1+json"
	ociConfig   = "application/vnd.oci.image.config.v1+json"
	ociLayer    = "application/vnd.oci.image.layer.v1.tar"
)

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// blob puts data into a repository of the lab's registry, and returns its digest.
func (l *lab) blob(t *testing.T, repository string, data []byte) string {
	t.Helper()
	response, err := http.Post("http://"+l.Registry+"/v2/"+repository+"/blobs/uploads/", "", nil) //nolint:noctx // the lab's own registry
	if err != nil {
		t.Fatal(err)
	}
	if err := response.Body.Close(); err != nil || response.StatusCode != http.StatusAccepted {
		t.Fatalf("begin an upload: %s, %v", response.Status, err)
	}
	l.put(t, response.Header.Get("Location")+"&digest="+digest(data), "application/octet-stream", data)
	return digest(data)
}

// manifest puts a manifest under a tag or its digest.
func (l *lab) manifest(t *testing.T, repository, reference, kind string, manifest []byte) {
	t.Helper()
	l.put(t, "http://"+l.Registry+"/v2/"+repository+"/manifests/"+reference, kind, manifest)
}

func (l *lab) put(t *testing.T, url, kind string, body []byte) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", kind)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	if err := response.Body.Close(); err != nil || response.StatusCode != http.StatusCreated {
		t.Fatalf("PUT %s: %s, %v", url, response.Status, err)
	}
}
