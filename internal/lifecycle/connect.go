package lifecycle

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"cardea/internal/sdkhttp"
)

// Access says how a key service is reached: as AWS's own tools do, by AWS's
// configuration and credentials, unless it says otherwise.
type Access struct {
	Region   string // that of AWS's configuration if empty
	Profile  string
	Endpoint string // AWS's, or what AWS's configuration says, if empty
	CAFile   string // PEM certificates to trust besides the system's
	// Answered gets the key service's id of each request that it answers; nil for nobody.
	Answered func(requestID string)
}

// ErrNoRegion says that neither the caller nor AWS's configuration names a Region.
var ErrNoRegion = errors.New("no Region: name it by --region or AWS_REGION")

// Connect makes a client. It calls nobody. Retries are the SDK's standard ones:
// administration is rare, and each operation here may be repeated but those that are
// sent with once.
func Connect(ctx context.Context, a Access) (*awskms.Client, error) {
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12}
	if a.CAFile != "" {
		pem, err := os.ReadFile(a.CAFile)
		if err != nil {
			return nil, fmt.Errorf("--ca-file: %w", err)
		}
		if tlsConfig.RootCAs, err = x509.SystemCertPool(); err != nil {
			tlsConfig.RootCAs = x509.NewCertPool()
		}
		if !tlsConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--ca-file: %s: no certificate in it", a.CAFile)
		}
	}
	client := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) { t.TLSClientConfig = tlsConfig })
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion(a.Region), config.WithSharedConfigProfile(a.Profile), config.WithHTTPClient(client), config.WithAppID("cardea"))
	if err != nil {
		return nil, fmt.Errorf("AWS configuration: %w", err)
	}
	if cfg.Region == "" {
		return nil, ErrNoRegion
	}
	cfg.HTTPClient = sdkhttp.New(cfg.HTTPClient)
	return awskms.NewFromConfig(cfg, func(o *awskms.Options) {
		if a.Endpoint != "" {
			o.BaseEndpoint = aws.String(a.Endpoint)
		}
		if a.Answered != nil {
			o.HTTPClient = telling{o.HTTPClient, a.Answered}
		}
	}), nil
}

// once has the SDK repeat a request only if it was turned away for being one too many.
// Without it a key whose answer was lost would be made again, and material be rotated
// again: that the same command is run again finds out what was done.
func once(o *awskms.Options) {
	o.Retryer = retry.NewStandard(func(s *retry.StandardOptions) {
		s.Retryables = []retry.IsErrorRetryable{retry.RetryableErrorCode{Codes: retry.DefaultThrottleErrorCodes}}
	})
}

// telling is a client that tells the ids of requests that were answered.
type telling struct {
	awskms.HTTPClient
	tell func(requestID string)
}

// Do implements awskms.HTTPClient.
func (a telling) Do(r *http.Request) (*http.Response, error) {
	res, err := a.HTTPClient.Do(r)
	if err == nil {
		if id := res.Header.Get("X-Amzn-Requestid"); id != "" {
			a.tell(id)
		}
	}
	return res, err
}
