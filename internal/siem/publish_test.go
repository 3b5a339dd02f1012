package siem

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cardea/internal/audit"
	"cardea/internal/secret"
)

// publisher publishes a log to targets; its delivery has one receiver, which is
// returned, and which Drain serves.
func publisher(t *testing.T, dir string, log *memLog, targets map[string]Target) (*Publisher, *Delivery, *collector, *clock) {
	t.Helper()
	got := &collector{}
	o, c, _ := options(t, dir, nil, Receiver{Name: "siem", Sink: got})
	d := mustOpen(t, o)
	t.Cleanup(func() { d.Close() })
	if targets["deliveries"] != nil {
		targets["deliveries"] = Spooled{d.Spool()}
	}
	p, err := NewPublisher(PublisherOptions{
		Path: filepath.Join(dir, "published.json"), Logs: []Log{{Source: log}}, Targets: targets, Delivery: d, Now: c.Now, Logger: o.Logger,
	})
	if err != nil {
		t.Fatal(err)
	}
	return p, d, got, c
}

func TestCheckpointsArePublishedEverywhere(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	dir, folder, log := t.TempDir(), filepath.Join(t.TempDir(), "published"), newMemLog(t, "node-1")
	log.add(t, 7)
	key := secret.New([]byte("0123456789abcdef0123456789abcdef"))
	var witnessed []string
	witness := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Header.Get(HeaderSignature) != Sign(key, r.Header.Get(HeaderTimestamp), r.Header.Get(HeaderDelivery), body) {
			t.Errorf("signature %q, %v", r.Header.Get(HeaderSignature), err)
		}
		witnessed = append(witnessed, string(body))
	}))
	defer witness.Close()
	b, so := newBucket(t)
	so.LockMode, so.LockFor = "COMPLIANCE", 24*time.Hour
	locked, err := NewS3Folder(t.Context(), so, func() time.Time { return testTime })
	if err != nil {
		t.Fatal(err)
	}
	targets := map[string]Target{
		"folder": Folder{folder}, "deliveries": Spooled{}, "S3": locked,
		"witness": NewWitness(WebhookOptions{URL: witness.URL, Key: key, Now: time.Now}),
	}
	p, d, got, _ := publisher(t, dir, log, targets)
	for range 2 { // the second time there is nothing new
		if err := p.Publish(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	log.add(t, 3)
	if err := p.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	published, err := ReadFolder(folder)
	if err != nil || len(published) != 2 {
		t.Fatalf("%d in the folder, %v", len(published), err)
	}
	for i, signed := range published {
		c, err := audit.OpenCheckpoint(signed, log.verifier)
		if err != nil || c.Size != []int64{7, 10}[i] {
			t.Errorf("%+v, %v", c, err)
		}
		if witnessed[i] != string(signed) || got.events[i].Checkpoint.Signed != string(signed) {
			t.Error("others got something else")
		}
	}
	name := "/logs/pci/cardea/node-1/00000000000000000010.checkpoint"
	h := b.headers[name]
	if len(b.objects) != 2 || h.Get("X-Amz-Object-Lock-Mode") != "COMPLIANCE" || h.Get("X-Amz-Object-Lock-Retain-Until-Date") != "2026-11-23T07:01:02.345Z" || h.Get("If-None-Match") != "*" {
		t.Errorf("%d objects, headers %v", len(b.objects), h)
	}
	if h.Get("X-Amz-Checksum-Sha256") == "" && h.Get("X-Amz-Trailer") == "" {
		t.Errorf("no checksum, which an object lock needs: %v", h)
	}
	if len(witnessed) != 2 || len(got.got()) != 2 {
		t.Errorf("%d witnessed, %d delivered", len(witnessed), len(got.got()))
	}
}

// TestPublisherRefusesAnotherHistory is what a publisher finds by itself, with what
// it remembers and what is in the folder.
func TestPublisherRefusesAnotherHistory(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		size   int
		forget bool
		want   error
	}{
		"rolled back":              {5, false, audit.ErrDamaged},
		"replaced":                 {8, false, ErrForked},
		"replaced, and state lost": {8, true, ErrForked},
	} {
		dir, folder, log := t.TempDir(), t.TempDir(), newMemLog(t, "node-1")
		log.add(t, 8)
		p, _, _, _ := publisher(t, dir, log, map[string]Target{"folder": Folder{folder}})
		if err := p.Publish(t.Context()); err != nil {
			t.Fatal(err)
		}
		if tc.forget {
			dir = t.TempDir()
		} else {
			dir = copyState(t, dir)
		}
		other := newMemLog(t, "node-1")
		other.add(t, tc.size)
		p, d, got, _ := publisher(t, dir, other, map[string]Target{"folder": Folder{folder}})
		if err := p.Publish(t.Context()); !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v", name, err)
		}
		if err := d.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if f := got.findings(); len(f) != 1 || f[0].Check != CheckIntegrity || !f[0].Failing {
			t.Errorf("%s: findings %+v", name, f)
		}
	}
}

func copyState(t *testing.T, dir string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "published.json"))
	if err != nil {
		t.Fatal(err)
	}
	to := t.TempDir()
	if err := os.WriteFile(filepath.Join(to, "published.json"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	return to
}

func TestPublicationThatStallsIsTold(t *testing.T) {
	t.Parallel()
	dir, log := t.TempDir(), newMemLog(t, "node-1")
	log.add(t, 3)
	answer := http.StatusOK
	witness := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(answer) }))
	defer witness.Close()
	p, d, got, c := publisher(t, dir, log, map[string]Target{"witness": NewWitness(WebhookOptions{URL: witness.URL, Now: time.Now})})
	publish := func(fails bool, findings int) {
		t.Helper()
		if err := p.Publish(t.Context()); (err != nil) != fails {
			t.Fatal(err)
		}
		if err := d.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := len(got.findings()); n != findings {
			t.Fatalf("%d findings, want %d", n, findings)
		}
	}
	publish(false, 0)
	log.add(t, 1)
	answer = http.StatusInternalServerError
	publish(true, 0) // once is no stall
	c.add(11 * time.Minute)
	publish(true, 1)
	publish(true, 1)
	if f := got.findings()[0]; f.Check != CheckPublication || !strings.Contains(f.Message, "checkpoints of cardea/node-1 are not published to witness: 500 Internal Server Error") {
		t.Errorf("finding %+v", f)
	}
	if p.age() != 11*time.Minute {
		t.Errorf("age %v", p.age())
	}
	answer = http.StatusOK
	publish(false, 2)
	if f := got.findings()[1]; f.Failing {
		t.Errorf("finding %+v", f)
	}
}

func TestReadFolderRefusesWhatIsNoCheckpoint(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "1.checkpoint"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFolder(dir); err == nil || !strings.Contains(err.Error(), "1.checkpoint: malformed note") {
		t.Errorf("got %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "1.checkpoint"), make([]byte, audit.MaxCheckpoint+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFolder(dir); err == nil || !strings.Contains(err.Error(), "is not a checkpoint") {
		t.Errorf("got %v", err)
	}
}
