package kms

import (
	"context"
	"errors"

	"cardea/internal/ciphertext"
	"cardea/internal/iam"
	"cardea/internal/keyspec"
	"cardea/internal/secret"
)

// useError is backendError for an operation that opens no ciphertext: what does
// not open then is the handle of the key's own material.
func useError(err error) error {
	if errors.Is(err, ErrNotOurs) {
		return broken(CodeInternal, "The key material could not be used.", err)
	}
	return backendError(err)
}

// current is the material that a key uses now. An enabled key always has it.
func (k *live) current() (*Material, error) {
	m := k.Current()
	if m == nil || len(m.Handle) == 0 {
		return nil, refuse(CodeInternal, "key "+k.arn+" has no key material")
	}
	return m, nil
}

// tellsMaterial reports whether responses name the key's material: those of
// symmetric keys that are in no custom key store do.
func (k *live) tellsMaterial() bool {
	return k.Spec == keyspec.SymmetricDefault && k.KeyStoreID == ""
}

// materialID is m's id as far as responses name it.
func (k *live) materialID(m *Material) string {
	if m == nil || !k.tellsMaterial() {
		return ""
	}
	return m.ID
}

// seal encrypts under a symmetric key's current material to a ciphertext as of
// docs/spec/kms-ciphertext.md. The caller keeps the plaintext.
func (c *call) seal(ctx context.Context, k *live, pairs map[string]string, plaintext secret.Bytes) ([]byte, *Material, error) {
	m, err := k.current()
	if err != nil {
		return nil, nil, err
	}
	b, err := c.s.backend(k.Key)
	if err != nil {
		return nil, nil, err
	}
	h := ciphertext.KMSHeader{Account: k.Account, KeyID: k.ID, MaterialID: m.ID}
	var buf [ciphertext.KMSHeaderSize]byte
	header, err := h.Append(buf[:0])
	if err != nil {
		return nil, nil, broken(CodeInternal, "The key cannot be named in a ciphertext.", err)
	}
	sealed, err := b.Seal(ctx, k.ref(m), ciphertext.KMSContext(header, pairs), plaintext)
	if err != nil {
		return nil, nil, useError(err)
	}
	blob := append(make([]byte, 0, len(header)+len(sealed)), header...)
	return append(blob, sealed...), m, nil
}

// encrypt encrypts by an algorithm of the key's. The material is nil for an
// asymmetric key, for which the public key is enough.
func (c *call) encrypt(ctx context.Context, k *live, a keyspec.EncryptionAlgorithm, pairs map[string]string, plaintext secret.Bytes) ([]byte, *Material, error) {
	if err := k.takesEncryption(a, pairs); err != nil {
		return nil, nil, err
	}
	if a == keyspec.EncryptSymmetric {
		return c.seal(ctx, k, pairs, plaintext)
	}
	p, err := k.publicKey()
	if err != nil {
		return nil, nil, err
	}
	blob, err := p.Encrypt(a, plaintext)
	return blob, nil, backendError(err)
}

// takesEncryption checks algorithm and encryption context against the key's spec.
func (k *live) takesEncryption(a keyspec.EncryptionAlgorithm, pairs map[string]string) error {
	if err := takes(a, k.Spec, k.Spec.EncryptionAlgorithms()); err != nil {
		return err
	}
	if k.Spec.Asymmetric() && len(pairs) > 0 {
		return refuse(CodeValidation, "EncryptionContext is not supported when encrypting/decrypting with asymmetric CMKs.")
	}
	return nil
}

// takes refuses an algorithm that is not one of the key spec's.
func takes[A ~string](a A, s keyspec.Spec, of []A) error {
	for _, o := range of {
		if a == o {
			return nil
		}
	}
	return refuse(CodeInvalidKeyUsage, "Algorithm "+string(a)+" is incompatible with key spec "+string(s)+".")
}

// invalidCiphertext is the one answer to a ciphertext that does not open; why is for
// the log.
func invalidCiphertext(why error) error {
	return &Error{Code: CodeInvalidCiphertext, Reason: "the ciphertext does not open: " + why.Error(), cause: why}
}

// source is a ciphertext with the key that opens it.
type source struct {
	key       *live
	algorithm keyspec.EncryptionAlgorithm
	pairs     map[string]string
	raw       []byte
	blob      ciphertext.KMSBlob // of a symmetric key
	bad       error              // why raw is no such blob
	named     bool               // the client named the key, else the ciphertext does
	ignored   bool               // the ciphertext is not looked at
	alias     string
}

