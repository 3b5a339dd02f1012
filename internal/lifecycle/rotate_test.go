package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"cardea/internal/keyspec"
	"cardea/internal/lifecycle"
	"cardea/internal/secret"
	"cardea/internal/vault"
)

// rotator is one whose state nobody keeps.
func rotator(c *awskms.Client) *lifecycle.Rotator {
	return &lifecycle.Rotator{
		KMS: c, User: c, Now: time.Now, Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
		Save: func(*lifecycle.Rotation) error { return nil },
	}
}

// importMaterial puts random material into a key of origin EXTERNAL.
func importMaterial(t *testing.T, c *awskms.Client, key string, bytes int) {
	t.Helper()
	p, err := c.GetParametersForImport(t.Context(), &awskms.GetParametersForImportInput{KeyId: &key, WrappingAlgorithm: types.AlgorithmSpecRsaesOaepSha256, WrappingKeySpec: types.WrappingKeySpecRsa2048})
	if err != nil {
		t.Fatal(err)
	}
	public, err := keyspec.ParsePublic("RSA_2048", p.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := keyspec.Wrap(keyspec.WrapOAEPSHA256, public, secret.Random(bytes))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.ImportKeyMaterial(t.Context(), &awskms.ImportKeyMaterialInput{KeyId: &key, EncryptedKeyMaterial: wrapped, ImportToken: p.ImportToken, ExpirationModel: types.ExpirationModelTypeKeyMaterialDoesNotExpire}); err != nil {
		t.Fatal(err)
	}
}

func TestEachKindOfKeyIsRotatedItsWay(t *testing.T) {
	t.Parallel()
	c, _ := keyService(t, time.Now)
	verified := []string{"probe", "create-key", "check-new", "move-aliases", "verify", "mark-old"}
	const public = "the public key has changed: give it to everybody who has the old one"
	for name, kind := range map[string]struct {
		in     awskms.CreateKeyInput
		steps  []string
		public bool
	}{
		"symmetric": {awskms.CreateKeyInput{}, []string{"probe", "rotate", "material", "verify"}, false},
		"mac":       {awskms.CreateKeyInput{KeySpec: types.KeySpecHmac512, KeyUsage: types.KeyUsageTypeGenerateVerifyMac}, verified, false},
		"rsa":       {awskms.CreateKeyInput{KeySpec: types.KeySpecRsa2048, KeyUsage: types.KeyUsageTypeEncryptDecrypt}, verified, true},
		"pss":       {awskms.CreateKeyInput{KeySpec: types.KeySpecRsa2048, KeyUsage: types.KeyUsageTypeSignVerify}, verified, true},
		"ecdsa":     {awskms.CreateKeyInput{KeySpec: types.KeySpecEccNistP384, KeyUsage: types.KeyUsageTypeSignVerify}, verified, true},
		"ecdh":      {awskms.CreateKeyInput{KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeKeyAgreement}, verified, true},
		"ml-dsa":    {awskms.CreateKeyInput{KeySpec: types.KeySpecMlDsa44, KeyUsage: types.KeyUsageTypeSignVerify}, verified, true},
	} {
		old := allowAll(t, c, &kind.in, "alias/"+name)
		x, err := rotator(c).Rotate(t.Context(), "alias/"+name, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var steps []string
		for _, s := range x.Steps {
			steps = append(steps, s.Step)
		}
		if !slices.Equal(steps, kind.steps) || slices.Contains(x.Next, public) != kind.public {
			t.Errorf("%s: %v, next %q", name, steps, x.Next)
		}
		if k, err := lifecycle.Look(t.Context(), c, "alias/"+name); err != nil || (k.ARN == old) != (x.Method == lifecycle.OnDemand) {
			t.Errorf("%s: %+v, %v", name, k, err)
		}
	}
}

func TestImportedKeyIsReplacedWhenTheNewOneHasMaterial(t *testing.T) {
	t.Parallel()
	c, _ := keyService(t, time.Now)
	old := allowAll(t, c, &awskms.CreateKeyInput{KeySpec: types.KeySpecHmac256, KeyUsage: types.KeyUsageTypeGenerateVerifyMac, Origin: types.OriginTypeExternal}, "alias/imported")
	importMaterial(t, c, old, 32)
	r := rotator(c)
	x, err := r.Rotate(t.Context(), "alias/imported", nil)
	if !errors.Is(err, lifecycle.ErrNoMaterial) || x.NewKey == "" || !strings.Contains(err.Error(), "import: there is no new material to rotate to: the new key "+x.NewKey+" waits for its material: make it by 'cardea ceremony generate'") {
		t.Fatalf("%+v, %v", x, err)
	}
	if k, err := lifecycle.Look(t.Context(), c, "alias/imported"); err != nil || k.ARN != old {
		t.Errorf("the alias was moved to a key without material: %+v, %v", k, err)
	}
	importMaterial(t, c, x.NewKey, 32)
	if x, err = r.Rotate(t.Context(), old, x); err != nil || x.Finished.IsZero() {
		t.Errorf("%+v, %v", x, err)
	}
	if k, err := lifecycle.Look(t.Context(), c, "alias/imported"); err != nil || k.ARN != x.NewKey {
		t.Errorf("%+v, %v", k, err)
	}
}

func TestReplacedKeyKeepsItsRotationAndTellsOfGrants(t *testing.T) {
	t.Parallel()
	c, admin := keyService(t, time.Now)
	old := allowAll(t, c, &awskms.CreateKeyInput{}, "alias/auto")
	if _, err := c.EnableKeyRotation(t.Context(), &awskms.EnableKeyRotationInput{KeyId: &old, RotationPeriodInDays: aws.Int32(120)}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateGrant(t.Context(), &awskms.CreateGrantInput{KeyId: &old, GranteePrincipal: &admin, Operations: []types.GrantOperation{types.GrantOperationDecrypt}}); err != nil {
		t.Fatal(err)
	}
	r := rotator(c)
	r.Replace = true
	x, err := r.Rotate(t.Context(), "alias/auto", nil)
	if err != nil || !slices.Contains(x.Next, "1 grants let others use the old key: let them be made for the new one") {
		t.Fatalf("%+v, %v", x, err)
	}
	if k, err := lifecycle.Look(t.Context(), c, x.NewKey); err != nil || !k.Rotates || k.Period != 120 {
		t.Errorf("%+v, %v", k, err)
	}
}

func TestOldKeyStaysEnabledWhileSomebodyUsesIt(t *testing.T) {
	t.Parallel()
	ahead := time.Duration(0)
	now := func() time.Time { return time.Now().Add(ahead) }
	c, _ := keyService(t, now)
	old := allowAll(t, c, &awskms.CreateKeyInput{KeySpec: types.KeySpecHmac256, KeyUsage: types.KeyUsageTypeGenerateVerifyMac}, "alias/mac")
	r := rotator(c)
	r.Now = now
	x, err := r.Rotate(t.Context(), "alias/mac", nil)
	if err != nil {
		t.Fatal(err)
	}
	x.Finished = x.Finished.Add(-time.Hour)
	if _, err := c.GenerateMac(t.Context(), &awskms.GenerateMacInput{KeyId: &old, Message: []byte("by its ARN"), MacAlgorithm: types.MacAlgorithmSpecHmacSha256}); err != nil {
		t.Fatal(err)
	}
	r.DisableOld = true
	if _, err := r.Rotate(t.Context(), old, x); !errors.Is(err, lifecycle.ErrInUse) || !strings.Contains(err.Error(), "disable-old: the key is in use: GenerateMac on ") || !strings.Contains(err.Error(), "after all was moved: find out in CloudTrail who uses it, then give --use-checked") {
		t.Errorf("got %v", err)
	}
	r.UseChecked = true
	if _, err := r.Rotate(t.Context(), old, x); err != nil {
		t.Error(err)
	}
	if k, err := lifecycle.Look(t.Context(), c, old); err != nil || k.State != types.KeyStateDisabled {
		t.Errorf("%+v, %v", k, err)
	}
}

// records are those of a vault with two tenants.
type records struct {
	under      map[string][]vault.KeyInfo // by key
	configured bool
	stays      bool
	moves      []string
}

func (d *records) Under(_ context.Context, key string) ([]vault.KeyInfo, error) {
	return d.under[key], nil
}

func (d *records) Move(_ context.Context, tenant, from, to string) (lifecycle.Moved, error) {
	d.moves = append(d.moves, tenant)
	if !d.configured {
		return lifecycle.Moved{}, fmt.Errorf("%w: name %s", lifecycle.ErrConfigure, to)
	}
	if d.stays {
		return lifecycle.Moved{Tenant: tenant}, nil
	}
	of := func(k vault.KeyInfo) bool { return k.Tenant == tenant }
	for _, k := range d.under[from] {
		if of(k) {
			d.under[to] = append(d.under[to], k)
		}
	}
	d.under[from] = slices.DeleteFunc(slices.Clone(d.under[from]), of)
	return lifecycle.Moved{Tenant: tenant, Job: "j-" + tenant, Records: 3, Verified: 3}, nil
}

func TestRecordsAreMovedBeforeTheOldKeyIsDisabled(t *testing.T) {
	t.Parallel()
	c, _ := keyService(t, time.Now)
	old := allowAll(t, c, &awskms.CreateKeyInput{}, "alias/vault")
	d := &records{under: map[string][]vault.KeyInfo{old: {
		{Tenant: "b", ID: "kb", Version: 1, Purpose: vault.PurposeRecord, State: vault.KeyActive, Records: 3}, {Tenant: "a", ID: "ka", Version: 2, Purpose: vault.PurposeRecord, State: vault.KeyActive, Records: 3},
	}}}
	r := rotator(c)
	r.Data, r.Replace, r.DisableOld = d, true, true
	x, err := r.Rotate(t.Context(), "alias/vault", nil)
	if !errors.Is(err, lifecycle.ErrConfigure) || x.NewKey == "" || !strings.Contains(err.Error(), "move data of tenant a: the vault is not configured for the new key: name "+x.NewKey) || !x.Finished.IsZero() {
		t.Fatalf("%+v, %v", x, err)
	}
	d.configured, d.stays = true, true
	const left = "record key ka version 2 of tenant a (active, 3 records)"
	if x, err = r.Rotate(t.Context(), old, x); !errors.Is(err, lifecycle.ErrInUse) || !strings.Contains(err.Error(), left) {
		t.Fatalf("%+v, %v", x, err)
	}
	r.DisableOld = false
	if x, err = r.Rotate(t.Context(), old, x); err != nil || len(x.Left) != 2 || !strings.Contains(strings.Join(x.Next, ""), "the old key is still needed for what cannot be moved") {
		t.Fatalf("%+v, %v", x, err)
	}
	r.DisableOld, d.stays = true, false
	if x, err = r.Rotate(t.Context(), old, x); err != nil || len(x.Left) != 0 || len(x.Data) != 2 || x.Data[0].Job != "j-a" || len(d.under[x.NewKey]) != 2 {
		t.Fatalf("%+v, %v", x, err)
	}
	if k, err := lifecycle.Look(t.Context(), c, old); err != nil || k.State != types.KeyStateDisabled {
		t.Errorf("%+v, %v", k, err)
	}
	if n := len(d.moves); n == 0 {
		t.Error("nothing was asked to move")
	}

	// On demand the records stay, and the report says what can be done.
	r.Replace, r.DisableOld = false, false
	y, err := r.Rotate(t.Context(), x.NewKey, nil)
	if err != nil || len(y.Next) != 2 || !strings.Contains(y.Next[0], "'cardea keys rotate --tenant a' makes new ones and moves its records") {
		t.Errorf("%+v, %v", y, err)
	}
}
