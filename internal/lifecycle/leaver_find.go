package lifecycle

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"cardea/internal/approval"
	"cardea/internal/audit"
)

// The kinds of parts.
const (
	PartComponent = "component"
	PartShare     = "share"
)

// Find finds what somebody can reach: identities, and keys whose policies or grants
// name one of them. It changes nothing.
func (d *Departure) Find(ctx context.Context, principals []string) (*Leaver, error) {
	x := &Leaver{
		Principals: principals, Started: d.Now().UTC().Truncate(time.Second), Identities: []Identity{}, Keys: []LeaverKey{}, Parts: []KeyPart{}, Rotations: []*Rotation{},
		Touched: Touched{Principals: []Use{}, Operations: []Use{}, Tenants: []Use{}, Files: []string{}}, Steps: []DoneStep{}, Open: []string{},
	}
	for _, arn := range principals {
		for _, dir := range d.Directories {
			i, err := dir.Identity(ctx, arn)
			if err != nil {
				return nil, fmt.Errorf("identity %s: %w", arn, err)
			}
			if i != nil {
				x.Identities = append(x.Identities, *i)
			}
		}
	}
	for _, r := range d.Regions {
		for pages := awskms.NewListKeysPaginator(r.KMS, &awskms.ListKeysInput{}); pages.HasMorePages(); {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return nil, fmt.Errorf("list keys: %w", err)
			}
			for _, e := range page.Keys {
				if err := x.look(ctx, r, aws.ToString(e.KeyArn), x.names()); err != nil {
					return nil, err
				}
			}
		}
	}
	return x, nil
}

// names are what policies and grants may call him: one who was deleted is shown by id.
func (x *Leaver) names() []string {
	all := slices.Clone(x.Principals)
	for _, i := range x.Identities {
		all = append(all, i.ID)
	}
	return all
}

// look adds a key if it names one of the principals.
func (x *Leaver) look(ctx context.Context, r Region, key string, names []string) error {
	denied := func(err error) bool { return isCode(err, "AccessDeniedException") }
	m, err := r.KMS.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: &key})
	if denied(err) {
		x.Unread = append(x.Unread, key)
		return nil
	}
	if isCode(err, "NotFoundException") {
		return nil // destroyed since it was listed
	}
	if err != nil {
		return fmt.Errorf("describe key %s: %w", key, err)
	}
	if m.KeyMetadata.KeyManager == types.KeyManagerTypeAws {
		return nil
	}
	p, err := r.KMS.GetKeyPolicy(ctx, &awskms.GetKeyPolicyInput{KeyId: &key, PolicyName: aws.String("default")})
	if denied(err) {
		x.Unread = append(x.Unread, key)
		return nil
	}
	if err != nil {
		return fmt.Errorf("policy of key %s: %w", key, err)
	}
	k := LeaverKey{Region: r.Name, Key: key, Grants: []Grant{}}
	if k.After, k.Named, err = without(aws.ToString(p.Policy), key, names); err != nil {
		return fmt.Errorf("key %s: %w", key, err)
	}
	if k.After != "" {
		k.Before = aws.ToString(p.Policy)
	}
	all, err := GrantsOn(ctx, r.KMS, key)
	if err != nil && !denied(err) {
		return err
	}
	for _, g := range all {
		if g.of(names) {
			k.Grants = append(k.Grants, g)
		}
	}
	if k.After != "" || len(k.Grants)+len(k.Named) > 0 {
		x.Keys = append(x.Keys, k)
	}
	return nil
}

// of says whether a grant is to one of the principals, or may be retired by one.
func (g *Grant) of(principals []string) bool {
	return slices.ContainsFunc(principals, func(p string) bool {
		return g.Grantee == p || g.Retiring == p || sessionOf(g.Grantee, p) || sessionOf(g.Retiring, p)
	})
}

// sessionOf says whether a principal is a session of a role.
func sessionOf(session, role string) bool {
	i := strings.Index(role, ":role/")
	if i < 0 {
		return false
	}
	name := role[strings.LastIndexByte(role, '/')+1:]
	account := role[strings.Index(role, "::")+2 : i]
	return strings.Contains(session, ":sts::"+account+":assumed-role/"+name+"/")
}

// Part is the part of key material that an entry of our logs shows a person to have
// held; nil if it shows none.
func Part(e *audit.Entry, person string) *KeyPart {
	if person == "" || e.Outcome != audit.Allowed {
		return nil
	}
	p := &KeyPart{At: e.Time.UTC().Truncate(time.Second), Entry: e.ID}
	switch {
	case e.Op == "custodian.part" && e.Who.Name == person:
		p.Kind, p.Tenant = PartShare, e.Tenant
	case e.Op == "ceremony.import" && e.Resource.Key != "":
		_, list, _ := strings.Cut(e.Detail, "custodians ")
		list, _, _ = strings.Cut(list, ", approved by ")
		list, _, _ = strings.Cut(list, ", register ")
		if !slices.Contains(strings.Split(list, ", "), person) {
			return nil
		}
		p.Kind, p.Key = PartComponent, e.Resource.Key
	default:
		return nil
	}
	return p
}

// AddPart adds a part, or a later use of one that is known.
func (x *Leaver) AddPart(p *KeyPart) {
	for i := range x.Parts {
		if q := &x.Parts[i]; q.Kind == p.Kind && q.Key == p.Key && q.Tenant == p.Tenant {
			if p.At.After(q.At) {
				*q = *p
			}
			return
		}
	}
	x.Parts = append(x.Parts, *p)
}

// Needed is the approval that the departure needs: of exactly these changes of grants,
// policies and keys.
func (x *Leaver) Needed(p *Policy) (*Needed, error) {
	type change struct {
		Key    string
		Grants []string
		Policy string
	}
	plan := struct {
		Principals []string
		Person     string
		Changes    []change
		Rotate     []string
	}{Principals: x.Principals, Person: x.Person}
	for _, k := range x.Keys {
		c := change{Key: k.Key, Policy: k.After}
		for _, g := range k.Grants {
			c.Grants = append(c.Grants, g.ID)
		}
		plan.Changes = append(plan.Changes, c)
	}
	for _, part := range x.Parts {
		if part.Kind == PartComponent {
			plan.Rotate = append(plan.Rotate, part.Key)
		}
	}
	text, err := json.Marshal(plan)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	return &Needed{Operation: approval.KeyLeaver, Target: x.Principals[0], Params: map[string]string{"plan-sha256": hex.EncodeToString(sum[:])}, Approvals: p.Quorum(approval.KeyPolicy, 1)}, nil
}

// regionOf is the Region in a key's ARN.
func regionOf(arn string) string {
	if parts := strings.SplitN(arn, ":", 5); len(parts) == 5 {
		return parts[3]
	}
	return ""
}
