package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"cardea/internal/vault"
)

// Data is what is under keys of a key service and can be moved from one to another:
// the records of a vault.
type Data interface {
	// Under gives the keys that are under a key of the key service, named by ARN, and
	// are in use or have records, counted: what would be lost with it.
	Under(ctx context.Context, key string) ([]vault.KeyInfo, error)
	// Move moves what a tenant has under a key under another, opens all of it there,
	// and waits for the end. It may be called again after it was cut off. Its error
	// wraps ErrConfigure if the vault does not use the other key yet.
	Move(ctx context.Context, tenant, from, to string) (Moved, error)
}

// Moved is what was moved of a tenant.
type Moved struct {
	Tenant   string `json:"tenant"`
	Job      string `json:"job,omitempty"` // the vault's last one
	Records  int64  `json:"moved"`
	Verified int64  `json:"verified"`
}

// ErrConfigure says that the vault's configuration must name the new key first.
var ErrConfigure = errors.New("the vault is not configured for the new key")

// holders are the tenants of keys, sorted.
func holders(under []vault.KeyInfo) []string {
	all := map[string]bool{}
	for _, k := range under {
		all[k.Tenant] = true
	}
	return slices.Sorted(maps.Keys(all))
}

// underText names keys of the vault to a person.
func underText(under []vault.KeyInfo) string {
	var all []string
	for _, k := range under {
		all = append(all, fmt.Sprintf("%s key %s version %d of tenant %s (%s, %d records)", k.Purpose, k.ID, k.Version, k.Tenant, k.State, k.Records))
	}
	return strings.Join(all, "; ")
}

// replace makes a key that takes the old one's place, and moves what is under it.
func (r *Rotator) replace(ctx context.Context, k *Key, x *Rotation) error {
	finished := x.Finished
	if err := r.steps(ctx, k, x,
		todo{"probe", r.User != nil && !x.did("create-key"), r.probeOld},
		todo{"create-key", true, r.createSuccessor},
		todo{"import", k.Origin == "EXTERNAL", r.awaitImport},
		todo{"set-rotation", k.Rotates, r.sameRotation},
		todo{"check-new", r.User != nil, r.checkNew},
		todo{"move-aliases", true, r.moveAliases},
		todo{"verify", r.User != nil, r.verifyReplaced},
		todo{"mark-old", true, r.markOld},
	); err != nil {
		return err
	}
	if err := r.moveData(ctx, x); err != nil {
		return err
	}
	if err := r.leaveOld(ctx, k, x, finished); err != nil {
		return err
	}
	return r.next(ctx, k, x)
}

func (r *Rotator) createSuccessor(ctx context.Context, k *Key, x *Rotation) (string, error) {
	found, err := SuccessorOf(ctx, r.KMS, k.ID)
	if err != nil || found != "" {
		x.NewKey = found
		return "was made before: " + found, err
	}
	tags := maps.Clone(k.Tags)
	if tags == nil {
		tags = map[string]string{}
	}
	tags[tagReplaces] = k.ID
	in := &awskms.CreateKeyInput{
		KeySpec: types.KeySpec(k.Spec), KeyUsage: types.KeyUsageType(k.Usage), Origin: types.OriginType(k.Origin), Description: &k.Description,
		Policy: aws.String(string(k.Policy)), Tags: kmsTags(tags), MultiRegion: &k.MultiRegion,
	}
	if k.Store != "" {
		in.CustomKeyStoreId = &k.Store
	}
	if r.XksKey != "" {
		in.XksKeyId = &r.XksKey
	}
	out, err := r.KMS.CreateKey(ctx, in, once)
	if err != nil {
		return "", err
	}
	x.NewKey = aws.ToString(out.KeyMetadata.Arn)
	return x.NewKey, nil
}

// awaitImport does not go on until somebody has imported the new key's material:
// applications find a key by its alias that works.
func (r *Rotator) awaitImport(ctx context.Context, _ *Key, x *Rotation) (string, error) {
	now, err := Look(ctx, r.KMS, x.NewKey)
	if err != nil {
		return "", err
	}
	if now.State != types.KeyStateEnabled {
		return "", fmt.Errorf("%w: the new key %s waits for its material: make it by 'cardea ceremony generate', wrap it by 'cardea ceremony wrap', import it by 'cardea ceremony import', then run this again", ErrNoMaterial, x.NewKey)
	}
	if now.ValidTo.IsZero() {
		return "its material was imported", nil
	}
	return "its material was imported, and expires on " + now.ValidTo.Format(time.RFC3339), nil
}

