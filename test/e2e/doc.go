// Package e2e tells the main job's story on the lab cluster, and its failures. It sees the built binary alone:
// arguments in, stdout, stderr and exit code out, and the cluster beside it through kubectl.
//
// The tests carry the build tag e2e and are run by `make test-e2e`, which builds bin/ and boots the lab first.
package e2e
