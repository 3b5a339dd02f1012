package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// Leaver is what somebody who leaves could reach, and how far it is taken away (PCI DSS
// 3.7.5, 8.2.5). It is state and report in one, and has no secrets.
type Leaver struct {
	Principals []string  `json:"principals"` // ARNs of his users and roles
	Person     string    `json:"person,omitempty"`
	Reason     string    `json:"reason"`
	Started    time.Time `json:"started"`
	Finished   time.Time `json:"finished,omitzero"`
	Closed     bool      `json:"closed"` // its approval was marked as executed
	Approval   Approved  `json:"approval"`

	Identities []Identity  `json:"identities"`
	Keys       []LeaverKey `json:"keys"`             // that name him, as they were found
	Parts      []KeyPart   `json:"parts"`            // of key material that he held
	Unread     []string    `json:"unread,omitempty"` // keys that who runs this may not read
	Touched    Touched     `json:"touched"`
	Rotations  []*Rotation `json:"rotations"`

	Steps []DoneStep `json:"steps"`
	Open  []string   `json:"open"` // what is left, and what to do about it
}

// Identity is a user or role where access is administered.
type Identity struct {
	ARN        string      `json:"arn"`
	In         string      `json:"in"` // key service, AWS IAM
	ID         string      `json:"id"`
	AccessKeys []AccessKey `json:"access_keys"`
	MFADevices []string    `json:"mfa_devices"`
	Groups     []string    `json:"groups"`
	Policies   []string    `json:"policies"`
	Open       []string    `json:"open,omitempty"` // what a person must still do with it
}

// AccessKey is an access key, without its secret.
type AccessKey struct {
	ID     string `json:"id"`
	Active bool   `json:"active"`
}

// LeaverKey is a key whose policy or grants name somebody who leaves.
type LeaverKey struct {
	Region string   `json:"region"`
	Key    string   `json:"key"` // ARN
	Grants []Grant  `json:"grants"`
	Before string   `json:"policy_before,omitempty"`
	After  string   `json:"policy_after,omitempty"` // empty: it stays
	Named  []string `json:"named,omitempty"`        // where else its policy names him
}

// KeyPart is a part of clear key material that somebody held: a component that he
// brought to a ceremony, or a share of a custodian key.
type KeyPart struct {
	Kind   string    `json:"kind"`             // component, share
	Key    string    `json:"key,omitempty"`    // ARN, of a component
	Tenant string    `json:"tenant,omitempty"` // of a share
	At     time.Time `json:"at"`               // when it was last used
	Entry  string    `json:"entry"`            // id in the audit log
}

// Directory is where identities are administered.
type Directory interface {
	// Identity finds a user or role by ARN, nil if there is none.
	Identity(ctx context.Context, arn string) (*Identity, error)
	// Deactivate makes access keys and sessions of no use. It may be called again.
	Deactivate(ctx context.Context, i *Identity) (detail string, err error)
}

// Region is a key service in a Region.
type Region struct {
	Name string
	KMS  *awskms.Client
}

// Departure takes away what somebody who leaves could reach. It is for one caller at a
// time.
type Departure struct {
	Regions     []Region
	Directories []Directory
	Now         func() time.Time
	Sleep       func(context.Context, time.Duration) error
	// Save keeps the state after each step; its error stops everything.
	Save func(*Leaver) error
	// Register says what the register of people must still be told; empty if nothing.
	Register string
}

// Resume takes over the steps of an earlier run that was not approved yet. Who has
// active access keys again is deactivated again.
func (x *Leaver) Resume(old *Leaver) {
	x.Started = old.Started
	for _, s := range old.Steps {
		if !slices.ContainsFunc(x.Identities, func(i Identity) bool { return s.Step == i.deactivate() && i.active() }) {
			x.Steps = append(x.Steps, s)
		}
	}
}

// deactivate is the name of the step.
func (i *Identity) deactivate() string { return "deactivate " + i.ARN + " in " + i.In }

func (i *Identity) active() bool {
	return slices.ContainsFunc(i.AccessKeys, func(k AccessKey) bool { return k.Active })
}

func (d *Departure) journal(x *Leaver) Journal {
	return Journal{Steps: &x.Steps, Save: func() error { return d.Save(x) }, Now: d.Now}
}

