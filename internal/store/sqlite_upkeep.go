package store

import (
	"context"
	"log/slog"
	"os"
	"time"
)

// What upkeep of a SQLite file aims at. Sizes of the write-ahead log are in
// frames, a page of 4 KiB each.
const (
	upkeepEvery = 100 * time.Millisecond
	// passiveFrames: more than so many new ones are copied into the file beside the
	// commits.
	passiveFrames = 4 << 10
	// restartFrames: a longer log is started from its beginning again as soon as it
	// is copied but for tailFrames, which takes the committer some milliseconds; at
	// twice the length also if more is left.
	restartFrames = 16 << 10
	tailFrames    = 1 << 10
	copyRounds    = 4
	// idleTicks without a commit, and a log that is there is copied and cut off.
	idleTicks = 50
	// vacuumTicks is how often the file is looked at for pages to give back to the
	// system: those free beyond an eighth of it, vacuumPages at a time.
	vacuumTicks = 600
	vacuumPages = 256
)

// walState is what PRAGMA wal_checkpoint answers.
type walState struct{ busy, frames, copied int64 }

// upkeep keeps the write-ahead log short and gives free pages back, so that no
// commit has to. A commit waits for it only while the last few pages are copied.
func (d *sqliteDB) upkeep(ctx context.Context) {
	c, err := openSQLiteConn(d.dsn, d.pragmas("synchronous(FULL)", "wal_autocheckpoint(0)")...)
	if err != nil {
		d.log.ErrorContext(ctx, "no connection for upkeep: the write-ahead log will grow", slog.Any("error", err))
		return
	}
	defer c.close() //nolint:errcheck // it has written nothing of its own
	tick := time.NewTicker(upkeepEvery)
	defer tick.Stop()
	var last int64 // frames in the log when it was looked at
	idle, sinceVacuum := 0, 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s, err := d.checkpoint(ctx, c)
		if err != nil {
			d.log.WarnContext(ctx, "write-ahead log not copied", slog.Any("error", err))
		}
		if idle++; s.frames != last {
			idle, last = 0, s.frames
		}
		if idle == idleTicks && d.walBytes() > 0 {
			d.outside(ctx, "TRUNCATE")
		}
		if sinceVacuum++; sinceVacuum >= vacuumTicks {
			sinceVacuum = 0
			d.vacuum(ctx, c)
		}
	}
}

// checkpoint copies what is in the write-ahead log if it is worth it, and has it
// started again if it is long.
func (d *sqliteDB) checkpoint(ctx context.Context, c *sqliteConn) (walState, error) {
	s, err := walCheckpoint(ctx, c, "NOOP")
	if err != nil || s.frames-s.copied < passiveFrames && s.frames < restartFrames {
		return s, err
	}
	// While a long log is copied it grows, by less each time it is copied again.
	for range copyRounds {
		if s, err = walCheckpoint(ctx, c, "PASSIVE"); err != nil || s.frames < restartFrames {
			return s, err
		}
		if s.frames-s.copied <= tailFrames {
			break
		}
	}
	if s.frames-s.copied <= tailFrames || s.frames >= 2*restartFrames {
		d.outside(ctx, "RESTART")
	}
	return s, nil
}

func walCheckpoint(ctx context.Context, s session, mode string) (w walState, err error) {
	_, err = queryOne(ctx, s, []any{&w.busy, &w.frames, &w.copied}, "PRAGMA wal_checkpoint("+mode+")")
	return w, err
}

// outside runs a checkpoint on the writing connection between two commits. It
// gives up at once where a reader or another node is in the way.
func (d *sqliteDB) outside(ctx context.Context, mode string) {
	err := d.com().outside(ctx, func(ctx context.Context, w writer) error {
		if _, err := w.exec(ctx, "PRAGMA busy_timeout(5)"); err != nil {
			return err
		}
		_, err := walCheckpoint(ctx, w, mode)
		if _, err := w.exec(ctx, "PRAGMA busy_timeout(5000)"); err != nil {
			return err
		}
		return err
	})
	if err != nil && ctx.Err() == nil {
		d.log.WarnContext(ctx, "write-ahead log not started again", slog.Any("error", err))
	}
}

// vacuum gives free pages at the end of the file back to the system.
func (d *sqliteDB) vacuum(ctx context.Context, c *sqliteConn) {
	var free, pages int64
	_, err := queryOne(ctx, c, []any{&free}, "PRAGMA freelist_count")
	if err == nil {
		_, err = queryOne(ctx, c, []any{&pages}, "PRAGMA page_count")
	}
	for ; err == nil && ctx.Err() == nil && free > max(pages/8, vacuumPages); free -= vacuumPages {
		err = d.com().outside(ctx, func(ctx context.Context, w writer) error {
			_, err := w.exec(ctx, "PRAGMA incremental_vacuum(256)")
			return err
		})
	}
	if err != nil && ctx.Err() == nil {
		d.log.WarnContext(ctx, "free pages not given back", slog.Any("error", err))
	}
}

func (d *sqliteDB) walBytes() int64 {
	info, err := os.Stat(d.path + "-wal")
	if err != nil {
		return 0
	}
	return info.Size()
}
