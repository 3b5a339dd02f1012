package cloudtrail

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"
)

// slack is how far apart the time in a log file's name and its digest's hour may be.
const slack = time.Hour

// maxDigestFindings bounds the findings of a trail.
const maxDigestFindings = 1000

// VerifyDigests validates log files by CloudTrail's digests: the chain of digests
// and their hours, and the log files that they list. It errs only if it could not
// look; what is wrong is in the report.
func VerifyDigests(ctx context.Context, objects Objects, o DigestOptions) (DigestReport, error) {
	v := &verifier{objects: objects, o: o, trails: map[trailID]*trail{}, logs: map[string]logFile{}}
	if v.o.Late <= 0 {
		v.o.Late = 2 * time.Hour
	}
	if v.o.Workers <= 0 {
		v.o.Workers = 8
	}
	if err := v.list(ctx); err != nil {
		return DigestReport{}, err
	}
	if err := v.place(ctx); err != nil {
		return DigestReport{}, err
	}
	for _, id := range sortedIDs(v.trails) {
		if err := v.trail(ctx, v.trails[id]); err != nil {
			return DigestReport{}, err
		}
	}
	v.unlisted()
	report := DigestReport{Trails: []TrailReport{}}
	for _, id := range sortedIDs(v.trails) {
		report.Trails = append(report.Trails, v.trails[id].report)
	}
	return report, nil
}

type trailID struct{ account, region, trail, home string }

func sortedIDs(m map[trailID]*trail) []trailID {
	ids := make([]trailID, 0, len(m))
	for id := range m {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b trailID) int {
		return cmp.Or(cmp.Compare(a.account, b.account), cmp.Compare(a.region, b.region), cmp.Compare(a.trail, b.trail), cmp.Compare(a.home, b.home))
	})
	return ids
}

type verifier struct {
	objects      Objects
	o            DigestOptions
	bucket, base string
	trails       map[trailID]*trail
	logs         map[string]logFile // that no digest has listed yet
	files, total int64
	err          error // of asking for a key
}

// trail is the digests of one trail in an account and region.
type trail struct {
	report   TrailReport
	digests  []digestFile // newest first
	backfill []digestFile
	known    map[string]bool
	covered  []span // by backfill digests
}

type digestFile struct {
	name string
	end  time.Time
}

type logFile struct {
	account, region string
	at              time.Time
}

type span struct{ from, to time.Time }

func (t *trail) find(outcome Outcome, object, format string, args ...any) {
	if len(t.report.Findings) >= maxDigestFindings {
		t.report.Omitted++
		return
	}
	t.report.Findings = append(t.report.Findings, finding(outcome, object, format, args))
}

// maxFindingText bounds the texts of a finding, which a digest may have chosen, in
// bytes: names of objects have at most 1024.
const maxFindingText = 2048

func finding(outcome Outcome, object, format string, args []any) DigestFinding {
	bounded := func(s string) string {
		if len(s) > maxFindingText {
			s = strings.ToValidUTF8(s[:maxFindingText], "") + "…"
		}
		return s
	}
	return DigestFinding{Outcome: outcome, Object: bounded(object), Message: bounded(fmt.Sprintf(format, args...)), Time: timeOf(object)}
}

func (t *trail) note(outcome Outcome, object, format string, args ...any) {
	if len(t.report.Notes) < maxDigestFindings {
		t.report.Notes = append(t.report.Notes, finding(outcome, object, format, args))
	}
}

func (v *verifier) of(id trailID) *trail {
	t := v.trails[id]
	if t == nil {
		t = &trail{known: map[string]bool{}, report: TrailReport{
			Account: id.account, Region: id.region, Trail: id.trail, Findings: []DigestFinding{}, Notes: []DigestFinding{},
		}}
		v.trails[id] = t
	}
	return t
}

