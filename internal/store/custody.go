package store

import (
	"context"
	"errors"
	"time"

	"cardea/internal/audit"
	"cardea/internal/custodian"
	"cardea/internal/vault"
)

// errNoEntry is that of a change of custody that nobody would know of.
var errNoEntry = errors.New("change of custody without an audit entry")

// MasterSeal implements vault.Custody.
func (s *Store) MasterSeal(ctx context.Context, tenant string) (vault.MasterSeal, error) {
	seal := vault.MasterSeal{Tenant: tenant}
	if checkText(tenant) != nil {
		return vault.MasterSeal{}, vault.ErrNotFound
	}
	err := s.view(ctx, readOther, func(ctx context.Context, c session) error {
		var generation, created int64
		found, err := queryOne(ctx, c, []any{&generation, &seal.Blob, &created},
			"SELECT generation, blob, created_at FROM master_seal WHERE tenant = $1", tenant)
		if err == nil && !found {
			err = vault.ErrNotFound
		}
		seal.Generation, seal.CreatedAt = int(generation), vault.Micros(created)
		return err
	})
	if err != nil {
		return vault.MasterSeal{}, err
	}
	return seal, nil
}

// Credentials implements vault.Custody.
func (s *Store) Credentials(ctx context.Context, tenant string) (cs []custodian.Credential, err error) {
	if checkText(tenant) != nil {
		return nil, nil
	}
	err = s.view(ctx, readOther, func(ctx context.Context, c session) error {
		cs = nil
		return c.query(ctx, func(scan scanFunc) error {
			cred := custodian.Credential{Tenant: tenant}
			var hash []byte
			var share, created, expires int64
			if err := scan(&cred.Name, &hash, &share, &created, &expires); err != nil {
				return err
			}
			cred.ShareIndex, cred.CreatedAt, cred.ExpiresAt = int(share), timeOf(created), timeOf(expires)
			if err := copyBytes(cred.TokenHash[:], hash, "token_hash"); err != nil {
				return err
			}
			cs = append(cs, cred)
			return nil
		}, "SELECT name, token_hash, share_index, created_at, expires_at FROM custodian WHERE tenant = $1 ORDER BY name", tenant)
	})
	return cs, err
}

// Update implements vault.Custody. fn runs on the goroutine that commits for the
// whole node, which waits for it: fn must not call the store but by the CustodyTx.
func (s *Store) Update(ctx context.Context, fn func(vault.CustodyTx) error) error {
	if s.com == nil {
		return ErrReadOnly
	}
	return s.com.closure(ctx, func(ctx context.Context, c session, _ head) ([]audit.Sealed, error) {
		tx := custodyTx{ctx: ctx, s: c}
		err := fn(&tx)
		switch {
		case tx.broken != nil:
			return nil, tx.broken
		case err != nil:
			return nil, callerError{err}
		case len(tx.entries) == 0:
			return nil, callerError{errNoEntry}
		}
		return tx.entries, nil
	})
}

// custodyTx implements vault.CustodyTx.
type custodyTx struct {
	ctx     context.Context // lives as long as the call of fn
	s       session
	entries []audit.Sealed
	broken  error // of the database; the transaction cannot go on
}

func (tx *custodyTx) exec(sql string, args ...any) (int64, error) {
	if tx.broken != nil {
		return 0, tx.broken
	}
	n, err := tx.s.exec(tx.ctx, sql, args...)
	tx.broken = err
	return n, err
}

func (tx *custodyTx) PutMasterSeal(m vault.MasterSeal) error {
	if err := checkText(m.Tenant); err != nil {
		return err
	}
	sql := "UPDATE master_seal SET generation = $2, blob = $3, created_at = $4 WHERE tenant = $1 AND generation = $2 - 1"
	if m.Generation == 1 {
		sql = "INSERT INTO master_seal (tenant, generation, blob, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT (tenant) DO NOTHING"
	}
	n, err := tx.exec(sql, m.Tenant, int64(m.Generation), m.Blob, int64(m.CreatedAt))
	if err == nil && n != 1 {
		return vault.ErrConflict
	}
	return err
}

func (tx *custodyTx) PutCredentials(tenant string, cs []custodian.Credential) error {
	texts := []string{tenant}
	for _, c := range cs {
		texts = append(texts, c.Name)
	}
	if err := checkText(texts...); err != nil {
		return err
	}
	if _, err := tx.exec("DELETE FROM custodian WHERE tenant = $1", tenant); err != nil {
		return err
	}
	for _, c := range cs {
		_, err := tx.exec(`INSERT INTO custodian (tenant, name, token_hash, share_index, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6)`,
			tenant, c.Name, c.TokenHash[:], int64(c.ShareIndex), microsOf(c.CreatedAt), microsOf(c.ExpiresAt))
		if err != nil {
			return err
		}
	}
	return nil
}

func (tx *custodyTx) Append(e audit.Sealed) { tx.entries = append(tx.entries, e) }

// microsOf is 0 for the zero time.
func microsOf(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func timeOf(micros int64) time.Time {
	if micros == 0 {
		return time.Time{}
	}
	return vault.Micros(micros).Time()
}
