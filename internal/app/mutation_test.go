package app

import (
	"bytes"
	"encoding/base64"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"cardea/internal/audit"
	"cardea/internal/config"
)

// TestNoChangedByteOfAnExportedLogGoesUnseen flips a bit in bytes of each part of an
// exported log, entries, tiles, head and checkpoints: the auditor who has the public
// key and a checkpoint that was kept finds each, and nothing in the untouched file.
func TestNoChangedByteOfAnExportedLogGoesUnseen(t *testing.T) {
	t.Parallel()
	cfg := config.Default()
	cfg.Node.Name, cfg.Node.DataDir, cfg.Vault.Listen, cfg.Ops.Listen = "vault-1", t.TempDir(), "127.0.0.1:0", "127.0.0.1:0"
	cfg.Derive("")
	a, stop := start(t, cfg, time.Now)
	for range 270 { // more than a tile has
		record(t, a)
	}
	stop()
	s, err := OpenStore(t.Context(), cfg, StoreOptions{Logger: slog.New(slog.DiscardHandler), Now: time.Now, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var file bytes.Buffer
	if err := audit.WriteBundle(t.Context(), &file, s, nil); err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(cfg.Audit.SigningKeyFile + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	var kept []byte
	for note, err := range s.Checkpoints(t.Context(), "cardea/vault-1") {
		if err != nil {
			t.Fatal(err)
		}
		kept = note
	}
	o := audit.VerifyOptions{Verifiers: []string{strings.TrimSpace(string(key))}, Kept: [][]byte{kept}, Workers: 1}
	seen := func(b []byte) bool {
		bundle, err := audit.OpenBundle(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return true
		}
		report, err := audit.Verify(t.Context(), bundle, o)
		return err != nil || !report.OK()
	}
	whole := file.Bytes()
	if seen(whole) {
		t.Fatal("something is found in the untouched file")
	}
	flips, missed := map[string]int{}, 0
	at := 0
	for line := range bytes.Lines(whole) {
		part, step := "entry", 7 // of entries so many bytes apart, of the rest fewer
		if line[0] != '{' {
			word, _, _ := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
			switch part, step = string(word), 1; {
			case part == "segment": // of which there are many
				step = 5
			case part == "tile": // whose line is long
				step = 29
			case !slices.Contains([]string{"log", "checkpoint", "end"}, part):
				part = "checkpoint" // the lines of its note; and the file's first
			}
		}
		for i := at % step; i < len(line); i += step {
			if part == "entry" && (at+i)%13 != 0 {
				continue
			}
			changed := slices.Clone(whole)
			changed[at+i] ^= 1 << ((at + i) % 8)
			flips[part]++
			if !seen(changed) && !sameSignature(line, changed[at:at+len(line)]) {
				if missed++; missed < 10 {
					t.Errorf("a flip in byte %d of %q is not found", i, line[:min(len(line), 80)])
				}
			}
		}
		at += len(line)
	}
	t.Logf("%d bytes, flips by part: %v; %d not found", len(whole), flips, missed)
	if flips["entry"] < 100 || len(flips) < 5 {
		t.Errorf("too few were tried: %v", flips)
	}
}

// sameSignature reports whether two lines of a note have the same signature: the
// base64 of golang.org/x/mod/sumdb/note has two bits at its end that say nothing.
func sameSignature(a, b []byte) bool {
	fields, others := bytes.Fields(a), bytes.Fields(b)
	if len(fields) != 3 || len(others) != 3 || !bytes.Equal(fields[0], []byte("—")) || !bytes.Equal(fields[1], others[1]) {
		return false
	}
	x, err := base64.StdEncoding.DecodeString(string(fields[2]))
	y, err2 := base64.StdEncoding.DecodeString(string(others[2]))
	return err == nil && err2 == nil && bytes.Equal(x, y)
}
