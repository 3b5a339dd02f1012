package siem

import (
	"slices"
	"strings"
	"testing"
)

// TestPrunedEntriesAreNoHole: a delivery that begins later gets what is left, and one
// that has missed something is told where that is.
func TestPrunedEntriesAreNoHole(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(t *testing.T, m *memLog)
		from   int64
		absent bool
		hole   string
		events bool
	}{
		"pruned before it began": {func(t *testing.T, m *memLog) { m.prune(t, 4) }, 0, true, "", true},
		"all of it":              {func(t *testing.T, m *memLog) { m.prune(t, len(m.segments)) }, 0, true, "", false},
		"pruned under it":        {func(t *testing.T, m *memLog) { m.prune(t, 4) }, 2, false, "were pruned before they were delivered: they are in the archive of 20", true},
		"more is missing": {func(t *testing.T, m *memLog) {
			m.prune(t, 4)
			m.segments = m.segments[1:]
		}, 0, false, "are missing", true},
		"a hole behind": {func(t *testing.T, m *memLog) {
			m.prune(t, 2)
			m.segments = slices.Delete(m.segments, 2, 3)
		}, 0, true, "are missing", true},
	} {
		log := newMemLog(t, "node-1")
		log.add(t, 40)
		c.change(t, log)
		got, err := readLog(t.Context(), log, log.origin, c.from, 40, FilterAll, 100, 1<<20)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		holes := strings.Join(got.holes, "\n")
		if (got.absent != "") != c.absent || (holes == "") != (c.hole == "") || !strings.Contains(holes, c.hole) || !got.blind || got.end != 40 || (len(got.events) > 0) != c.events {
			t.Errorf("%s: absent %q, holes %q, blind %v, up to %d, %d events", name, got.absent, holes, got.blind, got.end, len(got.events))
		}
	}
}
