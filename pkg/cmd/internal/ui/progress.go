package ui

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

const (
	// redraw is how often a terminal's live lines are drawn: often enough for tenths of seconds to run.
	redraw = 100 * time.Millisecond
	// announce is how long a step may take in a log before it is mentioned while it runs.
	announce = 5 * time.Second
	// repeat is how long a log stays silent about a running step with no news; twice as long each time, so that a tunnel
	// that is open all day does not fill it.
	repeat = 30 * time.Second
)

// Progress is all the talk of a command: steps as live lines on a terminal, elsewhere as one plain line each, and one more
// now and then while a step takes long. It is a progress.Reporter. Close ends it.
type Progress struct {
	out  io.Writer
	term terminal
	now  func() time.Time

	mu      sync.Mutex
	running []*step
	drawn   int           // live lines on the screen
	closed  bool          // no more drawing
	stop    chan struct{} // nil until the first step
	done    chan struct{}
}

var _ progress.Reporter = (*Progress)(nil)

// NewProgress tells on w.
func NewProgress(w io.Writer) *Progress {
	return &Progress{out: w, term: inspect(w, runtime.GOOS, os.LookupEnv), now: time.Now}
}

// run draws until Close. p.mu is held.
func (p *Progress) run() {
	if p.stop != nil || p.closed {
		return
	}
	stop, done := make(chan struct{}), make(chan struct{})
	p.stop, p.done = stop, done
	every := time.Second
	if p.term.live {
		every = redraw
	}
	go func() {
		defer close(done)
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-stop:
				return
			case <-ticker.C:
				p.tick()
			}
		}
	}()
}

// Close stops telling and leaves the cursor below what was said. Steps still under way vanish from the screen.
func (p *Progress) Close() {
	p.mu.Lock()
	stop, done := p.stop, p.done
	p.stop, p.closed = nil, true
	p.write(p.erase())
	p.mu.Unlock()
	if stop != nil {
		close(stop)
		<-done
	}
}

// Say prints a line of talk between the steps.
func (p *Progress) Say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.write(p.erase() + Escape(fmt.Sprintf(format, args...)) + "\n" + p.draw())
}

// Start begins a step.
func (p *Progress) Start(name string) progress.Step {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	s := &step{p: p, name: Escape(name), began: now, said: now, silence: repeat}
	p.running = append(p.running, s)
	p.run()
	p.redraw()
	return s
}

func (p *Progress) tick() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	if p.term.live {
		p.redraw()
		return
	}
	var b strings.Builder
	for _, s := range p.running {
		quiet := p.now().Sub(s.said)
		news := s.news()
		if quiet >= s.silence || quiet >= announce && news {
			s.said, s.told, s.mentioned, s.silence = p.now(), s.note, true, 2*s.silence
			if news {
				s.silence = repeat
			}
			fmt.Fprintf(&b, "%s ... (%s)%s\n", s.name, elapsed(p.now().Sub(s.began)), s.detail(p.now()))
		}
	}
	p.write(b.String())
}

// end takes s out and prints its last line.
func (p *Progress) end(s *step, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.Index(p.running, s)
	if i < 0 { // ended already
		return
	}
	p.running = slices.Delete(p.running, i, i+1)
	took := elapsed(p.now().Sub(s.began))
	var last string
	switch {
	case !p.term.live && err == nil:
		last = fmt.Sprintf("%s ... done (%s)\n", s.name, took)
	case !p.term.live:
		last = fmt.Sprintf("%s ... failed (%s)\n", s.name, took)
	case err == nil:
		last = fmt.Sprintf("%s %s (%s)\n", p.paint(green, "✓"), s.name, took)
	default:
		last = fmt.Sprintf("%s %s (%s)\n", p.paint(red, "✗"), s.name, took)
	}
	p.write(p.erase() + last + p.draw())
}

const (
	green = "32"
	red   = "31"
	faint = "2"
)

func (p *Progress) paint(color, text string) string {
	if !p.term.color {
		return text
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}

// redraw draws the live lines anew; where there is no terminal it does nothing.
func (p *Progress) redraw() { p.write(p.erase() + p.draw()) }

// erase moves the cursor up over the live lines and clears them.
func (p *Progress) erase() string {
	if p.drawn == 0 {
		return ""
	}
	up := fmt.Sprintf("\x1b[%dA\r\x1b[J", p.drawn)
	p.drawn = 0
	return up
}

// draw gives a line for each running step, none wider than the terminal: a wrapped line could not be erased.
func (p *Progress) draw() string {
	if !p.term.live || p.closed {
		return ""
	}
	width := p.term.width()
	if width <= 0 {
		width = 80
	}
	var b strings.Builder
	for _, s := range p.running {
		head := fmt.Sprintf("• %s (%s)", s.name, elapsed(p.now().Sub(s.began)))
		head = cut(head, width-1)
		b.WriteString(head)
		b.WriteString(p.paint(faint, cut(s.detail(p.now()), width-1-len([]rune(head)))))
		b.WriteString("\n")
	}
	p.drawn = len(p.running)
	return b.String()
}

// write ignores errors: where talk cannot be heard, the work goes on.
func (p *Progress) write(s string) {
	if s != "" {
		_, _ = io.WriteString(p.out, s)
	}
}

// cut shortens s to n columns.
func cut(s string, n int) string {
	if runes := []rune(s); len(runes) > n {
		if n <= 0 {
			return ""
		}
		return string(runes[:n-1]) + "…"
	}
	return s
}

// elapsed is a duration as a person says it: 0.3s, 12.0s, 2m05s.
func elapsed(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	d = d.Round(time.Second)
	return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
}
