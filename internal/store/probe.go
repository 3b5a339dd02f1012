package store

import (
	"context"
	"errors"
	"fmt"

	"cardea/internal/audit"
	"cardea/internal/vault"
)

// Probe implements vault.Store. Its row is no cardholder data and has no entry. A node
// has one such row, which another probe would remove before this one has read it: they
// wait for each other.
func (s *Store) Probe(ctx context.Context) vault.Probe {
	var p vault.Probe
	select {
	case s.probing <- struct{}{}:
		defer func() { <-s.probing }()
	case <-ctx.Done():
		err := unavailable(fmt.Errorf("another probe has not ended: %w", context.Cause(ctx)))
		return vault.Probe{Connect: err, Read: err, Write: err, Delete: err}
	}
	p.Connect = s.view(ctx, readOther, func(ctx context.Context, c session) error {
		var one int64
		_, err := queryOne(ctx, c, []any{&one}, "SELECT 1")
		return err
	})
	if s.com == nil {
		p.Write, p.Delete = ErrReadOnly, ErrReadOnly
	} else {
		p.Write = s.execProbe(ctx, `INSERT INTO probe (id, probed_at) VALUES ($1, $2)
			ON CONFLICT (id) DO UPDATE SET probed_at = excluded.probed_at`, s.origin, s.now().UnixMicro())
	}
	p.Read = s.view(ctx, readOther, func(ctx context.Context, c session) error {
		var at int64
		found, err := queryOne(ctx, c, []any{&at}, "SELECT probed_at FROM probe WHERE id = $1", s.origin)
		if err == nil && !found && p.Write == nil {
			err = errors.New("what was written is not there")
		}
		return err
	})
	if s.com != nil {
		p.Delete = s.execProbe(ctx, "DELETE FROM probe WHERE id = $1", s.origin)
	}
	return p
}

func (s *Store) execProbe(ctx context.Context, sql string, args ...any) error {
	return s.com.closure(ctx, func(ctx context.Context, c session, _ head) ([]audit.Sealed, error) {
		_, err := c.exec(ctx, sql, args...)
		return nil, err
	})
}
