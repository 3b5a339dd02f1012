package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
)

// Place is a key in a Region as it was found.
type Place struct {
	Region  string   `json:"region,omitempty"` // of a replica; empty for the key itself
	Key     string   `json:"key"`              // ARN
	State   string   `json:"state"`
	Policy  string   `json:"policy"`
	Aliases []string `json:"aliases"`
	Grants  []Grant  `json:"grants"`
}

// Grant is a grant on a key.
type Grant struct {
	ID         string    `json:"id"`
	Name       string    `json:"name,omitempty"`
	Grantee    string    `json:"grantee"`
	Retiring   string    `json:"retiring_principal,omitempty"`
	Issuer     string    `json:"issuer,omitempty"`
	Operations []string  `json:"operations"`
	Created    time.Time `json:"created,omitzero"`
}

// place looks at a key or its replica in a Region.
func (r *Responder) place(ctx context.Context, k *Key, region string) (*Place, error) {
	p := &Place{Region: region, Key: k.ARN, State: string(k.State), Policy: string(k.Policy)}
	c, err := r.client(region)
	if err != nil {
		return nil, err
	}
	if region != "" {
		replica, err := Look(ctx, c, k.ID)
		if err != nil {
			return nil, fmt.Errorf("replica in %s: %w", region, err)
		}
		p.Key, p.State, p.Policy = replica.ARN, string(replica.State), string(replica.Policy)
	}
	if p.Aliases, err = AliasesOf(ctx, c, k.ID); err != nil {
		return nil, err
	}
	p.Aliases = append([]string{}, p.Aliases...)
	p.Grants, err = GrantsOn(ctx, c, p.Key)
	return p, err
}

// GrantsOn are the grants on a key.
func GrantsOn(ctx context.Context, c *awskms.Client, key string) ([]Grant, error) {
	all := []Grant{}
	for pages := awskms.NewListGrantsPaginator(c, &awskms.ListGrantsInput{KeyId: &key}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("grants on key %s: %w", key, err)
		}
		for _, g := range page.Grants {
			one := Grant{ID: aws.ToString(g.GrantId), Name: aws.ToString(g.Name), Grantee: aws.ToString(g.GranteePrincipal), Retiring: aws.ToString(g.RetiringPrincipal), Issuer: aws.ToString(g.IssuingAccount), Created: utc(g.CreationDate)}
			for _, o := range g.Operations {
				one.Operations = append(one.Operations, string(o))
			}
			all = append(all, one)
		}
	}
	return all, nil
}

// revokeGrants revokes the grants on a key that match, all if match is nil. It asks
// anew which there are: since they were first looked at there may be others.
func revokeGrants(ctx context.Context, c *awskms.Client, key string, match func(*Grant) bool) (string, error) {
	all, err := GrantsOn(ctx, c, key)
	if err != nil {
		return "", err
	}
	var revoked []string
	for i := range all {
		if match != nil && !match(&all[i]) {
			continue
		}
		_, err := c.RevokeGrant(ctx, &awskms.RevokeGrantInput{KeyId: &key, GrantId: &all[i].ID})
		if err != nil && !isCode(err, "NotFoundException") { // one that is gone meanwhile is what is wanted
			return "", fmt.Errorf("revoke grant %s: %w", all[i].ID, err)
		}
		revoked = append(revoked, all[i].ID+" of "+all[i].Grantee)
	}
	if len(revoked) == 0 {
		return "no grant", nil
	}
	return fmt.Sprintf("%d revoked: %s", len(revoked), strings.Join(revoked, ", ")), nil
}

func isCode(err error, code string) bool {
	api, ok := errors.AsType[smithy.APIError](err)
	return ok && api.ErrorCode() == code
}

// putPolicy sets a key's policy.
func putPolicy(ctx context.Context, c *awskms.Client, key, policy string) error {
	if _, err := c.PutKeyPolicy(ctx, &awskms.PutKeyPolicyInput{KeyId: &key, PolicyName: aws.String("default"), Policy: &policy}); err != nil {
		return fmt.Errorf("policy of key %s: %w", key, err)
	}
	return nil
}

// replicate makes a replica of the new key where the old one has one, and moves the
// aliases there.
func (r *Responder) replicate(ctx context.Context, x *Compromise, p *Place, j Journal) error {
	c, err := r.client(p.Region)
	if err != nil {
		return err
	}
	id := x.Replacement.NewKey[strings.LastIndexByte(x.Replacement.NewKey, '/')+1:]
	if err := j.Do("replicate"+p.suffix(), func() (string, error) {
		_, err := r.KMS.ReplicateKey(ctx, &awskms.ReplicateKeyInput{KeyId: &x.Replacement.NewKey, ReplicaRegion: &p.Region, Policy: &p.Policy})
		if isCode(err, "AlreadyExistsException") {
			return "was made before", nil
		}
		return id, err
	}); err != nil {
		return err
	}
	return j.Do("move-aliases"+p.suffix(), func() (string, error) {
		d, err := c.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: &id})
		if err != nil || d.KeyMetadata.KeyState == types.KeyStateCreating {
			return "", errors.Join(fmt.Errorf("%w: the new replica is not there yet: run the same command again", ErrPending), err)
		}
		for _, a := range p.Aliases {
			if _, err := c.UpdateAlias(ctx, &awskms.UpdateAliasInput{AliasName: &a, TargetKeyId: &id}); err != nil {
				return "", fmt.Errorf("%s: %w", a, err)
			}
		}
		return fmt.Sprintf("%d aliases name the new key", len(p.Aliases)), nil
	})
}
