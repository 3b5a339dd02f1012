package retention

import (
	"context"
	"fmt"
	"time"

	"cardea/internal/audit"
)

// ClockSlack is how far the times of entries may run backwards in a log without
// being missed.
const ClockSlack = time.Hour

// From gives the number of an entry such that those before it are older than at, so
// that a long log need not be read from its beginning. It looks at a few dozen
// segments. A log whose clock ran backwards by more than ClockSlack may have
// younger ones among them.
func From(ctx context.Context, src audit.Source, origin string, at time.Time) (int64, error) {
	head, err := src.Head(ctx, origin)
	if err != nil {
		return 0, fmt.Errorf("read head of %s: %w", origin, err)
	}
	at = at.Add(-ClockSlack)
	low, high := int64(0), head.Size // the entries before low are old
	for low < high {
		middle := low + (high-low)/2
		first, after, old, err := segmentAt(ctx, src, origin, middle, at)
		switch {
		case err != nil:
			return 0, err
		case old:
			low = max(after, middle+1)
		default:
			high = min(first, middle)
		}
	}
	return low, nil
}

// segmentAt looks at the segment that holds entry n, or at the next there is. What
// has no time that can be read is not old.
func segmentAt(ctx context.Context, src audit.Source, origin string, n int64, at time.Time) (first, after int64, old bool, err error) {
	for s, err := range src.Segments(ctx, origin, n) {
		if err != nil {
			return 0, 0, false, fmt.Errorf("read entries of %s: %w", origin, err)
		}
		lines, err := audit.SplitSegment(s.Body, s.Count)
		if err != nil {
			return s.First, 0, false, nil //nolint:nilerr // damage is for whoever reads it
		}
		e, err := audit.Decode(lines[len(lines)-1])
		if err != nil {
			return s.First, 0, false, nil //nolint:nilerr // as above
		}
		return s.First, s.First + int64(s.Count), e.Time.Before(at), nil
	}
	return n, n, false, nil
}
