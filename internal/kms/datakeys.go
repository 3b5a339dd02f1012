package kms

import (
	"context"
	"strconv"

	"cardea/internal/iam"
	"cardea/internal/keyspec"
	"cardea/internal/secret"
)

// dataKey is what the two operations that make a symmetric data key have in common.
type dataKey struct {
	keyID     string
	spec      DataKeySpec
	bytes     *int32
	pairs     map[string]string
	tokens    []string
	dry       bool
	recipient *RecipientInfo
}

func (d *dataKey) check(v *violations) {
	v.keyID("keyId", d.keyID)
	v.context("encryptionContext", d.pairs)
	enum(v, "keySpec", d.spec, DataKeyAES256, DataKeyAES128)
	v.number("numberOfBytes", d.bytes, 1, maxRandom)
	v.grantTokens(d.tokens)
}

// size is the number of bytes that are asked for.
func (d *dataKey) size() (int, error) {
	switch {
	case (d.spec == "") == (d.bytes == nil):
		return 0, refuse(CodeValidation, "Please specify either number of bytes or key spec.")
	case d.bytes != nil:
		return int(*d.bytes), nil
	case d.spec == DataKeyAES128:
		return 16, nil
	default:
		return 32, nil
	}
}

// makeDataKey returns a data key and its ciphertext. The caller owns the plaintext.
func (c *call) makeDataKey(ctx context.Context, d *dataKey) (k *live, plaintext secret.Bytes, blob []byte, material string, err error) {
	fail := func(err error) (*live, secret.Bytes, []byte, string, error) {
		plaintext.Destroy()
		return nil, secret.Bytes{}, nil, "", err
	}
	c.param("keyId", d.keyID)
	c.param("keySpec", string(d.spec))
	if d.bytes != nil {
		c.param("numberOfBytes", strconv.Itoa(int(*d.bytes)))
	}
	c.dryRunParam(d.dry)
	c.encryptionContext(d.pairs)
	n, err := d.size()
	if err != nil {
		return fail(err)
	}
	if err := noRecipient(d.recipient); err != nil {
		return fail(err)
	}
	if k, err = c.dataKeyKey(ctx, d.keyID, ask{context: d.pairs, tokens: d.tokens, add: encryptionQuery(keyspec.EncryptSymmetric)}); err != nil {
		return fail(err)
	}
	b, err := c.s.backend(k.Key)
	if err != nil {
		return fail(err)
	}
	if plaintext, err = b.Random(ctx, n); err != nil {
		return fail(useError(err))
	}
	blob, m, err := c.seal(ctx, k, d.pairs, plaintext)
	if err != nil {
		return fail(err)
	}
	if err := dryRun(d.dry); err != nil {
		return fail(err)
	}
	c.result("keyMaterialId", k.materialID(m))
	c.used = append(c.used, k)
	return k, plaintext, blob, k.materialID(m), nil
}

// dataKeyKey is key for operations that only symmetric keys can do.
func (c *call) dataKeyKey(ctx context.Context, name string, a ask) (*live, error) {
	k, err := c.key(ctx, name, a)
	if err == nil && k.Spec != keyspec.SymmetricDefault {
		err = refuse(CodeInvalidKeyUsage, "You cannot generate a data key with an asymmetric CMK")
	}
	return k, err
}

func (in *GenerateDataKeyInput) dataKey() *dataKey {
	return &dataKey{in.KeyID, in.KeySpec, in.NumberOfBytes, in.EncryptionContext, in.GrantTokens, in.DryRun, in.Recipient}
}

func (in *GenerateDataKeyInput) check(v *violations) { in.dataKey().check(v) }

// GenerateDataKey makes a random key for the client to encrypt with, in clear and
// encrypted. The caller owns the plaintext and destroys it.
func (s *Service) GenerateDataKey(ctx context.Context, who Caller, in *GenerateDataKeyInput) (*GenerateDataKeyOutput, error) {
	return perform(ctx, s, who, OpGenerateDataKey, in, func(c *call, out *GenerateDataKeyOutput) error {
		k, plaintext, blob, material, err := c.makeDataKey(ctx, in.dataKey())
		if err != nil {
			return err
		}
		*out = GenerateDataKeyOutput{CiphertextBlob: blob, KeyID: k.arn, KeyMaterialID: material, Plaintext: plaintext}
		return nil
	})
}

func (o *GenerateDataKeyOutput) destroy() { o.Plaintext.Destroy() }

func (in *GenerateDataKeyWithoutPlaintextInput) dataKey() *dataKey {
	return &dataKey{in.KeyID, in.KeySpec, in.NumberOfBytes, in.EncryptionContext, in.GrantTokens, in.DryRun, nil}
}

func (in *GenerateDataKeyWithoutPlaintextInput) check(v *violations) { in.dataKey().check(v) }

// GenerateDataKeyWithoutPlaintext makes a data key for later: only its ciphertext
// leaves the service.
func (s *Service) GenerateDataKeyWithoutPlaintext(ctx context.Context, who Caller, in *GenerateDataKeyWithoutPlaintextInput) (*GenerateDataKeyWithoutPlaintextOutput, error) {
	return perform(ctx, s, who, OpGenerateDataKeyWithoutPlaintext, in, func(c *call, out *GenerateDataKeyWithoutPlaintextOutput) error {
		k, plaintext, blob, material, err := c.makeDataKey(ctx, in.dataKey())
		if err != nil {
			return err
		}
		plaintext.Destroy()
		*out = GenerateDataKeyWithoutPlaintextOutput{CiphertextBlob: blob, KeyID: k.arn, KeyMaterialID: material}
		return nil
	})
}

