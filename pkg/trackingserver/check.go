package trackingserver

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/check"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/instance"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/readiness"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// The checks.
const (
	CheckArtifacts       = check.Artifacts
	CheckDatabase        = check.Database
	CheckNetworkPolicies = "network-policies"
)

const (
	// atGoogle is how long what was granted at Google may take, and more; here is how long it may take in the cluster.
	atGoogle, here = 10 * time.Minute, time.Minute
	// databaseUp is how long a database that is not in Google's hands may be away.
	databaseUp = 20 * time.Second
	// starting is what the checks' pods may take to start.
	starting = 3 * time.Minute
	// proxyLines of the proxy's log are shown.
	proxyContainer, proxyLines = "cloud-sql-proxy", 5
)

// Check tries in pods like the server's what the server needs: to write, read and delete in the artifact store, and to ask the
// database; and where NetworkPolicies are installed, whether they hold a stranger off. What may be a grant that is not everywhere
// yet is tried for as long as patience; 0 is 10 minutes where Google is involved and 1 elsewhere. An error is one of the checking
// itself: what is wrong with MLflow is in the results. Nothing stays.
func (c *Client) Check(ctx context.Context, patience time.Duration) ([]failure.Checked, error) {
	record, err := c.running(ctx)
	if err != nil {
		return nil, err
	}
	r := &rightsIn{namespace: record.Namespace}
	r.jobs()
	r.logs()
	r.add(deploymentOf("", "").GroupVersionKind, "get")
	r.add(core("ConfigMap", "", "").GroupVersionKind, "get")
	if err := c.may(ctx, checking, record.Namespace, r.wanted); err != nil {
		return nil, err
	}
	if patience == 0 {
		patience = here
		if record.Overlay != overlayLocal {
			patience = atGoogle
		}
	}
	ctx, cancel := context.WithTimeout(ctx, patience+starting)
	defer cancel()
	server, err := c.cluster.Get(ctx, deploymentOf(record.Namespace, record.HTTP.Service))
	if apierrors.IsNotFound(err) {
		return nil, &failure.Error{Class: failure.Diagnosed, Reason: "ServerMissing", Object: deploymentOf("", record.HTTP.Service).String(),
			Message: "MLflow's server is gone", Hint: "bring it back with: kubectl mlflow install", Err: err}
	}
	if err != nil {
		return nil, err
	}
	results, err := c.checkLike(ctx, record, server, patience)
	if err != nil || record.Parameters["NETWORK_POLICIES"] != yes {
		return results, err
	}
	policies, err := c.checkPolicies(ctx, server, results)
	return append(results, policies...), err
}

// checkLike tries the store and the database from a pod like the server's.
func (c *Client) checkLike(ctx context.Context, record *instance.Instance, server *unstructured.Unstructured, patience time.Duration) ([]failure.Checked, error) {
	database := min(patience, databaseUp)
	if record.Overlay == CloudSQLOverlay {
		database = patience
	}
	job, err := check.Like(server, jobName("mlflow-check"), patience, database)
	if err != nil {
		return nil, err
	}
	found := map[string]check.Found{}
	var evidence []string
	err = c.following(ctx, job, "Trying the artifact store and the database", func(f check.Found) string {
		found[f.Check] = f
		if f.State == check.Pending {
			return check.Waits(f)
		}
		return ""
	}, func() {
		if record.Overlay == CloudSQLOverlay && found[check.Database].State != check.OK {
			evidence = c.proxySays(ctx, job)
		}
	})
	if err != nil {
		return nil, err
	}
	results := []failure.Checked{checked(found[check.Artifacts], check.Artifacts, nil), checked(found[check.Database], check.Database, evidence)}
	return results, nil
}

// checked is a result. A check that has said nothing has failed.
func checked(f check.Found, name string, evidence []string) failure.Checked {
	f.Check = name
	c := failure.Checked{Name: name, State: failure.CheckOK, Where: f.Where, Identity: f.Identity, Message: check.Doubt(f)}
	if f.State != check.OK {
		c.State, c.Failure = failure.CheckFailed, check.Explain(f, evidence)
		c.Reason, c.Message, c.Hint = c.Failure.Reason, c.Failure.Message, c.Failure.Hint
	}
	return c
}

