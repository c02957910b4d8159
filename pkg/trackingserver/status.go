package trackingserver

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/instance"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/readiness"
)

// Status is what there is of an installation. Its JSON is stable: fields are added, and none changes its meaning.
type Status struct {
	Namespace  string          `json:"namespace"`
	Overlay    string          `json:"overlay"`
	Image      string          `json:"image"`
	MLflow     string          `json:"mlflow,omitempty"` // the image's tag
	Schema     string          `json:"schema,omitempty"` // of the database, after the last migration
	Underway   string          `json:"underway,omitempty"`
	Lock       string          `json:"lock,omitempty"` // who is at work in the namespace
	Pods       []PodStatus     `json:"pods"`
	Volumes    []VolumeStatus  `json:"volumes"`
	Artifacts  string          `json:"artifacts"`
	Database   string          `json:"database"`
	Identities []Identity      `json:"identities,omitempty"`
	URLs       []string        `json:"urls"` // of those that are published, and then the one within the cluster
	Backups    *BackupSchedule `json:"backups,omitempty"`
	Unknown    []string        `json:"unknown,omitempty"` // what could not be read, and why
}

// PodStatus is one pod of MLflow, its database, its proxy or its migration.
type PodStatus struct {
	Name      string    `json:"name"`
	Component string    `json:"component"`
	Phase     string    `json:"phase"`
	Ready     bool      `json:"ready"`
	Restarts  int32     `json:"restarts"`
	Started   time.Time `json:"started"` // when it was created
	Problem   string    `json:"problem,omitempty"`
}

// VolumeStatus is one of the claims.
type VolumeStatus struct {
	Name  string `json:"name"`
	Phase string `json:"phase"`
	Class string `json:"class,omitempty"`
	Size  string `json:"size,omitempty"`
}

// Identity is as whom pods go to Google.
type Identity struct {
	ServiceAccount string `json:"serviceAccount"` // in the cluster
	Google         string `json:"google"`         // the account there, or the Secret with its key
}

// BackupSchedule is when the database is backed up.
type BackupSchedule struct {
	Schedule    string    `json:"schedule"` // cron, or manual
	LastSuccess time.Time `json:"lastSuccess,omitzero"`
}

// Status tells what there is, well or not. It changes nothing and starts no pod. What may not be read is in Unknown, and the rest
// still stands. failure.Invalid where nothing is installed.
func (c *Client) Status(ctx context.Context) (Status, error) {
	record, err := c.installed(ctx)
	if err != nil {
		return Status{}, err
	}
	p, err := Parameters{}.upon(record)
	if err != nil {
		return Status{}, err
	}
	s := &Status{
		Namespace: record.Namespace, Overlay: record.Overlay, Image: record.Image, MLflow: tagOf(record.Image), Schema: record.Schema,
		Underway: underway(record), Pods: []PodStatus{}, Volumes: []VolumeStatus{},
		Artifacts: cmp.Or(p.DefaultArtifactRoot, p.ArtifactsDestination, "volume mlflow-artifacts"), Database: "postgres in the cluster",
		URLs: []string{fmt.Sprintf("http://%s.%s:%d", record.HTTP.Service, record.Namespace, port)},
	}
	if p.CloudSQLInstance != "" {
		s.Database = "Cloud SQL " + p.CloudSQLInstance
	}
	if given(p.BackupSchedule) {
		s.Backups = &BackupSchedule{Schedule: p.BackupSchedule}
	}
	if record.Running() != nil {
		s.URLs = []string{}
	}
	var all errgroup.Group
	var unknown sync.Mutex // each look writes fields of its own; this one is everybody's
	for what, look := range map[string]func(context.Context, *instance.Instance, Parameters, *Status) error{
		"pods": c.podStatus, "volumes": c.volumeStatus, "identities": c.identities, "ingresses": c.published, "backups": c.lastBackup, "lock": c.lockStatus,
	} {
		all.Go(func() error {
			err := look(ctx, record, p, s)
			if failure.ClassOf(err) != failure.Forbidden {
				return err
			}
			unknown.Lock()
			defer unknown.Unlock()
			s.Unknown = append(s.Unknown, fmt.Sprintf("%s: %v", what, err))
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		return Status{}, err
	}
	slices.Sort(s.Unknown)
	return *s, nil
}

// port is MLflow's, in the cluster too.
const port = 5000

// underway says what was begun and has not come to its end.
func underway(record *instance.Instance) string {
	switch {
	case record.Running() != nil:
		return "uninstalled; its data is kept. To bring it back: kubectl mlflow install"
	case record.Restoring != "":
		return fmt.Sprintf("a restore of %s stopped the server; to go on: kubectl mlflow restore %[1]s; to start it as it is: kubectl mlflow install", record.Restoring)
	case record.Replicas > 0:
		return "an upgrade stopped the server; to go on: kubectl mlflow upgrade; to go back: kubectl mlflow install"
	}
	return ""
}

func (c *Client) podStatus(ctx context.Context, record *instance.Instance, _ Parameters, s *Status) error {
	query, err := logPods(record.Namespace)
	if err != nil {
		return err
	}
	pods, err := c.cluster.List(ctx, query)
	if err != nil {
		return err
	}
	seen := slices.Clone(pods)
	for _, kind := range []string{"Event", "PersistentVolumeClaim"} { // they only explain
		if objs, err := c.cluster.List(ctx, cluster.Query{GroupVersionKind: core(kind, "", "").GroupVersionKind, Namespace: record.Namespace}); err == nil {
			seen = append(seen, objs...)
		}
	}
	problems, err := readiness.Problems(seen)
	if err != nil {
		return err
	}
	for _, obj := range pods {
		var pod corev1.Pod
		if err := cluster.Into(obj, &pod); err != nil {
			return err
		}
		if !slices.Contains([]string{server, database, migration}, pod.Labels[component]) {
			continue
		}
		status := PodStatus{
			Name: pod.Name, Component: pod.Labels[component], Phase: string(pod.Status.Phase), Started: pod.CreationTimestamp.Time,
			Ready: cluster.PodReady(&pod), Problem: problems[cluster.RefOf(obj)],
		}
		for _, container := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
			status.Restarts += container.RestartCount
		}
		s.Pods = append(s.Pods, status)
	}
	order := []string{database, migration, server}
	slices.SortFunc(s.Pods, func(a, b PodStatus) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.Component), slices.Index(order, b.Component)), cmp.Compare(a.Name, b.Name))
	})
	return nil
}

