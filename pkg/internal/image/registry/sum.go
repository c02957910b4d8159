package registry

import (
	"sync"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// Sum lets several uploads at a time report to one step: it adds up their bytes.
type Sum struct {
	step progress.Step

	mu    sync.Mutex
	parts []*part
}

// NewSum reports to step.
func NewSum(step progress.Step) *Sum { return &Sum{step: step} }

// Part is the step of one of the uploads. Ending it ends nothing.
func (s *Sum) Part() progress.Step {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &part{sum: s}
	s.parts = append(s.parts, p)
	return p
}

type part struct {
	sum      *Sum
	n, total int64
}

func (p *part) Note(text string) { p.sum.step.Note(text) }
func (*part) End(error)          {}

func (p *part) Bytes(n, total int64) {
	p.sum.mu.Lock()
	defer p.sum.mu.Unlock()
	p.n, p.total = n, total
	var all, of int64
	for _, other := range p.sum.parts {
		all += other.n
		of += other.total
	}
	p.sum.step.Bytes(all, of)
}
