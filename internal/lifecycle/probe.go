package lifecycle

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// Probe is a random value that was put under a key, to see later whether the key
// still does for it what it did for data.
type Probe struct {
	SHA256    string `json:"sha256,omitempty"`  // of an encrypted value
	Message   []byte `json:"message,omitempty"` // that has a MAC or signature
	Blob      []byte `json:"blob"`              // ciphertext, MAC or signature
	Algorithm string `json:"algorithm"`
}

// probeContext is the encryption context of probes: they are told from data by it.
func probeContext() map[string]string { return map[string]string{"cardea": "rotation probe"} }

// probeOld puts a random value under the key as it is before.
func (r *Rotator) probeOld(ctx context.Context, k *Key, x *Rotation) (detail string, err error) {
	if x.Probe, _, err = r.probe(ctx, x.Key, k); err != nil || x.Probe == nil {
		return "the key agrees on secrets, nothing is kept under it", err
	}
	if x.Material == "" {
		return "a random value is under the key, by " + x.Probe.Algorithm, nil
	}
	return "a random value is under material " + x.Material, nil
}

// probe uses a key, named by ARN or alias, as applications do. It returns what came
// of it and the ARN of the key that did it. Of a key that agrees on secrets the probe
// is nil: that it agrees is checked at once.
func (r *Rotator) probe(ctx context.Context, name string, k *Key) (p *Probe, arn string, err error) {
	value := make([]byte, 32)
	if _, err := rand.Read(value); err != nil {
		return nil, "", err
	}
	p = &Probe{Algorithm: k.Algorithm}
	switch k.Usage {
	case "GENERATE_VERIFY_MAC":
		out, err := r.User.GenerateMac(ctx, &awskms.GenerateMacInput{KeyId: &name, Message: value, MacAlgorithm: types.MacAlgorithmSpec(k.Algorithm)})
		if err != nil {
			return nil, "", notUser(err)
		}
		p.Message, p.Blob = value, out.Mac
		return p, aws.ToString(out.KeyId), nil
	case "SIGN_VERIFY":
		out, err := r.User.Sign(ctx, &awskms.SignInput{KeyId: &name, Message: value, MessageType: types.MessageTypeRaw, SigningAlgorithm: types.SigningAlgorithmSpec(k.Algorithm)})
		if err != nil {
			return nil, "", notUser(err)
		}
		p.Message, p.Blob = value, out.Signature
		return p, aws.ToString(out.KeyId), nil
	case "KEY_AGREEMENT":
		arn, err := r.agrees(ctx, name)
		return nil, arn, err
	}
	in := &awskms.EncryptInput{KeyId: &name, Plaintext: value}
	if k.Spec == "SYMMETRIC_DEFAULT" {
		in.EncryptionContext = probeContext()
	} else {
		in.EncryptionAlgorithm = types.EncryptionAlgorithmSpec(k.Algorithm)
	}
	out, err := r.User.Encrypt(ctx, in)
	if err != nil {
		return nil, "", notUser(err)
	}
	p.SHA256, p.Blob = digest(value), out.CiphertextBlob
	return p, aws.ToString(out.KeyId), nil
}

func notUser(err error) error {
	return fmt.Errorf("%w: the checks need one of the key's users: name his profile by --verify-profile", err)
}

func digest(value []byte) string {
	sum := sha256.Sum256(value)
	return hex.EncodeToString(sum[:])
}

// opens opens a probe by the key that it is under, or verifies it. It returns the id
// of the material that an encrypted one was under, if the key service tells it.
func (r *Rotator) opens(ctx context.Context, arn string, k *Key, p *Probe) (material string, err error) {
	switch {
	case p == nil: // of key agreement
		return "", nil
	case k.Usage == "GENERATE_VERIFY_MAC":
		_, err = r.User.VerifyMac(ctx, &awskms.VerifyMacInput{KeyId: &arn, Message: p.Message, Mac: p.Blob, MacAlgorithm: types.MacAlgorithmSpec(p.Algorithm)})
	case k.Usage == "SIGN_VERIFY":
		_, err = r.User.Verify(ctx, &awskms.VerifyInput{KeyId: &arn, Message: p.Message, MessageType: types.MessageTypeRaw, Signature: p.Blob, SigningAlgorithm: types.SigningAlgorithmSpec(p.Algorithm)})
	default:
		in := &awskms.DecryptInput{KeyId: &arn, CiphertextBlob: p.Blob}
		if k.Spec == "SYMMETRIC_DEFAULT" {
			in.EncryptionContext = probeContext()
		} else {
			in.EncryptionAlgorithm = types.EncryptionAlgorithmSpec(p.Algorithm)
		}
		out, err := r.User.Decrypt(ctx, in)
		if err != nil {
			return "", fmt.Errorf("%w: a value under key %s does not open: %w", ErrValidation, arn, err)
		}
		if digest(out.Plaintext) != p.SHA256 {
			return "", fmt.Errorf("%w: a value under key %s opens as another", ErrValidation, arn)
		}
		return aws.ToString(out.KeyMaterialId), nil
	}
	if err != nil {
		return "", fmt.Errorf("%w: what key %s made is not valid: %w", ErrValidation, arn, err)
	}
	return "", nil
}

// agrees checks that both sides of a key agreement come to the same secret.
func (r *Rotator) agrees(ctx context.Context, name string) (arn string, err error) {
	pub, err := r.User.GetPublicKey(ctx, &awskms.GetPublicKeyInput{KeyId: &name})
	if err != nil {
		return "", notUser(err)
	}
	parsed, err := x509.ParsePKIXPublicKey(pub.PublicKey)
	if err != nil {
		return "", fmt.Errorf("%w: the public key of %s: %w", ErrValidation, name, err)
	}
	theirs, ok := parsed.(interface {
		ECDH() (*ecdh.PublicKey, error)
	})
	if !ok {
		return "", fmt.Errorf("%w: the public key of %s is no elliptic curve's", ErrValidation, name)
	}
	public, err := theirs.ECDH()
	if err != nil {
		return "", fmt.Errorf("public key of %s: %w", name, err)
	}
	mine, err := public.Curve().GenerateKey(rand.Reader)
	if err != nil {
		return "", err
	}
	encoded, err := x509.MarshalPKIXPublicKey(mine.PublicKey())
	if err != nil {
		return "", err
	}
	out, err := r.User.DeriveSharedSecret(ctx, &awskms.DeriveSharedSecretInput{KeyId: &name, KeyAgreementAlgorithm: types.KeyAgreementAlgorithmSpecEcdh, PublicKey: encoded})
	if err != nil {
		return "", notUser(err)
	}
	secret, err := mine.ECDH(public)
	if err != nil || subtle.ConstantTimeCompare(secret, out.SharedSecret) != 1 {
		return "", errors.Join(fmt.Errorf("%w: key %s comes to another secret than the other side", ErrValidation, name), err)
	}
	return aws.ToString(out.KeyId), nil
}
