package retention_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"cardea/internal/audit"
	"cardea/internal/retention"
)

const vaultLog = "cardea/vault-1"

// hourly is a log of n entries, one each minute, an hour a segment.
func hourly(t *testing.T, n int) *memLog {
	t.Helper()
	m := newMemLog(t, vaultLog)
	for i := 0; i < n; {
		var batch []audit.Entry
		for range min(60, n-i) {
			batch = append(batch, entry("vault-1", i, noon.Add(time.Duration(i)*time.Minute)))
			i++
		}
		m.commit(t, vaultLog, noon.Add(time.Duration(i)*time.Minute), batch...)
	}
	return m
}

func add(t *testing.T, dir string, m *memLog, before time.Time) retention.Result {
	t.Helper()
	a, err := retention.OpenArchive(t.Context(), retention.Folder(dir))
	if err != nil {
		t.Fatal(err)
	}
	r, err := a.Add(t.Context(), m, vaultLog, before, noon, m.verifiers())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func hours(n int) time.Time { return noon.Add(time.Duration(n) * time.Hour) }

// TestArchivedPeriodsAreTheLog archives a log in steps and compares what comes back.
func TestArchivedPeriodsAreTheLog(t *testing.T) {
	t.Parallel()
	m, dir := hourly(t, 3000), filepath.Join(t.TempDir(), "archive")
	if r := add(t, dir, m, noon); r.Period.To != 0 {
		t.Errorf("archived %+v of nothing", r.Period)
	}
	for _, step := range []struct {
		before   time.Time
		from, to int64
	}{{hours(5), 0, 300}, {hours(5), 0, 0}, {hours(20).Add(time.Minute), 300, 1200}, {hours(49), 1200, 2940}} {
		r := add(t, dir, m, step.before)
		if r.Period.From != step.from || r.Period.To != step.to || len(r.Report.Findings) > 0 {
			t.Errorf("before %s: %+v", step.before, r)
		}
		if r.Period.To != 0 && (!r.Period.First.Equal(noon.Add(time.Duration(step.from)*time.Minute)) || !r.Period.Last.Before(step.before)) {
			t.Errorf("before %s: from %s to %s", step.before, r.Period.First, r.Period.Last)
		}
	}
	a, err := retention.OpenArchive(t.Context(), retention.Folder(dir))
	if err != nil {
		t.Fatal(err)
	}
	back, err := a.Restore(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for x, err := range audit.Entries(t.Context(), back, vaultLog, 0) {
		if err != nil || x.Seq != int64(n) || !x.Entry.Time.Equal(noon.Add(time.Duration(n)*time.Minute)) {
			t.Fatalf("entry %d: %+v, %v", n, x.Entry, err)
		}
		n++
	}
	report, err := audit.Verify(t.Context(), back, audit.VerifyOptions{Verifiers: m.verifiers()})
	if err != nil || !report.OK() || n != 2940 || report.Logs[0].Entries != 2940 || report.Logs[0].UnsignedTail != 0 {
		t.Errorf("%d entries: %+v, %v", n, report, err)
	}
	if err := back.Close(); err != nil {
		t.Error(err)
	}
}

// TestKilledReaderLeavesNoLogBehind looks where an archive is unpacked while it is read:
// nothing is there, where the system lets open files be removed.
func TestKilledReaderLeavesNoLogBehind(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("open files cannot be removed")
	}
	m, dir, unpacked := hourly(t, 300), t.TempDir(), t.TempDir()
	add(t, dir, m, hours(4))
	a, err := retention.OpenArchive(t.Context(), retention.Folder(dir))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", unpacked)
	back, err := a.Restore(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(unpacked); err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
	if report, err := audit.Verify(t.Context(), back, audit.VerifyOptions{Verifiers: m.verifiers()}); err != nil || !report.OK() || report.Logs[0].Entries == 0 {
		t.Errorf("%+v, %v", report, err)
	}
	if err := back.Close(); err != nil {
		t.Error(err)
	}
}

func TestArchiveRefusesWhatDoesNotVerify(t *testing.T) {
	t.Parallel()
	other := hourly(t, 1)
	for name, c := range map[string]struct {
		change func(*memLog)
		kind   audit.Kind
	}{
		"edited entry": {func(m *memLog) {
			m.logs[vaultLog].segments[2].Body = bytes.Replace(m.logs[vaultLog].segments[2].Body, []byte("shop"), []byte("shpo"), 1)
		}, audit.KindEdited},
		"removed entry": {func(m *memLog) { l := m.logs[vaultLog]; l.segments = append(l.segments[:2:2], l.segments[3:]...) }, audit.KindDeleted},
		"other key":     {func(m *memLog) { m.logs[vaultLog].checkpoints[1] = other.logs[vaultLog].checkpoints[0] }, audit.KindUnknownKey},
		"broken tile":   {func(m *memLog) { m.logs[vaultLog].tiles[0].Data[0] ^= 1 }, audit.KindTileMismatch},
	} {
		m, dir := hourly(t, 600), t.TempDir()
		c.change(m)
		r := add(t, dir, m, hours(9))
		found := false
		for _, f := range r.Report.Findings {
			found = found || f.Kind == c.kind
		}
		if !found {
			t.Errorf("%s: findings %+v", name, r.Report.Findings)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 1 || left[0].Name() != ".lock" {
			t.Errorf("%s: %v is left, %v", name, left, err)
		}
	}
}

func TestArchiveRefusesALogThatStrangersSign(t *testing.T) {
	t.Parallel()
	a, err := retention.OpenArchive(t.Context(), retention.Folder(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	_, err = a.Add(t.Context(), hourly(t, 600), vaultLog, hours(9), noon, hourly(t, 1).verifiers())
	if !errors.Is(err, retention.ErrUntrusted) || err.Error() != "archive cardea/vault-1: no checkpoint of the period is signed by a trusted key" {
		t.Error(err)
	}
}

// TestArchiveStandsWhenItsProcessDies takes the steps of Add one by one.
func TestArchiveStandsWhenItsProcessDies(t *testing.T) {
	t.Parallel()
	m, dir, done := hourly(t, 600), t.TempDir(), t.TempDir()
	add(t, dir, m, hours(3))
	if err := os.CopyFS(filepath.Join(done, "a"), os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	second := add(t, filepath.Join(done, "a"), m, hours(6)).Period
	b, err := os.ReadFile(filepath.Join(done, "a", second.File))
	if err != nil {
		t.Fatal(err)
	}
	for _, left := range []struct {
		name string
		body []byte
	}{{"." + second.File, b[:100]}, {"." + second.File, b}, {second.File, b}, {".manifest.json", []byte("{")}} {
		at := filepath.Join(t.TempDir(), "a")
		if err := os.CopyFS(at, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(at, left.name), left.body, 0o600); err != nil {
			t.Fatal(err)
		}
		if r := add(t, at, m, hours(6)); r.Period.To != 360 || r.Period.From != 180 || len(r.Report.Findings) > 0 {
			t.Errorf("after %s was left: %+v", left.name, r)
		}
	}
}

func TestRestoreRefusesAnArchiveThatIsNotWhole(t *testing.T) {
	t.Parallel()
	m, whole := hourly(t, 600), filepath.Join(t.TempDir(), "a")
	add(t, whole, m, hours(3))
	last := add(t, whole, m, hours(6)).Period
	for name, c := range map[string]struct {
		change func(dir string) error
		want   string
	}{
		"file missing": {func(dir string) error { return os.Remove(filepath.Join(dir, last.File)) }, "archive is not whole: the file is missing"},
		"file changed": {func(dir string) error {
			return edit(filepath.Join(dir, last.File), func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
		}, "archive is not whole: it is not the file that was archived (SHA-256)"},
		"file longer": {func(dir string) error {
			return edit(filepath.Join(dir, last.File), func(b []byte) []byte { return append(b, 0) })
		}, "archive is not whole: it is not the file that was archived (SHA-256)"},
		"gap":     {manifest(`"from": 180`, `"from": 181`), "archive is not whole: entries 181 to 359 of cardea/vault-1 do not follow entry 179"},
		"version": {manifest(`"version": 1`, `"version": 2`), "archive is not whole: manifest.json is of version 2, this release reads version 1"},
		"path":    {manifest(`"file": "`, `"file": "../`), `.bundle.gz" cannot be one of its files`},
		"root":    {manifest(last.Root, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="), "is not of what manifest.json says"},
		"unpack":  {manifest(`"unpacked": `, `"unpacked": 1`), "it does not have the size that manifest.json says"},
		"member":  {manifest(`"version"`, `"versions"`), "archive is not whole: manifest.json cannot be read"},
	} {
		dir := filepath.Join(t.TempDir(), "a")
		if err := errors.Join(os.CopyFS(dir, os.DirFS(whole)), c.change(dir)); err != nil {
			t.Fatal(err)
		}
		a, err := retention.OpenArchive(t.Context(), retention.Folder(dir))
		if err == nil {
			_, err = a.Restore(t.Context(), "")
		}
		if !errors.Is(err, retention.ErrArchive) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

func manifest(from, to string) func(string) error {
	return func(dir string) error {
		return edit(filepath.Join(dir, "manifest.json"), func(b []byte) []byte { return bytes.Replace(b, []byte(from), []byte(to), 1) })
	}
}

func edit(path string, change func([]byte) []byte) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, change(b), 0o600)
}
