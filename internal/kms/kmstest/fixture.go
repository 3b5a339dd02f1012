package kmstest

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"cardea/internal/audit"
	"cardea/internal/iam"
	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/secret"
)

// The accounts and Regions of a Fixture.
const (
	Account     = "111122223333"
	Other       = "444455556666"
	Region      = "eu-central-1"
	OtherRegion = "us-east-1"
)

// setup is the operation of entries that a Fixture writes for itself.
const setup = "kms.test_setup"

// Clock is a clock that stands until it is moved.
type Clock struct {
	mu sync.Mutex
	t  time.Time
}

// Now is the time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

// Advance moves the clock.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// Fixture is a key service on a Store in memory, with two accounts and two Regions.
type Fixture struct {
	*kms.Service
	Store *Store
	Soft  *Backend
	Clock *Clock

	options kms.Options
}

// New makes a fixture. more may change the service's options.
func New(t testing.TB, more ...func(*kms.Options)) *Fixture {
	t.Helper()
	b := NewBackend(t)
	f := &Fixture{Store: NewStore(), Soft: b, Clock: &Clock{t: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)}}
	f.options = kms.Options{
		Node: "test", Store: f.Store, Soft: b, Secrets: b, Now: f.Clock.Now, Regions: []string{Region, OtherRegion},
		Accounts: func(_ context.Context, a string) bool { return a == Account || a == Other },
	}
	for _, m := range more {
		m(&f.options)
	}
	f.Restart(t)
	return f
}

// Restart replaces the service by one that knows nothing but what is stored. It does
// so without making last uses durable, as a crash does.
func (f *Fixture) Restart(t testing.TB) {
	t.Helper()
	s, err := kms.New(f.options)
	if err != nil {
		t.Fatal(err)
	}
	f.Service = s
}

// FailBackend makes calls of the backend fail, as Store.Fail does for the store.
func (f *Fixture) FailBackend(fail func(call string) error) { f.Soft.Fail(fail) }

// Subject is a user with an identity policy, or none if policy is "".
func Subject(t testing.TB, account, name, policy string) *iam.Subject {
	t.Helper()
	s := &iam.Subject{
		Caller:      iam.Caller{Type: iam.CallerUser, ARN: "arn:aws:iam::" + account + ":user/" + name, Account: account, ID: "AIDA" + name},
		AccessKeyID: "AKIA" + name,
	}
	if policy != "" {
		p, err := iam.ParsePolicy(iam.IdentityPolicy, []byte(policy))
		if err != nil {
			t.Fatal(err)
		}
		s.Identity = []iam.NamedPolicy{{Name: "inline", Policy: p}}
	}
	return s
}

// AllowKMS is an identity policy that allows everything.
const AllowKMS = `{"Version":"2012-10-17","Statement":[{"Sid":"Everything","Effect":"Allow","Action":"kms:*","Resource":"*"}]}`

// As is a caller in Region.
func As(s *iam.Subject) kms.Caller {
	return kms.Caller{
		Subject: s, Auth: "sigv4", Region: Region, RequestID: "11111111-2222-4333-8444-555555555555",
		IP: netip.MustParseAddr("192.0.2.7"), UserAgent: "aws-sdk-go-v2/1.47.7", TLS: "TLSv1.3 TLS_AES_128_GCM_SHA256",
	}
}

// In is the caller in another Region.
func In(who kms.Caller, region string) kms.Caller {
	who.Region = region
	return who
}

// Admin may do everything in Account as far as key policies leave it to identity policies.
func Admin(t testing.TB) kms.Caller { return As(Subject(t, Account, "admin", AllowKMS)) }

// User is a user of Account without any policy.
func User(t testing.TB) kms.Caller { return As(Subject(t, Account, "user", "")) }

// Foreigner may do everything in Other.
func Foreigner(t testing.TB) kms.Caller { return As(Subject(t, Other, "foreigner", AllowKMS)) }

// Root is the root user of Account.
func Root() kms.Caller {
	return As(&iam.Subject{Caller: iam.Caller{Type: iam.CallerRoot, ARN: "arn:aws:iam::" + Account + ":root", Account: Account, ID: Account}})
}

// DefaultPolicy is the key policy that leaves everything to identity policies of
// the account.
func DefaultPolicy(account string) string {
	return `{"Version":"2012-10-17","Id":"key-default-1","Statement":[{"Sid":"Enable IAM User Permissions","Effect":"Allow",` +
		`"Principal":{"AWS":"arn:aws:iam::` + account + `:root"},"Action":"kms:*","Resource":"*"}]}`
}

// Key makes an enabled key of Account in Region, with material of the backend, and
// the first usage of its spec. change may change it before it is stored: a key of
// another usage, state or policy, or without material.
func (f *Fixture) Key(t testing.TB, spec keyspec.Spec, change ...func(*kms.Key)) *kms.Key {
	t.Helper()
	k := &kms.Key{
		KeyRef:    kms.KeyRef{Account: Account, Region: Region, ID: uuid.NewString()},
		CreatedAt: f.Clock.Now(), Spec: spec, Usage: spec.Usages()[0], Origin: kms.OriginKMS, State: kms.StateEnabled,
	}
	k.Policy = DefaultPolicy(k.Account)
	k.Materials = []kms.Material{f.Material(t, k)}
	id, material := k.ID, k.Materials[0].ID
	for _, c := range change {
		c(k)
	}
	if k.ID != id && len(k.Materials) == 1 && k.Materials[0].ID == material {
		k.Materials[0] = f.Material(t, k) // material is bound to the key's id
	}
	return f.Put(t, k)
}

