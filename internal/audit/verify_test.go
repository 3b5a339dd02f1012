package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

// verifyLog verifies one log, with kept checkpoints.
func verifyLog(t testing.TB, l *memLog, key *Signer, kept ...[]byte) LogReport {
	t.Helper()
	r, err := Verify(t.Context(), sourceOf(l), VerifyOptions{Verifiers: []string{key.Verifier()}, Kept: kept})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Logs) != 1 {
		t.Fatalf("got %d logs, want 1", len(r.Logs))
	}
	return r.Logs[0]
}

// brief is findings for comparison: kind, sequence number and count of each.
func brief(findings []Finding) string {
	var out []string
	for _, f := range findings {
		out = append(out, fmt.Sprintf("%s %d+%d", f.Kind, f.Seq, f.Count))
	}
	return strings.Join(out, ", ")
}

func messages(findings []Finding) string {
	var out []string
	for _, f := range findings {
		out = append(out, string(f.Kind)+": "+f.Message)
	}
	return strings.Join(out, "\n")
}

func TestSoundLogsHaveNoFindings(t *testing.T) {
	t.Parallel()
	for _, n := range []int64{0, 1, 2, 99, 255, 256, 257, 700, 2049, TileWidth*TileWidth + 300} {
		w := newLog(t, n)
		unsigned := n % 7
		w.write(t, unsigned)
		r := verifyLog(t, w.memLog, w.key)
		if len(r.Findings) > 0 || len(r.Notes) > 0 {
			t.Fatalf("%d entries: %s", n, messages(append(r.Findings, r.Notes...)))
		}
		want := LogReport{
			Origin: "cardea/node-1", Entries: n + unsigned, Root: w.head.Root.String(), Checkpoints: int64(len(w.checkpoints)),
			Signed: w.lastSigned(t), SignedAt: testTime, UnsignedTail: n + unsigned - w.lastSigned(t), Findings: []Finding{}, Notes: []Finding{},
		}
		if n > 0 {
			want.First, want.Last = testTime, testTime.Add(time.Duration(n+unsigned-1)*10*time.Millisecond)
		}
		if fmt.Sprint(r) != fmt.Sprint(want) {
			t.Errorf("%d entries:\n got %v\nwant %v", n, r, want)
		}
	}
}

func (w *writer) lastSigned(t testing.TB) int64 {
	t.Helper()
	c, err := OpenCheckpoint(w.checkpoints[len(w.checkpoints)-1], w.key.Verifier())
	if err != nil {
		t.Fatal(err)
	}
	return c.Size
}

// editLine changes one byte of an entry's reference.
func editLine(line []byte) []byte {
	return bytes.Replace(line, []byte(`"reference":"ref-`), []byte(`"reference":"Ref-`), 1)
}

// forged is an entry that was never logged.
func forged(t testing.TB, n int64) []byte {
	e := numberedEntry("node-1", 900_000+n)
	e.Time = testTime
	return mustSeal(t, e).Line
}

