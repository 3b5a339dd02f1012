package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"cardea/internal/iam"
)

// The tags by which keys are found again. They are put on a key by the request that
// makes it, so that there is no key of which nobody knows why it is there.
const (
	tagPrefix   = "cardea:"
	tagClass    = "cardea:class"       // the key's name in the policy file
	tagReplaced = "cardea:replaced-by" // id of the key that took its place
	tagReplaces = "cardea:replaces"    // id of the key whose place it takes
)

// Key is what a key service says of a key.
type Key struct {
	ID, ARN     string
	Class       string // of the policy; empty if it is not of one
	ReplacedBy  string
	Replaces    string
	State       types.KeyState
	Spec        string
	Usage       string
	Origin      string
	Store       string
	Description string
	MultiRegion bool
	Replicas    []string // Regions
	Created     time.Time
	Deletion    time.Time // zero: none is scheduled
	ValidTo     time.Time // of imported material
	Material    string    // id of the current one
	Algorithm   string    // the last of those that the key can be used by

	Tags    map[string]string
	Aliases []string
	Policy  []byte // canonical

	Rotates      bool
	Period       Days // 0: it does not rotate, or the key service does not tell how often
	NextRotation time.Time
	Rotations    []time.Time // oldest first

	// LastUse is nil if the key service does not tell; its time is zero if the key
	// was not used since Tracked.
	LastUse *LastUse
}

// LastUse is the last successful use of a key.
type LastUse struct {
	Time      time.Time
	Operation string
	Tracked   time.Time
}

// Turned is when the key's material was last new.
func (k *Key) Turned() time.Time {
	if n := len(k.Rotations); n > 0 && k.Rotations[n-1].After(k.Created) {
		return k.Rotations[n-1]
	}
	return k.Created
}

// Live says whether the key may be used, or could be again by enabling it.
func (k *Key) Live() bool {
	return k.State != types.KeyStatePendingDeletion && k.State != types.KeyStatePendingReplicaDeletion
}

// unsupported says whether a key service does not have an operation, or not for this
// key: what it would have told is then not known.
func unsupported(err error) bool {
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return false
	}
	return slices.Contains([]string{"UnsupportedOperationException", "UnknownOperationException", "NotImplemented", "InvalidAction", "InternalFailure"}, api.ErrorCode())
}

// unreadable says whether an answer was none of the KMS API: so do key services answer
// that have never heard of an operation.
func unreadable(err error) bool {
	_, ok := errors.AsType[*smithy.DeserializationError](err)
	return ok
}

// Inventory is what there is in a Region.
type Inventory struct {
	Keys    []*Key            // of the policy, by tag
	Aliases map[string]string // alias → key id, of all keys
	// Unread are ids of keys whose tags the caller may not read: they may be of the
	// policy. Keys that AWS manages are not among them.
	Unread []string
}

// Of returns the key in use of a class, nil if there is none, and an error if there
// are several.
func (inv *Inventory) Of(class string) (*Key, error) {
	var found *Key
	for _, k := range inv.Keys {
		if k.Class != class || k.ReplacedBy != "" || !k.Live() {
			continue
		}
		if found != nil && k.Replaces != found.ID && found.Replaces != k.ID {
			return nil, fmt.Errorf("keys %s and %s both have tag %s=%s: remove it from the one that is not meant", found.ID, k.ID, tagClass, class)
		}
		if found == nil || found.Replaces == k.ID { // a rotation by hand is under way: the old key serves until it ends
			found = k
		}
	}
	return found, nil
}

