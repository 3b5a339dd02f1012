package kms_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"cardea/internal/audit"
	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/kms/kmstest"
)

const day = 24 * time.Hour

// ok fails the test if there is an error.
func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// must is ok for an operation with an output.
func must[T any](out T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		ok(t, err)
		return out
	}
}

// pass lets time pass and does what is due.
func pass(t testing.TB, f *kmstest.Fixture, d time.Duration) {
	t.Helper()
	f.Clock.Advance(d)
	ok(t, f.RunDue(t.Context(), f.Clock.Now()))
}

// node is another node on the fixture's store.
func node(t testing.TB, f *kmstest.Fixture, name string) *kms.Service {
	t.Helper()
	return must(kms.New(kms.Options{
		Node: name, Store: f.Store, Soft: f.Soft, Secrets: f.Soft, Now: f.Clock.Now,
		Regions: []string{kmstest.Region, kmstest.OtherRegion}, Accounts: func(context.Context, string) bool { return true },
	}))(t)
}

// since are the entries after the first n, as operation and Region.
func since(t testing.TB, f *kmstest.Fixture, n int) (out []string) {
	t.Helper()
	for _, e := range f.Entries(t)[n:] {
		out = append(out, e.Call.Event+" "+e.Call.Region+" "+string(e.Outcome))
	}
	return out
}

func wantEntries(t testing.TB, f *kmstest.Fixture, n int, want ...string) {
	t.Helper()
	if got := since(t, f, n); !slices.Equal(got, want) {
		t.Errorf("entries are %q, want %q", got, want)
	}
}

func enableRotation(t testing.TB, f *kmstest.Fixture, id string, days int32) {
	t.Helper()
	ok(t, f.EnableKeyRotation(t.Context(), kmstest.Admin(t), &kms.EnableKeyRotationInput{KeyID: id, RotationPeriodInDays: &days}))
}

func rotationStatus(t testing.TB, f *kmstest.Fixture, who kms.Caller, id string) *kms.GetKeyRotationStatusOutput {
	t.Helper()
	return must(f.GetKeyRotationStatus(t.Context(), who, &kms.GetKeyRotationStatusInput{KeyID: id}))(t)
}

func wantRotation(t testing.TB, f *kmstest.Fixture, id string, days int32, next time.Time) {
	t.Helper()
	s := rotationStatus(t, f, kmstest.Admin(t), id)
	if !s.KeyRotationEnabled || s.RotationPeriodInDays == nil || *s.RotationPeriodInDays != days || !s.NextRotationDate.Equal(next) {
		t.Errorf("rotation status is %+v, want one every %d days, next at %v", s, days, next)
	}
}

// rotations lists a key's material, without its first if rotationsOnly.
func rotations(t testing.TB, f *kmstest.Fixture, who kms.Caller, id string, include kms.IncludeKeyMaterial) []kms.RotationsListEntry {
	t.Helper()
	return must(f.ListKeyRotations(t.Context(), who, &kms.ListKeyRotationsInput{KeyID: id, IncludeKeyMaterial: include}))(t).Rotations
}

// opens fails the test unless the ciphertext opens.
func opens(t testing.TB, f *kmstest.Fixture, who kms.Caller, sealed []byte, want string) {
	t.Helper()
	out := must(f.Decrypt(t.Context(), who, &kms.DecryptInput{CiphertextBlob: sealed}))(t)
	if string(out.Plaintext.Expose()) != want {
		t.Error("the ciphertext opens to something else")
	}
}