// TestChangesAreFoundAndLocated: whatever is done to the entries, and whatever
// else is done to hide it short of signing, is found; and as long as the tiles are
// left alone, the finding says what and where.
func TestChangesAreFoundAndLocated(t *testing.T) {
	t.Parallel()
	const n = 1000 // 3 tiles of 256 and 232 entries in none; a checkpoint about every 100
	w := newLog(t, n)
	signed := []int64{} // sizes of checkpoints
	for _, b := range w.checkpoints {
		c, err := OpenCheckpoint(b, w.key.Verifier())
		if err != nil {
			t.Fatal(err)
		}
		signed = append(signed, c.Size)
	}
	// between gives the part that only checkpoints locate entry seq to.
	between := func(seq int64) string {
		i, _ := slices.BinarySearch(signed, seq+1)
		from := int64(0)
		if i > 0 {
			from = signed[i-1]
		}
		return fmt.Sprintf("edited %d+%d", from, signed[i]-from)
	}
	for name, c := range map[string]struct {
		change func(lines [][]byte) [][]byte
		want   string // found when the tiles are as they were
		from   int64  // the first entry that is not what it was
	}{
		"edit": {func(l [][]byte) [][]byte { l[300] = editLine(l[300]); return l }, "edited 300+1", 300},
		"edit two": {func(l [][]byte) [][]byte {
			l[10], l[700] = editLine(l[10]), editLine(l[700])
			return l
		}, "edited 10+1, edited 700+1", 10},
		"edit many": {func(l [][]byte) [][]byte {
			for i := 200; i < 300; i++ {
				l[i] = editLine(l[i])
			}
			return l
		}, "edited 200+100", 200},
		"edit the first":           {func(l [][]byte) [][]byte { l[0] = editLine(l[0]); return l }, "edited 0+1", 0},
		"edit the last in a tile":  {func(l [][]byte) [][]byte { l[767] = editLine(l[767]); return l }, "edited 767+1", 767},
		"edit after all tiles":     {func(l [][]byte) [][]byte { l[768] = editLine(l[768]); return l }, between(768), 768},
		"edit the last":            {func(l [][]byte) [][]byte { l[n-1] = editLine(l[n-1]); return l }, between(n - 1), n - 1},
		"delete":                   {func(l [][]byte) [][]byte { return slices.Delete(l, 300, 301) }, "deleted 300+1", 300},
		"delete many":              {func(l [][]byte) [][]byte { return slices.Delete(l, 100, 600) }, "deleted 100+500", 100},
		"delete the first":         {func(l [][]byte) [][]byte { return slices.Delete(l, 0, 1) }, "deleted 0+1", 0},
		"insert":                   {func(l [][]byte) [][]byte { return slices.Insert(l, 300, forged(t, 1)) }, "inserted 300+1", 300},
		"insert two at the start":  {func(l [][]byte) [][]byte { return slices.Insert(l, 0, forged(t, 1), forged(t, 2)) }, "inserted 0+2", 0},
		"duplicate":                {func(l [][]byte) [][]byte { return slices.Insert(l, 301, l[300]) }, "inserted 301+1", 301},
		"swap neighbours":          {func(l [][]byte) [][]byte { l[40], l[41] = l[41], l[40]; return l }, "reordered 40+2", 40},
		"swap across tiles":        {func(l [][]byte) [][]byte { l[40], l[640] = l[640], l[40]; return l }, "reordered 40+601", 40},
		"reverse":                  {func(l [][]byte) [][]byte { slices.Reverse(l[250:260]); return l }, "reordered 250+10", 250},
		"replace by something new": {func(l [][]byte) [][]byte { l[300] = forged(t, 1); return l }, "edited 300+1", 300},
		"two for one":              {func(l [][]byte) [][]byte { l[300] = forged(t, 1); return slices.Insert(l, 301, forged(t, 2)) }, "edited 300+1, inserted 301+1", 300},
		"one for two":              {func(l [][]byte) [][]byte { l[300] = forged(t, 1); return slices.Delete(l, 301, 302) }, "edited 300+1, deleted 301+1", 300},
		"edit, delete, insert": {func(l [][]byte) [][]byte {
			l[50] = editLine(l[50])
			l = slices.Delete(l, 300, 302)
			return slices.Insert(l, 500, forged(t, 1))
		}, "edited 50+1, deleted 300+2, inserted 502+1", 50},
		"cut off the end": {func(l [][]byte) [][]byte { return l[:900] }, "truncated 900+100", 900},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			for effort := nothingElse; effort <= headTilesRemoval; effort++ {
				l := w.clone()
				l.resegment(c.change(l.lines()))
				l.cover(t, effort)
				r := verifyLog(t, l, w.key, w.checkpoints[len(w.checkpoints)-1])
				if len(r.Findings) == 0 {
					t.Fatalf("effort %d: not found", effort)
				}
				// With tiles, or with a head and no tile, the change itself is named.
				if got := brief(r.Findings); effort == nothingElse && got != c.want {
					t.Errorf("effort %d: got %s, want %s\n%s", effort, got, c.want, messages(r.Findings))
				}
				if effort == head && !strings.HasPrefix(brief(r.Findings), strings.Split(c.want, ",")[0]) {
					t.Errorf("effort %d: got %s, want %s\n%s", effort, brief(r.Findings), c.want, messages(r.Findings))
				}
				if r.Signed > c.from {
					t.Errorf("effort %d: %d entries are said to be signed, but entry %d is not what it was", effort, r.Signed, c.from)
				}
			}
		})
	}
}

