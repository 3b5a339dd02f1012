package lifecycle

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"cardea/internal/approval"
)

// StepKind is what a step of a plan does.
type StepKind string

// The kinds of steps.
const (
	StepCreate    StepKind = "create-key"
	StepDescribe  StepKind = "set-description"
	StepTag       StepKind = "set-tags"
	StepPolicy    StepKind = "put-policy"
	StepAlias     StepKind = "create-alias"
	StepRotation  StepKind = "set-rotation"
	StepReplicate StepKind = "replicate-key"
)

// Step is one change.
type Step struct {
	Class  string   `json:"class"`
	Kind   StepKind `json:"step"`
	Key    string   `json:"key,omitempty"` // ARN; empty if it is made by an earlier step
	Before string   `json:"before,omitempty"`
	After  string   `json:"after"`
	// Approval is what must be approved for it, nil if the policy file asks for nothing.
	Approval *Needed `json:"approval,omitempty"`

	class *Class
}

// Needed is an approval that a step needs.
type Needed struct {
	Operation approval.Operation `json:"operation"`
	Target    string             `json:"target"`
	Params    map[string]string  `json:"params,omitempty"`
	Approvals int                `json:"approvals"`
}

// Command is how the approval is asked for.
func (n *Needed) Command() string {
	s := fmt.Sprintf("cardea approval request --operation %s --target %s", n.Operation, n.Target)
	for _, k := range slices.Sorted(maps.Keys(n.Params)) {
		s += " --param " + k + "=" + n.Params[k]
	}
	return s + fmt.Sprintf(" --approvals %d", n.Approvals)
}

// Plan says what makes the keys as the policy wants them, in the order in which it
// is done, and what cannot be settled by doing anything: conflicts.
func (p *Policy) Plan(inv *Inventory) (steps []Step, conflicts []string, err error) {
	for _, name := range slices.Sorted(maps.Keys(p.Keys)) {
		c := p.Keys[name]
		s, bad, err := p.planClass(c, inv)
		if err != nil {
			return nil, nil, err
		}
		if len(s) > 0 && s[0].Kind == StepCreate && len(inv.Unread) > 0 {
			bad = append(bad, fmt.Sprintf("keys.%s: no key was found, but one of those that may not be read could be it: %s: run this as somebody who may list their tags", name, strings.Join(inv.Unread, ", ")))
		}
		steps, conflicts = append(steps, s...), append(conflicts, bad...)
	}
	return steps, conflicts, nil
}

func (p *Policy) planClass(c *Class, inv *Inventory) (steps []Step, conflicts []string, err error) {
	k, err := inv.Of(c.Name)
	if err != nil {
		return nil, []string{"keys." + c.Name + ": " + err.Error()}, nil
	}
	policy, err := c.KeyPolicy()
	if err != nil {
		return nil, nil, err
	}
	add := func(kind StepKind, before, after string) {
		s := Step{Class: c.Name, Kind: kind, Before: before, After: after, class: c}
		if k != nil {
			s.Key = k.ARN
		}
		if kind == StepPolicy {
			s.Approval = p.policyApproval(k.ARN, policy)
		}
		steps = append(steps, s)
	}
	if k == nil {
		add(StepCreate, "", fmt.Sprintf("%s for %s, origin %s, policy and tags as in the file", c.Spec, c.Usage, c.Origin))
		k2 := &Key{Tags: c.tags(), Policy: policy, Description: c.Description, State: types.KeyStateEnabled}
		if c.Origin == "EXTERNAL" {
			k2.State = types.KeyStatePendingImport
		}
		return p.planRest(c, inv, k2, steps, conflicts)
	}
	for _, d := range []struct{ what, is, want string }{
		{"spec", k.Spec, c.Spec}, {"usage", k.Usage, c.Usage}, {"origin", k.Origin, c.Origin}, {"custom_key_store", k.Store, c.CustomKeyStore},
	} {
		if d.is != d.want {
			conflicts = append(conflicts, fmt.Sprintf("keys.%s.%s: key %s has %s, the file wants %s: KMS cannot change it; give the new key a new name in the file", c.Name, d.what, k.ID, cmpNone(d.is), cmpNone(d.want)))
		}
	}
	if len(c.Replicas) > 0 && !k.MultiRegion {
		conflicts = append(conflicts, fmt.Sprintf("keys.%s.replicas: key %s was not made as a multi-Region key: KMS cannot change it", c.Name, k.ID))
	}
	if k.Description != c.Description {
		add(StepDescribe, k.Description, c.Description)
	}
	if before, after := tagDifference(k.Tags, c.tags()); after != "" {
		add(StepTag, before, after)
	}
	if !bytes.Equal(k.Policy, policy) {
		add(StepPolicy, string(k.Policy), string(policy))
	}
	rest, conflicts, err := p.planRest(c, inv, k, nil, conflicts)
	for i := range rest {
		rest[i].Key = k.ARN
	}
	return append(steps, rest...), conflicts, err
}

