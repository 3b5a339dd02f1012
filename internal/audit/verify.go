package audit

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sort"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// DefaultUnsignedSpan is how long a stretch of entries at the end of a log may be
// without a checkpoint. A running node signs about once a second.
const DefaultUnsignedSpan = 5 * time.Minute

// ErrNoTrustedKey says that Verify was given no key to trust.
var ErrNoTrustedKey = errors.New("no verifier key to trust: without one nothing shows who signed the checkpoints")

// VerifyOptions say what to verify against.
type VerifyOptions struct {
	// Verifiers are the public keys that are trusted, of all logs.
	Verifiers []string
	// AllowUnsigned takes checkpoints whose key is not among Verifiers for good,
	// and lets a log have none. What is then found sound is only consistent.
	AllowUnsigned bool
	// Kept are signed checkpoints that were kept outside of what is verified.
	Kept [][]byte
	// Archive has entries that were pruned; nil takes their hashes from the tiles.
	Archive Archive
	// Origins are the logs to verify; empty for all.
	Origins []string
	// Progress is told how many of all entries are done, on Verify's goroutine.
	Progress func(done, total int64)
	// Workers is how many goroutines hash; 0 for one a processor.
	Workers int
	// UnsignedSpan replaces DefaultUnsignedSpan if it is not 0.
	UnsignedSpan time.Duration
}

// Verify checks logs against their checkpoints, heads and tiles
// (docs/spec/audit-log.md, Verification). What is wrong with them is in the
// report. The error is for what could not be read, or for options that cannot be
// used: ErrNoTrustedKey, or a kept checkpoint that is not signed by a trusted key.
//
// It reads each log once, and once more if it is damaged. Its memory does not
// grow with the log but for some hundred bytes for every 65,536 entries.
func Verify(ctx context.Context, src Source, o VerifyOptions) (Report, error) {
	if len(o.Verifiers) == 0 && !o.AllowUnsigned {
		return Report{}, ErrNoTrustedKey
	}
	keys, err := parseVerifiers(o.Verifiers)
	if err != nil {
		return Report{}, err
	}
	kept, err := openKept(o, keys)
	if err != nil {
		return Report{}, err
	}
	there, err := src.Logs(ctx)
	if err != nil {
		return Report{}, fmt.Errorf("list audit logs: %w", err)
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.UnsignedSpan <= 0 {
		o.UnsignedSpan = DefaultUnsignedSpan
	}

	var logs []*logVerifier
	var total int64
	begin := func(origin string) *logVerifier {
		return &logVerifier{
			src: src, keys: keys, o: &o, kept: kept[origin], missing: !slices.Contains(there, origin),
			report: LogReport{Origin: origin, Findings: []Finding{}, Notes: []Finding{}}, badStored: -1, badKept: -1, beyond: -1,
		}
	}
	for _, origin := range expectedLogs(there, kept, o) {
		l := begin(origin)
		logs = append(logs, l)
		if l.missing {
			continue
		}
		if l.horizon, err = newHorizon(ctx, src, origin); err != nil {
			return Report{}, fmt.Errorf("read head of %s: %w", origin, err)
		}
		total += l.horizon.head.Size
	}
	var report Report
	var done int64
	progress := func(n int64) {
		if done += n; o.Progress != nil {
			o.Progress(min(done, total), total)
		}
	}
	meanwhile := false
	for i, l := range logs {
		err := l.verify(ctx, progress)
		if errors.Is(err, errPrunedMeanwhile) {
			meanwhile = true
			again := begin(l.report.Origin)
			again.horizon, again.again = l.horizon, true
			l, logs[i] = again, again
			err = l.verify(ctx, progress)
		}
		if err != nil {
			return Report{}, fmt.Errorf("verify %s: %w", l.report.Origin, err)
		}
	}
	// recorder gives a log that records a pruning, which may be none of those asked for,
	// or have grown since it was read.
	others := map[string]*logVerifier{}
	recorder := func(origin string) (*logVerifier, error) {
		if i := slices.IndexFunc(logs, func(l *logVerifier) bool { return l.report.Origin == origin }); i >= 0 && !meanwhile {
			return logs[i], nil
		}
		if l, ok := others[origin]; ok || !slices.Contains(there, origin) {
			return l, nil
		}
		l := begin(origin)
		l.again = true
		others[origin] = l
		if l.horizon, err = newHorizon(ctx, src, origin); err != nil {
			return nil, fmt.Errorf("read head of %s: %w", origin, err)
		}
		return l, l.verify(ctx, func(int64) {})
	}
	for _, l := range logs {
		if err := l.judgePrunings(recorder); err != nil {
			return Report{}, fmt.Errorf("verify %s: %w", l.report.Origin, err)
		}
		report.Logs = append(report.Logs, l.report)
	}
	return report, nil
}

// openKept opens the auditor's checkpoints, by origin and ascending.
func openKept(o VerifyOptions, keys note.Verifiers) (map[string][]Checkpoint, error) {
	kept := make(map[string][]Checkpoint)
	for i, signed := range o.Kept {
		c, err := openCheckpoint(signed, keys)
		if err != nil && (!o.AllowUnsigned || !errors.Is(err, ErrUnknownKey)) {
			return nil, fmt.Errorf("kept checkpoint %d of %d: %w", i+1, len(o.Kept), err)
		}
		kept[c.Origin] = append(kept[c.Origin], c)
	}
	for _, list := range kept {
		sort.SliceStable(list, func(i, j int) bool { return list[i].Size < list[j].Size })
	}
	return kept, nil
}

// expectedLogs are the logs to verify: those that are there and those that must
// be, because somebody holds a key or a checkpoint of theirs.
func expectedLogs(there []string, kept map[string][]Checkpoint, o VerifyOptions) []string {
	if len(o.Origins) > 0 {
		logs := slices.Clone(o.Origins)
		slices.Sort(logs)
		return slices.Compact(logs)
	}
	logs := slices.Clone(there)
	for origin := range kept {
		logs = append(logs, origin)
	}
	for _, v := range o.Verifiers {
		if parsed, err := note.NewVerifier(v); err == nil {
			logs = append(logs, parsed.Name())
		}
	}
	slices.Sort(logs)
	return slices.Compact(logs)
}
