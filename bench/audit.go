package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"cardea/internal/audit"
	"cardea/internal/store"
)

// auditOptions are those of the benchmark of the audit log.
type auditOptions struct{ entries int }

func (o *auditOptions) flags() {
	flag.IntVar(&o.entries, "audit-entries", 100_000, "entries of the audit log to verify; given, that is measured alone")
}

// auditCommit is how many entries a commit of the log has: about what the server's
// have under load.
const auditCommit = 64

// measureAudit measures 'cardea audit verify' as a process, on a log in SQLite and in
// a bundle, each with its file out of and in the page cache. The bound is SHA-256 of
// the bytes of the entries alone, on all cores, measured right before and after.
func measureAudit(ctx context.Context, o options, r *report, exe, dir string) error {
	if o.quick {
		o.audit.entries = min(o.audit.entries, 20_000)
	}
	dir = filepath.Join(dir, "audit")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	start := time.Now()
	l, err := buildLog(ctx, dir, o.audit.entries)
	if err != nil {
		return fmt.Errorf("build the log: %w", err)
	}
	r.add(row{what: "audit: entries sealed and stored", rate: float64(o.audit.entries) / time.Since(start).Seconds(), note: fmt.Sprintf("%d a commit", auditCommit)})
	bundle := filepath.Join(dir, "audit.cardea")
	if _, err := runFile(ctx, exe, os.Environ(), nil, []string{"audit", "export", "--config", l.config, bundle}); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	for _, c := range []struct{ what, file, flag, value string }{
		{"SQLite", l.database, "--config", l.config},
		{"bundle", bundle, "--bundle", bundle},
	} {
		for _, cached := range []bool{false, true} {
			if err := l.verify(ctx, r, exe, c.what, c.file, cached, c.flag, c.value); err != nil {
				return fmt.Errorf("%s: %w", c.what, err)
			}
		}
	}
	return nil
}

// builtLog is a log to verify.
type builtLog struct {
	config, database, verifier string
	entries                    int
	bytes                      int64 // of their lines
}

