package storetest

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"cardea/internal/kms"
)

// SeedKeys puts n copies of a key, each with an id of its own, into the database of
// a store, past the store: for benchmarks of large ones. Their entries and changes
// are missing, and nothing else may write meanwhile. like gives all but the id.
func SeedKeys(ctx context.Context, url string, like *kms.Key, n int) ([]kms.KeyRef, error) {
	k := *like
	refs := make([]kms.KeyRef, n)
	for i := range refs {
		refs[i] = kms.KeyRef{Account: k.Account, Region: k.Region, ID: uuid.NewString()}
	}
	due := int64(0)
	if d := k.Due(); !d.IsZero() {
		due = d.UnixMicro()
	}
	err := seed(ctx, url, "kms_key", []string{"account", "region", "key_id", "version", "key_store", "due_at", "doc"}, n, func(i int) ([]any, error) {
		k.KeyRef = refs[i]
		doc, err := json.Marshal(&k, json.Deterministic(true))
		return []any{k.Account, k.Region, k.ID, int64(1), k.KeyStoreID, due, doc}, err
	}, fmt.Sprintf(`INSERT INTO kms_tally (account, region, name, n) VALUES ('%s', '%s', '', %d)
		ON CONFLICT (account, region, name) DO UPDATE SET n = kms_tally.n + excluded.n`, k.Account, k.Region, n))
	return refs, err
}

// SeedGrants puts n copies of a grant into the database of a store, as SeedKeys
// does: on the keys in turn, each with an id and a grantee of its own, like's with
// a number.
func SeedGrants(ctx context.Context, url string, like *kms.Grant, keys []kms.KeyRef, n int) error {
	rows, err := keyRows(ctx, url, keys)
	if err != nil {
		return err
	}
	// In the order of the table, as they would have come over the years.
	slices.SortFunc(rows, func(a, b keyRow) int { return int(a.row - b.row) })
	each, more := n/len(rows), n%len(rows)
	var of []keyRow
	for i, r := range rows {
		count := each
		if i < more {
			count++
		}
		for range count {
			of = append(of, r)
		}
	}
	g := *like
	err = seed(ctx, url, "kms_grant", []string{"key_row", "grant_id", "account", "region", "grantee", "retiring", "name", "doc"}, n, func(i int) ([]any, error) {
		g.Key, g.ID, g.Grantee = of[i].ref, hexID(), fmt.Sprint(like.Grantee, i)
		doc, err := json.Marshal(&g, json.Deterministic(true))
		return []any{of[i].row, g.ID, g.Key.Account, g.Key.Region, g.Grantee, g.Retiring, g.Name, doc}, err
	}, `INSERT INTO kms_tally (account, region, name, n)
		SELECT k.account, k.region, k.key_id, count(*) FROM kms_grant g JOIN kms_key k ON k.id = g.key_row GROUP BY k.account, k.region, k.key_id
		ON CONFLICT (account, region, name) DO UPDATE SET n = excluded.n`)
	return err
}

// keyRow is the row of a key.
type keyRow struct {
	row int64
	ref kms.KeyRef
}

func keyRows(ctx context.Context, url string, refs []kms.KeyRef) ([]keyRow, error) {
	want := make(map[kms.KeyRef]bool, len(refs))
	for _, r := range refs {
		want[r] = true
	}
	db, err := openSQL(url)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	rows, err := db.QueryContext(ctx, "SELECT id, account, region, key_id FROM kms_key")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []keyRow
	for rows.Next() {
		var r keyRow
		if err := rows.Scan(&r.row, &r.ref.Account, &r.ref.Region, &r.ref.ID); err != nil {
			return nil, err
		}
		if want[r.ref] {
			out = append(out, r)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	if len(out) == 0 || len(out) != len(want) {
		return nil, fmt.Errorf("%d of %d keys are there", len(out), len(want))
	}
	return out, nil
}

// openSQL opens a database past the store.
func openSQL(url string) (*sql.DB, error) {
	if path, ok := strings.CutPrefix(url, "sqlite:"); ok {
		return sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(5000)&_pragma=cache_size(-262144)&_pragma=foreign_keys(0)")
	}
	return sql.Open("pgx", url)
}

// seed inserts n rows and then runs a statement.
func seed(ctx context.Context, url, table string, columns []string, n int, row func(i int) ([]any, error), then string) error {
	insert := insertSQLite
	if !strings.HasPrefix(url, "sqlite:") {
		insert = copyPostgres
	}
	if err := insert(ctx, url, table, columns, n, row); err != nil {
		return fmt.Errorf("%d rows of %s: %w", n, table, err)
	}
	db, err := openSQL(url)
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.ExecContext(ctx, then)
	return err
}

func insertSQLite(ctx context.Context, url, table string, columns []string, n int, row func(i int) ([]any, error)) error {
	db, err := openSQL(url)
	if err != nil {
		return err
	}
	defer db.Close()
	marks := strings.TrimSuffix(strings.Repeat("?, ", len(columns)), ", ")
	for done := 0; done < n; {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		st, err := tx.PrepareContext(ctx, "INSERT INTO "+table+" ("+strings.Join(columns, ", ")+") VALUES ("+marks+")")
		for end := min(n, done+50_000); err == nil && done < end; done++ {
			var args []any
			if args, err = row(done); err == nil {
				_, err = st.ExecContext(ctx, args...)
			}
		}
		if err != nil {
			tx.Rollback()
			return err
		}
		if err := tx.Commit(); err != nil {
			return err
		}
	}
	return nil
}

func copyPostgres(ctx context.Context, url, table string, columns []string, n int, row func(i int) ([]any, error)) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.CopyFrom(ctx, pgx.Identifier{table}, columns, pgx.CopyFromSlice(n, row))
	return err
}
