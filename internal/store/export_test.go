package store

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ThinCheckpoints does what is otherwise done every few minutes.
func (s *Store) ThinCheckpoints(ctx context.Context) error { return s.points.thin(ctx) }

// SetDial makes PostgreSQL be reached by dial.
func (o *Options) SetDial(dial pgconn.DialFunc) { o.dial = dial }

// VacuumSQLite does what is otherwise done every minute.
func (s *Store) VacuumSQLite(ctx context.Context) error {
	d := s.db.(*sqliteDB)
	c, err := openSQLiteConn(d.dsn, d.pragmas()...)
	if err != nil {
		return err
	}
	defer c.close()
	d.vacuum(ctx, c)
	return nil
}

// ApplySettings sets what the server knows of names and values.
func ApplySettings(ctx context.Context, conn *pgx.Conn, settings [][2]string) error {
	return sessionSettings(settings).apply(ctx, conn)
}

// BetweenCommits runs fn on the goroutine that commits.
func (s *Store) BetweenCommits(ctx context.Context, fn func()) error {
	return s.com.outside(ctx, func(context.Context, writer) error { fn(); return nil })
}

// LoseWriter makes the store believe that its writing connection broke. It is
// called between two commits.
func (s *Store) LoseWriter(cause error) { s.com.lose(cause) }

// PruneChanges does what is otherwise done every few minutes.
func (s *Store) PruneChanges(ctx context.Context, batch int64) error { return s.prune(ctx, batch) }

// EncodeDocument and DecodeDocument are how documents are stored.
func EncodeDocument(v any) ([]byte, error) { return encodeDoc(v) }

func DecodeDocument(doc []byte, v any) error { return decodeDoc(doc, v) }

// SetWindow makes statements look at so many rows at most.
func (s *Store) SetWindow(rows int64) { s.window = rows }

// DeadlockGroups makes commits of more than one call end in deadlocks, and counts them.
func (s *Store) DeadlockGroups(ctx context.Context) (groups *atomic.Int64, err error) {
	groups = &atomic.Int64{}
	return groups, s.com.outside(ctx, func(_ context.Context, w writer) error {
		s.com.w = &crowded{writer: w, groups: groups}
		return nil
	})
}

// crowded is a writer beside others who want the same rows.
type crowded struct {
	writer
	groups *atomic.Int64
}

var errCrowded = errors.New("deadlock")

func (c *crowded) group(ctx context.Context, h head, us []*unit, extend func() (*addition, error)) error {
	if len(us) > 1 {
		c.groups.Add(1)
		return errCrowded
	}
	return c.writer.group(ctx, h, us, extend)
}

func (c *crowded) judge(err error) fault {
	if errors.Is(err, errCrowded) {
		return faultDeadlock
	}
	return c.writer.judge(err)
}
