package lifecycle

import (
	"context"
	"fmt"
	"time"

	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"cardea/internal/approval"
)

// Retirement is how far the retirement of a key is, and its report: it is disabled, to
// be destroyed, its audit trail is kept, and there is a signed record (PCI DSS 3.7.5).
type Retirement struct {
	Destruction
	Approval  Approved   `json:"approval"`
	Started   time.Time  `json:"started"`
	Finished  time.Time  `json:"finished,omitzero"`  // all is done; the key waits for its destruction
	Closed    bool       `json:"closed"`             // its approval was marked as executed
	Destroyed time.Time  `json:"destroyed,omitzero"` // when it was seen to be gone
	Steps     []DoneStep `json:"steps"`
	Open      []string   `json:"open"`
}

// Retirer retires keys. It is for one caller at a time.
type Retirer struct {
	KMS *awskms.Client // of an administrator of the key
	Now func() time.Time
	// Save keeps the state after each step; its error stops everything.
	Save func(*Retirement) error
	// Trail writes the key's audit trail.
	Trail func(context.Context) ([]TrailFile, error)
	// Record signs the record and writes it.
	Record func(*Destruction) error
}

// Retire does what was approved, or goes on with it. The caller has looked at Unneeded.
// Each step may be done twice.
func (r *Retirer) Retire(ctx context.Context, x *Retirement) error {
	if !x.Finished.IsZero() {
		return r.look(ctx, x)
	}
	j := Journal{Steps: &x.Steps, Save: func() error { return r.Save(x) }, Now: r.Now}
	if err := r.Save(x); err != nil {
		return err
	}
	k, err := Look(ctx, r.KMS, x.Key)
	if err != nil {
		return err
	}
	for _, step := range []struct {
		name string
		do   func() (string, error)
	}{
		{"disable", func() (string, error) { return r.disable(ctx, k) }},
		{"not-used-meanwhile", func() (string, error) { return notUsedSince(k, x.Started) }},
		{"schedule-deletion", func() (string, error) {
			x.Deletion, err = ScheduleDeletion(ctx, r.KMS, k, Days(x.WindowDays))
			return "to be destroyed on " + x.Deletion.Format(time.RFC3339), err
		}},
		{"trail", func() (string, error) {
			x.Trail, err = r.Trail(ctx)
			n := 0
			for _, f := range x.Trail {
				n += f.Entries
			}
			return fmt.Sprintf("%d entries in %d files", n, len(x.Trail)), err
		}},
		{"record", func() (string, error) { return "signed", r.Record(&x.Destruction) }},
	} {
		if err := j.Do(step.name, step.do); err != nil {
			return err
		}
	}
	x.Finished = r.Now().UTC().Truncate(time.Second)
	return r.Save(x)
}

func (r *Retirer) disable(ctx context.Context, k *Key) (string, error) {
	if !k.Live() {
		return "it waits for its destruction already", nil
	}
	if k.State == types.KeyStatePendingImport {
		return "it has no material", nil
	}
	if _, err := r.KMS.DisableKey(ctx, &awskms.DisableKeyInput{KeyId: &k.ID}); err != nil {
		return "", err
	}
	d, err := Look(ctx, r.KMS, k.ARN)
	if err != nil {
		return "", err
	}
	if *k = *d; k.State != types.KeyStateDisabled {
		return "", fmt.Errorf("%w: it is %s", ErrUnproved, k.State)
	}
	return "nobody can use it any more", nil
}

// notUsedSince catches whoever used the key between the look and its being disabled.
func notUsedSince(k *Key, t time.Time) (string, error) {
	if u := k.LastUse; u != nil && u.Time.After(t) {
		return "", fmt.Errorf("%w: %s on %s, after its retirement was begun: it is disabled; if somebody needs it, enable it ('aws kms enable-key') and begin anew with another --report", ErrInUse, u.Operation, u.Time.Format(time.RFC3339))
	}
	return "", nil
}

// look finds out what became of a key that waits for its destruction.
func (r *Retirer) look(ctx context.Context, x *Retirement) error {
	x.Open = []string{}
	d, err := r.KMS.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: &x.Key})
	switch {
	case isCode(err, "NotFoundException") && r.Now().Before(x.Deletion):
		return fmt.Errorf("%w: key %s is gone before %s", ErrUnproved, x.Key, x.Deletion.Format(time.RFC3339))
	case isCode(err, "NotFoundException"):
		if x.Destroyed.IsZero() {
			x.Destroyed = r.Now().UTC().Truncate(time.Second)
			x.Steps = append(x.Steps, DoneStep{"destroyed", x.Destroyed, "the key service does not know it any more"})
		}
	case err != nil:
		return fmt.Errorf("describe key %s: %w", x.Key, err)
	case d.KeyMetadata.KeyState != types.KeyStatePendingDeletion:
		x.Open = append(x.Open, fmt.Sprintf("its destruction was cancelled: it is %s; to retire it all the same, begin anew with another --report", d.KeyMetadata.KeyState))
	}
	return r.Save(x)
}

// Window is for how many days a key of a class waits for its destruction: what the
// policy file says of the class, 30 where it says nothing; asked is what somebody asked
// for, 0 if nothing.
func (p *Policy) Window(class string, asked int) (Days, error) {
	wanted := Days(30)
	if p != nil && p.Keys[class] != nil {
		wanted = p.Keys[class].DeletionWindow
		if asked != 0 && Days(asked) != wanted {
			return 0, fmt.Errorf("%dd is not the %s that the policy file has for %s", asked, wanted, class)
		}
	} else if asked != 0 {
		wanted = Days(asked)
	}
	if wanted < 7 || wanted > 30 {
		return 0, fmt.Errorf("%d must be 7 to 30 days", int(wanted))
	}
	return wanted, nil
}

// DeletionApproval is what must be approved for a key's destruction by an operation, by
// two others at least.
func (p *Policy) DeletionApproval(op approval.Operation, key string, window Days) *Needed {
	return &Needed{Operation: op, Target: key, Params: map[string]string{"window": fmt.Sprint(int(window))}, Approvals: max(2, p.Quorum(op, 2))}
}

// Report is the retirement for people.
func (x *Retirement) Report() *Report {
	r := &Report{Title: "Retirement of a key", Steps: x.Steps, Open: x.Open, Facts: [][2]string{
		{"key", x.Key},
		{"class", x.Class},
		{"kind", x.Spec + " for " + x.Usage + ", origin " + x.Origin},
		{"made", moment(x.Created)},
		{"replaced by", cmpNone(x.ReplacedBy)},
		{"reason", x.Reason},
		{"approval", x.Approval.String()},
		{"begun", moment(x.Started)},
		{"to be destroyed on", moment(x.Deletion)},
		{"destroyed", moment(x.Destroyed)},
	}}
	evidence := ReportTable{Title: "How it is known that nothing needs it", Header: []string{"FOUND"}}
	for _, e := range x.Evidence {
		evidence.Rows = append(evidence.Rows, []string{e})
	}
	trail := ReportTable{Title: "Audit trail", Header: []string{"FILE", "WHAT", "ENTRIES", "SHA-256"}}
	for _, f := range x.Trail {
		trail.Rows = append(trail.Rows, []string{f.Name, f.What, fmt.Sprint(f.Entries), f.SHA256})
	}
	r.Tables = []ReportTable{evidence, trail}
	return r
}
