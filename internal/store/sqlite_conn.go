package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"

	"modernc.org/sqlite"
)

// sqliteConn is one connection to SQLite with its prepared statements. It uses
// the driver without database/sql, whose locks, checks and conversions would be
// a good part of a point read. One goroutine uses it at a time.
type sqliteConn struct {
	conn  driver.Conn
	stmts map[string]driver.Stmt
	args  []driver.NamedValue
	row   []driver.Value
}

// openSQLiteConn opens a file that exists and runs the pragmas.
func openSQLiteConn(dsn string, pragmas ...string) (*sqliteConn, error) {
	conn, err := new(sqlite.Driver).Open(dsn)
	if err != nil {
		return nil, err
	}
	c := &sqliteConn{conn: conn, stmts: make(map[string]driver.Stmt)}
	for _, p := range pragmas {
		if err := c.do("PRAGMA " + p); err != nil {
			return nil, errors.Join(fmt.Errorf("PRAGMA %s: %w", p, err), c.close())
		}
	}
	return c, nil
}

// do runs a statement that is not worth keeping.
func (c *sqliteConn) do(sql string) error {
	_, err := c.conn.(driver.ExecerContext).ExecContext(context.Background(), sql, nil) //nolint:contextcheck // see exec
	return err
}

// exec implements session. It does not look at ctx: what a store runs is over in
// milliseconds, and to be interruptible costs a goroutine a statement.
func (c *sqliteConn) exec(_ context.Context, sql string, args ...any) (int64, error) {
	st, err := c.prepare(sql)
	if err != nil {
		return 0, err
	}
	res, err := st.(driver.StmtExecContext).ExecContext(context.Background(), c.named(args)) //nolint:contextcheck // see above
	clear(c.args)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// query implements session. Like exec it does not look at ctx.
func (c *sqliteConn) query(_ context.Context, row func(scan scanFunc) error, sql string, args ...any) (err error) {
	st, err := c.prepare(sql)
	if err != nil {
		return err
	}
	rows, err := st.(driver.StmtQueryContext).QueryContext(context.Background(), c.named(args)) //nolint:contextcheck // see above
	clear(c.args)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	n := len(rows.Columns())
	for len(c.row) < n {
		c.row = append(c.row, nil)
	}
	for {
		if err := rows.Next(c.row[:n]); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := row(c.scan); err != nil {
			return err
		}
	}
}

func (c *sqliteConn) prepare(sql string) (driver.Stmt, error) {
	if st, ok := c.stmts[sql]; ok {
		return st, nil
	}
	st, err := c.conn.Prepare(sql)
	if err != nil {
		return nil, err
	}
	c.stmts[sql] = st
	return st, nil
}

func (c *sqliteConn) named(args []any) []driver.NamedValue {
	c.args = c.args[:0]
	for i, a := range args {
		c.args = append(c.args, driver.NamedValue{Ordinal: i + 1, Value: a})
	}
	return c.args
}

// scan implements scanFunc on the row that was read last.
func (c *sqliteConn) scan(targets ...any) error {
	for i, t := range targets {
		ok := true
		switch t := t.(type) {
		case *int64:
			*t, ok = c.row[i].(int64)
		case *string:
			*t, ok = c.row[i].(string)
		case *[]byte:
			if *t = nil; c.row[i] != nil {
				*t, ok = c.row[i].([]byte)
			}
		default:
			ok = false
		}
		if !ok {
			return fmt.Errorf("column %d: %T into %T", i, c.row[i], t)
		}
	}
	return nil
}

func (c *sqliteConn) close() error {
	var err error
	for _, st := range c.stmts {
		err = errors.Join(err, st.Close())
	}
	return errors.Join(err, c.conn.Close())
}
