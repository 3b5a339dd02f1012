package fileenc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"cardea/internal/iam"
	"cardea/internal/kmsclient"
	"cardea/internal/secret"
)

const (
	providerKMS = "aws-kms"

	maxRecipients = 100
)

// Discovery lets a message say which keys open it, if they are keys of these
// accounts. Without it only keys are asked that the caller names.
type Discovery struct {
	Partition string   // aws if empty
	Accounts  []string // at least one
	// Endpoint, Profile and FIPS are as in kmsclient.Key, for every key.
	Endpoint, Profile string
	FIPS              bool
}

func (d Discovery) allows(a iam.ARN) bool {
	partition := d.Partition
	if partition == "" {
		partition = "aws"
	}
	return a.Partition == partition && slices.Contains(d.Accounts, a.Account)
}

// keyARN parses the ARN of a key, not of an alias.
func keyARN(s string) (iam.ARN, bool) {
	a, err := iam.ParseARN(s)
	return a, err == nil && a.Service == "kms" && a.Region != "" && a.Account != "" && strings.HasPrefix(a.Resource, "key/")
}

// wrap makes a data key under the first key and encrypts it under the others. The
// caller destroys it.
func wrap(ctx context.Context, kms KMS, keys []kmsclient.Key, encryption map[string]string) (dataKey secret.Bytes, wrapped []EncryptedKey, err error) {
	if len(keys) == 0 || len(keys) > maxRecipients {
		return dataKey, nil, fmt.Errorf("%w: %d keys, 1 to %d are taken", ErrInvalid, len(keys), maxRecipients)
	}
	made, err := kms.GenerateDataKey(ctx, keys[0], encryption)
	if err != nil {
		return dataKey, nil, fmt.Errorf("make a data key: %w", err)
	}
	defer func() {
		if err != nil {
			made.Plaintext.Destroy()
		}
	}()
	add := func(arn string, blob []byte) error {
		if _, ok := keyARN(arn); !ok {
			return fmt.Errorf("%w: the key service names its key %q, messages need an ARN", ErrInvalid, arn)
		}
		if slices.ContainsFunc(wrapped, func(w EncryptedKey) bool { return w.Info == arn }) {
			return fmt.Errorf("%w: key %s is named twice", ErrInvalid, arn)
		}
		wrapped = append(wrapped, EncryptedKey{providerKMS, arn, blob})
		return nil
	}
	if err := add(made.KeyARN, made.Blob); err != nil {
		return dataKey, nil, err
	}
	for _, k := range keys[1:] {
		blob, arn, err := kms.Encrypt(ctx, k, made.Plaintext, encryption)
		if err != nil {
			return dataKey, nil, fmt.Errorf("encrypt the data key: %w", err)
		}
		if err := add(arn, blob); err != nil {
			return dataKey, nil, err
		}
	}
	return made.Plaintext, wrapped, nil
}

// matching is the key by which to ask for a data key encrypted under arn, if k is
// that key: by its ARN, as its replica in another Region, by its id, or maybe by an
// alias, of which only the key service knows.
func matching(k kmsclient.Key, arn string, a iam.ARN) (kmsclient.Key, bool) {
	id, _ := strings.CutPrefix(a.Resource, "key/")
	multi := strings.HasPrefix(id, "mrk-")
	if !strings.HasPrefix(k.ID, "arn:") {
		if strings.HasPrefix(k.ID, "alias/") {
			return k, a.Region == k.Region || multi
		}
		if k.ID != id || a.Region != k.Region && !multi {
			return k, false
		}
		a.Region = k.Region
		k.ID = a.String()
		return k, true
	}
	if k.ID == arn {
		return k, true
	}
	b, err := iam.ParseARN(k.ID)
	if err != nil || b.Partition != a.Partition || b.Account != a.Account || b.Region != a.Region && !multi {
		return k, false
	}
	return k, b.Resource == a.Resource || strings.HasPrefix(b.Resource, "alias/")
}

type attempt struct {
	key  kmsclient.Key
	arn  string
	blob []byte
}

// attempts are the data keys of a message that the reader may ask for, those of
// named keys first, in the order of the keys.
func (o DecryptOptions) attempts(h *Header) []attempt {
	var named, found []attempt
	taken := map[int]bool{}
	for _, k := range o.Keys {
		for i, e := range h.Keys {
			if a, ok := keyARN(e.Info); ok && e.Provider == providerKMS && !taken[i] {
				if k, ok := matching(k, e.Info, a); ok {
					named = append(named, attempt{k, e.Info, e.Blob})
					taken[i] = !strings.Contains(k.ID, "alias/")
				}
			}
		}
	}
	if d := o.Discovery; d != nil {
		for i, e := range h.Keys {
			if a, ok := keyARN(e.Info); ok && e.Provider == providerKMS && !taken[i] && d.allows(a) {
				found = append(found, attempt{kmsclient.Key{ID: e.Info, Region: a.Region, Endpoint: d.Endpoint, Profile: d.Profile, FIPS: d.FIPS}, e.Info, e.Blob})
			}
		}
	}
	return append(named, found...)
}

// unwrap asks the keys for the data key until one gives it. The caller destroys it.
func (o DecryptOptions) unwrap(ctx context.Context, kms KMS, h *Header, encryption map[string]string) (dataKey secret.Bytes, arn string, err error) {
	if o.dataKey.Present() {
		return secret.Copy(o.dataKey.Expose()), "", nil
	}
	attempts := o.attempts(h)
	if len(attempts) == 0 {
		return dataKey, "", fmt.Errorf("%w: it is encrypted under %s", ErrNoKey, strings.Join(h.KeyNames(), ", "))
	}
	var errs []error
	for _, t := range attempts {
		dataKey, err := kms.Decrypt(ctx, t.key, t.blob, encryption)
		if err == nil {
			return dataKey, t.arn, nil
		}
		if ctx.Err() != nil {
			return secret.Bytes{}, "", err
		}
		errs = append(errs, err)
	}
	return dataKey, "", fmt.Errorf("%w: %w", ErrNoKey, errors.Join(errs...))
}

// KeyNames are the names of the keys that can open the message, as it claims.
func (h *Header) KeyNames() []string {
	names := make([]string, 0, len(h.Keys))
	for _, k := range h.Keys {
		name := k.Info
		if k.Provider != providerKMS {
			name = fmt.Sprintf("%q of provider %q", k.Info, k.Provider)
		}
		names = append(names, name)
	}
	return names
}
