package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
)

// Documents are JSON, in the form that docs/spec/key-service-tables.md says. A
// member that this program does not know is an error: to leave it out would be to
// lose it at the next change.

func encodeDoc(v any) ([]byte, error) { return json.Marshal(v, json.Deterministic(true)) }

func decodeDoc(doc []byte, v any) error {
	if err := json.Unmarshal(doc, v, json.RejectUnknownMembers(true)); err != nil {
		return fmt.Errorf("stored document: %w", err)
	}
	return nil
}

// errMisplaced says that somebody has moved a document.
var errMisplaced = errors.New("stored document is that of another row")

// rowView runs fn on a connection. fn may run twice.
type rowView func(ctx context.Context, fn func(context.Context, session) error) error

// docRow is a row of the key service. It is decoded only after it has been read: a
// document that does not decode is no failure of the database.
type docRow struct {
	version int64
	doc     []byte
}

// one reads the only row of a query for version and document into v. found is
// false if there is none, or if there can be none because of the text asked for.
func (view rowView) one(ctx context.Context, v any, sql string, args ...any) (version int64, found bool, err error) {
	if checkArgs(args) != nil {
		return 0, false, nil
	}
	var row docRow
	err = view(ctx, func(ctx context.Context, c session) (err error) {
		found, err = queryOne(ctx, c, []any{&row.version, &row.doc}, sql, args...)
		return err
	})
	if err != nil || !found {
		return 0, false, err
	}
	return row.version, true, decodeDoc(row.doc, v)
}

// docs reads all rows of a query for version and document. add completes each.
func docs[T any](ctx context.Context, view rowView, add func(v *T, version int64) error, sql string, args ...any) ([]T, error) {
	if checkArgs(args) != nil {
		return nil, nil
	}
	var rows []docRow
	err := view(ctx, func(ctx context.Context, c session) error {
		rows = nil
		return c.query(ctx, func(scan scanFunc) error {
			rows = append(rows, docRow{})
			row := &rows[len(rows)-1]
			return scan(&row.version, &row.doc)
		}, sql, args...)
	})
	if err != nil {
		return nil, err
	}
	out := make([]T, len(rows))
	for i := range rows {
		err := decodeDoc(rows[i].doc, &out[i])
		if err == nil {
			err = add(&out[i], rows[i].version)
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// checkArgs is checkText of those that are text.
func checkArgs(args []any) error {
	for _, a := range args {
		if s, is := a.(string); is {
			if err := checkText(s); err != nil {
				return err
			}
		}
	}
	return nil
}

// number reads a single number, 0 if there is no row.
func (view rowView) number(ctx context.Context, sql string, args ...any) (n int64, err error) {
	if checkArgs(args) != nil {
		return 0, nil
	}
	err = view(ctx, func(ctx context.Context, c session) error {
		n = 0
		_, err := queryOne(ctx, c, []any{&n}, sql, args...)
		return err
	})
	return n, err
}
