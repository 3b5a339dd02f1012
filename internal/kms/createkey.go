package kms

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"cardea/internal/iam"
	"cardea/internal/keyspec"
)

// maxDescription is in characters.
const maxDescription = 8192

// keySpecs and keyUsages are what the service model knows, in its order.
var (
	keySpecs = []keyspec.Spec{
		keyspec.RSA2048, keyspec.RSA3072, keyspec.RSA4096, keyspec.ECCNISTP256, keyspec.ECCNISTP384, keyspec.ECCNISTP521,
		keyspec.ECCSECGP256K1, keyspec.SymmetricDefault, keyspec.HMAC224, keyspec.HMAC256, keyspec.HMAC384, keyspec.HMAC512,
		keyspec.SM2, keyspec.MLDSA44, keyspec.MLDSA65, keyspec.MLDSA87, keyspec.ECCEdwards25519,
	}
	keyUsages = []keyspec.Usage{keyspec.SignVerify, keyspec.EncryptDecrypt, keyspec.GenerateVerifyMAC, keyspec.KeyAgreement}
)

func (in *CreateKeyInput) check(v *violations) {
	v.text("customKeyStoreId", in.CustomKeyStoreID, 64)
	v.text("xksKeyId", in.XksKeyID, 128)
	v.chars("description", in.Description, 0, maxDescription)
	enum(v, "keySpec", in.KeySpec, keySpecs...)
	enum(v, "customerMasterKeySpec", in.CustomerMasterKeySpec, keySpecs...)
	enum(v, "keyUsage", in.KeyUsage, keyUsages...)
	enum(v, "origin", in.Origin, OriginKMS, OriginExternal, OriginCloudHSM, OriginXKS)
	v.policy(in.Policy)
	v.tags(in.Tags)
}

// CreateKey makes a key with material of its own, or, with Origin EXTERNAL,
// without any.
func (s *Service) CreateKey(ctx context.Context, who Caller, in *CreateKeyInput) (*CreateKeyOutput, error) {
	return perform(ctx, s, who, OpCreateKey, in, func(c *call, out *CreateKeyOutput) error {
		k, err := c.plan(in)
		c.creationParams(in, k)
		if err != nil {
			return err
		}
		policy, err := parseKeyPolicy(k.Policy)
		if err != nil {
			return err
		}
		if err := c.mayCreate(k, in); err != nil {
			return err
		}
		c.resource("key", k.ARN(), k.Account)
		if err := c.vetPolicy(ctx, k.KeyRef, policy, in.BypassPolicyLockoutSafetyCheck); err != nil {
			return err
		}
		if k.KeyStoreID != "" {
			if err := keyStoreTakesKeys(ctx, s.store, k); err != nil {
				return err
			}
		}
		if err := s.generate(ctx, k); err != nil {
			return err
		}
		out.KeyMetadata = k.metadata(s)
		c.result("keyMetadata.keyId", k.ID)
		c.result("keyMetadata.arn", k.ARN())
		c.result("keyMetadata.keyState", string(k.State))
		err = c.update(ctx, func(ctx context.Context, tx Tx) ([]Change, error) {
			return []Change{{KeyRef: k.KeyRef}}, s.insert(ctx, tx, k)
		})
		s.undo(ctx, k, err)
		return err
	})
}

