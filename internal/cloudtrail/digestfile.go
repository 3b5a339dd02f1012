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
