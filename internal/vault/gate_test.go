package vault_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"cardea/internal/audit"
	"cardea/internal/custodian"
	"cardea/internal/iam"
	"cardea/internal/secret"
	"cardea/internal/vault"
	"cardea/internal/vault/vaulttest"
)

// operations is every operation of the service that a transport can ask for, on
// one owner and datum, by its name in the table.
func operations() map[string]func(ctx context.Context, s *vault.Service, who iam.Principal) error {
	d := vault.Datum{Tenant: "acme", Entity: "e1", VaultID: "v1"}
	return map[string]func(context.Context, *vault.Service, iam.Principal) error{
		"card.store": func(ctx context.Context, s *vault.Service, who iam.Principal) error {
			_, err := s.StoreCard(ctx, who, cardOf(owner, mastercard, ""))
			return err
		},
		"card.retrieve": func(ctx context.Context, s *vault.Service, who iam.Principal) error {
			c, err := s.RetrieveCard(ctx, who, owner, "r1")
			if err != nil && c != nil {
				return errors.New("a card came with an error")
			}
			c.Destroy()
			return err
		},
		"card.delete": func(ctx context.Context, s *vault.Service, who iam.Principal) error {
			return s.DeleteCard(ctx, who, owner, "r1")
		},
		"fingerprint.get": func(ctx context.Context, s *vault.Service, who iam.Principal) error {
			id, err := s.Fingerprint(ctx, who, vault.FingerprintRequest{Tenant: "acme", Data: text(visa), Key: text("k")})
			if err != nil && id != "" {
				return errors.New("a fingerprint came with an error")
			}
			return err
		},
		"data.store": func(ctx context.Context, s *vault.Service, who iam.Principal) error {
			return s.StoreData(ctx, who, d, text("{}"), nil, true)
		},
		"data.retrieve": func(ctx context.Context, s *vault.Service, who iam.Principal) error {
			v, err := s.RetrieveData(ctx, who, d)
			if err != nil && v.Present() {
				return errors.New("a value came with an error")
			}
			v.Destroy()
			return err
		},
		"data.delete": func(ctx context.Context, s *vault.Service, who iam.Principal) error { return s.DeleteData(ctx, who, d) },
		"holder.create": func(ctx context.Context, s *vault.Service, who iam.Principal) error {
			h, err := s.ProvisionHolder(ctx, who, "acme", "e9")
			if err != nil && h.Name != "" {
				return errors.New("a holder came with an error")
			}
			return err
		},
		"custodian.part": func(ctx context.Context, s *vault.Service, who iam.Principal) error {
			return s.SubmitPart(ctx, who, "acme", custodian.Part{})
		},
		"custodian.unlock": func(ctx context.Context, s *vault.Service, who iam.Principal) error {
			return s.Unlock(ctx, who, "acme")
		},
		"custodian.lock": func(ctx context.Context, s *vault.Service, who iam.Principal) error { return s.Lock(ctx, who, "acme") },
		"custodian.status": func(ctx context.Context, s *vault.Service, who iam.Principal) error {
			_, err := s.CustodyStatus(ctx, who, "acme")
			return err
		},
		"health.diagnose": func(ctx context.Context, s *vault.Service, who iam.Principal) error {
			_, err := s.Diagnose(ctx, who, "acme")
			return err
		},
	}
}

// filled is a vault that has what operations asks for.
func filled(t testing.TB) *vaulttest.Vault {
	t.Helper()
	v, _ := newFake(t, "acme")
	r := cardOf(owner, visa, "")
	r.Reference = "r1"
	mustStore(t, v.Service, r)
	d := vault.Datum{Tenant: "acme", Entity: "e1", VaultID: "v1"}
	if err := v.StoreData(t.Context(), client("acme"), d, text(`{"a":1}`), nil, false); err != nil {
		t.Fatal(err)
	}
	return v
}

