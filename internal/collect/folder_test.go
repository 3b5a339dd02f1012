package collect_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cardea/internal/cloudtrail"
	"cardea/internal/collect"
)

var start = time.Date(2026, 11, 22, 8, 30, 0, 0, time.UTC)

// clock is a clock that stands.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func record(n int) string {
	return fmt.Sprintf(`{"eventVersion":"1.11","userIdentity":{"type":"IAMUser","arn":"arn:aws:iam::111122223333:user/alice","accountId":"111122223333"},`+
		`"eventTime":"2026-11-22T08:00:%02dZ","eventSource":"kms.amazonaws.com","eventName":"Decrypt","awsRegion":"eu-central-1","eventID":"id-%d","readOnly":true,"recipientAccountId":"111122223333"}`, n%60, n)
}

func lines(from, to int) string {
	var b strings.Builder
	for n := from; n < to; n++ {
		b.WriteString(record(n) + "\n")
	}
	return b.String()
}

func logFile(from, to int) string {
	return `{"Records":[` + strings.ReplaceAll(strings.TrimSpace(lines(from, to)), "\n", ",") + `]}`
}

func gz(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	io.WriteString(w, s)
	w.Close()
	return b.String()
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	path := filepath.Join(dir, name)
	ok(t, os.MkdirAll(filepath.Dir(path), 0o755))
	ok(t, os.WriteFile(path, []byte(content), 0o600))
}

func appendTo(t *testing.T, dir, name, content string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_APPEND|os.O_WRONLY, 0o600)
	ok(t, err)
	_, err = f.WriteString(content)
	ok(t, errors.Join(err, f.Close()))
}

// place is a folder that is read, with what is remembered of that.
type place struct {
	dir, state string
	clock      *clock
	batch      int
	src        collect.Source
	close      func()
}

func newPlace(t *testing.T) *place {
	p := &place{dir: t.TempDir(), state: t.TempDir(), clock: &clock{start}, batch: 7}
	t.Cleanup(func() { p.stop() })
	return p
}

// begin opens the folder as a process that has just been started does.
func (p *place) begin(t *testing.T) {
	t.Helper()
	p.stop()
	f, err := collect.OpenFolder(p.dir, collect.Options{State: p.state, Now: p.clock.now, Batch: p.batch})
	ok(t, err)
	seen, err := collect.OpenSeen(filepath.Join(p.state, "seen"), 0)
	ok(t, err)
	p.src = collect.Unique(f, seen)
	p.close = func() { f.Close(); seen.Close() }
}

// stop ends it without a word, as a crash does.
func (p *place) stop() {
	if p.close != nil {
		p.close()
		p.close = nil
	}
}

// all gives the ids that there are now, and acknowledges each batch.
func (p *place) all(t *testing.T) []string {
	t.Helper()
	return drain(t, p.src, true)
}

func drain(t *testing.T, src collect.Source, ack bool) []string {
	t.Helper()
	var got []string
	for {
		b, err := src.Next(t.Context())
		if errors.Is(err, io.EOF) {
			return got
		}
		ok(t, err)
		for _, e := range b.Events {
			got = append(got, e.ID)
		}
		if ack {
			ok(t, b.Ack(t.Context()))
		}
	}
}

func wantIDs(from, to int) []string {
	var list []string
	for n := from; n < to; n++ {
		list = append(list, fmt.Sprintf("id-%d", n))
	}
	return list
}

