package lockerapi

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/fips140"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/time/rate"
)

// Envelope is how a tenant's requests and responses are wrapped.
type Envelope string

// The envelopes. A tenant has exactly one, so that nobody can leave it off.
const (
	EnvelopePlain Envelope = "plain" // JSON; identified by loopback or client certificate
	EnvelopeJWE   Envelope = "jwe"   // JWS inside JWE; identified by the signature
)

// TenantConfig is how a tenant's clients talk to the locker API.
type TenantConfig struct {
	Envelope Envelope // default plain

	// ClientKey is the tenant's public key, RSA or EC P-256: it verifies requests
	// and encrypts responses. Required for EnvelopeJWE.
	ClientKey crypto.PublicKey
	// ResponseKeyAlgorithm is RSA-OAEP-256 (default) or RSA-OAEP for an RSA key,
	// ECDH-ES (default) or ECDH-ES+A256KW for an EC key. RSA-OAEP is what the peer
	// sends and stock Hyperswitch expects; its SHA-1 is used only where it is named
	// here, and never under GODEBUG=fips140=only.
	ResponseKeyAlgorithm string
	// ResponseSignature is RS256 or ES256; the default is RS256 if the server has
	// an RSA key.
	ResponseSignature string
	Replay            ReplayPolicy

	// Clients are the client certificates that may act for a plain tenant. If
	// there is any, nothing else may, not even from loopback.
	Clients []Client

	// Merchants and Actions limit what requests without a mapped certificate may
	// do; patterns as in iam.Principal. Empty means everything of this API.
	Merchants, Actions []string

	// DeleteLimit bounds v1 deletes; zero is no limit.
	DeleteLimit DeleteLimit
}

// Client is a client certificate and what its holder may do. Exactly one of
// SHA256 and CommonName is set.
type Client struct {
	Name       string // in the audit log
	SHA256     string // of the certificate's DER, 64 hexadecimal digits
	CommonName string // of the subject; the listener's client CA vouches for it
	// Empty means everything of this API.
	Merchants, Actions []string
}

// DeleteLimit allows Requests deletes in each Per, and as many at once.
type DeleteLimit struct {
	Requests int
	Per      time.Duration
}

// dataActions are the actions of the API's data routes.
func dataActions() []string { return []string{"card:*", "data:*", "fingerprint:*", "holder:*"} }

// tenant is a configured tenant, ready for requests: keys are parsed, cipher
// objects made. It does not change but for its limiter and replay cache.
type tenant struct {
	name               string
	config             TenantConfig
	merchants, actions []string

	encrypters map[jose.ContentEncryption]jose.Encrypter
	signer     *signer
	byDigest   map[[sha256.Size]byte]*Client
	byName     map[string]*Client
	deletes    *rate.Limiter // nil is no limit
	replays    *replayCache
}

// newTenant checks a configuration. old is the tenant it replaces, whose limiter
// and replay cache live on, or nil.
func newTenant(name string, c TenantConfig, keys ServerKeys, old *tenant) (*tenant, error) {
	t := &tenant{name: name, config: c, merchants: orAll(c.Merchants), actions: orData(c.Actions)}
	switch c.Envelope {
	case "", EnvelopePlain:
		t.config.Envelope = EnvelopePlain
		if c.ClientKey != nil || c.ResponseKeyAlgorithm != "" || c.ResponseSignature != "" || c.Replay != (ReplayPolicy{}) {
			return nil, errors.New("client key, response algorithms and replay protection are for envelope jwe only")
		}
	case EnvelopeJWE:
		if len(c.Clients) > 0 {
			return nil, errors.New("client certificates are for envelope plain only: with jwe the signature identifies the client")
		}
		if err := t.prepareEnvelope(keys); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("envelope %q is neither plain nor jwe", c.Envelope)
	}
	if err := t.mapClients(); err != nil {
		return nil, err
	}
	return t, t.limitDeletes(old)
}

