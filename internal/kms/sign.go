package kms

import (
	"cmp"
	"context"
	"errors"

	"cardea/internal/iam"
	"cardea/internal/keyspec"
)

var (
	signingAlgorithms = []keyspec.SigningAlgorithm{
		keyspec.SignPSSSHA256, keyspec.SignPSSSHA384, keyspec.SignPSSSHA512,
		keyspec.SignPKCS1SHA256, keyspec.SignPKCS1SHA384, keyspec.SignPKCS1SHA512,
		keyspec.SignECDSASHA256, keyspec.SignECDSASHA384, keyspec.SignECDSASHA512,
		keyspec.SignEd25519, keyspec.SignEd25519ph, "SM2DSA", keyspec.SignMLDSA,
	}
	messageTypes = []keyspec.MessageType{keyspec.MessageRaw, keyspec.MessageDigest, keyspec.MessageExternalMu}
)

// signing is what Sign and Verify have in common.
type signing struct {
	keyID     string
	message   []byte
	algorithm keyspec.SigningAlgorithm
	kind      keyspec.MessageType
	tokens    []string
	dry       bool
}

func (in *signing) check(v *violations) {
	v.keyID("keyId", in.keyID)
	v.confidential("message", in.message != nil, len(in.message), maxPlaintext)
	if v.required("signingAlgorithm", in.algorithm != "") {
		enum(v, "signingAlgorithm", in.algorithm, signingAlgorithms...)
	}
	enum(v, "messageType", in.kind, messageTypes...)
	v.grantTokens(in.tokens)
}

// begin finds the key and asks for it.
func (in *signing) begin(ctx context.Context, c *call) (*live, error) {
	c.param("keyId", in.keyID)
	c.param("messageType", string(in.kind))
	c.param("signingAlgorithm", string(in.algorithm))
	c.dryRunParam(in.dry)
	k, err := c.key(ctx, in.keyID, ask{tokens: in.tokens, add: func(q *iam.Context) {
		q.Add("kms:SigningAlgorithm", iam.String(string(in.algorithm)))
		q.Add("kms:MessageType", iam.String(string(in.kind)))
	}})
	if err != nil {
		return nil, err
	}
	if err := takes(in.algorithm, k.Spec, k.Spec.SigningAlgorithms()); err != nil {
		return nil, err
	}
	return k, in.takesType(k)
}

// takesType refuses a message type that the algorithm does not know.
func (in *signing) takesType(k *live) error {
	known, with := in.kind != keyspec.MessageExternalMu, "algorithm "+string(in.algorithm)
	switch in.algorithm {
	case keyspec.SignEd25519:
		known = in.kind == keyspec.MessageRaw
	case keyspec.SignEd25519ph:
		known = in.kind == keyspec.MessageDigest
	case keyspec.SignMLDSA:
		known, with = in.kind != keyspec.MessageDigest, "key spec "+string(k.Spec)
	}
	if known {
		return nil
	}
	return refuse(CodeValidation, "Message type "+string(in.kind)+" is incompatible with "+with+".")
}

func (in *SignInput) signing() *signing {
	return &signing{in.KeyID, in.Message, in.SigningAlgorithm, cmp.Or(in.MessageType, keyspec.MessageRaw), in.GrantTokens, in.DryRun}
}

func (in *SignInput) check(v *violations) { in.signing().check(v) }

// Sign signs a message of 1 to 4096 bytes, or its digest, with an asymmetric key.
func (s *Service) Sign(ctx context.Context, who Caller, in *SignInput) (*SignOutput, error) {
	return perform(ctx, s, who, OpSign, in, func(c *call, out *SignOutput) error {
		in := in.signing()
		k, err := in.begin(ctx, c)
		if err != nil {
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
		signature, err := b.Sign(ctx, k.ref(m), in.algorithm, in.kind, in.message)
		if err != nil {
			return useError(err)
		}
		if err := dryRun(in.dry); err != nil {
			return err
		}
		c.used = append(c.used, k)
		*out = SignOutput{KeyID: k.arn, Signature: signature, SigningAlgorithm: in.algorithm}
		return nil
	})
}

func (in *VerifyInput) signing() *signing {
	return &signing{in.KeyID, in.Message, in.SigningAlgorithm, cmp.Or(in.MessageType, keyspec.MessageRaw), in.GrantTokens, in.DryRun}
}

func (in *VerifyInput) check(v *violations) {
	in.signing().check(v)
	v.bytes("signature", in.Signature, maxCiphertext)
}

// Verify checks a signature. One that is not valid is a KMSInvalidSignatureException,
// never an output that says so.
func (s *Service) Verify(ctx context.Context, who Caller, in *VerifyInput) (*VerifyOutput, error) {
	return perform(ctx, s, who, OpVerify, in, func(c *call, out *VerifyOutput) error {
		signature, in := in.Signature, in.signing()
		k, err := in.begin(ctx, c)
		if err != nil {
			return err
		}
		p, err := k.publicKey()
		if err != nil {
			return err
		}
		err = p.Verify(in.algorithm, in.kind, in.message, signature)
		if errors.Is(err, keyspec.ErrInvalidSignature) {
			return &Error{Code: CodeInvalidSignature, Reason: "the signature is not valid", cause: err}
		}
		if err != nil {
			return useError(err)
		}
		if err := dryRun(in.dry); err != nil {
			return err
		}
		c.used = append(c.used, k)
		*out = VerifyOutput{KeyID: k.arn, SignatureValid: true, SigningAlgorithm: in.algorithm}
		return nil
	})
}
