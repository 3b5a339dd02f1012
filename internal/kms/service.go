package kms

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"cardea/internal/keyspec"
	"cardea/internal/turns"
)

// Options of a Service. Node, Store, Soft, Secrets, Accounts and Regions are required.
type Options struct {
	Node      string // name in the audit log
	Store     Store
	Soft      Backend // of keys that are in no custom key store
	Secrets   Secrets
	KeyStores KeyStores // nil: there are no clusters

	// Accounts tells whether an account exists here, and Principal whether a
	// principal's ARN does: policies and grants that name others are refused.
	Accounts  func(ctx context.Context, account string) bool
	Principal func(ctx context.Context, arn string) bool
	// PrincipalID is the unique id of the user or role that a principal's ARN names, ""
	// if it names none; without it grants hold on to names alone.
	PrincipalID func(ctx context.Context, arn string) (string, error)
	Regions     []string

	DualControl DualControl // the zero value asks for no approvals

	// JobInterval is how often RunJobs looks for what others have changed; for what
	// time has brought it looks half as often. Default 500 ms.
	JobInterval time.Duration

	Now    func() time.Time // default time.Now
	Logger *slog.Logger     // default discards
	Limits Limits           // zero members are AWS's
}

// Limits are AWS's resource quotas, in things a key or a Region.
type Limits struct {
	Keys              int // in an account and Region; 100,000
	Aliases           int // a key; 50
	Grants            int // a key; 50,000
	KeyStores         int // 10
	OnDemandRotations int // a key; 25
}

// Service performs the operations of the KMS API. It is safe for concurrent use.
type Service struct {
	node      string
	store     Store
	soft      Backend
	secrets   Secrets
	keyStores KeyStores
	accounts  func(context.Context, string) bool
	principal func(context.Context, string) bool
	uniqueID  func(context.Context, string) (string, error)
	regions   []string
	now       func() time.Time
	log       *slog.Logger
	limits    Limits
	cache     *cache
	usage     usageBook
	calls     sync.Pool // of *call, for their memory
	connected connections
	interval  time.Duration
	postponed postponements
	anew      *turns.Turns
	making    keyMaking
	dual      DualControl
}

// New makes a service. Call RunJobs to let time pass for its keys, and Close at the end.
func New(o Options) (*Service, error) {
	if o.Node == "" || o.Store == nil || o.Soft == nil || o.Secrets == nil || o.Accounts == nil || len(o.Regions) == 0 {
		return nil, errors.New("kms: Node, Store, Soft, Secrets, Accounts and Regions are required")
	}
	if err := o.DualControl.vet(); err != nil {
		return nil, err
	}
	s := &Service{
		dual: o.DualControl, uniqueID: o.PrincipalID,
		node: o.Node, store: o.Store, soft: o.Soft, secrets: o.Secrets, keyStores: o.KeyStores, accounts: o.Accounts, principal: o.Principal,
		regions: slices.Clone(o.Regions), now: o.Now, log: o.Logger, limits: o.Limits, anew: turns.New(),
	}
	if s.now == nil {
		s.now = time.Now //nolint:forbidigo // the default of the injected clock
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.principal == nil {
		s.principal = func(context.Context, string) bool { return true }
	}
	or := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	if s.interval = o.JobInterval; s.interval <= 0 {
		s.interval = 500 * time.Millisecond
	}
	or(&s.limits.Keys, 100_000)
	or(&s.limits.Aliases, 50)
	or(&s.limits.Grants, 50_000)
	or(&s.limits.KeyStores, 10)
	or(&s.limits.OnDemandRotations, 25)
	s.cache = newCache(s.store)
	s.connected.init()
	s.making.init()
	return s, nil
}

// Close makes last uses durable and leaves custom key stores. RunJobs must have
// ended; no method may be called afterwards.
func (s *Service) Close(ctx context.Context) error {
	s.connected.close()
	return s.usage.flush(ctx, s.store)
}

// Serves reports whether the Region is one of the service's.
func (s *Service) Serves(region string) bool { return slices.Contains(s.regions, region) }

// backend is where the key's material is.
func (s *Service) backend(k *Key) (Backend, error) {
	if k.KeyStoreID == "" {
		return s.soft, nil
	}
	return s.keyStoreBackend(k)
}

// ref names material of k to its backend.
func (k *Key) ref(m *Material) MaterialRef {
	return MaterialRef{KeyID: k.ID, ID: m.ID, Spec: k.Spec, Handle: m.Handle}
}

// backendError is the API's error for one of a backend or of package keyspec.
func backendError(err error) error {
	var in *keyspec.InputError
	var own *Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &own):
		return own
	case errors.As(err, &in):
		return refuse(CodeValidation, in.Text)
	case errors.Is(err, ErrDeviceLost):
		return broken(CodeKeyUnavailable, "The device of the custom key store cannot be reached. Try again later.", err)
	case errors.Is(err, ErrSealed):
		return broken(CodeKeyUnavailable, "The key service is sealed: its root key has not been unsealed by the custodians.", err)
	case errors.Is(err, ErrNotOurs), errors.Is(err, keyspec.ErrInvalidCiphertext):
		return &Error{Code: CodeInvalidCiphertext, Reason: err.Error(), cause: err}
	case errors.Is(err, keyspec.ErrUnsupported):
		return refuse(CodeUnsupported, "The operation is not supported for the key spec.")
	case errors.Is(err, context.DeadlineExceeded):
		return broken(CodeDependencyTimeout, "The system timed out while trying to fulfill the request. You can retry the request.", err)
	default:
		return broken(CodeInternal, "The request failed inside the key service. Nothing was changed.", err)
	}
}
