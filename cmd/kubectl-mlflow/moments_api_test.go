//go:build api && !long

package main

import "github.com/kubectl-mlflow/kubectl-mlflow/test/kit"

// moments are those of a write at which the program is killed. What is on the cluster before a write is what was there after
// the write before it: without the tag long one of the two has to do.
func moments(n int) []kit.Moment {
	if n == 1 {
		return []kit.Moment{kit.Before, kit.After}
	}
	return []kit.Moment{kit.After}
}
