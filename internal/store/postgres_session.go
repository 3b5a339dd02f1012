package store

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// postgresSession implements session on a connection.
type postgresSession struct{ conn *pgx.Conn }

func (s *postgresSession) exec(ctx context.Context, sql string, args ...any) (int64, error) {
	tag, err := s.conn.Exec(ctx, sql, args...)
	return tag.RowsAffected(), err
}

func (s *postgresSession) query(ctx context.Context, row func(scan scanFunc) error, sql string, args ...any) error {
	rows, err := s.conn.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	return eachRow(rows, row)
}

func eachRow(rows pgx.Rows, row func(scan scanFunc) error) error {
	defer rows.Close()
	scan := rawScanner{rows}.scan
	for rows.Next() {
		if err := row(scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// rawScanner scans the few types that the schema has, without pgx's reflection.
type rawScanner struct{ rows pgx.Rows }

func (r rawScanner) scan(targets ...any) error {
	raw := r.rows.RawValues()
	fields := r.rows.FieldDescriptions()
	for i, t := range targets {
		ok := true
		switch t := t.(type) {
		case *int64:
			if fields[i].Format != pgx.BinaryFormatCode {
				return r.rows.Scan(targets...) // a proxy that has text only
			}
			*t, ok = rawInt(raw[i])
		case *string:
			*t, ok = string(raw[i]), raw[i] != nil
		case *[]byte:
			if fields[i].Format != pgx.BinaryFormatCode {
				return r.rows.Scan(targets...)
			}
			*t = nil
			if raw[i] != nil {
				*t = append(make([]byte, 0, len(raw[i])), raw[i]...)
			}
		default:
			ok = false
		}
		if !ok {
			return fmt.Errorf("column %s: %d bytes into %T", fields[i].Name, len(raw[i]), t)
		}
	}
	return nil
}

func rawInt(b []byte) (int64, bool) {
	switch len(b) {
	case 2:
		return int64(int16(binary.BigEndian.Uint16(b))), true
	case 4:
		return int64(int32(binary.BigEndian.Uint32(b))), true
	case 8:
		return int64(binary.BigEndian.Uint64(b)), true
	}
	return 0, false
}
