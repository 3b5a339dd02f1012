package lifecycle

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
)

// Unneeded finds out whether anything needs a key before it is destroyed.
type Unneeded struct {
	KMS *awskms.Client
	Now func() time.Time
	// Unused is for how long it must not have been used.
	Unused time.Duration
	// Checked says that a person has looked where the key service does not tell.
	Checked bool
	// Policy is nil if there is no policy file.
	Policy *Policy
	// Data is nil if no vault is known.
	Data Data
	// Touched is what logs tell of its use; Covered says that they are those of the
	// key's key service.
	Touched Touched
	Covered bool
	// Files gives the files that a key opens; nil if no folder is to be looked into.
	Files func(key string) ([]string, error)
}

// Prove returns how it is known that nothing needs the key: what is looked at, and what
// was found there. Its error wraps ErrInUse if something speaks against destroying it:
// an alias, a replica, the policy file, records of a vault, files, recent use.
func (u *Unneeded) Prove(ctx context.Context, k *Key) (evidence []string, err error) {
	for _, look := range []func(context.Context, *Key) (string, error){u.underVault, u.overFiles, u.named, u.inPolicy, u.inLogs, u.lastUse} {
		text, err := look(ctx, k)
		if err != nil {
			return nil, err
		}
		if text != "" {
			evidence = append(evidence, text)
		}
	}
	return evidence, nil
}

// named refuses while applications find the key, or there are copies of it.
func (u *Unneeded) named(ctx context.Context, k *Key) (string, error) {
	aliases, err := AliasesOf(ctx, u.KMS, k.ID)
	switch {
	case err != nil:
		return "", err
	case len(aliases) > 0:
		return "", fmt.Errorf("%w: %s names it: move the alias to another key, or delete it", ErrInUse, strings.Join(aliases, ", "))
	case len(k.Replicas) > 0:
		return "", fmt.Errorf("%w: it has replicas in %s: destroy those first", ErrInUse, strings.Join(k.Replicas, ", "))
	}
	return "no alias names it, it has no replica", nil
}

// inPolicy refuses the key that serves a class of the policy file.
func (u *Unneeded) inPolicy(ctx context.Context, k *Key) (string, error) {
	if u.Policy == nil {
		return "", nil
	}
	if u.Policy.Keys[k.Class] == nil {
		return "it is of no class in the policy file", nil
	}
	inv, err := Take(ctx, u.KMS)
	if err != nil {
		return "", err
	}
	serves, err := inv.Of(k.Class)
	switch {
	case err != nil:
		return "", err
	case serves == nil && k.ReplacedBy == "", serves != nil && serves.ID == k.ID:
		return "", fmt.Errorf("%w: it is the key of %s in the policy file: replace it by 'cardea keys rotate --replace', or take it out of the file", ErrInUse, k.Class)
	}
	return "another key serves its class " + k.Class, nil
}

func (u *Unneeded) underVault(ctx context.Context, k *Key) (string, error) {
	if u.Data == nil {
		return "", nil
	}
	under, err := u.Data.Under(ctx, k.ARN)
	if err != nil {
		return "", fmt.Errorf("keys of the vault under it: %w", err)
	}
	if len(under) > 0 {
		return "", fmt.Errorf("%w: %s: move them by 'cardea keys migrate'", ErrInUse, underText(under))
	}
	return "no key of the vault is under it", nil
}

func (u *Unneeded) overFiles(_ context.Context, k *Key) (string, error) {
	if u.Files == nil {
		return "", nil
	}
	files, err := u.Files(k.ARN)
	if err != nil {
		return "", err
	}
	if len(files) > 0 {
		return "", fmt.Errorf("%w: it opens %d files, such as %s: put them under another key by 'cardea rewrap'", ErrInUse, len(files), files[0])
	}
	return "no file in the folders that were looked into is under it", nil
}

// cryptographic are the operations that use a key.
func cryptographic() []string {
	return []string{
		"Encrypt", "Decrypt", "ReEncrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "GenerateDataKeyPair",
		"GenerateDataKeyPairWithoutPlaintext", "GenerateMac", "VerifyMac", "Sign", "Verify", "DeriveSharedSecret",
	}
}

// inLogs refuses what logs show to have been used lately.
func (u *Unneeded) inLogs(context.Context, *Key) (string, error) {
	for _, o := range u.Touched.Operations {
		name := o.Name[strings.LastIndexByte(o.Name, ':')+1:]
		if o.Calls > o.Failed && slices.Contains(cryptographic(), name) && u.Now().Sub(o.Last) < u.Unused {
			return "", fmt.Errorf("%w: the logs have %s on %s, less than %d days ago: find out who uses it", ErrInUse, name, o.Last.UTC().Format(time.RFC3339), days(u.Unused))
		}
	}
	if !u.Covered {
		return "", nil
	}
	return fmt.Sprintf("no use within %d days in %s", days(u.Unused), strings.Join(u.Touched.Sources, ", ")), nil
}

// lastUse goes by what the key service says.
func (u *Unneeded) lastUse(_ context.Context, k *Key) (string, error) {
	covered := u.Covered && u.Now().Sub(u.Touched.Since) >= u.Unused && u.Touched.Problems == 0
	basis, err := k.Unused(u.Now(), u.Unused, u.Checked || covered)
	if err == nil && covered && !u.Checked && (k.LastUse == nil || k.LastUse.Tracked.IsZero() && k.LastUse.Time.IsZero()) {
		basis = "by the logs: the key service does not tell"
	}
	return basis, err
}
