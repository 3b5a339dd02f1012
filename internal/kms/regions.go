package kms

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"cardea/internal/iam"
)

// maxRegion is the length of a Region's name in the service model.
const maxRegion = 32

func (in *ReplicateKeyInput) check(v *violations) {
	v.keyID("keyId", in.KeyID)
	v.region("replicaRegion", in.ReplicaRegion)
	v.chars("description", in.Description, 0, maxDescription)
	v.policy(in.Policy)
	v.tags(in.Tags)
}

func (in *UpdatePrimaryRegionInput) check(v *violations) {
	v.keyID("keyId", in.KeyID)
	v.region("primaryRegion", in.PrimaryRegion)
}

// region checks the required name of a Region.
func (v *violations) region(member, s string) {
	if !v.required(member, s != "") {
		return
	}
	v.length(member, s, len(s), 1, maxRegion)
	if !regionName(s) {
		v.add(member, s, `satisfy regular expression pattern: ^([a-z]+-){2,3}\d+$`)
	}
}

// regionName reports whether s is two or three words and a number, joined by hyphens.
func regionName(s string) bool {
	parts := strings.Split(s, "-")
	if len(parts) < 3 || len(parts) > 4 {
		return false
	}
	for i, p := range parts {
		least, most := byte('a'), byte('z')
		if i == len(parts)-1 {
			least, most = '0', '9'
		}
		if p == "" || strings.ContainsFunc(p, func(r rune) bool { return r < rune(least) || r > rune(most) }) {
			return false
		}
	}
	return true
}

// ReplicateKey makes a replica of a multi-Region primary key in another Region: a
// key with the same id and material, and with policy, tags, aliases, grants,
// description and state of its own. AWS has the replica be Creating for a while;
// here it is there when the operation answers. A replica of a key with imported
// material waits for that material to be imported.
func (s *Service) ReplicateKey(ctx context.Context, who Caller, in *ReplicateKeyInput) (*ReplicateKeyOutput, error) {
	return perform(ctx, s, who, OpReplicateKey, in, func(c *call, out *ReplicateKeyOutput) error {
		c.param("keyId", in.KeyID)
		c.param("replicaRegion", in.ReplicaRegion)
		c.param("bypassPolicyLockoutSafetyCheck", strconv.FormatBool(in.BypassPolicyLockoutSafetyCheck))
		c.policyParams(in.Policy)
		c.param("description", in.Description)
		c.tagParams(in.Tags)
		if err := vetTags(in.Tags); err != nil {
			return err
		}
		k, err := c.key(ctx, in.KeyID, ask{add: func(q *iam.Context) {
			q.Add("kms:ReplicaRegion", iam.String(in.ReplicaRegion))
			addBypass(q, in.BypassPolicyLockoutSafetyCheck)
		}})
		if err != nil {
			return err
		}
		replica, err := s.replica(k, in, c)
		if err != nil {
			return err
		}
		policy, err := parseKeyPolicy(replica.Policy)
		if err != nil {
			return err
		}
		err = c.in(replica.Region, func() error {
			if err := c.mayCreate(replica, &CreateKeyInput{BypassPolicyLockoutSafetyCheck: in.BypassPolicyLockoutSafetyCheck}); err != nil {
				return err
			}
			return c.vetPolicy(ctx, replica.KeyRef, policy, in.BypassPolicyLockoutSafetyCheck)
		})
		if err != nil {
			return err
		}
		if d := &s.dual; c.unapproved && d.Tag != "" && !d.covers(replica) {
			return refuse(CodeValidation, "The key is under dual control by its tag "+d.Tag+": give the replica the same tag.")
		}
		if err := c.approve(k, map[string]string{"region": replica.Region, "policy-sha256": hashText(replica.Policy)}); err != nil {
			return err
		}
		c.result("replicaKeyMetadata.arn", replica.ARN())
		if err := c.storeReplica(ctx, k, replica); err != nil {
			return err
		}
		out.ReplicaKeyMetadata, out.ReplicaPolicy, out.ReplicaTags = replica.metadata(s), replica.Policy, replica.Tags
		return nil
	})
}

// replica is the key that the request asks for, still without what it shares.
func (s *Service) replica(k *live, in *ReplicateKeyInput, c *call) (*Key, error) {
	if k.Regions == nil || k.Replicates() {
		return nil, k.notPrimary()
	}
	r := &Key{
		KeyRef: KeyRef{Account: k.Account, Region: in.ReplicaRegion, ID: k.ID}, CreatedAt: c.at, Description: in.Description,
		Spec: k.Spec, Usage: k.Usage, Origin: k.Origin, State: StateEnabled, Policy: in.Policy, Tags: mergeTags(nil, in.Tags),
		Regions: &Regions{Type: Replica, Primary: k.Region},
	}
	if r.Policy == "" {
		r.Policy = defaultPolicy(k.Account)
	}
	if r.Origin == OriginExternal {
		r.State = StatePendingImport
	}
	switch {
	case in.ReplicaRegion == k.Region || slices.Contains(k.Regions.Replicas, in.ReplicaRegion):
		return nil, refuse(CodeAlreadyExists, "Key '"+r.ARN()+"' already exists")
	case !s.Serves(in.ReplicaRegion):
		return nil, refuse(CodeUnsupported, "The Region "+in.ReplicaRegion+" is not served here.")
	}
	return r, nil
}

