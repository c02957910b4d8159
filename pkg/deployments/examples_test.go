package deployments_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"k8s.io/cli-runtime/pkg/genericclioptions"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/deployments"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// A program finds the cluster as kubectl does, in a kubeconfig or in its pod, and credentials as MLflow's Python client does.
func ExampleNew() {
	client := deployments.New(genericclioptions.NewConfigFlags(true), progress.Discard{}, deployments.WithEnvironment(os.Getenv))
	fmt.Printf("%T\n", client)
	// Output: *deployments.Client
}

// The champion becomes the deployment iris, or the newest revision of it. This needs a cluster, a tracking server and a registry.
func ExampleClient_Deploy() {
	client := deployments.New(genericclioptions.NewConfigFlags(true), progress.Discard{}, deployments.WithEnvironment(os.Getenv))
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	result, err := client.Deploy(ctx, deployments.Request{
		Namespace:       "models",
		Name:            "iris",
		ModelURI:        "models:/iris@champion",
		ImageRepository: "registry.example.com/models",
	})
	if f, ok := errors.AsType[*failure.Error](err); ok {
		log.Printf("%s: %v; %s", f.Reason, f, f.Hint)
		return
	}
	if err != nil {
		log.Print(err)
		return
	}
	fmt.Println(result.Action, result.ModelURI, result.Image, result.URL)
}

// What is deployed in a namespace; "" would be all of them.
func ExampleClient_List() {
	getter, end := exampleCluster()
	defer end()
	client := deployments.New(getter, progress.Discard{})
	found, err := client.List(context.Background(), "models")
	if err != nil {
		log.Print(err)
		return
	}
	for _, d := range found {
		fmt.Println(d.Name, d.ModelURI, d.Ready)
	}
	// Output:
	// iris models:/iris/3 true
	// wine models:/wine/1 false
}

// A request goes through the API server to Knative's gateway, or, as here, to the deployment's own URL.
func ExampleClient_Predict() {
	getter, end := exampleCluster()
	defer end()
	client := deployments.New(getter, progress.Discard{})
	answer, err := client.Predict(context.Background(), deployments.Prediction{
		Namespace: "models",
		Name:      "iris",
		Body:      []byte(`{"inputs": [[5.1, 3.5, 1.4, 0.2]]}`),
		Via:       deployments.ViaURL,
	})
	if err != nil {
		log.Print(err)
		return
	}
	fmt.Println(string(answer))
	// Output: {"predictions": [0]}
}

// Bad input is told before anything is dialled.
func ExampleRequest_Validate() {
	err := deployments.Request{Name: "iris", ModelURI: "models:/iris@"}.Validate()
	if f, ok := errors.AsType[*failure.Error](err); ok {
		fmt.Println(f.Class, f.Message)
	}
	// Output: Invalid "models:/iris@": a name stands before the @ and an alias after it
}
