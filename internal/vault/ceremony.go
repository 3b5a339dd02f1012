package vault

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"cardea/internal/audit"
	"cardea/internal/custodian"
	"cardea/internal/iam"
	"cardea/internal/secret"
)

// Ceremonies make and replace the custodians of tenants' master keys.
type Ceremonies struct {
	gate  *Gate
	store Custody
}

// NewCeremonies joins the custody store with the gate.
func NewCeremonies(g *Gate, store Custody) *Ceremonies { return &Ceremonies{gate: g, store: store} }

// Terms say among whom a custodian key is divided.
type Terms struct {
	Form       custodian.Form
	Threshold  int      // how many must agree
	Custodians []string // one part each, in this order
}

// validate refuses one custodian with two parts (PCI DSS 3.7.6). The rest is
// checked by package custodian.
func (t Terms) validate() error {
	seen := map[string]bool{}
	for _, name := range t.Custodians {
		lower := strings.ToLower(name)
		if seen[lower] {
			return &ValidationError{Field: "custodian", Reason: fmt.Sprintf("%q is named twice: each custodian has one part", name)}
		}
		seen[lower] = true
	}
	return nil
}

// Handout is what one custodian gets, once, on paper or into a safe of his own.
// Nobody can make it again.
type Handout struct {
	Custodian string
	Part      custodian.Part
	Token     secret.Bytes // authenticates him to a server
}

// Destroy wipes the part and the token.
func (h Handout) Destroy() {
	h.Part.Destroy()
	h.Token.Destroy()
}

// Errors of ceremonies.
var (
	// ErrSealed says that a tenant has a master key already.
	ErrSealed = errors.New("tenant has a master key already")
	// ErrUncertain says that a ceremony may or may not have come into force: the
	// store was lost in the middle. The handouts come with it, and only one set of
	// parts will open the tenant: keep the old and the new until it is known which.
	ErrUncertain = errors.New("it is not known whether the new parts are in force: keep the old and the new ones")
)

// Init makes a master key for a tenant that has none and divides it. The caller
// hands out and destroys the handouts. Errors: ErrSealed, ErrUncertain (with
// handouts), *ValidationError, those of package custodian for terms that are not
// allowed, those of Custody.
func (c *Ceremonies) Init(ctx context.Context, who iam.Principal, tenant string, terms Terms) ([]Handout, error) {
	return c.hold(ctx, who, OpCustodianInit, tenant, terms, func() (custodian.Seal, []custodian.Part, error) {
		if err := c.unsealed(ctx, tenant); err != nil {
			return custodian.Seal{}, nil, err
		}
		seal, master, parts, err := custodian.NewSeal(tenant, terms.Form, len(terms.Custodians), terms.Threshold)
		master.Destroy() // it wraps nothing yet
		return seal, parts, err
	})
}

// Adopt is Init for a master key that exists, such as one of the locker's. The
// caller keeps master.
func (c *Ceremonies) Adopt(ctx context.Context, who iam.Principal, tenant string, master secret.Bytes, terms Terms) ([]Handout, error) {
	return c.hold(ctx, who, OpCustodianInit, tenant, terms, func() (custodian.Seal, []custodian.Part, error) {
		if err := c.unsealed(ctx, tenant); err != nil {
			return custodian.Seal{}, nil, err
		}
		return custodian.SealMaster(tenant, master, terms.Form, len(terms.Custodians), terms.Threshold)
	})
}

// unsealed returns ErrSealed if the tenant has a master key.
func (c *Ceremonies) unsealed(ctx context.Context, tenant string) error {
	_, err := c.store.MasterSeal(ctx, tenant)
	switch {
	case err == nil:
		return ErrSealed
	case errors.Is(err, ErrNotFound):
		return nil
	}
	return err
}

// Rekey divides a tenant's master key anew, with a quorum of the old parts. The
// old parts and tokens are of no use afterwards; what the master key protects
// stays as it is. Errors: ErrNotFound without a seal, ErrConflict if another
// ceremony was faster, and those of Init but ErrSealed.
func (c *Ceremonies) Rekey(ctx context.Context, who iam.Principal, tenant string, parts []custodian.Part, terms Terms) ([]Handout, error) {
	return c.hold(ctx, who, OpCustodianRekey, tenant, terms, func() (custodian.Seal, []custodian.Part, error) {
		old, err := c.Seal(ctx, tenant)
		if err != nil {
			return custodian.Seal{}, nil, err
		}
		return custodian.Rekey(old, parts, terms.Form, len(terms.Custodians), terms.Threshold)
	})
}

