package audit

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sync/errgroup"
)

// leaves are the hashes of some consecutive entries.
type leaves struct {
	hashes   []tlog.Hash
	times    []time.Time // of each; zero if the entry is malformed
	findings []Finding
}

// jobBytes is how much of the segments is hashed at a time by one worker.
const jobBytes = 64 << 10

// hashLeaves gives the leaves of all segments in order, hashed by work on several
// goroutines; it holds a few jobBytes and segments in memory. The goroutines have
// ended when the sequence has.
func hashLeaves(ctx context.Context, segments iter.Seq2[Segment, error], workers int, work func([]Segment) leaves) iter.Seq2[leaves, error] {
	type job struct {
		segments []Segment
		done     chan leaves
	}
	return func(yield func(leaves, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		g, ctx := errgroup.WithContext(ctx)
		jobs := make(chan job)
		order := make(chan job, 2*workers) // the same jobs, for reading in order
		g.Go(func() error {
			defer close(order)
			defer close(jobs)
			var next []Segment
			size := 0
			flush := func() error {
				j := job{segments: next, done: make(chan leaves, 1)}
				for _, to := range []chan<- job{order, jobs} {
					select {
					case to <- j:
					case <-ctx.Done():
						return ctx.Err()
					}
				}
				next, size = nil, 0
				return nil
			}
			for s, err := range segments {
				if err != nil {
					return err
				}
				next = append(next, s)
				if size += len(s.Body); size >= jobBytes {
					if err := flush(); err != nil {
						return err
					}
				}
			}
			return flush()
		})
		for range workers {
			g.Go(func() error {
				for j := range jobs {
					j.done <- work(j.segments)
				}
				return nil
			})
		}
		stopped := false
		for j := range order {
			select {
			case l := <-j.done:
				if !stopped && !yield(l, nil) {
					stopped = true
					cancel()
				}
			case <-ctx.Done():
			}
		}
		if err := g.Wait(); err != nil && !stopped {
			yield(leaves{}, err)
		}
	}
}

// hashSegments hashes and, unless told not to, decodes the entries of segments
// that a node wrote.
func hashSegments(node string, decodeToo bool, segments []Segment) leaves {
	var l leaves
	var buf []byte
	for _, s := range segments {
		lines, err := SplitSegment(s.Body, s.Count)
		if err != nil {
			lines = looseLines(s.Body)
			l.findings = append(l.findings, segmentFinding(s, int64(len(lines)), err))
		}
		l.hashes = slices.Grow(l.hashes, len(lines))
		for i, line := range lines {
			l.hashes = append(l.hashes, LeafHash(line))
			if !decodeToo {
				continue
			}
			var e Entry
			e, buf, err = decode(line, buf)
			if err == nil && e.Node != node {
				err = fmt.Errorf("%w: it is of node %s", ErrMalformedEntry, e.Node)
			}
			if err != nil {
				seq := s.First + int64(i)
				e.Time = time.Time{}
				l.findings = append(l.findings, Finding{Kind: KindMalformedEntry, Seq: seq, Count: 1, Message: fmt.Sprintf("entry %d: %v", seq, err)})
			}
			l.times = append(l.times, e.Time)
		}
	}
	return l
}

// looseLines splits what SplitSegment refuses.
func looseLines(body []byte) [][]byte {
	if len(body) == 0 {
		return nil
	}
	return bytes.Split(bytes.TrimSuffix(body, []byte("\n")), []byte("\n"))
}

// segmentFinding says what a wrong number of lines in a segment means.
func segmentFinding(s Segment, lines int64, err error) Finding {
	count := int64(s.Count)
	switch {
	case lines < count:
		return Finding{
			Kind: KindDeleted, Seq: s.First, Count: count - lines, span: count,
			Message: fmt.Sprintf("the segment of %s has only %d of them", entries(s.First, count), lines),
		}
	case lines > count:
		return Finding{
			Kind: KindInserted, Seq: s.First, Count: lines - count, span: count + 1,
			Message: fmt.Sprintf("the segment of %s has %d lines", entries(s.First, count), lines),
		}
	}
	return Finding{
		Kind: KindMalformedEntry, Seq: s.First, Count: count,
		Message: fmt.Sprintf("the segment of %s: %v", entries(s.First, count), err),
	}
}
