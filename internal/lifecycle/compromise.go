package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// Compromise is the answer to a key's compromise (PCI DSS 3.7.5): what the key
// touched, how far the answer is, and what is open. It is state and report in one, and
// has no secrets.
type Compromise struct {
	Key      string    `json:"key"` // ARN
	Class    string    `json:"class,omitempty"`
	Reason   string    `json:"reason"`
	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished,omitzero"`
	Closed   bool      `json:"closed"` // its approval was marked as executed
	// Opener is the one principal that may still open what is under the key, to put it
	// under the new one; nobody may if it is empty.
	Opener string `json:"reencrypting_principal,omitempty"`
	// DisableNow disables the key before what is under it was moved.
	DisableNow bool     `json:"disable_now"`
	Approval   Approved `json:"approval"`

	Places      []Place   `json:"places"` // as they were found: the key first, then its replicas
	Touched     Touched   `json:"touched"`
	Replacement *Rotation `json:"replacement"` // the new key, and the aliases that it takes
	Moved       []Moved   `json:"moved"`       // of the vault, by tenant
	Backups     []Backup  `json:"backups"`

	Steps []DoneStep `json:"steps"`
	Open  []string   `json:"open"` // what is left, and what to do about it
}

// Backup is a copy of data under the key that is kept elsewhere: somebody must
// encrypt it anew, or destroy it, and say so.
type Backup struct {
	Name string    `json:"name"`
	Done time.Time `json:"done,omitzero"`
}

// Responder answers compromises of keys. It is for one caller at a time.
type Responder struct {
	KMS *awskms.Client // of an administrator of the key
	// In gives a client of another Region, for replicas.
	In  func(region string) (*awskms.Client, error)
	Now func() time.Time
	// Save keeps the state after each step; its error stops everything.
	Save func(*Compromise) error
	// Data is nil if no vault is known.
	Data Data
	// Files gives the files that can be opened by a key; nil if none are known of.
	Files func(key string) ([]string, error)
}

// Begin finds what there is of a key and its replicas. It changes nothing.
func (r *Responder) Begin(ctx context.Context, id string) (*Compromise, error) {
	k, err := Look(ctx, r.KMS, id)
	if err != nil {
		return nil, err
	}
	if !k.Live() {
		return nil, fmt.Errorf("key %s is %s: nobody can use it; 'cardea keys cancel-deletion' keeps it, if what is under it must be moved", k.ARN, k.State)
	}
	x := &Compromise{
		Key: k.ARN, Class: k.Class, Started: r.Now().UTC().Truncate(time.Second), Touched: Touched{Principals: []Use{}, Operations: []Use{}, Tenants: []Use{}, Files: []string{}},
		Moved: []Moved{}, Backups: []Backup{}, Steps: []DoneStep{}, Open: []string{},
	}
	for _, region := range append([]string{""}, k.Replicas...) {
		p, err := r.place(ctx, k, region)
		if err != nil {
			return nil, err
		}
		x.Places = append(x.Places, *p)
	}
	x.Replacement = &Rotation{Key: k.ARN, Method: Replaced, Started: x.Started, Material: k.Material, Aliases: x.Places[0].Aliases, Steps: []DoneStep{}}
	return x, r.data(ctx, x)
}

// client is that of a place; an empty Region is the key's own.
func (r *Responder) client(region string) (*awskms.Client, error) {
	if region == "" {
		return r.KMS, nil
	}
	if r.In == nil {
		return nil, fmt.Errorf("the replica in %s cannot be reached", region)
	}
	return r.In(region)
}

// Respond does what was approved, or goes on with it: first nobody can use the key any
// more but to open what is under it, then a new key takes its place, then data is
// moved, and in the end the key is disabled. What people must still do is in Open; with
// something in it the key stays enabled, and the caller runs it again. Each step may be
// done twice.
func (r *Responder) Respond(ctx context.Context, x *Compromise) error {
	j := Journal{Steps: &x.Steps, Save: func() error { return r.Save(x) }, Now: r.Now}
	if err := r.Save(x); err != nil {
		return err
	}
	for i := range x.Places {
		if err := r.contain(ctx, x, &x.Places[i], j); err != nil {
			return err
		}
	}
	if err := r.replace(ctx, x, j); err != nil {
		return err
	}
	if err := r.data(ctx, x); err != nil {
		return err
	}
	if err := r.move(ctx, x); err != nil {
		return err
	}
	if len(x.Open) > 0 {
		return r.Save(x)
	}
	for i := range x.Places {
		p := &x.Places[i]
		if err := j.Do("disable"+p.suffix(), func() (string, error) { return r.disable(ctx, p) }); err != nil {
			return err
		}
	}
	if x.Finished.IsZero() {
		x.Finished = r.Now().UTC().Truncate(time.Second)
	}
	return r.Save(x)
}

// contain ends the use of the key in a place.
func (r *Responder) contain(ctx context.Context, x *Compromise, p *Place, j Journal) error {
	c, err := r.client(p.Region)
	if err != nil {
		return err
	}
	if err := j.Do("revoke-grants"+p.suffix(), func() (string, error) { return revokeGrants(ctx, c, p.Key, nil) }); err != nil {
		return err
	}
	if err := j.Do("restrict-policy"+p.suffix(), func() (string, error) {
		policy, err := restricted(p.Policy, p.Key, x.Opener)
		if err != nil {
			return "", err
		}
		return "nobody protects anything more by it; " + opens(x.Opener), putPolicy(ctx, c, p.Key, policy)
	}); err != nil {
		return err
	}
	if !x.DisableNow {
		return nil
	}
	return j.Do("disable-now"+p.suffix(), func() (string, error) { return r.disable(ctx, p) })
}

