package kms_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cardea/internal/bubble"
	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/kms/kmstest"
	"cardea/internal/secret"
	"cardea/internal/testlog"
)

func TestKeyIsDeletedAtTheEndOfItsWaitingPeriod(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	admin := kmstest.Admin(t)
	k := createKey(t, f, kms.CreateKeyInput{})
	ok(t, f.CreateAlias(t.Context(), admin, &kms.CreateAliasInput{AliasName: "alias/it", TargetKeyID: k.KeyID}))
	must(f.Encrypt(t.Context(), admin, &kms.EncryptInput{KeyID: "alias/it", Plaintext: text("x")}))(t) // the alias is cached
	must(f.ScheduleKeyDeletion(t.Context(), admin, &kms.ScheduleKeyDeletionInput{KeyID: k.KeyID, PendingWindowInDays: i32(7)}))(t)
	calls := backendCalls(f)
	pass(t, f, 7*day-time.Second)
	wantState(t, f, k.KeyID, kms.StatePendingDeletion)
	n := len(f.Entries(t))
	pass(t, f, time.Second)
	wantEntries(t, f, n, "DeleteKey "+kmstest.Region+" allowed")
	e := f.Last(t)
	wantParams(t, &e, map[string]string{"keyId": k.KeyID})
	if e.Who.Name != "deletion" || e.Resource.Key != k.ARN {
		t.Errorf("entry is by %s of %s", e.Who.Name, e.Resource.Key)
	}
	if !slices.Contains(calls(), "Destroy") {
		t.Error("the backend was not told")
	}
	_, err := f.DescribeKey(t.Context(), admin, &kms.DescribeKeyInput{KeyID: k.KeyID})
	kmstest.Refused(t, err, kms.CodeNotFound, "Key '"+k.ARN+"' does not exist")
	_, err = f.DescribeKey(t.Context(), admin, &kms.DescribeKeyInput{KeyID: "alias/it"})
	kmstest.Refused(t, err, kms.CodeNotFound, "Alias "+strings.Replace(k.ARN, "key/"+k.KeyID, "alias/it", 1)+" is not found.")
	pass(t, f, day)
	wantEntries(t, f, n, "DeleteKey "+kmstest.Region+" allowed", "DescribeKey "+kmstest.Region+" failed", "DescribeKey "+kmstest.Region+" failed")
}

func TestCancelledDeletionIsNotDone(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := createKey(t, f, kms.CreateKeyInput{})
	must(f.ScheduleKeyDeletion(t.Context(), kmstest.Admin(t), &kms.ScheduleKeyDeletionInput{KeyID: k.KeyID, PendingWindowInDays: i32(7)}))(t)
	must(f.CancelKeyDeletion(t.Context(), kmstest.Admin(t), &kms.CancelKeyDeletionInput{KeyID: k.KeyID}))(t)
	pass(t, f, 8*day)
	wantState(t, f, k.KeyID, kms.StateDisabled)
}