// actor is who may perform an operation.
func actor(op string) iam.Principal {
	who := client("acme")
	if strings.HasPrefix(op, "custodian.") {
		who.Type, who.Auth = iam.TypeCustodian, "bearer"
	}
	return who
}

func TestEveryAllowedOperationHasOneEntry(t *testing.T) {
	t.Parallel()
	for op, act := range operations() {
		v := filled(t)
		if op == "custodian.part" || op == "custodian.unlock" {
			if err := v.Custodians.Lock("acme"); err != nil {
				t.Fatal(err)
			}
		}
		from := v.Store.Len()
		if err := act(t.Context(), v.Service, actor(op)); err != nil {
			t.Errorf("%s: %v", op, err)
			continue
		}
		e := only(t, since(t, v.Store, from))
		if e.Op != op || e.Outcome != audit.Allowed || e.Result == "" || e.Detail != "" {
			t.Errorf("%s: entry says %s, detail %q", op, told(e), e.Detail)
		}
	}
}

func TestEveryDeniedOperationHasOneEntryAndDoesNothing(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*iam.Principal)
		detail string
	}{
		"anonymous":              {func(p *iam.Principal) { p.Type = iam.TypeAnonymous }, "access denied: not authenticated"},
		"zero principal":         {func(p *iam.Principal) { *p = iam.Principal{} }, "access denied: unknown principal type"},
		"of another tenant":      {func(p *iam.Principal) { p.Tenant = "other" }, "access denied: principal belongs to another tenant"},
		"without the action":     {func(p *iam.Principal) { p.Actions = []string{"none:*"} }, "access denied: action is not among the principal's actions"},
		"without the merchant":   {func(p *iam.Principal) { p.Merchants = []string{"m2"} }, "access denied: merchant is not among the principal's merchants"},
		"type that is not known": {func(p *iam.Principal) { p.Type = "root" }, "access denied: unknown principal type"},
	} {
		for op, act := range operations() {
			if name == "without the merchant" && (strings.HasPrefix(op, "custodian.") || op == "fingerprint.get" || op == "health.diagnose") {
				continue // names no merchant
			}
			v := filled(t)
			calls := 0
			from := v.Store.Len()
			v.Store.FailWith(func(method string) error {
				if method != "Append" {
					calls++
				}
				return nil
			})
			who := actor(op)
			tc.change(&who)
			checkError(t, name+" "+op, act(t.Context(), v.Service, who), vault.ErrDenied)
			e := only(t, since(t, v.Store, from))
			if told(e) != op+" denied denied" || e.Detail != tc.detail {
				t.Errorf("%s: entry of %s says %s, %q", name, op, told(e), e.Detail)
			}
			if calls != 0 {
				t.Errorf("%s: %s asked the store %d times", name, op, calls)
			}
		}
	}
}

func TestEveryOperationOfAnUnknownTenantHasOneEntry(t *testing.T) {
	t.Parallel()
	for op, act := range operations() {
		v := filled(t)
		v.SetTenants("other")
		from := v.Store.Len()
		checkError(t, op, act(t.Context(), v.Service, actor(op)), vault.ErrUnknownTenant)
		if e := only(t, since(t, v.Store, from)); told(e) != op+" denied unknown_tenant" || e.Detail != `tenant "acme": unknown tenant` {
			t.Errorf("%s: entry says %s, %q", op, told(e), e.Detail)
		}
	}
}

func TestOperationsOnStoredDataAreRefusedWhileLocked(t *testing.T) {
	t.Parallel()
	for _, op := range vault.Operations() {
		act, ok := operations()[op.Name]
		if !ok {
			continue
		}
		v := filled(t)
		if err := v.Custodians.Lock("acme"); err != nil {
			t.Fatal(err)
		}
		from := v.Store.Len()
		err := act(t.Context(), v.Service, actor(op.Name))
		if op.Sealed {
			if errors.Is(err, vault.ErrLocked) {
				t.Errorf("%s is refused while locked, but must work then", op.Name)
			}
			continue
		}
		checkError(t, op.Name, err, vault.ErrLocked)
		if e := only(t, since(t, v.Store, from)); told(e) != op.Name+" failed locked" {
			t.Errorf("%s: entry says %s", op.Name, told(e))
		}
	}
}

