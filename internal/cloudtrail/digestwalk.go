package cloudtrail

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// Outcome is what was found of a digest or log file.
type Outcome string

// Outcomes that are findings. All else is valid.
const (
	OutcomeInvalidSignature Outcome = "invalid_signature"
	OutcomeNoSignature      Outcome = "no_signature" // nothing tells the signature
	OutcomeNoKey            Outcome = "no_key"
	OutcomeMoved            Outcome = "moved" // stands elsewhere than where CloudTrail put it
	OutcomeHashMismatch     Outcome = "hash_mismatch"
	OutcomeTrailingData     Outcome = "trailing_data"
	OutcomeMalformed        Outcome = "malformed" // cannot be read as what it is
	OutcomeMissingLog       Outcome = "missing_log"
	OutcomeMissingDigest    Outcome = "missing_digest"
	OutcomeGap              Outcome = "gap"          // validation was off, or the chain is broken
	OutcomeLateDigest       Outcome = "late_digest"  // the newest digest is too old
	OutcomeUnlistedLog      Outcome = "unlisted_log" // no digest knows it
)

// DigestFinding is one thing that is wrong.
type DigestFinding struct {
	Outcome Outcome `json:"outcome"`
	Object  string  `json:"object"`
	Message string  `json:"message"`
}

// DigestReport is the result of VerifyDigests.
type DigestReport struct {
	Trails []TrailReport `json:"trails"`
}

// OK reports whether nothing is wrong and something was verified.
func (r DigestReport) OK() bool {
	for _, t := range r.Trails {
		if len(t.Findings) > 0 {
			return false
		}
	}
	return len(r.Trails) > 0
}

// TrailReport is what was found of a trail in one account and region.
type TrailReport struct {
	Account  string          `json:"account"`
	Region   string          `json:"region"`
	Trail    string          `json:"trail"`
	Digests  int             `json:"digests"`          // valid ones
	Backfill int             `json:"backfill"`         // valid ones among them that CloudTrail made later
	Logs     int             `json:"logs"`             // valid log files
	First    time.Time       `json:"first,omitzero"`   // start of the oldest valid digest
	Last     time.Time       `json:"last,omitzero"`    // end of the newest one
	Findings []DigestFinding `json:"findings"`         // oldest last
	Notes    []DigestFinding `json:"notes"`            // what is no harm
	Omitted  int             `json:"omitted,omitzero"` // findings over the limit
}

// DigestOptions say what to verify. Keys and Now are required.
type DigestOptions struct {
	Keys   Keys
	Now    func() time.Time
	Prefix string // of what is looked at: of the names in Objects
	// Bucket is the bucket's name, and Base what comes before a name in Objects to
	// give the object's name in the bucket. Without Bucket both are taken from a
	// digest, so that a copy of a whole bucket that was moved is not noticed.
	Bucket, Base string
	Since, Until time.Time               // ends of the digests' hours; zero is all
	Late         time.Duration           // how old the newest digest may be, default 2 h
	Workers      int                     // log files read at the same time, default 8
	Progress     func(done, total int64) // files; the total is of those that are there
}

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
	t.report.Findings = append(t.report.Findings, DigestFinding{Outcome: outcome, Object: object, Message: fmt.Sprintf(format, args...)})
}

