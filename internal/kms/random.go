package kms

import (
	"context"
	"strconv"
)

func (in *GenerateRandomInput) check(v *violations) {
	if v.required("numberOfBytes", in.NumberOfBytes != nil) {
		v.number("numberOfBytes", in.NumberOfBytes, 1, maxRandom)
	}
	v.text("customKeyStoreId", in.CustomKeyStoreID, 64)
}

// GenerateRandom returns 1 to 1024 random bytes, of the custom key store's device if
// one is named. The caller owns and destroys them.
func (s *Service) GenerateRandom(ctx context.Context, who Caller, in *GenerateRandomInput) (*GenerateRandomOutput, error) {
	return perform(ctx, s, who, OpGenerateRandom, in, func(c *call, out *GenerateRandomOutput) error {
		c.param("numberOfBytes", strconv.Itoa(int(*in.NumberOfBytes)))
		c.param("customKeyStoreId", in.CustomKeyStoreID)
		if err := noRecipient(in.Recipient); err != nil {
			return err
		}
		if err := c.allow("*"); err != nil {
			return err
		}
		b, err := s.backend(&Key{KeyRef: KeyRef{Account: c.who.account(), Region: c.who.Region}, KeyStoreID: in.CustomKeyStoreID})
		if err != nil {
			return err
		}
		out.Plaintext, err = b.Random(ctx, int(*in.NumberOfBytes))
		return useError(err)
	})
}

func (o *GenerateRandomOutput) destroy() { o.Plaintext.Destroy() }
