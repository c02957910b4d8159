//go:build api && !long

package main

import "github.com/kubectl-mlflow/kubectl-mlflow/test/kit"

// every so many writes of a verb it is interrupted.
const every = 6

// moments are those of a write at which the program is killed; none for most writes. What is on the cluster before a write is what was
// there after the write before it.
func moments(n int) []kit.Moment {
	switch n % every {
	case 1:
		return []kit.Moment{kit.Before}
	case 4:
		return []kit.Moment{kit.After}
	}
	return nil
}