func TestKeyIsRotatedWhenItIsTime(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := createKey(t, f, kms.CreateKeyInput{})
	sealed := encrypt(t, f, k.KeyID, "before", nil)
	enableRotation(t, f, k.KeyID, 90)
	wantRotation(t, f, k.KeyID, 90, f.Clock.Now().Add(90*day))
	n := len(f.Entries(t))
	pass(t, f, 90*day-time.Second)
	wantEntries(t, f, n)

	pass(t, f, time.Second)
	wantEntries(t, f, n, "RotateKey "+kmstest.Region+" allowed")
	e := f.Last(t)
	if e.Who.Type != "system" || e.Who.Name != "rotation" || e.Call.Type != "AWSService" || e.Resource.Key != k.ARN {
		t.Errorf("entry of the rotation names %+v, %s, %+v", e.Who, e.Call.Type, e.Resource)
	}
	now := must(f.DescribeKey(t.Context(), kmstest.Admin(t), &kms.DescribeKeyInput{KeyID: k.KeyID}))(t).KeyMetadata
	if now.CurrentKeyMaterialID == k.CurrentKeyMaterialID {
		t.Error("the current material is still the first")
	}
	wantParams(t, &e, map[string]string{
		"keyId": k.KeyID, "rotationType": "AUTOMATIC", "keyOrigin": "AWS_KMS",
		"previousKeyMaterialId": k.CurrentKeyMaterialID, "currentKeyMaterialId": now.CurrentKeyMaterialID,
	})
	wantRotation(t, f, k.KeyID, 90, f.Clock.Now().Add(90*day))
	want := []kms.RotationsListEntry{{
		KeyID: k.KeyID, KeyMaterialID: now.CurrentKeyMaterialID, KeyMaterialState: kms.MaterialCurrent,
		RotationDate: f.Clock.Now(), RotationType: kms.RotatedAutomatically,
	}}
	if got := rotations(t, f, kmstest.Admin(t), k.KeyID, ""); !slices.Equal(got, want) {
		t.Errorf("rotations are %+v, want %+v", got, want)
	}
	opens(t, f, kmstest.Admin(t), sealed, "before")
	opens(t, f, kmstest.Admin(t), encrypt(t, f, k.KeyID, "after", nil), "after")

	n = len(f.Entries(t))
	pass(t, f, time.Hour)
	wantEntries(t, f, n)
	ok(t, f.DisableKeyRotation(t.Context(), kmstest.Admin(t), &kms.DisableKeyRotationInput{KeyID: k.KeyID}))
	n = len(f.Entries(t))
	pass(t, f, 1000*day)
	wantEntries(t, f, n)
}

func TestNewRotationPeriodCountsFromTheLastRotation(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := createKey(t, f, kms.CreateKeyInput{})
	start := f.Clock.Now()
	ok(t, f.EnableKeyRotation(t.Context(), kmstest.Admin(t), &kms.EnableKeyRotationInput{KeyID: k.KeyID}))
	wantRotation(t, f, k.KeyID, 365, start.Add(365*day))
	f.Clock.Advance(100 * day)
	enableRotation(t, f, k.KeyID, 200)
	wantRotation(t, f, k.KeyID, 200, start.Add(200*day))
	enableRotation(t, f, k.KeyID, 90) // over already
	wantRotation(t, f, k.KeyID, 90, start.Add(90*day))
	pass(t, f, 0)
	wantRotation(t, f, k.KeyID, 90, f.Clock.Now().Add(90*day))
	if n := len(rotations(t, f, kmstest.Admin(t), k.KeyID, "")); n != 1 {
		t.Errorf("%d rotations, want 1", n)
	}
	ok(t, f.DisableKeyRotation(t.Context(), kmstest.Admin(t), &kms.DisableKeyRotationInput{KeyID: k.KeyID}))
	f.Clock.Advance(50 * day)
	enableRotation(t, f, k.KeyID, 90) // begins anew
	wantRotation(t, f, k.KeyID, 90, f.Clock.Now().Add(90*day))
}