// TestNoTamperingGoesUnseen: any few changes, hidden with any effort short of
// signing, are found by who kept the last checkpoint.
func TestNoTamperingGoesUnseen(t *testing.T) {
	t.Parallel()
	w := newLog(t, 600)
	original := w.lines()
	rapid.Check(t, func(rt *rapid.T) {
		l := w.clone()
		lines := l.lines()
		for range rapid.IntRange(1, 4).Draw(rt, "changes") {
			i := rapid.IntRange(0, len(lines)-1).Draw(rt, "at")
			switch rapid.IntRange(0, 5).Draw(rt, "change") {
			case 0:
				lines[i] = editLine(lines[i])
			case 1:
				lines = slices.Delete(lines, i, min(i+1, len(lines)-1)) // never all
			case 2:
				lines = slices.Insert(lines, i, forged(t, int64(i)))
			case 3:
				j := rapid.IntRange(0, len(lines)-1).Draw(rt, "with")
				lines[i], lines[j] = lines[j], lines[i]
			case 4:
				lines = slices.Insert(lines, i, lines[0])
			case 5:
				lines = lines[:max(i, 1)]
			}
		}
		first := 0
		for first < min(len(lines), len(original)) && bytes.Equal(lines[first], original[first]) {
			first++
		}
		if first == len(original) {
			rt.Skip("nothing was changed in the end, or only more was logged") // as by an insertion and an exchange at the end
		}
		l.resegment(lines)
		l.cover(t, rapid.IntRange(nothingElse, headTilesRemoval).Draw(rt, "effort"))
		r := verifyLog(t, l, w.key, w.checkpoints[len(w.checkpoints)-1])
		if len(r.Findings) == 0 {
			rt.Fatal("not found")
		}
		if r.Signed > int64(first) {
			rt.Fatalf("%d entries are said to be signed, but entry %d is not what it was", r.Signed, first)
		}
	})
}

// TestWithoutTilesCheckpointsNarrowItDown: who makes head and tiles fit is found by
// the checkpoints, which say between which of them the change is.
func TestWithoutTilesCheckpointsNarrowItDown(t *testing.T) {
	t.Parallel()
	w := newLog(t, 1000)
	l := w.clone()
	lines := l.lines()
	lines[300] = editLine(lines[300])
	l.resegment(lines)
	l.cover(t, headTiles)
	r := verifyLog(t, l, w.key)
	if len(r.Findings) != 1 || r.Findings[0].Kind != KindEdited || r.Findings[0].Seq > 300 || r.Findings[0].Seq+r.Findings[0].Count <= 300 || r.Findings[0].Count > 150 {
		t.Errorf("got %s", messages(r.Findings))
	}
	if r.Signed > 300 {
		t.Errorf("signed %d", r.Signed)
	}
}

func TestSegmentsThatDoNotFit(t *testing.T) {
	t.Parallel()
	w := newLog(t, 1000)
	at := func(l *memLog, seq int64) int {
		return slices.IndexFunc(l.segments, func(s Segment) bool { return s.First <= seq && seq < s.First+int64(s.Count) })
	}
	early, late := w.segments[at(w.memLog, 300)], w.segments[at(w.memLog, 900)] // late ones have no tile
	for name, c := range map[string]struct {
		change func(l *memLog)
		want   string
	}{
		"segment removed":          {func(l *memLog) { l.segments = slices.Delete(l.segments, at(l, 300), at(l, 300)+1) }, fmt.Sprintf("deleted %d+%d", early.First, early.Count)},
		"late segment removed":     {func(l *memLog) { l.segments = slices.Delete(l.segments, at(l, 900), at(l, 900)+1) }, fmt.Sprintf("deleted %d+%d", late.First, late.Count)},
		"segment doubled":          {func(l *memLog) { l.segments = slices.Insert(l.segments, at(l, 900), l.segments[at(l, 900)]) }, fmt.Sprintf("inserted %d+%d", late.First, late.Count)},
		"line removed":             {func(l *memLog) { cutLine(&l.segments[at(l, 300)], 1) }, fmt.Sprintf("deleted %d+1", early.First+1)},
		"late line removed":        {func(l *memLog) { cutLine(&l.segments[at(l, 900)], 1) }, fmt.Sprintf("deleted %d+1", late.First)},
		"line added":               {func(l *memLog) { addLine(&l.segments[at(l, 300)], forged(t, 1)) }, fmt.Sprintf("inserted %d+1", early.First+int64(early.Count))},
		"late line added":          {func(l *memLog) { addLine(&l.segments[at(l, 900)], forged(t, 1)) }, fmt.Sprintf("inserted %d+1", late.First)},
		"segment moved":            {func(l *memLog) { l.segments[at(l, 900)].First++ }, fmt.Sprintf("deleted %d+1, inserted %d+1", late.First, late.First+int64(late.Count))},
		"body emptied":             {func(l *memLog) { l.segments[at(l, 900)].Body = nil }, fmt.Sprintf("deleted %d+%d", late.First, late.Count)},
		"count of nonsense":        {func(l *memLog) { l.segments[at(l, 900)].Count = -5 }, fmt.Sprintf("deleted %d+%d", late.First, late.Count)},
		"segment after the head":   {func(l *memLog) { l.segments = append(l.segments, Segment{1000, 1, append(forged(t, 1), '\n')}) }, "inserted 1000+0"},
		"newline at the end gone":  {func(l *memLog) { s := &l.segments[at(l, 900)]; s.Body = s.Body[:len(s.Body)-1] }, fmt.Sprintf("malformed_entry %d+%d", late.First, late.Count)},
		"all segments gone":        {func(l *memLog) { l.segments = nil }, "truncated 0+1000"},
		"everything but head gone": {func(l *memLog) { l.segments, l.tiles, l.checkpoints = nil, nil, nil }, "truncated 0+1000"},
	} {
		l := w.clone()
		c.change(l)
		r := verifyLog(t, l, w.key)
		if got := brief(r.Findings); got != c.want {
			t.Errorf("%s: got %s, want %s\n%s", name, got, c.want, messages(r.Findings))
		}
	}
}

