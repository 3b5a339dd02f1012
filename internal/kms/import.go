package kms

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"time"

	"cardea/internal/ciphertext"
	"cardea/internal/iam"
	"cardea/internal/keyspec"
	"cardea/internal/secret"
)

const (
	maxImportToken      = 6144
	maxWrappedMaterial  = 6144
	maxMaterialText     = 256 // characters of a description
	materialIDLength    = 64
	materialSecretSize  = 32
	maxImportedLifetime = 365 // days
)

func (in *GetParametersForImportInput) check(v *violations) {
	v.keyID("keyId", in.KeyID)
	if v.required("wrappingAlgorithm", in.WrappingAlgorithm != "") {
		enum(v, "wrappingAlgorithm", in.WrappingAlgorithm, keyspec.WrapPKCS1, keyspec.WrapOAEPSHA1, keyspec.WrapOAEPSHA256,
			keyspec.WrapRSAAESKWSHA1, keyspec.WrapRSAAESKW256, keyspec.WrapSM2PKE)
	}
	if v.required("wrappingKeySpec", in.WrappingKeySpec != "") {
		enum(v, "wrappingKeySpec", in.WrappingKeySpec, keyspec.RSA2048, keyspec.RSA3072, keyspec.RSA4096, keyspec.SM2)
	}
}

func (in *ImportKeyMaterialInput) check(v *violations) {
	v.keyID("keyId", in.KeyID)
	v.bytes("importToken", in.ImportToken, maxImportToken)
	v.bytes("encryptedKeyMaterial", in.EncryptedKeyMaterial, maxWrappedMaterial)
	enum(v, "expirationModel", in.ExpirationModel, MaterialExpires, MaterialDoesNotExpire)
	enum(v, "importType", in.ImportType, NewMaterial, ExistingMaterial)
	v.materialID(in.KeyMaterialID)
	v.chars("keyMaterialDescription", in.KeyMaterialDescription, 0, maxMaterialText)
	v.pattern("keyMaterialDescription", in.KeyMaterialDescription, `^[a-zA-Z0-9:/_\s.-]+$`, func(r rune) bool {
		switch r {
		case ':', '/', '_', '.', '-', ' ', '\t', '\n', '\v', '\f', '\r':
			return true
		}
		return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
	})
}

// materialID checks the id of material that may be absent.
func (v *violations) materialID(id string) {
	if id != "" {
		v.length("keyMaterialId", id, len(id), materialIDLength, materialIDLength)
		v.pattern("keyMaterialId", id, `^[a-f0-9]+$`, func(r rune) bool { return r >= '0' && r <= '9' || r >= 'a' && r <= 'f' })
	}
}

// GetParametersForImport makes a key pair to wrap material for a key with: the
// public half for the client, and the private half inside the import token, sealed
// and bound to the key. They are good for 24 hours, and for any number of imports.
func (s *Service) GetParametersForImport(ctx context.Context, who Caller, in *GetParametersForImportInput) (*GetParametersForImportOutput, error) {
	return perform(ctx, s, who, OpGetParametersForImport, in, func(c *call, out *GetParametersForImportOutput) error {
		c.param("keyId", in.KeyID)
		c.param("wrappingAlgorithm", string(in.WrappingAlgorithm))
		c.param("wrappingKeySpec", string(in.WrappingKeySpec))
		k, err := c.key(ctx, in.KeyID, ask{add: func(q *iam.Context) {
			q.Add("kms:WrappingAlgorithm", iam.String(string(in.WrappingAlgorithm)))
			q.Add("kms:WrappingKeySpec", iam.String(string(in.WrappingKeySpec)))
		}})
		if err != nil {
			return err
		}
		if k.Origin != OriginExternal {
			return k.wrongOrigin()
		}
		if err := k.checkWrapping(in.WrappingAlgorithm, in.WrappingKeySpec); err != nil {
			return err
		}
		if err := s.soft.Ready(ctx); err != nil { // before the work of making a key
			return backendError(err)
		}
		private, public, err := s.making.generate(ctx, c.who.account(), in.WrappingKeySpec)
		if err != nil {
			return backendError(err)
		}
		defer private.Destroy()
		t := importToken{in.WrappingAlgorithm, in.WrappingKeySpec, c.at.Add(tokenValidity).UTC().Truncate(time.Second), private}
		if out.ImportToken, err = t.seal(ctx, s.secrets, k.arn); err != nil {
			return err
		}
		out.KeyID, out.PublicKey, out.ParametersValidTo = k.arn, public, t.validTo
		c.result("keyId", k.arn)
		c.result("parametersValidTo", t.validTo.Format(time.RFC3339))
		return nil
	})
}

