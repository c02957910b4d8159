//go:build api

package main

import (
	"testing"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/test/kit"
)

// TestRealOutages has the API server unwell for 20 seconds, at the start and in the middle, or a bit unwell all the time:
// install arrives where it does without.
func TestRealOutages(t *testing.T) {
	t.Parallel() // it waits
	stage := newStage(t)
	whole := stage.scene(t)
	whole.run(0, "install")
	want := stage.controller.Portrait(t, whole.namespace)

	const outage = 20 * time.Second
	busy, away, electing := kit.TooManyRequests(time.Second), kit.Unavailable(), kit.LeaderChanged()
	middle := func(s *scene, f kit.Fault) {
		first := len(s.proxy.Writes())
		s.proxy.OnWrite(func(m kit.Moment, w kit.Write) bool {
			if m == kit.After && w.N == first+8 {
				s.proxy.Fail(f)
			}
			return true
		})
	}
	start := func(s *scene, f kit.Fault) { s.proxy.Fail(f) }
	cases := []struct {
		name  string
		begin func(*scene, kit.Fault)
		fault kit.Fault
		least time.Duration // that it takes: else there was no outage
	}{
		{"429 at the start", start, kit.During(outage, busy), outage},
		{"503 at the start", start, kit.During(outage, away), outage},
		{"a leader is elected at the start", start, kit.During(outage, electing), outage},
		{"429 in the middle", middle, kit.During(outage, busy), outage},
		{"503 in the middle", middle, kit.During(outage, away), outage},
		{"a leader is elected in the middle", middle, kit.During(outage, electing), outage},
		{"connections break in the middle", middle, kit.During(outage, kit.Reset()), outage},
		{"each third request meets one of them", start, kit.Some(1.0/3, kit.InTurn(kit.TooManyRequests(0), away, electing, kit.Reset())), 0},
	}
	// They do little but wait: all at once.
	scenes, calls := make([]*scene, len(cases)), make([]*call, len(cases))
	for i, c := range cases {
		scenes[i] = stage.scene(t)
		c.begin(scenes[i], c.fault)
		calls[i] = scenes[i].start("install")
	}
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s, call := scenes[i], calls[i]
			s.t = t
			if code := call.code(); code != 0 {
				t.Fatalf("exit code %d, want 0\n%s", code, call.stderr.String())
			}
			if call.took < c.least {
				t.Errorf("it took %s: there was no outage", call.took)
			}
			s.proxy.Fail(nil)
			s.same(want, kit.Portrait{})
		})
	}
}