// Material makes material for k.
func (f *Fixture) Material(t testing.TB, k *kms.Key) kms.Material {
	t.Helper()
	m := kms.Material{ID: hex.EncodeToString(secret.Random(32).Expose()), State: kms.MaterialCurrent, CreatedAt: f.Clock.Now()}
	var err error
	if m.Handle, m.Public, err = f.Soft.Generate(t.Context(), kms.MaterialRef{KeyID: k.ID, ID: m.ID, Spec: k.Spec}); err != nil {
		t.Fatal(err)
	}
	return m
}

// Import makes a material for k of given bytes.
func (f *Fixture) Import(t testing.TB, k *kms.Key, material []byte) kms.Material {
	t.Helper()
	m := kms.Material{ID: hex.EncodeToString(secret.Random(32).Expose()), State: kms.MaterialCurrent, CreatedAt: f.Clock.Now()}
	var err error
	if m.Handle, m.Public, err = f.Soft.Import(t.Context(), kms.MaterialRef{KeyID: k.ID, ID: m.ID, Spec: k.Spec}, secret.Copy(material)); err != nil {
		t.Fatal(err)
	}
	return m
}

// Rotate gives k new material and keeps the old.
func (f *Fixture) Rotate(t testing.TB, k *kms.Key) *kms.Key {
	t.Helper()
	return f.Change(t, k.KeyRef, func(k *kms.Key) {
		for i := range k.Materials {
			k.Materials[i].State = kms.MaterialNonCurrent
		}
		k.Materials = append(k.Materials, f.Material(t, k))
	})
}

// Put stores a key of Version 0, or of the version that is stored, and returns it as
// it is then.
func (f *Fixture) Put(t testing.TB, k *kms.Key) *kms.Key {
	t.Helper()
	f.Update(t, func(ctx context.Context, tx kms.Tx) error { return tx.PutKey(ctx, k) })
	now, err := f.Store.Key(t.Context(), k.KeyRef)
	if err != nil {
		t.Fatal(err)
	}
	return now
}

// Change changes a stored key behind the service's back, and restarts the service.
func (f *Fixture) Change(t testing.TB, ref kms.KeyRef, change func(*kms.Key)) *kms.Key {
	t.Helper()
	k, err := f.Store.Key(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	next := k.Clone()
	change(next)
	k = f.Put(t, next)
	f.Restart(t)
	return k
}

// Alias gives k another name in its account and Region.
func (f *Fixture) Alias(t testing.TB, k *kms.Key, name string) *kms.Alias {
	t.Helper()
	a := &kms.Alias{Account: k.Account, Region: k.Region, Name: name, KeyID: k.ID, CreatedAt: f.Clock.Now(), UpdatedAt: f.Clock.Now()}
	f.Update(t, func(ctx context.Context, tx kms.Tx) error { return tx.PutAlias(ctx, a, false) })
	return a
}

// Update changes the store with an entry that Entries leaves out.
func (f *Fixture) Update(t testing.TB, write func(ctx context.Context, tx kms.Tx) error) {
	t.Helper()
	e := audit.Entry{
		ID: uuid.Must(uuid.NewV7()).String(), Time: f.Clock.Now(), Node: "test", Who: audit.Actor{Type: "system", Auth: "internal"},
		Op: setup, Outcome: audit.Allowed, Result: "done",
	}
	sealed, err := e.Seal()
	if err != nil {
		t.Fatal(err)
	}
	err = f.Store.Update(t.Context(), func(tx kms.Tx) error {
		tx.Append(sealed)
		return write(t.Context(), tx)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Entries are the audit log's, without those of setting up.
func (f *Fixture) Entries(t testing.TB) []audit.Entry {
	t.Helper()
	var out []audit.Entry
	for i, line := range f.Store.Entries() {
		e, err := audit.Decode([]byte(line))
		if err != nil {
			t.Fatal(fmt.Errorf("entry %d: %w", i, err))
		}
		if e.Op != setup {
			out = append(out, e)
		}
	}
	return out
}

// Last is the last entry.
func (f *Fixture) Last(t testing.TB) audit.Entry {
	t.Helper()
	es := f.Entries(t)
	if len(es) == 0 {
		t.Fatal("the audit log is empty")
	}
	return es[len(es)-1]
}

// Refused fails the test unless err is a *kms.Error with this code and message.
func Refused(t testing.TB, err error, code kms.Code, message string) {
	t.Helper()
	e, is := errors.AsType[*kms.Error](err)
	if !is {
		t.Errorf("got %v, want %s: %s", err, code, message)
	} else if e.Code != code || e.Message != message {
		t.Errorf("got %s %q, want %s %q", e.Code, e.Message, code, message)
	}
}
