package store

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"unsafe"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// sqliteConn is one connection to SQLite with its prepared statements, by the
// C interface of SQLite as modernc.org/sqlite/lib has it in Go. The driver for
// database/sql in front of that interface takes as long as SQLite itself for a
// point read: it looks up the names and types of all columns and allocates each
// argument and value on its own.
//
// One goroutine at a time uses a connection, also while it is opened and closed.
type sqliteConn struct {
	tls   *libc.TLS
	db    uintptr // sqlite3*
	stmts map[string]uintptr
	args  arena
	stmt  uintptr // whose row scan reads
}

// sqliteError is what SQLite answers.
type sqliteError struct {
	code int32 // extended result code
	text string
}

func (e *sqliteError) Error() string { return fmt.Sprintf("sqlite: %s (%d)", e.text, e.code) }

// openSQLiteConn opens a file by its URI and runs the pragmas.
func openSQLiteConn(uri string, pragmas ...string) (*sqliteConn, error) {
	c := &sqliteConn{tls: libc.NewTLS(), stmts: make(map[string]uintptr)}
	name, err := libc.CString(uri)
	if err != nil {
		return nil, err
	}
	defer libc.Xfree(c.tls, name)
	const flags = lib.SQLITE_OPEN_READWRITE | lib.SQLITE_OPEN_URI | lib.SQLITE_OPEN_NOMUTEX | lib.SQLITE_OPEN_EXRESCODE
	err = c.out(func(p uintptr) int32 { return lib.Xsqlite3_open_v2(c.tls, name, p, flags, 0) }, &c.db)
	for i := 0; i < len(pragmas) && err == nil; i++ {
		err = c.do("PRAGMA " + pragmas[i])
	}
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// out calls a function that stores a pointer at an address that it is given.
func (c *sqliteConn) out(call func(at uintptr) int32, to *uintptr) error {
	at := libc.Xcalloc(c.tls, 1, lib.Tsize_t(unsafe.Sizeof(*to)))
	if at == 0 {
		return &sqliteError{lib.SQLITE_NOMEM, "out of memory"}
	}
	defer libc.Xfree(c.tls, at)
	rc := call(at)
	*to = *(*uintptr)(cMemory(at))
	return c.check(rc)
}

// check turns a result code into an error, nil for success.
func (c *sqliteConn) check(rc int32) error {
	switch rc {
	case lib.SQLITE_OK, lib.SQLITE_ROW, lib.SQLITE_DONE:
		return nil
	}
	text := libc.GoString(lib.Xsqlite3_errstr(c.tls, rc))
	if c.db != 0 {
		if more := libc.GoString(lib.Xsqlite3_errmsg(c.tls, c.db)); more != text {
			text += ": " + more
		}
	}
	return &sqliteError{rc, text}
}

// do runs a statement that is not worth keeping.
func (c *sqliteConn) do(sql string) error {
	st, err := c.compile(sql)
	if err != nil {
		return err
	}
	rc := c.finish(st)
	return errors.Join(c.check(rc), c.check(lib.Xsqlite3_finalize(c.tls, st)))
}

// finish steps through the rows that are left.
func (c *sqliteConn) finish(st uintptr) int32 {
	for {
		if rc := lib.Xsqlite3_step(c.tls, st); rc != lib.SQLITE_ROW {
			return rc
		}
	}
}

// exec implements session. It does not look at ctx: what a store runs is over in
// milliseconds.
func (c *sqliteConn) exec(_ context.Context, sql string, args ...any) (int64, error) {
	st, err := c.bound(sql, args)
	if err != nil {
		return 0, err
	}
	err = c.check(c.finish(st))
	changed := int64(0)
	if err == nil {
		changed = lib.Xsqlite3_changes64(c.tls, c.db)
	}
	lib.Xsqlite3_reset(c.tls, st) // repeats the code of the error
	return changed, err
}

// query implements session. Like exec it does not look at ctx.
func (c *sqliteConn) query(_ context.Context, row func(scan scanFunc) error, sql string, args ...any) error {
	st, err := c.bound(sql, args)
	if err != nil {
		return err
	}
	defer lib.Xsqlite3_reset(c.tls, st)
	c.stmt = st
	for {
		rc := lib.Xsqlite3_step(c.tls, st)
		if rc != lib.SQLITE_ROW {
			return c.check(rc)
		}
		if err := row(c.scan); err != nil {
			return err
		}
	}
}

// bound returns the prepared statement with its arguments. They stay bound, to
// memory of c.args, until the next use.
func (c *sqliteConn) bound(sql string, args []any) (uintptr, error) {
	st, ok := c.stmts[sql]
	if !ok {
		var err error
		if st, err = c.compile(sql); err != nil {
			return 0, err
		}
		c.stmts[sql] = st
	}
	if n := int(lib.Xsqlite3_bind_parameter_count(c.tls, st)); n != len(args) {
		return 0, fmt.Errorf("sqlite: %d arguments for %d parameters", len(args), n)
	}
	if err := c.args.reserve(c.tls, args); err != nil {
		return 0, err
	}
	for i, a := range args {
		if err := c.check(c.bind(st, int32(i+1), a)); err != nil {
			return 0, err
		}
	}
	return st, nil
}

func (c *sqliteConn) bind(st uintptr, i int32, arg any) int32 {
	const static = 0 // SQLite does not copy, and does not free
	switch a := arg.(type) {
	case int64:
		return lib.Xsqlite3_bind_int64(c.tls, st, i, a)
	case string:
		return lib.Xsqlite3_bind_text(c.tls, st, i, c.args.put(unsafe.StringData(a), len(a)), int32(len(a)), static) //nolint:gosec // G103: read only, copied at once
	case []byte:
		if a == nil {
			return lib.Xsqlite3_bind_null(c.tls, st, i)
		}
		return lib.Xsqlite3_bind_blob(c.tls, st, i, c.args.put(unsafe.SliceData(a), len(a)), int32(len(a)), static) //nolint:gosec // G103: read only, copied at once
	case nil:
		return lib.Xsqlite3_bind_null(c.tls, st, i)
	default:
		return lib.SQLITE_MISUSE
	}
}

// compile prepares the one statement that sql has. To SQLite $2 is a name, which
// gets the next number; ?2 is the second argument wherever it stands.
func (c *sqliteConn) compile(sql string) (st uintptr, err error) {
	text, err := libc.CString(strings.ReplaceAll(sql, "$", "?"))
	if err != nil {
		return 0, err
	}
	defer libc.Xfree(c.tls, text)
	err = c.out(func(p uintptr) int32 {
		return lib.Xsqlite3_prepare_v3(c.tls, c.db, text, -1, lib.SQLITE_PREPARE_PERSISTENT, p, 0)
	}, &st)
	return st, err
}

// scan implements scanFunc on the row that was read last.
func (c *sqliteConn) scan(targets ...any) error {
	for i, t := range targets {
		i := int32(i)
		kind := lib.Xsqlite3_column_type(c.tls, c.stmt, i)
		ok := true
		switch t := t.(type) {
		case *int64:
			ok = kind == lib.SQLITE_INTEGER
			*t = lib.Xsqlite3_column_int64(c.tls, c.stmt, i)
		case *string:
			ok = kind == lib.SQLITE_TEXT
			p := lib.Xsqlite3_column_text(c.tls, c.stmt, i)
			*t = string(cBytes(p, lib.Xsqlite3_column_bytes(c.tls, c.stmt, i)))
		case *[]byte:
			if *t = nil; kind != lib.SQLITE_NULL {
				ok = kind == lib.SQLITE_BLOB
				p := lib.Xsqlite3_column_blob(c.tls, c.stmt, i)
				b := cBytes(p, lib.Xsqlite3_column_bytes(c.tls, c.stmt, i))
				*t = append(make([]byte, 0, len(b)), b...)
			}
		default:
			ok = false
		}
		if !ok {
			return fmt.Errorf("sqlite: column %d of type %d into %T", i, kind, t)
		}
	}
	return nil
}

func (c *sqliteConn) close() error {
	for _, st := range c.stmts {
		lib.Xsqlite3_finalize(c.tls, st)
	}
	c.args.free(c.tls)
	var err error
	if c.db != 0 {
		err = c.check(lib.Xsqlite3_close_v2(c.tls, c.db))
	}
	c.tls.Close()
	return err
}

// cMemory is the memory at an address that SQLite's allocator gave out. The
// collector neither moves nor frees it.
func cMemory(at uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&at)) } //nolint:gosec // G103: see above

