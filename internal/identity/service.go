package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"cardea/internal/custodian"
	"cardea/internal/iam"
	"cardea/internal/secret"
	"cardea/internal/turns"
)

// Options of a Service. Node, Store and Secrets are required.
type Options struct {
	Node    string // name in the audit log
	Store   Store
	Secrets Secrets
	Region  string // of requests that name none, in the audit log; default us-east-1

	// MaxFailures is after how many failed authentications of an access key in a
	// row, with never more than FailureWindow between two of them, the key is locked
	// for half an hour: 1 to 10, which is the default (PCI DSS 8.3.4).
	MaxFailures   int
	FailureWindow time.Duration // default 15 min

	Issuer string // name in the authenticator app; default Cardea

	RefreshEvery time.Duration    // how often RunJobs asks for changes by other nodes; default 1 s
	Now          func() time.Time // default time.Now
	Logger       *slog.Logger     // default discards
}

// Service knows the identities and performs the operations on them. It is safe for
// concurrent use. It implements sigv4.Keys.
type Service struct {
	node         string
	store        Store
	secrets      Secrets
	region       string
	issuer       string
	refreshEvery time.Duration
	now          func() time.Time
	log          *slog.Logger
	guard        *custodian.Guard
	guarded      atomic.Bool // the guard has counted a failure of an access key
	maxFailures  int
	anew         *turns.Turns

	identities *otter.Cache[Name, any]     // *principal, *group
	creds      *otter.Cache[string, *live] // by access key id
	policies   *policyCache                // parsed documents
	gen        atomic.Uint64               // see forget
	accounts   atomic.Pointer[accountSet]  // all of them
	mu         sync.Mutex                  // guards epoch, writes to the caches and to gen and accounts
	epoch      uint64                      // counts calls of forget
	refresh    sync.Mutex                  // held by Refresh; guards seen
	seen       int64                       // last change known
}

type accountSet map[string]struct{}

// Sizes of the caches. An identity takes a few KiB, a credential less than one.
const (
	cachedIdentities  = 20_000
	cachedCredentials = 50_000
	cachedPolicies    = 10_000
)

// New makes a service and reads which accounts there are. Call RunJobs to see what
// other nodes change.
func New(ctx context.Context, o Options) (*Service, error) {
	if o.Node == "" || o.Store == nil || o.Secrets == nil {
		return nil, errors.New("identity: Node, Store and Secrets are required")
	}
	s := &Service{
		node: o.Node, store: o.Store, secrets: o.Secrets, region: o.Region, issuer: o.Issuer, refreshEvery: o.RefreshEvery,
		now: o.Now, log: o.Logger, maxFailures: o.MaxFailures, anew: turns.New(),
		identities: otter.Must(&otter.Options[Name, any]{MaximumSize: cachedIdentities}),
		creds:      otter.Must(&otter.Options[string, *live]{MaximumSize: cachedCredentials}),
		policies:   newPolicyCache(cachedPolicies),
	}
	if s.now == nil {
		s.now = time.Now //nolint:forbidigo // the default of the injected clock
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.region == "" {
		s.region = "us-east-1"
	}
	if s.issuer == "" {
		s.issuer = "Cardea"
	}
	if s.refreshEvery <= 0 {
		s.refreshEvery = time.Second
	}
	if s.maxFailures == 0 {
		s.maxFailures = 10
	}
	if o.FailureWindow == 0 {
		o.FailureWindow = 15 * time.Minute
	}
	var err error
	s.guard, err = custodian.NewGuard(custodian.GuardOptions{Now: s.now, MaxFailures: s.maxFailures, Window: o.FailureWindow})
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	if _, s.seen, err = s.store.Changes(ctx, -1); err != nil {
		return nil, fmt.Errorf("identity: read the number of the last change: %w", err)
	}
	if err := s.loadAccounts(ctx); err != nil {
		return nil, fmt.Errorf("identity: list accounts: %w", err)
	}
	return s, nil
}

// Labels bind what is sealed to what it belongs to: no row opens with the secret
// of another.
func secretLabel(kind Kind, account, name string) string {
	return "cardea identity v1 " + string(kind) + " " + account + " " + name
}

// seal seals a secret for a row.
func (s *Service) seal(ctx context.Context, kind Kind, account, name string, plaintext secret.Bytes) ([]byte, error) {
	sealed, err := s.secrets.SealSecret(ctx, secretLabel(kind, account, name), plaintext)
	if err != nil {
		return nil, broken(CodeServiceUnavailable, "The secret cannot be stored now: the root key of the key service is not available.", err)
	}
	return sealed, nil
}

func (s *Service) loadAccounts(ctx context.Context) error {
	s.mu.Lock()
	epoch := s.epoch
	s.mu.Unlock()
	all := accountSet{}
	for after := ""; ; {
		rows, err := s.store.List(ctx, kindAccount, "", after, pageSize)
		if err != nil {
			return err
		}
		for _, r := range rows {
			all[r.Name], after = struct{}{}, r.Name
		}
		if len(rows) < pageSize {
			break
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epoch == epoch || s.accounts.Load() == nil {
		s.accounts.Store(&all)
	}
	return nil
}

// pageSize is how many rows are read at once.
const pageSize = 1000

// HasAccount reports whether the account exists. It is false too if nobody can tell,
// which is logged.
func (s *Service) HasAccount(ctx context.Context, account string) bool {
	if _, found := (*s.accounts.Load())[account]; found || !isAccount(account) {
		return found
	}
	_, err := s.store.Get(ctx, kindAccount, "", account) // another node may have made it a moment ago
	if err != nil && !errors.Is(err, ErrNoRow) {
		s.log.ErrorContext(ctx, "account not read", slog.Any("error", err))
	}
	return err == nil
}

// Exists reports whether there is a principal with the ARN: an account's root, a
// user, a role, or a role's session, of which only the role is looked for. It is
// false too if nobody can tell, which is logged.
func (s *Service) Exists(ctx context.Context, arn string) bool {
	a, err := iam.ParseARN(arn)
	if err != nil || !s.HasAccount(ctx, a.Account) {
		return false
	}
	if arn == rootARN(a.Account) {
		return true
	}
	kind, name, ok := principalOf(a)
	if !ok {
		return false
	}
	p, err := s.principal(ctx, kind, a.Account, name)
	if err != nil {
		if !errors.Is(err, ErrNoRow) {
			s.log.ErrorContext(ctx, "identity not read", slog.Any("error", err))
		}
		return false
	}
	return a.Service == "sts" || p.arn == arn
}

// PrincipalID is the unique id of the user or role with the ARN, or of a session's
// role, "" if there is none. It is never given to another, as a name can be.
func (s *Service) PrincipalID(ctx context.Context, arn string) (string, error) {
	id, ok, err := s.idOf(ctx, arn)
	if !ok || err != nil {
		return "", err
	}
	return id, nil
}
