package lifecycle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// Administrator does what plans say. It is for one caller at a time.
type Administrator struct {
	KMS *awskms.Client
	// Approve returns an error unless what is needed was approved; nil refuses all.
	Approve func(*Needed) error
	// Settled is told of what would need approval and is done already, perhaps by a run
	// that was killed before it could say so. It may be nil.
	Settled func(*Needed) error
	// Begin is told of all steps before the first is done, so that what a run that is
	// killed did is explained; its error stops everything. It may be nil.
	Begin func([]Step) error
	// Done is told of each step after it was done; its error stops everything. It may
	// be nil.
	Done func(Step) error
}

// Errors that a caller branches on.
var (
	ErrConflict = errors.New("it cannot be applied")
	ErrUnproved = errors.New("the key service does not say what was to be")
)

// Apply makes the keys as the policy wants them, step by step, and asks the key
// service afterwards whether they are. It may be cut off at any step and done again.
// Approvals are looked at before anything is done.
func (a *Administrator) Apply(ctx context.Context, p *Policy) (done []Step, err error) {
	inv, err := Take(ctx, a.KMS)
	if err != nil {
		return nil, err
	}
	steps, conflicts, err := p.Plan(inv)
	if err != nil {
		return nil, err
	}
	if len(conflicts) > 0 {
		return nil, fmt.Errorf("%w: %s", ErrConflict, conflicts[0])
	}
	for _, s := range steps {
		if err := a.approved(s.Approval); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", s.Class, s.Kind, err)
		}
	}
	if err := a.settle(p, inv); err != nil {
		return nil, err
	}
	if a.Begin != nil && len(steps) > 0 {
		if err := a.Begin(steps); err != nil {
			return nil, err
		}
	}
	made := map[string]string{}
	for _, s := range steps {
		if s.Key == "" {
			s.Key = made[s.Class]
		}
		if err := a.do(ctx, &s); err != nil {
			return done, fmt.Errorf("%s: %s: %w", s.Class, s.Kind, err)
		}
		made[s.Class] = s.Key
		done = append(done, s)
		if a.Done != nil {
			if err := a.Done(s); err != nil {
				return done, err
			}
		}
	}
	if inv, err = Take(ctx, a.KMS); err != nil {
		return done, err
	}
	left, conflicts, err := p.Plan(inv)
	if err == nil && len(left)+len(conflicts) > 0 {
		what := conflicts
		for _, s := range left {
			what = append(what, s.Class+": "+string(s.Kind))
		}
		err = fmt.Errorf("%w: %v: run it again, and look who else changes keys", ErrUnproved, what)
	}
	return done, err
}

// settle tells of the keys that have the policy that the file wants.
func (a *Administrator) settle(p *Policy, inv *Inventory) error {
	for _, name := range slices.Sorted(maps.Keys(p.Keys)) {
		k, err := inv.Of(name)
		if a.Settled == nil || err != nil || k == nil {
			continue
		}
		policy, err := p.Keys[name].KeyPolicy()
		if err != nil {
			return err
		}
		if n := p.policyApproval(k.ARN, policy); n != nil && bytes.Equal(k.Policy, policy) {
			if err := a.Settled(n); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *Administrator) approved(n *Needed) error {
	if n == nil {
		return nil
	}
	if a.Approve == nil {
		return fmt.Errorf("needs approval: '%s --reason WHY --register FILE --key FILE --out FILE'", n.Command())
	}
	return a.Approve(n)
}

func (a *Administrator) do(ctx context.Context, s *Step) error {
	c, k := s.class, aws.String(idOf(s.Key)) // not every key service takes ARNs everywhere
	var err error
	switch s.Kind {
	case StepCreate:
		s.Key, err = a.create(ctx, c, c.tags())
	case StepDescribe:
		_, err = a.KMS.UpdateKeyDescription(ctx, &awskms.UpdateKeyDescriptionInput{KeyId: k, Description: &c.Description})
	case StepTag:
		_, err = a.KMS.TagResource(ctx, &awskms.TagResourceInput{KeyId: k, Tags: kmsTags(c.tags())})
	case StepPolicy:
		var policy []byte
		if policy, err = c.KeyPolicy(); err == nil {
			_, err = a.KMS.PutKeyPolicy(ctx, &awskms.PutKeyPolicyInput{KeyId: k, Policy: aws.String(string(policy))})
		}
	case StepAlias:
		_, err = a.KMS.CreateAlias(ctx, &awskms.CreateAliasInput{AliasName: &s.After, TargetKeyId: k}, once)
	case StepRotation:
		if c.Rotation == 0 {
			_, err = a.KMS.DisableKeyRotation(ctx, &awskms.DisableKeyRotationInput{KeyId: k})
		} else {
			_, err = a.KMS.EnableKeyRotation(ctx, &awskms.EnableKeyRotationInput{KeyId: k, RotationPeriodInDays: aws.Int32(int32(c.Rotation))})
		}
	case StepReplicate:
		var policy []byte
		if policy, err = c.KeyPolicy(); err == nil {
			_, err = a.KMS.ReplicateKey(ctx, &awskms.ReplicateKeyInput{KeyId: k, ReplicaRegion: &s.After, Policy: aws.String(string(policy)), Tags: kmsTags(c.tags()), Description: &c.Description}, once)
		}
	}
	return err
}

// create makes a key of a class. Policy and tags are of the same request.
func (a *Administrator) create(ctx context.Context, c *Class, tags map[string]string) (arn string, err error) {
	policy, err := c.KeyPolicy()
	if err != nil {
		return "", err
	}
	in := &awskms.CreateKeyInput{
		KeySpec: types.KeySpec(c.Spec), KeyUsage: types.KeyUsageType(c.Usage), Origin: types.OriginType(c.Origin), Description: &c.Description,
		Policy: aws.String(string(policy)), Tags: kmsTags(tags),
	}
	if c.CustomKeyStore != "" {
		in.CustomKeyStoreId = &c.CustomKeyStore
	}
	if len(c.Replicas) > 0 {
		in.MultiRegion = aws.Bool(true)
	}
	out, err := a.KMS.CreateKey(ctx, in, once)
	if err != nil {
		return "", fmt.Errorf("%w: administrators and users must exist, and the caller must be one of the administrators or the account's root user", err)
	}
	return aws.ToString(out.KeyMetadata.Arn), nil
}

func kmsTags(tags map[string]string) []types.Tag {
	var all []types.Tag
	for _, k := range slices.Sorted(maps.Keys(tags)) {
		all = append(all, types.Tag{TagKey: aws.String(k), TagValue: aws.String(tags[k])})
	}
	return all
}
