package store

import (
	"context"

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