// Whatever fails, the operation fails with it and has one entry.
func TestEveryFailureOfTheStoreHasOneEntry(t *testing.T) {
	t.Parallel()
	for op, act := range operations() {
		v := filled(t)
		from := v.Store.Len()
		failed := false
		v.Store.FailWith(func(method string) error {
			if method == "Append" {
				return nil
			}
			failed = true
			return errors.New("disk is gone")
		})
		err := act(t.Context(), v.Service, actor(op))
		if !failed {
			continue // does not touch the store
		}
		checkError(t, op, err, vault.ErrUnavailable)
		if e := only(t, since(t, v.Store, from)); told(e) != op+" failed unavailable" || !strings.Contains(e.Detail, "disk is gone") {
			t.Errorf("%s: entry says %s, %q", op, told(e), e.Detail)
		}
	}
}

func TestWithoutItsEntryEveryOperationFailsAndReleasesNothing(t *testing.T) {
	t.Parallel()
	for op, act := range operations() {
		v := filled(t)
		from := v.Store.Len()
		// Changes carry their entry themselves, so they fail too.
		v.Store.FailWith(func(method string) error {
			switch method {
			case "Append", "PutRecord", "UpsertRecord", "DeleteRecord", "PutHolder", "PutFingerprint":
				return errors.New("log is full")
			}
			return nil
		})
		checkError(t, op, act(t.Context(), v.Service, actor(op)), vault.ErrUnavailable)
		if n := v.Store.Len() - from; n != 0 {
			t.Errorf("%s: %d entries", op, n)
		}
	}
}

// opened keeps what a key manager has decrypted.
type opened struct {
	vault.KeyManager
	all []secret.Bytes
}

func (o *opened) Open(ctx context.Context, c vault.RecordContext, s vault.Sealed) (secret.Bytes, error) {
	p, err := o.KeyManager.Open(ctx, c, s)
	o.all = append(o.all, p)
	return p, err
}

func TestPlaintextIsWipedIfItsEntryCannotBeWritten(t *testing.T) {
	t.Parallel()
	for _, op := range vault.Operations() {
		if !op.Releases {
			continue
		}
		v := filled(t)
		keys := &opened{KeyManager: v.Keys}
		s := serviceOn(t, v, v.Store, keys)
		v.Store.FailWith(func(method string) error {
			if method == "Append" {
				return errors.New("log is full")
			}
			return nil
		})
		act := operations()[op.Name]
		if act == nil {
			t.Fatalf("%s releases plaintext and is not tested", op.Name)
		}
		err := act(t.Context(), s, client("acme"))
		checkError(t, op.Name, err, vault.ErrUnavailable)
		if !strings.Contains(err.Error(), "audit entry not written") {
			t.Errorf("%s: got %v", op.Name, err)
		}
		if len(keys.all) != 1 {
			t.Fatalf("%s: %d plaintexts opened, want 1", op.Name, len(keys.all))
		}
		if keys.all[0].Len() != 0 {
			t.Errorf("%s: the plaintext was not wiped", op.Name)
		}
	}
}

// detached is a store that sees whether a write depends on its client.
type detached struct {
	vault.Store
	leave context.CancelFunc
	seen  []error
}

func (d *detached) gone(ctx context.Context) {
	d.leave() // the client hangs up just now
	_, bounded := ctx.Deadline()
	if !bounded {
		d.seen = append(d.seen, errors.New("no end"))
	}
	d.seen = append(d.seen, ctx.Err())
}

func (d *detached) Append(ctx context.Context, e ...audit.Sealed) error {
	d.gone(ctx)
	return d.Store.Append(ctx, e...)
}

