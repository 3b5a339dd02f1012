package store

import (
	"context"

	"github.com/jackc/pgx/v5/pgconn"
)

// ThinCheckpoints does what is otherwise done every few minutes.
func (s *Store) ThinCheckpoints(ctx context.Context) error { return s.points.thin(ctx) }

// SetDial makes PostgreSQL be reached by dial.
func (o *Options) SetDial(dial pgconn.DialFunc) { o.dial = dial }