// in does something in another Region than that of the request.
func (c *call) in(region string, f func() error) error {
	own, decided := c.who.Region, c.entry.Detail
	c.who.Region = region
	err := f()
	c.who.Region, c.entry.Detail = own, decided
	return err
}

func (c *call) storeReplica(ctx context.Context, k *live, replica *Key) error {
	return c.update(ctx, func(ctx context.Context, tx Tx) ([]Change, error) {
		keys, err := related(ctx, tx, k)
		if err != nil {
			return []Change{{KeyRef: k.KeyRef}}, err
		}
		changed := append(changesOf(keys), Change{KeyRef: replica.KeyRef})
		regions := append(slices.Clone(keys[0].Regions.Replicas), replica.Region)
		slices.Sort(regions)
		replica.Regions.Replicas = regions
		for _, k := range keys {
			k.Regions.Replicas = slices.Clone(regions)
		}
		if w := keys[0].waiting(); w != nil { // the replica does not have it yet
			w.State = MaterialPendingRegions
		}
		keys[0].share(replica)
		if err := c.s.insert(ctx, tx, replica); err != nil {
			return changed, err
		}
		who := c.who
		who.Region = replica.Region // CloudTrail has a CreateKey there
		err = c.also(tx, who, OpCreateKey, replica.KeyRef, "keySpec", string(replica.Spec), "keyUsage", string(replica.Usage),
			"origin", string(replica.Origin), "multiRegion", "true", "multiRegionKeyType", string(Replica))
		if err != nil {
			return changed, err
		}
		return changed, putAll(ctx, tx, keys)
	})
}

// UpdatePrimaryRegion makes a replica the primary key and the primary key a
// replica. AWS has both be Updating for a while; here it is done, in one
// transaction, when the operation answers.
func (s *Service) UpdatePrimaryRegion(ctx context.Context, who Caller, in *UpdatePrimaryRegionInput) error {
	return s.do(ctx, who, OpUpdatePrimaryRegion, in, func(c *call) error {
		c.param("keyId", in.KeyID)
		c.param("primaryRegion", in.PrimaryRegion)
		wanted := ask{add: func(q *iam.Context) { q.Add("kms:PrimaryRegion", iam.String(in.PrimaryRegion)) }}
		k, err := c.key(ctx, in.KeyID, wanted)
		if err != nil {
			return err
		}
		if k.Regions == nil || k.Replicates() {
			return k.notPrimary()
		}
		if in.PrimaryRegion == k.Region {
			return refuse(CodeValidation, "The primary Region of "+k.arn+" is "+k.Region+" already.")
		}
		var r *live
		err = c.in(in.PrimaryRegion, func() error {
			if r, err = c.load(ctx, KeyRef{k.Account, in.PrimaryRegion, k.ID}); err != nil {
				return err
			}
			return c.permit(ctx, r, wanted)
		})
		if err != nil {
			return err
		}
		return c.update(ctx, func(ctx context.Context, tx Tx) ([]Change, error) {
			keys, err := related(ctx, tx, k)
			if err != nil {
				return []Change{{KeyRef: k.KeyRef}, {KeyRef: r.KeyRef}}, err
			}
			if !slices.ContainsFunc(keys, func(o *Key) bool { return o.KeyRef == r.KeyRef && o.Version == r.Version }) {
				return changesOf(keys), errStale
			}
			movePrimary(keys, k.Region, in.PrimaryRegion)
			who := c.who
			who.Region = in.PrimaryRegion // CloudTrail has one there as well
			if err := c.also(tx, who, OpUpdatePrimaryRegion, r.KeyRef, "keyId", k.ID, "primaryRegion", in.PrimaryRegion); err != nil {
				return changesOf(keys), err
			}
			return changesOf(keys), putAll(ctx, tx, keys)
		})
	})
}

// movePrimary makes the key in the Region next the primary one of the keys.
func movePrimary(keys []*Key, old, next string) {
	for _, k := range keys {
		r := k.Regions
		r.Primary, r.Type = next, Replica
		if k.Region == next {
			r.Type = Primary
		}
		r.Replicas = append(slices.DeleteFunc(r.Replicas, func(s string) bool { return s == next }), old)
		slices.Sort(r.Replicas)
	}
}