func (d *detached) PutRecord(ctx context.Context, r vault.Record, e audit.Sealed) (*vault.Record, error) {
	d.gone(ctx)
	return d.Store.PutRecord(ctx, r, e)
}

func (d *detached) UpsertRecord(ctx context.Context, r vault.Record, e audit.Sealed) error {
	d.gone(ctx)
	return d.Store.UpsertRecord(ctx, r, e)
}

func (d *detached) DeleteRecord(ctx context.Context, l vault.Lookup, at vault.Micros, e audit.Sealed) (bool, error) {
	d.gone(ctx)
	return d.Store.DeleteRecord(ctx, l, at, e)
}

func (d *detached) PutHolder(ctx context.Context, h vault.Holder, e audit.Sealed) (vault.Holder, bool, error) {
	d.gone(ctx)
	return d.Store.PutHolder(ctx, h, e)
}

func (d *detached) PutFingerprint(ctx context.Context, tenant string, hash vault.MAC, by uint32, id string, e audit.Sealed) (string, bool, error) {
	d.gone(ctx)
	return d.Store.PutFingerprint(ctx, tenant, hash, by, id, e)
}

// A client that hangs up must neither keep its access out of the log, nor leave
// a change half known.
func TestNoWriteDependsOnTheClientStayingThere(t *testing.T) {
	t.Parallel()
	for op, act := range operations() {
		v := filled(t)
		ctx, cancel := context.WithCancel(t.Context())
		d := &detached{Store: v.Store, leave: cancel}
		from := v.Store.Len()
		if err := act(ctx, serviceOn(t, v, d, v.Keys), actor(op)); err != nil && !errors.Is(err, custodian.ErrUnlocked) {
			t.Errorf("%s: %v", op, err)
		}
		if len(d.seen) == 0 {
			t.Errorf("%s wrote nothing", op)
		}
		for _, err := range d.seen {
			if err != nil {
				t.Errorf("%s: a write ends with its client: %v", op, err)
			}
		}
		only(t, since(t, v.Store, from))
	}
}

func TestOperationOfAClientThatIsGoneIsInTheLog(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme")
	r := cardOf(owner, visa, "")
	r.Reference = "r1"
	mustStore(t, n.Service, r)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for op, act := range operations() {
		from := n.entries(t, 0)
		err := act(ctx, n.Service, actor(op))
		e := only(t, n.entries(t, int64(len(from))))
		if e.Op != op || (err == nil) != (e.Outcome == audit.Allowed) {
			t.Errorf("%s: got %v, entry says %s", op, err, told(e))
		}
		if errors.Is(err, context.Canceled) && e.Result != "cancelled" {
			t.Errorf("%s: entry of a cancelled operation says %s", op, told(e))
		}
	}
}

func TestEntryHasAllThatPCIWants(t *testing.T) {
	t.Parallel()
	v, _ := newFake(t, "acme")
	r := cardOf(owner, visa, "Jane Doe")
	r.Reference = "r1"
	ctx := vault.WithRequestID(t.Context(), "req-1")
	if _, err := v.StoreCard(ctx, client("acme"), r); err != nil {
		t.Fatal(err)
	}
	e := only(t, since(t, v.Store, 0))
	if len(e.ID) != 36 || e.ID[14] != '7' || len(e.Resource.Key) != 36 {
		t.Errorf("id %q, key %q: want UUIDs", e.ID, e.Resource.Key)
	}
	key := e.Resource.Key
	e.ID, e.Resource.Key = "", ""
	// PCI DSS v4.0.1, 10.2.2: user, type of event, date and time, success, origin, what it was done to.
	want := audit.Entry{
		Version: audit.EntryVersion, Time: newClock().now(), Node: "test", RequestID: "req-1", Tenant: "acme",
		Who: audit.Actor{Type: "tenant", Name: "shop", Auth: "mtls", IP: "192.0.2.7"},
		Op:  "card.store", PCI: "10.2.1.1", Outcome: audit.Allowed, Result: "stored",
		Resource: audit.Resource{Kind: "card", Merchant: "m1", Customer: "c1", Reference: "r1", MaskedPAN: "411111******1111", KeyVersion: 1},
	}
	if e != want {
		t.Errorf("got %+v\nwant %+v", e, want)
	}
	if _, err := v.RetrieveCard(ctx, client("acme"), owner, "r1"); err != nil {
		t.Fatal(err)
	}
	e = since(t, v.Store, v.Store.Len()-1)[0]
	e.ID = ""
	want.Op, want.Result, want.Resource.Key = "card.retrieve", "released", key
	if e != want {
		t.Errorf("got %+v\nwant %+v", e, want)
	}
	if e := since(t, v.Store, 0)[0]; e.Who != (audit.Actor{Type: "system", Name: "lazy-holder", Auth: "internal"}) || e.RequestID != "req-1" {
		t.Errorf("the merchant was made by %+v for request %q", e.Who, e.RequestID)
	}
}

