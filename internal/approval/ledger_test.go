package approval

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// childEnv makes a test binary a process that executes requests.
const childEnv = "CARDEA_APPROVAL_CHILD"

// requestIDs are requests that several processes want to execute.
func requestIDs() (ids []string) {
	for i := range 40 {
		ids = append(ids, fmt.Sprintf("01890000-0000-7000-8000-%012d", i))
	}
	return ids
}

// TestChildExecutes is a process that executes requests: it leaves a line in a file for
// each that it was let to begin, and one for each that it has finished.
func TestChildExecutes(t *testing.T) {
	dir := os.Getenv(childEnv)
	if dir == "" {
		t.Skip("only run by tests with several processes")
	}
	marks, err := os.OpenFile(filepath.Join(dir, "marks"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	mark := func(what, id string) {
		if _, err := marks.WriteString(what + " " + id + "\n"); err != nil {
			t.Fatal(err)
		}
	}
	l := &Ledger{Dir: filepath.Join(dir, "ledger"), Now: time.Now}
	for _, id := range requestIDs() {
		r := &Request{ID: id}
		switch _, err := l.Begin(r, []byte("note of "+id)); {
		case errors.Is(err, ErrExecuted), errors.Is(err, ErrExecuting):
			continue
		case err != nil:
			t.Fatal(err)
		}
		mark("began", id)
		if err := l.Finish(r, "done by "+fmt.Sprint(os.Getpid())); err != nil {
			t.Fatal(err)
		}
		mark("finished", id)
	}
}

func startExecutor(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	c := exec.Command(os.Args[0], "-test.run=^TestChildExecutes$")
	c.Env = append(os.Environ(), childEnv+"="+dir)
	c.Stdout, c.Stderr = os.Stderr, os.Stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return c
}

// marks counts the lines that executors left.
func marks(t *testing.T, dir string) map[string]int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "marks"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	n := map[string]int{}
	for line := range strings.Lines(string(text)) {
		n[strings.TrimSuffix(line, "\n")]++
	}
	return n
}

func TestProcessesThatRaceExecuteEachRequestOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var all []*exec.Cmd
	for range 4 {
		all = append(all, startExecutor(t, dir))
	}
	for _, c := range all {
		if err := c.Wait(); err != nil {
			t.Error(err)
		}
	}
	records, err := (&Ledger{Dir: filepath.Join(dir, "ledger")}).Records()
	if err != nil {
		t.Fatal(err)
	}
	if want := 2 * len(requestIDs()); len(records) != want {
		t.Errorf("%d records, want %d", len(records), want)
	}
	did := marks(t, dir)
	for _, id := range requestIDs() {
		if did["began "+id] != 1 || did["finished "+id] != 1 {
			t.Errorf("%s was begun %d times, finished %d times", id, did["began "+id], did["finished "+id])
		}
	}
}

func TestALedgerIsWholeWhereverItsProcessesAreKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for i := range 6 { // two at a time, killed after some requests
		a, b := startExecutor(t, dir), startExecutor(t, dir)
		done := make(chan struct{})
		go func() {
			a.Wait()
			b.Wait()
			close(done)
		}()
		reached := func() bool { return len(marks(t, dir)) >= 10*(i+1) }
		for waiting := true; waiting && !reached(); {
			select {
			case <-done:
				waiting = false
			case <-time.After(time.Millisecond):
			}
		}
		for _, c := range []*exec.Cmd{a, b} {
			if err := c.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
				t.Fatal(err)
			}
		}
		<-done
		if _, err := (&Ledger{Dir: filepath.Join(dir, "ledger")}).Records(); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("after %d kills: %v", i+1, err)
		}
	}
	if err := startExecutor(t, dir).Wait(); err != nil {
		t.Fatal(err)
	}
	records, err := (&Ledger{Dir: filepath.Join(dir, "ledger")}).Records()
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, r := range records {
		count[string(r.Event)+" "+r.Request]++
	}
	for _, id := range requestIDs() {
		if count["begun "+id] != 1 || count["finished "+id] != 1 {
			t.Errorf("%s: %d records of its beginning, %d of its end", id, count["begun "+id], count["finished "+id])
		}
		if n := marks(t, dir)["began "+id]; n > 1+count["resumed "+id] {
			t.Errorf("%s: executed %d times, resumed %d times", id, n, count["resumed "+id])
		}
	}
}