// list finds the digests and log files that there are.
func (v *verifier) list(ctx context.Context) error {
	for name, err := range listSince(ctx, v.objects, v.o.Prefix, v.o.Since) {
		if err != nil {
			return fmt.Errorf("list log files: %w", err)
		}
		v.total++
		if m := logName.FindStringSubmatch(name); m != nil {
			if at, err := time.Parse(logTime, m[3]); err == nil {
				v.logs[name] = logFile{account: m[1], region: m[2], at: at}
			}
			continue
		}
		m := digestName.FindStringSubmatch(name)
		if m == nil {
			continue
		}
		end, err := time.Parse(digestTime, m[5])
		if err != nil {
			continue
		}
		t := v.of(trailID{m[1], m[2], m[3], m[4]})
		t.known[name] = true
		if m[6] != "" {
			t.backfill = append(t.backfill, digestFile{name, end})
		} else {
			t.digests = append(t.digests, digestFile{name, end})
		}
	}
	for _, t := range v.trails {
		newestFirst := func(a, b digestFile) int { return cmp.Or(b.end.Compare(a.end), cmp.Compare(b.name, a.name)) }
		slices.SortFunc(t.digests, newestFirst)
		slices.SortFunc(t.backfill, newestFirst)
	}
	return nil
}

// place finds out which bucket this is, or is a copy of.
func (v *verifier) place(ctx context.Context) error {
	v.bucket, v.base = v.o.Bucket, v.o.Base
	if v.bucket != "" {
		return nil
	}
	for _, id := range sortedIDs(v.trails) {
		for _, f := range v.trails[id].digests {
			d, err := v.read(ctx, f.name)
			if err != nil && !unsound(err) {
				return err
			}
			if err == nil && strings.HasSuffix("/"+d.Object, "/"+f.name) {
				v.bucket, v.base = d.Bucket, strings.TrimSuffix(d.Object, f.name)
				return nil
			}
		}
	}
	return nil
}

// unsound reports whether it is the content that an error is about.
func unsound(err error) bool {
	return errors.Is(err, errNoGzip) || errors.Is(err, errTrailing) || errors.Is(err, errNoDigest) || errors.Is(err, fs.ErrNotExist)
}