// checkPolicies tries the database's door from a pod that no policy lets in.
func (c *Client) checkPolicies(ctx context.Context, server *unstructured.Unstructured, results []failure.Checked) ([]failure.Checked, error) {
	result := failure.Checked{Name: CheckNetworkPolicies, State: failure.CheckUnknown, Message: "the database does not answer those that are let in: nothing is known of the others"}
	for _, r := range results {
		if r.Name == CheckDatabase && r.State != failure.CheckOK {
			return []failure.Checked{result}, nil
		}
	}
	address := map[string]string{}
	for _, name := range []string{"DB_HOST", "DB_PORT"} {
		value, err := check.Setting(server, name, func(configMap string) (map[string]string, error) {
			live, err := c.cluster.Get(ctx, core("ConfigMap", server.GetNamespace(), configMap))
			if err != nil {
				return nil, err
			}
			data, _, err := unstructured.NestedStringMap(live.Object, "data")
			return data, err
		})
		if err != nil {
			return nil, err
		}
		address[name] = value
	}
	if host := address["DB_HOST"]; host == "" || host == "127.0.0.1" { // in the pod itself, where no policy is asked
		return nil, nil
	}
	job, err := check.Stranger(server, jobName("mlflow-check-door"), address["DB_HOST"], address["DB_PORT"])
	if err != nil {
		return nil, err
	}
	result.Where = address["DB_HOST"] + ":" + address["DB_PORT"]
	err = c.following(ctx, job, "Trying the database's door as a stranger", func(f check.Found) string {
		switch f.State {
		case check.Closed:
			result.State, result.Message = failure.CheckOK, ""
		case check.Open:
			result.State, result.Reason = failure.CheckNotEnforced, "NetworkPoliciesNotEnforced"
			result.Message = "NetworkPolicies are not enforced by this cluster's network: a pod that none lets in has reached the database"
			result.Hint = "they are there, and hold as soon as a network plugin enforces them: Calico, Cilium, GKE Dataplane V2"
		case check.Failed:
			result.Message = f.Detail
		}
		return ""
	}, func() {})
	return []failure.Checked{result}, err
}

// following runs a Job and gives each finding in its log to f, whose word is what is waited for. last is called before the Job is
// deleted.
func (c *Client) following(ctx context.Context, job *unstructured.Unstructured, doing string, f func(check.Found) string, last func()) error {
	return progress.Do(c.progress, doing, func(s progress.Step) error {
		if _, err := c.cluster.CreateOnce(ctx, job); err != nil {
			return err
		}
		defer c.discard(ctx, job)
		following, stop := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() { // for the notes alone: what counts is read from the whole log
			defer close(done)
			_ = c.follow(following, job, func(line string) error {
				if found, ok := check.Read(line); ok {
					if note := f(found); note != "" {
						s.Note(note)
					}
				}
				return nil
			})
		}()
		err := c.wait(ctx, []readiness.Target{{Object: cluster.RefOf(job)}}, s)
		stop()
		<-done
		if err != nil {
			return err
		}
		lines, err := c.said(ctx, job, check.Container)
		for _, line := range lines {
			if found, ok := check.Read(line); ok {
				f(found)
			}
		}
		last()
		return err
	})
}

// follow gives f the lines of the log of a Job's pod, as soon as it has one.
func (c *Client) follow(ctx context.Context, job *unstructured.Unstructured, f func(string) error) error {
	var pod *unstructured.Unstructured
	pods := cluster.Query{GroupVersionKind: core("Pod", "", "").GroupVersionKind, Namespace: job.GetNamespace(), Selector: labels.SelectorFromSet(labels.Set{jobNameLabel: job.GetName()})}
	err := c.cluster.Observe(ctx, []cluster.Query{pods}, func(objs []*unstructured.Unstructured) (bool, error) {
		for _, obj := range objs {
			if phase, _, err := unstructured.NestedString(obj.Object, "status", "phase"); err == nil && phase == string(corev1.PodRunning) {
				pod = obj
			}
		}
		return pod != nil, nil
	})
	if err != nil {
		return err
	}
	return c.cluster.Follow(ctx, cluster.RefOf(pod), check.Container, f)
}

// proxySays is the end of the log of the Cloud SQL Auth Proxy: in pods of its own, or beside the check.
func (c *Client) proxySays(ctx context.Context, job *unstructured.Unstructured) []string {
	pods, err := c.cluster.List(ctx, cluster.Query{GroupVersionKind: core("Pod", "", "").GroupVersionKind, Namespace: job.GetNamespace()})
	if err != nil {
		return nil
	}
	var said []string
	for _, pod := range pods {
		of := pod.GetLabels()
		if of[jobNameLabel] != job.GetName() && (of["app.kubernetes.io/part-of"] != "mlflow" || of[component] != database) {
			continue
		}
		lines, err := c.cluster.Tail(ctx, cluster.RefOf(pod), proxyContainer, false, proxyLines)
		if err != nil || len(lines) == 0 { // of the two there is one
			continue
		}
		said = append(said, fmt.Sprintf("the end of the log of %s, container %s:", cluster.RefOf(pod), proxyContainer))
		for _, line := range lines {
			said = append(said, "  "+strings.TrimSpace(line))
		}
	}
	return said
}

func deploymentOf(namespace, name string) cluster.Ref {
	return cluster.Ref{GroupVersionKind: schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}, Namespace: namespace, Name: name}
}
