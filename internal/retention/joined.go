package retention

import (
	"context"
	"iter"

	"cardea/internal/audit"
)

// Joined is logs as they are stored, with the entries that were pruned read from an
// archive: for reading. Verification reads each by itself, see audit.VerifyOptions.
type Joined struct {
	audit.Source
	Archive *Restored
}

// Segments implements audit.Source.
func (j Joined) Segments(ctx context.Context, origin string, from int64) iter.Seq2[audit.Segment, error] {
	return func(yield func(audit.Segment, error) bool) {
		absent, err := audit.AbsentOf(ctx, j.Source, origin)
		if err != nil {
			yield(audit.Segment{}, err)
			return
		}
		if from < absent.Before {
			for s, err := range j.Archive.Segments(ctx, origin, from) {
				if err == nil && s.First >= absent.Before {
					break
				}
				if !yield(s, err) || err != nil {
					return
				}
			}
		}
		for s, err := range j.Source.Segments(ctx, origin, max(from, absent.Before)) {
			if !yield(s, err) || err != nil {
				return
			}
		}
	}
}
