package storetest

import (
	"context"
	"crypto/rand"
	"database/sql"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cardea/internal/audit"
	"cardea/internal/store"
	"cardea/internal/vault"

	"github.com/google/uuid"
	_ "github.com/jackc/pgx/v5/stdlib" // for Exec
)

// Node is the node that fixtures are made on.
const Node = "test-1"

// Database is one of the databases that a store can be on.
type Database struct {
	Name string
	URL  func(tb testing.TB) string // of a new, empty one
}

// Databases are all of them.
func Databases() []Database {
	return []Database{{"sqlite", SQLite}, {"postgres", Postgres}}
}

// SQLite returns the URL of a new, empty database.
func SQLite(tb testing.TB) string {
	return "sqlite:" + filepath.Join(tb.TempDir(), "data", "cardea.db")
}

// Each runs test on each database.
func Each(t *testing.T, test func(t *testing.T, db Database)) {
	for _, db := range Databases() {
		t.Run(db.Name, func(t *testing.T) { test(t, db) })
	}
}

// Open opens a store, which is closed when tb ends.
func Open(tb testing.TB, url string, change ...func(*store.Options)) *store.Store {
	tb.Helper()
	s, err := TryOpen(tb, url, change...)
	if err != nil {
		tb.Fatalf("open store: %v", err)
	}
	return s
}

// TryOpen is Open of a store that may refuse.
func TryOpen(tb testing.TB, url string, change ...func(*store.Options)) (*store.Store, error) {
	tb.Helper()
	o := store.Options{URL: url, Node: Node}
	for _, c := range change {
		c(&o)
	}
	s, err := store.Open(tb.Context(), o)
	if err == nil {
		tb.Cleanup(func() {
			if err := s.Close(); err != nil {
				tb.Errorf("close store of %s: %v", o.Node, err)
			}
		})
	}
	return s, err
}

// OnNode opens as a node of another name.
func OnNode(name string) func(*store.Options) { return func(o *store.Options) { o.Node = name } }

// WithSigner opens with a key for checkpoints, signing often.
func WithSigner(s *audit.Signer) func(*store.Options) {
	return func(o *store.Options) { o.Signer, o.CheckpointInterval = s, 5*time.Millisecond }
}

// ReadOnly opens beside a server.
func ReadOnly(o *store.Options) { o.ReadOnly = true }

// Exec runs SQL behind the back of a store. Arguments stand as $1, $2 …
func Exec(tb testing.TB, url, statement string, args ...any) {
	tb.Helper()
	driver, source := "pgx", url
	if path, ok := strings.CutPrefix(url, "sqlite:"); ok {
		driver, source = "sqlite", "file:"+path+"?_pragma=busy_timeout(5000)"
	}
	db, err := sql.Open(driver, source)
	if err != nil {
		tb.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(context.Background(), statement, args...); err != nil {
		tb.Fatalf("%s: %v", statement, err)
	}
}

// Signer makes a key for the log of a node.
func Signer(tb testing.TB, node string) *audit.Signer {
	tb.Helper()
	key, _, err := audit.GenerateSigningKey("cardea/" + node)
	if err != nil {
		tb.Fatal(err)
	}
	signer, err := audit.NewSigner(key)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(signer.Destroy)
	return signer
}

// Entry makes an entry about a reference.
func Entry(tb testing.TB, reference string) audit.Sealed { return EntryOf(tb, Node, reference) }

// EntryOf is Entry of another node.
func EntryOf(tb testing.TB, node, reference string) audit.Sealed {
	tb.Helper()
	e, err := audit.Entry{
		ID: uuid.Must(uuid.NewV7()).String(), Time: time.Now(), Node: node, Tenant: "public",
		Who: audit.Actor{Type: "tenant", Name: "public", Auth: "loopback", IP: "127.0.0.1"}, Op: "card.store", PCI: "10.2.1.1",
		Resource: audit.Resource{Kind: "card", Merchant: "merchant_1", Customer: "customer_1", Reference: reference, MaskedPAN: "411111******1111"},
		Outcome:  audit.Allowed, Result: "stored", RequestID: uuid.NewString(),
	}.Seal()
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

// Record makes a record with keys of its own.
func Record(holder int64) vault.Record {
	reference := uuid.Must(uuid.NewV7()).String()
	r := vault.Record{
		Dedupe: new(vault.MAC), HashedBy: 1, HolderID: holder, Space: vault.SpaceV1, Kind: vault.KindCard, Customer: "customer_1", Reference: reference,
		Mode: vault.ModeLocal, Key: vault.NewKeyID(), KeyVersion: 1, Sealed: make([]byte, 190), CreatedAt: vault.MicrosOf(time.Now()),
	}
	rand.Read(r.Dedupe[:])
	rand.Read(r.Sealed)
	r.Lookup = vault.LookupOf("public", "merchant_1", r.Space, r.Customer, r.Reference)
	return r
}

// Holder puts a merchant.
func Holder(tb testing.TB, s vault.Store) vault.Holder {
	tb.Helper()
	h, _, err := s.PutHolder(tb.Context(), vault.Holder{Tenant: "public", Name: "merchant_1", CreatedAt: vault.MicrosOf(time.Now())}, Entry(tb, "merchant_1"))
	if err != nil {
		tb.Fatal(err)
	}
	return h
}

// Verify checks the audit log of the store.
func Verify(tb testing.TB, s audit.Source, verifiers ...string) audit.Report {
	tb.Helper()
	rep, err := audit.Verify(context.Background(), s, audit.VerifyOptions{Verifiers: verifiers, AllowUnsigned: len(verifiers) == 0})
	if err != nil {
		tb.Fatalf("verify: %v", err)
	}
	for _, l := range rep.Logs {
		for _, f := range l.Findings {
			tb.Errorf("audit log %s: %s at %d: %s", l.Origin, f.Kind, f.Seq, f.Message)
		}
	}
	return rep
}
