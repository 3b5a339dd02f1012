package kms

import (
	"cmp"
	"context"
	"slices"

	"cardea/internal/audit"
	"cardea/internal/iam"
	"cardea/internal/keyspec"
)

func (in *ReEncryptInput) check(v *violations) {
	ignored := v.dryRunModifiers(in.DryRun, in.DryRunModifiers)
	if !ignored || in.CiphertextBlob != nil {
		v.bytes("ciphertextBlob", in.CiphertextBlob, maxCiphertext)
	}
	v.sourceKey("sourceKeyId", in.SourceKeyID,
		ignored || in.SourceEncryptionAlgorithm != "" && in.SourceEncryptionAlgorithm != keyspec.EncryptSymmetric)
	v.keyID("destinationKeyId", in.DestinationKeyID)
	v.context("sourceEncryptionContext", in.SourceEncryptionContext)
	v.context("destinationEncryptionContext", in.DestinationEncryptionContext)
	enum(v, "sourceEncryptionAlgorithm", in.SourceEncryptionAlgorithm, encryptionAlgorithms...)
	enum(v, "destinationEncryptionAlgorithm", in.DestinationEncryptionAlgorithm, encryptionAlgorithms...)
	v.grantTokens(in.GrantTokens)
}

// ReEncrypt decrypts and encrypts again, under another key, with another encryption
// context, or under the current material of the same key. The plaintext never
// leaves the service. It takes two permissions: kms:ReEncryptFrom on the source and
// kms:ReEncryptTo on the destination.
func (s *Service) ReEncrypt(ctx context.Context, who Caller, in *ReEncryptInput) (*ReEncryptOutput, error) {
	return perform(ctx, s, who, OpReEncrypt, in, func(c *call, out *ReEncryptOutput) error {
		from := cmp.Or(in.SourceEncryptionAlgorithm, keyspec.EncryptSymmetric)
		to := cmp.Or(in.DestinationEncryptionAlgorithm, keyspec.EncryptSymmetric)
		src := source{
			algorithm: from, pairs: in.SourceEncryptionContext, raw: in.CiphertextBlob,
			ignored: in.DryRun && slices.Contains(in.DryRunModifiers, IgnoreCiphertext),
		}
		c.param("sourceKeyId", in.SourceKeyID)
		c.param("destinationKeyId", in.DestinationKeyID)
		c.param("sourceEncryptionAlgorithm", string(from))
		c.param("destinationEncryptionAlgorithm", string(to))
		c.dryRunParam(in.DryRun)
		c.reEncryptContexts(in)
		k, err := c.permitReEncrypt(ctx, in, &src, to)
		if err != nil {
			return err
		}
		if src.ignored {
			return dryRun(true)
		}
		p, old, err := c.open(ctx, &src)
		if err != nil {
			return err
		}
		defer p.Destroy()
		blob, m, err := c.encrypt(ctx, k, to, in.DestinationEncryptionContext, p)
		if err != nil {
			return err
		}
		if err := dryRun(in.DryRun); err != nil {
			return err
		}
		*out = ReEncryptOutput{
			CiphertextBlob: blob, KeyID: k.arn, SourceKeyID: src.key.arn,
			SourceEncryptionAlgorithm: from, DestinationEncryptionAlgorithm: to,
			SourceKeyMaterialID: src.key.materialID(old), DestinationKeyMaterialID: k.materialID(m),
		}
		c.result("sourceKeyMaterialId", out.SourceKeyMaterialID)
		c.result("destinationKeyMaterialId", out.DestinationKeyMaterialID)
		c.used = append(c.used, src.key)
		if k != src.key {
			c.used = append(c.used, k)
		}
		return nil
	})
}

// permitReEncrypt finds both keys before it asks for either, because conditions can
// ask whether they are the same. It returns the destination.
func (c *call) permitReEncrypt(ctx context.Context, in *ReEncryptInput, src *source, to keyspec.EncryptionAlgorithm) (*live, error) {
	if err := c.findSource(ctx, OpReEncryptFrom, in.SourceKeyID, src); err != nil {
		return nil, err
	}
	k, err := c.find(ctx, OpReEncryptTo, in.DestinationKeyID)
	if err != nil {
		return nil, err
	}
	alias, same := c.alias, k.KeyRef == src.key.KeyRef
	query := func(a keyspec.EncryptionAlgorithm) func(*iam.Context) {
		return func(q *iam.Context) {
			q.Add("kms:EncryptionAlgorithm", iam.String(string(a)))
			q.Add("kms:ReEncryptOnSameKey", iam.Bool(same))
		}
	}
	// An entry is allowed only if both are; until then it must not say so.
	err = c.permitSource(ctx, src, ask{op: OpReEncryptFrom, context: in.SourceEncryptionContext, tokens: in.GrantTokens, add: query(src.algorithm)})
	if err != nil {
		return nil, err
	}
	detail := c.entry.Detail
	c.alias = alias
	err = c.permit(ctx, k, ask{op: OpReEncryptTo, context: in.DestinationEncryptionContext, tokens: in.GrantTokens, add: query(to)})
	if err != nil {
		return nil, err
	}
	c.entry.Detail = "source: " + detail + "; destination: " + c.entry.Detail
	return k, k.takesEncryption(to, in.DestinationEncryptionContext)
}

// reEncryptContexts puts both encryption contexts into the entry, each name with
// that of its parameter and a dot before it.
func (c *call) reEncryptContexts(in *ReEncryptInput) {
	mark := func(prefix string, pairs map[string]string) {
		n := len(c.more.Context)
		c.encryptionContext(pairs)
		for i := range c.more.Context[n:] {
			p := &c.more.Context[n+i]
			*p = audit.Param{Name: prefix + p.Name, Value: p.Value}
		}
	}
	mark("sourceEncryptionContext.", in.SourceEncryptionContext)
	mark("destinationEncryptionContext.", in.DestinationEncryptionContext)
}