// dataKeyPair is what the two operations that make a data key pair have in common.
type dataKeyPair struct {
	keyID     string
	spec      keyspec.Spec
	pairs     map[string]string
	tokens    []string
	dry       bool
	recipient *RecipientInfo
}

func (d *dataKeyPair) check(v *violations) {
	v.keyID("keyId", d.keyID)
	v.context("encryptionContext", d.pairs)
	if v.required("keyPairSpec", d.spec != "") {
		enum(v, "keyPairSpec", d.spec, keyspec.RSA2048, keyspec.RSA3072, keyspec.RSA4096, keyspec.ECCNISTP256, keyspec.ECCNISTP384,
			keyspec.ECCNISTP521, keyspec.ECCSECGP256K1, keyspec.ECCEdwards25519, keyspec.SM2)
	}
	v.grantTokens(d.tokens)
}

// keyPair is a data key pair: the private half in PKCS #8, in clear and encrypted,
// the public half as SubjectPublicKeyInfo.
type keyPair struct {
	key      *live
	material string
	private  secret.Bytes
	blob     []byte
	public   []byte
}

// makeDataKeyPair makes a pair. The caller owns the private half.
func (c *call) makeDataKeyPair(ctx context.Context, d *dataKeyPair) (*keyPair, error) {
	c.param("keyId", d.keyID)
	c.param("keyPairSpec", string(d.spec))
	c.dryRunParam(d.dry)
	c.encryptionContext(d.pairs)
	if err := noRecipient(d.recipient); err != nil {
		return nil, err
	}
	if !d.spec.Known() {
		return nil, refuse(CodeUnsupported, "Key pairs of spec "+string(d.spec)+" are not supported: they exist in the China Regions only.")
	}
	k, err := c.dataKeyKey(ctx, d.keyID, ask{context: d.pairs, tokens: d.tokens, add: func(q *iam.Context) {
		encryptionQuery(keyspec.EncryptSymmetric)(q)
		q.Add("kms:DataKeyPairSpec", iam.String(string(d.spec)))
	}})
	if err != nil {
		return nil, err
	}
	if d.dry { // a key pair is too costly to be thrown away
		b, err := c.s.backend(k.Key)
		if err == nil {
			err = useError(b.Ready(ctx))
		}
		if err != nil {
			return nil, err
		}
		return nil, dryRun(true)
	}
	private, public, err := c.s.making.generate(ctx, c.who.account(), d.spec)
	if err != nil {
		return nil, useError(err)
	}
	blob, m, err := c.seal(ctx, k, d.pairs, private)
	if err != nil {
		private.Destroy()
		return nil, err
	}
	c.result("keyMaterialId", k.materialID(m))
	c.used = append(c.used, k)
	return &keyPair{k, k.materialID(m), private, blob, public}, nil
}

func (in *GenerateDataKeyPairInput) pair() *dataKeyPair {
	return &dataKeyPair{in.KeyID, in.KeyPairSpec, in.EncryptionContext, in.GrantTokens, in.DryRun, in.Recipient}
}

func (in *GenerateDataKeyPairInput) check(v *violations) { in.pair().check(v) }

// GenerateDataKeyPair makes a key pair for the client to use, the private half in
// clear and encrypted. The caller owns the private half and destroys it. RSA pairs
// take up to seconds.
func (s *Service) GenerateDataKeyPair(ctx context.Context, who Caller, in *GenerateDataKeyPairInput) (*GenerateDataKeyPairOutput, error) {
	return perform(ctx, s, who, OpGenerateDataKeyPair, in, func(c *call, out *GenerateDataKeyPairOutput) error {
		p, err := c.makeDataKeyPair(ctx, in.pair())
		if err != nil {
			return err
		}
		*out = GenerateDataKeyPairOutput{
			KeyID: p.key.arn, KeyMaterialID: p.material, KeyPairSpec: in.KeyPairSpec,
			PrivateKeyCiphertextBlob: p.blob, PrivateKeyPlaintext: p.private, PublicKey: p.public,
		}
		return nil
	})
}

func (o *GenerateDataKeyPairOutput) destroy() { o.PrivateKeyPlaintext.Destroy() }

func (in *GenerateDataKeyPairWithoutPlaintextInput) pair() *dataKeyPair {
	return &dataKeyPair{in.KeyID, in.KeyPairSpec, in.EncryptionContext, in.GrantTokens, in.DryRun, nil}
}

func (in *GenerateDataKeyPairWithoutPlaintextInput) check(v *violations) { in.pair().check(v) }

// GenerateDataKeyPairWithoutPlaintext makes a key pair of which the private half
// leaves the service only encrypted.
func (s *Service) GenerateDataKeyPairWithoutPlaintext(ctx context.Context, who Caller, in *GenerateDataKeyPairWithoutPlaintextInput) (*GenerateDataKeyPairWithoutPlaintextOutput, error) {
	return perform(ctx, s, who, OpGenerateDataKeyPairWithoutPlaintext, in, func(c *call, out *GenerateDataKeyPairWithoutPlaintextOutput) error {
		p, err := c.makeDataKeyPair(ctx, in.pair())
		if err != nil {
			return err
		}
		p.private.Destroy()
		*out = GenerateDataKeyPairWithoutPlaintextOutput{
			KeyID: p.key.arn, KeyMaterialID: p.material, KeyPairSpec: in.KeyPairSpec, PrivateKeyCiphertextBlob: p.blob, PublicKey: p.public,
		}
		return nil
	})
}
