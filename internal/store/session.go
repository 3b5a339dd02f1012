package store

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf8"
)

// session runs SQL on one connection, inside a transaction or not. Arguments
// stand as $1, $2 …, which both databases read. Arguments are int64, string and
// []byte, nil for NULL; targets of scan are pointers to those.
type session interface {
	// exec returns how many rows the statement changed.
	exec(ctx context.Context, sql string, args ...any) (int64, error)
	// query calls row for each row. What scan stores the caller keeps. No other
	// statement may run before query returns.
	query(ctx context.Context, row func(scan scanFunc) error, sql string, args ...any) error
}

// scanFunc stores the columns of a row.
type scanFunc func(targets ...any) error

// queryOne scans the only row into targets and reports whether there was one.
func queryOne(ctx context.Context, s session, targets []any, sql string, args ...any) (found bool, err error) {
	err = s.query(ctx, func(scan scanFunc) error {
		found = true
		return scan(targets...)
	}, sql, args...)
	return found, err
}

// copyBytes copies a column of a fixed size.
func copyBytes(dst, src []byte, column string) error {
	if len(src) != len(dst) {
		return fmt.Errorf("column %s has %d bytes, want %d", column, len(src), len(dst))
	}
	copy(dst, src)
	return nil
}

// checkText refuses what only one of the databases can store as text.
func checkText(texts ...string) error {
	for _, s := range texts {
		if strings.IndexByte(s, 0) >= 0 || !utf8.ValidString(s) {
			return errText
		}
	}
	return nil
}
