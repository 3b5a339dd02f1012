package kms

import (
	"context"
	"crypto/subtle"

	"cardea/internal/iam"
	"cardea/internal/keyspec"
)

var macAlgorithms = []keyspec.MACAlgorithm{
	keyspec.MACHMACSHA224, keyspec.MACHMACSHA256, keyspec.MACHMACSHA384, keyspec.MACHMACSHA512,
}

// checkMAC checks what GenerateMac and VerifyMac have in common.
func checkMAC(v *violations, keyID string, message []byte, a keyspec.MACAlgorithm, tokens []string) {
	v.keyID("keyId", keyID)
	v.confidential("message", message != nil, len(message), maxPlaintext)
	if v.required("macAlgorithm", a != "") {
		enum(v, "macAlgorithm", a, macAlgorithms...)
	}
	v.grantTokens(tokens)
}

// mac computes the MAC of a message, having asked for the key.
func (c *call) mac(ctx context.Context, keyID string, message []byte, a keyspec.MACAlgorithm, tokens []string, dry bool) (*live, []byte, error) {
	c.param("keyId", keyID)
	c.param("macAlgorithm", string(a))
	c.dryRunParam(dry)
	k, err := c.key(ctx, keyID, ask{tokens: tokens, add: func(q *iam.Context) { q.Add("kms:MacAlgorithm", iam.String(string(a))) }})
	if err != nil {
		return nil, nil, err
	}
	if err := takes(a, k.Spec, k.Spec.MACAlgorithms()); err != nil {
		return nil, nil, err
	}
	m, err := k.current()
	if err != nil {
		return nil, nil, err
	}
	b, err := c.s.backend(k.Key)
	if err != nil {
		return nil, nil, err
	}
	mac, err := b.MAC(ctx, k.ref(m), a, message)
	return k, mac, useError(err)
}

func (in *GenerateMACInput) check(v *violations) {
	checkMAC(v, in.KeyID, in.Message, in.MACAlgorithm, in.GrantTokens)
}

// GenerateMAC computes the HMAC of a message of 1 to 4096 bytes.
func (s *Service) GenerateMAC(ctx context.Context, who Caller, in *GenerateMACInput) (*GenerateMACOutput, error) {
	return perform(ctx, s, who, OpGenerateMAC, in, func(c *call, out *GenerateMACOutput) error {
		k, mac, err := c.mac(ctx, in.KeyID, in.Message, in.MACAlgorithm, in.GrantTokens, in.DryRun)
		if err != nil {
			return err
		}
		if err := dryRun(in.DryRun); err != nil {
			return err
		}
		c.used = append(c.used, k)
		*out = GenerateMACOutput{KeyID: k.arn, MAC: mac, MACAlgorithm: in.MACAlgorithm}
		return nil
	})
}

func (in *VerifyMACInput) check(v *violations) {
	checkMAC(v, in.KeyID, in.Message, in.MACAlgorithm, in.GrantTokens)
	v.bytes("mac", in.MAC, maxCiphertext)
}

// VerifyMAC checks an HMAC. One that is not valid is a KMSInvalidMacException, never
// an output that says so. A truncated MAC is not valid.
func (s *Service) VerifyMAC(ctx context.Context, who Caller, in *VerifyMACInput) (*VerifyMACOutput, error) {
	return perform(ctx, s, who, OpVerifyMAC, in, func(c *call, out *VerifyMACOutput) error {
		k, mac, err := c.mac(ctx, in.KeyID, in.Message, in.MACAlgorithm, in.GrantTokens, in.DryRun)
		if err != nil {
			return err
		}
		if subtle.ConstantTimeCompare(mac, in.MAC) != 1 {
			return &Error{Code: CodeInvalidMAC, Reason: "the MAC is not valid"}
		}
		if err := dryRun(in.DryRun); err != nil {
			return err
		}
		c.used = append(c.used, k)
		*out = VerifyMACOutput{KeyID: k.arn, MACAlgorithm: in.MACAlgorithm, MACValid: true}
		return nil
	})
}
