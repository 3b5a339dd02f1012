package kmsclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
)

const (
	appID = "cardea" // in the user agent, and so in CloudTrail

	// maxAnswer bounds the body of an answer; KMS's are below 16 KiB.
	maxAnswer = 1 << 20

	maxCAFile = 1 << 20

	// Idle connections that are kept for the next request.
	maxIdle     = 256
	idleTimeout = 60 * time.Second
)

// tlsSettings are those of every connection.
type tlsSettings struct{ roots *x509.CertPool }

func newTLSSettings(caFile string) (tlsSettings, error) {
	if caFile == "" {
		return tlsSettings{}, nil
	}
	f, err := os.Open(caFile)
	if err != nil {
		return tlsSettings{}, fmt.Errorf("root CA file: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read from
	pem, err := io.ReadAll(io.LimitReader(f, maxCAFile+1))
	if err != nil {
		return tlsSettings{}, fmt.Errorf("root CA file: %w", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if len(pem) > maxCAFile || !roots.AppendCertsFromPEM(pem) {
		return tlsSettings{}, fmt.Errorf("root CA file %s: no certificate in it, or more than %d bytes", caFile, maxCAFile)
	}
	return tlsSettings{roots}, nil
}

// config allows TLS 1.2 with ephemeral ECDH and AEAD only, and TLS 1.3 (PCI DSS
// 4.2.1; NIST SP 800-52r2 3.3.1). No session is resumed, so each connection has
// keys of its own.
func (s tlsSettings) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		RootCAs:    s.roots,
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
			tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
	}
}

// setTransport makes t ours. It speaks HTTP/1.1 only, as KMS does: with a
// connection a request, one that breaks takes one request with it. The proxy is
// the one of HTTPS_PROXY and NO_PROXY, if any.
func (c *Client) setTransport(t *http.Transport) {
	t.Proxy = http.ProxyFromEnvironment
	t.DialContext = (&net.Dialer{Timeout: c.o.ConnectTimeout, KeepAlive: 15 * time.Second}).DialContext
	t.TLSClientConfig = c.tls.config()
	t.TLSHandshakeTimeout = c.o.ConnectTimeout
	t.ForceAttemptHTTP2 = false
	t.Protocols = new(http.Protocols)
	t.Protocols.SetHTTP1(true)
	t.MaxIdleConns = 0 // bounded a host
	t.MaxIdleConnsPerHost = maxIdle
	t.MaxConnsPerHost = 0 // bounded by Options.MaxConcurrent
	t.IdleConnTimeout = idleTimeout
	t.MaxResponseHeaderBytes = 64 << 10
	t.DisableCompression = true
}

// limited cuts answers off that are longer than any of KMS's.
type limited struct{ next http.RoundTripper }

func (l limited) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := l.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	res.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(res.Body, maxAnswer), res.Body}
	return res, nil
}

// apiName is what the SDK's clients are told apart by.
type apiName struct {
	profile, region, endpoint string
	fips                      bool
}

// api is the way to a Region, found out when it is first asked for. Requests of all
// keys there share its connections and its idea of the Region's clock.
type api struct {
	mu     sync.Mutex // guards the rest
	wire   *wire
	hangUp func()
}

func (a *api) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.hangUp != nil {
		a.hangUp()
	}
}

// get returns the way. Finding it out reads the shared files and the environment, as
// the SDK does; credentials are got when a request needs them.
func (a *api) get(ctx context.Context, c *Client, n apiName) (*wire, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.wire != nil {
		return a.wire, nil
	}
	var (
		client *awskms.Client // only for what the SDK makes of the settings
		t      *http.Transport
		set    = func(o *awskms.Options) { c.setOptions(o, n) }
	)
	if creds, ok := c.o.Credentials[n.profile]; ok {
		t = &http.Transport{}
		c.setTransport(t)
		client = awskms.New(awskms.Options{Credentials: creds}, set)
	} else {
		// The SDK adds the certificates of AWS_CA_BUNDLE to a client of its own kind only.
		settings := []func(*config.LoadOptions) error{
			config.WithRegion(n.region), config.WithSharedConfigProfile(n.profile),
			config.WithHTTPClient(awshttp.NewBuildableClient().WithTransportOptions(c.setTransport)),
		}
		if c.o.CredentialsFile != "" {
			settings = append(settings, config.WithSharedCredentialsFiles([]string{c.o.CredentialsFile}), config.WithSharedConfigFiles([]string{}))
		}
		cfg, err := config.LoadDefaultConfig(ctx, settings...)
		if err != nil {
			return nil, &credentialsError{err}
		}
		built, ok := cfg.HTTPClient.(*awshttp.BuildableClient)
		if !ok {
			return nil, errors.New("the SDK's HTTP client is of another kind")
		}
		t = built.GetTransport()
		client = awskms.NewFromConfig(cfg, set)
	}
	next := c.o.transport
	if next == nil {
		next = t
	}
	w, err := newWire(ctx, client.Options(), limited{next})
	if err != nil {
		return nil, err
	}
	a.wire, a.hangUp = w, t.CloseIdleConnections
	return w, nil
}

// setOptions are a key's own settings, which go before those of the environment.
func (c *Client) setOptions(o *awskms.Options, n apiName) {
	o.Region = n.region
	o.Credentials = credentials{o.Credentials}
	if n.endpoint != "" {
		o.BaseEndpoint = aws.String(n.endpoint)
		o.EndpointOptions.UseFIPSEndpoint = aws.FIPSEndpointStateDisabled // it is for the endpoint to be one
	}
	if n.fips {
		o.EndpointOptions.UseFIPSEndpoint = aws.FIPSEndpointStateEnabled
	}
}

// Retrieve implements aws.CredentialsProvider.
func (c Credentials) Retrieve(context.Context) (aws.Credentials, error) {
	if c.SecretAccessKey.Len() == 0 {
		return aws.Credentials{}, errors.New("the secret access key is wiped")
	}
	return aws.Credentials{
		AccessKeyID: c.AccessKeyID, SecretAccessKey: string(c.SecretAccessKey.Expose()), SessionToken: string(c.SessionToken.Expose()),
		Source: "cardea",
	}, nil
}

// credentials tell their own errors from those of KMS.
type credentials struct{ from aws.CredentialsProvider }

// Retrieve implements aws.CredentialsProvider.
func (c credentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	if c.from == nil {
		return aws.Credentials{}, &credentialsError{errors.New("there are none")}
	}
	v, err := c.from.Retrieve(ctx)
	if err != nil {
		return v, &credentialsError{err}
	}
	return v, nil
}

type credentialsError struct{ err error }

func (e *credentialsError) Error() string { return "credentials: " + e.err.Error() }
func (e *credentialsError) Unwrap() error { return e.err }
