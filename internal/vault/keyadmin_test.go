package vault_test

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cardea/internal/audit"
	"cardea/internal/vault"
	"cardea/internal/vault/vaulttest"
)

// keyNode is a node with an operator, in memory. Several may share a store.
type keyNode struct {
	*vault.Service
	admin   *vault.KeyAdmin
	store   *vaulttest.Store
	keys    *vaulttest.Keys
	clock   *clock
	tenants *vault.Tenants
	guards  *vaulttest.Custodians
	policy  vault.KeyPolicy
	wiped   []string
	metrics *prometheus.Registry
}

func newKeyNode(t testing.TB, name string, of *keyNode) *keyNode {
	t.Helper()
	n := &keyNode{store: vaulttest.NewStore(), clock: newClock(), guards: vaulttest.NewCustodians(), policy: vault.KeyPolicy{Rate: 1_000_000}, metrics: prometheus.NewRegistry()}
	if of != nil {
		n.store, n.clock = of.store, of.clock
	}
	n.tenants = vault.NewTenants()
	g := &vault.Gate{Node: name, Log: n.store, Tenants: n.tenants, Now: n.clock.now, Logger: slog.New(slog.DiscardHandler)}
	n.keys = vaulttest.NewKeys(g, n.store)
	if of != nil {
		n.keys = of.keys
	}
	n.setMode(vault.ModeLocal, "")
	var err error
	if n.Service, err = vault.NewService(vault.Options{Gate: g, Store: n.store, Keys: n.keys, Custodians: n.guards}); err != nil {
		t.Fatal(err)
	}
	n.admin = vault.NewKeyAdmin(vault.KeyAdminOptions{
		Gate: g, Service: n.Service, Store: n.store, Keys: n.keys, Custodians: n.guards, Policy: func(string) vault.KeyPolicy { return n.policy },
		Suspended: func(_ context.Context, tenant string) { n.wiped = append(n.wiped, "suspended "+tenant) },
		Resumed:   func(_ context.Context, tenant string) { n.wiped = append(n.wiped, "resumed "+tenant) },
		Metrics:   n.metrics,
	})
	if err := n.admin.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	return n
}

// setMode configures tenant acme.
func (n *keyNode) setMode(m vault.Mode, kmsKey string) {
	n.tenants.Replace(vault.Tenant{Name: "acme", Mode: m, LazyHolders: true, HashesInKMS: m == vault.ModeKMS}, vault.Tenant{Name: "other", Mode: vault.ModeLocal, LazyHolders: true})
	n.keys.SetKMSKey("acme", kmsKey)
}

// stored is a record that must stay what it is.
type stored struct {
	owner     vault.Owner
	reference string
	number    string
}

var testNumbers = []string{visa, visaOther, mastercard, amex}

// fill stores cards of two merchants and data of an entity.
func (n *keyNode) fill(t testing.TB, cards int) []stored {
	t.Helper()
	var all []stored
	for i := range cards {
		o := vault.Owner{Tenant: "acme", Merchant: fmt.Sprintf("m%d", i%2+1), Customer: fmt.Sprintf("c%d", i)}
		number := testNumbers[i%len(testNumbers)]
		all = append(all, stored{o, mustStore(t, n.Service, cardOf(o, number, "x")).Reference, number})
	}
	d := vault.Datum{Tenant: "acme", Entity: "e1", VaultID: "v1"}
	if err := n.StoreData(t.Context(), client("acme"), d, text(`{"a":1}`), nil, true); err != nil {
		t.Fatal(err)
	}
	return all
}

// check reads everything back and stores it again, which must find it.
func (n *keyNode) check(t testing.TB, all []stored) {
	t.Helper()
	for _, s := range all {
		checkNumber(t, n.Service, s.owner, s.reference, s.number)
		if r := mustStore(t, n.Service, cardOf(s.owner, s.number, "x")); r.Reference != s.reference || r.Duplication != vault.Duplicated {
			t.Errorf("%s of %s is %+v, want the reference %s again", s.owner.Customer, s.owner.Merchant, r, s.reference)
		}
	}
	v, err := n.RetrieveData(t.Context(), client("acme"), vault.Datum{Tenant: "acme", Entity: "e1", VaultID: "v1"})
	if err != nil || string(v.Expose()) != `{"a":1}` {
		t.Errorf("data: %v", err)
	}
}

