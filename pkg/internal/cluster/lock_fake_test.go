package cluster

import (
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const leases = "/apis/coordination.k8s.io/v1/namespaces/team/leases"

// leaseStore is the part of an API server that keeps one Lease: with versions, preconditions and a watch.
type leaseStore struct {
	t *testing.T
	*api

	mu       sync.Mutex
	lease    *unstructured.Unstructured
	version  int
	changed  chan struct{}                    // closed at a change
	foreign  bool                             // what is written seems to come from another machine
	trouble  http.HandlerFunc                 // instead of all answers
	after    func(r *http.Request) (cut bool) // called when a request is carried out, before it is answered
	watching chan struct{}                    // one for each watch
	history  []string                         // method and holder of each write
}

func newLeaseStore(t *testing.T) *leaseStore {
	t.Helper()
	s := &leaseStore{t: t, changed: make(chan struct{}), watching: make(chan struct{}, 100)}
	one := http.HandlerFunc(s.one)
	s.api, _ = newAPI(t, map[string]http.HandlerFunc{
		"GET " + leases: s.listOrWatch, "POST " + leases: one, "GET " + leases + "/l": one, "PUT " + leases + "/l": one, "DELETE " + leases + "/l": one,
	})
	return s
}

// client is one more program that uses the store.
func (s *leaseStore) client() *Client {
	c := newTestClient(loadKubeconfig(writeKubeconfig(s.t, s.url), ""))
	c.lock = lockTimes{duration: 2 * time.Second, renew: 50 * time.Millisecond, release: 500 * time.Millisecond}
	return c
}

// set changes the Lease as somebody else does; nil deletes it.
func (s *leaseStore) set(lease *unstructured.Unstructured) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(lease)
}

func (s *leaseStore) put(lease *unstructured.Unstructured) {
	s.version++
	if lease != nil {
		lease.SetResourceVersion(strconv.Itoa(s.version))
		if s.foreign {
			notes := lease.GetAnnotations()
			delete(notes, processKey)
			lease.SetAnnotations(notes)
		}
	}
	s.lease = lease
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *leaseStore) now() (*unstructured.Unstructured, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lease.DeepCopy(), s.changed
}

// disturb is what happens to the requests to come.
func (s *leaseStore) disturb(trouble http.HandlerFunc, after func(*http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trouble, s.after = trouble, after
}

func (s *leaseStore) one(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	trouble, after := s.trouble, s.after
	if trouble != nil {
		s.mu.Unlock()
		trouble(w, r)
		return
	}
	respond := s.carryOut(r)
	s.mu.Unlock()
	if after != nil && after(r) {
		hangUp(w, r)
		return
	}
	respond(w, r)
}

func (s *leaseStore) carryOut(r *http.Request) http.HandlerFunc {
	conflict := refuse(http.StatusConflict, metav1.StatusReasonConflict, "the object has been modified", nil)
	if r.Method == http.MethodPost {
		if s.lease != nil {
			return refuse(http.StatusConflict, metav1.StatusReasonAlreadyExists, "it exists", nil)
		}
	} else if s.lease == nil {
		return refuse(http.StatusNotFound, metav1.StatusReasonNotFound, "not found", nil)
	}
	switch r.Method {
	case http.MethodPost, http.MethodPut:
		var lease unstructured.Unstructured
		if err := lease.UnmarshalJSON([]byte(s.bodyOf(r))); err != nil {
			return refuse(http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error(), nil)
		}
		if r.Method == http.MethodPut {
			if lease.GetResourceVersion() != s.lease.GetResourceVersion() {
				return conflict
			}
		} else {
			lease.SetUID("uid-ours")
		}
		s.history = append(s.history, r.Method+" "+holderOf(&lease).id)
		s.put(&lease)
	case http.MethodDelete:
		var opts metav1.DeleteOptions
		if err := json.Unmarshal([]byte(s.bodyOf(r)), &opts); err != nil {
			return refuse(http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error(), nil)
		}
		if p := opts.Preconditions; p == nil || *p.UID != s.lease.GetUID() || *p.ResourceVersion != s.lease.GetResourceVersion() {
			return conflict
		}
		s.history = append(s.history, r.Method+" "+holderOf(s.lease).id)
		s.put(nil)
		return answer(&unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Status"}})
	}
	return answer(s.lease.DeepCopy())
}

// bodyOf finds what the api has read already.
func (s *leaseStore) bodyOf(r *http.Request) string {
	s.api.mu.Lock()
	defer s.api.mu.Unlock()
	for i, known := range s.requests {
		if known == r {
			return s.bodies[i]
		}
	}
	return ""
}

func (s *leaseStore) listOrWatch(w http.ResponseWriter, r *http.Request) {
	lease, changed := s.now()
	if r.URL.Query().Get("watch") == "" {
		if lease == nil {
			list("1")(w, r)
		} else {
			list(lease.GetResourceVersion(), lease)(w, r)
		}
		return
	}
	w.WriteHeader(http.StatusOK)
	s.watching <- struct{}{}
	for version := r.URL.Query().Get("resourceVersion"); ; {
		switch {
		case lease == nil:
			_ = json.NewEncoder(w).Encode(map[string]any{"type": "DELETED", "object": foreignLease("", "").Object})
		case lease.GetResourceVersion() != version:
			version = lease.GetResourceVersion()
			_ = json.NewEncoder(w).Encode(map[string]any{"type": "MODIFIED", "object": lease.Object})
		}
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
			return
		case <-changed:
		}
		lease, changed = s.now()
	}
}

// foreignLease is the Lease of a holder elsewhere.
func foreignLease(id, renewed string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
		"metadata": map[string]any{"name": "l", "namespace": "team", "uid": "uid-foreign", "annotations": map[string]any{operationKey: "upgrade", sinceKey: "2026-01-01T00:00:00Z"}},
		"spec":     map[string]any{"holderIdentity": id, "renewTime": renewed, "leaseDurationSeconds": int64(1), "leaseTransitions": int64(4)},
	}}
}