// plan is the key that the request asks for, still without material. On an error
// the key has what could be told.
func (c *call) plan(in *CreateKeyInput) (*Key, error) {
	k := &Key{
		KeyRef: KeyRef{Account: c.who.account(), Region: c.who.Region, ID: uuid.Must(uuid.NewRandom()).String()}, CreatedAt: c.at,
		Description: in.Description, Spec: in.KeySpec, Usage: in.KeyUsage, Origin: in.Origin, State: StateEnabled,
		Policy: in.Policy, Tags: mergeTags(nil, in.Tags), KeyStoreID: in.CustomKeyStoreID,
	}
	if in.MultiRegion {
		k.ID = "mrk-" + strings.ReplaceAll(k.ID, "-", "")
		k.Regions = &Regions{Type: Primary, Primary: k.Region}
	}
	if k.Origin == "" {
		k.Origin = OriginKMS
	}
	if k.Origin == OriginExternal {
		k.State = StatePendingImport
	}
	if k.Policy == "" {
		k.Policy = defaultPolicy(k.Account)
	}
	if old := in.CustomerMasterKeySpec; k.Spec == "" {
		k.Spec = old
	} else if old != "" && old != k.Spec {
		return k, refuse(CodeValidation, "You cannot specify different values for KeySpec and CustomerMasterKeySpec. CustomerMasterKeySpec is deprecated.")
	}
	if k.Spec == "" {
		k.Spec = keyspec.SymmetricDefault
	}
	if k.Usage == "" && k.Spec == keyspec.SymmetricDefault {
		k.Usage = keyspec.EncryptDecrypt
	}
	for _, err := range []error{vetSpec(k), vetOrigin(k, in.XksKeyID), vetTags(in.Tags)} {
		if err != nil {
			return k, err
		}
	}
	return k, nil
}

// vetSpec refuses a spec that is not made here and a usage that does not fit it.
func vetSpec(k *Key) error {
	switch {
	case k.Spec == keyspec.SM2:
		return refuse(CodeUnsupported, "The key spec SM2 is supported in the China Regions of AWS only.")
	case k.Usage == "":
		return refuse(CodeValidation, "You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.")
	case !k.Spec.Allows(k.Usage):
		return refuse(CodeValidation, "KeyUsage "+string(k.Usage)+" is not compatible with KeySpec "+string(k.Spec))
	}
	return nil
}

// vetOrigin refuses origins that are not supported, and what custom key stores
// cannot do.
func vetOrigin(k *Key, xksKeyID string) error {
	switch {
	case k.Origin == OriginXKS:
		return refuse(CodeUnsupported, "Keys in external key stores are not supported.")
	case xksKeyID != "":
		return refuse(CodeValidation, "XksKeyId is valid only for keys with Origin EXTERNAL_KEY_STORE.")
	case k.KeyStoreID == "" && k.Origin == OriginCloudHSM:
		return refuse(CodeValidation, "Origin AWS_CLOUDHSM requires a CustomKeyStoreId.")
	case k.KeyStoreID == "":
		return nil
	case k.Origin != OriginCloudHSM:
		return refuse(CodeValidation, "CustomKeyStoreId is valid only for keys with Origin AWS_CLOUDHSM.")
	case k.Spec != keyspec.SymmetricDefault:
		return refuse(CodeUnsupported, "Custom key stores hold symmetric encryption keys only, not "+string(k.Spec)+".")
	case k.Regions != nil:
		return refuse(CodeUnsupported, "Keys in custom key stores cannot be multi-Region keys.")
	}
	return nil
}

// mayCreate asks for kms:CreateKey, and for kms:TagResource if there are tags.
func (c *call) mayCreate(k *Key, in *CreateKeyInput) error {
	add := func(q *iam.Context) {
		for name, value := range map[string]string{
			"kms:KeySpec": string(k.Spec), "kms:CustomerMasterKeySpec": string(k.Spec),
			"kms:KeyUsage": string(k.Usage), "kms:CustomerMasterKeyUsage": string(k.Usage), "kms:KeyOrigin": string(k.Origin),
		} {
			q.Add(name, iam.String(value))
		}
		q.Add("kms:MultiRegion", iam.Bool(k.Regions != nil))
		if k.Regions != nil {
			q.Add("kms:MultiRegionKeyType", iam.String(string(k.Regions.Type)))
		}
		addBypass(q, in.BypassPolicyLockoutSafetyCheck)
		addTags(q, k.Tags)
	}
	if err := c.allowAs(OpCreateKey, "*", add); err != nil || len(k.Tags) == 0 {
		return err
	}
	decided := c.entry.Detail // by what CreateKey is allowed
	err := c.allowAs(OpTagResource, k.ARN(), add)
	c.entry.Detail = decided
	return err
}