func opens(principal string) string {
	if principal == "" {
		return "nobody opens anything"
	}
	return "only " + principal + " opens what is under it"
}

func (r *Responder) disable(ctx context.Context, p *Place) (string, error) {
	c, err := r.client(p.Region)
	if err != nil {
		return "", err
	}
	id := idOf(p.Key) // not every key service knows it by its ARN here
	if _, err := c.DisableKey(ctx, &awskms.DisableKeyInput{KeyId: &id}); err != nil {
		return "", err
	}
	d, err := c.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: &id})
	if err == nil && d.KeyMetadata.KeyState != types.KeyStateDisabled {
		err = fmt.Errorf("%w: key %s is %s", ErrUnproved, p.Key, d.KeyMetadata.KeyState)
	}
	return "disabled", err
}

// replace has a new key take the place of the old one, with the policy from before.
func (r *Responder) replace(ctx context.Context, x *Compromise, j Journal) error {
	k, err := Look(ctx, r.KMS, x.Key)
	if err != nil {
		return err
	}
	k.Policy = []byte(x.Places[0].Policy)
	rotator := &Rotator{KMS: r.KMS, Now: r.Now, Save: func(*Rotation) error { return r.Save(x) }}
	if err := rotator.replace(ctx, k, x.Replacement); err != nil {
		return err
	}
	x.Replacement.Next = nil // it is in Open
	if x.Replacement.Finished.IsZero() {
		x.Replacement.Finished = r.Now().UTC().Truncate(time.Second)
	}
	for i := range x.Places[1:] {
		if err := r.replicate(ctx, x, &x.Places[i+1], j); err != nil {
			return err
		}
	}
	return nil
}

// data finds what is under the key now: keys of the vault, files.
func (r *Responder) data(ctx context.Context, x *Compromise) (err error) {
	if r.Data != nil {
		if x.Touched.VaultKeys, err = r.Data.Under(ctx, x.Key); err != nil {
			return fmt.Errorf("keys of the vault under it: %w", err)
		}
	}
	if r.Files != nil {
		if x.Touched.Files, err = r.Files(x.Key); err != nil {
			return fmt.Errorf("files under it: %w", err)
		}
	}
	return nil
}

// move has the vault's data moved as far as it goes, and says what is open.
func (r *Responder) move(ctx context.Context, x *Compromise) error {
	x.Open = []string{}
	open := func(format string, args ...any) { x.Open = append(x.Open, fmt.Sprintf(format, args...)) }
	if err := r.moveVault(ctx, x, open); err != nil {
		return err
	}
	for _, f := range x.Touched.Files {
		open("file %s: 'cardea rewrap --from-key-id %s --key-id %s --in %s --in-place', as %s", f, x.Key, x.Replacement.NewKey, f, cmpNone(x.Opener))
	}
	for _, b := range x.Backups {
		if b.Done.IsZero() {
			open("backup %s: encrypt it anew or destroy it, then run this again with --backup-done %s", b.Name, b.Name)
		}
	}
	return nil
}

// moveVault has each tenant's records put under new keys, when the vault's
// configuration names the new key of the key service.
func (r *Responder) moveVault(ctx context.Context, x *Compromise, open func(string, ...any)) error {
	if len(x.Touched.VaultKeys) == 0 {
		return nil
	}
	k, err := Look(ctx, r.KMS, x.Key)
	if err != nil {
		return err
	}
	if k.State != types.KeyStateEnabled {
		open("%d keys of the vault are under the key, which is %s: enable it ('aws kms enable-key'), then run this again; %s", len(x.Touched.VaultKeys), k.State, opens(x.Opener))
		return nil
	}
	for _, tenant := range holders(x.Touched.VaultKeys) {
		m, err := r.Data.Move(ctx, tenant, x.Key, x.Replacement.NewKey)
		switch {
		case errors.Is(err, ErrConfigure):
			open("tenant %s: %v", tenant, err)
			continue
		case err != nil:
			return fmt.Errorf("move data of tenant %s: %w", tenant, err)
		}
		if m.Job == "" {
			continue // nothing of it can be moved
		}
		x.Moved = append(x.Moved, m)
		x.Steps = append(x.Steps, DoneStep{"move-data " + tenant, r.Now().UTC().Truncate(time.Second), fmt.Sprintf("job %s: %d records moved, %d opened", m.Job, m.Records, m.Verified)})
		if err := r.Save(x); err != nil {
			return err
		}
	}
	if x.Touched.VaultKeys, err = r.Data.Under(ctx, x.Key); err != nil {
		return fmt.Errorf("keys of the vault under it: %w", err)
	}
	if len(x.Touched.VaultKeys) > 0 && len(x.Open) == 0 {
		open("the key is still needed for what cannot be moved: %s", underText(x.Touched.VaultKeys))
	}
	return nil
}

// suffix tells steps in other Regions from those of the key.
func (p *Place) suffix() string {
	if p.Region == "" {
		return ""
	}
	return " " + p.Region
}

// Summary is what the answer came to, in a line.
func (x *Compromise) Summary() string {
	if !x.Finished.IsZero() {
		return "finished: the key is disabled, nothing is open"
	}
	return fmt.Sprintf("%d steps done, %d things open: %s", len(x.Steps), len(x.Open), strings.Join(x.Open, "; "))
}