// checkWrapping is AWS's table of what can be wrapped how (developer guide,
// "Select a wrapping algorithm"), and ML-DSA as ECC.
func (k *Key) checkWrapping(a keyspec.WrappingAlgorithm, wrapping keyspec.Spec) error {
	if !slices.Contains(wrappingAlgorithms, a) {
		return refuse(CodeUnsupported, "The wrapping algorithm "+string(a)+" is not supported.")
	}
	if !slices.Contains(wrappingSpecs, wrapping) {
		return refuse(CodeUnsupported, "The wrapping key spec "+string(wrapping)+" is not supported.")
	}
	hybrid := a == keyspec.WrapRSAAESKWSHA1 || a == keyspec.WrapRSAAESKW256
	fits := true
	switch k.Spec.Family() {
	case keyspec.FamilySymmetric, keyspec.FamilyHMAC:
		fits = !hybrid
	case keyspec.FamilyRSA:
		fits = hybrid
	case keyspec.FamilyECC, keyspec.FamilyEdwards, keyspec.FamilyMLDSA, keyspec.FamilyNone:
		fits = hybrid || k.Spec != keyspec.ECCNISTP521 || wrapping != keyspec.RSA2048
	}
	if !fits {
		return refuse(CodeUnsupported, "Key material of key spec "+string(k.Spec)+" cannot be wrapped by "+string(a)+" under "+string(wrapping)+".")
	}
	return nil
}

// ImportKeyMaterial gives an EXTERNAL key material: its first, the one to rotate to
// next, or again one that it had.
func (s *Service) ImportKeyMaterial(ctx context.Context, who Caller, in *ImportKeyMaterialInput) (*ImportKeyMaterialOutput, error) {
	return perform(ctx, s, who, OpImportKeyMaterial, in, func(c *call, out *ImportKeyMaterialOutput) error {
		model, validTo, err := c.expiration(in)
		if err != nil {
			return err
		}
		k, err := c.key(ctx, in.KeyID, ask{add: func(q *iam.Context) {
			q.Add("kms:ExpirationModel", iam.String(string(model)))
			if !validTo.IsZero() {
				q.Add("kms:ValidTo", iam.Date(validTo))
			}
		}})
		if err != nil {
			return err
		}
		if err := k.checkImport(in); err != nil {
			return err
		}
		material, err := s.unwrap(ctx, k.arn, in.ImportToken, in.EncryptedKeyMaterial, c.at)
		if err != nil {
			return err
		}
		defer material.Destroy()
		if err := vetMaterial(k.Spec, material); err != nil {
			return err
		}
		with, sealed, err := s.materialSecret(ctx, k.Key)
		if err != nil {
			return err
		}
		defer with.Destroy()
		m, fresh, err := k.place(in, importedMaterialID(with, k.ID, material))
		if err != nil {
			return err
		}
		if m.Handle, m.Public, err = s.soft.Import(ctx, k.ref(&m), material); err != nil {
			return backendError(err)
		}
		if err := c.approveImport(k, in, model, material, m.Public); err != nil {
			return err
		}
		m.Import, m.Expiration, m.ValidTo = Imported, model, validTo
		if fresh {
			m.CreatedAt = c.at
		}
		out.KeyID, out.KeyMaterialID = k.arn, m.ID
		c.result("keyId", k.arn)
		c.result("keyMaterialId", m.ID)
		return c.storeImport(ctx, k, m, fresh, sealed)
	})
}