// cBytes is memory of SQLite, valid until the statement's next step.
func cBytes(at uintptr, n int32) []byte {
	if at == 0 || n <= 0 {
		return nil
	}
	return unsafe.Slice((*byte)(cMemory(at)), n) //nolint:gosec // G103: SQLite says how long it is
}

// arena is memory for the arguments of one statement, of SQLite's allocator so
// that it stays where it is.
type arena struct{ at, size, used uintptr }

// maxKeptArena is how much is kept for the next statement.
const maxKeptArena = 1 << 20

// reserve makes room for args.
func (a *arena) reserve(tls *libc.TLS, args []any) error {
	need := uintptr(1)
	for _, arg := range args {
		switch v := arg.(type) {
		case string:
			need += uintptr(len(v))
		case []byte:
			need += uintptr(len(v))
		}
	}
	a.used = 0
	if need <= a.size && (a.size <= maxKeptArena || need > maxKeptArena) {
		return nil
	}
	a.free(tls)
	size := max(need, 4<<10)
	if a.at = libc.Xmalloc(tls, lib.Tsize_t(size)); a.at == 0 {
		return &sqliteError{lib.SQLITE_NOMEM, "out of memory"}
	}
	a.size = size
	return nil
}

// put copies n bytes and returns where they are, never 0.
func (a *arena) put(from *byte, n int) uintptr {
	at := a.at + a.used
	if n > 0 {
		copy(unsafe.Slice((*byte)(cMemory(at)), n), unsafe.Slice(from, n)) //nolint:gosec // G103: both are n long
	}
	a.used += uintptr(n)
	runtime.KeepAlive(from)
	return at
}

func (a *arena) free(tls *libc.TLS) {
	if a.at != 0 {
		libc.Xfree(tls, a.at)
	}
	*a = arena{}
}
