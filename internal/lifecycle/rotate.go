package lifecycle

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// The ways to rotate.
const (
	OnDemand = "on-demand" // KMS makes new material in the same key, or takes what was imported for it
	Replaced = "replaced"  // a new key takes the aliases of the old one
)

// Errors of rotations that a caller branches on.
var (
	// ErrNoMaterial says that an imported key has no new material to rotate to.
	ErrNoMaterial = errors.New("there is no new material to rotate to")
	// ErrPending says that the key service has not done it yet: go on later.
	ErrPending = errors.New("the key service has not rotated the key yet")
	// ErrValidation says that a rotated key does not do what it must.
	ErrValidation = errors.New("the rotation is not valid")
)

// Rotation is how far the rotation of a key is, and its report. It has no secrets:
// the probe is a random value under the key, of which only the digest is kept.
type Rotation struct {
	Key         string     `json:"key"` // ARN
	Method      string     `json:"method"`
	Started     time.Time  `json:"started"`
	Finished    time.Time  `json:"finished,omitzero"`
	Material    string     `json:"material,omitempty"` // before
	NewMaterial string     `json:"new_material,omitempty"`
	NewKey      string     `json:"new_key,omitempty"` // ARN
	Aliases     []string   `json:"aliases,omitempty"` // that name it
	Probe       []byte     `json:"probe,omitempty"`
	ProbeSHA256 string     `json:"probe_sha256,omitempty"`
	Steps       []DoneStep `json:"steps"`
	Next        []string   `json:"next,omitempty"` // what people must still do
}

// Rotator rotates keys. It is for one caller at a time.
type Rotator struct {
	KMS *awskms.Client // of an administrator
	// User is a client that may use the key, for the checks of data; nil leaves them out.
	User *awskms.Client
	Now  func() time.Time
	// Sleep waits between looks at a rotation that is under way.
	Sleep func(context.Context, time.Duration) error
	// Save keeps the state after each step; its error stops everything.
	Save func(*Rotation) error
	// DisableOld disables a key that was replaced.
	DisableOld bool
}

// pollEvery and polls bound the wait for a rotation: 10 minutes.
const (
	pollEvery = 5 * time.Second
	polls     = 120
)

// Rotate rotates a key, or goes on with a rotation that was cut off. Each step may
// be done again.
func (r *Rotator) Rotate(ctx context.Context, id string, old *Rotation) (*Rotation, error) {
	k, err := Look(ctx, r.KMS, id)
	if err != nil {
		return nil, err
	}
	x := old
	if x == nil || !x.Finished.IsZero() && !r.toDisable(x, k) {
		if k.State != types.KeyStateEnabled {
			return nil, fmt.Errorf("key %s is %s: only an enabled key is rotated", k.ARN, k.State)
		}
		if k.ReplacedBy != "" {
			return nil, fmt.Errorf("key %s was replaced by %s: rotate that one", k.ARN, k.ReplacedBy)
		}
		x = &Rotation{Key: k.ARN, Started: r.Now().UTC().Truncate(time.Second), Material: k.Material, Steps: []DoneStep{}}
		if x.Method = Replaced; k.Spec == "SYMMETRIC_DEFAULT" && k.Store == "" {
			x.Method = OnDemand
		}
		if x.Method == OnDemand && k.Origin == "EXTERNAL" {
			if err := r.newMaterial(ctx, k); err != nil {
				return nil, err
			}
		}
		if x.Aliases, err = AliasesOf(ctx, r.KMS, k.ID); err != nil {
			return nil, err
		}
		if err := r.Save(x); err != nil {
			return nil, err
		}
	} else if x.Key != k.ARN {
		return nil, fmt.Errorf("the state is of the rotation of %s: name another state file, or go on with that", x.Key)
	}
	if x.Method == OnDemand {
		err = r.onDemand(ctx, k, x)
	} else {
		err = r.replace(ctx, k, x)
	}
	if err != nil {
		return x, err
	}
	x.Finished = r.Now().UTC().Truncate(time.Second)
	return x, r.Save(x)
}

// toDisable says whether all that is left of a rotation is to disable the old key.
func (r *Rotator) toDisable(x *Rotation, k *Key) bool {
	return r.DisableOld && x.Method == Replaced && x.Key == k.ARN && k.State == types.KeyStateEnabled
}

// step does a step unless it was done.
func (r *Rotator) step(x *Rotation, name string, do func() (string, error)) error {
	return Journal{Steps: &x.Steps, Save: func() error { return r.Save(x) }, Now: r.Now}.Do(name, do)
}

// newMaterial looks for imported material that waits to be rotated to.
func (r *Rotator) newMaterial(ctx context.Context, k *Key) error {
	in := &awskms.ListKeyRotationsInput{KeyId: &k.ID, IncludeKeyMaterial: types.IncludeKeyMaterialAllKeyMaterial}
	for pages := awskms.NewListKeyRotationsPaginator(r.KMS, in); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("material of key %s: %w", k.ARN, err)
		}
		for _, e := range page.Rotations {
			if e.KeyMaterialState == types.KeyMaterialStatePendingRotation {
				return nil
			}
		}
	}
	return fmt.Errorf("%w: key %s has imported material: make new material by 'cardea ceremony generate', wrap it by 'cardea ceremony wrap', import it by 'cardea ceremony import --new-material', then run this again", ErrNoMaterial, k.ARN)
}

// probeContext is the encryption context of probes: they are told from data by it.
func probeContext() map[string]string { return map[string]string{"cardea": "rotation probe"} }

