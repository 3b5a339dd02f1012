package audit

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// pruned is a log of which entries were archived and removed, with the log of the
// command line that records it.
type pruned struct {
	log, tool *writer
	archive   *memArchive
	to        int64
}

// memArchive is an archive in memory.
type memArchive struct {
	*memSource
	digest string
}

func (a *memArchive) Digest(string, int64) string { return a.digest }

var testDigest = strings.Repeat("ab", 32)

// newPruned is a log of n entries whose segments below about upTo are removed.
func newPruned(t testing.TB, n, upTo int64) *pruned {
	t.Helper()
	p := &pruned{log: newLog(t, n), tool: newWriter(t, "node-1-cli")}
	p.tool.write(t, 40)
	p.tool.sign(t)
	p.archive = &memArchive{sourceOf(p.log.clone()), testDigest}
	p.to = p.prune(t, upTo, testDigest)
	return p
}

// prune removes the segments before upTo and records that.
func (p *pruned) prune(t testing.TB, upTo int64, digest string) int64 {
	t.Helper()
	to, kept := int64(0), 0
	for i, s := range p.log.segments {
		if s.First <= upTo {
			to, kept = s.First, i
		}
	}
	p.record(t, Pruning{Origin: p.log.origin, From: p.to, To: to, Root: p.rootAt(t, to), Archive: digest, Last: testTime, Time: testTime.Add(time.Hour)})
	p.log.segments = p.log.segments[kept:]
	return to
}

// rootAt is the root of the log's first entries, by its tiles.
func (p *pruned) rootAt(t testing.TB, size int64) (root [32]byte) {
	t.Helper()
	tree := NewTree()
	for hashes, err := range TileLeaves(t.Context(), sourceOf(p.log.memLog), p.log.origin, size) {
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range hashes {
			if err := tree.Append(h); err != nil {
				t.Fatal(err)
			}
		}
	}
	return tree.Root()
}

func (p *pruned) record(t testing.TB, r Pruning) {
	t.Helper()
	p.log.prunings = append(p.log.prunings, p.note(t, r))
	p.enter(t, r)
	p.tool.sign(t)
}