func TestOneExecutorOfARequestAtATime(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "ledger")
	a, b, r := &Ledger{Dir: dir}, &Ledger{Dir: dir}, &Request{ID: requestIDs()[0]}
	if _, err := a.Begin(r, nil); err != nil {
		t.Fatal(err)
	}
	const busy = "ledger of approvals: the request is being executed by another process"
	if _, err := b.Begin(r, nil); !errors.Is(err, ErrExecuting) || err.Error() != busy {
		t.Errorf("a second executor began: %v", err)
	}
	if err := b.Finish(r, "stolen"); !errors.Is(err, ErrExecuting) || err.Error() != busy {
		t.Errorf("a second executor finished: %v", err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if resumed, err := b.Begin(r, nil); err != nil || !resumed {
		t.Errorf("after the first gave up: %v, %v", resumed, err)
	}
	if err := b.Finish(&Request{ID: requestIDs()[1]}, ""); err == nil || err.Error() != "ledger of approvals: the request was not begun, so it cannot be finished" {
		t.Errorf("got %v", err)
	}
}

func TestALedgerThatWasChangedIsRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(lines []string) []string
		want   string
	}{
		"a line is gone":        {func(l []string) []string { return slices.Delete(l, 1, 2) }, "line 2 does not follow from the one before"},
		"a line is there twice": {func(l []string) []string { return slices.Insert(l, 1, l[0]) }, "line 2 does not follow from the one before"},
		"two are exchanged":     {func(l []string) []string { l[0], l[1] = l[1], l[0]; return l }, "line 1 does not follow from the one before"},
		"a result is changed": {func(l []string) []string {
			l[1] = strings.Replace(l[1], "done", "none", 1)
			return l
		}, "line 3 does not follow from the one before"},
		"a line has more": {func(l []string) []string {
			l[0] = strings.Replace(l[0], `"n":1`, `"n":1,"also":2`, 1)
			return l
		}, "line 1 is no record: it has another form"},
		"a line is no JSON": {func(l []string) []string { l[2] = "{"; return l }, "line 3 is no record: unexpected end of JSON input"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "ledger")
			l := &Ledger{Dir: dir}
			for _, id := range requestIDs()[:2] {
				if _, err := l.Begin(&Request{ID: id}, nil); err != nil {
					t.Fatal(err)
				}
				if err := l.Finish(&Request{ID: id}, "done"); err != nil {
					t.Fatal(err)
				}
			}
			path := filepath.Join(dir, "ledger")
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			lines := c.change(strings.Split(strings.TrimSuffix(string(text), "\n"), "\n"))
			if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			want := "ledger of approvals: " + path + ": the ledger of approvals is not as it was written: " + c.want
			if _, err := l.Begin(&Request{ID: requestIDs()[3]}, nil); !errors.Is(err, ErrLedger) || err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		})
	}
}

func TestWhatAKilledProcessLeftOfALineIsRemoved(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "ledger")
	l, r := &Ledger{Dir: dir}, &Request{ID: requestIDs()[0]}
	if _, err := l.Begin(r, []byte("note")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "ledger")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 40, len(whole) - 1} {
		if err := os.WriteFile(path, append(slices.Clone(whole), whole[:n]...), 0o600); err != nil {
			t.Fatal(err)
		}
		if all, err := l.Records(); err != nil || len(all) != 1 || all[0].Note != "note" {
			t.Errorf("%d bytes of a line: %v, %v", n, all, err)
		}
		if now, err := os.ReadFile(path); err != nil || string(now) != string(whole) {
			t.Errorf("%d bytes of a line: %q is left, %v", n, now, err)
		}
	}
	if err := l.Finish(r, "done"); err != nil {
		t.Error(err)
	}
}

func FuzzParseRecords(f *testing.F) {
	dir := filepath.Join(f.TempDir(), "ledger")
	l, r := &Ledger{Dir: dir, Now: func() time.Time { return now }}, &Request{ID: requestIDs()[0]}
	if _, err := l.Begin(r, []byte("note\n\n— <&>")); err != nil {
		f.Fatal(err)
	}
	if err := l.Finish(r, "done \xff"); err != nil {
		f.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "ledger"))
	if err != nil {
		f.Fatal(err)
	}
	if _, _, err := parseRecords(text); err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		all, last, err := parseRecords(b)
		if err != nil {
			return
		}
		again := filepath.Join(t.TempDir(), "ledger")
		if err := os.WriteFile(again, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if len(b) > 0 && b[len(b)-1] != '\n' { // openJournal takes whole lines alone
			return
		}
		j, err := openJournal(again, nil)
		if err != nil || len(j.records) != len(all) || j.last != last {
			t.Fatalf("read, and not opened: %v", err)
		}
		if err := errors.Join(j.append(&Record{Event: EventResumed, Request: "x"}), j.f.Close()); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(again)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := parseRecords(text); err != nil {
			t.Errorf("a record more is refused: %v", err)
		}
	})
}
