package kms_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/kms/kmstest"
)

func lastUsage(t *testing.T, f *kmstest.Fixture, k *kms.Key) kms.KeyLastUsageData {
	t.Helper()
	out, err := f.GetKeyLastUsage(t.Context(), kmstest.Admin(t), &kms.GetKeyLastUsageInput{KeyID: k.ID})
	if err != nil {
		t.Fatal(err)
	}
	if out.KeyID != k.ARN() || !out.KeyCreationDate.Equal(k.CreatedAt) || !out.TrackingStartDate.Equal(k.CreatedAt) || out.KeyLastUsage == nil {
		t.Errorf("got %+v", out)
	}
	return *out.KeyLastUsage
}

func TestLastUsageIsTheLastSuccess(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k, unused := f.Key(t, keyspec.SymmetricDefault), f.Key(t, keyspec.SymmetricDefault)
	who, ctx := kmstest.Admin(t), t.Context()
	if u := lastUsage(t, f, k); u != (kms.KeyLastUsageData{}) {
		t.Errorf("of an unused key: %+v", u)
	}
	f.Clock.Advance(time.Hour)
	blob := encrypt(t, f, k.ID, "x", nil)
	want := kms.KeyLastUsageData{CloudTrailEventID: f.Last(t).ID, KMSRequestID: who.RequestID, Operation: "Encrypt", Timestamp: f.Clock.Now()}
	if u := lastUsage(t, f, k); u != want {
		t.Errorf("got %+v, want %+v", u, want)
	}

	// Neither failures nor dry runs nor what is no use of the key count.
	f.Clock.Advance(time.Hour)
	for _, fails := range []func() error{
		func() error {
			_, err := f.Encrypt(ctx, who, &kms.EncryptInput{KeyID: k.ID, Plaintext: text("x"), DryRun: true})
			return err
		},
		func() error {
			_, err := f.Encrypt(ctx, kmstest.User(t), &kms.EncryptInput{KeyID: k.ID, Plaintext: text("x")})
			return err
		},
		func() error {
			_, err := f.Decrypt(ctx, who, &kms.DecryptInput{CiphertextBlob: blob, EncryptionContext: map[string]string{"a": "b"}})
			return err
		},
	} {
		if fails() == nil {
			t.Error("an operation that must fail succeeds")
		}
	}
	if _, err := f.DescribeKey(ctx, who, &kms.DescribeKeyInput{KeyID: k.ID}); err != nil {
		t.Error(err)
	}
	if u := lastUsage(t, f, k); u != want {
		t.Errorf("after failures: got %+v, want %+v", u, want)
	}

	// ReEncrypt uses both keys.
	if _, err := f.ReEncrypt(ctx, who, &kms.ReEncryptInput{CiphertextBlob: blob, DestinationKeyID: unused.ID}); err != nil {
		t.Fatal(err)
	}
	want = kms.KeyLastUsageData{CloudTrailEventID: f.Last(t).ID, KMSRequestID: who.RequestID, Operation: "ReEncrypt", Timestamp: f.Clock.Now()}
	if u, v := lastUsage(t, f, k), lastUsage(t, f, unused); u != want || v != want {
		t.Errorf("got %+v and %+v, want %+v", u, v, want)
	}
}

func TestLastUsageSurvivesAClose(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	encrypt(t, f, k.ID, "x", nil)
	event := f.Last(t).ID

	down := errors.New("no database")
	f.Store.Fail(func(call string) error {
		if call == "PutUsage" {
			return down
		}
		return nil
	})
	if err := f.Close(t.Context()); !errors.Is(err, down) {
		t.Errorf("close without a database: %v", err)
	}
	f.Store.Fail(nil)
	if u := lastUsage(t, f, k); u.CloudTrailEventID != event {
		t.Errorf("after a failed close: %+v", u)
	}
	if err := f.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.Restart(t)
	if u := lastUsage(t, f, k); u.CloudTrailEventID != event {
		t.Errorf("after a restart: %+v", u)
	}
	// What is newer in memory than in the store stands, also across a change of the key.
	f.Clock.Advance(time.Minute)
	encrypt(t, f, k.ID, "x", nil)
	event = f.Last(t).ID
	if u := lastUsage(t, f, k); u.CloudTrailEventID != event {
		t.Errorf("of a later use: %+v", u)
	}
	if err := f.DisableKey(t.Context(), kmstest.Admin(t), &kms.DisableKeyInput{KeyID: k.ID}); err != nil {
		t.Fatal(err)
	}
	if u := lastUsage(t, f, k); u.CloudTrailEventID != event {
		t.Errorf("after a change of the key: %+v", u)
	}
}