func (v *verifier) read(ctx context.Context, name string) (*digest, error) {
	o, err := v.objects.Open(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	d, err := readDigest(o)
	err = errors.Join(err, o.Body.Close())
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	d.name = name
	return d, nil
}

// wanted reports whether a digest that ends then is to be verified.
func (v *verifier) wanted(end time.Time) bool {
	return (v.o.Since.IsZero() || end.After(v.o.Since)) && (v.o.Until.IsZero() || end.Add(-time.Hour).Before(v.o.Until))
}

// trail verifies one trail: the digests that were made later first, as they tell
// which hours without a digest are no harm.
func (v *verifier) trail(ctx context.Context, t *trail) error {
	for _, f := range t.backfill {
		if !v.wanted(f.end) {
			continue
		}
		d, sound, err := v.digest(ctx, t, f, nil, false)
		if err != nil {
			return err
		}
		if sound {
			t.covered = append(t.covered, span{d.Start, d.end})
			t.report.Backfill++
		}
	}
	slices.SortFunc(t.covered, func(a, b span) int { return a.from.Compare(b.from) })
	if err := v.chain(ctx, t); err != nil {
		return err
	}
	v.late(t)
	return nil
}

// chain walks from the newest digest to the oldest.
func (v *verifier) chain(ctx context.Context, t *trail) error {
	// newer is the one that should tell of the next; teller is it too, though it
	// may be one that is not sound: a signature proves itself.
	var newer, teller, oldest *digest
	for i, f := range t.digests {
		if !v.wanted(f.end) {
			// The one after the last that is wanted tells its signature.
			if i+1 < len(t.digests) && v.wanted(t.digests[i+1].end) && f.end.After(t.digests[i+1].end) {
				d, err := v.read(ctx, f.name)
				if err != nil && !unsound(err) {
					return err
				}
				if teller = d; err == nil && v.signature(ctx, t, d, "", false, false) == "" {
					newer = d
				}
			}
			continue
		}
		d, sound, err := v.digest(ctx, t, f, teller, newer != nil)
		if err != nil {
			return err
		}
		teller = d
		if !sound {
			if newer != nil && newer.PreviousObject != nil {
				v.gone(t, newer) // which is why nothing vouches for this one
			}
			newer, oldest = nil, nil
			continue
		}
		if newer == nil || v.link(t, newer, d) {
			newer, oldest = d, d
		}
	}
	if oldest != nil && oldest.PreviousObject != nil && !t.known[strings.TrimPrefix(*oldest.PreviousObject, v.base)] &&
		(v.o.Since.IsZero() || oldest.Start.After(v.o.Since)) {
		t.find(OutcomeMissingDigest, *oldest.PreviousObject, "the oldest digest here, %s, continues it; if older ones were removed as planned, verify since %s",
			oldest.name, oldest.Start.UTC().Format(time.RFC3339))
	}
	return nil
}

// link compares a digest with the next newer one, and reports whether it is its
// predecessor, or as good as.
func (v *verifier) link(t *trail, newer, d *digest) bool {
	if newer.PreviousObject == nil {
		if !v.hole(t, newer, d, 0) && v.wanted(newer.end) {
			t.find(OutcomeGap, newer.name, "begins a new chain though there are older digests: logging or validation was off before it")
		}
		return true
	}
	previous := strings.TrimPrefix(*newer.PreviousObject, v.base)
	switch {
	case previous == d.name:
		if d.hash != *newer.PreviousHash {
			t.find(OutcomeHashMismatch, d.name, "is not what the next digest, %s, says that it was", newer.name)
		}
		v.hole(t, newer, d, 0)
	case t.known[previous]:
		t.find(OutcomeGap, d.name, "is no link of the chain: the next digest, %s, continues %s", newer.name, previous)
		return false
	default:
		v.gone(t, newer)
		v.hole(t, newer, d, 1)
	}
	return true
}

// gone tells that the digest which another one continues is not there, if so.
func (v *verifier) gone(t *trail, newer *digest) {
	if previous := strings.TrimPrefix(*newer.PreviousObject, v.base); !t.known[previous] {
		t.find(OutcomeMissingDigest, previous, "is gone: the digest %s continues it", newer.name)
	}
}

// hole finds the hours between two digests that none is about, but for so many of
// which it is known already. It reports whether there is anything to say.
func (v *verifier) hole(t *trail, newer, d *digest, known int) bool {
	said := false
	at, end := d.end, newer.Start
	if !v.o.Until.IsZero() && v.o.Until.Before(end) {
		end = v.o.Until
	}
	hours := func(to time.Time) {
		n := int((to.Sub(at) + 30*time.Minute) / time.Hour)
		if newer.PreviousObject == nil {
			said = true
			t.find(OutcomeGap, newer.name, "begins a new chain though there are older digests: logging or validation was off from %s to %s", stamp(at), stamp(to))
		} else if n -= known; n > 0 {
			said = true
			t.find(OutcomeMissingDigest, newer.name, "%d more hourly digests are missing before it, from %s to %s", n, stamp(at), stamp(to))
		}
		known = 0
	}
	for _, c := range t.covered {
		if c.to.After(at) && c.from.Before(end) {
			if c.from.After(at) {
				hours(c.from)
			}
			at = c.to
			t.note(OutcomeGap, newer.name, "the hours from %s to %s have a digest that was made later", stamp(c.from), stamp(c.to))
			said = true
		}
	}
	if at.Before(end) {
		hours(end)
	}
	return said
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// late tells that the newest digest is old, which is how one sees that newer ones
// were removed.
func (v *verifier) late(t *trail) {
	now := v.o.Now()
	if !v.o.Until.IsZero() && v.o.Until.Before(now) {
		now = v.o.Until
	}
	if len(t.digests) > 0 && now.Sub(t.digests[0].end) > v.o.Late {
		t.find(OutcomeLateDigest, t.digests[0].name, "is the newest digest, of %s before %s: newer ones were removed, or logging or validation is off",
			now.Sub(t.digests[0].end).Round(time.Minute), stamp(now))
	}
}
