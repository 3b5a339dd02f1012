package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cardea/internal/app"
	"cardea/internal/audit"
	"cardea/internal/config"
	"cardea/internal/iam"
	"cardea/internal/store/storetest"
	"cardea/internal/vault"
)

// oldNode is an installation whose node wrote so many entries a hundred days ago, and
// does not run. more is added to its configuration.
func oldNode(t *testing.T, entries int, more string) (dir, file string) {
	t.Helper()
	dir = t.TempDir()
	file = filepath.Join(dir, "cardea.toml")
	text := "[node]\nname = \"node-1\"\ndata_dir = \"data\"\n" + strings.ReplaceAll(more, "DIR", dir)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load([]string{file}, nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := app.LoadOrMakeSigningKey(cfg, discard())
	if err != nil {
		t.Fatal(err)
	}
	defer signer.Destroy()
	var at atomic.Int64 // the store signs on a goroutine of its own
	at.Store(time.Now().Add(-100 * 24 * time.Hour).UnixNano())
	now := func() time.Time { return time.Unix(0, at.Load()) }
	s, err := app.OpenStore(t.Context(), cfg, app.StoreOptions{Logger: discard(), Now: now, Signer: signer})
	if err != nil {
		t.Fatal(err)
	}
	g := &vault.Gate{Node: "node-1", Log: s, Tenants: vault.NewTenants(), Now: now, Logger: discard()}
	for i := range entries {
		at.Add(int64(time.Second))
		if err := g.Record(context.Background(), iam.System("node"), vault.OpLogOpen, vault.Target{Reference: fmt.Sprint("ref-", i)}, "opened", "old"); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, file
}

func inOrder(t *testing.T, text string, want ...string) {
	t.Helper()
	for rest := text; len(want) > 0; want = want[1:] {
		_, after, ok := strings.Cut(rest, want[0])
		if !ok {
			t.Fatalf("%q is missing, or not in order, in\n%s", want[0], text)
		}
		rest = after
	}
}

const archivedBefore = "cardea/node-1: entries before 512, until "

func TestArchiveAndPrune(t *testing.T) {
	t.Parallel()
	dir, file := oldNode(t, 600, "")
	keys, archive := filepath.Join(dir, "data", "*.pub"), filepath.Join(dir, "archive")
	matches, err := filepath.Glob(keys)
	if err != nil || len(matches) != 1 {
		t.Fatalf("%v, %v", matches, err)
	}
	public := []string{"--public-key", matches[0], "--public-key", strings.Replace(matches[0], ".key", "-cli.key", 1)}
	with := func(args ...string) []string { return append(append([]string{"audit"}, args...), "--config", file) }
	must(t, exitDone, with("checkpoint")...) // makes the key of the command line

	_, stderr := must(t, exitDone, append(with("archive", "--before", "720h", "--out", archive, "--prune", "--keep", "2500h"), public...)...)
	out, _ := must(t, exitDone, append(with("archive", "--before", "720h", "--out", archive, "--prune"), public...)...)
	inOrder(t, out, "cardea/node-1 ", "nothing new", "cardea/node-1: entries 0 to 511 pruned from the database")
	if stderr != "" {
		t.Errorf("got %q", stderr)
	}
	out, _ = must(t, exitDone, append(with("verify"), public...)...)
	inOrder(t, out, "cardea/node-1: intact, 600 entries", "entries before 512 were archived and pruned, as recorded on 20", "archive sha256/", "cardea/node-1-cli: intact")
	must(t, exitDone, append(with("verify", "--archive", archive), public...)...)
	must(t, exitDone, append(with("verify", "--origin", "cardea/node-1"), public...)...)
	out, _ = must(t, exitDone, with("show", "--op", "log.prune", "--output", "json")...)
	inOrder(t, out, `"log":"cardea/node-1-cli"`, `"who":{"type":"operator"`, `"reference":"cardea/node-1"`, `"detail":"entries 0 to 511, root `, "archive sha256/")
	_, stderr = must(t, exitDone, with("archive", "--before", "720h", "--out", archive, "--prune")...)
	inOrder(t, stderr, "trusting the public keys")

	t.Run("readers tell", func(t *testing.T) {
		for _, c := range []struct {
			args []string
			want string // on standard output
		}{
			{[]string{"show", "--origin", "cardea/node-1", "-n", "3"}, "ref-599"},
			{[]string{"report", "--hours", "2500"}, "log.open   88 "},
			{[]string{"export", filepath.Join(dir, "whole.bundle")}, "whole.bundle: logs"},
			{[]string{"detect", "--since", "2500h", "--history", "0s"}, ""},
		} {
			out, stderr := must(t, exitDone, with(c.args...)...)
			inOrder(t, stderr, archivedBefore, "were archived on 20", ": read them with --archive PLACE\n")
			inOrder(t, out, c.want)
			if c.args[0] == "export" {
				continue
			}
			_, stderr = must(t, exitDone, with(append(c.args, "--archive", archive)...)...)
			if strings.Contains(stderr, "archived") {
				t.Errorf("%v, with the archive: %s", c.args, stderr)
			}
		}
		out, _ := must(t, exitDone, with("report", "--hours", "2500", "--archive", archive)...)
		inOrder(t, out, "log.open   600 ")
		out, _ = must(t, exitDone, with("show", "--reference", "ref-0", "--archive", archive)...)
		inOrder(t, out, "cardea/node-1 ", " ref-0 ")
		if _, stderr := must(t, exitDone, with("show", "--since", "24h")...); strings.Contains(stderr, "archived") {
			t.Errorf("of what was not asked for: %s", stderr)
		}
		out, _ = must(t, exitDone, append([]string{"audit", "verify", "--bundle", filepath.Join(dir, "whole.bundle")}, public...)...)
		inOrder(t, out, "cardea/node-1: intact, 600 entries", "entries before 512 were archived")
		_, stderr := must(t, exitDone, "audit", "show", "--bundle", filepath.Join(dir, "whole.bundle"))
		inOrder(t, stderr, archivedBefore)
	})
	t.Run("proofs", func(t *testing.T) {
		out, _ := must(t, exitDone, with("show", "--reference", "ref-7", "--archive", archive, "--output", "json")...)
		var line struct {
			Entry audit.Entry `json:"entry"`
		}
		if err := json.Unmarshal([]byte(out), &line); err != nil {
			t.Fatal(err)
		}
		proof := filepath.Join(dir, "proof")
		_, stderr := must(t, exitFailed, with("prove", line.Entry.ID, "--out", proof)...)
		inOrder(t, stderr, archivedBefore, "there is no such entry")
		must(t, exitDone, with("prove", line.Entry.ID, "--out", proof, "--archive", archive)...)
		out, _ = must(t, exitDone, append([]string{"audit", "verify", "--proof", proof}, public...)...)
		inOrder(t, out, "cardea/node-1: entry 7 is proved")
	})
	t.Run("removal is found", func(t *testing.T) {
		storetest.Exec(t, "sqlite:"+filepath.Join(dir, "data", "vault.db"), "DELETE FROM audit_segment WHERE first < 520 AND log_id = (SELECT id FROM audit_log WHERE origin = 'cardea/node-1')")
		for _, more := range [][]string{nil, {"--archive", archive}} {
			out, _ := must(t, exitFindings, append(append(with("verify"), public...), more...)...)
			inOrder(t, out, "cardea/node-1: NOT INTACT", "FINDING deleted at entry 512")
		}
		_, stderr := must(t, exitFindings, with("show", "--since", "1h")...)
		inOrder(t, stderr, "cardea/node-1: entries before 520 are missing, and no record says that they were archived: see 'cardea audit verify'")
		must(t, exitFindings, with("report")...)
		out, _ = must(t, exitFindings, append(with("archive", "--before", "0s", "--out", filepath.Join(dir, "other")), public...)...)
		inOrder(t, out, "cardea/node-1 ", "NOT INTACT, not archived")
	})
}

func TestPruneWaitsForDeliveries(t *testing.T) {
	t.Parallel()
	dir, file := oldNode(t, 300, "[[audit.delivery]]\nname = \"agent\"\ntype = \"file\"\npath = \"DIR/agent.ndjson\"\n")
	prune := []string{"audit", "archive", "--config", file, "--before", "720h", "--out", filepath.Join(dir, "archive"), "--prune"}
	out, _ := must(t, exitDone, prune...)
	inOrder(t, out, "cardea/node-1: nothing to prune", "more could be pruned, but delivery agent has not delivered it: see 'cardea audit delivery'")
	must(t, exitDone, "audit", "deliver", "--config", file, "--once")
	out, _ = must(t, exitDone, prune...)
	inOrder(t, out, "cardea/node-1: entries 0 to 255 pruned")

	// One that begins afterwards gets what is left, and nothing looks like tampering.
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(b, "[[audit.delivery]]\nname = \"late\"\ntype = \"file\"\npath = \"late.ndjson\"\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	_, stderr := must(t, exitDone, "audit", "deliver", "--config", file, "--once")
	inOrder(t, stderr, "entries 0 to 255 of cardea/node-1 were archived")
	late, err := os.ReadFile(filepath.Join(dir, "late.ndjson"))
	if err != nil || strings.Contains(string(late), "is missing") || strings.Contains(string(late), "are missing") || !strings.Contains(string(late), `"id":"cardea/node-1#256"`) {
		t.Errorf("%.2000s, %v", late, err)
	}
}

func TestArchiveInABucketByTheCommandLine(t *testing.T) {
	for _, kv := range []string{"AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_EC2_METADATA_DISABLED=true", "AWS_REGION=eu-central-1"} {
		name, value, _ := strings.Cut(kv, "=")
		t.Setenv(name, value)
	}
	var mu sync.Mutex
	objects, locks := map[string][]byte{}, map[string]string{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		w.Header().Set("ETag", `"x"`)
		body, there := objects[r.URL.Path]
		switch {
		case r.Method == http.MethodPut:
			objects[r.URL.Path], _ = io.ReadAll(r.Body)
			locks[r.URL.Path] = r.Header.Get("X-Amz-Object-Lock-Mode") + " " + r.Header.Get("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id")
		case there:
			w.Write(body)
		default:
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, "<Error><Code>NoSuchKey</Code></Error>")
		}
	}))
	defer server.Close()
	_, file := oldNode(t, 300, "")
	at := []string{"--config", file, "--archive-endpoint-url", server.URL}
	out, _ := must(t, exitDone, append([]string{"audit", "archive"}, append(at, "--before", "720h", "--out", "s3://logs/pci", "--prune", "--kms-key", "alias/logs", "--object-lock", "compliance")...)...)
	inOrder(t, out, "cardea/node-1: entries 0 to 255 pruned")
	if len(objects) != 2 || locks["/logs/pci/manifest.json"] != "COMPLIANCE alias/logs" {
		t.Errorf("%v", locks)
	}
	out, _ = must(t, exitDone, append([]string{"audit", "show", "--archive", "s3://logs/pci", "--reference", "ref-3"}, at...)...)
	inOrder(t, out, " ref-3 ")
}

