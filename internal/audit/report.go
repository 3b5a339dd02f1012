package audit

import (
	"fmt"
	"time"
)

// Kind says what is wrong with a log (docs/spec/audit-log.md, Verification).
type Kind string

// Kinds of findings.
const (
	KindEdited              Kind = "edited"
	KindDeleted             Kind = "deleted"
	KindInserted            Kind = "inserted"
	KindReordered           Kind = "reordered"
	KindTruncated           Kind = "truncated"
	KindRollback            Kind = "rollback"
	KindFork                Kind = "fork"
	KindUnknownKey          Kind = "unknown_key"
	KindBadSignature        Kind = "bad_signature"
	KindMalformedCheckpoint Kind = "malformed_checkpoint"
	KindMalformedEntry      Kind = "malformed_entry"
	KindTileMismatch        Kind = "tile_mismatch"
	KindHeadMismatch        Kind = "head_mismatch"
	KindUnsigned            Kind = "unsigned"
	KindPruning             Kind = "pruning"
	KindArchiveMismatch     Kind = "archive_mismatch"
	KindClock               Kind = "clock" // a note only
)

// Finding is one thing that is wrong, or worth a note.
type Finding struct {
	Kind    Kind   `json:"kind"`
	Seq     int64  `json:"seq"`             // number of the first entry concerned; for a checkpoint its size
	Count   int64  `json:"count,omitempty"` // how many entries, if known
	Message string `json:"message"`

	span int64 // of a segment's finding: among how many entries from Seq on the Count are
}

// Report is the result of Verify.
type Report struct {
	Logs []LogReport `json:"logs"`
}

// OK reports whether nothing is wrong. Notes do not matter.
func (r Report) OK() bool {
	for _, l := range r.Logs {
		if len(l.Findings) > 0 {
			return false
		}
	}
	return true
}

// LogReport is what was found out about one log.
type LogReport struct {
	Origin       string    `json:"origin"`
	Entries      int64     `json:"entries"`
	First        time.Time `json:"first,omitzero"` // times of the first and last entry
	Last         time.Time `json:"last,omitzero"`
	Root         string    `json:"root"`                  // of the entries, base64
	Checkpoints  int64     `json:"checkpoints"`           // trusted ones, stored and kept, that have the log's root
	Signed       int64     `json:"signed"`                // entries that the last of them covers
	SignedAt     time.Time `json:"signed_at,omitzero"`    // when it says that it was signed
	UnsignedTail int64     `json:"unsigned_tail"`         // entries after it
	Pruned       int64     `json:"pruned,omitempty"`      // entries from 0 on that are not stored any more
	PrunedAt     time.Time `json:"pruned_at,omitzero"`    // when that was last recorded, if the record holds
	PrunedInto   string    `json:"pruned_into,omitempty"` // digest of the archive that has them
	Findings     []Finding `json:"findings"`
	Notes        []Finding `json:"notes"`
	Omitted      int64     `json:"omitted,omitempty"` // findings and notes over the limit
}

// maxFindings bounds the findings of a log, and its notes: a log of which every
// entry is wrong must not fill the memory with messages.
const maxFindings = 1000

func (l *LogReport) find(kind Kind, seq, count int64, format string, args ...any) {
	l.add(&l.Findings, Finding{Kind: kind, Seq: seq, Count: count, Message: fmt.Sprintf(format, args...)})
}

func (l *LogReport) note(kind Kind, seq int64, format string, args ...any) {
	l.add(&l.Notes, Finding{Kind: kind, Seq: seq, Message: fmt.Sprintf(format, args...)})
}

func (l *LogReport) add(to *[]Finding, f Finding) {
	if len(*to) >= maxFindings {
		l.Omitted++
		return
	}
	*to = append(*to, f)
}

// entries names a range of entries for a message.
func entries(seq, count int64) string {
	if count == 1 {
		return fmt.Sprintf("entry %d", seq)
	}
	return fmt.Sprintf("entries %d to %d", seq, seq+count-1)
}
