package kms_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"cardea/internal/audit"
	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/kms/kmstest"
)

func withdraw(t testing.TB, f *kmstest.Fixture, k *kms.Key, id string) (*kms.ApprovalView, error) {
	t.Helper()
	return f.WithdrawApproval(t.Context(), kms.Operator("olivia", "", ""), &kms.WithdrawApprovalInput{KeyARN: k.ARN(), ID: id})
}

func TestAnApprovalThatIsWithdrawnPermitsNothing(t *testing.T) {
	t.Parallel()
	f, j := controlled(t)
	ctx := t.Context()
	k := f.Key(t, keyspec.SymmetricDefault)
	disable := func() error { return f.DisableKey(ctx, kmstest.Admin(t), &kms.DisableKeyInput{KeyID: k.ID}) }
	note := approvalOf(f, "first", k.KeyRef, "key.disable")
	if err := deposit(t, f, note); err != nil {
		t.Fatal(err)
	}
	v, err := withdraw(t, f, k, "first")
	if err != nil || v.Operation != "key.disable" || v.Requester != "alice" || v.Problem != "" || !v.Withdrawn.Equal(f.Clock.Now()) {
		t.Fatalf("%+v, %v", v, err)
	}
	if e := f.Last(t); e.Op != "kms.withdraw_approval" || e.Outcome != audit.Allowed || e.Who.Name != "olivia" || e.Resource.Key != k.ARN() ||
		e.Detail != "approval/first, asked by alice, approved by bob, carol, register abababababababab" {
		t.Errorf("entry %+v", e)
	}
	if a := stored(t, f, k.KeyRef).Approvals; len(a) != 1 || a[0].Note != "" || !a[0].Spent.IsZero() {
		t.Errorf("%+v is left", a)
	}
	kmstest.Refused(t, disable(), kms.CodeAccessDenied, fmt.Sprintf(needs, "key.disable", k.ARN(), ""))
	if e := f.Last(t); !strings.HasSuffix(e.Detail, "with {}: 1 were withdrawn") {
		t.Errorf("the log says %q", e.Detail)
	}
	const on = "2026-11-22T10:00:00Z"
	kmstest.Refused(t, deposit(t, f, note), kms.CodeAlreadyExists, "The approval was withdrawn on "+on+": ask for a new one.")
	_, err = withdraw(t, f, k, "first")
	kmstest.Refused(t, err, kms.CodeInvalidState, "The approval was withdrawn on "+on+" already.")
	list, err := f.ListApprovals(ctx, kms.Operator("olivia", "", ""), &kms.ListApprovalsInput{KeyARN: k.ARN()})
	if err != nil || len(list.Approvals) != 1 || list.Approvals[0].Problem != "it was withdrawn on "+on || list.Approvals[0].Withdrawn.IsZero() {
		t.Errorf("%+v, %v", list, err)
	}

	// Another of the same does, and cannot be withdrawn once it was used; one whose
	// people have left can be.
	if err := deposit(t, f, approvalOf(f, "second", k.KeyRef, "key.disable")); err != nil {
		t.Fatal(err)
	}
	if err := disable(); err != nil {
		t.Fatal(err)
	}
	_, err = withdraw(t, f, k, "second")
	kmstest.Refused(t, err, kms.CodeInvalidState, "The approval was used on "+on+": it cannot be withdrawn any more.")
	if e := f.Last(t); e.Op != "kms.withdraw_approval" || e.Outcome != audit.Failed {
		t.Errorf("entry %+v", e)
	}
	if err := deposit(t, f, approvalOf(f, "third", k.KeyRef, "key.schedule-deletion", "window", "30")); err != nil {
		t.Fatal(err)
	}
	j.leave("carol")
	if _, err := withdraw(t, f, k, "third"); err != nil {
		t.Error(err)
	}
}

func TestWhatCannotBeWithdrawn(t *testing.T) {
	t.Parallel()
	f, _ := controlled(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	if err := deposit(t, f, approvalOf(f, "a", k.KeyRef, "key.disable")); err != nil {
		t.Fatal(err)
	}
	const nothing = "No approval with this id is deposited for the key: it never was, or has expired ('cardea approval deposits')."
	_, err := withdraw(t, f, k, "b")
	kmstest.Refused(t, err, kms.CodeNotFound, nothing)
	_, err = withdraw(t, f, k, strings.Repeat("a", 65))
	kmstest.Refused(t, err, kms.CodeValidation, "1 validation error detected: Value '"+strings.Repeat("a", 65)+"' at 'approvalId' failed to satisfy constraint: Member must have length less than or equal to 64")
	_, err = withdraw(t, f, k, "")
	kmstest.Refused(t, err, kms.CodeValidation, "1 validation error detected: Value null at 'approvalId' failed to satisfy constraint: Member must not be null")
	_, err = withdraw(t, f, f.Key(t, keyspec.SymmetricDefault), "a")
	kmstest.Refused(t, err, kms.CodeNotFound, nothing)
	_, err = f.WithdrawApproval(t.Context(), kmstest.Admin(t), &kms.WithdrawApprovalInput{KeyARN: k.ARN(), ID: "a"})
	kmstest.Refused(t, err, kms.CodeAccessDenied, "Only operators of the host may see, deposit and withdraw approvals.")
	if a := stored(t, f, k.KeyRef).Approvals; len(a) != 1 || a[0].Note == "" || !a[0].Withdrawn.IsZero() {
		t.Errorf("%+v is left", a)
	}
	f.Clock.Advance(73 * time.Hour)
	_, err = withdraw(t, f, k, "a")
	kmstest.Refused(t, err, kms.CodeNotFound, nothing)
}