func (p *pruned) note(t testing.TB, r Pruning) []byte {
	t.Helper()
	signed, err := p.tool.key.SignPruning(r)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// enter writes the entry of a pruning.
func (p *pruned) enter(t testing.TB, r Pruning) {
	t.Helper()
	e := numberedEntry(p.tool.node, p.tool.tree.Size())
	e.Op, e.Outcome, e.Result, e.Detail = OpLogPrune, Allowed, "pruned", r.Detail()
	e.Resource = Resource{Kind: "log", Reference: r.Origin}
	p.tool.commit(t, []Sealed{mustSeal(t, e)})
}

func (p *pruned) verify(t testing.TB, archive Archive) LogReport {
	t.Helper()
	r, err := Verify(t.Context(), sourceOf(p.log.memLog, p.tool.memLog), VerifyOptions{
		Verifiers: []string{p.log.key.Verifier(), p.tool.key.Verifier()}, Archive: archive,
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := brief(r.Logs[1].Findings); got != "" {
		t.Fatalf("the recorder's log: %s", messages(r.Logs[1].Findings))
	}
	return r.Logs[0]
}

func TestPrunedLogIsIntact(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ n, upTo int64 }{{600, 300}, {600, 512}, {1000, 256}, {TileWidth*TileWidth + 700, 65_000}, {TileWidth*TileWidth + 700, TileWidth*TileWidth + 500}} {
		p := newPruned(t, c.n, c.upTo)
		p.log.write(t, 10)
		p.log.sign(t)
		for _, archive := range []Archive{nil, p.archive} {
			r := p.verify(t, archive)
			if len(r.Findings) > 0 {
				t.Fatalf("%d entries, pruned before %d, archive %v: %s", c.n, p.to, archive != nil, messages(r.Findings))
			}
			if r.Entries != c.n+10 || r.Signed != r.Entries || r.Pruned != p.to || r.PrunedInto != testDigest || !r.PrunedAt.Equal(testTime.Add(time.Hour)) {
				t.Errorf("%d entries, pruned before %d: report %+v", c.n, p.to, r)
			}
			if wantFirst := testTime.Add(time.Duration(p.to) * 10 * time.Millisecond); archive == nil && !r.First.Equal(wantFirst) || archive != nil && !r.First.Equal(testTime) {
				t.Errorf("archive %v: the first entry is of %s", archive != nil, r.First)
			}
		}
	}
}

func TestLogIsPrunedMoreThanOnce(t *testing.T) {
	t.Parallel()
	p := newPruned(t, 1500, 400)
	for _, upTo := range []int64{700, 1100} {
		p.archive.digest = strings.Repeat(fmt.Sprintf("%02x", upTo%200), 32)
		p.to = p.prune(t, upTo, p.archive.digest)
		if r := p.verify(t, p.archive); len(r.Findings) > 0 || r.Pruned != p.to || r.PrunedInto != p.archive.digest {
			t.Errorf("pruned before %d: %+v", p.to, r)
		}
	}
}

// TestInterruptedPruningIsIntact: the record is there, the entries are not all removed.
func TestInterruptedPruningIsIntact(t *testing.T) {
	t.Parallel()
	whole := newLog(t, 900)
	p := newPruned(t, 900, 700)
	for removed := range len(whole.segments) - len(p.log.segments) {
		p.log.segments = whole.segments[removed:]
		for _, archive := range []Archive{nil, p.archive} {
			if r := p.verify(t, archive); len(r.Findings) > 0 || r.Pruned != p.log.segments[0].First {
				t.Fatalf("%d segments removed: %+v", removed, r)
			}
		}
	}
}

// TestRemovalIsNotTakenForPruning: who deletes entries cannot make it look as if
// they had been archived, and what is left of them cannot be changed either.
func TestRemovalIsNotTakenForPruning(t *testing.T) {
	t.Parallel()
	const n, upTo = 1500, 700
	stranger := newKey(t, "node-1-cli")
	for name, c := range map[string]struct {
		change func(p *pruned)
		want   string // findings; TO is what was pruned, GONE how many more are missing, GAP a segment
		with   string // findings when the archive is given; want if missing
		said   string // in the messages
	}{
		"segments without a record": {
			change: func(p *pruned) { p.log.prunings = nil },
			want:   "deleted 0+TO", said: "deleted",
		},
		"more than is recorded": {
			change: func(p *pruned) { p.log.segments = p.log.segments[3:] },
			want:   "deleted TO+GONE", said: "no pruning that holds covers them",
		},
		"all but the last": {
			change: func(p *pruned) { p.log.segments = p.log.segments[len(p.log.segments)-3:] },
			want:   "tile_mismatch 1280+142, deleted TO+GONE", with: "deleted TO+GONE",
		},
		"in the middle": {
			change: func(p *pruned) { p.log.segments = slices.Delete(p.log.segments, 4, 5) },
			want:   "deleted GAP", said: "deleted",
		},
		"a tile of what was pruned": {
			change: func(p *pruned) { p.log.tiles[1].Data[700] ^= 1 },
			want:   "tile_mismatch 210+94", with: "tile_mismatch 256+256", said: "pruned, and the hashes in their tiles are not",
		},
		"a tile that is gone": {
			change: func(p *pruned) { p.log.tiles = slices.Delete(p.log.tiles, 1, 2) },
			want:   "tile_mismatch 256+LEFT", with: "tile_mismatch 256+256", said: "only the archive can tell",
		},
		"a record of a key that is not trusted": {
			change: func(p *pruned) {
				r := p.opened(t)
				signed, err := stranger.SignPruning(r)
				if err != nil {
					t.Fatal(err)
				}
				p.log.prunings = [][]byte{signed}
			},
			want: "pruning 0+TO, deleted 0+TO", said: "no trusted key signs it",
		},
		"a record that was changed": {
			change: func(p *pruned) {
				p.log.prunings[0] = bytes.Replace(p.log.prunings[0], []byte("\n0 "), []byte("\n1 "), 1)
			},
			want: "pruning 0+0, deleted 0+TO", said: "its signature is wrong",
		},
		"a record of another log": {
			change: func(p *pruned) {
				r := p.opened(t)
				r.Origin = p.tool.origin
				p.log.prunings = [][]byte{p.note(t, r)}
			},
			want: "pruning 0+TO, deleted 0+TO", said: "it is of the log cardea/node-1-cli",
		},
		"a record without an entry": {
			change: func(p *pruned) {
				r := p.opened(t)
				r.Time = r.Time.Add(time.Hour)
				r.Archive = strings.Repeat("cd", 32)
				p.log.prunings = [][]byte{p.note(t, r)}
			},
			want: "pruning 0+TO, deleted 0+TO", said: "has no entry of it",
		},
		"an entry without a record": {
			change: func(p *pruned) {
				r := p.opened(t)
				r.From, r.To = r.To, r.To+r.To/2
				p.enter(t, r)
				p.tool.sign(t)
				p.log.segments = p.log.segments[5:]
			},
			want: "deleted TO+GONE",
		},
		"a record whose entry nobody signed": {
			change: func(p *pruned) { p.tool.checkpoints = p.tool.checkpoints[:len(p.tool.checkpoints)-1] },
			want:   "pruning 0+TO, deleted 0+TO", said: "is not covered by a trusted checkpoint",
		},
		"a record with another root": {
			change: func(p *pruned) {
				r := p.opened(t)
				r.Root[0] ^= 1
				p.log.prunings = nil
				p.record(t, r)
			},
			want: "pruning 0+TO, deleted 0+TO", said: "the root of the first",
		},
		"a record that is none": {
			change: func(p *pruned) { p.log.prunings = append(p.log.prunings, p.log.checkpoints[0]) },
			want:   "pruning 0+0", said: "malformed record of pruning",
		},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			p := newPruned(t, n, upTo)
			whole := p.log.clone()
			c.change(p)
			began := p.log.segments[0].First
			gap := whole.segments[4]
			numbers := strings.NewReplacer("TO", fmt.Sprint(p.to), "GONE", fmt.Sprint(began-p.to), "LEFT", fmt.Sprint(p.to-256), "GAP", fmt.Sprintf("%d+%d", gap.First, gap.Count))
			for _, archive := range []Archive{nil, p.archive} {
				want := c.want
				if archive != nil && c.with != "" {
					want = c.with
				}
				want = numbers.Replace(want)
				r := p.verify(t, archive)
				if got := brief(r.Findings); got != want {
					t.Errorf("archive %v: got %s, want %s\n%s", archive != nil, got, want, messages(r.Findings))
				}
				if archive == nil && !strings.Contains(messages(r.Findings), c.said) {
					t.Errorf("messages lack %q:\n%s", c.said, messages(r.Findings))
				}
			}
		})
	}
}

