// Package deployments puts MLflow models on Knative: one model version becomes one image, one revision and one URL.
//
// It is the Go API of the deploy half, with a promise: its signatures hold only types of its own, of pkg/failure and pkg/progress,
// of the standard library and of Kubernetes' API machinery.
//
// [New] makes a [Client] of the cluster that kubectl would talk to. [Client.Deploy] makes the image of a model, if the repository does not
// have it, and the Service; [Client.Predict] asks it; [Client.List] tells what there is. The examples show one each.
//
// Failures that a person can act on are a *failure.Error, whose Class says what kind it is, and whose Hint what to do next. All calls end
// with their context, and a Client may be used by several goroutines.
package deployments