// usageStore does something while last uses are being written or read.
type usageStore struct {
	*kmstest.Store
	writing, read func()
}

func (s *usageStore) PutUsage(ctx context.Context, us []kms.Usage) error {
	s.writing()
	return s.Store.PutUsage(ctx, us)
}

func (s *usageStore) Usage(ctx context.Context, ref kms.KeyRef) (*kms.Usage, error) {
	u, err := s.Store.Usage(ctx, ref)
	s.read()
	return u, err
}

// TestLastUsageIsKnownWhileItBecomesDurable asks while it is being written, and has it
// written while it is being asked for.
func TestLastUsageIsKnownWhileItBecomesDurable(t *testing.T) {
	t.Parallel()
	store := &usageStore{writing: func() {}, read: func() {}}
	f := kmstest.New(t, func(o *kms.Options) {
		store.Store = o.Store.(*kmstest.Store)
		o.Store = store
	})
	k := f.Key(t, keyspec.SymmetricDefault)
	encrypt(t, f, k.ID, "x", nil)
	store.writing = func() {
		if u := lastUsage(t, f, k); u.Operation != "Encrypt" {
			t.Errorf("while it is written: %+v", u)
		}
	}
	ok(t, f.Close(t.Context())) // writes it
	store.writing = func() {}
	f.Clock.Advance(time.Hour)
	blob := encrypt(t, f, k.ID, "x", nil)
	must(f.Decrypt(t.Context(), kmstest.Admin(t), &kms.DecryptInput{CiphertextBlob: blob}))(t)
	store.read = sync.OnceFunc(func() { ok(t, f.Close(t.Context())) })
	if u := lastUsage(t, f, k); u.Operation != "Decrypt" {
		t.Errorf("written while it is read: %+v", u)
	}
}

func TestGetKeyLastUsageRefuses(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	f.Alias(t, k, "alias/cards")
	who, ctx := kmstest.Admin(t), t.Context()
	_, err := f.GetKeyLastUsage(ctx, who, &kms.GetKeyLastUsageInput{})
	kmstest.Refused(t, err, kms.CodeValidation, "1 validation error detected: Value null at 'keyId' failed to satisfy constraint: Member must not be null")
	_, err = f.GetKeyLastUsage(ctx, who, &kms.GetKeyLastUsageInput{KeyID: "alias/cards"})
	kmstest.Refused(t, err, kms.CodeNotFound, "Invalid keyId 'alias/cards'")
	_, err = f.GetKeyLastUsage(ctx, kmstest.Foreigner(t), &kms.GetKeyLastUsageInput{KeyID: k.ARN()})
	kmstest.Refused(t, err, kms.CodeAccessDenied, "User: arn:aws:iam::444455556666:user/foreigner is not authorized to perform: kms:GetKeyLastUsage on resource: "+k.ARN())
	_, err = f.GetKeyLastUsage(ctx, kmstest.User(t), &kms.GetKeyLastUsageInput{KeyID: k.ID})
	kmstest.Refused(t, err, kms.CodeAccessDenied, "User: arn:aws:iam::111122223333:user/user is not authorized to perform: kms:GetKeyLastUsage on resource: "+
		k.ARN()+" because no identity-based policy allows the kms:GetKeyLastUsage action")
	f.Store.Fail(func(call string) error {
		if call == "Usage" {
			return errors.New("no database")
		}
		return nil
	})
	_, err = f.GetKeyLastUsage(ctx, who, &kms.GetKeyLastUsageInput{KeyID: k.ID})
	kmstest.Refused(t, err, kms.CodeInternal, "The key's last use could not be read.")
}
