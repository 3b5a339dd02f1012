package audit

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"time"

	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sync/errgroup"
)

// leaves are the hashes of some consecutive entries.
type leaves struct {
	hashes   []tlog.Hash
	times    []time.Time // of each; zero if the entry is malformed
	findings []Finding
	prunings []prunedBy // recorded by them
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

// hashSegments hashes and, unless told not to, checks the entries of segments that a
// node wrote.
func hashSegments(node string, checkToo bool, segments []Segment) leaves {
	var lines [][]byte
	r := newEntryReader(node)
	n := 0
	for _, s := range segments {
		n += max(0, min(s.Count, len(s.Body)))
	}
	l := leaves{hashes: make([]tlog.Hash, 0, n)}
	if checkToo {
		l.times = make([]time.Time, 0, n)
	}
	for _, s := range segments {
		var err error
		if lines, err = appendLines(lines, s.Body, s.Count); err != nil {
			lines = looseLines(s.Body)
			l.findings = append(l.findings, segmentFinding(s, int64(len(lines)), err))
		}
		for i, line := range lines {
			l.hashes = append(l.hashes, LeafHash(line))
			if !checkToo {
				continue
			}
			at, e, err := r.read(line)
			if err != nil {
				seq := s.First + int64(i)
				l.findings = append(l.findings, Finding{Kind: KindMalformedEntry, Seq: seq, Count: 1, Message: fmt.Sprintf("entry %d: %v", seq, err)})
			}
			if e != nil && e.Op == OpLogPrune && e.Outcome == Allowed {
				l.prunings = append(l.prunings, prunedBy{s.First + int64(i), e.Resource.Reference, e.Detail})
			}
			l.times = append(l.times, at)
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
