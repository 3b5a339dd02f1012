package store

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"

	"cardea/internal/audit"
	"cardea/internal/secret"
)

// Options say where a store is and how it works. Only URL and Node have no
// default.
type Options struct {
	// URL is "sqlite:" and a path, or the URL or keyword string of a PostgreSQL
	// database.
	URL string
	// Node names this process among all that share the database: 1 to 64 of
	// a-z, 0-9, dot and hyphen. Its audit log has the origin "cardea/" + Node.
	Node string
	// TLS, if not nil, is how PostgreSQL is reached, whatever the URL says of it.
	TLS *tls.Config
	// Password, if present, is the password at PostgreSQL. The store does not
	// destroy it.
	Password secret.Bytes
	// StatementTimeout ends a statement that takes PostgreSQL longer; 0 is ten seconds.
	StatementTimeout time.Duration

	Logger  *slog.Logger          // nil discards
	Metrics prometheus.Registerer // nil registers none
	Now     func() time.Time      // nil is time.Now

	// Signer signs checkpoints of the audit log; nil signs none. The store does not
	// destroy it.
	Signer *audit.Signer
	// Signed, if not nil, is told each checkpoint once it is stored. It must be quick.
	Signed func(note []byte)
	// CheckpointInterval is how often the log is signed while it grows; 0 is a second.
	CheckpointInterval time.Duration
	// MaxBatch is how many calls may share a commit; 0 is 256.
	MaxBatch int
	// ReadConns is how many connections read; 0 is four.
	ReadConns int
	// ReadOnly opens beside a running server: without migrations, locks, writes.
	ReadOnly bool

	dial pgconn.DialFunc // of tests
}

// Store is an open database. It implements vault.Store, vault.Custody and
// audit.Source, and is safe for concurrent use.
type Store struct {
	db       database
	com      *committer // nil if the store is read-only
	origin   string
	log      *slog.Logger
	now      func() time.Time
	mono     func() time.Time
	met      *metrics
	registry prometheus.Registerer
	points   *checkpoints    // nil if there is no signer
	window   int64           // rows that a statement looks at, at most
	ctx      context.Context // of what runs in the background
	stop     context.CancelFunc
	pruning  sync.Once     // started
	probing  chan struct{} // holds one value while a probe runs
	upkeep   sync.WaitGroup
	close    func() error
}

// Open opens the database, brings its schema up to date and takes the node's audit
// log. The error wraps ErrLogTaken if another process has it, ErrSchemaTooNew if a
// later release was here, or audit.ErrDamaged if the log's parts do not fit
// together. ctx is for opening only.
func Open(ctx context.Context, o Options) (*Store, error) {
	origin, err := audit.Origin(o.Node)
	if err != nil {
		return nil, err
	}
	o.defaults()
	if o.Signer != nil && o.Signer.Origin() != origin {
		return nil, fmt.Errorf("checkpoint key is for log %s, this node's is %s", o.Signer.Origin(), origin)
	}
	s := &Store{
		origin: origin, log: o.Logger, now: o.Now, met: newMetrics(), registry: o.Metrics, window: scanWindow,
		mono:    time.Now, //nolint:forbidigo // measures intervals, also where Now stands still
		probing: make(chan struct{}, 1),
	}
	s.close = sync.OnceValue(s.shutdown)
	if path, ok := strings.CutPrefix(o.URL, "sqlite:"); ok {
		s.db, err = openSQLite(ctx, path, s, o)
	} else {
		s.db, err = openPostgres(ctx, s, o)
	}
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if err := s.start(ctx, o); err != nil {
		return nil, fmt.Errorf("open store: %w", errors.Join(err, s.db.close()))
	}
	return s, nil
}

func (o *Options) defaults() {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now //nolint:forbidigo // the default of the injected clock
	}
	if o.CheckpointInterval <= 0 {
		o.CheckpointInterval = time.Second
	}
	if o.MaxBatch <= 0 {
		o.MaxBatch = 256
	}
	if o.ReadConns <= 0 {
		o.ReadConns = 4
	}
	if o.StatementTimeout <= 0 {
		o.StatementTimeout = 10 * time.Second
	}
}

// start takes the log and starts what runs beside the calls.
func (s *Store) start(ctx context.Context, o Options) error {
	background, cancel := context.WithCancel(context.Background())
	s.ctx, s.stop = background, cancel
	if !o.ReadOnly {
		s.com = &committer{
			w: s.db.writer(), origin: s.origin, log: s.log, met: s.met, mono: s.mono, max: o.MaxBatch,
			queue: make(chan *unit, 4*o.MaxBatch), ended: make(chan struct{}), fatal: make(chan error, 1),
			ctx: context.WithoutCancel(background),
		}
		s.com.extended = s.com.extendByUnits
		s.met.gauge("queue_depth", "Units that wait for the committer.", func() float64 { return float64(len(s.com.queue)) })
		s.met.gauge("log_entries", "Entries in the audit log of this node.", func() float64 { return float64(s.com.size.Load()) })
		if o.Signer != nil {
			s.points = newCheckpoints(s, o.Signer, o.CheckpointInterval)
			s.points.told = o.Signed
		}
		s.met.gauge("unsigned_seconds", "For how long the audit log could not be signed; 0 if it can.", func() float64 { return s.unsigned().Seconds() })
	}
	if err := s.met.register(s.registry); err != nil {
		cancel()
		return fmt.Errorf("register metrics: %w", err)
	}
	if o.ReadOnly {
		return nil
	}
	if err := s.com.start(ctx); err != nil {
		s.met.unregister(s.registry)
		cancel()
		return err
	}
	s.background(background, s.db.upkeep)
	if s.points != nil {
		s.background(background, s.points.run)
	}
	return nil
}

func (s *Store) background(ctx context.Context, run func(context.Context)) {
	s.upkeep.Go(func() { run(ctx) })
}

// Close finishes the calls that were accepted, refuses new ones, signs a last
// checkpoint and closes the database. Its error is that of the checkpoint or of
// closing; what calls have returned stands.
func (s *Store) Close() error { return s.close() }

func (s *Store) shutdown() error {
	s.stop()
	s.upkeep.Wait()
	var err error
	if s.com != nil {
		if s.points != nil {
			err = s.points.last()
		}
		s.com.stop()
	}
	err = errors.Join(err, s.db.close())
	s.met.unregister(s.registry)
	return err
}

// Fatal gives at most one error: that the audit log is another process's now, so
// that this one can never write again and should end. It wraps ErrLogTaken.
func (s *Store) Fatal() <-chan error {
	if s.com == nil {
		return nil
	}
	return s.com.fatal
}
