//go:build e2e && long

package e2e

import (
	"io/fs"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// TestFiftyVersionsGrowByTheirFiles: a further version is in the registry within half a second, and takes there what its files take.
func TestFiftyVersionsGrowByTheirFiles(t *testing.T) {
	const versions, weights, slack = 50, 1 << 20, 16 << 10
	s := newStore(t)
	model := s.logged(t)
	fill(t, filepath.Join(model, "weights.bin"), weights)
	first := s.build(t, model)
	files := int64(0)
	if err := filepath.WalkDir(model, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		files += info.Size()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	began := s.size(t)
	t.Logf("a model of %d bytes, with its environment %d bytes in the registry after %.1f s", files, began, first.wall.Seconds())
	var took []time.Duration
	for range versions {
		fill(t, filepath.Join(model, "weights.bin"), weights)
		before := s.size(t)
		b := s.build(t, model)
		if grown := s.size(t) - before; grown > files+slack {
			t.Errorf("a version of %d bytes took %d", files, grown)
		}
		if b.Timings.Environment != 0 {
			t.Error("the environment was built again")
		}
		took = append(took, b.wall)
	}
	slices.Sort(took)
	t.Logf("%d versions: median %.2f s, slowest %.2f s; %d bytes a version", versions, took[versions/2].Seconds(), took[versions-1].Seconds(), (s.size(t)-began)/versions)
	if median := took[versions/2]; median > 500*time.Millisecond {
		t.Errorf("a further version took %s", median)
	}
}

// TestTwoGigabytes: a large model reaches the registry about as fast as its bytes alone, in little memory.
func TestTwoGigabytes(t *testing.T) {
	const size, rounds, memory = 2 << 30, 3, 200 << 20
	s := newStore(t)
	model := s.logged(t)
	s.build(t, model) // the environment
	weights := filepath.Join(model, "weights.bin")
	var ratios []float64
	for range rounds {
		digest := fill(t, weights, size)
		b := s.build(t, model)
		if b.memory > memory {
			t.Errorf("the build had %d MiB in memory", b.memory>>20)
		}
		plain := s.put(t, weights, size, digest)
		ratios = append(ratios, plain.Seconds()/b.wall.Seconds())
		t.Logf("build %.1f s in %d MiB of memory, plain PUT %.1f s", b.wall.Seconds(), b.memory>>20, plain.Seconds())
	}
	slices.Sort(ratios)
	if ratio := ratios[rounds/2]; ratio < 0.8 {
		t.Errorf("a build has %.2f of the speed of a plain PUT of the same bytes", ratio)
	}
}
