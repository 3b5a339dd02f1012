package retention_test

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"testing"
	"time"

	"cardea/internal/audit"
	"cardea/internal/secret"
)

// memLog is a source in memory of logs that are written as the store does.
type memLog struct {
	names []string
	logs  map[string]*oneLog
}

type oneLog struct {
	segments    []audit.Segment
	tiles       []audit.Tile
	checkpoints [][]byte
	prunings    [][]byte
	tree        *audit.Tree
	signer      *audit.Signer
	verifier    string
}

func newMemLog(t testing.TB, origins ...string) *memLog {
	t.Helper()
	m := &memLog{logs: map[string]*oneLog{}}
	for _, origin := range origins {
		key, verifier, err := audit.GenerateSigningKey(origin)
		if err != nil {
			t.Fatal(err)
		}
		m.names = append(m.names, origin)
		m.logs[origin] = &oneLog{tree: audit.NewTree(), signer: newSigner(t, key), verifier: verifier}
	}
	slices.Sort(m.names)
	return m
}

func newSigner(t testing.TB, key secret.Bytes) *audit.Signer {
	t.Helper()
	s, err := audit.NewSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (m *memLog) verifiers() (all []string) {
	for _, l := range m.logs {
		all = append(all, l.verifier)
	}
	return all
}

// entry is one that the store would have.
func entry(node string, n int, at time.Time) audit.Entry {
	return audit.Entry{
		ID: fmt.Sprintf("%08x-0000-7000-8000-%012x", n, n), Time: at, Node: node, Who: audit.Actor{Type: "operator", Name: "alice", Auth: "internal"},
		Op: "card.retrieve", PCI: "10.2.1.1", Resource: audit.Resource{Kind: "card", Merchant: "shop", Reference: fmt.Sprint("ref-", n)}, Outcome: audit.Allowed, Result: "released", Tenant: "acme",
	}
}

// commit writes a segment, and a checkpoint after it.
func (m *memLog) commit(t testing.TB, origin string, at time.Time, entries ...audit.Entry) {
	t.Helper()
	sealed := make([]audit.Sealed, len(entries))
	for i, e := range entries {
		s, err := e.Seal()
		if err != nil {
			t.Fatal(err)
		}
		sealed[i] = s
	}
	m.commitSealed(t, origin, at, sealed...)
}

func (m *memLog) commitSealed(t testing.TB, origin string, at time.Time, sealed ...audit.Sealed) {
	t.Helper()
	l := m.logs[origin]
	first := l.tree.Size()
	for _, s := range sealed {
		if err := l.tree.Append(s.Hash); err != nil {
			t.Fatal(err)
		}
	}
	l.segments = append(l.segments, audit.Segment{First: first, Count: len(sealed), Body: audit.EncodeSegment(sealed)})
	l.tiles = append(l.tiles, l.tree.TakeTiles()...)
	note, err := l.signer.Sign(audit.Checkpoint{Origin: origin, Size: l.tree.Size(), Root: l.tree.Root(), Time: at})
	if err != nil {
		t.Fatal(err)
	}
	l.checkpoints = append(l.checkpoints, note)
}

// Logs implements audit.Source, as the rest does.
func (m *memLog) Logs(context.Context) ([]string, error) { return m.names, nil }

func (m *memLog) Head(_ context.Context, origin string) (audit.Head, error) {
	l := m.logs[origin]
	if l == nil {
		return audit.Head{}, nil
	}
	return audit.Head{Size: l.tree.Size(), Root: l.tree.Root()}, nil
}

func (m *memLog) Segments(_ context.Context, origin string, from int64) iter.Seq2[audit.Segment, error] {
	return func(yield func(audit.Segment, error) bool) {
		for _, s := range m.logs[origin].segments {
			if s.First+int64(s.Count) > from && !yield(s, nil) {
				return
			}
		}
	}
}

func (m *memLog) Tiles(_ context.Context, origin string) iter.Seq2[audit.Tile, error] {
	return func(yield func(audit.Tile, error) bool) {
		tiles := slices.Clone(m.logs[origin].tiles)
		slices.SortStableFunc(tiles, func(a, b audit.Tile) int { return a.Level - b.Level })
		for _, x := range tiles {
			if !yield(x, nil) {
				return
			}
		}
	}
}

func (m *memLog) Prunings(_ context.Context, origin string) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for _, p := range m.logs[origin].prunings {
			if !yield(p, nil) {
				return
			}
		}
	}
}

func (m *memLog) Checkpoints(_ context.Context, origin string) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for _, c := range m.logs[origin].checkpoints {
			if !yield(c, nil) {
				return
			}
		}
	}
}
