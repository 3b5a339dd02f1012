package vault

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/maypok86/otter/v2"

	"cardea/internal/audit"
	"cardea/internal/iam"
)

// Options are what a Service is made of. All fields but Logger, Now and
// HolderCache are required.
type Options struct {
	Gate        *Gate
	Store       Store
	Keys        KeyManager
	Custodians  Custodians
	HolderCache int // merchants and entities kept in memory; default 100,000, about 250 bytes each
}

// Service is the card vault. It is safe for concurrent use.
type Service struct {
	*Gate
	store      Store
	keys       KeyManager
	custodians Custodians
	holders    *otter.Cache[holderKey, Holder]
	forgot     atomic.Uint64 // how often forgetHolders was called
	hashes     hasher
}

// hasher makes keyed hashes under every version of a key that there may be hashes of.
type hasher interface {
	MACs(ctx context.Context, tenant string, p Purpose, parts ...[]byte) ([]VersionMAC, error)
}

// oneVersion is a hasher of a key manager whose keys are never replaced.
type oneVersion struct{ KeyManager }

func (o oneVersion) MACs(ctx context.Context, tenant string, p Purpose, parts ...[]byte) ([]VersionMAC, error) {
	m, err := o.MAC(ctx, tenant, p, parts...)
	return []VersionMAC{{Version: 1, MAC: m}}, err
}

type holderKey struct{ tenant, name string }

// holderTTL bounds how long a node may seal new records for an entity whose
// secret another node has destroyed.
const holderTTL = time.Minute

// NewService joins the parts.
func NewService(o Options) (*Service, error) {
	if o.HolderCache == 0 {
		o.HolderCache = 100_000
	}
	holders, err := otter.New(&otter.Options[holderKey, Holder]{
		MaximumSize:      o.HolderCache,
		ExpiryCalculator: otter.ExpiryWriting[holderKey, Holder](holderTTL),
	})
	if err != nil {
		return nil, fmt.Errorf("holder cache: %w", err)
	}
	hashes, ok := o.Keys.(hasher)
	if !ok {
		hashes = oneVersion{o.Keys}
	}
	return &Service{Gate: o.Gate, store: o.Store, keys: o.Keys, custodians: o.Custodians, holders: holders, hashes: hashes}, nil
}

// Close forgets the merchants and entities in memory and ends the goroutine that
// looks after them. The other parts are their makers' to close.
func (s *Service) Close() {
	s.holders.InvalidateAll()
	s.holders.StopAllGoroutines()
}

// requestIDKey is the context key of the request id, the one value besides
// deadlines that a context carries.
type requestIDKey struct{}

// WithRequestID puts the id under which a request is known into ctx.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestIDKey{}, id)
}

// RequestID is the id that WithRequestID put there, or empty.
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// Ready returns nil if the tenant exists, is not suspended and is unlocked, else
// ErrUnknownTenant, ErrSuspended or ErrLocked. Transports ask before they read a body.
func (s *Service) Ready(tenant string) error {
	if _, err := s.Tenants.Tenant(tenant); err != nil {
		return err
	}
	if err := s.Tenants.usable(tenant); err != nil {
		return err
	}
	if !s.custodians.Unlocked(tenant) {
		return fmt.Errorf("tenant %q: %w", tenant, ErrLocked)
	}
	return nil
}

// AwaitsCustodians reports whether a tenant that is ready without custodians has
// some nevertheless, of records from before, who have not unlocked those.
func (s *Service) AwaitsCustodians(tenant string) bool {
	a, ok := s.custodians.(interface{ Awaits(tenant string) bool })
	return ok && a.Awaits(tenant)
}

// do is Gate.do for the operations of the service: those that touch what is
// stored are refused while the tenant is locked.
func (s *Service) do(ctx context.Context, who iam.Principal, op *Operation, t Target, act func(*call) error) error {
	return s.Gate.do(ctx, who, op, t, func(c *call) error {
		if !op.Sealed && !s.custodians.Unlocked(t.Tenant) {
			return fmt.Errorf("tenant %q: %w", t.Tenant, ErrLocked)
		}
		return act(c)
	})
}

// Refuse records a request that failed before it became an operation of the
// vault, because its sender or its form was not acceptable, and returns cause. op
// is what it asked for. If the entry cannot be written, the error is
// ErrUnavailable and not cause.
func (s *Service) Refuse(ctx context.Context, who iam.Principal, op *Operation, t Target, cause error) error {
	c := s.begin(who, op, t)
	c.outcome(cause)
	if err := c.append(ctx); err != nil {
		return err
	}
	return cause
}

// Record writes the entry of an event that Cardea itself or its operator causes,
// such as opening the log.
func (g *Gate) Record(ctx context.Context, who iam.Principal, op *Operation, t Target, result, detail string) error {
	return g.do(ctx, who, op, t, func(c *call) error {
		c.entry.Result, c.entry.Detail = result, detail
		return nil
	})
}

// RecordChange is Record of a change that write makes, in one transaction with the
// entry. If write fails, that is what is recorded.
func (g *Gate) RecordChange(ctx context.Context, who iam.Principal, op *Operation, t Target, result, detail string, write func(context.Context, audit.Sealed) error) error {
	return g.do(ctx, who, op, t, func(c *call) error {
		c.entry.Detail = detail
		_, err := c.commit(ctx, result, func(ctx context.Context, e audit.Sealed) (bool, error) {
			err := write(ctx, e)
			return err == nil, err
		})
		return err
	})
}

// expiry turns a time to live in seconds into the time after which a record is
// expired; nil is never. Huge values saturate at the end of year 9999.
func (s *Service) expiry(now Micros, ttl *uint64) (Micros, error) {
	if ttl == nil {
		return 0, nil
	}
	if *ttl == 0 {
		return 0, &ValidationError{Field: "ttl", Reason: "TTL is invalid"}
	}
	const end = Micros(253402300799_000000)
	if *ttl > uint64(end)/1e6 {
		return end, nil
	}
	return min(end, now+Micros(*ttl)*1e6), nil
}

// now is the clock in the unit that is stored.
func (g *Gate) now() Micros { return MicrosOf(g.Now()) }

// checkID validates a merchant, customer, entity or reference id.
func checkID(field, v string) error {
	if v == "" {
		return &ValidationError{Field: field, Reason: "must not be empty"}
	}
	if strings.IndexByte(v, 0) >= 0 {
		return &ValidationError{Field: field, Reason: "must not contain a NUL character"} // PostgreSQL text has none
	}
	if !utf8.ValidString(v) {
		return &ValidationError{Field: field, Reason: "must be UTF-8"}
	}
	if utf8.RuneCountInString(v) > MaxID {
		return &ValidationError{Field: field, Reason: fmt.Sprintf("longer than %d characters", MaxID)}
	}
	return nil
}