// approveImport is approve for an import.
func (c *call) approveImport(k *live, in *ImportKeyMaterialInput, model ExpirationModel, material secret.Bytes, public []byte) error {
	if !c.unapproved {
		return nil
	}
	params := map[string]string{}
	if len(public) > 0 {
		params["public-sha256"] = hashText(string(public))
	} else {
		kcv, err := c.s.dual.CheckValue(k.Spec, material)
		if err != nil {
			return broken(CodeInternal, "The check value of the key material could not be computed.", err)
		}
		params["kcv"] = kcv
	}
	if model == MaterialDoesNotExpire {
		params["expires"] = "never"
	}
	if in.ImportType == NewMaterial {
		params["new-material"] = "yes"
	}
	return c.approve(k, params)
}

// expiration is how long the material is to be kept, checked.
func (c *call) expiration(in *ImportKeyMaterialInput) (ExpirationModel, time.Time, error) {
	model, validTo := in.ExpirationModel, in.ValidTo
	if model == "" {
		model = MaterialExpires
	}
	c.param("keyId", in.KeyID)
	c.param("expirationModel", string(model))
	if !validTo.IsZero() {
		validTo = validTo.UTC().Truncate(time.Millisecond)
		c.param("validTo", validTo.Format(time.RFC3339Nano))
	}
	c.param("importType", string(in.ImportType))
	c.param("keyMaterialId", in.KeyMaterialID)
	c.param("keyMaterialDescription", in.KeyMaterialDescription)
	text := ""
	switch {
	case model == MaterialDoesNotExpire && validTo.IsZero():
	case model == MaterialDoesNotExpire:
		text = "A validTo date must not be set if the ExpirationModel is KEY_MATERIAL_DOES_NOT_EXPIRE"
	case validTo.IsZero():
		text = "A validTo date must be set if the ExpirationModel is KEY_MATERIAL_EXPIRES"
	case !validTo.After(c.at):
		text = "The validTo date must be in the future."
	case validTo.After(c.at.AddDate(0, 0, maxImportedLifetime)):
		text = "The validTo date must be at most 365 days from now."
	}
	if text != "" {
		return "", time.Time{}, refuse(CodeValidation, text)
	}
	return model, validTo, nil
}

// checkImport refuses what the key cannot take.
func (k *Key) checkImport(in *ImportKeyMaterialInput) error {
	switch {
	case k.Origin != OriginExternal:
		return k.wrongOrigin()
	case k.Spec != keyspec.SymmetricDefault && (in.ImportType != "" || in.KeyMaterialID != "" || in.KeyMaterialDescription != ""):
		return refuse(CodeValidation, "ImportType, KeyMaterialId and KeyMaterialDescription are valid only for symmetric encryption KMS keys.")
	case in.ImportType == NewMaterial && in.KeyMaterialID != "":
		return refuse(CodeValidation, "A KeyMaterialId is not valid with ImportType NEW_KEY_MATERIAL.")
	}
	return nil
}

// vetMaterial refuses what is no key of the spec.
func vetMaterial(s keyspec.Spec, material secret.Bytes) error {
	p, err := keyspec.ParsePrivate(s, material)
	if err != nil {
		return &Error{Code: CodeIncorrectMaterial, Message: "The key material is not valid for key spec " + string(s) + ".", Reason: err.Error(), cause: err}
	}
	p.Destroy()
	return nil
}

