package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"cardea/internal/audit"
	"cardea/internal/config"
	"cardea/internal/disk"
	"cardea/internal/iam"
	"cardea/internal/retention"
	"cardea/internal/siem"
	"cardea/internal/vault"
)

// OpLogRollback is that a node starts with an older audit log than it has signed, or
// with another: its database was restored, or changed behind its back.
var OpLogRollback = &vault.Operation{Name: "log.rollback", Action: "log:Rollback", PCI: "10.2.1.6", Kind: "log", Sealed: true}

// newestEvery is how often the newest checkpoint is kept while the log grows: what is
// rolled back by less may stay unseen after the machine itself has failed.
const newestEvery = 10 * time.Second

// highWater keeps the newest checkpoint of a node's log in a file beside the key that signs
// it, out of the database. A log that was put back to an earlier state is whole by
// itself, checkpoints included: only somebody else's memory shows it (RFC 9162 section
// 11.3 has monitors for that). It is safe for concurrent use.
type highWater struct {
	path string
	was  []byte // what was in the file at the start; nil if it could not be read
	gone bool   // there was no file
	log  *slog.Logger
	now  func() time.Time

	mu     sync.Mutex // guards the rest
	note   []byte     // not in the file yet; nil if it is
	next   time.Time  // the file is written
	failed bool       // the last time
}

// newHighWater reads the file, before the store is opened and signs on.
func newHighWater(cfg config.Config, log *slog.Logger, now func() time.Time) *highWater {
	k := &highWater{path: strings.TrimSuffix(cfg.Audit.SigningKeyFile, ".key") + ".newest", log: log, now: now}
	var err error
	if k.was, err = os.ReadFile(k.path); errors.Is(err, fs.ErrNotExist) {
		k.gone = true
	} else if err != nil {
		k.unknown(err)
	}
	return k
}

func (k *highWater) unknown(err error) {
	k.log.Warn("the checkpoint that was kept cannot be used: whether the audit log was rolled back cannot be said", slog.String("file", k.path), slog.Any("error", err))
}

// signed is told each checkpoint once it is in the database.
func (k *highWater) signed(note []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.note = bytes.Clone(note)
	if now := k.now(); !now.Before(k.next) {
		k.next = now.Add(newestEvery)
		k.write()
	}
}

// close writes what is not in the file yet.
func (k *highWater) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.write()
}

// write is called with mu held. Where keys are mounted to be read only, there is no
// such file, and rollbacks are seen by who has published checkpoints.
func (k *highWater) write() {
	if k.note == nil {
		return
	}
	err := disk.Replace(k.path, k.note)
	if err == nil {
		k.note = nil
	} else if !k.failed {
		k.log.Warn("the newest checkpoint is not kept outside the database: a database that is rolled back would not be noticed",
			slog.String("file", k.path), slog.Any("error", err))
	}
	k.failed = err != nil
}

// compare says in words what became of the log since the kept checkpoint; "" if it
// goes on as it was. If it does not, what was kept stays in a file of its own: it is evidence.
func (k *highWater) compare(ctx context.Context, log nodeLog, signer *audit.Signer) (string, error) {
	if k.gone {
		return "", k.missed(ctx, log, signer.Origin())
	}
	if k.was == nil {
		return "", nil
	}
	kept, err := audit.OpenCheckpoint(k.was, signer.Verifier())
	if err != nil {
		k.unknown(err)
		return "", nil
	}
	head, err := log.Head(ctx, kept.Origin)
	if err != nil {
		return "", err
	}
	at := kept.Time.UTC().Format(time.RFC3339)
	var text string
	switch goesOn, err := follows(ctx, log, head, k.was, kept); {
	case head.Size < kept.Size:
		text = fmt.Sprintf("the database has %d entries of %s, of which %d were signed on %s", head.Size, kept.Origin, kept.Size, at)
	case err != nil:
		return "", fmt.Errorf("compare the log with its checkpoint of %s: %w", at, err)
	case !goesOn:
		text = fmt.Sprintf("the database has another log %s than the one of which %d entries were signed on %s", kept.Origin, kept.Size, at)
	default:
		return "", nil
	}
	aside := fmt.Sprintf("%s.%d", k.path, kept.Size)
	if err := createWhole(aside, k.was, 0o600); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("keep the checkpoint that the audit log does not follow: %w", err)
	}
	return text + "; the checkpoint is now in " + aside, nil
}

// missed tells that no checkpoint is kept of a log that has been signed: whoever put the
// database back may have removed it.
func (k *highWater) missed(ctx context.Context, log nodeLog, origin string) error {
	for _, err := range log.Checkpoints(ctx, origin) {
		if err == nil {
			k.log.WarnContext(ctx, "the checkpoint that was kept is gone: whether the audit log was rolled back cannot be said",
				slog.String("file", k.path), slog.String("log", origin))
		}
		return err
	}
	return nil
}

// nodeLog is what compare asks of the store.
type nodeLog interface {
	audit.Source
	CheckpointAt(ctx context.Context, size int64) ([]byte, error)
}

// follows reports whether the log of a head begins as a checkpoint says. A node that
// was stopped has the very checkpoint; after SIGKILL it may have newer ones besides.
// Only where that is gone the log is read.
func follows(ctx context.Context, log nodeLog, head audit.Head, note []byte, kept audit.Checkpoint) (bool, error) {
	if head.Size <= kept.Size {
		return head.Size == kept.Size && head.Root == kept.Root, nil
	}
	stored, err := log.CheckpointAt(ctx, kept.Size)
	if err != nil {
		return false, err
	}
	if stored != nil {
		c, err := audit.OpenCheckpoint(stored)
		return c.Size == kept.Size && c.Root == kept.Root, ignoring(err, audit.ErrUnknownKey)
	}
	_, err = retention.ProveConsistency(ctx, log, note, nil)
	if errors.Is(err, retention.ErrNotPrefix) {
		return false, nil
	}
	return err == nil, err
}

func ignoring(err, what error) error {
	if errors.Is(err, what) {
		return nil
	}
	return err
}

// lookBack compares the log with what the node has signed of it, and tells the operator.
func (n *Node) lookBack(ctx context.Context) error {
	text, err := n.highWater.compare(ctx, n.store, n.signer)
	if err == nil && text != "" {
		n.rolledBack = text
		n.log.ErrorContext(ctx, "the audit log was rolled back or replaced", slog.String("what", text), slog.String("part", n.name))
	}
	return err
}

// recordRollback has it in the log that goes on from there.
func (n *Node) recordRollback(ctx context.Context) error {
	if n.rolledBack == "" {
		return nil
	}
	if err := n.gate.Record(ctx, iam.System("node"), OpLogRollback, vault.Target{}, "rolled_back", n.rolledBack); err != nil {
		return fmt.Errorf("record the rollback of the audit log: %w", err)
	}
	return nil
}

// tellRollbacks raises a finding for each log that was rolled back.
func (a *App) tellRollbacks(ctx context.Context, to findings) {
	for _, n := range a.nodes() {
		if n.rolledBack == "" {
			continue
		}
		to.Raise(ctx, siem.Finding{
			Check: siem.CheckIntegrity, Subject: n.signer.Origin(), Since: n.now(), Message: n.rolledBack,
			Next: "If a backup was restored, note it in the incident record; else somebody has changed the database: keep it, and hold the log against published checkpoints by 'cardea audit verify'.",
		})
	}
}