// opened is what the log's record says.
func (p *pruned) opened(t testing.TB) Pruning {
	t.Helper()
	r, err := OpenPruning(p.log.prunings[0], p.tool.key.Verifier())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestArchiveOfAPrunedLogIsHeldAgainstIt(t *testing.T) {
	t.Parallel()
	other := newLog(t, 900)
	for name, c := range map[string]struct {
		change func(p *pruned, a *memArchive)
		want   string
	}{
		"another file": {func(_ *pruned, a *memArchive) { a.digest = strings.Repeat("00", 32) }, "archive_mismatch 0+%d"},
		"an edited entry": {func(_ *pruned, a *memArchive) {
			for i := range a.logs[0].segments {
				s := &a.logs[0].segments[i]
				s.Body = bytes.Replace(s.Body, []byte(`"ref-300"`), []byte(`"Ref-300"`), 1)
			}
		}, "edited 300+1"},
		"a missing commit": {func(_ *pruned, a *memArchive) { a.logs[0].segments = slices.Delete(a.logs[0].segments, 3, 4) }, "deleted"},
		"too short": {func(p *pruned, a *memArchive) {
			a.logs[0].head.Size = 400
		}, "archive_mismatch 400+"},
		"of another log": {func(_ *pruned, a *memArchive) {
			lines := other.lines()
			lines[0] = forged(t, 1)
			a.logs[0].resegment(lines)
		}, "edited 0+1"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			p := newPruned(t, 1000, 700)
			c.change(p, p.archive)
			r := p.verify(t, p.archive)
			want := c.want
			if strings.Contains(want, "%d") {
				want = fmt.Sprintf(want, p.to)
			}
			if got := brief(r.Findings); !strings.HasPrefix(got, want) {
				t.Errorf("got %s, want %s\n%s", got, want, messages(r.Findings))
			}
			if r := p.verify(t, nil); len(r.Findings) > 0 {
				t.Errorf("without the archive: %s", messages(r.Findings))
			}
		})
	}
}

