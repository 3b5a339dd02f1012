package vault

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"cardea/internal/iam"
)

// KeyAction is what a job does to a key version before it moves records.
type KeyAction string

// The actions.
const (
	ActionNone   KeyAction = "none"
	ActionRotate KeyAction = "rotate" // a new version takes its place
	ActionRewrap KeyAction = "rewrap" // its material stays, and is kept in another way
	ActionDrain  KeyAction = "drain"  // its records are moved; it stays, for when the mode is set back
	ActionSift   KeyAction = "sift"   // its records that fit into KMS are moved there; it stays for the others
	ActionRetire KeyAction = "retire" // it is replaced already, its records are moved and it is retired
)

// KeyMove is a key version and what is to happen to it.
type KeyMove struct {
	KeyInfo
	Action KeyAction `json:"action"`
}

// Reasons of jobs.
const (
	ReasonOperator     = "operator"
	ReasonCryptoperiod = "cryptoperiod"
	ReasonMessages     = "message limit"
	ReasonMode         = "mode"
	ReasonCompromise   = "compromise"
)

// planned is a key version with its action.
type planned struct {
	WrappedKey
	action KeyAction
}

// idle says whether nothing is to be done after all, with so many records to move: a fingerprint's key stays as long as it finds one, and an unused key forever.
func (p *planned) idle(records int64) bool {
	switch p.action {
	case ActionRetire:
		return p.Purpose == PurposeFingerprint && records > 0
	case ActionDrain, ActionSift:
		return records == 0
	case ActionNone, ActionRotate, ActionRewrap:
	}
	return false
}

// plan says what a job has to do to each key version of its tenant. It changes
// nothing.
func (a *KeyAdmin) plan(inv []WrappedKey, t Tenant, j *Job) []planned {
	byVersion(inv)
	out := make([]planned, len(inv))
	for i, w := range inv {
		out[i] = planned{w, ActionNone}
		switch {
		case j.Holder != "" && (w.Holder != j.Holder || w.Purpose != PurposeRecord):
		case w.replaceable():
			out[i].action = a.planMoved(w, t, j)
		default:
			out[i].action = a.planHash(w, t)
		}
	}
	return out
}

// planMoved is for keys from under which records are moved.
func (a *KeyAdmin) planMoved(w WrappedKey, t Tenant, j *Job) KeyAction {
	used := (t.Mode == ModeKMS) == (w.Purpose == PurposeDirect)
	oversize := !used && a.o.Keys.Current(w) // for records that are too long for KMS
	switch {
	case w.State == KeyDecryptOnly:
		return ActionRetire
	case w.State != KeyActive:
		return ActionNone
	case oversize && a.due(w, j):
		return ActionRotate
	case oversize:
		return ActionSift
	case !used:
		return ActionDrain
	case !a.o.Keys.Current(w), a.due(w, j):
		return ActionRotate
	}
	return ActionNone
}

// planHash is for the keys of keyed hashes. Their material moves if it can: a
// fingerprint cannot be computed again without its card.
func (a *KeyAdmin) planHash(w WrappedKey, t Tenant) KeyAction {
	current := a.o.Keys.Current(w)
	switch {
	case w.State != KeyActive && w.State != KeyDecryptOnly:
		return ActionNone
	case w.State == KeyActive && w.Mode != ModeKMS && t.Mode == ModeKMS && t.HashesInKMS,
		w.State == KeyActive && w.Mode == ModeKMS && !current:
		return ActionRotate
	case w.Mode != ModeKMS && !current:
		return ActionRewrap
	case w.State == KeyDecryptOnly:
		return ActionRetire
	}
	return ActionNone
}

// due says whether a job has to replace an active key for its own sake.
func (a *KeyAdmin) due(w WrappedKey, j *Job) bool {
	switch j.Reason {
	case ReasonMode:
		return false
	case ReasonCryptoperiod, ReasonMessages:
		_, is := a.overdue(w)
		return is
	}
	return w.CreatedAt < j.CreatedAt
}

// overdue says whether and why a key is to be replaced by itself.
func (a *KeyAdmin) overdue(w WrappedKey) (reason string, is bool) {
	p := a.o.Policy(w.Tenant)
	switch {
	case w.State != KeyActive || !w.replaceable():
	case p.Cryptoperiod > 0 && a.gate.Now().Sub(w.CreatedAt.Time()) >= p.Cryptoperiod:
		return ReasonCryptoperiod, true
	case p.MessageLimit > 0 && w.Sealed >= p.MessageLimit && w.Purpose == PurposeRecord:
		return ReasonMessages, true // in mode aws_kms KMS counts itself
	}
	return "", false
}

// schedule begins the jobs that are due by themselves (PCI DSS 3.7.4).
func (a *KeyAdmin) schedule(ctx context.Context) {
	for _, tenant := range a.gate.Tenants.Names() {
		if a.gate.Tenants.usable(tenant) != nil || !a.o.Custodians.Unlocked(tenant) {
			continue
		}
		if err := a.scheduleTenant(ctx, tenant); err != nil && ctx.Err() == nil {
			a.gate.Logger.WarnContext(ctx, "keys that are due not looked for", slog.String("tenant", tenant), slog.Any("error", err))
		}
	}
}

func (a *KeyAdmin) scheduleTenant(ctx context.Context, tenant string) error {
	if p := a.o.Policy(tenant); p.Cryptoperiod == 0 && p.MessageLimit == 0 {
		return nil
	}
	inv, err := a.o.Store.Inventory(ctx, tenant)
	if err != nil {
		return err
	}
	for _, w := range inv {
		reason, is := a.overdue(w)
		if !is || !a.o.Keys.Current(w) { // until the tenant is migrated, its keys are not as they should be anyway
			continue
		}
		j := a.newJob(JobReencrypt, tenant, "", iam.System("key-schedule"))
		j.Reason, j.Retire = reason, true
		_, _, err := a.begin(ctx, iam.System("key-schedule"), j, fmt.Sprintf("key %s version %d is due: %s", w.ID, w.Version, reason))
		return err // one job replaces all that are due
	}
	return nil
}

// Age is how old a key version is.
func (k KeyInfo) Age(now time.Time) time.Duration { return now.Sub(k.Created) }

// toMove counts the records that an action moves from under a key.
func (a *KeyAdmin) toMove(ctx context.Context, w WrappedKey, action KeyAction) (int64, error) {
	if action != ActionSift {
		return a.count(ctx, w)
	}
	var n, after int64
	for {
		rows, err := a.o.Store.RecordsUnder(ctx, w.version(), after, jobBatch)
		if err != nil || len(rows) == 0 {
			return n, err
		}
		for i := range rows {
			if !a.o.Keys.Stays(w.Tenant, rows[i].sealed()) {
				n++
			}
		}
		after = rows[len(rows)-1].Row
	}
}
