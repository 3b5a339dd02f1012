package kms

import (
	"cmp"
	"context"
	"slices"

	"cardea/internal/keyspec"
)

// encryptionAlgorithms are the values that the API knows.
var encryptionAlgorithms = []keyspec.EncryptionAlgorithm{
	keyspec.EncryptSymmetric, keyspec.EncryptOAEPSHA1, keyspec.EncryptOAEPSHA256, "SM2PKE",
}

func (in *EncryptInput) check(v *violations) {
	v.keyID("keyId", in.KeyID)
	v.confidential("plaintext", in.Plaintext.Present(), in.Plaintext.Len(), maxPlaintext)
	v.context("encryptionContext", in.EncryptionContext)
	enum(v, "encryptionAlgorithm", in.EncryptionAlgorithm, encryptionAlgorithms...)
	v.grantTokens(in.GrantTokens)
}

// Encrypt encrypts 1 to 4096 bytes under a symmetric key, or by RSAES-OAEP as many
// as fit the key. The caller keeps the plaintext and destroys it.
func (s *Service) Encrypt(ctx context.Context, who Caller, in *EncryptInput) (*EncryptOutput, error) {
	return perform(ctx, s, who, OpEncrypt, in, func(c *call, out *EncryptOutput) error {
		a := cmp.Or(in.EncryptionAlgorithm, keyspec.EncryptSymmetric)
		c.param("keyId", in.KeyID)
		c.param("encryptionAlgorithm", string(a))
		c.dryRunParam(in.DryRun)
		c.encryptionContext(in.EncryptionContext)
		k, err := c.key(ctx, in.KeyID, ask{context: in.EncryptionContext, tokens: in.GrantTokens, add: encryptionQuery(a)})
		if err != nil {
			return err
		}
		blob, m, err := c.encrypt(ctx, k, a, in.EncryptionContext, in.Plaintext)
		if err != nil {
			return err
		}
		if err := dryRun(in.DryRun); err != nil {
			return err
		}
		c.result("keyMaterialId", k.materialID(m))
		c.used = append(c.used, k)
		out.CiphertextBlob, out.EncryptionAlgorithm, out.KeyID = blob, a, k.arn
		return nil
	})
}

func (in *DecryptInput) check(v *violations) {
	ignored := v.dryRunModifiers(in.DryRun, in.DryRunModifiers)
	if !ignored || in.CiphertextBlob != nil {
		v.bytes("ciphertextBlob", in.CiphertextBlob, maxCiphertext)
	}
	v.sourceKey("keyId", in.KeyID, ignored || in.EncryptionAlgorithm != "" && in.EncryptionAlgorithm != keyspec.EncryptSymmetric)
	v.context("encryptionContext", in.EncryptionContext)
	enum(v, "encryptionAlgorithm", in.EncryptionAlgorithm, encryptionAlgorithms...)
	v.grantTokens(in.GrantTokens)
}

// dryRunModifiers checks the modifiers and reports whether the ciphertext is to be
// ignored.
func (v *violations) dryRunModifiers(dry bool, ms []DryRunModifier) bool {
	for _, m := range ms {
		enum(v, "dryRunModifiers", m, IgnoreCiphertext)
	}
	if len(ms) > 0 && !dry {
		v.add("dryRunModifiers", "", "not be set unless DryRun is true")
	}
	return dry && slices.Contains(ms, IgnoreCiphertext)
}

// sourceKey checks the name of a key that a ciphertext may name instead.
func (v *violations) sourceKey(member, s string, required bool) {
	if required {
		v.keyID(member, s)
	} else {
		v.text(member, s, maxKeyID)
	}
}

// Decrypt decrypts what Encrypt, ReEncrypt or a GenerateDataKey operation gave out,
// or what was encrypted under the public half of an RSA key. Without KeyID the
// ciphertext names the key. The caller owns the plaintext and destroys it.
func (s *Service) Decrypt(ctx context.Context, who Caller, in *DecryptInput) (*DecryptOutput, error) {
	return perform(ctx, s, who, OpDecrypt, in, func(c *call, out *DecryptOutput) error {
		a := cmp.Or(in.EncryptionAlgorithm, keyspec.EncryptSymmetric)
		src := source{
			algorithm: a, pairs: in.EncryptionContext, raw: in.CiphertextBlob,
			ignored: in.DryRun && slices.Contains(in.DryRunModifiers, IgnoreCiphertext),
		}
		c.param("keyId", in.KeyID)
		c.param("encryptionAlgorithm", string(a))
		c.dryRunParam(in.DryRun)
		c.encryptionContext(in.EncryptionContext)
		if err := noRecipient(in.Recipient); err != nil {
			return err
		}
		if err := c.findSource(ctx, OpDecrypt, in.KeyID, &src); err != nil {
			return err
		}
		if err := c.permitSource(ctx, &src, ask{context: in.EncryptionContext, tokens: in.GrantTokens, add: encryptionQuery(a)}); err != nil {
			return err
		}
		if src.ignored {
			return dryRun(true)
		}
		p, m, err := c.open(ctx, &src)
		if err != nil {
			return err
		}
		out.Plaintext = p
		if err := dryRun(in.DryRun); err != nil {
			return err
		}
		k := src.key
		out.KeyMaterialID = k.materialID(m)
		c.result("keyMaterialId", out.KeyMaterialID)
		c.used = append(c.used, k)
		out.EncryptionAlgorithm, out.KeyID = a, k.arn
		return nil
	})
}

func (o *DecryptOutput) destroy() { o.Plaintext.Destroy() }
