package kms_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"cardea/internal/audit"
	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/kms/kmstest"
)

func stored(t testing.TB, f *kmstest.Fixture, ref kms.KeyRef) *kms.Key {
	t.Helper()
	k, err := f.Store.Key(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// denied fails the test unless the error is the refusal of an action in AWS's
// words, and the last entry says that it was a denial, and what decided.
func denied(t testing.TB, f *kmstest.Fixture, err error, action, detail string) {
	t.Helper()
	e, is := errors.AsType[*kms.Error](err)
	if !is || e.Code != kms.CodeAccessDenied || !strings.Contains(e.Message, " is not authorized to perform: "+action) {
		t.Errorf("got %v, want a denial of %s", err, action)
	}
	if last := f.Last(t); last.Outcome != audit.Denied || last.Detail != detail || last.Call.Error != "AccessDeniedException" {
		t.Errorf("entry: %s, %q, %s; want a denial: %q", last.Outcome, last.Detail, last.Call.Error, detail)
	}
}

const noIdentityPolicy = "denied: no identity policy allows it"

func TestDisableAndEnableKey(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	if err := f.DisableKey(t.Context(), kmstest.Admin(t), &kms.DisableKeyInput{KeyID: k.ARN()}); err != nil {
		t.Fatal(err)
	}
	e := f.Last(t)
	wantParams(t, &e, map[string]string{"keyId": k.ARN()})
	_, err := f.Encrypt(t.Context(), kmstest.Admin(t), &kms.EncryptInput{KeyID: k.ID, Plaintext: text("x")})
	kmstest.Refused(t, err, kms.CodeDisabled, k.ARN()+" is disabled.")
	for range 2 { // twice is no error
		if err := f.EnableKey(t.Context(), kmstest.Admin(t), &kms.EnableKeyInput{KeyID: k.ID}); err != nil {
			t.Fatal(err)
		}
	}
	encrypt(t, f, k.ID, "x", nil)
	err = f.EnableKey(t.Context(), kmstest.User(t), &kms.EnableKeyInput{KeyID: k.ID})
	denied(t, f, err, "kms:EnableKey", noIdentityPolicy)
}

func TestEnablingAKeyWhoseRotationIsOverdueMakesItDue(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault, func(k *kms.Key) {
		k.State = kms.StateDisabled
		k.Rotation = kms.Rotation{Enabled: true, PeriodDays: 90, Next: f.Clock.Now().Add(-time.Hour)}
	})
	if due := stored(t, f, k.KeyRef).Due(); !due.IsZero() {
		t.Errorf("disabled, it is due %v", due)
	}
	if err := f.EnableKey(t.Context(), kmstest.Admin(t), &kms.EnableKeyInput{KeyID: k.ID}); err != nil {
		t.Fatal(err)
	}
	if due := stored(t, f, k.KeyRef).Due(); due.IsZero() || due.After(f.Clock.Now()) {
		t.Errorf("enabled, it is due %v", due)
	}
}

func TestScheduleAndCancelKeyDeletion(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	next := f.Clock.Now().AddDate(0, 0, 90)
	k := f.Key(t, keyspec.SymmetricDefault, func(k *kms.Key) { k.Rotation = kms.Rotation{Enabled: true, PeriodDays: 90, Next: next} })
	out, err := f.ScheduleKeyDeletion(t.Context(), kmstest.Admin(t), &kms.ScheduleKeyDeletionInput{KeyID: k.ID})
	if err != nil {
		t.Fatal(err)
	}
	at := f.Clock.Now().AddDate(0, 0, 30)
	if out.KeyID != k.ARN() || out.KeyState != kms.StatePendingDeletion || !out.DeletionDate.Equal(at) || *out.PendingWindowInDays != 30 {
		t.Errorf("got %+v", out)
	}
	e := f.Last(t)
	wantParams(t, &e, map[string]string{"keyId": k.ID, "pendingWindowInDays": "30"})
	if got := paramsOf(e.Call.Response); got["keyId"] != k.ARN() || got["keyState"] != "PendingDeletion" || got["deletionDate"] != "2026-12-22T10:00:00Z" {
		t.Errorf("entry's response %v", got)
	}
	if row := stored(t, f, k.KeyRef); !row.Due().Equal(at) || row.Rotation.Enabled {
		t.Errorf("stored: due %v, rotation %+v", row.Due(), row.Rotation)
	}
	_, err = f.ScheduleKeyDeletion(t.Context(), kmstest.Admin(t), &kms.ScheduleKeyDeletionInput{KeyID: k.ID})
	kmstest.Refused(t, err, kms.CodeInvalidState, k.ARN()+" is pending deletion.")

	cancelled, err := f.CancelKeyDeletion(t.Context(), kmstest.Admin(t), &kms.CancelKeyDeletionInput{KeyID: k.ID})
	if err != nil || cancelled.KeyID != k.ARN() {
		t.Fatal(err, cancelled)
	}
	row := stored(t, f, k.KeyRef)
	if row.State != kms.StateDisabled || !row.Rotation.Enabled || !row.Rotation.Next.Equal(next) || row.Deletion != (kms.Deletion{}) {
		t.Errorf("after cancelling: %s, %+v, %+v", row.State, row.Rotation, row.Deletion)
	}
	_, err = f.CancelKeyDeletion(t.Context(), kmstest.Admin(t), &kms.CancelKeyDeletionInput{KeyID: k.ID})
	kmstest.Refused(t, err, kms.CodeInvalidState, k.ARN()+" is not pending deletion.")
}

func TestScheduleKeyDeletionRefusesWindows(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	for days, message := range map[int32]string{
		0:   "1 validation error detected: Value '0' at 'pendingWindowInDays' failed to satisfy constraint: Member must have value greater than or equal to 1",
		6:   "PendingWindowInDays must be between 7 and 30.",
		31:  "PendingWindowInDays must be between 7 and 30.",
		366: "1 validation error detected: Value '366' at 'pendingWindowInDays' failed to satisfy constraint: Member must have value less than or equal to 365",
	} {
		_, err := f.ScheduleKeyDeletion(t.Context(), kmstest.Admin(t), &kms.ScheduleKeyDeletionInput{KeyID: k.ID, PendingWindowInDays: i32(days)})
		kmstest.Refused(t, err, kms.CodeValidation, message)
	}
	for _, days := range []int32{7, 30} {
		k := f.Key(t, keyspec.SymmetricDefault)
		if _, err := f.ScheduleKeyDeletion(t.Context(), kmstest.Admin(t), &kms.ScheduleKeyDeletionInput{KeyID: k.ID, PendingWindowInDays: i32(days)}); err != nil {
			t.Errorf("%d days: %v", days, err)
		}
	}
}

func TestScheduleKeyDeletionCanBeLimitedByItsWindow(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	who := kmstest.As(kmstest.Subject(t, kmstest.Account, "ops", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:ScheduleKeyDeletion",`+
		`"Resource":"*","Condition":{"NumericGreaterThanEquals":{"kms:ScheduleKeyDeletionPendingWindowInDays":"14"}}}]}`))
	_, err := f.ScheduleKeyDeletion(t.Context(), who, &kms.ScheduleKeyDeletionInput{KeyID: k.ID, PendingWindowInDays: i32(7)})
	denied(t, f, err, "kms:ScheduleKeyDeletion", noIdentityPolicy)
	if _, err := f.ScheduleKeyDeletion(t.Context(), who, &kms.ScheduleKeyDeletionInput{KeyID: k.ID, PendingWindowInDays: i32(14)}); err != nil {
		t.Error(err)
	}
}

func TestAPrimaryKeyWithReplicasWaitsForThem(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault, func(k *kms.Key) {
		k.ID = "mrk-1234abcd12ab34cd56ef1234567890ab"
		k.Regions = &kms.Regions{Type: kms.Primary, Primary: kmstest.Region, Replicas: []string{kmstest.OtherRegion}}
	})
	out, err := f.ScheduleKeyDeletion(t.Context(), kmstest.Admin(t), &kms.ScheduleKeyDeletionInput{KeyID: k.ID, PendingWindowInDays: i32(9)})
	if err != nil {
		t.Fatal(err)
	}
	if out.KeyState != kms.StatePendingReplicaDeletion || !out.DeletionDate.IsZero() || *out.PendingWindowInDays != 9 {
		t.Errorf("got %+v", out)
	}
	if row := stored(t, f, k.KeyRef); !row.Due().IsZero() || row.Deletion.WindowDays != 9 {
		t.Errorf("stored: due %v, %+v", row.Due(), row.Deletion)
	}
	_, err = f.Encrypt(t.Context(), kmstest.Admin(t), &kms.EncryptInput{KeyID: k.ID, Plaintext: text("x")})
	kmstest.Refused(t, err, kms.CodeInvalidState, k.ARN()+" is pending replica deletion.")
	if _, err := f.CancelKeyDeletion(t.Context(), kmstest.Admin(t), &kms.CancelKeyDeletionInput{KeyID: k.ID}); err != nil {
		t.Error(err)
	}
}