func (t *trail) note(outcome Outcome, object, format string, args ...any) {
	if len(t.report.Notes) < maxDigestFindings {
		t.report.Notes = append(t.report.Notes, DigestFinding{Outcome: outcome, Object: object, Message: fmt.Sprintf(format, args...)})
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
	for name, err := range v.objects.List(ctx, v.o.Prefix) {
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
		t.find(OutcomeMissingDigest, previous, "is gone: the digest %s continues it", newer.name)
		v.hole(t, newer, d, 1)
	}
	return true
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

// digest verifies one digest file and its log files, and reports whether it is
// sound. It gives nil if it cannot be read. teller is the digest that tells its
// signature, if there is one; certain says that this one is sound.
func (v *verifier) digest(ctx context.Context, t *trail, f digestFile, teller *digest, certain bool) (*digest, bool, error) {
	d, err := v.read(ctx, f.name)
	v.progress(1)
	switch {
	case err == nil:
	case !unsound(err):
		return nil, false, err
	case errors.Is(err, errTrailing):
		t.find(OutcomeTrailingData, f.name, "%v", errTrailing)
		return nil, false, nil
	case errors.Is(err, fs.ErrNotExist):
		t.find(OutcomeMissingDigest, f.name, "is listed but cannot be read")
		return nil, false, nil
	default:
		t.find(OutcomeMalformed, f.name, "%v", err)
		return nil, false, nil
	}
	told := ""
	if teller != nil && teller.PreviousObject != nil && *teller.PreviousObject == v.base+d.name {
		told = *teller.PreviousSignature
	}
	sound := v.moved(t, d)
	sound = sound && v.signature(ctx, t, d, told, certain, true) == ""
	if v.err != nil {
		return nil, false, v.err
	}
	if err := v.logFiles(ctx, t, d, sound); err != nil {
		return nil, false, err
	}
	if !sound {
		return d, false, nil
	}
	t.report.Digests++
	if t.report.First.IsZero() || d.Start.Before(t.report.First) {
		t.report.First = d.Start
	}
	if d.end.After(t.report.Last) {
		t.report.Last = d.end
	}
	return d, true, nil
}

// moved reports whether a digest stands where it says.
func (v *verifier) moved(t *trail, d *digest) bool {
	if d.Bucket == v.bucket && d.Object == v.base+d.name {
		return true
	}
	t.find(OutcomeMoved, d.name, "is the digest %s of bucket %s", d.Object, d.Bucket)
	return false
}

// signature verifies the signature of a digest: the one stored with it, and the
// one that the next digest tells. It gives "" if that is good.
func (v *verifier) signature(ctx context.Context, t *trail, d *digest, told string, certain, tell bool) Outcome {
	find := func(outcome Outcome, format string, args ...any) Outcome {
		if tell {
			t.find(outcome, d.name, format, args...)
		}
		return outcome
	}
	stored := d.meta["signature"]
	if stored == "" && told == "" {
		return find(OutcomeNoSignature, "neither is its signature stored with it nor does a newer digest tell it: keep the object's metadata beside it as NAME.metadata.json")
	}
	at := d.end
	if made, err := time.Parse(time.RFC3339, d.meta["backfill-generation-timestamp"]); err == nil {
		at = made
	}
	key, err := v.o.Keys.Key(ctx, t.report.Region, d.KeyName, at)
	switch {
	case errors.Is(err, ErrNoKey):
		return find(OutcomeNoKey, "there is no public key %q", d.KeyName)
	case err != nil:
		v.err = cmp.Or(v.err, fmt.Errorf("public key %q: %w", d.KeyName, err))
		return OutcomeNoKey
	case stored != "" && certain && told != "" && stored != told:
		return find(OutcomeInvalidSignature, "the signature stored with it is not the one that the next digest tells")
	}
	use := cmp.Or(stored, told)
	if !d.signedBy(key, use) {
		if stored == "" && !certain {
			return find(OutcomeNoSignature, "its signature is not stored with it, and the next digest, which would tell it, is not sound")
		}
		return find(OutcomeInvalidSignature, "the signature is not CloudTrail's")
	}
	d.signature = use
	return ""
}

// logFiles verifies the log files of a digest. Those of a digest that is not
// sound nobody vouches for; they are not said one by one.
func (v *verifier) logFiles(ctx context.Context, t *trail, d *digest, sound bool) error {
	type result struct {
		outcome Outcome
		message string
	}
	results := make([]result, len(d.Logs))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(v.o.Workers)
	for i, l := range d.Logs {
		name := strings.TrimPrefix(l.Object, v.base)
		delete(v.logs, name)
		if !sound {
			continue
		}
		g.Go(func() error {
			outcome, message, err := v.logFile(ctx, l, name)
			results[i] = result{outcome, message}
			return err
		})
	}
	err := g.Wait()
	v.progress(int64(len(d.Logs)))
	if err != nil || !sound {
		return err
	}
	for i, r := range results {
		if r.outcome == "" {
			t.report.Logs++
		} else {
			t.find(r.outcome, strings.TrimPrefix(d.Logs[i].Object, v.base), "%s", r.message)
		}
	}
	return nil
}

func (v *verifier) logFile(ctx context.Context, l digestLogFile, name string) (Outcome, string, error) {
	if l.Bucket != v.bucket || !strings.HasPrefix(l.Object, v.base) {
		return OutcomeMissingLog, "is " + l.Object + " of bucket " + l.Bucket + ", which is not looked at", nil
	}
	o, err := v.objects.Open(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return OutcomeMissingLog, "is gone: a digest lists it", nil
	}
	if err != nil {
		return "", "", fmt.Errorf("read %s: %w", name, err)
	}
	h := sha256.New()
	err = gunzip(h, o.Body, maxLog)
	if closed := o.Body.Close(); err == nil {
		err = closed
	}
	switch {
	case errors.Is(err, errTrailing):
		return OutcomeTrailingData, errTrailing.Error(), nil
	case err != nil && unsound(err):
		return OutcomeMalformed, err.Error(), nil
	case err != nil:
		return "", "", fmt.Errorf("read %s: %w", name, err)
	case l.Algorithm != "SHA-256" || hex.EncodeToString(h.Sum(nil)) != l.Hash:
		return OutcomeHashMismatch, "is not what its digest says that it was", nil
	}
	return "", "", nil
}

func (v *verifier) progress(n int64) {
	v.files += n
	if v.o.Progress != nil {
		v.o.Progress(v.files, max(v.files, v.total))
	}
}

// unlisted finds the log files that no digest lists though their hour has one,
// and those of accounts and regions that have no digests at all.
func (v *verifier) unlisted() {
	names := make([]string, 0, len(v.logs))
	for name := range v.logs {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		l := v.logs[name]
		var owner *trail
		inside, covered := false, false
		for _, id := range sortedIDs(v.trails) {
			t := v.trails[id]
			if id.account != l.account || id.region != l.region || len(t.digests) == 0 {
				continue
			}
			covered, owner = true, t
			first, last := t.report.First, t.report.Last
			if !first.IsZero() && l.at.After(first.Add(slack)) && l.at.Before(last.Add(-slack)) {
				inside = true
				break
			}
		}
		switch {
		case inside:
			owner.find(OutcomeUnlistedLog, name, "no digest lists it: CloudTrail did not put it there, or another trail without validation did")
		case !covered && v.wanted(l.at) && v.wanted(l.at.Add(time.Hour)):
			v.of(trailID{account: l.account, region: l.region}).find(OutcomeMissingDigest, name, "there are log files of this account and region but no digests")
		}
	}
}