// Seal returns the tenant's seal. Errors: ErrNotFound, ErrCorrupt,
// custodian.ErrTokenSeal if a token has it.
func (c *Ceremonies) Seal(ctx context.Context, tenant string) (custodian.Seal, error) {
	row, err := c.store.MasterSeal(ctx, tenant)
	if err != nil {
		return custodian.Seal{}, fmt.Errorf("seal of tenant %q: %w", tenant, err)
	}
	var s custodian.Seal
	err = s.UnmarshalBinary(row.Blob)
	if errors.Is(err, custodian.ErrTokenSeal) {
		return custodian.Seal{}, fmt.Errorf("seal of tenant %q: %w", tenant, err)
	}
	if err != nil {
		return custodian.Seal{}, fmt.Errorf("seal of tenant %q: %w: %w", tenant, ErrCorrupt, err)
	}
	return s, nil
}

// hold performs a ceremony: the new seal, the new credentials and the entry
// become durable together.
func (c *Ceremonies) hold(ctx context.Context, who iam.Principal, op *Operation, tenant string, terms Terms,
	divide func() (custodian.Seal, []custodian.Part, error),
) ([]Handout, error) {
	var out []Handout
	t := Target{Tenant: tenant, RequestID: RequestID(ctx)}
	err := c.gate.do(ctx, who, op, t, func(call *call) error {
		if err := terms.validate(); err != nil {
			return err
		}
		seal, parts, err := divide()
		if err != nil {
			return err
		}
		var credentials []custodian.Credential
		out, credentials = handouts(tenant, terms.Custodians, parts, c.gate.Now())
		for _, cr := range credentials {
			if err := cr.Validate(); err != nil {
				return &ValidationError{Field: "custodian", Reason: err.Error()}
			}
		}
		return c.save(ctx, call, seal, tenant, terms, credentials)
	})
	if err != nil && !errors.Is(err, ErrUncertain) {
		for _, h := range out {
			h.Destroy()
		}
		return nil, err
	}
	return out, err
}

func (c *Ceremonies) save(ctx context.Context, call *call, seal custodian.Seal, tenant string, terms Terms, credentials []custodian.Credential) error {
	blob, err := seal.MarshalBinary()
	if err != nil {
		return fmt.Errorf("encode seal: %w", err)
	}
	info := seal.Info()
	call.entry.Detail = fmt.Sprintf("%s, %d of %d, generation %d, custodians %v", info.Form, info.Threshold, info.Shares, info.Generation, terms.Custodians)
	_, err = call.commit(ctx, "sealed", func(ctx context.Context, e audit.Sealed) (bool, error) {
		row := MasterSeal{Tenant: tenant, Generation: info.Generation, Blob: blob, CreatedAt: c.gate.now()}
		err := c.store.Update(ctx, func(tx CustodyTx) error {
			if err := tx.PutMasterSeal(row); err != nil {
				return err
			}
			if err := tx.PutCredentials(tenant, credentials); err != nil {
				return err
			}
			tx.Append(e)
			return nil
		})
		return err == nil, verdict(row, err)
	})
	return err
}

// verdict is what the error of an update means for row.
func verdict(row MasterSeal, err error) error {
	switch {
	case errors.Is(err, ErrConflict) && row.Generation == 1:
		return ErrSealed
	case errors.Is(err, ErrConflict):
		return fmt.Errorf("another ceremony of tenant %q was faster: %w", row.Tenant, err)
	case errors.Is(err, ErrUnavailable):
		// Destroying parts that are in force would lose the master key.
		return fmt.Errorf("%w: %w", ErrUncertain, err)
	}
	return err
}

func handouts(tenant string, names []string, parts []custodian.Part, now time.Time) ([]Handout, []custodian.Credential) {
	out := make([]Handout, len(parts))
	credentials := make([]custodian.Credential, len(parts))
	for i, p := range parts {
		token, hash := custodian.NewToken()
		out[i] = Handout{Custodian: names[i], Part: p, Token: token}
		credentials[i] = custodian.Credential{Tenant: tenant, Name: names[i], TokenHash: hash, ShareIndex: p.Index(), CreatedAt: now.UTC().Truncate(time.Microsecond)}
	}
	return out, credentials
}