func TestMaterialThatStaysInTheBackendIsLogged(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	f := kmstest.New(t, func(o *kms.Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	k := createKey(t, f, kms.CreateKeyInput{})
	must(f.ScheduleKeyDeletion(t.Context(), kmstest.Admin(t), &kms.ScheduleKeyDeletionInput{KeyID: k.KeyID, PendingWindowInDays: i32(7)}))(t)
	f.FailBackend(func(string) error { return errors.New("device is gone") })
	n := len(f.Entries(t))
	pass(t, f, 7*day)
	wantEntries(t, f, n, "DeleteKey "+kmstest.Region+" allowed")
	if s := log.String(); !strings.Contains(s, "deleted key material stays in its backend") || !strings.Contains(s, "key_id="+k.KeyID) {
		t.Errorf("log says %q", s)
	}
}

func TestNodesDoWhatIsDueOnce(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	admin := kmstest.Admin(t)
	gone, imported, rotated := createKey(t, f, kms.CreateKeyInput{}), external(t, f), createKey(t, f, kms.CreateKeyInput{})
	must(f.ScheduleKeyDeletion(t.Context(), admin, &kms.ScheduleKeyDeletionInput{KeyID: gone.KeyID}))(t)
	in := importing(t, f, admin, imported.KeyID, secret.Random(32))
	in.ExpirationModel, in.ValidTo = "", f.Clock.Now().Add(day)
	must(f.ImportKeyMaterial(t.Context(), admin, &in))(t)
	enableRotation(t, f, rotated.KeyID, 90)
	n := len(f.Entries(t))
	f.Clock.Advance(91 * day)
	var wg sync.WaitGroup
	for i := range 6 {
		s := node(t, f, fmt.Sprintf("node-%d", i))
		wg.Go(func() {
			if err := s.RunDue(t.Context(), f.Clock.Now()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	got := since(t, f, n)
	slices.Sort(got)
	if want := []string{
		"DeleteExpiredKeyMaterial " + kmstest.Region + " allowed", "DeleteKey " + kmstest.Region + " allowed", "RotateKey " + kmstest.Region + " allowed",
	}; !slices.Equal(got, want) {
		t.Errorf("entries are %q, want %q", got, want)
	}
}

// Keys to which nothing can be done now do not keep others from their turn.
func TestFailuresDoNotHoldUpOthers(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	const stuck = 600 // more than are asked for at a time
	f.Update(t, func(ctx context.Context, tx kms.Tx) error {
		for i := range stuck {
			k := &kms.Key{
				KeyRef: kms.KeyRef{Account: kmstest.Account, Region: kmstest.Region, ID: fmt.Sprintf("00000000-0000-4000-8000-%012d", i)},
				Spec:   keyspec.SymmetricDefault, Usage: keyspec.EncryptDecrypt, Origin: kms.OriginKMS, State: kms.StateEnabled,
				Policy: kmstest.DefaultPolicy(kmstest.Account), Materials: []kms.Material{{ID: fmt.Sprintf("%064d", i), State: kms.MaterialCurrent}},
				Rotation: kms.Rotation{Enabled: true, PeriodDays: 90, Next: f.Clock.Now().Add(time.Hour)},
			}
			if err := tx.PutKey(ctx, k); err != nil {
				return err
			}
		}
		return nil
	})
	k := createKey(t, f, kms.CreateKeyInput{})
	must(f.ScheduleKeyDeletion(t.Context(), kmstest.Admin(t), &kms.ScheduleKeyDeletionInput{KeyID: k.KeyID, PendingWindowInDays: i32(7)}))(t)
	n := len(f.Entries(t))
	f.FailBackend(func(call string) error {
		if call == "Generate" {
			return errors.New("out of order")
		}
		return nil
	})
	pass(t, f, 7*day)
	got := since(t, f, n)
	if len(got) != stuck+1 || !slices.Contains(got, "DeleteKey "+kmstest.Region+" allowed") {
		t.Errorf("%d entries, want a failure of each key that is stuck and a deletion", len(got))
	}
	n = len(f.Entries(t))
	pass(t, f, 9*time.Second)
	wantEntries(t, f, n) // all are put off
	pass(t, f, time.Second)
	if got := len(since(t, f, n)); got != stuck {
		t.Errorf("%d tried again after ten seconds, want %d", got, stuck)
	}
	n = len(f.Entries(t))
	pass(t, f, 19*time.Second)
	wantEntries(t, f, n) // longer now
	f.FailBackend(nil)
	pass(t, f, time.Second)
	if got := since(t, f, n); len(got) != stuck || !strings.HasSuffix(got[0], "allowed") {
		t.Errorf("%d were done, want %d", len(got), stuck)
	}
}

func TestJobsFollowOtherNodes(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		f := kmstest.New(t)
		admin := kmstest.Admin(t)
		k := createKey(t, f, kms.CreateKeyInput{})
		other := node(t, f, "other")
		encryptThere := func() error {
			_, err := other.Encrypt(t.Context(), admin, &kms.EncryptInput{KeyID: k.KeyID, Plaintext: text("x")})
			return err
		}
		ok(t, encryptThere()) // the key is cached
		ok(t, f.DisableKey(t.Context(), admin, &kms.DisableKeyInput{KeyID: k.KeyID}))
		ok(t, encryptThere()) // nobody has told it yet
		ctx, stop := context.WithCancel(t.Context())
		var jobs sync.WaitGroup
		jobs.Go(func() { other.RunJobs(ctx) })
		synctest.Wait()
		kmstest.Refused(t, encryptThere(), kms.CodeDisabled, k.ARN+" is disabled.") // all was forgotten at the start
		ok(t, f.EnableKey(t.Context(), admin, &kms.EnableKeyInput{KeyID: k.KeyID}))
		sleep(500 * time.Millisecond)
		ok(t, encryptThere())

		f.Store.Fail(func(call string) error {
			if call == "Changes" {
				return kms.ErrForgotten
			}
			return nil
		})
		ok(t, f.DisableKey(t.Context(), admin, &kms.DisableKeyInput{KeyID: k.KeyID}))
		sleep(500 * time.Millisecond)
		kmstest.Refused(t, encryptThere(), kms.CodeDisabled, k.ARN+" is disabled.")
		f.Store.Fail(nil)

		sleep(time.Second)
		out := must(f.GetKeyLastUsage(t.Context(), admin, &kms.GetKeyLastUsageInput{KeyID: k.KeyID}))(t)
		if out.KeyLastUsage == nil || out.KeyLastUsage.Operation != "Encrypt" {
			t.Errorf("last use is %+v, want that of the other node", out.KeyLastUsage)
		}
		ok(t, f.EnableKey(t.Context(), admin, &kms.EnableKeyInput{KeyID: k.KeyID}))
		enableRotation(t, f, k.KeyID, 90)
		n := len(f.Entries(t))
		f.Clock.Advance(90 * day)
		sleep(time.Second)
		wantEntries(t, f, n, "RotateKey "+kmstest.Region+" allowed")
		stop()
		jobs.Wait()
		ok(t, other.Close(t.Context()))
	})
}

func TestJobsLogAFailureOnce(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		var log testlog.Buffer
		f := kmstest.New(t, func(o *kms.Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
		f.Store.Fail(func(string) error { return kms.ErrUnavailable })
		ctx, stop := context.WithCancel(t.Context())
		var jobs sync.WaitGroup
		jobs.Go(func() { f.RunJobs(ctx) })
		sleep(10 * time.Second)
		stop()
		jobs.Wait()
		for _, job := range []string{"follow changes of other nodes", "do what is due"} {
			if n := strings.Count(log.String(), job); n != 1 {
				t.Errorf("%d lines about %q, want 1:\n%s", n, job, log.String())
			}
		}
	})
}

// dump is all that the store has of keys and key stores.
func dump(t testing.TB, f *kmstest.Fixture) string {
	t.Helper()
	var all []any
	for _, region := range []string{kmstest.Region, kmstest.OtherRegion} {
		for _, ref := range must(f.Store.Keys(t.Context(), kmstest.Account, region, "", 1000))(t) {
			all = append(all, must(f.Store.Key(t.Context(), ref))(t), must(f.Store.AliasesOf(t.Context(), ref, "", 1000))(t))
		}
		all = append(all, must(f.Store.KeyStores(t.Context(), kmstest.Account, region, "", 1000))(t))
	}
	return string(must(json.Marshal(all))(t))
}

// Whatever call of the store fails, at each point of an operation: either all of it
// was done or nothing, and it can be done again.
func TestFaultsLeaveNothingHalfDone(t *testing.T) {
	t.Parallel()
	type subject struct {
		*kmstest.Fixture
		id string // of the key or key store
		in any
	}
	two := func(t *testing.T, f *kmstest.Fixture, in kms.CreateKeyInput) string {
		in.MultiRegion = true
		id := createKey(t, f, in).KeyID
		replicate(t, f, id, kmstest.OtherRegion)
		return id
	}
	due := func(t *testing.T, s subject) error {
		n := len(s.Entries(t))
		err := s.RunDue(t.Context(), s.Clock.Now())
		for _, e := range s.Entries(t)[n:] {
			if e.Outcome == "failed" {
				err = errors.New("recorded as failed")
			}
		}
		return err
	}
	for name, c := range map[string]struct {
		setUp func(t *testing.T, f *kmstest.Fixture) subject
		act   func(t *testing.T, s subject) error
	}{
		"RotateKeyOnDemand": {
			func(t *testing.T, f *kmstest.Fixture) subject {
				return subject{f, two(t, f, kms.CreateKeyInput{}), nil}
			},
			func(t *testing.T, s subject) error {
				_, err := s.RotateKeyOnDemand(t.Context(), kmstest.Admin(t), &kms.RotateKeyOnDemandInput{KeyID: s.id})
				return err
			},
		},
		"EnableKeyRotation": {
			func(t *testing.T, f *kmstest.Fixture) subject {
				return subject{f, two(t, f, kms.CreateKeyInput{}), nil}
			},
			func(t *testing.T, s subject) error {
				return s.EnableKeyRotation(t.Context(), kmstest.Admin(t), &kms.EnableKeyRotationInput{KeyID: s.id})
			},
		},
		"ImportKeyMaterial": {
			func(t *testing.T, f *kmstest.Fixture) subject {
				id := two(t, f, kms.CreateKeyInput{Origin: kms.OriginExternal})
				return subject{f, id, importing(t, f, kmstest.Admin(t), id, secret.Random(32))}
			},
			func(t *testing.T, s subject) error {
				in := s.in.(kms.ImportKeyMaterialInput)
				_, err := s.ImportKeyMaterial(t.Context(), kmstest.Admin(t), &in)
				return err
			},
		},
		"DeleteImportedKeyMaterial": {
			func(t *testing.T, f *kmstest.Fixture) subject {
				id := external(t, f).KeyID
				importMaterial(t, f, kmstest.Admin(t), id, secret.Random(32), "")
				return subject{f, id, nil}
			},
			func(t *testing.T, s subject) error {
				_, err := s.DeleteImportedKeyMaterial(t.Context(), kmstest.Admin(t), &kms.DeleteImportedKeyMaterialInput{KeyID: s.id})
				return err
			},
		},
		"ReplicateKey": {
			func(t *testing.T, f *kmstest.Fixture) subject {
				return subject{f, createKey(t, f, kms.CreateKeyInput{MultiRegion: true}).KeyID, nil}
			},
			func(t *testing.T, s subject) error {
				_, err := s.ReplicateKey(t.Context(), kmstest.Admin(t), &kms.ReplicateKeyInput{KeyID: s.id, ReplicaRegion: kmstest.OtherRegion})
				return err
			},
		},
		"UpdatePrimaryRegion": {
			func(t *testing.T, f *kmstest.Fixture) subject {
				return subject{f, two(t, f, kms.CreateKeyInput{}), nil}
			},
			func(t *testing.T, s subject) error {
				return s.UpdatePrimaryRegion(t.Context(), kmstest.Admin(t), &kms.UpdatePrimaryRegionInput{KeyID: s.id, PrimaryRegion: kmstest.OtherRegion})
			},
		},
		"CreateCustomKeyStore": {
			func(_ *testing.T, f *kmstest.Fixture) subject { return subject{f, "", nil} },
			func(t *testing.T, s subject) error {
				_, err := s.CreateCustomKeyStore(t.Context(), kmstest.Admin(t), &kms.CreateCustomKeyStoreInput{
					CustomKeyStoreName: "hsm", CloudHSMClusterID: clusterA, KeyStorePassword: password("password"), TrustAnchorCertificate: anchor("one"),
				})
				return err
			},
		},
		"DeleteCustomKeyStore": {
			func(t *testing.T, f *kmstest.Fixture) subject { return subject{f, createStore(t, f, "hsm"), nil} },
			func(t *testing.T, s subject) error {
				return s.DeleteCustomKeyStore(t.Context(), kmstest.Admin(t), &kms.DeleteCustomKeyStoreInput{CustomKeyStoreID: s.id})
			},
		},
		"automatic rotation": {
			func(t *testing.T, f *kmstest.Fixture) subject {
				id := two(t, f, kms.CreateKeyInput{})
				enableRotation(t, f, id, 90)
				f.Clock.Advance(90 * day)
				return subject{f, id, nil}
			}, due,
		},
		"expiry": {
			func(t *testing.T, f *kmstest.Fixture) subject {
				id := external(t, f).KeyID
				in := importing(t, f, kmstest.Admin(t), id, secret.Random(32))
				in.ExpirationModel, in.ValidTo = "", f.Clock.Now().Add(day)
				must(f.ImportKeyMaterial(t.Context(), kmstest.Admin(t), &in))(t)
				f.Clock.Advance(day)
				return subject{f, id, nil}
			}, due,
		},
		"deletion": {
			func(t *testing.T, f *kmstest.Fixture) subject {
				id := two(t, f, kms.CreateKeyInput{})
				must(f.ScheduleKeyDeletion(t.Context(), elsewhere(t), &kms.ScheduleKeyDeletionInput{KeyID: id, PendingWindowInDays: i32(7)}))(t)
				f.Clock.Advance(7 * day)
				return subject{f, id, nil}
			}, due,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for i := 0; ; i++ {
				f, _ := withDevices(t)
				s := c.setUp(t, f)
				before, n, failed := dump(t, f), 0, ""
				f.Store.Fail(func(call string) error {
					if n++; n == i+1 {
						failed = call
						return kms.ErrUnavailable
					}
					return nil
				})
				err := c.act(t, s)
				f.Store.Fail(nil)
				changed := dump(t, f) != before
				if failed == "" {
					if err != nil || !changed {
						t.Fatalf("without a fault: %v, changed %v", err, changed)
					}
					if i < 3 {
						t.Errorf("%d calls of the store: fewer than there must be", i)
					}
					return
				}
				if changed && err != nil {
					t.Errorf("call %d, %s, failed: the operation says %v, and has changed something", i, failed, err)
				}
				if !changed && err == nil && failed != "Due" && failed != "Key" {
					t.Errorf("call %d, %s, failed: the operation succeeded and has changed nothing", i, failed)
				}
				if !changed {
					f.Clock.Advance(10 * time.Second)
					if err := c.act(t, s); err != nil || dump(t, f) == before {
						t.Errorf("call %d, %s, failed: the second time: %v", i, failed, err)
					}
				}
			}
		})
	}
}
