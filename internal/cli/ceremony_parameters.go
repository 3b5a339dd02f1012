package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"cardea/internal/ceremony"
	"cardea/internal/iam"
	"cardea/internal/keyspec"
	"cardea/internal/lifecycle"
)

// administer makes a client for administration.
func (a keyAccess) administer(ctx context.Context, id string) (*awskms.Client, error) {
	region := a.Region
	if arn, err := iam.ParseARN(id); err == nil {
		region = arn.Region
	}
	access := lifecycle.Access{Region: region, Profile: a.Profile, Endpoint: a.EndpointURL, CAFile: a.CAFile}
	if a.asked != nil {
		access.Answered = a.asked.answered
	}
	return lifecycle.Connect(ctx, access)
}

type ceremonyParametersCommand struct {
	keyAccess
	output
	KeyID     string `required:"" name:"key-id" placeholder:"KEY" help:"The key, made with origin EXTERNAL."`
	Algorithm string `default:"RSAES_OAEP_SHA_256" placeholder:"NAME" help:"RSAES_OAEP_SHA_256 (default), or RSA_AES_KEY_WRAP_SHA_256 where the key service takes it for the key."`
	Out       string `required:"" type:"path" placeholder:"FILE" help:"File for them, which must not exist. They hold for 24 hours."`
}

// Help implements kong.HelpProvider.
func (ceremonyParametersCommand) Help() string {
	return "Examples:\n  cardea ceremony parameters --key-id alias/imported --out parameters.json\n\nRead the digest that is printed aloud on the other machine: it must be the same there."
}

func (c ceremonyParametersCommand) Run(ctx context.Context, p *Process) error {
	k, err := c.administer(ctx, c.KeyID)
	if err != nil {
		return err
	}
	ps, err := importParameters(ctx, k, c.KeyID, c.Algorithm)
	if err != nil {
		return err
	}
	text, err := ps.Encode()
	if err != nil {
		return err
	}
	if err := writeNew("--out", c.Out, text, 0o600); err != nil {
		return err
	}
	v := struct {
		KeyID   string    `json:"key_id"`
		Digest  string    `json:"digest"`
		ValidTo time.Time `json:"valid_to"`
	}{ps.KeyID, ps.Digest(), ps.ValidTo.UTC()}
	return c.print(p.Stdout, v, func(w io.Writer) error {
		return fields(w, []string{"key", v.KeyID}, []string{"digest", v.Digest}, []string{"valid until", v.ValidTo.Format(time.RFC3339)})
	})
}

func importParameters(ctx context.Context, k *awskms.Client, id, algorithm string) (*ceremony.Parameters, error) {
	switch keyspec.WrappingAlgorithm(algorithm) {
	case keyspec.WrapOAEPSHA256, keyspec.WrapRSAAESKW256:
	default:
		return nil, usageError{fmt.Errorf("--algorithm: %q is refused, want %s or %s: SHA-1 is not for new material", algorithm, keyspec.WrapRSAAESKW256, keyspec.WrapOAEPSHA256)}
	}
	d, err := k.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: &id})
	if err != nil {
		return nil, fmt.Errorf("describe key: %w", err)
	}
	m := d.KeyMetadata
	if m.Origin != types.OriginTypeExternal {
		return nil, fmt.Errorf("key %s has origin %s: material is imported only into a key that was made with origin EXTERNAL", aws.ToString(m.Arn), m.Origin)
	}
	out, err := k.GetParametersForImport(ctx, &awskms.GetParametersForImportInput{
		KeyId: m.Arn, WrappingAlgorithm: types.AlgorithmSpec(algorithm), WrappingKeySpec: types.WrappingKeySpecRsa4096,
	})
	if err != nil {
		return nil, fmt.Errorf("get parameters for import: %w", err)
	}
	return &ceremony.Parameters{
		KeyID: aws.ToString(m.Arn), KeySpec: ceremony.Algorithm(m.KeySpec), Algorithm: keyspec.WrappingAlgorithm(algorithm),
		PublicKey: out.PublicKey, ImportToken: out.ImportToken, ValidTo: aws.ToTime(out.ParametersValidTo),
	}, nil
}
