//go:build e2e && bench

package e2e

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// row is one line of docs/benchmarks.md: what users wait for, what they would use instead, and what no program could do without.
type row struct {
	what   string
	unit   string // of the values: s, ms, MiB, MiB/s
	digits int    // behind the point
	ours   way
	peer   way
	floor  way
}

// way is one of the ways to the same.
type way struct {
	name   string
	once   func(t *testing.T) float64 // measures it once, nil where values are there
	values []float64                  // in rounds
	most   float64                    // a value of as much was given up; 0 is none
}

// rounds is how often something is measured: as often as said, or, to try a row, as BENCH_ROUNDS says.
func rounds(t *testing.T, n int) int {
	t.Helper()
	tried := os.Getenv("BENCH_ROUNDS")
	if tried == "" {
		return n
	}
	few, err := strconv.Atoi(tried)
	if err != nil || few < 1 {
		t.Fatalf("BENCH_ROUNDS=%s is no number of rounds", tried)
	}
	return min(n, few)
}

// measure takes the values and prints the row.
func (r row) measure(t *testing.T, n int) {
	t.Helper()
	r.take(t, n)
	r.print(t)
}

// take has the ways take turns, so that what else the machine does is the same to all.
func (r *row) take(t *testing.T, n int) {
	t.Helper()
	for range rounds(t, n) {
		for _, w := range []*way{&r.floor, &r.peer, &r.ours} {
			if w.once != nil {
				w.values = append(w.values, w.once(t))
			}
		}
	}
}

// print says the row as a line of a table.
func (r row) print(t *testing.T) {
	t.Helper()
	ratio := r.ours.median() / r.peer.median()
	text := fmt.Sprintf("%.*f", 2+digitsOf(ratio), ratio)
	if r.peer.most > 0 && r.peer.median() >= r.peer.most {
		text = "< " + text
	}
	t.Logf("| %s (n=%d) | %s | %s | %s | %s |", r.what, len(r.ours.values), r.cell(r.ours), r.cell(r.peer), text, r.cell(r.floor))
}

// digitsOf is how many digits more a ratio needs that is small.
func digitsOf(ratio float64) int {
	if ratio < 0.1 {
		return 1
	}
	return 0
}

// cell is the median, half of what lies between the least and the most in percent of it, a mark where that is much, and what it is.
func (r row) cell(w way) string {
	if len(w.values) == 0 {
		return cmp.Or(w.name, "–")
	}
	median := w.median()
	text := fmt.Sprintf("%.*f %s", r.digits, median, r.unit)
	spread := 100 * (slices.Max(w.values) - slices.Min(w.values)) / median
	switch {
	case w.most > 0 && median >= w.most:
		text = fmt.Sprintf("> %.*f %s, given up", r.digits, w.most, r.unit)
	case len(w.values) > 1:
		text += fmt.Sprintf(" ± %.0f %%", spread/2)
	}
	if spread > 15 {
		text += " (!)"
	}
	notes := []string{text}
	if n := len(w.values); n != len(r.ours.values) {
		notes = append(notes, fmt.Sprintf("n=%d", n))
	}
	if w.name != "" {
		notes = append(notes, w.name)
	}
	return strings.Join(notes, ", ")
}

// median of the values, the upper one of two.
func (w way) median() float64 {
	return slices.Sorted(slices.Values(w.values))[len(w.values)/2]
}

// seconds is how long something takes.
func seconds(what func()) float64 {
	began := time.Now()
	what()
	return time.Since(began).Seconds()
}