// Take reads all customer managed keys with a class tag.
func Take(ctx context.Context, c *awskms.Client) (*Inventory, error) {
	inv := &Inventory{Aliases: map[string]string{}}
	byKey := map[string][]string{}
	for pages := awskms.NewListAliasesPaginator(c, &awskms.ListAliasesInput{}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("list aliases: %w", err)
		}
		for _, a := range page.Aliases {
			if a.TargetKeyId == nil {
				continue
			}
			inv.Aliases[*a.AliasName] = *a.TargetKeyId
			byKey[*a.TargetKeyId] = append(byKey[*a.TargetKeyId], *a.AliasName)
		}
	}
	for pages := awskms.NewListKeysPaginator(c, &awskms.ListKeysInput{}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("list keys: %w", err)
		}
		for _, e := range page.Keys {
			tags, err := tagsOf(ctx, c, *e.KeyId)
			if api, ok := errors.AsType[smithy.APIError](err); ok && api.ErrorCode() == "AccessDeniedException" {
				if !slices.ContainsFunc(byKey[*e.KeyId], func(alias string) bool { return strings.HasPrefix(alias, "alias/aws/") }) {
					inv.Unread = append(inv.Unread, *e.KeyId)
				}
				continue
			}
			if isCode(err, "NotFoundException") {
				continue // destroyed since it was listed
			}
			if err != nil {
				return nil, fmt.Errorf("tags of key %s: %w", *e.KeyId, err)
			}
			if tags[tagClass] == "" {
				continue
			}
			k, err := Look(ctx, c, *e.KeyId)
			if isCode(err, "NotFoundException") {
				continue
			}
			if err != nil {
				return nil, err
			}
			k.Aliases = byKey[k.ID]
			slices.Sort(k.Aliases)
			inv.Keys = append(inv.Keys, k)
		}
	}
	return inv, nil
}

func tagsOf(ctx context.Context, c *awskms.Client, id string) (map[string]string, error) {
	tags := map[string]string{}
	for pages := awskms.NewListResourceTagsPaginator(c, &awskms.ListResourceTagsInput{KeyId: &id}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, t := range page.Tags {
			tags[aws.ToString(t.TagKey)] = aws.ToString(t.TagValue)
		}
	}
	return tags, nil
}

// Look reads one key by id, ARN or alias, all but its aliases.
func Look(ctx context.Context, c *awskms.Client, id string) (*Key, error) {
	d, err := c.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: &id})
	if err != nil {
		return nil, fmt.Errorf("describe key %s: %w", id, err)
	}
	m := d.KeyMetadata
	k := &Key{
		ID: aws.ToString(m.KeyId), ARN: aws.ToString(m.Arn), State: m.KeyState, Spec: string(m.KeySpec), Usage: string(m.KeyUsage), Origin: string(m.Origin),
		Store: aws.ToString(m.CustomKeyStoreId), Description: aws.ToString(m.Description), MultiRegion: aws.ToBool(m.MultiRegion),
		Created: aws.ToTime(m.CreationDate).UTC(), Deletion: utc(m.DeletionDate), ValidTo: utc(m.ValidTo), Material: aws.ToString(m.CurrentKeyMaterialId),
	}
	k.Algorithm = algorithm(m)
	if n, mac := strings.CutPrefix(k.Spec, "HMAC_"); mac { // not every key service lists it
		k.Algorithm = "HMAC_SHA_" + n
	}
	if r := m.MultiRegionConfiguration; r != nil {
		for _, x := range r.ReplicaKeys {
			k.Replicas = append(k.Replicas, aws.ToString(x.Region))
		}
	}
	if k.Tags, err = tagsOf(ctx, c, k.ID); err != nil {
		return nil, fmt.Errorf("tags of key %s: %w", k.ID, err)
	}
	k.Class, k.ReplacedBy, k.Replaces = k.Tags[tagClass], k.Tags[tagReplaced], k.Tags[tagReplaces]
	p, err := c.GetKeyPolicy(ctx, &awskms.GetKeyPolicyInput{KeyId: &k.ID, PolicyName: aws.String("default")})
	if err != nil {
		return nil, fmt.Errorf("policy of key %s: %w", k.ID, err)
	}
	k.Policy = []byte(aws.ToString(p.Policy))
	if parsed, err := iam.ParsePolicy(iam.KeyPolicy, k.Policy); err == nil {
		k.Policy = parsed.Encode()
	} // else it differs from any that is made here, and is shown as it is
	return k, k.history(ctx, c)
}

