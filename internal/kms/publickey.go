package kms

import (
	"context"
	"sync"

	"cardea/internal/keyspec"
)

// parsedPublic is the parsed public half of a live key, made when it is first needed.
type parsedPublic struct {
	once sync.Once
	key  *keyspec.Public
	err  error
}

// publicKey is the key's public half, for encryption and for checking signatures,
// neither of which needs the backend.
func (k *live) publicKey() (*keyspec.Public, error) {
	k.public.once.Do(func() {
		m, err := k.current()
		if err != nil {
			k.public.err = err
			return
		}
		if k.public.key, err = keyspec.ParsePublic(k.Spec, m.Public); err != nil {
			k.public.err = broken(CodeInternal, "The public key could not be used.", err)
		}
	})
	return k.public.key, k.public.err
}

func (in *GetPublicKeyInput) check(v *violations) {
	v.keyID("keyId", in.KeyID)
	v.grantTokens(in.GrantTokens)
}

// GetPublicKey tells the public half of an asymmetric key and what it is for.
func (s *Service) GetPublicKey(ctx context.Context, who Caller, in *GetPublicKeyInput) (*GetPublicKeyOutput, error) {
	return perform(ctx, s, who, OpGetPublicKey, in, func(c *call, out *GetPublicKeyOutput) error {
		c.param("keyId", in.KeyID)
		k, err := c.key(ctx, in.KeyID, ask{tokens: in.GrantTokens})
		if err != nil {
			return err
		}
		if !k.Spec.Asymmetric() {
			return refuse(CodeUnsupported, k.arn+" key spec is "+string(k.Spec)+" which is not valid for GetPublicKey.")
		}
		m, err := k.current()
		if err != nil {
			return err
		}
		*out = GetPublicKeyOutput{KeyID: k.arn, KeySpec: k.Spec, CustomerMasterKeySpec: k.Spec, KeyUsage: k.Usage, PublicKey: m.Public}
		switch k.Usage {
		case keyspec.EncryptDecrypt:
			out.EncryptionAlgorithms = k.Spec.EncryptionAlgorithms()
		case keyspec.SignVerify:
			out.SigningAlgorithms = k.Spec.SigningAlgorithms()
		case keyspec.KeyAgreement:
			out.KeyAgreementAlgorithms = k.Spec.AgreementAlgorithms()
		case keyspec.GenerateVerifyMAC:
		}
		return nil
	})
}