func (c *Client) volumeStatus(ctx context.Context, record *instance.Instance, _ Parameters, s *Status) error {
	objs, err := c.itemsOf(ctx, record, "PersistentVolumeClaim")
	if err != nil {
		return err
	}
	for _, obj := range objs {
		if obj.GetUID() == "" {
			s.Volumes = append(s.Volumes, VolumeStatus{Name: obj.GetName(), Phase: "missing"})
			continue
		}
		var claim corev1.PersistentVolumeClaim
		if err := cluster.Into(obj, &claim); err != nil {
			return err
		}
		size := claim.Status.Capacity[corev1.ResourceStorage]
		if size.IsZero() {
			size = claim.Spec.Resources.Requests[corev1.ResourceStorage]
		}
		volume := VolumeStatus{Name: claim.Name, Phase: string(claim.Status.Phase), Size: size.String()}
		if claim.Spec.StorageClassName != nil {
			volume.Class = *claim.Spec.StorageClassName
		}
		s.Volumes = append(s.Volumes, volume)
	}
	return nil
}

// itemsOf are the objects of a kind that the inventory names. One that is not there has its name alone, and no UID.
func (c *Client) itemsOf(ctx context.Context, record *instance.Instance, kind string) ([]*unstructured.Unstructured, error) {
	var objs []*unstructured.Unstructured
	for _, item := range record.Inventory.Items {
		if item.Kind != kind {
			continue
		}
		obj, err := c.get(ctx, item.Ref)
		if err != nil {
			return nil, err
		}
		if obj == nil {
			obj = &unstructured.Unstructured{}
			obj.SetName(item.Name)
		}
		objs = append(objs, obj)
	}
	return objs, nil
}

// identities are those that the ServiceAccounts bear, whoever has annotated them, and the keys.
func (c *Client) identities(ctx context.Context, record *instance.Instance, p Parameters, s *Status) error {
	accounts, err := c.itemsOf(ctx, record, "ServiceAccount")
	if err != nil {
		return err
	}
	for _, account := range accounts {
		if google := account.GetAnnotations()["iam.gke.io/gcp-service-account"]; google != "" {
			s.Identities = append(s.Identities, Identity{ServiceAccount: account.GetName(), Google: google})
		}
	}
	for account, secret := range map[string]string{"mlflow": p.GoogleKeySecret, "mlflow-cloudsql-proxy": p.CloudSQLKeySecret} {
		if given(secret) {
			s.Identities = append(s.Identities, Identity{ServiceAccount: account, Google: "the key in secret/" + secret})
		}
	}
	slices.SortFunc(s.Identities, func(a, b Identity) int { return strings.Compare(a.ServiceAccount+a.Google, b.ServiceAccount+b.Google) })
	return nil
}

// published are the URLs of the Ingress.
func (c *Client) published(ctx context.Context, record *instance.Instance, _ Parameters, s *Status) error {
	objs, err := c.itemsOf(ctx, record, "Ingress")
	if err != nil {
		return err
	}
	var urls []string
	for _, obj := range objs {
		var ingress networkingv1.Ingress
		if err := cluster.Into(obj, &ingress); err != nil {
			return err
		}
		scheme := "http"
		if len(ingress.Spec.TLS) > 0 {
			scheme = "https"
		}
		for _, rule := range ingress.Spec.Rules {
			if rule.Host != "" {
				urls = append(urls, scheme+"://"+rule.Host)
			}
		}
	}
	s.URLs = append(urls, s.URLs...)
	return nil
}

// lastBackup is by the Jobs of the CronJob, also of those that were made by hand.
func (c *Client) lastBackup(ctx context.Context, record *instance.Instance, p Parameters, s *Status) error {
	if !given(p.BackupSchedule) {
		return nil
	}
	jobs, err := c.cluster.List(ctx, cluster.Query{GroupVersionKind: batchv1.SchemeGroupVersion.WithKind("Job"), Namespace: record.Namespace})
	if err != nil {
		return err
	}
	for _, obj := range jobs {
		job, err := jobOfBackup(obj)
		if err != nil {
			return err
		}
		if job != nil && job.Status.Succeeded > 0 && job.Status.CompletionTime != nil && job.Status.CompletionTime.After(s.Backups.LastSuccess) {
			s.Backups.LastSuccess = job.Status.CompletionTime.Time
		}
	}
	return nil
}

// jobOfBackup is the Job, or nil where it makes no backup.
func jobOfBackup(obj *unstructured.Unstructured) (*batchv1.Job, error) {
	if !strings.HasPrefix(obj.GetName(), backupName+"-") || strings.HasPrefix(obj.GetName(), backupName+"-list-") {
		return nil, nil
	}
	job := &batchv1.Job{}
	return job, cluster.Into(obj, job)
}

func (c *Client) lockStatus(ctx context.Context, record *instance.Instance, _ Parameters, s *Status) error {
	var err error
	s.Lock, err = c.cluster.Holder(ctx, record.Namespace, instance.Name)
	return err
}