func TestDisabledKeyIsRotatedWhenItIsEnabled(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := createKey(t, f, kms.CreateKeyInput{})
	enableRotation(t, f, k.KeyID, 90)
	ok(t, f.DisableKey(t.Context(), kmstest.Admin(t), &kms.DisableKeyInput{KeyID: k.KeyID}))
	pass(t, f, 100*day)
	if n := len(rotations(t, f, kmstest.Admin(t), k.KeyID, "")); n != 0 {
		t.Fatalf("a disabled key was rotated %d times", n)
	}
	if !rotationStatus(t, f, kmstest.Admin(t), k.KeyID).KeyRotationEnabled {
		t.Error("the rotation status of a disabled key is false")
	}
	ok(t, f.EnableKey(t.Context(), kmstest.Admin(t), &kms.EnableKeyInput{KeyID: k.KeyID}))
	pass(t, f, 0)
	if n := len(rotations(t, f, kmstest.Admin(t), k.KeyID, "")); n != 1 {
		t.Errorf("%d rotations after enabling, want 1", n)
	}
	wantRotation(t, f, k.KeyID, 90, f.Clock.Now().Add(90*day))
}

// kinds are keys of all kinds that are not rotated, by name.
func kinds(t *testing.T, f *kmstest.Fixture) map[string]*kms.Key {
	t.Helper()
	state := func(s kms.KeyState) *kms.Key {
		return f.Key(t, keyspec.SymmetricDefault, func(k *kms.Key) {
			k.State, k.Deletion.At = s, f.Clock.Now().Add(7*day)
		})
	}
	return map[string]*kms.Key{
		"asymmetric": f.Key(t, keyspec.ECCNISTP256),
		"HMAC":       f.Key(t, keyspec.HMAC256),
		"imported": f.Key(t, keyspec.SymmetricDefault, func(k *kms.Key) {
			k.Origin, k.Materials[0].Import = kms.OriginExternal, kms.Imported
		}),
		"pending import": f.Key(t, keyspec.SymmetricDefault, func(k *kms.Key) {
			k.Origin, k.State, k.Materials = kms.OriginExternal, kms.StatePendingImport, nil
		}),
		"replica": f.Key(t, keyspec.SymmetricDefault, func(k *kms.Key) {
			k.ID = "mrk-00000000000000000000000000000001"
			k.Regions = &kms.Regions{Type: kms.Replica, Primary: kmstest.OtherRegion, Replicas: []string{kmstest.Region}}
		}),
		"disabled":         state(kms.StateDisabled),
		"pending deletion": state(kms.StatePendingDeletion),
	}
}

func TestKeysThatAreNotRotated(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	admin := kmstest.Admin(t)
	type refusal struct {
		code kms.Code
		text string // after the ARN
	}
	spec := func(s string) refusal {
		return refusal{kms.CodeUnsupported, " key spec is " + s + " which is not valid for this operation."}
	}
	origin := refusal{kms.CodeUnsupported, " origin is EXTERNAL which is not valid for this operation."}
	setting := map[string]refusal{
		"asymmetric": spec("ECC_NIST_P256"), "HMAC": spec("HMAC_256"), "imported": origin, "pending import": origin,
		"replica":          {kms.CodeUnsupported, " is not a multi-Region primary key."},
		"disabled":         {kms.CodeDisabled, " is disabled."},
		"pending deletion": {kms.CodeInvalidState, " is pending deletion."},
	}
	now := map[string]refusal{}
	for name, r := range setting {
		now[name] = r
	}
	now["pending import"] = refusal{kms.CodeInvalidState, " is pending import."}
	delete(now, "imported") // whose text begins otherwise
	for name, k := range kinds(t, f) {
		if r, is := setting[name]; is {
			err := f.EnableKeyRotation(t.Context(), admin, &kms.EnableKeyRotationInput{KeyID: k.ID})
			kmstest.Refused(t, err, r.code, k.ARN()+r.text)
			err = f.DisableKeyRotation(t.Context(), admin, &kms.DisableKeyRotationInput{KeyID: k.ID})
			kmstest.Refused(t, err, r.code, k.ARN()+r.text)
		}
		_, err := f.RotateKeyOnDemand(t.Context(), admin, &kms.RotateKeyOnDemandInput{KeyID: k.ID})
		if r, is := now[name]; is {
			kmstest.Refused(t, err, r.code, k.ARN()+r.text)
		} else {
			kmstest.Refused(t, err, kms.CodeInvalidState, "No available key material pending rotation for the key: "+k.ARN()+".")
		}
		if e := f.Last(t); e.Outcome != audit.Failed || e.Call.Event != "RotateKeyOnDemand" {
			t.Errorf("%s: the refusal is recorded as %s %s", name, e.Outcome, e.Call.Event)
		}
		// Terraform asks for every key.
		if s := rotationStatus(t, f, admin, k.ID); s.KeyRotationEnabled || s.RotationPeriodInDays != nil || !s.NextRotationDate.IsZero() || s.KeyID != k.ID {
			t.Errorf("%s: rotation status is %+v", name, s)
		}
		_, err = f.ListKeyRotations(t.Context(), admin, &kms.ListKeyRotationsInput{KeyID: k.ID})
		if r := setting[name]; name == "asymmetric" || name == "HMAC" {
			kmstest.Refused(t, err, r.code, k.ARN()+r.text)
		} else if err != nil {
			t.Errorf("%s: ListKeyRotations: %v", name, err)
		}
	}
}