func cutLine(s *Segment, i int) {
	lines := looseLines(s.Body)
	lines = slices.Delete(lines, i, i+1)
	s.Body = append(bytes.Join(lines, []byte("\n")), '\n')
}

func addLine(s *Segment, line []byte) { s.Body = append(append(s.Body, line...), '\n') }

// TestSignedEntriesAreNotBlamed: where a signed stretch with a wrong tile is followed
// by changed entries, only those that are not proved are called edited.
func TestSignedEntriesAreNotBlamed(t *testing.T) {
	t.Parallel()
	w := newLog(t, 600)
	l := w.clone()
	last, err := OpenCheckpoint(w.checkpoints[2], w.key.Verifier())
	if err != nil || last.Size < TileWidth+3 || last.Size >= 2*TileWidth {
		t.Fatal(last, err) // it is to end within the second tile
	}
	l.checkpoints = l.checkpoints[:3]
	for i := last.Size - 3; i < last.Size; i++ {
		l.tiles[1].Data[(i-TileWidth)*tlog.HashSize] ^= 1
	}
	lines := l.lines()
	lines[last.Size] = editLine(lines[last.Size])
	l.resegment(lines)
	r := verifyLog(t, l, w.key)
	if got, want := brief(r.Findings), fmt.Sprintf("edited %d+1", last.Size); r.Signed != last.Size || got != want {
		t.Errorf("%d signed, got %s, want %s", r.Signed, messages(r.Findings), want)
	}
}

func TestMalformedEntries(t *testing.T) {
	t.Parallel()
	w := newWriter(t, "node-1")
	w.write(t, 10)
	// Entries that the node itself logged, and signed, but that are none.
	foreign := mustSeal(t, numberedEntry("node-2", 11))
	notJSON := Sealed{Line: []byte("not an entry"), Hash: LeafHash([]byte("not an entry"))}
	w.commit(t, []Sealed{notJSON, foreign})
	w.sign(t)
	r := verifyLog(t, w.memLog, w.key)
	if got, want := brief(r.Findings), "malformed_entry 10+1, malformed_entry 11+1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if m := messages(r.Findings); !strings.Contains(m, "entry 10: malformed audit entry: at byte 0") || !strings.Contains(m, "entry 11: malformed audit entry: it is of node node-2") {
		t.Errorf("got %s", m)
	}
}

func TestCheckpointFindings(t *testing.T) {
	t.Parallel()
	w := newLog(t, 500)
	stranger := newWriter(t, "node-1")
	stranger.head = w.head
	other := newWriter(t, "node-2")
	other.head = w.head
	last := len(w.checkpoints) - 1
	for name, c := range map[string]struct {
		change func(l *memLog)
		want   string
	}{
		"signed by a stranger": {func(l *memLog) { l.checkpoints[last] = stranger.signed(t) }, "unknown_key 500+0"},
		"of another log":       {func(l *memLog) { l.checkpoints[last] = other.signed(t) }, "malformed_checkpoint 500+0"},
		"wrong signature":      {func(l *memLog) { spoilSignature(l.checkpoints[last]) }, "bad_signature 402+0"},
		"edited": {func(l *memLog) {
			l.checkpoints[last] = bytes.Replace(l.checkpoints[last], []byte("\n500\n"), []byte("\n501\n"), 1)
		}, "bad_signature 402+0"},
		"rubbish":               {func(l *memLog) { l.checkpoints[last] = []byte("rubbish") }, "malformed_checkpoint 402+0"},
		"out of order":          {func(l *memLog) { l.checkpoints[0], l.checkpoints[1] = l.checkpoints[1], l.checkpoints[0] }, "malformed_checkpoint 107+0"},
		"only a stranger's":     {func(l *memLog) { l.checkpoints = [][]byte{stranger.signed(t)} }, "unknown_key 500+0, unsigned 0+500"},
		"all removed":           {func(l *memLog) { l.checkpoints = nil }, "unsigned 0+500"},
		"some removed":          {func(l *memLog) { l.checkpoints = l.checkpoints[2:] }, ""},
		"of more than there is": {func(l *memLog) { l.head = Head{0, NewTree().Root()}; l.segments, l.tiles = nil, nil }, "truncated 0+500"},
	} {
		l := w.clone()
		c.change(l)
		r, err := Verify(t.Context(), sourceOf(l), VerifyOptions{Verifiers: []string{w.key.Verifier(), other.key.Verifier()}, Origins: []string{l.origin}})
		if err != nil {
			t.Fatal(err)
		}
		if got := brief(r.Logs[0].Findings); got != c.want {
			t.Errorf("%s: got %s, want %s\n%s", name, got, c.want, messages(r.Logs[0].Findings))
		}
	}
}