func equal(t *testing.T, got, want []string, what string) {
	t.Helper()
	slices.Sort(got)
	want = slices.Clone(want)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func TestFolderGivesEachEventOnce(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	write(t, p.dir, "AWSLogs/111122223333/CloudTrail/eu-central-1/2026/11/22/a.json.gz", gz(logFile(0, 20)))
	write(t, p.dir, "AWSLogs/111122223333/CloudTrail/eu-central-1/2026/11/22/b.json.gz", gz(logFile(15, 25))) // some again
	write(t, p.dir, "AWSLogs/111122223333/CloudTrail-Digest/eu-central-1/2026/11/22/d.json.gz", gz(logFile(900, 901)))
	write(t, p.dir, "plain.json", logFile(25, 30))
	write(t, p.dir, "lines.ndjson", lines(30, 40))
	write(t, p.dir, "compressed-without-a-name", gz(lines(40, 45)))
	write(t, p.dir, ".hidden", lines(901, 902))
	write(t, p.dir, "half.part", lines(902, 903))
	write(t, p.dir, "empty", "")
	p.begin(t)
	equal(t, p.all(t), wantIDs(0, 45), "at first")
	equal(t, p.all(t), nil, "again")
	p.begin(t)
	equal(t, p.all(t), nil, "after a restart")
	write(t, p.dir, "AWSLogs/111122223333/CloudTrail/eu-central-1/2026/11/21/late.json.gz", gz(logFile(45, 50)))
	appendTo(t, p.dir, "lines.ndjson", lines(50, 55))
	equal(t, p.all(t), wantIDs(45, 55), "new and late ones")
	s := p.src.Status()
	if s.LastSuccess != start || s.LastError != "" || s.Lag != start.Sub(time.Date(2026, 11, 22, 8, 0, 54, 0, time.UTC)) || len(s.Findings) > 0 || s.Backlog != 0 {
		t.Errorf("status %+v", s)
	}
}

// TestKilledBetweenNextAndAckLosesNothing stops at each batch in turn, with some
// acknowledged and some not.
func TestKilledBetweenNextAndAckLosesNothing(t *testing.T) {
	t.Parallel()
	for stopAt := range 8 {
		p := newPlace(t)
		write(t, p.dir, "a.json.gz", gz(logFile(0, 20)))
		write(t, p.dir, "b.ndjson", lines(20, 40))
		write(t, p.dir, "c.json.gz", gz(logFile(40, 43)))
		p.begin(t)
		var processed []string
		for i := range stopAt {
			b, err := p.src.Next(t.Context())
			if errors.Is(err, io.EOF) {
				break
			}
			ok(t, err)
			if i == stopAt-1 {
				break // given, and not acknowledged
			}
			for _, e := range b.Events {
				processed = append(processed, e.ID)
			}
			ok(t, b.Ack(t.Context()))
		}
		p.begin(t)
		rest := p.all(t)
		equal(t, append(processed, rest...), wantIDs(0, 43), fmt.Sprintf("stopped at %d", stopAt))
	}
}

func TestAckOfABatchIsOfThoseBeforeToo(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	write(t, p.dir, "a.json.gz", gz(logFile(0, 20)))
	p.begin(t)
	var last collect.Batch
	for range 2 {
		b, err := p.src.Next(t.Context())
		ok(t, err)
		last = b
	}
	ok(t, last.Ack(t.Context()))
	p.begin(t)
	equal(t, p.all(t), wantIDs(14, 20), "after a restart")
}

func TestFilesThatGrowAreReadOn(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	one := record(9) + "\n"
	write(t, p.dir, "log", lines(0, 9)+one[:100])
	p.begin(t)
	equal(t, p.all(t), wantIDs(0, 9), "in the middle of a line")
	if s := p.src.Status(); s.Skipped > 0 || len(s.Findings) > 0 {
		t.Errorf("a line that is being written is a problem: %+v", s)
	}
	p.begin(t)
	appendTo(t, p.dir, "log", one[100:]+lines(10, 30))
	equal(t, p.all(t), wantIDs(9, 30), "the rest")

	ok(t, os.Rename(filepath.Join(p.dir, "log"), filepath.Join(p.dir, "log.1")))
	appendTo(t, p.dir, "log.1", lines(30, 32))
	write(t, p.dir, "log", lines(32, 34))
	equal(t, p.all(t), wantIDs(30, 34), "after rotation")
	if s := p.src.Status(); s.Duplicates > 0 {
		t.Errorf("a rotated file was read again: %+v", s)
	}
	write(t, p.dir, "log", record(40)+"\n"+lines(41, 60)) // cut off and written anew
	equal(t, p.all(t), wantIDs(40, 60), "after truncation")

	appendTo(t, p.dir, "log", `{"eventVersion":"1.11","ev`)
	equal(t, p.all(t), nil, "half a line")
	p.clock.t = p.clock.t.Add(time.Hour)
	write(t, p.dir, "other", lines(60, 61))
	p.all(t)
	f := p.src.Status().Findings
	if len(f) != 1 || f[0].Name != "log" || !strings.HasPrefix(f[0].Error, "ends in the middle of a record since byte ") {
		t.Errorf("got %+v", f)
	}
}

func TestUnreadableFilesAreTriedAgainAndThenFindings(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	whole := gz(logFile(0, 200))
	write(t, p.dir, "broken.json.gz", whole[:len(whole)-20])
	write(t, p.dir, "sound.json.gz", gz(logFile(200, 210)))
	p.batch = 1000
	p.begin(t)
	got := p.all(t)
	for _, id := range wantIDs(200, 210) {
		if !slices.Contains(got, id) {
			t.Errorf("%s of the sound file is missing", id)
		}
	}
	for try := range 7 {
		if f := p.src.Status().Findings; len(f) > 0 != (try >= 4) || try >= 4 && (f[0].Name != "broken.json.gz" || f[0].Error != "gunzip: unexpected EOF") {
			t.Errorf("after %d attempts: %+v", try+1, f)
		}
		p.clock.t = p.clock.t.Add(90 * time.Minute)
		if try == 5 {
			p.begin(t) // and a restart does not forget it
		}
		p.all(t)
	}
	write(t, p.dir, "broken.json.gz", whole)
	p.all(t)
	if f := p.src.Status().Findings; len(f) > 0 {
		t.Errorf("still %+v", f)
	}
	p.begin(t)
	equal(t, p.all(t), nil, "at the end")
}

// TestUnreadableFilesAreTriedAgainAfterAClockThatWasAhead, and not when it would have come
// to that time.
func TestUnreadableFilesAreTriedAgainAfterAClockThatWasAhead(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	write(t, p.dir, "broken.json.gz", gz(logFile(0, 200))[:100])
	p.clock.t = start.Add(400 * 24 * time.Hour)
	p.begin(t)
	p.all(t)
	p.clock.t = start
	p.begin(t)
	for range 4 {
		p.all(t)
		p.clock.t = p.clock.t.Add(90 * time.Minute)
	}
	if f := p.src.Status().Findings; len(f) != 1 {
		t.Errorf("got %+v", f)
	}
}

func TestUnsoundPartsAreTold(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	write(t, p.dir, "log", record(1)+"\nnonsense\n"+record(2)+"\n")
	p.begin(t)
	b, err := p.src.Next(t.Context())
	ok(t, err)
	if len(b.Events) != 2 || len(b.Problems) != 1 || b.Problems[0].From != "log" || b.Problems[0].Kind != cloudtrail.KindMalformed || b.Problems[0].Offset != int64(len(record(1)+"\n")) {
		t.Errorf("got %+v", b)
	}
	if p.src.Status().Skipped != 1 || b.From != "log" {
		t.Errorf("got %+v", p.src.Status())
	}
}

func TestCancelledReadingLosesNothing(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	write(t, p.dir, "a.json.gz", gz(logFile(0, 50)))
	p.begin(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.src.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	equal(t, p.all(t), wantIDs(0, 50), "after it")
}

func TestFolderRefusals(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := collect.Options{State: t.TempDir(), Now: time.Now}
	if _, err := collect.OpenFolder(filepath.Join(dir, "none"), o); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	write(t, dir, "file", "")
	if _, err := collect.OpenFolder(filepath.Join(dir, "file"), o); err == nil || !strings.HasSuffix(err.Error(), "is no folder") {
		t.Errorf("got %v", err)
	}
	if _, err := collect.OpenFolder(dir, collect.Options{Now: time.Now}); err == nil || err.Error() != "no folder for what is remembered" {
		t.Errorf("got %v", err)
	}
	write(t, o.State, "cursor.json", "nonsense")
	if _, err := collect.OpenFolder(dir, o); err == nil || !strings.Contains(err.Error(), "repair or remove ") {
		t.Errorf("got %v", err)
	}
	write(t, o.State, "cursor.json", `{"v":99}`)
	if _, err := collect.OpenFolder(dir, o); err == nil || !strings.HasSuffix(err.Error(), "is of a newer release (version 99)") {
		t.Errorf("got %v", err)
	}
}

func TestSeenForgetsNoneOfTheLast(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	dir := filepath.Join(p.state, "few")
	for round := range 4 {
		seen, err := collect.OpenSeen(dir, 100)
		ok(t, err)
		o := collect.Options{State: filepath.Join(p.state, fmt.Sprint("round", round)), Now: p.clock.now, Batch: 30}
		write(t, p.dir, "a", lines(60*round, 60*round+100)) // 40 are of the round before
		f, err := collect.OpenFolder(p.dir, o)
		ok(t, err)
		src := collect.Unique(f, seen)
		want := wantIDs(60*round+40, 60*round+100)
		if round == 0 {
			want = wantIDs(0, 100)
		}
		equal(t, drain(t, src, true), want, fmt.Sprint("round ", round))
		ok(t, f.Close())
		ok(t, seen.Close())
	}
	ids, err := os.ReadFile(filepath.Join(dir, "ids"))
	ok(t, err)
	old, err := os.ReadFile(filepath.Join(dir, "ids.old"))
	ok(t, err)
	if len(ids)+len(old) > 8*2*130 {
		t.Errorf("%d bytes are remembered", len(ids)+len(old))
	}
	// A mark that was half written is none, and those before it stay.
	ok(t, os.WriteFile(filepath.Join(dir, "ids"), append(ids, 1, 2, 3), 0o600))
	seen, err := collect.OpenSeen(dir, 100)
	ok(t, err)
	ok(t, seen.Close())
	if again, _ := os.ReadFile(filepath.Join(dir, "ids")); !bytes.Equal(again, ids) {
		t.Error("half a mark stays in the file")
	}
}

// TestFilesThatAreGoneAreForgotten: what is remembered does not grow with the
// files that ever were.
func TestFilesThatAreGoneAreForgotten(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.batch = 10_000
	const n = 1300
	for i := range n {
		write(t, p.dir, fmt.Sprintf("%d.gz", i), gz(lines(i, i+1)))
	}
	p.begin(t)
	equal(t, p.all(t), wantIDs(0, n), "at first")
	for i := 20; i < n; i++ {
		ok(t, os.Remove(filepath.Join(p.dir, fmt.Sprintf("%d.gz", i))))
	}
	write(t, p.dir, "new.gz", gz(lines(n, n+1)))
	equal(t, p.all(t), wantIDs(n, n+1), "a new one")
	st, err := os.Stat(filepath.Join(p.state, "files"))
	ok(t, err)
	if st.Size() != 8*21 {
		t.Errorf("%d bytes are remembered of 21 files", st.Size())
	}
	ok(t, os.RemoveAll(filepath.Join(p.state, "seen"))) // so that nothing hides a file that is read again
	p.begin(t)
	equal(t, p.all(t), nil, "after a restart")
	write(t, p.dir, "0.gz", gz(lines(n+1, n+2)))
	equal(t, p.all(t), wantIDs(n+1, n+2), "after a change")
}