// buildLog writes a log as a node does, through the store.
func buildLog(ctx context.Context, dir string, n int) (l builtLog, err error) {
	const node = "bench"
	l = builtLog{config: filepath.Join(dir, "cardea.toml"), database: filepath.Join(dir, "cardea.db"), verifier: filepath.Join(dir, "audit.pub"), entries: n}
	key := filepath.Join(dir, "audit.key")
	text := fmt.Sprintf("[node]\nname = %q\ndata_dir = %q\n[database]\nurl = \"sqlite:%s\"\n[audit]\nsigning_key_file = %q\n", node, dir, l.database, key)
	origin, err := audit.Origin(node)
	if err != nil {
		return l, err
	}
	secret, verifier, err := audit.GenerateSigningKey(origin)
	if err != nil {
		return l, err
	}
	defer secret.Destroy()
	err = errors.Join(os.WriteFile(l.config, []byte(text), 0o600), os.WriteFile(key, secret.Expose(), 0o600),
		os.WriteFile(l.verifier, []byte(verifier+"\n"), 0o600))
	if err != nil {
		return l, err
	}
	signer, err := audit.NewSigner(secret)
	if err != nil {
		return l, err
	}
	defer signer.Destroy()
	s, err := store.Open(ctx, store.Options{URL: "sqlite:" + l.database, Node: node, Signer: signer})
	if err != nil {
		return l, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	at := time.Now().Add(-time.Duration(n) * time.Millisecond)
	batch := make([]audit.Sealed, 0, auditCommit)
	for i := range n {
		sealed, err := benchEntry(node, at, i).Seal()
		if err != nil {
			return l, err
		}
		l.bytes += int64(len(sealed.Line))
		if batch = append(batch, sealed); len(batch) < auditCommit && i < n-1 {
			continue
		}
		if err := s.Append(ctx, batch...); err != nil {
			return l, err
		}
		batch = batch[:0]
	}
	return l, nil
}

// benchEntry is the entry of a card that is stored or retrieved.
func benchEntry(node string, start time.Time, i int) audit.Entry {
	id := func(kind int) string {
		return fmt.Sprintf("019a%04x-%04x-7%03x-8a4b-%012x", kind, i>>16&0xffff, i&0xfff, i)
	}
	e := audit.Entry{
		ID: id(0x9b3c), Time: start.Add(time.Duration(i) * time.Millisecond), Node: node, RequestID: id(0xaaaa), Tenant: "public",
		Who: audit.Actor{Type: "tenant", Name: "hyperswitch", Auth: "jws", IP: "192.0.2.7"},
		Op:  "card.retrieve", PCI: "10.2.1.1", Outcome: audit.Allowed, Result: "retrieved",
		Resource: audit.Resource{
			Kind: "card", Merchant: fmt.Sprintf("merchant_%d", i%16), Customer: fmt.Sprintf("cus_%08d", i%1_000_000), Reference: id(0xbbbb),
			MaskedPAN: "411111******1111", Key: id(0xcccc), KeyVersion: 3,
		},
	}
	if i%4 == 0 {
		e.Op, e.Result = "card.store", "stored"
	}
	return e
}

// verify measures one run of the command.
func (l builtLog) verify(ctx context.Context, r *report, exe, what, file string, cached bool, args ...string) error {
	prepare, state := evict, "from disk"
	if cached {
		prepare, state = readThrough, "in the page cache"
	}
	if err := prepare(file); err != nil {
		return err
	}
	start := time.Now()
	if err := readThrough(file); err != nil {
		return err
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	read := float64(info.Size()) / mib / time.Since(start).Seconds()
	if err := prepare(file); err != nil {
		return err
	}
	before, cpuBefore := boundSHA256(time.Second)
	f, err := runFile(ctx, exe, os.Environ(), nil, append([]string{"audit", "verify", "--public-key", l.verifier, "--origin", "cardea/bench"}, args...))
	if err != nil {
		return err
	}
	after, cpuAfter := boundSHA256(time.Second)
	hash := (before + after) / 2 * float64(l.entries) / float64(l.bytes) // entries a second
	bare := float64(l.bytes) * (cpuBefore + cpuAfter) / 2                // seconds of processor time
	r.add(row{
		what: fmt.Sprintf("audit: %d entries verified, %s, %s", l.entries, what, state), rate: float64(l.entries) / f.took.Seconds(), bound: hash,
		note: fmt.Sprintf("%.0f MiB/s of %.0f; %.2f s CPU, bare SHA-256 %.2f (%.0f %%); reading the file alone %.0f MiB/s, %.0f here; peak %d MiB",
			float64(l.bytes)/mib/f.took.Seconds(), float64(l.bytes)/mib*hash/float64(l.entries), f.cpu.Seconds(), bare, 100*bare/f.cpu.Seconds(),
			read, float64(info.Size())/mib/f.took.Seconds(), f.peak/mib),
	})
	return nil
}

// boundSHA256 is SHA-256 of long messages in memory on all cores: bytes a second, and
// seconds of processor time a byte.
func boundSHA256(d time.Duration) (rate, cpu float64) {
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	done := make([]int64, workers)
	start, used := time.Now(), cpuTime()
	for w := range workers {
		wg.Go(func() {
			for buf := random(64 << 10); time.Since(start) < d; done[w] += int64(len(buf)) {
				sha256.Sum256(buf)
			}
		})
	}
	wg.Wait()
	var n int64
	for _, m := range done {
		n += m
	}
	return float64(n) / time.Since(start).Seconds(), (cpuTime() - used).Seconds() / float64(n)
}

// readThrough reads a file from beginning to end.
func readThrough(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{f}, make([]byte, mib))
	return errors.Join(err, f.Close())
}

// evict takes a file out of the page cache (Linux).
func evict(file string) error {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED), f.Close())
}