// spoilSignature changes six bits of a signature, and leaves it base64.
func spoilSignature(signed []byte) {
	if at := len(signed) - 10; signed[at] == 'A' {
		signed[at] = 'B'
	} else {
		signed[at] = 'A'
	}
}

func TestKeptCheckpointsShowRollbackAndFork(t *testing.T) {
	t.Parallel()
	w := newLog(t, 300)
	before := w.clone()
	w.write(t, 100)
	w.sign(t)
	kept := w.signed(t)
	if r := verifyLog(t, w.memLog, w.key, kept, before.checkpoints[0]); len(r.Findings) > 0 || r.Checkpoints != int64(len(w.checkpoints))+2 {
		t.Errorf("kept checkpoints of this log: %d good, %s", r.Checkpoints, messages(r.Findings))
	}
	// Restored from a backup.
	r := verifyLog(t, before, w.key, kept)
	if got, want := brief(r.Findings), "rollback 300+100"; got != want {
		t.Errorf("restored: got %s, want %s", got, want)
	}
	// Restored and written on, properly signed.
	fork := newWriter(t, "node-1")
	fork.key = w.key
	fork.write(t, 300)
	e := numberedEntry("node-1", 300)
	e.Detail = "another history"
	fork.commit(t, []Sealed{mustSeal(t, e)})
	fork.write(t, 199)
	fork.sign(t)
	r = verifyLog(t, fork.memLog, w.key, kept)
	if got, want := brief(r.Findings), "fork 400+0"; got != want {
		t.Errorf("forked: got %s, want %s\n%s", got, want, messages(r.Findings))
	}
	// Both histories' checkpoints in one log.
	both := fork.clone()
	both.checkpoints = slices.Insert(both.checkpoints, 3, kept)
	r = verifyLog(t, both, w.key)
	if got := brief(r.Findings); !strings.Contains(got, "fork 0+400") {
		t.Errorf("both signed: got %s\n%s", got, messages(r.Findings))
	}
	// The log is gone as a whole.
	rep, err := Verify(t.Context(), sourceOf(), VerifyOptions{Verifiers: []string{w.key.Verifier()}, Kept: [][]byte{kept}})
	if err != nil || len(rep.Logs) != 1 || brief(rep.Logs[0].Findings) != "truncated 0+0" || rep.OK() {
		t.Errorf("removed: got %+v, %v", rep, err)
	}
}

