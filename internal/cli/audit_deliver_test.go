package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// deliveryFolder is an installation that delivers to a file and publishes into a
// folder; nothing runs there but commands.
func deliveryFolder(t *testing.T) (dir, file string) {
	t.Helper()
	dir = t.TempDir()
	file = filepath.Join(dir, "cardea.toml")
	text := fmt.Sprintf("[node]\nname = \"node-1\"\ndata_dir = \"data\"\n[[audit.delivery]]\nname = \"agent\"\ntype = \"file\"\npath = %q\n[audit.publish]\ndir = \"published\"\n", filepath.Join(dir, "agent.ndjson"))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, file
}

// must runs a command that must exit so.
func must(t *testing.T, want int, args ...string) (stdout, stderr string) {
	t.Helper()
	code, stdout, stderr := run(t, Process{}, args...)
	if code != want {
		t.Fatalf("cardea %s: exit %d, want %d\n%s\n%s", strings.Join(args, " "), code, want, stdout, stderr)
	}
	return stdout, stderr
}

func copyFolder(t *testing.T, from, to string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

func TestDeliverOnceAndItsState(t *testing.T) {
	t.Parallel()
	dir, file := deliveryFolder(t)
	for range 3 {
		must(t, exitDone, "audit", "deliver", "--config", file, "--once")
	}
	b, err := os.ReadFile(filepath.Join(dir, "agent.ndjson"))
	if err != nil || strings.Count(string(b), "\n") != 3 || !strings.Contains(string(b), `"id":"cardea/node-1-cli#2"`) || !strings.Contains(string(b), `"op":"log.read"`) {
		t.Errorf("%s, %v", b, err)
	}
	table, _ := must(t, exitDone, "audit", "delivery", "--config", file)
	for _, want := range []string{"DELIVERY", "agent     ", "working", "folder", "cardea/node-1-cli"} {
		if !strings.Contains(table, want) {
			t.Errorf("%q is missing in\n%s", want, table)
		}
	}
	out, _ := must(t, exitDone, "audit", "delivery", "--config", file, "--output", "json")
	var r deliveryReport
	if err := json.Unmarshal([]byte(out), &r); err != nil || len(r.Deliveries) != 1 || r.Deliveries[0].Sent != 3 || r.Published["folder cardea/node-1-cli"].Size != 3 {
		t.Errorf("%s, %v", out, err)
	}
	empty := filepath.Join(dir, "empty.toml")
	if err := os.WriteFile(empty, []byte("[node]\nname = \"node-1\"\ndata_dir = \"other\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, stderr := must(t, exitFailed, "audit", "deliver", "--config", empty, "--once"); !strings.Contains(stderr, "there is nothing to deliver to") {
		t.Errorf("got %q", stderr)
	}
	if out, _ := must(t, exitDone, "audit", "delivery", "--config", empty); !strings.Contains(out, "nothing is delivered") {
		t.Errorf("got %q", out)
	}
}

func TestAlertsAreHandedOver(t *testing.T) {
	t.Parallel()
	dir, file := deliveryFolder(t)
	alerts := filepath.Join(dir, "alerts.ndjson")
	good := func(id string) string {
		return `{"id":"` + id + `","rule":"B2","title":"burst","severity":4,"time":"2026-11-22T07:01:02Z","start":"2026-11-22T07:01:02Z","pci":["10.4.1.1"],"reason":"why","count":1,"evidence":[],"next":"ask"}` + "\n"
	}
	if err := os.WriteFile(alerts, []byte(good("a-1")+"\n"+`{"id":"x"}`+"\n{\n"+good("a-2")), 0o600); err != nil {
		t.Fatal(err)
	}
	out, stderr := must(t, exitFindings, "audit", "deliver", "--config", file, "--alerts", alerts)
	if out != "2 alerts handed over\n" || !strings.Contains(stderr, "line 3 is no alert") || !strings.Contains(stderr, "line 4 is no alert") {
		t.Errorf("got %q, %q", out, stderr)
	}
	must(t, exitDone, "audit", "deliver", "--config", file, "--once")
	b, err := os.ReadFile(filepath.Join(dir, "agent.ndjson"))
	if err != nil || strings.Count(string(b), `"kind":"alert","id":"alert/a-`) != 2 {
		t.Errorf("%s, %v", b, err)
	}
	if _, stderr := must(t, exitFailed, "audit", "deliver", "--config", file, "--alerts", filepath.Join(dir, "none")); !strings.Contains(stderr, "--alerts: open") {
		t.Errorf("got %q", stderr)
	}
}

func TestDeliveryThatFailsIsTold(t *testing.T) {
	t.Parallel()
	dir, file := deliveryFolder(t)
	if err := os.Mkdir(filepath.Join(dir, "agent.ndjson"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, stderr := must(t, exitFailed, "audit", "deliver", "--config", file, "--once"); !strings.Contains(stderr, "is a directory") || !strings.Contains(stderr, "nothing is lost: what is left is delivered the next time") {
		t.Errorf("got %q", stderr)
	}
	if out, _ := must(t, exitDone, "audit", "delivery", "--config", file); !strings.Contains(out, "failing") || !strings.Contains(out, "is a directory") {
		t.Errorf("got %q", out)
	}
}

// TestPublishedCheckpointsProveWhatTheDatabaseCannot is what somebody could do who
// has the database, and the signing key too.
func TestPublishedCheckpointsProveWhatTheDatabaseCannot(t *testing.T) {
	t.Parallel()
	dir, file := deliveryFolder(t)
	data, kept, published := filepath.Join(dir, "data"), filepath.Join(dir, "kept"), filepath.Join(dir, "published")
	verify := func(want int, texts ...string) {
		t.Helper()
		out, stderr := must(t, want, "audit", "verify", "--config", file, "--published", published)
		for _, text := range texts {
			if !strings.Contains(out, text) {
				t.Errorf("%q is missing in\n%s%s", text, out, stderr)
			}
		}
	}
	deliver := func() { t.Helper(); must(t, exitDone, "audit", "deliver", "--config", file, "--once") }
	deliver()
	copyFolder(t, data, kept)
	deliver()
	deliver()
	deliver()
	verify(exitDone, "cardea/node-1-cli: intact")

	// An older copy of the database, with the cursors as they are.
	cursors := filepath.Join(dir, "cursors")
	copyFolder(t, filepath.Join(data, "delivery"), cursors)
	copyFolder(t, kept, data)
	copyFolder(t, cursors, filepath.Join(data, "delivery"))
	verify(exitFindings, "FINDING rollback")
	// It grows to the old size and beyond, signed by the right key: without what was
	// published it is in order.
	for range 3 {
		must(t, exitDone, "audit", "verify", "--config", file)
	}
	verify(exitFindings, "FINDING fork")

	// The delivery notices by itself too: what it has sent is not what is there.
	code, _, stderr := run(t, Process{}, "audit", "deliver", "--config", file, "--once")
	if code != exitFindings || !strings.Contains(stderr, "integrity: the") || !strings.Contains(stderr, "do not have the root of its head: some were changed") {
		t.Errorf("exit %d, %q", code, stderr)
	}

	// Everything is made anew, with another signing key.
	if err := os.RemoveAll(data); err != nil {
		t.Fatal(err)
	}
	must(t, exitDone, "audit", "delivery", "--config", writeEmptyDatabase(t, file))
	verify(exitFindings, "FINDING unknown_key", "is not signed by a trusted key: the log's signing key was replaced")

	for folder, want := range map[string]string{
		t.TempDir(): "--published: no checkpoint in", filepath.Join(dir, "none"): "--published: ",
	} {
		code, _, stderr := run(t, Process{}, "audit", "verify", "--config", file, "--published", folder)
		if code == exitDone || code == exitFindings || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit %d, %q", folder, code, stderr)
		}
	}
	// A changed copy is no proof of anything, and is told as such.
	names, err := filepath.Glob(filepath.Join(published, "cardea", "node-1-cli", "*.checkpoint"))
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	b, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(names[0], []byte(strings.Replace(string(b), "\n1\n", "\n9\n", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	copyFolder(t, kept, data)
	if code, _, stderr := run(t, Process{}, "audit", "verify", "--config", file, "--published", published); code != exitFailed || !strings.Contains(stderr, "was changed") {
		t.Errorf("exit %d, %q", code, stderr)
	}
}

// writeEmptyDatabase makes a new database and signing key by reading its log.
func writeEmptyDatabase(t *testing.T, file string) string {
	t.Helper()
	other := filepath.Join(filepath.Dir(file), "fresh.toml")
	text := "[node]\nname = \"node-1\"\ndata_dir = \"data\"\n[[audit.delivery]]\nname = \"other\"\ntype = \"file\"\npath = \"other.ndjson\"\n"
	if err := os.WriteFile(other, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, exitDone, "audit", "deliver", "--config", other, "--once")
	return other
}