// findSource finds the key of a ciphertext, by the client's name for it or, with a
// symmetric algorithm, by what the ciphertext says. It opens nothing and tells
// nothing of the ciphertext.
func (c *call) findSource(ctx context.Context, op *Operation, name string, src *source) (err error) {
	byBlob := src.algorithm == keyspec.EncryptSymmetric && !src.ignored
	if byBlob {
		src.blob, src.bad = ciphertext.ParseKMSBlob(src.raw)
	}
	src.named = name != ""
	// A bare key id may be that of a key in another account, whose ciphertext says so.
	if byBlob && src.bad == nil && (name == "" || name == src.blob.KeyID) {
		c.alias = ""
		src.key, err = c.load(ctx, KeyRef{src.blob.Account, c.who.Region, src.blob.KeyID})
		if !src.named {
			err = unnamed(err)
		}
		return err
	}
	if name == "" {
		return invalidCiphertext(src.bad)
	}
	src.key, err = c.find(ctx, op, name)
	src.alias = c.alias
	return err
}

// permitSource asks whether the caller may open the ciphertext, and then whether it
// is one of the key. Only what the caller may do is told to be wrong.
func (c *call) permitSource(ctx context.Context, src *source, a ask) error {
	c.alias = src.alias
	if err := c.may(ctx, src.key, a); err != nil {
		if !src.named {
			return unnamed(err)
		}
		return err
	}
	if src.algorithm == keyspec.EncryptSymmetric && !src.ignored {
		if src.bad != nil {
			return invalidCiphertext(src.bad)
		}
		if src.blob.KeyID != src.key.ID || src.blob.Account != src.key.Account {
			return &Error{
				Code: CodeIncorrectKey, Message: "The key ID in the request does not identify a CMK that can perform this operation.",
				// At the end and after a slash the log lets an id stand, whatever its digits look like.
				Reason: "the ciphertext is of account " + src.blob.Account + ", key/" + src.blob.KeyID,
			}
		}
	}
	k, err := c.fit(ctx, src.key, c.opOf(a))
	if err != nil {
		return err
	}
	src.key = k
	return src.key.takesEncryption(src.algorithm, src.pairs)
}

// unnamed is a refusal in the words for a key that the client has not named: they
// do not tell a missing key from a forbidden one.
func unnamed(err error) error {
	var e *Error
	if !errors.As(err, &e) || e.Code != CodeNotFound && e.Code != CodeAccessDenied {
		return err
	}
	why := e.Reason
	if why == "" {
		why = e.Message
	}
	return &Error{
		Code: CodeAccessDenied, Reason: why,
		Message: "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access.",
	}
}

// open decrypts. The caller owns the plaintext.
func (c *call) open(ctx context.Context, src *source) (secret.Bytes, *Material, error) {
	k := src.key
	b, err := c.s.backend(k.Key)
	if err != nil {
		return secret.Bytes{}, nil, err
	}
	if src.algorithm != keyspec.EncryptSymmetric {
		m, err := k.current()
		if err != nil {
			return secret.Bytes{}, nil, err
		}
		p, err := b.Decrypt(ctx, k.ref(m), src.algorithm, src.raw)
		return p, m, openError(err)
	}
	m := k.Material(src.blob.MaterialID)
	if m == nil || len(m.Handle) == 0 {
		// Another node may have rotated the key a moment ago.
		if err := c.s.cache.confirm(ctx, k); err != nil {
			return secret.Bytes{}, nil, err
		}
		return secret.Bytes{}, nil, invalidCiphertext(errors.New("the key has no material/" + src.blob.MaterialID)) // with a slash, as above
	}
	aad := ciphertext.KMSContext(src.raw[:ciphertext.KMSHeaderSize], src.pairs)
	p, err := b.Open(ctx, k.ref(m), aad, src.blob.Sealed)
	return p, m, openError(err)
}

// openError is backendError for what opens a ciphertext.
func openError(err error) error {
	if errors.Is(err, ErrNotOurs) || errors.Is(err, keyspec.ErrInvalidCiphertext) {
		return invalidCiphertext(err)
	}
	return backendError(err)
}

// encryptionQuery adds the algorithm to what conditions can ask.
func encryptionQuery(a keyspec.EncryptionAlgorithm) func(*iam.Context) {
	return func(q *iam.Context) { q.Add("kms:EncryptionAlgorithm", iam.String(string(a))) }
}

// noRecipient refuses a request for a Nitro enclave.
func noRecipient(r *RecipientInfo) error {
	if r == nil {
		return nil
	}
	return refuse(CodeUnsupported, "The Recipient parameter is not supported: this key service does not verify attestation documents of AWS Nitro Enclaves or NitroTPM.")
}

// dryRunParam notes a dry run in the entry.
func (c *call) dryRunParam(asked bool) {
	if asked {
		c.param("dryRun", "true")
	}
}
