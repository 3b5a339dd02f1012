package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// reviewer runs commands on an installation at a time of its own.
type reviewer struct {
	t    *testing.T
	file string
	now  time.Time
}

func newReviewer(t *testing.T) *reviewer {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "cardea.toml")
	if err := os.WriteFile(file, []byte("[node]\nname = \"node-1\"\ndata_dir = \"data\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := &reviewer{t: t, file: file, now: time.Date(2026, 3, 1, 15, 0, 0, 0, time.UTC)}
	code, _, stderr := run(t, Process{Now: func() time.Time { return r.now }}, "audit", "deliver", "--config", file, "--once")
	if code != exitFailed { // there is nothing to deliver; the database is there now
		t.Fatal(code, stderr)
	}
	return r
}

// do runs a command that must exit so and say so.
func (r *reviewer) do(want int, says string, args ...string) string {
	r.t.Helper()
	args = append([]string{"audit"}, args...)
	code, stdout, stderr := run(r.t, Process{Now: func() time.Time { return r.now }}, append(args, "--config", r.file)...)
	if code != want || !strings.Contains(stdout+stderr, says) {
		r.t.Errorf("cardea %s: exit %d, want %d with %q\n%s%s", strings.Join(args, " "), code, want, says, stdout, stderr)
	}
	return stdout
}

func TestReviewOfDays(t *testing.T) {
	t.Parallel()
	r := newReviewer(t)
	r.do(exitDone, "", "checkpoint")
	r.do(exitDone, "0 days, 0 without a review", "review", "list")
	r.do(exitWrongUse, "--day: review of 2026-03-01: the day is not over before 2026-03-02T00:00:00Z", "review", "start", "--day", "2026-03-01")
	r.do(exitWrongUse, `--day: "1.3." is not a day`, "review", "start", "--day", "1.3.")

	r.now = r.now.AddDate(0, 0, 1)
	r.do(exitDone, "2026-03-01  due", "review", "list")
	r.do(exitFailed, "review of 2026-03-01: no review of the day was begun: begin it by 'cardea audit review start'", "review", "close", "nothing")
	r.do(exitDone, "review of 2026-03-01 begun: 1 logs, ", "review", "start")
	r.do(exitFailed, "the day's review was begun already", "review", "start")
	r.do(exitDone, "finding 1 of 2026-03-01, for bob", "review", "finding", "--owner", "bob", "a strange address")
	r.do(exitFailed, "findings have no outcome: 1: say what became of them by 'cardea audit review settle'", "review", "close", "done")
	r.do(exitDone, "2026-03-01  open", "review", "list")
	r.do(exitDone, "finding 1 of 2026-03-01 is settled", "review", "settle", "1", "the new office")
	r.do(exitDone, "review of 2026-03-01 closed", "review", "close", "all is well")
	list := r.do(exitDone, "2026-03-01  reviewed", "review", "list")
	if !strings.Contains(list, "intact") || !strings.Contains(list, "all is well") || !strings.Contains(list, "no detection given") {
		t.Errorf("got %s", list)
	}
	r.do(exitDone, `"outcome": "the new office"`, "review", "list", "--output", "json")

	r.now = r.now.AddDate(0, 0, 2)
	r.do(exitFindings, "2026-03-02  missing", "review", "list")
	r.do(exitFindings, "3 days, 1 without a review", "review", "list")
	r.do(exitDone, "1 days, 0 without a review", "review", "list", "--since", "24h")
	r.do(exitDone, "review of 2026-03-02 begun", "review", "start", "--day", "2026-03-02")
	r.do(exitDone, "review of 2026-03-02 closed", "review", "close", "--day", "2026-03-02", "nothing")
	r.do(exitDone, "2026-03-02  late", "review", "list")
	r.do(exitDone, "intact", "verify")
	r.do(exitDone, "log.read", "show", "--op", "log.read")
}

func TestReviewTakesTheAlertsOfItsDayOnly(t *testing.T) {
	t.Parallel()
	r := newReviewer(t)
	r.now = r.now.AddDate(0, 0, 1)
	file := filepath.Join(t.TempDir(), "alerts.json")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("x")
	r.do(exitWrongUse, "is not what 'cardea audit detect --output json' prints", "review", "start", "--alerts", file)
	write(`{"since":"2026-03-01T01:00:00Z","until":"2026-03-02T00:00:00Z","alerts":[]}`)
	r.do(exitWrongUse, "is not of all of 2026-03-01: make it by 'cardea audit detect --since 2026-03-01T00:00:00Z --until 2026-03-02T00:00:00Z --output json'", "review", "start", "--alerts", file)
	write(`{"since":"2026-03-01T00:00:00Z","until":"2026-03-02T02:00:00Z","alerts":[{"time":"2026-03-01T05:00:00Z"},{"time":"2026-03-02T01:00:00Z"}],"suppressed":[{"time":"2026-03-01T07:00:00Z"}]}`)
	r.do(exitDone, "1 alerts, 1 suppressed", "review", "start", "--alerts", file)
}
