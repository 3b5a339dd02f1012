package lockerdb_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"cardea/internal/store/lockerdb"
	"cardea/internal/store/storetest"
)

// peer is a database with the peer's tables and rows (DDL of its migrations).
func peer(t *testing.T, extra ...string) string {
	t.Helper()
	url := storetest.Postgres(t)
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, sql := range append([]string{storetest.LockerSchema}, extra...) {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	return url
}

func TestReadsInTheOrderOfKeysAndGoesOn(t *testing.T) {
	t.Parallel()
	var rows []string
	for _, m := range []string{"m-b", "m-a"} {
		rows = append(rows, fmt.Sprintf(`INSERT INTO hyperswitch.merchant (merchant_id, enc_key) VALUES ('%s', '\x0102')`, m))
		for i := range 5 {
			rows = append(rows, fmt.Sprintf(`INSERT INTO hyperswitch.locker (locker_id, merchant_id, customer_id, enc_data, hash_id, ttl) VALUES ('ref-%d', '%s', 'c-%d', '\x03', 'h-%s-%d', %s)`,
				i, m, i%2, m, i, map[bool]string{true: "NULL", false: "'2030-01-02 03:04:05'"}[i%2 == 0]))
		}
		rows = append(rows, fmt.Sprintf(`INSERT INTO hyperswitch.vault (entity_id, vault_id, encrypted_data) VALUES ('%s', 'v', '\x04')`, m),
			fmt.Sprintf(`INSERT INTO hyperswitch.fingerprint (fingerprint_hash, fingerprint_id) VALUES ('\x%x', 'id-%s')`, m, m))
	}
	d, err := lockerdb.Open(t.Context(), peer(t, rows...), "hyperswitch")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close(t.Context())
	if c, err := d.Counts(t.Context()); err != nil || c != (lockerdb.Counts{Merchants: 2, Cards: 10, Values: 2, Fingerprints: 2}) {
		t.Errorf("counts: %+v, %v", c, err)
	}
	var got []string
	for after := (lockerdb.CardKey{}); ; {
		cards, err := d.Cards(t.Context(), after, 3)
		if err != nil {
			t.Fatal(err)
		}
		if len(cards) == 0 {
			break
		}
		for _, c := range cards {
			got = append(got, c.Merchant+c.Customer+c.Reference)
			if c.CreatedAt.IsZero() || string(c.Blob) != "\x03" || (c.ExpiresAt == nil) != strings.ContainsAny(c.Reference, "024") {
				t.Errorf("card %+v", c.CardKey)
			}
			if c.ExpiresAt != nil && c.ExpiresAt.UTC().Format("2006-01-02T15:04:05Z") != "2030-01-02T03:04:05Z" {
				t.Errorf("expiry %s is not UTC", c.ExpiresAt)
			}
		}
		after = cards[len(cards)-1].CardKey
	}
	if want := "m-ac-0ref-0 m-ac-0ref-2 m-ac-0ref-4 m-ac-1ref-1 m-ac-1ref-3 m-bc-0ref-0 m-bc-0ref-2 m-bc-0ref-4 m-bc-1ref-1 m-bc-1ref-3"; strings.Join(got, " ") != want {
		t.Errorf("got %s", strings.Join(got, " "))
	}
	if m, err := d.Merchant(t.Context(), "m-a"); err != nil || m == nil || string(m.Key) != "\x01\x02" || m.CreatedAt.IsZero() {
		t.Errorf("merchant: %+v, %v", m, err)
	}
	if m, err := d.Merchant(t.Context(), "m-c"); err != nil || m != nil {
		t.Errorf("unknown merchant: %+v, %v", m, err)
	}
	if v, err := d.Values(t.Context(), lockerdb.ValueKey{Entity: "m-a", ID: "v"}, 10); err != nil || len(v) != 1 || v[0].Entity != "m-b" || v[0].ExpiresAt != nil {
		t.Errorf("values: %+v, %v", v, err)
	}
	if f, err := d.Fingerprints(t.Context(), nil, 10); err != nil || len(f) != 2 || f[0].ID != "id-m-a" {
		t.Errorf("fingerprints: %+v, %v", f, err)
	}
}

// Early versions of the peer have no tables of v2.
func TestReadsAnOlderSchema(t *testing.T) {
	t.Parallel()
	d, err := lockerdb.Open(t.Context(), peer(t, `DROP TABLE hyperswitch.vault`, `DROP TABLE hyperswitch.entity`, `DROP TABLE hyperswitch.fingerprint`), "hyperswitch")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close(t.Context())
	v, verr := d.Values(t.Context(), lockerdb.ValueKey{}, 10)
	f, ferr := d.Fingerprints(t.Context(), nil, 10)
	c, cerr := d.Counts(t.Context())
	if len(v)+len(f) != 0 || verr != nil || ferr != nil || cerr != nil || c != (lockerdb.Counts{}) {
		t.Errorf("%v %v %v, %v %v %v", v, f, c, verr, ferr, cerr)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	url := peer(t)
	for _, c := range []struct{ dsn, schema, want string }{
		{url, "x; drop", `schema "x; drop": must be a plain name of letters, digits and underscores`},
		{url, "public", "schema public has no tables merchant and locker: is it that of Hyperswitch's card vault? name the tenant's with --schema"},
		{"postgres://user:hidden@/%zz", "hyperswitch", "dsn: not a PostgreSQL URL or keyword list"},
	} {
		if _, err := lockerdb.Open(t.Context(), c.dsn, c.schema); err == nil || err.Error() != c.want {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
	if _, err := lockerdb.Open(t.Context(), "postgres://user:hidden@127.0.0.1:1/db", "hyperswitch"); err == nil || strings.Contains(err.Error(), "hidden") || !strings.HasPrefix(err.Error(), "connect to Hyperswitch's database: ") {
		t.Errorf("got %v", err)
	}
}