// The sender's own words must not make an entry impossible.
func TestWhateverAClientSendsIsInTheLog(t *testing.T) {
	t.Parallel()
	v, _ := newFake(t, "acme")
	for _, s := range []string{"\x00", "\xff\xfe", strings.Repeat("x", 10_000), "\"},\n{", visa} {
		from := v.Store.Len()
		who := client("acme")
		who.Name = s
		err := v.DeleteCard(vault.WithRequestID(t.Context(), s), who, vault.Owner{Tenant: "acme", Merchant: s, Customer: s}, s)
		if errors.Is(err, vault.ErrUnavailable) {
			t.Errorf("%.10q: %v", s, err)
		}
		only(t, since(t, v.Store, from))
	}
	if strings.Contains(string(v.Store.Lines()), visa) {
		t.Error("a card number that a client used as a name is in the log")
	}
}

type panicky struct{ vault.KeyManager }

func (panicky) Open(context.Context, vault.RecordContext, vault.Sealed) (secret.Bytes, error) {
	panic("broken key manager")
}

func TestOperationThatPanicsIsInTheLog(t *testing.T) {
	t.Parallel()
	v := filled(t)
	s := serviceOn(t, v, v.Store, panicky{v.Keys})
	from := v.Store.Len()
	func() {
		defer func() {
			if r := recover(); r != "broken key manager" {
				t.Errorf("recovered %v", r)
			}
		}()
		s.RetrieveCard(t.Context(), client("acme"), owner, "r1")
	}()
	if e := only(t, since(t, v.Store, from)); told(e) != "card.retrieve failed error" || e.Detail != "operation was aborted" {
		t.Errorf("entry says %s, %q", told(e), e.Detail)
	}
}

func TestGateWithAnImpossibleNodeRefusesAll(t *testing.T) {
	t.Parallel()
	v := filled(t)
	v.Gate.Node = "not a node name"
	_, err := v.RetrieveCard(t.Context(), client("acme"), owner, "r1")
	checkError(t, "entry that cannot be encoded", err, vault.ErrUnavailable)
	checkError(t, "entry that cannot be encoded", err, audit.ErrInvalidEntry)
}

// refusal is an error of a transport with a result of its own.
type refusal struct{ result string }

func (r refusal) Error() string       { return "refused" }
func (r refusal) AuditResult() string { return r.result }