// policyApproval is what must be approved for a key's policy, nil if nothing is.
func (p *Policy) policyApproval(arn string, policy []byte) *Needed {
	n := p.Approvals[approval.KeyPolicy]
	if n == 0 {
		return nil
	}
	sum := sha256.Sum256(policy)
	return &Needed{Operation: approval.KeyPolicy, Target: arn, Params: map[string]string{"policy-sha256": hex.EncodeToString(sum[:])}, Approvals: n}
}

// planRest plans what can only be done to a key that there is.
func (p *Policy) planRest(c *Class, inv *Inventory, k *Key, steps []Step, conflicts []string) ([]Step, []string, error) {
	for _, a := range c.Aliases {
		switch id, taken := inv.Aliases[a]; {
		case !taken:
			steps = append(steps, Step{Class: c.Name, Kind: StepAlias, After: a, class: c})
		case id != k.ID:
			conflicts = append(conflicts, fmt.Sprintf("keys.%s.aliases: %s points to key %s, which is not this one: give that key the tag %s=%s if it is meant, or take the alias from it", c.Name, a, id, tagClass, c.Name))
		}
	}
	enabled := k.State == types.KeyStateEnabled
	if c.Rotation != 0 && enabled && !k.rotatesEvery(c.Rotation) {
		steps = append(steps, Step{Class: c.Name, Kind: StepRotation, Before: rotationText(k.Rotates, k.Period), After: rotationText(true, c.Rotation), class: c})
	}
	if c.Rotation == 0 && k.Rotates {
		steps = append(steps, Step{Class: c.Name, Kind: StepRotation, Before: rotationText(true, k.Period), After: rotationText(false, 0), class: c})
	}
	for _, r := range c.Replicas {
		if !slices.Contains(k.Replicas, r) && enabled && (k.ID == "" || k.MultiRegion) {
			steps = append(steps, Step{Class: c.Name, Kind: StepReplicate, After: r, class: c})
		}
	}
	return steps, conflicts, nil
}

func cmpNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func rotationText(on bool, period Days) string {
	if !on {
		return "off"
	}
	if period == 0 {
		return "on, period not told"
	}
	return "every " + period.String()
}

// rotatesEvery says whether a key rotates by itself with a period, as far as the key
// service tells.
func (k *Key) rotatesEvery(period Days) bool {
	return k.Rotates && (k.Period == period || k.Period == 0)
}

// tags are those of the class's keys.
func (c *Class) tags() map[string]string {
	t := maps.Clone(c.Tags)
	if t == nil {
		t = map[string]string{}
	}
	t[tagClass] = c.Name
	return t
}

// tagDifference is what of the wanted tags is otherwise. Tags that are not in the
// file are others' and stay.
func tagDifference(is, want map[string]string) (before, after string) {
	var b, a []string
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if v, ok := is[k]; !ok || v != want[k] {
			a = append(a, k+"="+want[k])
			if ok {
				b = append(b, k+"="+v)
			}
		}
	}
	return strings.Join(b, ", "), strings.Join(a, ", ")
}
