package collect_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cardea/internal/audit"
	"cardea/internal/collect"
)

// entries are audit logs in memory, by origin; of the Source only what is read.
type entries struct {
	audit.Source
	logs map[string][]audit.Segment
	fail error
}

func (e *entries) Logs(context.Context) ([]string, error) {
	var names []string
	for name := range e.logs {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, e.fail
}

func (e *entries) Segments(_ context.Context, origin string, from int64) iter.Seq2[audit.Segment, error] {
	return func(yield func(audit.Segment, error) bool) {
		for _, s := range e.logs[origin] {
			if s.First+int64(s.Count) > from && !yield(s, nil) {
				return
			}
		}
	}
}

// add adds a segment with an entry for each minute after start.
func (e *entries) add(t *testing.T, node string, minutes ...int) {
	t.Helper()
	origin := "cardea/" + node
	var sealed []audit.Sealed
	for _, m := range minutes {
		entry := audit.Entry{
			ID: fmt.Sprintf("019a9b3c-5d2e-7f10-8a4b-%012x", m), Time: start.Add(time.Duration(m) * time.Minute), Node: node, RequestID: "r",
			Who: audit.Actor{Type: "tenant", Name: "acme", Auth: "jws"}, Tenant: "acme", Op: "card.retrieve", PCI: "10.2.1.1", Outcome: audit.Allowed, Result: "found",
		}
		s, err := entry.Seal()
		ok(t, err)
		sealed = append(sealed, s)
	}
	e.segment(origin, len(minutes), audit.EncodeSegment(sealed))
}

func (e *entries) segment(origin string, count int, body []byte) {
	first := int64(0)
	for _, s := range e.logs[origin] {
		first += int64(s.Count)
	}
	e.logs[origin] = append(e.logs[origin], audit.Segment{First: first, Count: count, Body: body})
}

func minutesOf(ids []string) (list []int) {
	for _, id := range ids {
		var m int
		fmt.Sscanf(id[strings.LastIndexByte(id, '-')+1:], "%x", &m)
		list = append(list, m)
	}
	return list
}

func TestLogsAreReadInTheOrderOfTimeAndOn(t *testing.T) {
	t.Parallel()
	e := &entries{logs: map[string][]audit.Segment{}}
	e.add(t, "a", 1, 4, 5)
	e.add(t, "b", 2, 3, 9)
	e.segment("cardea/a", 2, []byte("not two lines\n"))
	e.add(t, "a", 7)
	state := t.TempDir()
	now := &clock{start}
	open := func() *collect.Logs {
		l, err := collect.OpenLogs(collect.LogsOptions{Options: collect.Options{State: state, Now: now.now, Batch: 3}, Name: "own", Source: e})
		ok(t, err)
		return l
	}
	l := open()
	first, err := l.Next(t.Context())
	ok(t, err)
	second, err := l.Next(t.Context())
	ok(t, err)
	if len(first.Events) != 3 || len(second.Events) != 3 {
		t.Fatalf("%d and %d events", len(first.Events), len(second.Events))
	}
	ok(t, first.Ack(t.Context()))
	l = open() // what was not acknowledged comes again
	if got := minutesOf(drain(t, l, true)); !slices.Equal(got, []int{4, 5, 7, 9}) {
		t.Errorf("got %v", got)
	}
	if s := l.Status(); s.Skipped != 1 || s.Events != 4 || !s.LastSuccess.Equal(start) {
		t.Errorf("%+v", s)
	}
	e.add(t, "b", 11)
	e.add(t, "c", 10)
	if got := minutesOf(drain(t, open(), true)); !slices.Equal(got, []int{10, 11}) {
		t.Errorf("got %v", got)
	}
	e.segment("cardea/c", 1, []byte("{}\n")) // the last is no entry: passed over, once
	l = open()
	equal(t, drain(t, l, true), nil, "no entry")
	if _, err := l.Next(t.Context()); !errors.Is(err, io.EOF) || l.Status().Skipped != 1 {
		t.Errorf("%v, %+v", err, l.Status())
	}
	e.fail = errors.New("the database is gone")
	if _, err := l.Next(t.Context()); !errors.Is(err, e.fail) || l.Status().LastError != "the database is gone" {
		t.Errorf("%v, %+v", err, l.Status())
	}
	ok(t, os.WriteFile(filepath.Join(state, "logs.json"), []byte(`{"v":9}`), 0o600))
	if _, err := collect.OpenLogs(collect.LogsOptions{Options: collect.Options{State: state, Now: now.now}, Source: e}); err == nil || !strings.HasSuffix(err.Error(), "is of a newer release (version 9)") {
		t.Errorf("got %v", err)
	}
}