func TestCancelKeyDeletionOfAKeyWhoseImportedMaterialHasGone(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	for name, c := range map[string]struct {
		materials []kms.Material
		want      kms.KeyState
	}{
		"nothing imported yet": {nil, kms.StatePendingImport},
		"all there":            {[]kms.Material{{State: kms.MaterialCurrent, Import: kms.Imported}, {State: kms.MaterialNonCurrent, Import: kms.Imported}}, kms.StateDisabled},
		"current gone":         {[]kms.Material{{State: kms.MaterialCurrent, Import: kms.PendingImport}}, kms.StatePendingImport},
		"old gone":             {[]kms.Material{{State: kms.MaterialCurrent, Import: kms.Imported}, {State: kms.MaterialNonCurrent, Import: kms.PendingImport}}, kms.StatePendingImport},
		"next not there yet":   {[]kms.Material{{State: kms.MaterialCurrent, Import: kms.Imported}, {State: kms.MaterialPendingRotation, Import: kms.PendingImport}}, kms.StateDisabled},
	} {
		k := f.Key(t, keyspec.SymmetricDefault, func(k *kms.Key) {
			k.Origin, k.State, k.Materials = kms.OriginExternal, kms.StatePendingDeletion, c.materials
			k.Deletion = kms.Deletion{At: f.Clock.Now().AddDate(0, 0, 7), WindowDays: 7}
		})
		if _, err := f.CancelKeyDeletion(t.Context(), kmstest.Admin(t), &kms.CancelKeyDeletionInput{KeyID: k.ID}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := stored(t, f, k.KeyRef).State; got != c.want {
			t.Errorf("%s: the key is %s, want %s", name, got, c.want)
		}
	}
}

// What key states do to the operations of the control plane, in AWS's table.
func TestKeyStatesRefuseControlOperations(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	admin := kmstest.Admin(t)
	user := userARN(kmstest.Account, "app")
	ops := map[string]func(id string) error{
		"EnableKey":  func(id string) error { return f.EnableKey(t.Context(), admin, &kms.EnableKeyInput{KeyID: id}) },
		"DisableKey": func(id string) error { return f.DisableKey(t.Context(), admin, &kms.DisableKeyInput{KeyID: id}) },
		"UpdateKeyDescription": func(id string) error {
			return f.UpdateKeyDescription(t.Context(), admin, &kms.UpdateKeyDescriptionInput{KeyID: id, Description: "d"})
		},
		"TagResource": func(id string) error {
			return f.TagResource(t.Context(), admin, &kms.TagResourceInput{KeyID: id, Tags: []kms.Tag{{TagKey: "a"}}})
		},
		"UntagResource": func(id string) error {
			return f.UntagResource(t.Context(), admin, &kms.UntagResourceInput{KeyID: id, TagKeys: []string{"a"}})
		},
		"CreateAlias": func(id string) error {
			return f.CreateAlias(t.Context(), admin, &kms.CreateAliasInput{AliasName: "alias/of-" + id, TargetKeyID: id})
		},
		"PutKeyPolicy": func(id string) error {
			return f.PutKeyPolicy(t.Context(), admin, &kms.PutKeyPolicyInput{KeyID: id, Policy: kmstest.DefaultPolicy(kmstest.Account)})
		},
		"CreateGrant": func(id string) error {
			_, err := f.CreateGrant(t.Context(), admin, &kms.CreateGrantInput{KeyID: id, GranteePrincipal: user, Operations: []kms.GrantOperation{"Decrypt"}})
			return err
		},
	}
	const ok = ""
	pending := map[kms.KeyState]string{
		kms.StatePendingDeletion: " is pending deletion.", kms.StatePendingReplicaDeletion: " is pending replica deletion.", kms.StatePendingImport: " is pending import.",
		kms.StateUnavailable: " is unavailable.", kms.StateCreating: " is creating.",
	}
	for name, refusals := range map[string]map[kms.KeyState]kms.Code{
		"EnableKey":            {kms.StateDisabled: ok, kms.StatePendingImport: kms.CodeInvalidState, kms.StatePendingDeletion: kms.CodeInvalidState},
		"DisableKey":           {kms.StateDisabled: ok, kms.StatePendingImport: kms.CodeInvalidState, kms.StatePendingDeletion: kms.CodeInvalidState},
		"UpdateKeyDescription": {kms.StateDisabled: ok, kms.StatePendingImport: ok, kms.StatePendingDeletion: kms.CodeInvalidState},
		"TagResource":          {kms.StateDisabled: ok, kms.StatePendingImport: ok, kms.StatePendingReplicaDeletion: kms.CodeInvalidState},
		"UntagResource":        {kms.StateDisabled: ok, kms.StatePendingImport: ok, kms.StatePendingDeletion: kms.CodeInvalidState},
		"CreateAlias":          {kms.StateDisabled: ok, kms.StatePendingImport: ok, kms.StatePendingDeletion: kms.CodeInvalidState},
		"PutKeyPolicy":         {kms.StateDisabled: ok, kms.StatePendingImport: ok, kms.StatePendingDeletion: ok},
		"CreateGrant":          {kms.StateDisabled: kms.CodeDisabled, kms.StatePendingImport: kms.CodeInvalidState, kms.StatePendingDeletion: kms.CodeInvalidState},
	} {
		for state, code := range refusals {
			k := f.Key(t, keyspec.SymmetricDefault, func(k *kms.Key) { k.State = state })
			err := ops[name](k.ID)
			switch {
			case code == ok && err != nil:
				t.Errorf("%s of a key in state %s: %v", name, state, err)
			case code == kms.CodeDisabled:
				kmstest.Refused(t, err, code, k.ARN()+" is disabled.")
			case code != ok:
				kmstest.Refused(t, err, code, k.ARN()+pending[state])
			}
		}
	}
}
