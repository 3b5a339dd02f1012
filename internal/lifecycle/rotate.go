package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"time"

	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"cardea/internal/vault"
)

// The ways to rotate.
const (
	OnDemand = "on-demand" // KMS makes new material in the same key, or takes what was imported for it
	Replaced = "replaced"  // a new key takes the aliases and the data of the old one
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
// of values under the key only digests are kept.
type Rotation struct {
	Key         string          `json:"key"` // ARN
	Spec        string          `json:"spec"`
	Usage       string          `json:"usage"`
	Origin      string          `json:"origin"`
	Method      string          `json:"method"`
	Started     time.Time       `json:"started"`
	Finished    time.Time       `json:"finished,omitzero"`  // the new key or material serves, all data of the vault is under it
	Material    string          `json:"material,omitempty"` // before; not every key service tells it
	NewMaterial string          `json:"new_material,omitempty"`
	Turns       int             `json:"rotations_before,omitempty"` // how many were in its list
	NewKey      string          `json:"new_key,omitempty"`          // ARN
	Aliases     []string        `json:"aliases,omitempty"`          // that named it
	Probe       *Probe          `json:"probe,omitempty"`
	Data        []Moved         `json:"data,omitempty"`
	Left        []vault.KeyInfo `json:"left,omitempty"` // keys of the vault that are still under the old key
	Deletion    time.Time       `json:"deletion,omitzero"`
	Steps       []DoneStep      `json:"steps"`
	Next        []string        `json:"next,omitempty"` // what people must still do
}

// did says whether a step was done.
func (x *Rotation) did(step string) bool { return Journal{Steps: &x.Steps}.Did(step) }

// Rotator rotates keys. It is for one caller at a time.
type Rotator struct {
	KMS *awskms.Client // of an administrator
	// User is a client that may use the key, for the checks of data; nil leaves them out.
	User *awskms.Client
	// Data is what is under keys and can be moved; nil says that there is nothing.
	Data Data
	Now  func() time.Time
	// Sleep waits between looks at a rotation that is under way.
	Sleep func(context.Context, time.Duration) error
	// Save keeps the state after each step; its error stops everything.
	Save func(*Rotation) error
	// Replace makes a new key also where new material in the same key would do.
	Replace bool
	// XksKey is the external key of the new key, for a key of an external key store.
	XksKey string
	// DisableOld disables a key that was replaced, when nothing is under it any more.
	DisableOld bool
	// UseChecked says that a person has looked who uses a replaced key.
	UseChecked bool
}

// pollEvery and polls bound the wait for a rotation: 10 minutes.
const (
	pollEvery = 5 * time.Second
	polls     = 120
)

// Rotate rotates a key, or goes on with a rotation that was cut off. Each step may
// be done again. Of a replaced key it tells in Next what is left, and does it when it
// is called again.
func (r *Rotator) Rotate(ctx context.Context, id string, old *Rotation) (*Rotation, error) {
	k, err := Look(ctx, r.KMS, id)
	if err != nil {
		return nil, err
	}
	x := old
	if x == nil || !x.Finished.IsZero() && (x.Method != Replaced || x.Key != k.ARN) {
		if x, err = r.begin(ctx, k); err != nil {
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
	if x.Finished.IsZero() {
		x.Finished = r.Now().UTC().Truncate(time.Second)
	}
	return x, r.Save(x)
}

// begin settles how a key is rotated. Nothing is changed yet.
func (r *Rotator) begin(ctx context.Context, k *Key) (*Rotation, error) {
	if k.State != types.KeyStateEnabled {
		return nil, fmt.Errorf("key %s is %s: only an enabled key is rotated", k.ARN, k.State)
	}
	if k.ReplacedBy != "" {
		return nil, fmt.Errorf("key %s was replaced by %s: rotate that one", k.ARN, k.ReplacedBy)
	}
	x := &Rotation{
		Key: k.ARN, Spec: k.Spec, Usage: k.Usage, Origin: k.Origin, Method: Replaced, Started: r.Now().UTC().Truncate(time.Second),
		Material: k.Material, Turns: len(k.Rotations), Steps: []DoneStep{},
	}
	if k.Spec == "SYMMETRIC_DEFAULT" && k.Store == "" && !r.Replace {
		x.Method = OnDemand
	}
	var err error
	switch {
	case x.Method == OnDemand && k.Origin == "EXTERNAL":
		err = r.newMaterial(ctx, k)
	case k.Origin == "EXTERNAL_KEY_STORE" && r.XksKey == "":
		err = fmt.Errorf("%w: key %s is in an external key store: have its manager make a new key, and name that by --xks-key-id", ErrNoMaterial, k.ARN)
	}
	if err != nil {
		return nil, err
	}
	if x.Aliases, err = AliasesOf(ctx, r.KMS, k.ID); err != nil {
		return nil, err
	}
	return x, r.Save(x)
}

// todo is a step of a rotation, left out unless it applies.
type todo struct {
	name    string
	applies bool
	do      func(context.Context, *Key, *Rotation) (detail string, err error)
}

func (r *Rotator) steps(ctx context.Context, k *Key, x *Rotation, all ...todo) error {
	for _, s := range all {
		if !s.applies {
			continue
		}
		if err := r.step(x, s.name, func() (string, error) { return s.do(ctx, k, x) }); err != nil {
			return err
		}
	}
	return nil
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

// onDemand has KMS make new material in the same key, or take what was imported.
func (r *Rotator) onDemand(ctx context.Context, k *Key, x *Rotation) error {
	if err := r.steps(ctx, k, x,
		todo{"probe", r.User != nil, r.probeOld},
		todo{"rotate", true, r.turn},
		todo{"material", true, r.awaitTurn},
		todo{"verify", r.User != nil, r.verifyTurned},
	); err != nil || r.Data == nil {
		return err
	}
	under, err := r.Data.Under(ctx, x.Key)
	if err != nil {
		return err
	}
	x.Next = nil
	for _, t := range holders(under) {
		x.Next = append(x.Next, fmt.Sprintf("tenant %s of the vault has keys under older material, which opens them as before: 'cardea keys rotate --tenant %s' makes new ones and moves its records", t, t))
	}
	return nil
}

// turn asks for the rotation, unless it was cut off between the request and its being
// noted.
func (r *Rotator) turn(ctx context.Context, k *Key, x *Rotation) (string, error) {
	s, err := r.KMS.GetKeyRotationStatus(ctx, &awskms.GetKeyRotationStatusInput{KeyId: &k.ID})
	if err != nil {
		return "", err
	}
	if k.Material != x.Material || len(k.Rotations) > x.Turns || s.OnDemandRotationStartDate != nil {
		return "was asked for before", nil
	}
	_, err = r.KMS.RotateKeyOnDemand(ctx, &awskms.RotateKeyOnDemandInput{KeyId: &k.ID}, once)
	return "asked for", err
}

// awaitTurn waits until the key has other material: by its id where the key service
// tells it, else by the list of rotations.
func (r *Rotator) awaitTurn(ctx context.Context, k *Key, x *Rotation) (string, error) {
	for range polls {
		now, err := Look(ctx, r.KMS, k.ID)
		if err != nil {
			return "", err
		}
		if now.Material != x.Material {
			x.NewMaterial = now.Material
			return x.Material + " → " + x.NewMaterial, nil
		}
		if now.Material == "" && len(now.Rotations) > x.Turns {
			return "a rotation more is in the list; the key service does not tell ids of material", nil
		}
		if err := r.Sleep(ctx, pollEvery); err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("%w: run the same command again", ErrPending)
}

// verifyTurned opens the old value, and checks that a new one is under the new
// material.
func (r *Rotator) verifyTurned(ctx context.Context, k *Key, x *Rotation) (string, error) {
	m, err := r.opens(ctx, x.Key, k, x.Probe)
	if err != nil {
		return "", err
	}
	if x.NewMaterial == "" {
		fresh, _, err := r.probe(ctx, x.Key, k)
		if err == nil {
			_, err = r.opens(ctx, x.Key, k, fresh)
		}
		return "a value from before opens, and a new one; under which material the key service does not tell", err
	}
	if m != x.Material {
		return "", fmt.Errorf("%w: the old value was under material %s, not %s", ErrValidation, m, x.Material)
	}
	fresh, _, err := r.probe(ctx, x.Key, k)
	if err != nil {
		return "", err
	}
	if m, err = r.opens(ctx, x.Key, k, fresh); err != nil {
		return "", err
	}
	if m != x.NewMaterial {
		return "", fmt.Errorf("%w: a new value is under material %s, not the new %s", ErrValidation, m, x.NewMaterial)
	}
	return "a value under the old material opens; a new value is under the new material", nil
}