// algorithm is the last of those of a key that encrypts or signs: KMS lists the
// stronger ones later.
func algorithm(m *types.KeyMetadata) string {
	if n := len(m.SigningAlgorithms); n > 0 {
		return string(m.SigningAlgorithms[n-1])
	}
	if n := len(m.EncryptionAlgorithms); n > 0 {
		return string(m.EncryptionAlgorithms[n-1])
	}
	return ""
}

func utc(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

// history reads rotations and last use, where there are any.
func (k *Key) history(ctx context.Context, c *awskms.Client) error {
	if k.Spec == "SYMMETRIC_DEFAULT" && k.Store == "" {
		r, err := c.GetKeyRotationStatus(ctx, &awskms.GetKeyRotationStatusInput{KeyId: &k.ID})
		switch {
		case err == nil:
			k.Rotates, k.NextRotation = r.KeyRotationEnabled, utc(r.NextRotationDate)
			k.Period = Days(aws.ToInt32(r.RotationPeriodInDays))
		case !unsupported(err):
			return fmt.Errorf("rotation of key %s: %w", k.ID, err)
		}
		for pages := awskms.NewListKeyRotationsPaginator(c, &awskms.ListKeyRotationsInput{KeyId: &k.ID}); pages.HasMorePages(); {
			page, err := pages.NextPage(ctx)
			if unsupported(err) {
				break
			}
			if err != nil {
				return fmt.Errorf("rotations of key %s: %w", k.ID, err)
			}
			for _, e := range page.Rotations {
				if e.RotationDate != nil {
					k.Rotations = append(k.Rotations, e.RotationDate.UTC())
				}
			}
		}
		slices.SortFunc(k.Rotations, time.Time.Compare)
	}
	u, err := c.GetKeyLastUsage(ctx, &awskms.GetKeyLastUsageInput{KeyId: &k.ID})
	switch {
	case err == nil:
		k.LastUse = &LastUse{Tracked: utc(u.TrackingStartDate)}
		if u.KeyLastUsage != nil {
			k.LastUse.Time, k.LastUse.Operation = utc(u.KeyLastUsage.Timestamp), string(u.KeyLastUsage.Operation)
		}
	case !unsupported(err) && !unreadable(err):
		return fmt.Errorf("last use of key %s: %w", k.ID, err)
	}
	return nil
}

// AliasesOf are the aliases that name a key, sorted.
func AliasesOf(ctx context.Context, c *awskms.Client, id string) ([]string, error) {
	var all []string
	for pages := awskms.NewListAliasesPaginator(c, &awskms.ListAliasesInput{KeyId: &id}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("list aliases: %w", err)
		}
		for _, a := range page.Aliases {
			all = append(all, aws.ToString(a.AliasName))
		}
	}
	slices.Sort(all)
	return all, nil
}

// SuccessorOf finds the key that was made to replace the key with an id; empty if there is
// none.
func SuccessorOf(ctx context.Context, c *awskms.Client, id string) (arn string, err error) {
	for pages := awskms.NewListKeysPaginator(c, &awskms.ListKeysInput{}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return "", fmt.Errorf("list keys: %w", err)
		}
		for _, e := range page.Keys {
			tags, err := tagsOf(ctx, c, aws.ToString(e.KeyId))
			if isCode(err, "AccessDeniedException") || isCode(err, "NotFoundException") {
				continue // of somebody else, or destroyed since it was listed
			}
			if err != nil {
				return "", fmt.Errorf("tags of key %s: %w", aws.ToString(e.KeyId), err)
			}
			if tags[tagReplaces] == id {
				return aws.ToString(e.KeyArn), nil
			}
		}
	}
	return "", nil
}
