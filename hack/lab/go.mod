module github.com/kubectl-mlflow/kubectl-mlflow/hack/lab

go 1.26.0
