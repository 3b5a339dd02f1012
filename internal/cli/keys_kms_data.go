package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"cardea/internal/adminapi"
	"cardea/internal/config"
	"cardea/internal/lifecycle"
	"cardea/internal/vault"
)

// vaultData are the records of a running vault, as what is under keys of a key
// service.
type vaultData struct {
	*runningVault
	p   *Process
	cfg config.Config
}

// dataOf is the data of an installation's vault, nil if it has no vault.
func dataOf(ctx context.Context, p *Process, j journal, cfg config.Config) (lifecycle.Data, error) {
	if cfg.Vault.Listen == "" {
		return nil, nil //nolint:nilnil // no vault is no error
	}
	v, err := vaultFlags(j).connect(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("which of the vault's records are under the key must be known: %w", err)
	}
	return &vaultData{v, p, cfg}, nil
}

// Under implements lifecycle.Data.
func (d *vaultData) Under(ctx context.Context, arn string) (under []vault.KeyInfo, err error) {
	for _, tenant := range d.status.Tenants {
		keys, err := d.keys(ctx, vault.KeyQuery{Tenant: tenant, Count: true})
		if err != nil {
			return nil, err
		}
		for _, k := range keys {
			if sameKey(k.KMSKey, arn) && (k.State == vault.KeyActive || k.State == vault.KeyDecryptOnly || k.Records > 0) {
				under = append(under, k)
			}
		}
	}
	return under, nil
}

// sameKey says whether a name, an ARN or an id, is of the key with an ARN.
func sameKey(name, arn string) bool {
	return name == arn || name != "" && strings.HasSuffix(arn, ":key/"+name)
}

// Move implements lifecycle.Data. A migration that is under way is waited for, so that
// a command that was cut off goes on.
func (d *vaultData) Move(ctx context.Context, tenant, from, to string) (lifecycle.Moved, error) {
	m := lifecycle.Moved{Tenant: tenant}
	if err := d.configured(ctx, tenant, from, to); err != nil {
		return m, err
	}
	j, err := d.migration(ctx, tenant)
	if err != nil || j == nil {
		return m, err
	}
	if j, err = d.follow(ctx, d.p, j.ID); err != nil {
		return m, err
	}
	m.Job, m.Records, m.Verified = j.ID, j.Moved, j.Verified
	switch {
	case j.State == vault.JobFailed:
		return m, fmt.Errorf("job %s: %s", j.ID, printable(j.Error))
	case j.Bad > 0:
		return m, fmt.Errorf("%w: %d records do not open: job %s, 'cardea audit show' names them", lifecycle.ErrValidation, j.Bad, j.ID)
	}
	return m, d.sealedUnder(ctx, tenant, from)
}

// migration is the one that is under way, or a new one; nil if there is nothing to
// migrate.
func (d *vaultData) migration(ctx context.Context, tenant string) (*adminapi.Job, error) {
	var jobs adminapi.List[*adminapi.Job]
	if err := d.call(ctx, "vault/Jobs", &adminapi.TenantReason{Tenant: tenant}, &jobs); err != nil {
		return nil, err
	}
	for _, j := range jobs.Items {
		if !j.Ended() && j.Tenant == tenant && j.Holder == "" && j.Reason == vault.ReasonMode {
			return j, nil
		}
	}
	var plan adminapi.List[vault.KeyMove]
	if err := d.call(ctx, "vault/Plan", &adminapi.TenantReason{Tenant: tenant}, &plan); err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(plan.Items, func(k vault.KeyMove) bool { return k.Action != vault.ActionNone }) {
		return nil, nil //nolint:nilnil // what stays cannot be moved
	}
	j := &adminapi.Job{}
	return j, d.call(ctx, "vault/Migrate", &vault.JobRequest{Tenant: tenant, Verify: true}, j)
}

// configured says what to set before data can be moved: in the configuration that this
// command has read, and in that which the vault has taken up.
func (d *vaultData) configured(ctx context.Context, tenant, from, to string) error {
	t, ok := d.cfg.Tenants[tenant]
	if ok && (sameKey(t.KMS.KeyID, from) || sameKey(t.KMS.MACKeyID, from) || !slices.Contains(t.KMS.PreviousKeyIDs, from)) {
		member := "key_id"
		if sameKey(t.KMS.MACKeyID, from) || sameKey(t.KMS.MACKeyID, to) {
			member = "mac_key_id"
		}
		previous := slices.Clone(t.KMS.PreviousKeyIDs)
		if !slices.Contains(previous, from) {
			previous = append(previous, from)
		}
		for i, p := range previous {
			previous[i] = fmt.Sprintf("%q", p)
		}
		return fmt.Errorf("%w: set tenants.%s.kms.%s = %q and kms.previous_key_ids = [%s] on every node, let the nodes take it up, then run this again", lifecycle.ErrConfigure, tenant, member, to, strings.Join(previous, ", "))
	}
	// The vault looks at its files every few seconds.
	for range 20 {
		keys, err := d.keys(ctx, vault.KeyQuery{Tenant: tenant})
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(keys, func(k vault.KeyInfo) bool { return k.Current && k.State == vault.KeyActive && sameKey(k.KMSKey, from) }) {
			return nil
		}
		if err := d.p.sleep(ctx, time.Second); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: tenant %s: the node that answers has not taken up its new configuration: its log says why ('systemctl reload cardea' asks for it); then run this again", lifecycle.ErrConfigure, tenant)
}

// sealedUnder checks that what is stored from now on is not under the old key.
func (d *vaultData) sealedUnder(ctx context.Context, tenant, from string) error {
	keys, err := d.keys(ctx, vault.KeyQuery{Tenant: tenant})
	if err != nil {
		return err
	}
	for _, k := range keys {
		if k.State == vault.KeyActive && sameKey(k.KMSKey, from) && k.Current {
			return fmt.Errorf("%w: new records of tenant %s are still under %s", lifecycle.ErrValidation, tenant, from)
		}
	}
	return nil
}