func TestRotationParametersAreChecked(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := createKey(t, f, kms.CreateKeyInput{})
	const detected = "1 validation error detected: Value "
	for _, c := range []struct {
		days int32
		text string
	}{
		{89, "'89' at 'rotationPeriodInDays' failed to satisfy constraint: Member must have value greater than or equal to 90"},
		{2561, "'2561' at 'rotationPeriodInDays' failed to satisfy constraint: Member must have value less than or equal to 2560"},
	} {
		err := f.EnableKeyRotation(t.Context(), kmstest.Admin(t), &kms.EnableKeyRotationInput{KeyID: k.KeyID, RotationPeriodInDays: &c.days})
		kmstest.Refused(t, err, kms.CodeValidation, detected+c.text)
	}
	enableRotation(t, f, k.KeyID, 2560)
	_, err := f.ListKeyRotations(t.Context(), kmstest.Admin(t), &kms.ListKeyRotationsInput{KeyID: k.KeyID, IncludeKeyMaterial: "SOME"})
	kmstest.Refused(t, err, kms.CodeValidation, detected+
		"'SOME' at 'includeKeyMaterial' failed to satisfy constraint: Member must satisfy enum value set: [ALL_KEY_MATERIAL, ROTATIONS_ONLY]")
	for _, m := range []string{"x", "cg", "cjAw", "YTAw"} {
		_, err = f.ListKeyRotations(t.Context(), kmstest.Admin(t), &kms.ListKeyRotationsInput{KeyID: k.KeyID, Marker: m})
		kmstest.Refused(t, err, kms.CodeInvalidMarker, "The marker is not one of this list.")
	}
}

