package forward

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

// podRef is one life of a pod: a StatefulSet's next pod has the same name.
type podRef struct {
	cluster.Ref
	uid types.UID
}

// readyPod returns the newest ready pod of the Service, and the port in it. It waits for one as long as ctx lives.
func (d *Dialer) readyPod(ctx context.Context) (podRef, int32, error) {
	service, err := d.service(ctx)
	if err != nil {
		return podRef{}, 0, err
	}
	port, err := d.port(service)
	if err != nil {
		return podRef{}, 0, err
	}
	if len(service.Spec.Selector) == 0 {
		return podRef{}, 0, d.invalid("ServiceWithoutPods", "it selects no pods", "a tunnel leads to a pod: name a Service with a selector")
	}
	query := cluster.Query{
		GroupVersionKind: corev1.SchemeGroupVersion.WithKind("Pod"),
		Namespace:        d.to.Namespace,
		Selector:         labels.SelectorFromSet(service.Spec.Selector),
	}
	var (
		found  podRef
		number int32
		why    string
	)
	err = d.cluster.Observe(ctx, []cluster.Query{query}, func(objs []*unstructured.Unstructured) (bool, error) {
		pods, err := podsOf(objs)
		if err != nil {
			return false, err
		}
		pod := newestReady(pods)
		if pod == nil {
			if now := whyNone(pods, query.Selector); now != why {
				why = now
				d.note(why)
			}
			return false, nil
		}
		found = podRef{Ref: cluster.Ref{GroupVersionKind: query.GroupVersionKind, Namespace: pod.Namespace, Name: pod.Name}, uid: pod.UID}
		number, err = d.targetPort(port, pod)
		return err == nil, err
	})
	if err != nil && ctx.Err() != nil && why != "" {
		return podRef{}, 0, d.interrupted(ctx, fmt.Errorf("no pod is ready: %s", why))
	}
	return found, number, err
}

func (d *Dialer) service(ctx context.Context) (*corev1.Service, error) {
	ref := cluster.Ref{GroupVersionKind: corev1.SchemeGroupVersion.WithKind("Service"), Namespace: d.to.Namespace, Name: d.to.Service}
	obj, err := d.cluster.Get(ctx, ref)
	if apierrors.IsNotFound(err) {
		return nil, d.invalid("ServiceNotFound", "there is no such Service in namespace "+d.to.Namespace,
			fmt.Sprintf("see what there is: kubectl get services --namespace %s", d.to.Namespace))
	}
	if err != nil {
		return nil, err
	}
	var service corev1.Service
	if err := cluster.Into(obj, &service); err != nil {
		return nil, err
	}
	return &service, nil
}

// port is the Service's port by number or name; an empty one is its only port.
func (d *Dialer) port(service *corev1.Service) (corev1.ServicePort, error) {
	var there []string
	for _, p := range service.Spec.Ports {
		number := strconv.Itoa(int(p.Port))
		if d.to.Port == number || d.to.Port == p.Name && p.Name != "" || d.to.Port == "" && len(service.Spec.Ports) == 1 {
			return p, nil
		}
		there = append(there, strings.TrimSpace(number+" "+p.Name))
	}
	return corev1.ServicePort{}, d.invalid("PortNotFound", fmt.Sprintf("it has no port %q", d.to.Port), "it has "+strings.Join(there, ", "))
}

// targetPort is the number of the Service's port in the pod.
func (d *Dialer) targetPort(p corev1.ServicePort, pod *corev1.Pod) (int32, error) {
	if p.TargetPort.Type == intstr.Int {
		if p.TargetPort.IntVal == 0 {
			return p.Port, nil
		}
		return p.TargetPort.IntVal, nil
	}
	for _, containers := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} { // a sidecar is an init container
		for _, c := range containers {
			for _, port := range c.Ports {
				if port.Name == p.TargetPort.StrVal {
					return port.ContainerPort, nil
				}
			}
		}
	}
	return 0, d.invalid("PortNotFound", fmt.Sprintf("its port %d leads to a port named %q, which pod/%s does not have", p.Port, p.TargetPort.StrVal, pod.Name),
		"correct targetPort in the Service, or the port's name in the pod")
}

func (d *Dialer) invalid(reason, message, hint string) error {
	return &failure.Error{Class: failure.Invalid, Reason: reason, Object: "service/" + d.to.Service, Message: message, Hint: hint}
}

func podsOf(objs []*unstructured.Unstructured) ([]corev1.Pod, error) {
	pods := make([]corev1.Pod, len(objs))
	for i, obj := range objs {
		if err := cluster.Into(obj, &pods[i]); err != nil {
			return nil, err
		}
	}
	return pods, nil
}

// ready tells whether the Service sends traffic to the pod.
func ready(pod *corev1.Pod) bool { return pod.DeletionTimestamp == nil && cluster.PodReady(pod) }

func newestReady(pods []corev1.Pod) *corev1.Pod {
	var newest *corev1.Pod
	for i := range pods {
		if ready(&pods[i]) && (newest == nil || newest.CreationTimestamp.Before(&pods[i].CreationTimestamp)) {
			newest = &pods[i]
		}
	}
	return newest
}

// whyNone says in one line why there is no ready pod.
func whyNone(pods []corev1.Pod, selector labels.Selector) string {
	if len(pods) == 0 {
		return fmt.Sprintf("there is no pod with the labels %s", selector)
	}
	states := make([]string, 0, len(pods))
	for i := range pods {
		states = append(states, fmt.Sprintf("pod/%s is %s", pods[i].Name, state(&pods[i])))
	}
	return strings.Join(states, ", ")
}

// state is what kubectl shows in its column STATUS, as far as it matters here.
func state(pod *corev1.Pod) string {
	if pod.DeletionTimestamp != nil {
		return "terminating"
	}
	for _, statuses := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for _, s := range statuses {
			if s.State.Waiting != nil && s.State.Waiting.Reason != "" {
				return s.State.Waiting.Reason
			}
		}
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return c.Reason
		}
	}
	if pod.Status.Phase == corev1.PodRunning {
		return "running, but not ready"
	}
	if pod.Status.Phase == "" {
		return "Pending"
	}
	return string(pod.Status.Phase)
}
