package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"cardea/internal/audit"
)

const (
	// thinEvery is how often old checkpoints are thinned out.
	thinEvery = 10 * time.Minute
	// thinBatch is how many are removed in one transaction.
	thinBatch = 256
	// lastWait is how long Close waits for the last checkpoint.
	lastWait = 30 * time.Second
)

// thinning says from which age on checkpoints are how far apart. Of each stretch
// the last is kept, and so the newest of all.
var thinning = []struct{ age, apart time.Duration }{
	{time.Hour, time.Minute},
	{30 * 24 * time.Hour, time.Hour},
}

// checkpoints signs the log as it grows.
type checkpoints struct {
	s        *Store
	signer   *audit.Signer
	interval time.Duration
	told     func(note []byte) // or nil
	mu       sync.Mutex        // guards signed, and lets one sign at a time
	signed   int64             // entries in the last checkpoint
	failing  bool              // the last try failed
	thinned  []int64           // per step of thinning: checkpoints of fewer entries are done

	trouble atomic.Pointer[SigningTrouble] // nil if the last try to sign succeeded
}

// SigningTrouble says that the log is not being signed. Its entries are durable all the
// same, and the next checkpoint covers them.
type SigningTrouble struct {
	Since time.Time // of the first try that failed
	Err   error     // of the last
}

// SigningTrouble tells whether the log is not being signed; nil if it is.
func (s *Store) SigningTrouble() *SigningTrouble {
	if s.points == nil {
		return nil
	}
	return s.points.trouble.Load()
}

// unsigned is for how long signing has not succeeded.
func (s *Store) unsigned() time.Duration {
	t := s.SigningTrouble()
	if t == nil {
		return 0
	}
	return s.now().Sub(t.Since)
}

func newCheckpoints(s *Store, signer *audit.Signer, interval time.Duration) *checkpoints {
	return &checkpoints{s: s, signer: signer, interval: interval, signed: -1, thinned: make([]int64, len(thinning))}
}

func (p *checkpoints) run(ctx context.Context) {
	sign, thin := time.NewTicker(p.interval), time.NewTicker(thinEvery)
	defer sign.Stop()
	defer thin.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-sign.C:
			err := p.sign(ctx)
			p.judge(ctx, err)
			p.note(ctx, "audit log not signed", err)
		case <-thin.C:
			p.note(ctx, "old checkpoints not thinned out", p.thin(ctx))
		}
	}
}

// judge keeps for how long signing has not succeeded.
func (p *checkpoints) judge(ctx context.Context, err error) {
	was := p.trouble.Load()
	switch {
	case ctx.Err() != nil:
	case err == nil:
		p.trouble.Store(nil)
		if was != nil {
			p.s.log.InfoContext(ctx, "the audit log is signed again", slog.Time("not_since", was.Since))
		}
	case was == nil:
		p.trouble.Store(&SigningTrouble{Since: p.s.now(), Err: err})
	default:
		p.trouble.Store(&SigningTrouble{Since: was.Since, Err: err})
	}
}

// note counts an error and logs the first of a row.
func (p *checkpoints) note(ctx context.Context, what string, err error) {
	if err == nil || ctx.Err() != nil {
		p.failing = p.failing && err != nil
		return
	}
	p.s.met.checkpoints.Inc()
	if !p.failing {
		p.s.log.ErrorContext(ctx, "checkpoint work does not succeed", slog.String("what", what), slog.Any("error", err))
	}
	p.failing = true
}

// last signs what has not been signed, at Close. A key that is elsewhere and does not
// answer is no reason to fail: the next start signs.
func (p *checkpoints) last() error {
	ctx, cancel := context.WithTimeout(context.Background(), lastWait)
	defer cancel()
	err := p.sign(ctx)
	if err == nil {
		return nil
	}
	p.s.met.checkpoints.Inc()
	if p.signer.Remote() {
		p.s.log.ErrorContext(ctx, "the end of the audit log is not signed, the next start signs it", slog.Any("error", err))
		return nil
	}
	return fmt.Errorf("sign the audit log: %w", err)
}

// sign stores a checkpoint if the log has grown since the last. What it signs is what
// the database holds, read in a transaction and compared with what this process has
// written. The key may be elsewhere and slow: nothing waits for it but this.
func (p *checkpoints) sign(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if size := p.s.com.size.Load(); size == p.signed || size == 0 {
		return nil
	}
	var durable head
	err := p.s.com.closure(ctx, func(ctx context.Context, c session, h head) ([]audit.Sealed, error) {
		durable = h
		return nil, p.s.isDurable(ctx, c, h)
	})
	if err != nil {
		return err
	}
	at := p.s.now()
	note, err := p.signer.SignContext(ctx, audit.Checkpoint{Origin: p.s.origin, Size: durable.size, Root: durable.root, Time: at})
	if err != nil {
		return err
	}
	err = p.s.com.closure(ctx, func(ctx context.Context, c session, h head) ([]audit.Sealed, error) {
		if err := p.s.isDurable(ctx, c, h); err != nil {
			return nil, err
		}
		_, err := c.exec(ctx, `INSERT INTO audit_checkpoint (log_id, size, signed_at, note) VALUES ($1, $2, $3, $4)
			ON CONFLICT (log_id, size) DO NOTHING`, durable.log, durable.size, at.UnixMicro(), note)
		return nil, err
	})
	if err != nil {
		return err
	}
	p.signed = durable.size
	if p.told != nil {
		p.told(note)
	}
	return nil
}

// isDurable compares the head that this process has written with the database's.
func (s *Store) isDurable(ctx context.Context, c session, h head) error {
	durable, found, err := selectHead(ctx, c, s.origin)
	if err == nil && (!found || durable != h) {
		err = errHeadMoved
	}
	return err
}

// thin removes checkpoints that others near them make needless.
func (p *checkpoints) thin(ctx context.Context) error {
	var errs error
	for i, t := range thinning {
		stretch := t.apart.Microseconds()
		until := p.s.now().Add(-t.age).UnixMicro()
		kept, err := p.thinUntil(ctx, p.thinned[i], until-until%stretch, stretch)
		p.thinned[i] = kept
		errs = errors.Join(errs, err)
	}
	return errs
}

// thinUntil keeps the last checkpoint of each stretch of time, of those that were
// signed before until and have at least from entries. It returns the entries of
// the last one kept.
func (p *checkpoints) thinUntil(ctx context.Context, from, until, stretch int64) (kept int64, err error) {
	var needless []int64
	err = p.s.view(ctx, readOther, func(ctx context.Context, c session) error {
		needless, kept = nil, from
		last := int64(-1)
		return c.query(ctx, func(scan scanFunc) error {
			var size, at int64
			if err := scan(&size, &at); err != nil {
				return err
			}
			if at/stretch == last {
				needless = append(needless, kept)
			}
			kept, last = size, at/stretch
			return nil
		}, `SELECT size, signed_at FROM audit_checkpoint WHERE log_id = (SELECT id FROM audit_log WHERE origin = $1)
			AND size >= $2 AND signed_at < $3 ORDER BY size`, p.s.origin, from, until)
	})
	for len(needless) > 0 && err == nil {
		n := min(len(needless), thinBatch)
		err = p.s.com.closure(ctx, func(ctx context.Context, c session, h head) ([]audit.Sealed, error) {
			for _, size := range needless[:n] {
				if _, err := c.exec(ctx, "DELETE FROM audit_checkpoint WHERE log_id = $1 AND size = $2", h.log, size); err != nil {
					return nil, err
				}
			}
			return nil, nil
		})
		needless = needless[n:]
	}
	if err != nil {
		kept = from
	}
	return kept, err
}
