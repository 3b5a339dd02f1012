package cli

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cardea/internal/app"
	"cardea/internal/detect"
	"cardea/internal/detect/traffic"
)

// trailOf writes a trail of a few days with attacks, and the rules of its world.
func trailOf(t *testing.T) (w *traffic.World, dir, rules string, end time.Time) {
	t.Helper()
	p := traffic.Random(7)
	p.Days, p.WarmDays, p.Rate, p.Tenants, p.People = 8, 3, 4, 2, 2
	w = traffic.New(p)
	dir = t.TempDir()
	if _, err := w.WriteTrail(dir); err != nil {
		t.Fatal(err)
	}
	rules = filepath.Join(t.TempDir(), "rules.toml")
	if err := os.WriteFile(rules, append(w.Rules(), "[engine]\nlearning = \"48h\"\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	return w, dir, rules, p.Start.AddDate(0, 0, p.Days)
}

// TestDetectFindsAttacksInATrail reads files as CloudTrail writes them, and one
// with the same events again.
func TestDetectFindsAttacksInATrail(t *testing.T) {
	t.Parallel()
	w, dir, rules, end := trailOf(t)
	p := Process{Now: func() time.Time { return end }}
	code, out, stderr := run(t, p, "audit", "detect", "--from", dir, "--rules", rules, "--since", "120h", "--output", "json")
	if code != exitFindings {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	var r detectReport
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	if r.Problems != 0 || r.Stats.Late != 0 || r.Stats.Events < 1000 {
		t.Errorf("problems %d, stats %+v", r.Problems, r.Stats)
	}
	found, missed := 0, []string{}
	for _, inc := range w.Incidents {
		ok := false
		for _, a := range r.Alerts {
			ok = ok || a.Principal == inc.Principal && a.Rule == inc.Rules[0]
		}
		if ok {
			found++
		} else {
			missed = append(missed, inc.Name)
			if inc.Rules[0][0] == 'R' {
				t.Errorf("%s was not found", inc.Name)
			}
		}
	}
	if found < len(w.Incidents)*3/4 { // the baselines are days old
		t.Errorf("%d of %d attacks found; missed %v", found, len(w.Incidents), missed)
	}
	for _, a := range r.Alerts {
		if a.Reason == "" || a.Next == "" || len(a.PCI) == 0 || a.Rules != r.Rules || a.ID == "" {
			t.Errorf("an alert that does not explain itself: %+v", a)
		}
	}
	code, text, _ := run(t, p, "audit", "detect", "--from", dir, "--from", dir, "--rules", rules, "--since", "120h")
	if code != exitFindings || !strings.Contains(text, "R20") {
		t.Errorf("exit %d:\n%s", code, text)
	}
	if want := strings.Split(strings.TrimSpace(text), "\n"); !strings.HasPrefix(want[len(want)-1], strings.Join([]string{itoa(len(r.Alerts)), "alerts"}, " ")) {
		t.Errorf("events read twice gave other alerts: %s, want %d", want[len(want)-1], len(r.Alerts))
	}
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

// TestWatchGoesOnWhereItStopped watches a folder, is stopped, and goes on with the
// files that came meanwhile: in all it tells what one run over everything tells.
func TestWatchGoesOnWhereItStopped(t *testing.T) {
	t.Parallel()
	w, dir, rules, end := trailOf(t)
	at := end
	p := Process{Now: func() time.Time { return at }}
	watch := func(from, state string) map[string]bool {
		t.Helper()
		code, out, stderr := run(t, p, "audit", "watch", "--from", from, "--state", state, "--rules", rules, "--once", "--output", "json")
		if code != exitDone {
			t.Fatalf("exit %d: %s", code, stderr)
		}
		ids := map[string]bool{}
		for line := range strings.Lines(out) {
			var a detect.Alert
			if err := json.Unmarshal([]byte(line), &a); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			if ids[a.ID] {
				t.Errorf("alert %s %s came twice", a.Rule, a.ID)
			}
			ids[a.ID] = true
		}
		return ids
	}
	whole := watch(dir, t.TempDir())
	if len(whole) < 20 {
		t.Fatalf("%d alerts of %d incidents", len(whole), len(w.Incidents))
	}
	growing, state := t.TempDir(), t.TempDir()
	files, err := filepath.Glob(filepath.Join(dir, "AWSLogs", "*", "CloudTrail", "*", "*", "*", "*", "*.gz"))
	if err != nil || len(files) < 100 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	got := map[string]bool{}
	cut := w.P.Start.AddDate(0, 0, 4)
	for _, round := range []func(time.Time) bool{cut.After, func(t time.Time) bool { return !cut.After(t) }} {
		newest := time.Time{}
		for _, f := range files {
			named, err := time.Parse("20060102T1504", fileTime.FindStringSubmatch(f)[1])
			if err != nil {
				t.Fatal(err)
			}
			if !round(named) {
				continue
			}
			if named.After(newest) {
				newest = named
			}
			to := filepath.Join(growing, strings.TrimPrefix(f, dir))
			if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Link(f, to); err != nil {
				t.Fatal(err)
			}
		}
		at = newest
		if cut.Before(newest) {
			at = end
		}
		for id := range watch(growing, state) {
			if got[id] {
				t.Errorf("alert %s came again after the restart", id)
			}
			got[id] = true
		}
	}
	for id := range whole {
		if !got[id] {
			t.Errorf("alert %s is missing when watched in two runs", id)
		}
	}
}

func TestDetectRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.toml")
	if err := os.WriteFile(bad, []byte("[engine]\nlatenes = \"1m\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(dir, "empty.json")
	if err := os.WriteFile(empty, []byte(`{"Records":[]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	p := Process{Now: func() time.Time { return time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC) }}
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"audit detect --from " + empty, exitFailed, "no events in that time"},
		{"audit detect --from " + filepath.Join(dir, "none"), exitFailed, "no such file"},
		{"audit detect --from " + empty + " --rules " + bad, exitWrongUse, `no such setting "engine.latenes"`},
		{"audit detect --from " + empty + " --changes " + bad, exitWrongUse, `no such setting`},
		{"audit detect --from " + empty + " --since yesterday", exitWrongUse, "neither a time"},
		{"audit detect --from " + empty + " --config x.toml", exitWrongUse, "can't be used together"},
		{"audit watch --from a --from b --state " + dir, exitWrongUse, "watch one place"},
		{"audit watch --from a --every 0s --state " + dir, exitWrongUse, "expected more than 0"},
		{"audit rules show R99", exitWrongUse, `no rule "R99"`},
		{"audit rules test " + bad, exitWrongUse, "no such setting"},
	} {
		code, _, stderr := run(t, p, strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(stderr, c.want) {
			t.Errorf("%s: exit %d and %q, want %d and %q", c.args, code, stderr, c.code, c.want)
		}
	}
}

func TestWatchKeepsWhatItReadWhenStopped(t *testing.T) {
	t.Parallel()
	dir, state := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "one.json"), []byte(`{"Records":[{"eventVersion":"1.11","eventTime":"2026-03-02T00:00:00Z","eventSource":"kms.amazonaws.com",`+
		`"eventName":"ScheduleKeyDeletion","awsRegion":"eu-central-1","recipientAccountId":"111122223333","eventID":"1","userIdentity":{"type":"Root","accountId":"111122223333"},`+
		`"requestParameters":{"keyId":"k","pendingWindowInDays":7},"eventType":"AwsApiCall","managementEvent":true,"eventCategory":"Management"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var out, errs strings.Builder
	p := Process{
		Now: func() time.Time { return time.Date(2026, 3, 2, 0, 5, 0, 0, time.UTC) }, Stdout: &out, Stderr: &errs,
		Args:  []string{"audit", "watch", "--from", dir, "--state", state},
		sleep: func(ctx context.Context, _ time.Duration) error { cancel(); return ctx.Err() },
	}
	if code := Main(ctx, p); code != exitFailed || !strings.Contains(out.String(), "R1: ") {
		t.Fatalf("exit %d\n%s%s", code, out.String(), errs.String())
	}
	if _, err := os.Stat(filepath.Join(state, "detection.state")); err != nil {
		t.Error(err)
	}
	code, again, stderr := run(t, Process{Now: p.Now}, "audit", "watch", "--from", dir, "--state", state, "--once")
	if code != exitDone || again != "" {
		t.Errorf("exit %d: the second watch tells again: %s%s", code, again, stderr)
	}
}

// TestConfigCheckReadsWhatDetectionGoesBy, so that a node is not the first to find a
// mistake in it.
func TestConfigCheckReadsWhatDetectionGoesBy(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"cardea.toml": "[detect]\nown_logs = true\nrules_file = \"rules.toml\"\nchanges_file = \"changes.toml\"\n", "rules.toml": "", "changes.toml": "", "bad.toml": "[engine]\nlatenes = \"1m\"\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "cardea.toml")
	must(t, exitDone, "config", "check", "--config", file)
	for name, want := range map[string]string{"rules.toml": `no such setting "engine.latenes"`, "changes.toml": "file of changes: no such setting"} {
		good := filepath.Join(dir, name)
		if err := os.Rename(good, good+".good"); err != nil {
			t.Fatal(err)
		}
		if err := os.Link(filepath.Join(dir, "bad.toml"), good); err != nil {
			t.Fatal(err)
		}
		if _, stderr := must(t, exitFailed, "config", "check", "--config", file); !strings.Contains(stderr, want) || !strings.Contains(stderr, good) {
			t.Errorf("got %s; want %s", stderr, want)
		}
		if err := os.Rename(good+".good", good); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWatchLeavesTheStateOfAnotherAlone(t *testing.T) {
	t.Parallel()
	state := filepath.Join(t.TempDir(), "state")
	lock, err := app.LockDetection(state)
	if err != nil {
		t.Fatal(err)
	}
	watch := []string{"audit", "watch", "--from", t.TempDir(), "--state", state, "--once"}
	code, _, stderr := run(t, Process{Now: time.Now}, watch...)
	if want := "--state: " + state + ": another process keeps what it learns there"; code == 0 || !strings.Contains(stderr, want) || !strings.Contains(stderr, "give this one a folder of its own") {
		t.Errorf("exit status %d, stderr %s", code, stderr)
	}
	if err := lock.Release(); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := run(t, Process{Now: time.Now}, watch...); code != 0 {
		t.Errorf("afterwards: exit status %d, stderr %s", code, stderr)
	}
}