func TestArchiveRefusesWhatCannotBeMeant(t *testing.T) {
	t.Parallel()
	_, file := oldNode(t, 1, "")
	base := []string{"audit", "archive", "--config", file, "--out", "nowhere"}
	for want, args := range map[string][]string{
		`--keep: "x" is not a duration such as 2208h`:                 {"--before", "1h", "--prune", "--keep", "x"},
		"--kms-key and --object-lock are for an archive in S3":        {"--before", "1h", "--kms-key", "k"},
		"--object-lock-days: 30; logs are kept for 12 months":         {"--before", "1h", "--object-lock", "governance", "--object-lock-days", "30", "--out", "s3://b"},
		`--out: "s3://" names no bucket, expected s3://BUCKET/PREFIX`: {"--before", "1h", "--out", "s3://"},
	} {
		if _, stderr := must(t, exitWrongUse, append(base, args...)...); !strings.Contains(stderr, want) {
			t.Errorf("%v: %s", args, stderr)
		}
	}
	_, stderr := must(t, exitDone, "audit", "archive", "--config", file, "--out", filepath.Join(t.TempDir(), "a"), "--before", "1h", "--prune", "--keep", "0s")
	inOrder(t, stderr, "--keep: PCI DSS 10.5.1 asks for three months of the logs at hand; less is for tests")
}
