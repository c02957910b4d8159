package serving

import "testing"

func TestWhatDidNotAnswerIsDoubtedUntilItDoes(t *testing.T) {
	w := newWorld(t)
	c := New(w)
	first := apply(t, w, iris("1"))
	for _, doubted := range []bool{false, true, true, false} {
		before := w.writes
		was := apply(t, w, iris("1")).Doubted
		if err := c.Doubt(t.Context(), first, doubted); err != nil {
			t.Fatal(err)
		}
		if wrote := w.writes - before; (wrote == 1) != (was != doubted) {
			t.Errorf("doubted %t after %t: %d writes", doubted, was, wrote)
		}
		if a := apply(t, w, iris("1")); a.Doubted != doubted || a.Action != Unchanged || a.Revision != first.Revision {
			t.Errorf("%+v, want it doubted: %t", a, doubted)
		}
	}
	if err := c.Doubt(t.Context(), first, true); err != nil {
		t.Fatal(err)
	}
	if a := apply(t, w, iris("2")); a.Doubted {
		t.Error("the doubt is taken over to another version")
	}
	before := w.writes
	if err := c.Doubt(t.Context(), first, true); err != nil || w.writes != before {
		t.Errorf("a deployment that was overtaken: %v, %d writes", err, w.writes-before)
	}
}
