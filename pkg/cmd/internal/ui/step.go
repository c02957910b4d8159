package ui

import (
	"fmt"
	"time"
)

// step is one step under way. Its fields are guarded by the mutex of its Progress.
type step struct {
	p     *Progress
	name  string
	began time.Time
	note  string

	bytes, total int64
	counting     time.Time // of the first Bytes

	said      time.Time     // when a log last heard of it
	silence   time.Duration // until it hears of it again, news or not
	told      string        // the note it heard then
	mentioned bool
}

func (s *step) Note(text string) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.note = Escape(text)
}

func (s *step) Bytes(n, total int64) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	if s.counting.IsZero() {
		s.counting = s.p.now()
	}
	s.bytes, s.total = n, total
}

func (s *step) End(err error) { s.p.end(s, err) }

// news says whether there is something that the log does not know: that the step runs at all, or another note.
func (s *step) news() bool { return !s.mentioned || s.note != s.told }

// detail is what is known of the step beside its name and time.
func (s *step) detail(now time.Time) string {
	var text string
	if !s.counting.IsZero() {
		text = " " + Size(s.bytes)
		if s.total >= 0 {
			text += " of " + Size(s.total)
		}
		if d := now.Sub(s.counting); d >= time.Second && s.bytes > 0 {
			text += fmt.Sprintf(", %s/s", Size(int64(float64(s.bytes)/d.Seconds())))
			if s.total > s.bytes {
				text += fmt.Sprintf(", %s left", time.Duration(float64(d)*float64(s.total-s.bytes)/float64(s.bytes)).Round(time.Second))
			}
		}
	}
	if s.note != "" {
		text += " " + s.note
	}
	return text
}

// Size is a number of bytes as a person says it, in powers of 1024.
func Size(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, i := float64(n)/unit, 0
	for ; value >= unit && i < 3; i++ {
		value /= unit
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGT"[i])
}