func TestRotationPeriodIsACondition(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := createKey(t, f, kms.CreateKeyInput{})
	who := kmstest.As(kmstest.Subject(t, kmstest.Account, "limited", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow",
		"Action":"kms:EnableKeyRotation","Resource":"*","Condition":{"NumericLessThanEquals":{"kms:RotationPeriodInDays":"180"}}}]}`))
	ok(t, f.EnableKeyRotation(t.Context(), who, &kms.EnableKeyRotationInput{KeyID: k.KeyID, RotationPeriodInDays: i32(180)}))
	for _, days := range []*int32{i32(181), nil} { // nil is 365
		err := f.EnableKeyRotation(t.Context(), who, &kms.EnableKeyRotationInput{KeyID: k.KeyID, RotationPeriodInDays: days})
		if e, is := errors.AsType[*kms.Error](err); !is || e.Code != kms.CodeAccessDenied {
			t.Errorf("got %v, want AccessDeniedException", err)
		}
	}
}

func TestRotationOnDemand(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t, func(o *kms.Options) { o.Limits.OnDemandRotations = 2 })
	k := createKey(t, f, kms.CreateKeyInput{})
	sealed := encrypt(t, f, k.KeyID, "before", nil)
	enableRotation(t, f, k.KeyID, 90)
	next := f.Clock.Now().Add(90 * day)
	rotate := func() error {
		_, err := f.RotateKeyOnDemand(t.Context(), kmstest.Admin(t), &kms.RotateKeyOnDemandInput{KeyID: k.KeyID})
		return err
	}
	f.Clock.Advance(day)
	n := len(f.Entries(t))
	out := must(f.RotateKeyOnDemand(t.Context(), kmstest.Admin(t), &kms.RotateKeyOnDemandInput{KeyID: k.KeyID}))(t)
	if out.KeyID != k.KeyID {
		t.Errorf("answer names %s, want %s", out.KeyID, k.KeyID)
	}
	wantEntries(t, f, n, "RotateKey "+kmstest.Region+" allowed", "RotateKeyOnDemand "+kmstest.Region+" allowed")
	wantRotation(t, f, k.KeyID, 90, next) // the schedule stays
	if s := rotationStatus(t, f, kmstest.Admin(t), k.KeyID); !s.OnDemandRotationStartDate.IsZero() {
		t.Error("a rotation is under way though the operation has answered")
	}
	all := rotations(t, f, kmstest.Admin(t), k.KeyID, kms.AllMaterial)
	if len(all) != 2 || all[0].KeyMaterialState != kms.MaterialNonCurrent || all[0].KeyMaterialID != k.CurrentKeyMaterialID || !all[0].RotationDate.IsZero() ||
		all[1].RotationType != kms.RotatedOnDemand || all[1].KeyMaterialState != kms.MaterialCurrent || !all[1].RotationDate.Equal(f.Clock.Now()) {
		t.Errorf("material is %+v", all)
	}
	service := &f.Entries(t)[n]
	wantParams(t, service, map[string]string{
		"keyId": k.KeyID, "rotationType": "ON_DEMAND", "keyOrigin": "AWS_KMS",
		"previousKeyMaterialId": all[0].KeyMaterialID, "currentKeyMaterialId": all[1].KeyMaterialID,
	})
	opens(t, f, kmstest.Admin(t), sealed, "before")
	ok(t, rotate())
	kmstest.Refused(t, rotate(), kms.CodeLimitExceeded, "The on-demand rotations limit has been reached for the given keyId. "+
		"No more on-demand rotations can be performed for this key: "+k.ARN)
}

func TestRotationOnDemandConflictsWithAnAutomaticOneThatIsNear(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := createKey(t, f, kms.CreateKeyInput{})
	enableRotation(t, f, k.KeyID, 90)
	text := "An automatic rotation of " + k.ARN + " is in progress or scheduled to begin within the next 20 minutes."
	rotate := func() error {
		_, err := f.RotateKeyOnDemand(t.Context(), kmstest.Admin(t), &kms.RotateKeyOnDemandInput{KeyID: k.KeyID})
		return err
	}
	f.Clock.Advance(90*day - 20*time.Minute - time.Second)
	ok(t, rotate())
	f.Clock.Advance(time.Second)
	kmstest.Refused(t, rotate(), kms.CodeConflict, text)
	f.Clock.Advance(time.Hour) // due, and not done yet
	kmstest.Refused(t, rotate(), kms.CodeConflict, text)
	pass(t, f, 0)
	ok(t, rotate())
}

func TestRotationStatusWhileDeletionIsPending(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := createKey(t, f, kms.CreateKeyInput{})
	enableRotation(t, f, k.KeyID, 90)
	must(f.ScheduleKeyDeletion(t.Context(), kmstest.Admin(t), &kms.ScheduleKeyDeletionInput{KeyID: k.KeyID}))(t)
	if rotationStatus(t, f, kmstest.Admin(t), k.KeyID).KeyRotationEnabled {
		t.Error("rotation is enabled for a key that is pending deletion")
	}
	must(f.CancelKeyDeletion(t.Context(), kmstest.Admin(t), &kms.CancelKeyDeletionInput{KeyID: k.KeyID}))(t)
	wantRotation(t, f, k.KeyID, 90, f.Clock.Now().Add(90*day))
}

func TestListOfRotationsPages(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := createKey(t, f, kms.CreateKeyInput{})
	var want []string
	for range 5 {
		must(f.RotateKeyOnDemand(t.Context(), kmstest.Admin(t), &kms.RotateKeyOnDemandInput{KeyID: k.KeyID}))(t)
	}
	for _, r := range rotations(t, f, kmstest.Admin(t), k.KeyID, kms.AllMaterial) {
		want = append(want, r.KeyMaterialID)
	}
	if len(want) != 6 {
		t.Fatalf("%d materials, want 6", len(want))
	}
	var got []string
	in := kms.ListKeyRotationsInput{KeyID: k.KeyID, IncludeKeyMaterial: kms.AllMaterial, Limit: i32(2)}
	for {
		out := must(f.ListKeyRotations(t.Context(), kmstest.Admin(t), &in))(t)
		for _, r := range out.Rotations {
			got = append(got, r.KeyMaterialID)
		}
		if in.Marker = out.NextMarker; !out.Truncated {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("pages have %v, want %v", got, want)
	}
}

func TestRotationIsWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := createKey(t, f, kms.CreateKeyInput{MultiRegion: true})
	must(f.ReplicateKey(t.Context(), kmstest.Admin(t), &kms.ReplicateKeyInput{KeyID: k.KeyID, ReplicaRegion: kmstest.OtherRegion}))(t)
	enableRotation(t, f, k.KeyID, 90)
	n := len(f.Entries(t))
	f.Clock.Advance(91 * day)
	f.Store.Fail(func(call string) error {
		if call == "Update" {
			return kms.ErrUnavailable
		}
		return nil
	})
	ok(t, f.RunDue(t.Context(), f.Clock.Now()))
	wantEntries(t, f, n, "RotateKey "+kmstest.Region+" failed")
	f.Store.Fail(nil)
	for _, region := range []string{kmstest.Region, kmstest.OtherRegion} {
		if n := len(rotations(t, f, kmstest.In(kmstest.Admin(t), region), k.KeyID, "")); n != 0 {
			t.Errorf("%d rotations in %s though nothing could be written", n, region)
		}
	}
	n = len(f.Entries(t))
	ok(t, f.RunDue(t.Context(), f.Clock.Now())) // put off
	wantEntries(t, f, n)
	pass(t, f, 10*time.Second)
	wantEntries(t, f, n, "SynchronizeMultiRegionKey "+kmstest.OtherRegion+" allowed", "RotateKey "+kmstest.Region+" allowed")
}

func TestRotationWaitsWithoutAWordWhileSealed(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := createKey(t, f, kms.CreateKeyInput{})
	enableRotation(t, f, k.KeyID, 90)
	n := len(f.Entries(t))
	f.FailBackend(func(string) error { return kms.ErrSealed })
	pass(t, f, 91*day)
	pass(t, f, time.Hour)
	wantEntries(t, f, n)
	_, err := f.RotateKeyOnDemand(t.Context(), kmstest.Admin(t), &kms.RotateKeyOnDemandInput{KeyID: createKeyOf(t, f).ID})
	kmstest.Refused(t, err, kms.CodeKeyUnavailable, "The key service is sealed: its root key has not been unsealed by the custodians.")
	f.FailBackend(nil)
	n = len(f.Entries(t))
	pass(t, f, time.Minute)
	wantEntries(t, f, n, "RotateKey "+kmstest.Region+" allowed")
}

// createKeyOf stores a key without asking the backend.
func createKeyOf(t testing.TB, f *kmstest.Fixture) *kms.Key {
	t.Helper()
	k := &kms.Key{
		KeyRef:    kms.KeyRef{Account: kmstest.Account, Region: kmstest.Region, ID: "00000000-0000-4000-8000-000000000001"},
		CreatedAt: f.Clock.Now(), Spec: keyspec.SymmetricDefault, Usage: keyspec.EncryptDecrypt, Origin: kms.OriginKMS,
		State: kms.StateEnabled, Policy: kmstest.DefaultPolicy(kmstest.Account),
		Materials: []kms.Material{{ID: "0000000000000000000000000000000000000000000000000000000000000001", State: kms.MaterialCurrent}},
	}
	return f.Put(t, k)
}

func TestNodesRotateAKeyOnce(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := createKey(t, f, kms.CreateKeyInput{})
	enableRotation(t, f, k.KeyID, 90)
	n := len(f.Entries(t))
	f.Clock.Advance(90 * day)
	var wg sync.WaitGroup
	for _, s := range []*kms.Service{f.Service, node(t, f, "second"), node(t, f, "third"), node(t, f, "fourth")} {
		wg.Go(func() {
			if err := s.RunDue(t.Context(), f.Clock.Now()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	wantEntries(t, f, n, "RotateKey "+kmstest.Region+" allowed")
	f.Restart(t) // the other nodes' work is not announced to this one here
	if n := len(rotations(t, f, kmstest.Admin(t), k.KeyID, "")); n != 1 {
		t.Errorf("%d rotations, want 1", n)
	}
}

// TestCiphertextOfARotationOpensOnOtherNodes at once, though they have the key in their
// caches as it was before; what was changed along with it holds there, too.
func TestCiphertextOfARotationOpensOnOtherNodes(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	admin, ctx := kmstest.Admin(t), t.Context()
	k := f.Key(t, keyspec.SymmetricDefault)
	other := node(t, f, "other")
	rotated := func() (blob []byte) {
		must(other.Encrypt(ctx, admin, &kms.EncryptInput{KeyID: k.ID, Plaintext: text("x")}))(t) // the key is cached
		must(f.RotateKeyOnDemand(ctx, admin, &kms.RotateKeyOnDemandInput{KeyID: k.ID}))(t)
		return encrypt(t, f, k.ID, "x", nil)
	}
	for name, open := range map[string]func(blob []byte) error{
		"Decrypt": func(blob []byte) error {
			_, err := other.Decrypt(ctx, admin, &kms.DecryptInput{CiphertextBlob: blob})
			return err
		},
		"ReEncrypt": func(blob []byte) error {
			_, err := other.ReEncrypt(ctx, admin, &kms.ReEncryptInput{CiphertextBlob: blob, DestinationKeyID: k.ID})
			return err
		},
	} {
		blob := rotated()
		n := len(f.Entries(t))
		ok(t, open(blob))
		wantEntries(t, f, n, name+" "+kmstest.Region+" allowed")
	}

	blob := rotated()
	ok(t, f.DisableKey(ctx, admin, &kms.DisableKeyInput{KeyID: k.ID}))
	_, err := other.Decrypt(ctx, admin, &kms.DecryptInput{CiphertextBlob: blob})
	kmstest.Refused(t, err, kms.CodeDisabled, k.ARN()+" is disabled.")

	ok(t, f.EnableKey(ctx, admin, &kms.EnableKeyInput{KeyID: k.ID}))
	other = node(t, f, "third") // which has not heard of a disabled key
	blob = rotated()
	f.Store.Fail(func(call string) error {
		if call == "Key" {
			return kms.ErrUnavailable
		}
		return nil
	})
	_, err = other.Decrypt(ctx, admin, &kms.DecryptInput{CiphertextBlob: blob})
	kmstest.Refused(t, err, kms.CodeInternal, "The key could not be read.")
}