// sameRotation has the new key rotate as often as the old one.
func (r *Rotator) sameRotation(ctx context.Context, k *Key, x *Rotation) (string, error) {
	if _, err := r.KMS.EnableKeyRotation(ctx, &awskms.EnableKeyRotationInput{KeyId: &x.NewKey, RotationPeriodInDays: aws.Int32(int32(k.Period))}); err != nil {
		return "", err
	}
	now, err := Look(ctx, r.KMS, x.NewKey)
	if err == nil && (!now.Rotates || now.Period != k.Period) {
		err = fmt.Errorf("%w: the new key rotates %s", ErrUnproved, rotationText(now.Rotates, now.Period))
	}
	return rotationText(true, k.Period), err
}

// checkNew uses the new key before anything depends on it.
func (r *Rotator) checkNew(ctx context.Context, k *Key, x *Rotation) (string, error) {
	fresh, arn, err := r.probe(ctx, x.NewKey, k)
	if err != nil {
		return "", err
	}
	if !answers(arn, x.NewKey) {
		return "", fmt.Errorf("%w: key %s answers as %s", ErrValidation, x.NewKey, arn)
	}
	_, err = r.opens(ctx, x.NewKey, k, fresh)
	return "the new key does what the old one did", err
}

// answers says whether the key that an answer names is the one with an ARN. Not every
// key service names it by ARN: then that the new key opens what was made must do.
func answers(named, arn string) bool { return named == arn || !strings.HasPrefix(named, "arn:") }

func (r *Rotator) moveAliases(ctx context.Context, _ *Key, x *Rotation) (string, error) {
	for _, a := range x.Aliases {
		if _, err := r.KMS.UpdateAlias(ctx, &awskms.UpdateAliasInput{AliasName: &a, TargetKeyId: &x.NewKey}); err != nil {
			return "", fmt.Errorf("%s: %w", a, err)
		}
		d, err := r.KMS.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: &a})
		if err != nil {
			return "", err
		}
		if got := aws.ToString(d.KeyMetadata.Arn); got != x.NewKey || d.KeyMetadata.KeyState != types.KeyStateEnabled {
			return "", fmt.Errorf("%w: %s names %s, which is %s", ErrValidation, a, got, d.KeyMetadata.KeyState)
		}
	}
	return fmt.Sprintf("%d aliases name the new key", len(x.Aliases)), nil
}

// verifyReplaced checks that what applications make by the alias is under the new
// key, and that what they made before still opens.
func (r *Rotator) verifyReplaced(ctx context.Context, k *Key, x *Rotation) (string, error) {
	names := x.Aliases
	if len(names) == 0 {
		names = []string{x.NewKey}
	}
	for _, name := range names {
		fresh, arn, err := r.probe(ctx, name, k)
		if err != nil {
			return "", err
		}
		if !answers(arn, x.NewKey) {
			return "", fmt.Errorf("%w: what is made by %s is under %s, not the new key", ErrValidation, name, arn)
		}
		if _, err := r.opens(ctx, x.NewKey, k, fresh); err != nil {
			return "", err
		}
	}
	if x.Probe == nil {
		return "new values are under the new key", nil
	}
	_, err := r.opens(ctx, x.Key, k, x.Probe)
	return "a value under the old key opens; new values are under the new key", err
}

func (r *Rotator) markOld(ctx context.Context, _ *Key, x *Rotation) (string, error) {
	_, err := r.KMS.TagResource(ctx, &awskms.TagResourceInput{KeyId: &x.Key, Tags: kmsTags(map[string]string{tagReplaced: idOf(x.NewKey)})})
	return "tag " + tagReplaced, err
}

// idOf is the key id at the end of an ARN.
func idOf(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }

