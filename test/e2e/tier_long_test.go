//go:build e2e && long

package e2e

// long tells whether the tests take their time: for every fault, about which kubectl is asked as well, which takes it a minute each time; for
// every variant, not one of each pair; for all sizes.
const long = true
