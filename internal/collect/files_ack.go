package collect

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

func (f *files) step(s step) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.steps = append(f.steps, s)
	if s.done {
		f.ahead[s.file.mark()] = struct{}{}
	}
}

// fail notes that a file could not be read. It is tried again, later each time.
func (f *files) fail(x file, err error) {
	b := f.bad[x.name]
	if b.Version != x.version || b.Tries == 0 {
		b = failed{Version: x.version, Grows: x.grows, Since: f.now().UTC()}
	}
	b.Tries++
	b.Error = err.Error()
	b.Again = f.now().Add(min(firstRetry<<min(b.Tries-1, 10), lastRetry)).UTC()
	if _, there := f.bad[x.name]; !there && len(f.bad) >= maxFailed {
		return // found again in the next round
	}
	f.bad[x.name] = b
	f.findings()
	f.step(step{file: x, failed: &b})
}

// findings lists what could not be read for long.
func (f *files) findings() {
	var list []Finding
	for name, b := range f.bad {
		if b.Tries >= maxTries {
			list = append(list, Finding{Name: name, Error: b.Error, Since: b.Since})
		}
	}
	for name, g := range f.growing {
		if g.Offset < g.Size && f.now().Sub(g.Since) > stuckAfter {
			name, _, _ := strings.Cut(name, rotated)
			list = append(list, Finding{Name: name, Error: fmt.Sprintf("ends in the middle of a record since byte %d", g.Offset), Since: g.Since})
		}
	}
	slices.SortFunc(list, func(a, b Finding) int { return cmp.Compare(a.Name, b.Name) })
	f.set(func(s *Status) { s.Findings = list })
}

// acked makes durable what the batches up to a number did.
func (f *files) acked(number int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	var done []uint64
	for n < len(f.steps) && f.steps[n].number != 0 && f.steps[n].number <= number {
		s := f.steps[n]
		delete(f.saved.Failed, s.file.name)
		switch {
		case s.failed != nil:
			f.saved.Failed[s.file.name] = *s.failed
		case s.growing != nil:
			f.saved.Growing[s.file.name] = *s.growing
		case s.forget:
			delete(f.saved.Growing, s.file.name)
		case s.done:
			delete(f.saved.Growing, s.file.name)
			done = append(done, s.file.mark())
			f.l.placed(s.file)
		}
		n++
	}
	if n == 0 {
		return nil
	}
	if err := f.done.add(done); err != nil {
		return err
	}
	f.saved.Progress = f.l.progress()
	if err := saveJSON(f.path(), f.saved); err != nil {
		return err
	}
	for _, m := range done {
		delete(f.ahead, m)
	}
	f.steps = f.steps[n:]
	if f.cleanup != nil && len(f.steps) == 0 && len(f.done.set) > 2*len(f.cleanup)+1000 {
		if err := f.done.keep(f.cleanup); err != nil {
			return err
		}
	}
	f.cleanup = nil
	return nil
}