// moveData moves what the vault has under the old key, as long as there is something,
// and not only in the first run: what could not be moved then may be later.
func (r *Rotator) moveData(ctx context.Context, x *Rotation) error {
	if r.Data == nil {
		return nil
	}
	under, err := r.Data.Under(ctx, x.Key)
	if err != nil {
		return fmt.Errorf("what is under the old key: %w", err)
	}
	for _, t := range holders(under) {
		m, err := r.Data.Move(ctx, t, x.Key, x.NewKey)
		if err != nil {
			return fmt.Errorf("move data of tenant %s: %w", t, err)
		}
		if m.Job == "" {
			continue // nothing of it can be moved
		}
		x.Data = append(x.Data, m)
		x.Steps = append(x.Steps, DoneStep{"move-data " + t, r.Now().UTC().Truncate(time.Second), fmt.Sprintf("job %s: %d records moved, %d opened", m.Job, m.Records, m.Verified)})
		if err := r.Save(x); err != nil {
			return err
		}
	}
	if len(under) > 0 {
		if under, err = r.Data.Under(ctx, x.Key); err != nil {
			return fmt.Errorf("what is under the old key: %w", err)
		}
	}
	x.Left = under
	return nil
}

// leaveOld disables the old key, if that is wanted and nothing is under it. finished
// is when an earlier run had done all but this, zero if none had.
func (r *Rotator) leaveOld(ctx context.Context, k *Key, x *Rotation, finished time.Time) error {
	if !k.Live() {
		if x.Deletion.Equal(k.Deletion) {
			return nil
		}
		x.Deletion = k.Deletion
		x.Steps = append(x.Steps, DoneStep{"schedule-deletion", r.Now().UTC().Truncate(time.Second), "to be destroyed on " + k.Deletion.Format(time.RFC3339)})
		return nil
	}
	x.Deletion = time.Time{} // it may have been cancelled
	if !r.DisableOld {
		return nil
	}
	if len(x.Left) > 0 {
		return fmt.Errorf("disable-old: %w: %s", ErrInUse, underText(x.Left))
	}
	if u := k.LastUse; u != nil && !finished.IsZero() && u.Time.After(finished.Add(time.Minute)) && !r.UseChecked {
		return fmt.Errorf("disable-old: %w: %s on %s, after all was moved: find out in CloudTrail who uses it, then give --use-checked", ErrInUse, u.Operation, u.Time.Format(time.RFC3339))
	}
	return r.step(x, "disable-old", func() (string, error) {
		if _, err := r.KMS.DisableKey(ctx, &awskms.DisableKeyInput{KeyId: &k.ID}); err != nil {
			return "", err
		}
		now, err := Look(ctx, r.KMS, k.ID)
		if err == nil && now.State != types.KeyStateDisabled {
			err = fmt.Errorf("%w: it is %s", ErrUnproved, now.State)
		}
		return "nothing of the vault is under it; disabled", err
	})
}

// next tells what people must still do.
func (r *Rotator) next(ctx context.Context, k *Key, x *Rotation) error {
	x.Next = nil
	add := func(format string, args ...any) { x.Next = append(x.Next, fmt.Sprintf(format, args...)) }
	if !x.Deletion.IsZero() {
		return nil
	}
	if k.Usage == "SIGN_VERIFY" || k.Usage == "KEY_AGREEMENT" || strings.HasPrefix(k.Spec, "RSA_") {
		add("the public key has changed: give it to everybody who has the old one")
	}
	if len(k.Replicas) > 0 {
		add("the old key has replicas in %s: 'cardea lifecycle apply' makes those of the new one", strings.Join(k.Replicas, ", "))
	}
	if n, err := countGrants(ctx, r.KMS, k.ID); err != nil && !unsupported(err) {
		return err
	} else if n > 0 {
		add("%d grants let others use the old key: let them be made for the new one", n)
	}
	switch {
	case len(x.Left) > 0:
		add("the old key is still needed for what cannot be moved: %s", underText(x.Left))
	case !x.did("disable-old") && k.State == types.KeyStateEnabled:
		add("what applications outside the vault have under the old key: encrypt or sign it anew, such as files by 'cardea rewrap'; when nothing needs it, also no backup, run this again with --disable-old")
	default:
		add("the old key is disabled: after a time in which nothing missed it, have it destroyed by 'cardea keys retire --key-id %s', whose --dry-run tells what still needs it and how to ask for the approval", x.Key)
	}
	return nil
}

// countGrants is how many grants a key has.
func countGrants(ctx context.Context, c *awskms.Client, id string) (n int, err error) {
	for pages := awskms.NewListGrantsPaginator(c, &awskms.ListGrantsInput{KeyId: &id}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return 0, fmt.Errorf("grants of key %s: %w", id, err)
		}
		n += len(page.Grants)
	}
	return n, nil
}
