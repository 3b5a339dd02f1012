package watch_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cardea/internal/collect"
	"cardea/internal/detect"
	"cardea/internal/detect/traffic"
	"cardea/internal/siem"
	"cardea/internal/watch"
)

// childEnv makes a test binary the process that is killed: it names its folder, in
// which there are a trail, rules and the time that it is.
const childEnv = "CARDEA_WATCH_CHILD"

// TestChildWatches is the process that is killed: it watches a trail until it is
// killed or has seen everything, and hands its alerts to a spool.
func TestChildWatches(t *testing.T) {
	dir := os.Getenv(childEnv)
	if dir == "" {
		t.Skip("only run by TestNoAlertIsLostWhenTheProcessIsKilled")
	}
	watchTrail(t, dir)
}

// watchTrail watches the trail in a folder to its end, writing down what it learned
// after each few hundred events.
func watchTrail(t *testing.T, dir string) {
	t.Helper()
	file, err := os.ReadFile(filepath.Join(dir, "rules.toml"))
	if err != nil {
		t.Fatal(err)
	}
	rules, err := detect.ParseRules(file)
	if err != nil {
		t.Fatal(err)
	}
	var at time.Time
	if b, err := os.ReadFile(filepath.Join(dir, "now")); err != nil {
		t.Fatal(err)
	} else if err := at.UnmarshalText(b); err != nil {
		t.Fatal(err)
	}
	now := func() time.Time {
		at = at.Add(time.Nanosecond) // enough for SaveEvery, and too little to close a minute
		return at
	}
	place := collect.Place{Kind: collect.KindFolder, Path: filepath.Join(dir, "trail")}
	source, err := place.Open(t.Context(), collect.Options{State: filepath.Join(dir, "state"), Now: now, Batch: 400})
	if err != nil {
		t.Fatal(err)
	}
	spool, err := siem.OpenSpool(filepath.Join(dir, "delivery"))
	if err != nil {
		t.Fatal(err)
	}
	w, err := watch.Open(watch.Options{
		Name: "trail", Sources: []collect.Source{source}, State: filepath.Join(dir, "state", "detection.state"), Detect: detect.Options{Rules: rules},
		Hand: func(_ context.Context, a *detect.Alert) error { return spool.Append(siem.AlertEvent(*a)) },
		Now:  now, Logger: slog.New(slog.DiscardHandler), SaveEvery: time.Nanosecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Round(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.Save(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := source.Close(); err != nil {
		t.Fatal(err)
	}
}

// spooled counts how often each alert is in the spool of a folder.
func spooled(t *testing.T, dir string) map[string]int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "delivery", "spool-*.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]int{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			var ev struct{ ID string }
			if json.Unmarshal([]byte(line), &ev) == nil { // the last may be half written
				ids[ev.ID]++
			}
		}
	}
	return ids
}

func total(ids map[string]int) (n int) {
	for _, k := range ids {
		n += k
	}
	return n
}

// TestNoAlertIsLostWhenTheProcessIsKilled kills a watch by SIGKILL, many times: in
// the end all receivers have the alerts of a watch that was left alone, no others,
// and those that came twice have one id.
func TestNoAlertIsLostWhenTheProcessIsKilled(t *testing.T) {
	t.Parallel()
	p := traffic.Random(7)
	p.Days, p.WarmDays, p.Rate, p.Tenants, p.People = 6, 2, 4, 2, 2
	world := traffic.New(p)
	left, killed := t.TempDir(), t.TempDir()
	now, err := p.Start.AddDate(0, 0, p.Days).MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{left, killed} {
		if _, err := world.WriteTrail(filepath.Join(dir, "trail")); err != nil {
			t.Fatal(err)
		}
		for name, content := range map[string][]byte{"rules.toml": append(world.Rules(), "[engine]\nlearning = \"24h\"\n"...), "now": now} {
			if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	watchTrail(t, left)
	want := spooled(t, left)
	if len(want) < 15 || total(want) != len(want) {
		t.Fatalf("%d alerts of %d ids: too few to kill between", total(want), len(want))
	}

	child := func() *exec.Cmd {
		c := exec.Command(os.Args[0], "-test.run=^TestChildWatches$")
		c.Env = append(os.Environ(), childEnv+"="+killed)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		return c
	}
	kills := 0
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	for i := range 6 {
		before := total(spooled(t, killed))
		c := child()
		ended := make(chan error, 1)
		go func() { ended <- c.Wait() }()
		for done := false; !done; {
			select {
			case err := <-ended:
				if err != nil {
					t.Fatal(err)
				}
				done = true
			case <-look.C:
				if total(spooled(t, killed)) > before+i { // an alert more each time: at other moments
					if err := c.Process.Kill(); err == nil {
						kills++
					}
					<-ended
					done = true
				}
			}
		}
	}
	if err := child().Wait(); err != nil {
		t.Fatal(err)
	}
	got := spooled(t, killed)
	if !slices.Equal(slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want))) {
		t.Errorf("%d alerts, want %d", len(got), len(want))
		for id := range want {
			if got[id] == 0 {
				t.Errorf("%s is lost", id)
			}
		}
		for id := range got {
			if want[id] == 0 {
				t.Errorf("%s is one that nobody else found", id)
			}
		}
	}
	t.Logf("%d alerts, %d of them again after %d kills", len(got), total(got)-len(got), kills)

	// They are delivered, in the order in which they were found.
	out := filepath.Join(killed, "cardea.ndjson")
	d, err := siem.Open(siem.Options{
		Dir: filepath.Join(killed, "delivery"), Now: time.Now, Logger: slog.New(slog.DiscardHandler),
		Receivers: []siem.Receiver{{Name: "agent", Sink: siem.NewFile(siem.FileOptions{Path: out, Encoder: &siem.Encoder{Format: siem.FormatNDJSON}, Now: time.Now})}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	for id := range want {
		if !strings.Contains(string(text), `"id":"`+id+`"`) {
			t.Errorf("%s was not delivered", id)
		}
	}
}