func TestRefuseWritesWhatTheTransportSaysAndReturnsIt(t *testing.T) {
	t.Parallel()
	v, _ := newFake(t, "acme")
	for _, tc := range []struct {
		cause error
		want  string
	}{
		{refusal{"bad_envelope"}, "card.store failed bad_envelope"},
		{fmt.Errorf("%w: %w", refusal{"replay"}, vault.ErrDenied), "card.store denied replay"},
		{fmt.Errorf("%w: %w", refusal{""}, vault.ErrLocked), "card.store failed locked"},
		{vault.ErrUnknownTenant, "card.store denied unknown_tenant"},
	} {
		from := v.Store.Len()
		err := v.Refuse(t.Context(), iam.Anonymous(netip.MustParseAddr("198.51.100.1")), vault.OpCardStore, vault.Target{Tenant: "x"}, tc.cause)
		if !errors.Is(err, tc.cause) {
			t.Errorf("got %v, want the cause", err)
		}
		if e := only(t, since(t, v.Store, from)); told(e) != tc.want || e.Who != (audit.Actor{Type: "anonymous", Name: "anonymous", Auth: "none", IP: "198.51.100.1"}) {
			t.Errorf("entry says %s by %+v, want %s", told(e), e.Who, tc.want)
		}
	}
	v.Store.FailWith(func(string) error { return errors.New("log is full") })
	err := v.Refuse(t.Context(), iam.Principal{}, vault.OpCardStore, vault.Target{}, vault.ErrDenied)
	checkError(t, "without entry", err, vault.ErrUnavailable)
	if errors.Is(err, vault.ErrDenied) {
		t.Error("the cause is answered although it is not in the log")
	}
}

func TestResultOfEveryErrorIsItsOwn(t *testing.T) {
	t.Parallel()
	v, _ := newFake(t, "acme")
	want := map[error]string{
		vault.ErrNotFound: "not_found", vault.ErrConflict: "conflict", vault.ErrLocked: "locked",
		vault.ErrUnknownTenant: "unknown_tenant", vault.ErrDenied: "denied", vault.ErrCorrupt: "corrupt",
		vault.ErrKeyUnavailable: "key_unavailable", vault.ErrKeyThrottled: "key_throttled", vault.ErrUnavailable: "unavailable", vault.ErrSuspended: "suspended", vault.ErrShredded: "shredded", vault.ErrSealed: "already_sealed",
		context.Canceled: "cancelled", context.DeadlineExceeded: "timeout",
		custodian.ErrMalformed: "invalid", custodian.ErrWrongPart: "wrong_part", custodian.ErrSameCustodian: "same_custodian",
		custodian.ErrPartTaken: "part_taken", custodian.ErrNotEnough: "quorum_missing", custodian.ErrDoesNotOpen: "does_not_open",
		custodian.ErrUnlocked: "already_unlocked", custodian.ErrLocked: "locked", custodian.ErrUnknownTenant: "unknown_tenant",
		custodian.ErrCorruptSeal:      "corrupt",
		errors.New("something else"):  "error",
		&vault.ValidationError{}:      "invalid",
		errors.Join(vault.ErrCorrupt): "corrupt",
		&vault.KeyError{Result: "key_denied", Err: vault.ErrKeyUnavailable}: "key_denied",
	}
	for _, err := range vault.Errors() {
		if want[err] == "" {
			t.Errorf("%v has no result", err)
		}
	}
	for err, result := range want {
		from := v.Store.Len()
		v.Refuse(t.Context(), client("acme"), vault.OpCardStore, vault.Target{}, fmt.Errorf("wrapped: %w", err))
		if e := only(t, since(t, v.Store, from)); e.Result != result {
			t.Errorf("%v: result %s, want %s", err, e.Result, result)
		}
	}
}

func TestRecordWritesAnEventOfTheNode(t *testing.T) {
	t.Parallel()
	v, _ := newFake(t, "acme")
	if err := v.Gate.Record(t.Context(), iam.System("node"), vault.OpLogOpen, vault.Target{}, "opened", "node started"); err != nil {
		t.Fatal(err)
	}
	e := since(t, v.Store, 0)[0]
	if told(e) != "log.open allowed opened" || e.Detail != "node started" || e.PCI != "10.2.1.6" || e.Time != newClock().now().Truncate(time.Microsecond) {
		t.Errorf("entry is %+v", e)
	}
	checkError(t, "anybody else", v.Gate.Record(t.Context(), iam.Principal{}, vault.OpLogRead, vault.Target{}, "read", ""), vault.ErrDenied)
}