func TestTileFindings(t *testing.T) {
	t.Parallel()
	const n = TileWidth*TileWidth + 700
	w := newWriter(t, "node-1")
	w.every = 10_000
	w.write(t, n)
	w.sign(t)
	upper := slices.IndexFunc(w.tiles, func(t Tile) bool { return t.Level == 1 })
	for name, c := range map[string]struct {
		change func(l *memLog)
		want   string
		says   string
	}{
		"one changed":       {func(l *memLog) { l.tiles[2].Data[77] ^= 1 }, "tile_mismatch 512+256", "tile 0/2 is not that of the entries"},
		"one missing":       {func(l *memLog) { l.tiles = slices.Delete(l.tiles, 2, 3) }, "tile_mismatch 512+256", "tile 0/2 is missing"},
		"last missing":      {func(l *memLog) { l.tiles = slices.Delete(l.tiles, upper-1, upper) }, "tile_mismatch 65792+256", "tile 0/257 is missing"},
		"one twice":         {func(l *memLog) { l.tiles = slices.Insert(l.tiles, 2, l.tiles[2]) }, "tile_mismatch 512+256", "tile 0/2 is out of order"},
		"one short":         {func(l *memLog) { l.tiles[2].Data = l.tiles[2].Data[:32] }, "tile_mismatch 512+256", "is not that"},
		"an upper changed":  {func(l *memLog) { l.tiles[upper].Data[77] ^= 1 }, "tile_mismatch 0+65536", "tile 1/0 is not that of the tiles below it"},
		"an upper missing":  {func(l *memLog) { l.tiles = slices.Delete(l.tiles, upper, upper+1) }, "tile_mismatch 0+65536", "tile 1/0 is missing"},
		"one after the end": {func(l *memLog) { l.tiles = append(l.tiles, Tile{1, 1, make([]byte, TileBytes)}) }, "tile_mismatch 65536+65536", "tile 1/1 is of entries after the head"},
		"one of nonsense":   {func(l *memLog) { l.tiles = append(l.tiles, Tile{40, 1 << 60, nil}) }, fmt.Sprintf("tile_mismatch %d+%d", int64(0), int64(maxSize)), "after the head"},
		"all gone":          {func(l *memLog) { l.tiles = nil }, "", "is missing"},
	} {
		l := w.clone()
		c.change(l)
		r := verifyLog(t, l, w.key)
		got := brief(r.Findings)
		if c.want == "" && len(r.Findings) != 259 || c.want != "" && got != c.want || !strings.Contains(messages(r.Findings), c.says) {
			t.Errorf("%s: got %s, want %s\n%s", name, got, c.want, messages(r.Findings))
		}
	}
	// A wrong tile and a changed entry are told apart by what is signed.
	l := w.clone()
	l.tiles[0].Data[0] ^= 1
	lines := l.lines()
	lines[40_000] = editLine(lines[40_000])
	l.resegment(lines)
	if got, want := brief(verifyLog(t, l, w.key).Findings), "tile_mismatch 0+256, edited 40000+1"; got != want {
		t.Errorf("both: got %s, want %s", got, want)
	}
}

func TestHeadFindings(t *testing.T) {
	t.Parallel()
	w := newLog(t, 300)
	for name, c := range map[string]struct {
		head Head
		want string
	}{
		"another root": {Head{300, tlog.Hash{1}}, "head_mismatch 300+0"},
		"bigger":       {Head{310, w.head.Root}, "truncated 300+10"},
		"smaller":      {Head{299, w.head.Root}, "inserted 299+1, truncated"},
		"nothing":      {Head{0, NewTree().Root()}, "tile_mismatch 0+256, truncated 0+300, inserted 0+0"},
		"negative":     {Head{-1, w.head.Root}, ""},
	} {
		l := w.clone()
		l.head = c.head
		r := verifyLog(t, l, w.key)
		if got := brief(r.Findings); !strings.HasPrefix(got, strings.TrimSuffix(c.want, ", truncated")) || got == "" {
			t.Errorf("%s: got %s, want %s\n%s", name, got, c.want, messages(r.Findings))
		}
	}
	// Head and unsigned tail disagree, and nothing says which is right.
	w.write(t, 5)
	l := w.clone()
	lines := l.lines()
	lines[303] = editLine(lines[303])
	l.resegment(lines)
	r := verifyLog(t, l, w.key)
	if got, want := brief(r.Findings), "head_mismatch 300+5"; got != want || !strings.Contains(messages(r.Findings), "entries 300 to 304, which no checkpoint signs") {
		t.Errorf("unsigned tail: got %s, want %s", messages(r.Findings), want)
	}
}

func TestUnsignedStretch(t *testing.T) {
	t.Parallel()
	w := newLog(t, 100)
	later := numberedEntry("node-1", 100)
	w.commit(t, []Sealed{mustSeal(t, later)})
	if r := verifyLog(t, w.memLog, w.key); len(r.Findings) > 0 || r.UnsignedTail != 1 {
		t.Errorf("a short one: tail %d, %s", r.UnsignedTail, messages(r.Findings))
	}
	last := numberedEntry("node-1", 101)
	last.Time = later.Time.Add(DefaultUnsignedSpan + time.Second)
	w.commit(t, []Sealed{mustSeal(t, last)})
	r := verifyLog(t, w.memLog, w.key)
	if got, want := brief(r.Findings), "unsigned 100+2"; got != want || !strings.Contains(messages(r.Findings), "of 5m1s") {
		t.Errorf("a long one: got %s, want %s", messages(r.Findings), want)
	}
	rep, err := Verify(t.Context(), sourceOf(w.memLog), VerifyOptions{Verifiers: []string{w.key.Verifier()}, UnsignedSpan: time.Hour})
	if err != nil || !rep.OK() {
		t.Errorf("allowed an hour: got %+v, %v", rep, err)
	}
	w.checkpoints = nil
	rep, err = Verify(t.Context(), sourceOf(w.memLog), VerifyOptions{AllowUnsigned: true})
	if err != nil || !rep.OK() || rep.Logs[0].UnsignedTail != 102 {
		t.Errorf("unsigned allowed: got %+v, %v", rep, err)
	}
}