// Deactivate ends the access of his identities at once: that needs no approval, and can
// be taken back (PCI DSS 8.2.5).
func (d *Departure) Deactivate(ctx context.Context, x *Leaver) error {
	if err := d.Save(x); err != nil {
		return err
	}
	for i := range x.Identities {
		one := &x.Identities[i]
		err := d.journal(x).Do(one.deactivate(), func() (string, error) {
			for _, dir := range d.Directories {
				if there, err := dir.Identity(ctx, one.ARN); err != nil {
					return "", err
				} else if there != nil && there.In == one.In {
					return dir.Deactivate(ctx, there)
				}
			}
			return "is gone", nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Depart does what was approved, or goes on with it: grants, policies, keys of whose
// material he held a part. What people must still do is in Open; the caller runs it
// again until nothing is. Each step may be done twice.
func (d *Departure) Depart(ctx context.Context, x *Leaver) error {
	x.Open = []string{}
	for i := range x.Keys {
		k := &x.Keys[i]
		c, err := d.client(k.Region)
		if err != nil {
			return err
		}
		j := d.journal(x)
		if len(k.Grants) > 0 {
			if err := j.Do("revoke-grants "+k.Key, func() (string, error) {
				return revokeGrants(ctx, c, k.Key, func(g *Grant) bool { return g.of(x.names()) })
			}); err != nil {
				return err
			}
		}
		if k.After != "" {
			if err := j.Do("drop-from-policy "+k.Key, func() (string, error) {
				return dropFromPolicy(ctx, c, k, x.names())
			}); err != nil {
				return err
			}
		}
	}
	if err := d.rotate(ctx, x); err != nil {
		return err
	}
	d.left(x)
	if len(x.Open) == 0 && x.Finished.IsZero() {
		x.Finished = d.Now().UTC().Truncate(time.Second)
	}
	return d.Save(x)
}

// dropFromPolicy drops him from a key's policy as it is now: others may have changed it
// since it was looked at, and what they took away is not given back.
func dropFromPolicy(ctx context.Context, c *awskms.Client, k *LeaverKey, names []string) (string, error) {
	now, err := c.GetKeyPolicy(ctx, &awskms.GetKeyPolicyInput{KeyId: &k.Key, PolicyName: aws.String("default")})
	if isCode(err, "NotFoundException") {
		return "the key is gone", nil
	}
	if err != nil {
		return "", fmt.Errorf("policy of key %s: %w", k.Key, err)
	}
	after, _, err := without(aws.ToString(now.Policy), k.Key, names)
	switch {
	case err != nil:
		return "", fmt.Errorf("key %s: %w", k.Key, err)
	case after == "":
		return "it did not let him in any more", nil
	case after != k.After:
		return "it does not let him in any more; others had changed it since it was approved, and what they changed stays", putPolicy(ctx, c, k.Key, after)
	}
	return "it does not let him in any more", putPolicy(ctx, c, k.Key, after)
}

func (d *Departure) client(region string) (*awskms.Client, error) {
	for _, r := range d.Regions {
		if r.Name == region {
			return r.KMS, nil
		}
	}
	return nil, fmt.Errorf("Region %s is not among those that are looked at: name it by --regions", region)
}

// rotate has keys whose material he held a part of rotated, as far as that goes without
// people.
func (d *Departure) rotate(ctx context.Context, x *Leaver) error {
	for _, part := range x.Parts {
		if part.Kind != PartComponent || (Journal{Steps: &x.Steps}).Did("rotate "+part.Key) {
			continue
		}
		c, err := d.client(regionOf(part.Key))
		if err != nil {
			return err
		}
		k, err := Look(ctx, c, part.Key)
		if isCode(err, "NotFoundException") {
			continue // destroyed
		}
		if err != nil {
			return err
		}
		detail := ""
		switch {
		case k.State != types.KeyStateEnabled:
			detail = "it is " + string(k.State) + ": it protects nothing"
		case k.ReplacedBy != "":
			detail = "it was replaced by " + k.ReplacedBy
		case len(k.Rotations) > 0 && k.Turned().After(x.Started) && !x.rotating(k.ARN):
			detail = "its material was renewed since he left"
		}
		if detail == "" {
			if detail, err = d.rotateOne(ctx, x, c, k); err != nil {
				return err
			}
		}
		if detail != "" {
			if err := d.journal(x).Do("rotate "+part.Key, func() (string, error) { return detail, nil }); err != nil {
				return err
			}
		}
	}
	return nil
}

// rotating says whether a rotation is under way: it is to be finished.
func (x *Leaver) rotating(key string) bool {
	return slices.ContainsFunc(x.Rotations, func(r *Rotation) bool { return r.Key == key && r.Finished.IsZero() })
}

// rotateOne returns what came of a rotation, or nothing if people must do something
// first.
func (d *Departure) rotateOne(ctx context.Context, x *Leaver, c *awskms.Client, k *Key) (string, error) {
	var old *Rotation
	for _, r := range x.Rotations {
		if r.Key == k.ARN {
			old = r
		}
	}
	rotator := &Rotator{KMS: c, Now: d.Now, Sleep: d.Sleep, Save: func(r *Rotation) error {
		if old != r {
			x.Rotations, old = append(x.Rotations, r), r
		}
		return d.Save(x)
	}}
	r, err := rotator.Rotate(ctx, k.ARN, old)
	switch {
	case errors.Is(err, ErrNoMaterial), errors.Is(err, ErrPending):
		x.Open = append(x.Open, fmt.Sprintf("he held a part of the material of key %s: %v", k.ARN, err))
		return "", nil
	case err != nil:
		return "", err
	}
	return "rotated, " + r.Method + ": what is under the old material is to be encrypted anew", nil
}

// left adds what people must still do.
func (d *Departure) left(x *Leaver) {
	for _, i := range x.Identities {
		for _, o := range i.Open {
			x.Open = append(x.Open, i.ARN+" in "+i.In+": "+o)
		}
	}
	for _, key := range x.Unread {
		x.Open = append(x.Open, "key "+key+" may not be read by who runs this: let one of its administrators look at it")
	}
	for _, k := range x.Keys {
		for _, n := range k.Named {
			x.Open = append(x.Open, "key "+k.Key+": "+n)
		}
	}
	for _, p := range x.Parts {
		if p.Kind == PartShare {
			x.Open = append(x.Open, fmt.Sprintf("he held a share of the custodian key of %s: 'cardea custodian rekey --tenant %s' makes it worthless", p.Tenant, p.Tenant))
		}
	}
	if d.Register != "" {
		x.Open = append(x.Open, d.Register)
	}
}

// Report is the departure for people.
func (x *Leaver) Report() *Report {
	r := &Report{Title: "Departure of a person", Steps: allSteps(x.Steps, x.Rotations...), Open: x.Open, Facts: [][2]string{
		{"person", cmpNone(x.Person)}, {"reason", x.Reason}, {"begun", moment(x.Started)}, {"finished", moment(x.Finished)}, {"approval", x.Approval.String()}, {"used", x.Touched.basis()},
	}}
	ids := ReportTable{Title: "Identities as found", Header: []string{"ARN", "IN", "ACCESS KEYS", "SECOND FACTORS", "GROUPS", "POLICIES"}}
	for _, i := range x.Identities {
		ids.Rows = append(ids.Rows, []string{i.ARN, i.In, accessKeys(i.AccessKeys), fmt.Sprint(i.MFADevices), fmt.Sprint(i.Groups), fmt.Sprint(i.Policies)})
	}
	keys := ReportTable{Title: "Keys that name him", Header: []string{"KEY", "POLICY", "GRANTS"}}
	var places []Place
	for _, k := range x.Keys {
		policy := "stays"
		if k.After != "" {
			policy = "he is dropped from it"
		}
		keys.Rows = append(keys.Rows, []string{k.Key, policy, fmt.Sprint(len(k.Grants))})
		places = append(places, Place{Key: k.Key, Grants: k.Grants})
	}
	parts := ReportTable{Title: "Parts of key material", Header: []string{"PART", "OF", "LAST USED", "ENTRY"}}
	for _, p := range x.Parts {
		parts.Rows = append(parts.Rows, []string{p.Kind, p.Key + p.Tenant, moment(p.At), p.Entry})
	}
	r.Tables = append([]ReportTable{ids, keys, grantTable("Grants as found", places), parts}, x.Touched.tables()...)
	return r
}

func accessKeys(all []AccessKey) string {
	text := ""
	for _, k := range all {
		state := "off"
		if k.Active {
			state = "active"
		}
		text += k.ID + " " + state + " "
	}
	return text
}
