package collect

import (
	"context"
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"cardea/internal/sdkhttp"
)

// AWS is how AWS is reached. The zero value takes region and credentials from the
// environment, as all AWS tools do.
type AWS struct {
	Region   string
	Profile  string // of the shared configuration files
	Endpoint string // instead of AWS's own; buckets are then named in the path

	Credentials aws.CredentialsProvider // default those of the environment
	HTTPClient  *http.Client
}

func (a AWS) load(ctx context.Context) (aws.Config, error) {
	options := []func(*config.LoadOptions) error{config.WithSharedConfigProfile(a.Profile)}
	if a.Region != "" {
		options = append(options, config.WithRegion(a.Region))
	}
	if a.Credentials != nil {
		options = append(options, config.WithCredentialsProvider(a.Credentials))
	}
	if a.HTTPClient != nil {
		options = append(options, config.WithHTTPClient(a.HTTPClient))
	}
	c, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return c, fmt.Errorf("AWS configuration: %w", err)
	}
	c.HTTPClient = sdkhttp.New(c.HTTPClient)
	return c, nil
}

// S3 makes a client of S3.
func (a AWS) S3(ctx context.Context) (*s3.Client, error) { return a.s3(ctx) }

func (a AWS) s3(ctx context.Context) (*s3.Client, error) {
	c, err := a.load(ctx)
	if err != nil {
		return nil, err
	}
	return s3.NewFromConfig(c, func(o *s3.Options) {
		if a.Endpoint != "" {
			o.BaseEndpoint, o.UsePathStyle = &a.Endpoint, true
		}
		o.DisableLogOutputChecksumValidationSkipped = true
	}), nil
}

func (a AWS) sqs(ctx context.Context) (*sqs.Client, error) {
	c, err := a.load(ctx)
	if err != nil {
		return nil, err
	}
	return sqs.NewFromConfig(c, func(o *sqs.Options) {
		if a.Endpoint != "" {
			o.BaseEndpoint = &a.Endpoint
		}
	}), nil
}

func (a AWS) cloudtrail(ctx context.Context) (*cloudtrail.Client, error) {
	c, err := a.load(ctx)
	if err != nil {
		return nil, err
	}
	return cloudtrail.NewFromConfig(c, func(o *cloudtrail.Options) {
		if a.Endpoint != "" {
			o.BaseEndpoint = &a.Endpoint
		}
	}), nil
}