// probe puts a random value under the key.
func (r *Rotator) probe(ctx context.Context, key string) (ciphertext []byte, sum string, err error) {
	value := make([]byte, 32)
	if _, err := rand.Read(value); err != nil {
		return nil, "", err
	}
	out, err := r.User.Encrypt(ctx, &awskms.EncryptInput{KeyId: &key, Plaintext: value, EncryptionContext: probeContext()})
	if err != nil {
		return nil, "", fmt.Errorf("%w: the checks need one of the key's users: name his profile by --verify-profile", err)
	}
	h := sha256.Sum256(value)
	return out.CiphertextBlob, hex.EncodeToString(h[:]), nil
}

// opens opens a probe and returns the id of the material that it was under.
func (r *Rotator) opens(ctx context.Context, key string, probe []byte, sum string) (material string, err error) {
	out, err := r.User.Decrypt(ctx, &awskms.DecryptInput{KeyId: &key, CiphertextBlob: probe, EncryptionContext: probeContext()})
	if err != nil {
		return "", fmt.Errorf("%w: a value under key %s does not open: %w", ErrValidation, key, err)
	}
	if h := sha256.Sum256(out.Plaintext); hex.EncodeToString(h[:]) != sum {
		return "", fmt.Errorf("%w: a value under key %s opens as another", ErrValidation, key)
	}
	return aws.ToString(out.KeyMaterialId), nil
}

func (r *Rotator) onDemand(ctx context.Context, k *Key, x *Rotation) error {
	if r.User != nil {
		if err := r.step(x, "probe", func() (d string, err error) {
			x.Probe, x.ProbeSHA256, err = r.probe(ctx, x.Key)
			return "a random value is under material " + x.Material, err
		}); err != nil {
			return err
		}
	}
	if err := r.step(x, "rotate", func() (string, error) {
		s, err := r.KMS.GetKeyRotationStatus(ctx, &awskms.GetKeyRotationStatusInput{KeyId: &x.Key})
		if err != nil {
			return "", err
		}
		if k.Material != x.Material || s.OnDemandRotationStartDate != nil {
			return "was asked for before", nil // cut off between the request and its being noted
		}
		_, err = r.KMS.RotateKeyOnDemand(ctx, &awskms.RotateKeyOnDemandInput{KeyId: &x.Key})
		return "asked for", err
	}); err != nil {
		return err
	}
	if err := r.step(x, "material", func() (string, error) {
		for range polls {
			d, err := r.KMS.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: &x.Key})
			if err != nil {
				return "", err
			}
			if x.NewMaterial = aws.ToString(d.KeyMetadata.CurrentKeyMaterialId); x.NewMaterial != x.Material {
				return x.Material + " → " + x.NewMaterial, nil
			}
			if err := r.Sleep(ctx, pollEvery); err != nil {
				return "", err
			}
		}
		return "", fmt.Errorf("%w: run the same command again", ErrPending)
	}); err != nil {
		return err
	}
	if r.User == nil {
		return nil
	}
	return r.step(x, "verify", func() (string, error) {
		m, err := r.opens(ctx, x.Key, x.Probe, x.ProbeSHA256)
		if err != nil {
			return "", err
		}
		if m != x.Material {
			return "", fmt.Errorf("%w: the old value was under material %s, not %s", ErrValidation, m, x.Material)
		}
		fresh, sum, err := r.probe(ctx, x.Key)
		if err != nil {
			return "", err
		}
		if m, err = r.opens(ctx, x.Key, fresh, sum); err != nil {
			return "", err
		}
		if m != x.NewMaterial {
			return "", fmt.Errorf("%w: a new value is under material %s, not the new %s", ErrValidation, m, x.NewMaterial)
		}
		return "a value under the old material opens; a new value is under the new material", nil
	})
}

// replace makes a key that takes the old one's place.
func (r *Rotator) replace(ctx context.Context, k *Key, x *Rotation) error {
	if k.Origin == "EXTERNAL" || k.Origin == "EXTERNAL_KEY_STORE" {
		return fmt.Errorf("key %s is %s of origin %s: KMS cannot rotate it: make a new key under a new name in the policy file, import its material by 'cardea ceremony import', and move the alias", x.Key, k.Spec, k.Origin)
	}
	if err := r.step(x, "create-key", func() (string, error) {
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
		out, err := r.KMS.CreateKey(ctx, in)
		if err != nil {
			return "", err
		}
		x.NewKey = aws.ToString(out.KeyMetadata.Arn)
		return x.NewKey, nil
	}); err != nil {
		return err
	}
	if err := r.step(x, "move-aliases", func() (string, error) {
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
	}); err != nil {
		return err
	}
	if err := r.step(x, "mark-old", func() (string, error) {
		_, err := r.KMS.TagResource(ctx, &awskms.TagResourceInput{KeyId: &x.Key, Tags: kmsTags(map[string]string{tagReplaced: x.NewKey[len(x.NewKey)-36:]})})
		return "tag " + tagReplaced, err
	}); err != nil {
		return err
	}
	x.Next = []string{"data under the old key: encrypt or sign it anew under the new one; records of a vault by 'cardea keys migrate', after its configuration names the new key"}
	if k.Usage == "SIGN_VERIFY" || k.Usage == "KEY_AGREEMENT" || k.Spec[:3] == "RSA" {
		x.Next = append(x.Next, "the public key has changed: give it to everybody who has the old one")
	}
	if !r.DisableOld {
		x.Next = append(x.Next, "the old key still works: when nothing needs it, run this again with --disable-old")
		return nil
	}
	return r.step(x, "disable-old", func() (string, error) {
		_, err := r.KMS.DisableKey(ctx, &awskms.DisableKeyInput{KeyId: &x.Key})
		return "disabled", err
	})
}
