package collect

import (
	"cmp"
	"context"
	"errors"
	"io"
	"time"

	"cardea/internal/cloudtrail"
)

// Defaults of DigestsOptions.
const (
	DefaultDigestsEvery    = time.Hour // CloudTrail makes a digest an hour
	DefaultDigestsLookBack = 26 * time.Hour
	digestsAgain           = 5 * time.Minute // after they could not be read
)

// DigestsOptions say which digests are verified.
type DigestsOptions struct {
	Name     string // for people
	Objects  cloudtrail.Objects
	Verify   cloudtrail.DigestOptions // Keys is required; Since and Now are set here
	Every    time.Duration            // between verifications, default DefaultDigestsEvery
	LookBack time.Duration            // of which digests, default DefaultDigestsLookBack
	Now      func() time.Time
}

// Digests is a source of what is wrong with CloudTrail's digests, and so with the
// log: gaps, missing, late, moved and changed ones, and log files that are not as
// they say (see cloudtrail.VerifyDigests). Each verification gives all findings of
// the time that it looks back; Unique leaves out those that were given before.
type Digests struct {
	health
	o    DigestsOptions
	next time.Time
}

// OpenDigests opens a trail's digests as a source. It does not read yet.
func OpenDigests(o DigestsOptions) *Digests {
	o.Every = cmp.Or(max(o.Every, 0), DefaultDigestsEvery)
	o.LookBack = cmp.Or(max(o.LookBack, 0), DefaultDigestsLookBack)
	return &Digests{health: health{now: o.Now, s: Status{Source: o.Name}}, o: o}
}

// Close does nothing: there is nothing open between calls.
func (d *Digests) Close() error { return nil }

// Next implements Source: a batch is a verification.
func (d *Digests) Next(ctx context.Context) (Batch, error) {
	now := d.now()
	if now.Before(d.next) {
		if d.Status().LastError == "" {
			d.looked(nil) // that it is not time yet is no failure
		}
		return Batch{}, io.EOF
	}
	o := d.o.Verify
	o.Now, o.Since = d.now, now.Add(-d.o.LookBack)
	b := Batch{From: d.o.Name}
	var err error
	b.Events, err = digestEvents(ctx, d.o.Objects, o)
	d.looked(err)
	if err != nil {
		d.next = now.Add(min(digestsAgain, d.o.Every))
		return Batch{}, err
	}
	d.next = now.Add(d.o.Every)
	d.gave(&b)
	return b, nil
}

// digestEvents verifies, and gives what is wrong.
func digestEvents(ctx context.Context, objects cloudtrail.Objects, o cloudtrail.DigestOptions) ([]cloudtrail.Event, error) {
	report, err := cloudtrail.VerifyDigests(ctx, objects, o)
	if err != nil {
		return nil, err
	}
	if len(report.Trails) == 0 {
		return nil, errors.New("there are no digests: see that the trail has log file validation")
	}
	var list []cloudtrail.Event
	for _, t := range report.Trails {
		list = append(list, t.Events()...)
	}
	return list, nil
}
