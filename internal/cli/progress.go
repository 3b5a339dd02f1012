package cli

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"golang.org/x/term"
)

// progress is one line on a terminal that is written over; where standard error
// is no terminal, it is silent.
type progress struct {
	w        io.Writer
	what     string
	unit     string
	now      func() time.Time
	start    time.Time
	lastShow time.Time
}

func newProgress(p *Process, what, unit string) *progress {
	b := &progress{what: what, unit: unit, now: p.Now, start: p.Now()}
	if f, ok := p.Stderr.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		b.w = f
	}
	return b
}

// set shows done of total, at most ten times a second.
func (b *progress) set(done, total int64) {
	now := b.now()
	if b.w == nil || total == 0 || now.Sub(b.lastShow) < 100*time.Millisecond {
		return
	}
	b.lastShow = now
	left := "?"
	if done > 0 {
		left = time.Duration(float64(now.Sub(b.start)) / float64(done) * float64(total-done)).Round(time.Second).String()
	}
	fmt.Fprintf(b.w, "\r\033[K%s %3d %%  %d of %d %s, %s left", b.what, done*100/total, done, total, b.unit, left)
}

// finish clears the line.
func (b *progress) finish() {
	if b.w != nil {
		fmt.Fprint(b.w, "\r\033[K")
	}
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
