package audit

import (
	"context"
	"fmt"
	"iter"
	"time"
)

// Filter chooses entries. Every field that is not zero must match.
type Filter struct {
	Since     time.Time // at this time or after
	Until     time.Time // before this time
	Tenant    string
	Op        string
	Outcome   Outcome
	Reference string
	RequestID string
	Who       string // the actor's name
}

// Match reports whether the filter chooses the entry. Free texts are looked for
// as an entry has them: cut, and with card numbers masked.
func (f Filter) Match(e Entry) bool {
	free := func(want, have string, maxLen int) bool {
		if want == "" || want == have {
			return true
		}
		return !isPlain(want, maxLen) && clean(want, maxLen) == have
	}
	switch {
	case !f.Since.IsZero() && e.Time.Before(f.Since),
		!f.Until.IsZero() && !e.Time.Before(f.Until),
		f.Op != "" && f.Op != e.Op,
		f.Outcome != "" && f.Outcome != e.Outcome:
		return false
	}
	return free(f.Tenant, e.Tenant, maxShort) && free(f.RequestID, e.RequestID, maxShort) &&
		free(f.Reference, e.Resource.Reference, maxName) && free(f.Who, e.Who.Name, maxName)
}

// Numbered is an entry with its number in its log, and its line.
type Numbered struct {
	Seq   int64
	Entry Entry
	Line  []byte
}

// Entries gives the entries of a log from a number on. For what is not an entry it
// gives an ErrMalformedEntry or ErrMalformedSegment and goes on after it; after
// any other error it ends. It verifies nothing.
func Entries(ctx context.Context, src Source, origin string, from int64) iter.Seq2[Numbered, error] {
	return func(yield func(Numbered, error) bool) {
		for s, err := range src.Segments(ctx, origin, from) {
			if err != nil {
				yield(Numbered{}, fmt.Errorf("read entries of %s: %w", origin, err))
				return
			}
			lines, err := SplitSegment(s.Body, s.Count)
			if err != nil && !yield(Numbered{Seq: s.First}, fmt.Errorf("entries from %d on: %w", s.First, err)) {
				return
			}
			for i, line := range lines {
				n := Numbered{Seq: s.First + int64(i), Line: line}
				if n.Seq < from {
					continue
				}
				if n.Entry, err = Decode(line); err != nil {
					err = fmt.Errorf("entry %d: %w", n.Seq, err)
				}
				if !yield(n, err) {
					return
				}
			}
		}
	}
}
