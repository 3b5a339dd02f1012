package kmsapi

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"cardea/internal/httpd"
	"cardea/internal/iam"
	"cardea/internal/kms"
	"cardea/internal/sigv4"
)

func (a *API) verifier(service string, skew time.Duration, regions func(string) bool) (*sigv4.Verifier, error) {
	return sigv4.New(sigv4.Options{
		Keys: a.identities, Service: service, Regions: regions, Now: a.now, MaxSkew: skew,
		AllowUnsignedContentType: true, // by which nothing is decided that the signature's service does not
	})
}

func (a *API) serves(region string) bool { return slices.Contains(a.regions, region) }

// servesSTS also lets in what clients of the global endpoint sign for.
func (a *API) servesSTS(region string) bool {
	return region == "us-east-1" || region == "aws-global" || a.serves(region)
}

// authenticate finds out who signed the request, from which the caller is known
// from here on. Errors are those of the verifier.
func (x *exchange) authenticate(a *API, v *sigv4.Verifier) error {
	id, err := v.Verify(x.r, x.in.b)
	if e, ok := errors.AsType[*sigv4.Error](err); ok {
		a.metrics.authFailed(e.Code)
		if isKeyID(e.AccessKeyID) {
			// Nothing proves whose key it is, but whose account is tried can be seen.
			x.who.Subject = &iam.Subject{Caller: iam.Caller{Type: iam.CallerAnonymous}, AccessKeyID: e.AccessKeyID}
			x.guessed = e.Mismatch
		}
	}
	if err != nil {
		return err
	}
	subject, ok := id.Principal.(*iam.Subject)
	if !ok {
		return errors.New("credentials without a subject")
	}
	a.identities.Succeeded(id.AccessKeyID)
	x.who.Subject, x.who.Auth, x.who.Region = subject, "sigv4", id.Region
	return nil
}

// isKeyID reports whether s can be an access key id, and so be told in the log. What
// else stands in its place may be a secret access key, or a session token, that was
// put there by mistake.
func isKeyID(s string) bool {
	const longest = 32 // secrets have 40 characters
	if len(s) > longest || !strings.HasPrefix(s, "AKIA") && !strings.HasPrefix(s, "ASIA") {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// countFailure counts an attempt to guess a secret, when it is in the audit log.
func (x *exchange) countFailure(a *API) {
	if !x.guessed {
		return
	}
	if err := a.identities.Failed(x.ctx, x.who.AccessKeyID, x.who.IP); err != nil {
		a.log.ErrorContext(x.ctx, "failed authentication not counted", slog.String("request_id", x.who.RequestID), slog.Any("error", err))
	}
}

// caller is what is known of the sender before anything is verified.
func (a *API) caller(r *http.Request, id string) kms.Caller {
	return kms.Caller{
		Auth: "none", Region: a.regions[0], RequestID: id, IP: httpd.PeerIP(r), UserAgent: userAgent(r), TLS: tlsText(r.TLS),
	}
}

const maxUserAgent = 255

// userAgent is what the client calls itself, cut.
func userAgent(r *http.Request) string {
	values := r.Header["User-Agent"]
	if len(values) == 0 {
		return ""
	}
	s := values[0]
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "?")
	}
	if len(s) > maxUserAgent {
		for s = s[:maxUserAgent]; !utf8.ValidString(s); {
			s = s[:len(s)-1]
		}
	}
	return s
}

// tlsText is "TLSv1.3 TLS_AES_128_GCM_SHA256", or empty.
func tlsText(s *tls.ConnectionState) string {
	if s == nil {
		return ""
	}
	var version string
	switch s.Version {
	case tls.VersionTLS13:
		version = "TLSv1.3 "
	case tls.VersionTLS12:
		version = "TLSv1.2 "
	default:
		version = tls.VersionName(s.Version) + " "
	}
	return version + tls.CipherSuiteName(s.CipherSuite)
}
