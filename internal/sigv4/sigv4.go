// Package sigv4 verifies AWS Signature Version 4 on requests that a server has
// received. A request that it lets pass was made by someone who holds the secret
// of the access key named, for this host, region and service, within the clock
// skew allowed, and nothing that the signature covers has changed on the way:
// method, path, query, the signed headers (always host, content type and every
// x-amz-*) and the whole body.
//
// It promises to refuse rather than to guess: one way to write the Authorization
// header, no header that is read but not signed, no path that signers normalise
// differently, no payload that is not hashed. What exactly is verified stands in
// docs/spec/sigv4.md. It authenticates and knows nothing of permissions.
package sigv4

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"cardea/internal/secret"
)

// Defaults and bounds of [Options].
const (
	defaultMaxSkew = 5 * time.Minute    // what AWS KMS allows
	mostSkew       = 15 * time.Minute   // what the most lenient AWS services allow
	mostPresigned  = 7 * 24 * time.Hour // X-Amz-Expires goes no further
	defaultCached  = 4096               // signing keys
)

// ErrUnknownKey is what [Keys] answers when there is no such access key, or none
// that may be used.
var ErrUnknownKey = errors.New("unknown access key")

// Keys knows the access keys. Both methods must be safe for concurrent use. An
// error other than [ErrUnknownKey] means that nobody can tell; the request is
// then neither accepted nor refused as forged.
type Keys interface {
	// Lookup describes an access key, at each request. The id has 1 to 128
	// characters of A-Z a-z 0-9 _ and comes from the client.
	Lookup(ctx context.Context, accessKeyID string) (Credential, error)

	// Secret returns the secret access key of c, 16 to 128 bytes. It is asked for
	// only when no signing key that comes of it is cached, so about once a day
	// and region. The verifier destroys what it is given: return a copy.
	Secret(ctx context.Context, c Credential) (secret.Bytes, error)
}

// Credential is what is known of an access key.
type Credential struct {
	// SecretID names the secret itself and is never empty: another secret under
	// the same access key has another SecretID, or signing keys that were cached
	// for the old one would be used.
	SecretID string

	// SessionTokenHash is the SHA-256 of the session token that temporary
	// credentials must come with; zero for long-term access keys, with which a
	// token is refused.
	SessionTokenHash [32]byte

	// ExpiresAt is when the credentials end; zero means never.
	ExpiresAt time.Time

	// Principal is handed back in [Identity] as it is.
	Principal any
}

// Identity is who signed a request and for what.
type Identity struct {
	AccessKeyID   string
	Principal     any // as [Keys] gave it
	Temporary     bool
	Region        string // of the credential scope
	Service       string
	Date          time.Time // when the request was signed, UTC, by the client's clock
	SignedHeaders string    // lower-case names, sorted, joined by semicolons
	Presigned     bool      // signed in the query string
}

// Options of a [Verifier]. Keys, Service and Regions are required.
type Options struct {
	Keys    Keys
	Service string // signing name that the credential scope must have, for example "kms"

	// Regions tells whether a region is served here. What it accepts should be a
	// short list, since signing keys are cached a region.
	Regions func(region string) bool

	Now     func() time.Time // default time.Now
	MaxSkew time.Duration    // default 5 min, at most 15 min

	// MaxPresigned is how long a request signed in its query string may be valid,
	// at most 7 days. The zero value refuses all such requests.
	MaxPresigned time.Duration

	// AllowUnsignedContentType lets a Content-Type header pass that is not signed,
	// which the AWS SDK for JavaScript 2 and its like never do.
	AllowUnsignedContentType bool

	CachedKeys int // signing keys remembered; default 4096
}

// Verifier verifies requests for one service. It is safe for concurrent use.
type Verifier struct {
	o        Options
	cache    *keyCache
	stranger secret.Bytes // signs for access keys that do not exist
	scratch  sync.Pool    // of *scratch
}

// New makes a verifier.
func New(o Options) (*Verifier, error) {
	if o.Now == nil {
		o.Now = time.Now //nolint:forbidigo // the default of the injected clock
	}
	if o.MaxSkew == 0 {
		o.MaxSkew = defaultMaxSkew
	}
	if o.CachedKeys == 0 {
		o.CachedKeys = defaultCached
	}
	switch {
	case o.Keys == nil:
		return nil, errors.New("sigv4: no access keys to look up")
	case !validScopeName(o.Service):
		return nil, fmt.Errorf("sigv4: %q is no service name", o.Service)
	case o.Regions == nil:
		return nil, errors.New("sigv4: no regions")
	case o.MaxSkew < 0 || o.MaxSkew > mostSkew:
		return nil, fmt.Errorf("sigv4: clock skew of %s is not between 0 and %s", o.MaxSkew, mostSkew)
	case o.MaxPresigned < 0 || o.MaxPresigned > mostPresigned:
		return nil, fmt.Errorf("sigv4: presigned requests of %s are not between 0 and %s", o.MaxPresigned, mostPresigned)
	case o.CachedKeys < 0:
		return nil, fmt.Errorf("sigv4: cannot cache %d keys", o.CachedKeys)
	}
	v := &Verifier{o: o, cache: newKeyCache(o.CachedKeys), stranger: secret.Random(30)}
	v.scratch.New = func() any { return &scratch{buf: make([]byte, 0, 2<<10)} }
	return v, nil
}

// Verify tells who signed r with the given body, which must be the whole body as
// it came. The caller bounds the length of the body; all other limits are checked
// here, before anything is parsed. r is not changed and its Body not read.
//
// A request that is refused gives an [*Error]; any other error comes from
// [Keys], wrapped.
func (v *Verifier) Verify(r *http.Request, body []byte) (Identity, error) {
	s := v.scratch.Get().(*scratch)
	defer v.release(s)
	c, err := v.claim(r, s)
	if err == nil {
		err = v.checkScope(c)
	}
	if err == nil {
		err = v.checkTime(c)
	}
	if err == nil {
		err = v.gatherHeaders(r, c, s)
	}
	if err != nil {
		return Identity{}, blame(err, c)
	}
	payload, err := payloadHash(r, c, s, body)
	if err == nil {
		err = s.canonicalRequest(r, c, payload)
	}
	if err != nil {
		return Identity{}, blame(err, c)
	}
	id, err := v.checkSignature(r, c, s)
	return id, blame(err, c)
}

// blame notes in a refusal which access key the request claimed.
func blame(err error, c claim) error {
	if e, ok := errors.AsType[*Error](err); ok {
		e.AccessKeyID = c.accessKeyID
	}
	return err
}

// Wipe forgets all signing keys, so that each secret is asked for again.
func (v *Verifier) Wipe() { v.cache.wipe() }

func (v *Verifier) release(s *scratch) {
	s.reset()
	v.scratch.Put(s)
}