func TestAllowUnsignedStillComparesRoots(t *testing.T) {
	t.Parallel()
	w := newLog(t, 300)
	l := w.clone()
	lines := l.lines()
	lines[299] = editLine(lines[299])
	l.resegment(lines)
	l.cover(t, headTiles)
	for want, src := range map[bool]*memLog{true: w.memLog, false: l} {
		r, err := Verify(t.Context(), sourceOf(src), VerifyOptions{AllowUnsigned: true})
		if err != nil || r.OK() != want {
			t.Errorf("got %+v, %v, want OK %v", r, err, want)
		}
	}
}

func TestTimeRunningBackwardsIsANote(t *testing.T) {
	t.Parallel()
	w := newWriter(t, "node-1")
	for i, at := range []time.Duration{time.Hour, time.Hour - time.Minute, time.Hour - 2*time.Minute, time.Hour - 2*time.Minute + time.Second, 0} {
		e := numberedEntry("node-1", int64(i))
		e.Time = testTime.Add(at)
		w.commit(t, []Sealed{mustSeal(t, e)})
	}
	w.sign(t)
	r := verifyLog(t, w.memLog, w.key)
	if got, want := brief(r.Notes), "clock 2+0, clock 4+0"; len(r.Findings) > 0 || got != want || r.Notes[0].Message != "entry 2 is 2m0s older than one before it" {
		t.Errorf("got %s and %s, want %s", messages(r.Findings), messages(r.Notes), want)
	}
}

// TestGrowingLogIsVerifiedAsItWas: what a node commits while it is verified is no
// finding.
func TestGrowingLogIsVerifiedAsItWas(t *testing.T) {
	t.Parallel()
	w := newLog(t, 300)
	src := sourceOf(w.memLog)
	src.grow = func() {
		w.write(t, 1000)
		w.sign(t)
	}
	r, err := Verify(t.Context(), src, VerifyOptions{Verifiers: []string{w.key.Verifier()}})
	if err != nil || !r.OK() || r.Logs[0].Entries != 300 {
		t.Errorf("got %+v, %v", r, err)
	}
	// But a kept checkpoint is older than the start, so its log has no excuse.
	src.grow = func() { w.write(t, 1000) }
	ahead := newLog(t, 0)
	ahead.key = w.key
	ahead.write(t, 2000)
	r, err = Verify(t.Context(), src, VerifyOptions{Verifiers: []string{w.key.Verifier()}, Kept: [][]byte{ahead.signed(t)}})
	if err != nil || brief(r.Logs[0].Findings) != "rollback 1300+700" {
		t.Errorf("rolled back and growing: got %+v, %v", r, err)
	}
}

func TestEveryLogIsVerified(t *testing.T) {
	t.Parallel()
	a, b := newWriter(t, "a"), newWriter(t, "b")
	a.write(t, 300)
	a.sign(t)
	b.write(t, 50)
	b.sign(t)
	var steps []string
	o := VerifyOptions{Verifiers: []string{a.key.Verifier(), b.key.Verifier()}, Progress: func(done, total int64) {
		steps = append(steps, fmt.Sprint(done, "/", total))
	}}
	r, err := Verify(t.Context(), sourceOf(a.memLog, b.memLog), o)
	if err != nil || !r.OK() || len(r.Logs) != 2 || r.Logs[0].Entries != 300 || r.Logs[1].Entries != 50 {
		t.Errorf("got %+v, %v", r, err)
	}
	if steps[len(steps)-1] != "350/350" {
		t.Errorf("progress: %v", steps)
	}
	o.Origins = []string{"cardea/b", "cardea/b"}
	if r, err := Verify(t.Context(), sourceOf(a.memLog, b.memLog), o); err != nil || len(r.Logs) != 1 || r.Logs[0].Origin != "cardea/b" {
		t.Errorf("one log: got %+v, %v", r, err)
	}
	strange := &memLog{origin: "cardea/NOT A NODE"}
	if r, err := Verify(t.Context(), sourceOf(strange), VerifyOptions{AllowUnsigned: true}); err != nil || brief(r.Logs[0].Findings) != "malformed_entry 0+0" {
		t.Errorf("a log of nobody: got %+v, %v", r, err)
	}
}

