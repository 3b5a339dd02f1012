package vault

import (
	"context"
	"fmt"
	"unicode/utf8"

	"cardea/internal/audit"
	"cardea/internal/iam"
)

// maxReason is the longest reason that an operator gives, in characters.
const maxReason = 200

// Suspend refuses a tenant every operation but those of its operator, on all
// nodes and also after a restart, and wipes its keys from memory: here at once,
// elsewhere within two seconds. Errors: *ValidationError, *Refusal if it is
// suspended already, ErrUnknownTenant and those of the store.
func (a *KeyAdmin) Suspend(ctx context.Context, who iam.Principal, tenant, reason string) error {
	err := a.do(ctx, who, OpSuspend, tenant, "", func(c *call) error {
		if err := checkReason(reason); err != nil {
			return err
		}
		c.entry.Detail = reason
		applied, err := c.commit(ctx, "suspended", func(ctx context.Context, e audit.Sealed) (bool, error) {
			return a.o.Store.Suspend(ctx, tenant, reason, a.gate.now(), e)
		})
		if err == nil && !applied {
			return &Refusal{Result: "suspended", Reason: fmt.Sprintf("tenant %s is suspended already", tenant)}
		}
		return err
	})
	return a.suspensionChanged(ctx, err)
}

// Resume ends a suspension. In mode local the tenant's custodians have to unlock
// it again.
func (a *KeyAdmin) Resume(ctx context.Context, who iam.Principal, tenant, reason string) error {
	err := a.do(ctx, who, OpResume, tenant, "", func(c *call) error {
		if err := checkReason(reason); err != nil {
			return err
		}
		c.entry.Detail = reason
		applied, err := c.commit(ctx, "resumed", func(ctx context.Context, e audit.Sealed) (bool, error) {
			return a.o.Store.Resume(ctx, tenant, e)
		})
		if err == nil && !applied {
			return &Refusal{Result: "not_suspended", Reason: fmt.Sprintf("tenant %s is not suspended", tenant)}
		}
		return err
	})
	return a.suspensionChanged(ctx, err)
}

// suspensionChanged takes a change over on this node.
func (a *KeyAdmin) suspensionChanged(ctx context.Context, err error) error {
	if err != nil {
		return err
	}
	ctx, cancel := lasting(ctx)
	defer cancel()
	a.pollMu.Lock()
	defer a.pollMu.Unlock()
	return a.loadSuspended(ctx)
}

func checkReason(reason string) error {
	if reason == "" {
		return &ValidationError{Field: "reason", Reason: "must not be empty: the audit log tells it"}
	}
	if utf8.RuneCountInString(reason) > maxReason || !utf8.ValidString(reason) {
		return &ValidationError{Field: "reason", Reason: fmt.Sprintf("must be UTF-8 of at most %d characters", maxReason)}
	}
	return nil
}
