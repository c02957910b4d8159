package kit

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Fault stands between a client and the API server. It answers the request itself and returns true, or lets it pass.
type Fault func(w http.ResponseWriter, r *http.Request) bool

// TooManyRequests is what an API server without free seats answers.
func TooManyRequests(retryAfter time.Duration) Fault {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Retry-After", strconv.Itoa(int(retryAfter.Seconds())))
		refuse(w, http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests, "too many requests, please try again later")
		return true
	}
}

// Unavailable is what a load balancer answers for an API server that restarts.
func Unavailable() Fault {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		refuse(w, http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable, "apiserver is shutting down")
		return true
	}
}

// LeaderChanged is what the API server answers while etcd elects.
func LeaderChanged() Fault {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		refuse(w, http.StatusInternalServerError, metav1.StatusReasonInternalError, "etcdserver: leader changed")
		return true
	}
}

// Reset breaks the connection, and all that goes over it.
func Reset() Fault {
	return func(_ http.ResponseWriter, r *http.Request) bool {
		reset(r)
		return true
	}
}

// Delay lets requests pass after d.
func Delay(d time.Duration) Fault {
	return func(_ http.ResponseWriter, r *http.Request) bool {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
		}
		return false
	}
}

// Deny forbids a verb on a resource, both as a Role names them: "get", "pods/log".
func Deny(verb, resource string) Fault {
	return func(w http.ResponseWriter, r *http.Request) bool {
		asked := parse(r)
		if asked.verb != verb || asked.whole() != resource {
			return false
		}
		refuse(w, http.StatusForbidden, metav1.StatusReasonForbidden, asked.forbidden("test"))
		return true
	}
}

// During has f for the time d, from the first request on.
func During(d time.Duration, f Fault) Fault {
	end := sync.OnceValue(func() time.Time { return time.Now().Add(d) })
	return func(w http.ResponseWriter, r *http.Request) bool {
		until := end()
		return time.Now().Before(until) && f(w, r)
	}
}

// Some has f for the fraction of the requests, evenly spread.
func Some(fraction float64, f Fault) Fault {
	var mu sync.Mutex
	sum := 0.0
	return func(w http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		sum += fraction
		hit := sum >= 1
		if hit {
			sum--
		}
		mu.Unlock()
		return hit && f(w, r)
	}
}

// InTurn has the first fault for the first request, the second for the next one, and begins again after the last.
func InTurn(faults ...Fault) Fault {
	var mu sync.Mutex
	next := 0
	return func(w http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		f := faults[next%len(faults)]
		next++
		mu.Unlock()
		return f(w, r)
	}
}

// refuse answers with a Status, as the API server does.
func refuse(w http.ResponseWriter, code int, reason metav1.StatusReason, message string) {
	answer(w, code, metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusFailure, Reason: reason, Message: message, Code: int32(code),
	})
}

// connection is the key of a request's net.Conn in its context.
type connection struct{}

// reset ends the handler, and the connection without a farewell.
func reset(r *http.Request) {
	if conn, ok := r.Context().Value(connection{}).(*tls.Conn); ok {
		if raw, ok := conn.NetConn().(*net.TCPConn); ok {
			_ = raw.SetLinger(0)
			_ = raw.Close()
		}
	}
	panic(http.ErrAbortHandler)
}

func (q request) forbidden(user string) string {
	return fmt.Sprintf("%s %q is forbidden: User %q cannot %s resource %q in API group %q in the namespace %q",
		q.resource, q.name, user, q.verb, q.whole(), q.group, q.namespace)
}