func TestVerifyRefusesUnusableOptions(t *testing.T) {
	t.Parallel()
	w := newLog(t, 10)
	if _, err := Verify(t.Context(), sourceOf(w.memLog), VerifyOptions{}); !errors.Is(err, ErrNoTrustedKey) {
		t.Errorf("no key: got %v", err)
	}
	if _, err := Verify(t.Context(), sourceOf(w.memLog), VerifyOptions{Verifiers: []string{"x"}}); err == nil || !strings.Contains(err.Error(), `verifier "x"`) {
		t.Errorf("bad key: got %v", err)
	}
	_, err := Verify(t.Context(), sourceOf(w.memLog), VerifyOptions{Verifiers: []string{w.key.Verifier()}, Kept: [][]byte{w.checkpoints[0], newLog(t, 1).checkpoints[0]}})
	if !errors.Is(err, ErrUnknownKey) || !strings.Contains(err.Error(), "kept checkpoint 2 of 2") {
		t.Errorf("kept by a stranger: got %v", err)
	}
}

func TestVerifyReturnsWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	w := newLog(t, 5000)
	damaged := w.clone()
	lines := damaged.lines()
	lines[3] = editLine(lines[3])
	damaged.resegment(lines)
	damaged.segments = append(damaged.segments, Segment{6000, 1, []byte("x\n")}) // after the head, which is read again
	for l, all := range map[*memLog][]string{
		w.memLog: {"logs", "head", "segments", "tiles", "checkpoints"},
		damaged:  {"head 2", "segments 2", "tiles 2", "checkpoints 2"}, // to find out what happened
	} {
		for _, what := range all {
			src := sourceOf(l)
			src.fail = what
			if _, err := Verify(t.Context(), src, VerifyOptions{Verifiers: []string{w.key.Verifier()}}); !errors.Is(err, errDisk) {
				t.Errorf("%s: got %v, want the source's error", what, err)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	o := VerifyOptions{Verifiers: []string{w.key.Verifier()}, Progress: func(int64, int64) { cancel() }}
	if _, err := Verify(ctx, sourceOf(w.memLog), o); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
}

// TestLongChangesAreOneFinding: also if they are longer than the window.
func TestLongChangesAreOneFinding(t *testing.T) {
	t.Parallel()
	w := newLog(t, 3*window)
	l := w.clone()
	lines := l.lines()
	for i := 100; i < 100+2*window+5; i++ {
		lines[i] = editLine(lines[i])
	}
	l.resegment(lines)
	if got, want := brief(verifyLog(t, l, w.key).Findings), fmt.Sprintf("edited 100+%d", 2*window+5); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestManyChangesAreBounded(t *testing.T) {
	t.Parallel()
	w := newLog(t, 3*window)
	l := w.clone()
	lines := l.lines()
	for i := 0; i < len(lines); i += 3 {
		lines[i] = editLine(lines[i])
	}
	l.resegment(lines)
	r := verifyLog(t, l, w.key)
	if len(r.Findings) != maxFindings || r.Omitted < 2 || messages(r.Notes) != "edited: too many changes: from entry 3000 on entries and tiles were not compared" {
		t.Errorf("got %d findings, %d omitted, %s", len(r.Findings), r.Omitted, messages(r.Notes))
	}
}

func TestMessagesSayWhatProves(t *testing.T) {
	t.Parallel()
	w := newLog(t, 600)
	signed := w.checkpoints[2:5]
	for name, c := range map[string]struct {
		effort      int
		checkpoints [][]byte
		kept        [][]byte
		want        string
	}{
		"checkpoint": {head, signed, nil, "edited: entry 3: not what was logged, which the signed checkpoint of 500 entries proves"},
		"kept":       {head, nil, w.checkpoints[4:5], "edited: entry 3: not what was logged, which the kept checkpoint of 500 entries proves"},
		"head":       {nothingElse, nil, nil, "edited: entry 3: not what was logged, which tiles and head show"},
	} {
		l := w.clone()
		lines := l.lines()
		lines[3] = editLine(lines[3])
		l.resegment(lines)
		l.cover(t, c.effort)
		l.checkpoints = c.checkpoints
		if got := messages(verifyLog(t, l, w.key, c.kept...).Findings); got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
}

func TestFindingsAreBounded(t *testing.T) {
	t.Parallel()
	w := newWriter(t, "node-2")
	w.write(t, 3000)
	w.origin = "cardea/node-1" // every entry is of another node
	r, err := Verify(t.Context(), sourceOf(w.memLog), VerifyOptions{AllowUnsigned: true, Verifiers: nil, Origins: []string{"cardea/node-1"}})
	if err != nil || len(r.Logs[0].Findings) != maxFindings || r.Logs[0].Omitted < 2000 {
		t.Errorf("got %d findings, %d omitted, %v", len(r.Logs[0].Findings), r.Logs[0].Omitted, err)
	}
}
