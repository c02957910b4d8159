// Package gcp prepares Google Cloud for MLflow: it plans what has to be there, as gcloud commands, and runs them. No other room
// starts gcloud.
package gcp