func (t *tenant) prepareEnvelope(keys ServerKeys) error {
	c := &t.config
	if c.ClientKey == nil {
		return errors.New("envelope jwe needs the tenant's public key")
	}
	if err := checkPublic(c.ClientKey); err != nil {
		return fmt.Errorf("tenant's public key: %w", err)
	}
	if keys.rsa == nil && keys.ec == nil {
		return errors.New("envelope jwe needs a locker private key")
	}
	if c.Replay.Window < 0 || c.Replay.Window > maxReplayWindow {
		return fmt.Errorf("replay window %s is not between 0 and %s", c.Replay.Window, maxReplayWindow)
	}
	alg, err := responseAlgorithm(c.ClientKey, c.ResponseKeyAlgorithm)
	if err != nil {
		return err
	}
	t.encrypters = make(map[jose.ContentEncryption]jose.Encrypter, len(contentAlgorithms))
	for _, enc := range contentAlgorithms {
		e, err := jose.NewEncrypter(enc, jose.Recipient{Algorithm: alg, Key: c.ClientKey}, (&jose.EncrypterOptions{}).WithType("JWT"))
		if err != nil {
			return fmt.Errorf("response encryption %s with %s: %w", alg, enc, err)
		}
		t.encrypters[enc] = e
	}
	sig := jose.SignatureAlgorithm(c.ResponseSignature)
	if sig == "" {
		sig = jose.RS256
		if keys.rsa == nil {
			sig = jose.ES256
		}
	}
	t.signer, err = keys.signer(sig)
	return err
}

// responseAlgorithm is the key management algorithm of a tenant's responses.
func responseAlgorithm(key crypto.PublicKey, name string) (jose.KeyAlgorithm, error) {
	var allowed []jose.KeyAlgorithm
	switch key.(type) {
	case *rsa.PublicKey:
		allowed = []jose.KeyAlgorithm{jose.RSA_OAEP_256, jose.RSA_OAEP}
	case *ecdsa.PublicKey:
		allowed = []jose.KeyAlgorithm{jose.ECDH_ES, jose.ECDH_ES_A256KW}
	}
	if name == "" {
		return allowed[0], nil
	}
	for _, a := range allowed {
		if string(a) != name {
			continue
		}
		if a == jose.RSA_OAEP && fips140.Enforced() {
			return "", errors.New("response algorithm RSA-OAEP uses SHA-1, which GODEBUG=fips140=only forbids; use RSA-OAEP-256")
		}
		return a, nil
	}
	return "", fmt.Errorf("response algorithm %q does not fit the tenant's public key; it can be one of %q", name, allowed)
}

func (t *tenant) mapClients() error {
	t.byDigest = map[[sha256.Size]byte]*Client{}
	t.byName = map[string]*Client{}
	for i := range t.config.Clients {
		c := t.config.Clients[i] // a copy: the caller keeps its slice
		c.Merchants, c.Actions = orAll(c.Merchants), orData(c.Actions)
		if c.Name == "" {
			return fmt.Errorf("client %d has no name", i+1)
		}
		if (c.SHA256 == "") == (c.CommonName == "") {
			return fmt.Errorf("client %s: one of sha256 and common name must be set, and only one", c.Name)
		}
		if c.CommonName != "" {
			if t.byName[c.CommonName] != nil {
				return fmt.Errorf("client %s: its common name is mapped twice", c.Name)
			}
			t.byName[c.CommonName] = &c
			continue
		}
		digest, err := hex.DecodeString(strings.ReplaceAll(c.SHA256, ":", ""))
		if err != nil || len(digest) != sha256.Size {
			return fmt.Errorf("client %s: sha256 is not 64 hexadecimal digits", c.Name)
		}
		if t.byDigest[[sha256.Size]byte(digest)] != nil {
			return fmt.Errorf("client %s: its sha256 is mapped twice", c.Name)
		}
		t.byDigest[[sha256.Size]byte(digest)] = &c
	}
	return nil
}

// client is the mapped client of a verified certificate, or nil.
func (t *tenant) client(cert *x509.Certificate) *Client {
	if cert == nil {
		return nil
	}
	if len(t.byDigest) > 0 {
		if c := t.byDigest[sha256.Sum256(cert.Raw)]; c != nil {
			return c
		}
	}
	return t.byName[cert.Subject.CommonName]
}

func (t *tenant) limitDeletes(old *tenant) error {
	l := t.config.DeleteLimit
	if (l.Requests <= 0) != (l.Per <= 0) || l.Requests < 0 || l.Per < 0 {
		return errors.New("delete limit: requests and period must both be above 0, or both 0")
	}
	if old != nil && old.replays != nil {
		t.replays = old.replays
	} else {
		t.replays = newReplayCache()
	}
	if l.Requests == 0 {
		return nil
	}
	if old != nil && old.deletes != nil && old.config.DeleteLimit == l {
		t.deletes = old.deletes
		return nil
	}
	t.deletes = rate.NewLimiter(rate.Limit(float64(l.Requests)/l.Per.Seconds()), l.Requests)
	return nil
}

func orAll(names []string) []string {
	if len(names) == 0 {
		return []string{"*"}
	}
	return names
}

func orData(actions []string) []string {
	if len(actions) == 0 {
		return dataActions()
	}
	return actions
}