// generate gives the key its first material, unless it is to be imported. It is
// done before the key is stored: no backend is called in a transaction.
func (s *Service) generate(ctx context.Context, k *Key) error {
	if k.Origin == OriginExternal {
		return nil
	}
	b, err := s.backendOfNew(k)
	if err != nil {
		return err
	}
	m := Material{ID: newMaterialID(), State: MaterialCurrent, CreatedAt: k.CreatedAt}
	err = s.making.do(ctx, k.Account, k.Spec, func() (err error) {
		m.Handle, m.Public, err = b.Generate(ctx, k.ref(&m))
		return err
	})
	if err != nil {
		return backendError(err)
	}
	k.Materials = []Material{m}
	return nil
}

// backendOfNew is backend for a key that does not exist yet: a refusal is one of its
// key store, not of the key.
func (s *Service) backendOfNew(k *Key) (Backend, error) {
	return s.backend(&Key{KeyRef: KeyRef{Account: k.Account, Region: k.Region}, KeyStoreID: k.KeyStoreID})
}

// newMaterialID is random: an id that follows from the material, as a hash of it,
// would tell whether two keys have the same.
func newMaterialID() string { return randomID() }

// randomID is 64 hexadecimal digits.
func randomID() string {
	var id [32]byte
	rand.Read(id[:])
	return hex.EncodeToString(id[:])
}

// insert stores a new key within the account's quota.
func (s *Service) insert(ctx context.Context, tx Tx, k *Key) error {
	n, err := tx.CountKeys(ctx, k.Account, k.Region, "")
	if err != nil {
		return err
	}
	if n >= s.limits.Keys {
		return refuse(CodeLimitExceeded, "The account has "+strconv.Itoa(n)+" keys in the Region, which is the limit.")
	}
	if k.KeyStoreID != "" {
		if err := keyStoreTakesKeys(ctx, tx, k); err != nil {
			return err
		}
	}
	return tx.PutKey(ctx, k)
}

// keyStoreTakesKeys refuses a custom key store that is not there or not connected.
func keyStoreTakesKeys(ctx context.Context, r Reader, k *Key) error {
	ks, err := r.KeyStore(ctx, k.Account, k.Region, k.KeyStoreID)
	switch {
	case errors.Is(err, ErrNoRow):
		return keyStoreNotFound(k.KeyStoreID)
	case err != nil:
		return err
	case ks.State != Connected:
		return refuse(codeKeyStoreState, "Custom key store "+ks.ID+" is "+string(ks.State)+"; it must be CONNECTED.")
	}
	return nil
}

// undo removes from the backend what was made for a key that was certainly not
// stored. If the outcome is unknown it stays: the key may be there.
func (s *Service) undo(ctx context.Context, k *Key, err error) {
	var refused *Error
	if len(k.Materials) == 0 || !errors.Is(err, errStale) && (!errors.As(err, &refused) || refused.Code == CodeInternal) {
		return
	}
	if b, berr := s.backendOfNew(k); berr == nil {
		if derr := b.Destroy(ctx, k.ref(&k.Materials[0])); derr != nil {
			s.log.WarnContext(ctx, "material of a key that was not created stays in its backend", slog.String("key_id", k.ID), slog.Any("error", derr))
		}
	}
}

// creationParams puts the request into the entry, with the defaults filled in.
func (c *call) creationParams(in *CreateKeyInput, k *Key) {
	c.param("keySpec", string(k.Spec))
	c.param("keyUsage", string(k.Usage))
	c.param("origin", string(k.Origin))
	c.param("multiRegion", strconv.FormatBool(in.MultiRegion))
	c.param("bypassPolicyLockoutSafetyCheck", strconv.FormatBool(in.BypassPolicyLockoutSafetyCheck))
	c.param("customKeyStoreId", in.CustomKeyStoreID)
	c.policyParams(in.Policy)
	c.param("description", in.Description)
	c.tagParams(in.Tags)
}