// TestArchiveThatWasShortenedVerifiesTheRest: an archive that has not its oldest
// periods any more proves the others, and the tiles prove those.
func TestArchiveThatWasShortenedVerifiesTheRest(t *testing.T) {
	t.Parallel()
	p := newPruned(t, 1000, 700)
	p.archive.logs[0].segments, p.archive.digest = p.archive.logs[0].segments[9:], ""
	if r := p.verify(t, p.archive); len(r.Findings) > 0 || r.First.Equal(testTime) {
		t.Errorf("%+v", r)
	}
}

// TestRecorderNeedNotBeAskedFor: the log with the entry is read though another was
// asked for.
func TestRecorderNeedNotBeAskedFor(t *testing.T) {
	t.Parallel()
	p := newPruned(t, 1000, 700)
	o := VerifyOptions{Verifiers: []string{p.log.key.Verifier(), p.tool.key.Verifier()}, Origins: []string{p.log.origin}}
	r, err := Verify(t.Context(), sourceOf(p.log.memLog, p.tool.memLog), o)
	if err != nil || len(r.Logs) != 1 || !r.OK() {
		t.Fatalf("%+v, %v", r, err)
	}
	r, err = Verify(t.Context(), sourceOf(p.log.memLog), o)
	if err != nil || !strings.Contains(messages(r.Logs[0].Findings), "the log cardea/node-1-cli, whose key signs it, is not there") {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestPruningDuringVerificationIsNoDeletion removes entries after the log's beginning
// was looked at.
func TestPruningDuringVerificationIsNoDeletion(t *testing.T) {
	t.Parallel()
	p := newPruned(t, 2000, 400)
	src := sourceOf(p.log.memLog, p.tool.memLog)
	src.meanwhile = func() {
		p.to = p.prune(t, 900, testDigest)
	}
	r, err := Verify(t.Context(), src, VerifyOptions{Verifiers: []string{p.log.key.Verifier(), p.tool.key.Verifier()}})
	if err != nil {
		t.Fatal(err)
	}
	if l := r.Logs[0]; len(l.Findings) > 0 || l.Pruned != p.to {
		t.Errorf("%+v", l)
	}
}

func TestPrunedLogTravelsInABundle(t *testing.T) {
	t.Parallel()
	p := newPruned(t, 1000, 700)
	var b bytes.Buffer
	if err := WriteBundle(t.Context(), &b, sourceOf(p.log.memLog, p.tool.memLog), nil); err != nil {
		t.Fatal(err)
	}
	bundle, err := OpenBundle(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	r, err := Verify(t.Context(), bundle, VerifyOptions{Verifiers: []string{p.log.key.Verifier(), p.tool.key.Verifier()}})
	if err != nil || !r.OK() || r.Logs[0].Pruned != p.to {
		t.Errorf("%+v, %v", r, err)
	}
	a, err := AbsentOf(t.Context(), bundle, p.log.origin)
	if err != nil || a.Before != p.to || a.Pruning == nil || a.Pruning.Recorder != p.tool.origin || a.Pruning.Archive != testDigest {
		t.Errorf("absent %+v, %v", a, err)
	}
}

func TestAbsentTellsPrunedFromMissing(t *testing.T) {
	t.Parallel()
	p := newPruned(t, 1000, 700)
	src := sourceOf(p.log.memLog)
	for _, c := range []struct {
		name   string
		change func()
		before int64
		known  bool
	}{
		{"pruned", func() {}, p.to, true},
		{"more missing", func() { p.log.segments = p.log.segments[1:] }, p.to + int64(p.log.segments[0].Count), false},
		{"all missing", func() { p.log.segments = nil }, 1000, false},
		{"whole", func() { p.log.segments = newLog(t, 1000).segments }, 0, false},
	} {
		c.change()
		a, err := AbsentOf(t.Context(), src, p.log.origin)
		if err != nil || a.Before != c.before || (a.Pruning != nil) != c.known {
			t.Errorf("%s: %+v, %v", c.name, a, err)
		}
	}
}

func TestLeavesAreThoseOfTilesAndEntries(t *testing.T) {
	t.Parallel()
	p := newPruned(t, 1000, 700)
	tree := NewTree()
	for h, err := range Leaves(t.Context(), sourceOf(p.log.memLog), p.log.origin) {
		if err != nil {
			t.Fatal(err)
		}
		if err := tree.Append(h); err != nil {
			t.Fatal(err)
		}
	}
	if tree.Root() != p.log.head.Root {
		t.Error("not the head's root")
	}
	p.log.segments = slices.Delete(p.log.segments, 2, 3)
	var last error
	for _, err := range Leaves(t.Context(), sourceOf(p.log.memLog), p.log.origin) {
		last = err
	}
	if !errors.Is(last, ErrDamaged) {
		t.Errorf("a gap: %v", last)
	}
	p.log.tiles = p.log.tiles[:1]
	for _, err := range TileLeaves(t.Context(), sourceOf(p.log.memLog), p.log.origin, 600) {
		last = err
	}
	if !errors.Is(last, ErrDamaged) || !strings.Contains(last.Error(), "tile 0/1 is missing") {
		t.Errorf("a tile that is missing: %v", last)
	}
}

func TestPruningsThatCannotBeReadAreAnError(t *testing.T) {
	t.Parallel()
	p := newPruned(t, 600, 300)
	src := sourceOf(p.log.memLog, p.tool.memLog)
	src.fail = "prunings"
	o := VerifyOptions{Verifiers: []string{p.log.key.Verifier()}}
	if _, err := Verify(t.Context(), src, o); !errors.Is(err, errDisk) {
		t.Errorf("verify: %v", err)
	}
	if _, err := AbsentOf(t.Context(), src, p.log.origin); !errors.Is(err, errDisk) {
		t.Errorf("absent: %v", err)
	}
}

func TestPruningHasOneText(t *testing.T) {
	t.Parallel()
	key := newKey(t, "node-1-cli")
	want := Pruning{
		Origin: "cardea/node-1", From: 256, To: 20_480, Root: [32]byte{1, 2}, Archive: testDigest, Last: testTime,
		Time: testTime.Add(time.Hour), Recorder: "cardea/node-1-cli",
	}
	signed, err := key.SignPruning(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := OpenPruning(signed, key.Verifier())
	if err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	if detail := want.Detail(); clean(detail, 512) != detail {
		t.Errorf("an entry would not keep %q", detail)
	}
	if _, err := OpenCheckpoint(signed, key.Verifier()); !errors.Is(err, ErrMalformedCheckpoint) {
		t.Errorf("as a checkpoint: %v", err)
	}
	text, err := want.text()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]string{
		{"prune 1", "prune 2"},
		{"cardea/node-1\n", "node-1\n"},
		{"256 20480", "20480 256"},
		{"256 20480", "256  20480"},
		{"256", "0256"},
		{testDigest, strings.ToUpper(testDigest)},
		{testDigest, testDigest[:62]},
		{"last ", ""},
		{"\ntime ", "\n"},
		{"2025", "1969"},
	} {
		if c[0] == "2025" {
			c[0] = fmt.Sprint(testTime.Year())
		}
		bad := strings.Replace(text, c[0], c[1], 1)
		if bad == text {
			t.Fatalf("%q is not in the text", c[0])
		}
		signed, err := note.Sign(&note.Note{Text: bad}, key.key.(localKey))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := OpenPruning(signed, key.Verifier()); !errors.Is(err, ErrMalformedPruning) {
			t.Errorf("%q for %q: %v", c[1], c[0], err)
		}
	}
	want.Archive = "x"
	if _, err := key.SignPruning(want); !errors.Is(err, ErrMalformedPruning) {
		t.Errorf("sign what has no digest: %v", err)
	}
}

func FuzzPruning(f *testing.F) {
	text, err := Pruning{Origin: "cardea/node-1", To: 20_480, Archive: testDigest, Last: testTime, Time: testTime}.text()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parsePruning(text)
		if err != nil {
			return
		}
		if again, err := p.text(); err != nil || again != text {
			t.Errorf("%q is written as %q, %v", text, again, err)
		}
	})
}
