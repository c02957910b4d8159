//go:build api && long

package main

import "github.com/kubectl-mlflow/kubectl-mlflow/test/kit"

// every so many writes of a verb it is interrupted.
const every = 1

// moments are those of a write at which the program is killed.
func moments(int) []kit.Moment { return []kit.Moment{kit.Before, kit.After} }