// importedMaterialID is equal for equal material of a key, in all its Regions, and
// tells nothing of it to those who do not have the key's secret: not even whether a
// guess is right.
func importedMaterialID(with secret.Bytes, keyID string, material secret.Bytes) string {
	h := hmac.New(sha256.New, with.Expose())
	b := ciphertext.Context("cardea kms imported material v1", []byte(keyID), material.Expose())
	h.Write(b)
	secret.Wipe(b)
	return hex.EncodeToString(h.Sum(nil))
}

// place decides what material with the id is to the key: a copy of what the key
// knows of it, or fresh material in the state in which it begins.
func (k *Key) place(in *ImportKeyMaterialInput, id string) (m Material, fresh bool, err error) {
	wrong := func(text string) (Material, bool, error) {
		return Material{}, false, refuse(CodeIncorrectMaterial, text)
	}
	if in.KeyMaterialID != "" && in.KeyMaterialID != id {
		return wrong("The key material is not that of the key material ID in the request.")
	}
	kind := in.ImportType
	if kind == "" {
		kind = ExistingMaterial
		if len(k.Materials) == 0 {
			kind = NewMaterial
		}
	}
	if kind == ExistingMaterial {
		old := k.Material(id)
		if old == nil {
			return wrong("The key material is not one that was previously imported into the KMS key.")
		}
		m = *old
		if in.KeyMaterialDescription != "" {
			m.Description = in.KeyMaterialDescription
		}
		return m, false, nil
	}
	m = Material{ID: id, State: MaterialPendingRotation, Description: in.KeyMaterialDescription}
	switch waits := k.waiting(); {
	case k.Replicates():
		return m, false, k.notPrimary()
	case k.Material(id) != nil:
		return wrong("The key material is already associated with the KMS key.")
	case len(k.Materials) == 0:
		m.State = MaterialCurrent
	case waits != nil:
		return m, false, refuse(CodeInvalidState, k.ARN()+" already has key material pending rotation: "+waits.ID+".")
	case k.Regions != nil && len(k.Regions.Replicas) > 0:
		m.State = MaterialPendingRegions
	}
	return m, true, nil
}

// waiting is the material to which the key is to be rotated next, nil if there is none.
func (k *Key) waiting() *Material {
	for i := range k.Materials {
		if s := k.Materials[i].State; s == MaterialPendingRotation || s == MaterialPendingRegions {
			return &k.Materials[i]
		}
	}
	return nil
}

// storeImport writes imported material. Replicas learn which material there is, and
// the primary key whether all its replicas have what is to be rotated to.
func (c *call) storeImport(ctx context.Context, k *live, m Material, fresh bool, sealed []byte) error {
	take := func(k *Key) {
		if old := k.Material(m.ID); old != nil {
			*old = m
		} else {
			k.Materials = append(k.Materials, m)
		}
		if k.MaterialSecret = sealed; k.State == StatePendingImport && !k.lacksMaterial() {
			k.State = StateEnabled
		}
	}
	if fresh {
		return c.updateShared(ctx, k, func(keys []*Key) error {
			take(keys[0])
			return nil
		})
	}
	return c.update(ctx, func(ctx context.Context, tx Tx) ([]Change, error) {
		keys, err := related(ctx, tx, k)
		if err != nil {
			return []Change{{KeyRef: k.KeyRef}}, err
		}
		take(keys[0])
		written := keys[:1]
		if p := slices.IndexFunc(keys, func(k *Key) bool { return k.Regions != nil && k.Regions.Type == Primary }); p >= 0 && everywhere(keys, m.ID) {
			if w := keys[p].Material(m.ID); w.State == MaterialPendingRegions {
				w.State = MaterialPendingRotation
				written = slices.Compact([]*Key{keys[0], keys[p]})
			}
		}
		return changesOf(written), putAll(ctx, tx, written)
	})
}

// everywhere reports whether all keys have the material with the id.
func everywhere(keys []*Key, id string) bool {
	for _, k := range keys {
		if m := k.Material(id); m == nil || m.Import != Imported {
			return false
		}
	}
	return true
}