func (n *keyNode) fingerprint(t testing.TB, data string) string {
	t.Helper()
	id, err := n.Fingerprint(t.Context(), client("acme"), vault.FingerprintRequest{Tenant: "acme", Data: text(data), Key: text("k")})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// finish takes a job up until it has ended.
func (n *keyNode) finish(t testing.TB, id vault.KeyID) vault.Job {
	t.Helper()
	for range 20 {
		n.admin.TakeUp(t.Context())
		j, err := n.admin.Job(t.Context(), operator(), id.String())
		if err != nil {
			t.Fatal(err)
		}
		switch j.State {
		case vault.JobDone, vault.JobFailed:
			return j
		case vault.JobWaiting:
			n.clock.pass(time.Minute)
		case vault.JobRunning:
			n.clock.pass(6 * time.Second) // after an error
		case vault.JobPaused:
			t.Fatal("the job is paused")
		}
	}
	t.Fatal("the job does not end")
	return vault.Job{}
}

// keyStates tells version, state and mode of every key of a tenant.
func (n *keyNode) keyStates(t testing.TB) []string {
	t.Helper()
	all, err := n.admin.Keys(t.Context(), operator(), vault.KeyQuery{Tenant: "acme", Count: true})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, k := range all {
		out = append(out, fmt.Sprintf("%s/%s v%d %s %s %d", k.Holder, k.Purpose, k.Version, k.State, k.Mode, k.Records))
	}
	return out
}

func wantStates(t testing.TB, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("keys are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestRotationMovesEveryRecord(t *testing.T) {
	t.Parallel()
	n := newKeyNode(t, "a", nil)
	all := n.fill(t, 250)
	fp := n.fingerprint(t, visa)
	from := n.store.Len()
	n.clock.pass(time.Second)
	j, err := n.admin.Rotate(t.Context(), operator(), vault.JobRequest{Tenant: "acme", Verify: true})
	if err != nil {
		t.Fatal(err)
	}
	n.admin.TakeUp(t.Context())
	waits, err := n.admin.Job(t.Context(), operator(), j.ID.String())
	if err != nil || waits.State != vault.JobWaiting || waits.Step != "retire" || waits.Moved != 251 || waits.Verified != 251 || waits.Total != 251 {
		t.Errorf("%+v, %v", waits, err)
	}
	wantStates(t, n.keyStates(t),
		"/dedupe v1 active local 250", "/fingerprint v1 active local 1", "/record v1 decrypt-only local 0", "/record v2 active local 1",
		"m1/record v1 decrypt-only local 0", "m1/record v2 active local 125", "m2/record v1 decrypt-only local 0", "m2/record v2 active local 125")
	j = n.finish(t, j.ID)
	if j.State != vault.JobDone || j.Bad != 0 || j.Moved != 251 || j.Error != "" {
		t.Errorf("%+v", j)
	}
	wantStates(t, n.keyStates(t),
		"/dedupe v1 active local 250", "/fingerprint v1 active local 1", "/record v1 retired local 0", "/record v2 active local 1",
		"m1/record v1 retired local 0", "m1/record v2 active local 125", "m2/record v1 retired local 0", "m2/record v2 active local 125")
	n.check(t, all)
	if n.fingerprint(t, visa) != fp {
		t.Error("the fingerprint has changed")
	}
	ops := map[string]int{}
	for _, e := range since(t, n.store, from) {
		if e.Outcome == audit.Allowed {
			ops[e.Op+" "+e.Result]++
		}
	}
	for op, want := range map[string]int{"key.job begun": 1, "key.rotate rotated": 3, "key.reencrypt moved": 3, "key.retire retired": 3, "key.job done": 1} {
		if ops[op] != want {
			t.Errorf("%d entries %s, want %d", ops[op], op, want)
		}
	}
}

// A batch of the whole tenant changes rows as they lie, of whichever merchant.
func TestBatchesNameWhatTheyMove(t *testing.T) {
	t.Parallel()
	n := newKeyNode(t, "a", nil)
	n.fill(t, 150)
	from := n.store.Len()
	n.clock.pass(time.Second)
	rotate := func(merchant string) (details []string) {
		t.Helper()
		j, err := n.admin.Rotate(t.Context(), operator(), vault.JobRequest{Tenant: "acme", Holder: merchant})
		if err != nil {
			t.Fatal(err)
		}
		if j = n.finish(t, j.ID); j.State != vault.JobDone {
			t.Fatalf("%+v", j)
		}
		for _, e := range since(t, n.store, from) {
			if e.Op == "key.reencrypt" {
				if named := e.Resource.Key != "" && e.Resource.KeyVersion != 0 && e.Resource.Merchant == merchant; named != (merchant != "") {
					t.Errorf("resource %+v", e.Resource)
				}
				details = append(details, strings.NewReplacer(j.ID.String(), "J", cmp.Or(e.Resource.Key, "none"), "K",
					" 2 key versions", " some key versions", " 3 key versions", " some key versions").Replace(e.Detail)) // the rows are in no order
			}
		}
		from = n.store.Len()
		return details
	}
	if got, want := rotate(""), []string{
		"100 records, rows 1 to 100, from some key versions to those in use now in mode local, but those changed meanwhile, job J",
		"51 records, rows 101 to 151, from some key versions to those in use now in mode local, but those changed meanwhile, job J",
	}; !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	n.clock.pass(time.Second)
	if got, want := rotate("m1"), []string{
		"75 records from version 2 of key K in mode local to version 3 of key K in mode local, but those changed meanwhile, job J",
	}; !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// Where only a few of all rows are to be moved, the others are not read for them.
func TestFewRowsAreMovedAVersionAfterTheOther(t *testing.T) {
	t.Parallel()
	n := newKeyNode(t, "a", nil)
	all := n.fill(t, 4)
	for i := range 60 {
		d := vault.Datum{Tenant: "other", Entity: "e1", VaultID: fmt.Sprint("v", i)}
		if err := n.StoreData(t.Context(), client("other"), d, text("1"), nil, true); err != nil {
			t.Fatal(err)
		}
	}
	n.clock.pass(time.Second)
	j, err := n.admin.Rotate(t.Context(), operator(), vault.JobRequest{Tenant: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	n.store.FailWith(func(op string) error {
		if op == "RecordsAmong" {
			return fmt.Errorf("%s: rows of all are read", op)
		}
		return nil
	})
	if j = n.finish(t, j.ID); j.State != vault.JobDone || j.Moved != 5 {
		t.Errorf("%+v", j)
	}
	n.store.FailWith(nil)
	n.check(t, all)
}

func TestRotationOfOneMerchantLeavesTheOthers(t *testing.T) {
	t.Parallel()
	n := newKeyNode(t, "a", nil)
	all := n.fill(t, 10)
	n.clock.pass(time.Second)
	j, err := n.admin.Rotate(t.Context(), operator(), vault.JobRequest{Tenant: "acme", Holder: "m1"})
	if err != nil {
		t.Fatal(err)
	}
	if j = n.finish(t, j.ID); j.State != vault.JobDone || j.Moved != 5 {
		t.Errorf("%+v", j)
	}
	wantStates(t, n.keyStates(t),
		"/dedupe v1 active local 10", "/record v1 active local 1",
		"m1/record v1 retired local 0", "m1/record v2 active local 5", "m2/record v1 active local 5")
	n.check(t, all)
}

func TestRowsThatDoNotOpenKeepTheirVersion(t *testing.T) {
	t.Parallel()
	n := newKeyNode(t, "a", nil)
	n.fill(t, 4)
	n.store.Damage()
	all := []stored{}
	o := vault.Owner{Tenant: "acme", Merchant: "m1", Customer: "new"}
	all = append(all, stored{o, mustStore(t, n.Service, cardOf(o, visa, "")).Reference, visa})
	from := n.store.Len()
	n.clock.pass(time.Second)
	j, err := n.admin.Rotate(t.Context(), operator(), vault.JobRequest{Tenant: "acme", Holder: "m1", Verify: true})
	if err != nil {
		t.Fatal(err)
	}
	j = n.finish(t, j.ID)
	if want := "2 records do not open or cannot be moved: they are as they were, the audit log names them"; j.State != vault.JobFailed || j.Bad != 2 || j.Moved != 1 || !strings.HasPrefix(j.Error, want) {
		t.Errorf("%+v", j)
	}
	named := 0
	for _, e := range since(t, n.store, from) {
		if e.Op == "key.reencrypt" && e.Outcome == audit.Failed && e.Result == "corrupt" && e.Resource.Reference != "" {
			named++
		}
	}
	if named != 4 { // once before it waits and once after
		t.Errorf("%d entries name rows that do not open", named)
	}
	wantStates(t, n.keyStates(t)[2:4], "m1/record v1 decrypt-only local 2", "m1/record v2 active local 1")
	checkNumber(t, n.Service, all[0].owner, all[0].reference, visa)
}

// modes are the ways that a tenant's keys may be kept in this test.
var modes = []struct {
	mode vault.Mode
	key  string
}{{vault.ModeLocal, ""}, {vault.ModeKMSEnvelope, "k1"}, {vault.ModeKMS, "k1"}, {vault.ModeKMSEnvelope, "k2"}, {vault.ModeKMS, "k2"}}

func TestMigrationBetweenAnyTwoModes(t *testing.T) {
	t.Parallel()
	for _, a := range modes {
		for _, b := range modes {
			if a == b {
				continue
			}
			t.Run(fmt.Sprintf("%s %s to %s %s", a.mode, a.key, b.mode, b.key), func(t *testing.T) {
				t.Parallel()
				n := newKeyNode(t, "a", nil)
				n.setMode(a.mode, a.key)
				all := n.fill(t, 120)
				prints := map[string]string{}
				for _, number := range testNumbers {
					prints[number] = n.fingerprint(t, number)
				}
				for _, to := range []struct {
					mode vault.Mode
					key  string
				}{b, a} { // there and back
					n.clock.pass(time.Second)
					n.setMode(to.mode, to.key)
					n.check(t, all) // as it is before the migration
					before, entries := n.keyStates(t), n.store.Len()
					plan, err := n.admin.Plan(t.Context(), operator(), "acme")
					if err != nil || len(plan) != len(before) {
						t.Fatalf("plan of %d keys, %v", len(plan), err)
					}
					wantStates(t, n.keyStates(t), before...)
					if n.store.Len() != entries+2 {
						t.Errorf("a dry run made %d entries", n.store.Len()-entries)
					}
					j, err := n.admin.Migrate(t.Context(), operator(), vault.JobRequest{Tenant: "acme", Verify: true})
					if err != nil {
						t.Fatal(err)
					}
					if j = n.finish(t, j.ID); j.State != vault.JobDone || j.Bad != 0 {
						t.Fatalf("%+v", j)
					}
					n.check(t, all)
					for number, id := range prints {
						if got := n.fingerprint(t, number); got != id {
							t.Error("a fingerprint has changed")
						}
					}
					n.allIn(t, to.mode, 121)
					_, err = n.admin.Migrate(t.Context(), operator(), vault.JobRequest{Tenant: "acme"})
					if want := fmt.Sprintf("all keys of tenant acme are in mode %s and under its configured KMS key already", to.mode); err == nil || err.Error() != want {
						t.Errorf("once more: %v", err)
					}
				}
			})
		}
	}
}

// allIn fails unless all records are under current keys of a mode.
func (n *keyNode) allIn(t testing.TB, m vault.Mode, want int64) {
	t.Helper()
	all, err := n.admin.Keys(t.Context(), operator(), vault.KeyQuery{Tenant: "acme", Count: true})
	if err != nil {
		t.Fatal(err)
	}
	var got int64
	for _, k := range all {
		if k.Purpose != vault.PurposeRecord && k.Purpose != vault.PurposeDirect || k.Records == 0 {
			continue
		}
		if k.Mode != m.String() || k.State != vault.KeyActive || !k.Current {
			t.Errorf("%d records are under %+v", k.Records, k)
		}
		got += k.Records
	}
	if got != want {
		t.Errorf("%d records, want %d", got, want)
	}
}
