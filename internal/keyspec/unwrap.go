package keyspec

import "cardea/internal/secret"

// oaep is how a wrapping algorithm uses RSA, and whether an AES key lies between.
func (a WrappingAlgorithm) oaep() (e EncryptionAlgorithm, kwp, ok bool) {
	switch a {
	case WrapOAEPSHA1:
		return EncryptOAEPSHA1, false, true
	case WrapOAEPSHA256:
		return EncryptOAEPSHA256, false, true
	case WrapRSAAESKWSHA1:
		return EncryptOAEPSHA1, true, true
	case WrapRSAAESKW256:
		return EncryptOAEPSHA256, true, true
	case WrapPKCS1, WrapSM2PKE:
	}
	return "", false, false
}

// Unwrap opens imported key material that was wrapped under the public half of an
// RSA key, by RSA-OAEP or by RSA_AES_KEY_WRAP (RSA-OAEP over an AES-256 key, which
// wraps the material by AES-KWP, RFC 5649; the two are written one after the other).
// What does not open is ErrInvalidCiphertext. WrapPKCS1, which AWS KMS has withdrawn,
// and WrapSM2PKE are ErrUnsupported.
func Unwrap(a WrappingAlgorithm, wrapping *Private, wrapped []byte) (secret.Bytes, error) {
	e, kwp, ok := a.oaep()
	k, is := wrapping.key.(*rsaKey)
	if !ok || !is {
		return secret.Bytes{}, unsupported(wrapping.spec, a)
	}
	if !kwp {
		return wrapping.Decrypt(e, wrapped)
	}
	n := k.key.Size()
	if len(wrapped) < n || len(wrapped) > n+maxWrapped {
		return secret.Bytes{}, ErrInvalidCiphertext
	}
	kek, err := wrapping.Decrypt(e, wrapped[:n])
	if err != nil {
		return secret.Bytes{}, err
	}
	defer kek.Destroy()
	if kek.Len() != symmetricSize {
		return secret.Bytes{}, ErrInvalidCiphertext
	}
	p, err := unwrapKWP(kek.Expose(), wrapped[n:])
	if err != nil {
		return secret.Bytes{}, err
	}
	return secret.New(p), nil
}

// Wrap is what the owner of key material does to import it: the inverse of Unwrap.
// The caller keeps the material.
func Wrap(a WrappingAlgorithm, wrapping *Public, material secret.Bytes) ([]byte, error) {
	e, kwp, ok := a.oaep()
	if _, is := wrapping.key.(*rsaPublic); !ok || !is {
		return nil, unsupported(wrapping.spec, a)
	}
	if !kwp {
		return wrapping.Encrypt(e, material)
	}
	kek := secret.Random(symmetricSize)
	defer kek.Destroy()
	head, err := wrapping.Encrypt(e, kek)
	if err != nil {
		return nil, err
	}
	tail, err := wrapKWP(kek.Expose(), material.Expose())
	if err != nil {
		return nil, err
	}
	return append(head, tail...), nil
}
