package kms

import (
	"context"

	"cardea/internal/iam"
	"cardea/internal/keyspec"
)

// maxPublicKey is the longest public key that a client may send, in bytes.
const maxPublicKey = 8192

func (in *DeriveSharedSecretInput) check(v *violations) {
	v.keyID("keyId", in.KeyID)
	if v.required("keyAgreementAlgorithm", in.KeyAgreementAlgorithm != "") {
		enum(v, "keyAgreementAlgorithm", in.KeyAgreementAlgorithm, keyspec.AgreeECDH)
	}
	v.bytes("publicKey", in.PublicKey, maxPublicKey)
	v.grantTokens(in.GrantTokens)
}

// DeriveSharedSecret computes the raw ECDH shared secret of a key and a peer's public
// key, which must be on the same curve. The caller owns the secret and destroys it;
// it is not uniform, and goes through a key derivation function before use.
func (s *Service) DeriveSharedSecret(ctx context.Context, who Caller, in *DeriveSharedSecretInput) (*DeriveSharedSecretOutput, error) {
	return perform(ctx, s, who, OpDeriveSharedSecret, in, func(c *call, out *DeriveSharedSecretOutput) error {
		a := in.KeyAgreementAlgorithm
		c.param("keyId", in.KeyID)
		c.param("keyAgreementAlgorithm", string(a))
		c.dryRunParam(in.DryRun)
		if err := noRecipient(in.Recipient); err != nil {
			return err
		}
		k, err := c.key(ctx, in.KeyID, ask{tokens: in.GrantTokens, add: func(q *iam.Context) {
			q.Add("kms:KeyAgreementAlgorithm", iam.String(string(a)))
		}})
		if err != nil {
			return err
		}
		if err := takes(a, k.Spec, k.Spec.AgreementAlgorithms()); err != nil {
			return err
		}
		m, err := k.current()
		if err != nil {
			return err
		}
		b, err := s.backend(k.Key)
		if err != nil {
			return err
		}
		if out.SharedSecret, err = b.Agree(ctx, k.ref(m), in.PublicKey); err != nil {
			return useError(err)
		}
		if err := dryRun(in.DryRun); err != nil {
			return err
		}
		c.used = append(c.used, k)
		out.KeyID, out.KeyAgreementAlgorithm, out.KeyOrigin = k.arn, a, k.Origin
		return nil
	})
}

func (o *DeriveSharedSecretOutput) destroy() { o.SharedSecret.Destroy() }
