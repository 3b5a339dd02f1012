package kms_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"cardea/internal/audit"
	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/kms/kmstest"
)

// controlCall is a request of the control plane that succeeds for the admin.
type controlCall struct {
	op  string
	run func(who kms.Caller) (out any, err error)
}

// controlCalls makes all requests of the control plane on a fixture of their own.
func controlCalls(t *testing.T) (*kmstest.Fixture, []controlCall) {
	t.Helper()
	f := kmstest.New(t)
	ctx := t.Context()
	k, next := f.Key(t, keyspec.SymmetricDefault), f.Key(t, keyspec.SymmetricDefault)
	disabled := f.Key(t, keyspec.SymmetricDefault, func(k *kms.Key) { k.State = kms.StateDisabled })
	ending := f.Key(t, keyspec.SymmetricDefault, func(k *kms.Key) { k.State = kms.StatePendingDeletion })
	f.Alias(t, k, "alias/moved")
	f.Alias(t, k, "alias/deleted")
	var grants []string
	for range 2 {
		grants = append(grants, createGrant(t, f, kms.CreateGrantInput{KeyID: k.ID, GranteePrincipal: appRole, Operations: grantOps("Encrypt")}).GrantID)
	}
	nothing := func(err error) (any, error) { return nil, err }
	return f, []controlCall{
		{"CreateKey", func(who kms.Caller) (any, error) { return f.CreateKey(ctx, who, &kms.CreateKeyInput{}) }},
		{"ListKeys", func(who kms.Caller) (any, error) { return f.ListKeys(ctx, who, &kms.ListKeysInput{}) }},
		{"UpdateKeyDescription", func(who kms.Caller) (any, error) {
			return nothing(f.UpdateKeyDescription(ctx, who, &kms.UpdateKeyDescriptionInput{KeyID: k.ID, Description: "d"}))
		}},
		{"EnableKey", func(who kms.Caller) (any, error) {
			return nothing(f.EnableKey(ctx, who, &kms.EnableKeyInput{KeyID: disabled.ID}))
		}},
		{"DisableKey", func(who kms.Caller) (any, error) {
			return nothing(f.DisableKey(ctx, who, &kms.DisableKeyInput{KeyID: disabled.ID}))
		}},
		{"ScheduleKeyDeletion", func(who kms.Caller) (any, error) {
			return f.ScheduleKeyDeletion(ctx, who, &kms.ScheduleKeyDeletionInput{KeyID: disabled.ID})
		}},
		{"CancelKeyDeletion", func(who kms.Caller) (any, error) {
			return f.CancelKeyDeletion(ctx, who, &kms.CancelKeyDeletionInput{KeyID: ending.ID})
		}},
		{"CreateAlias", func(who kms.Caller) (any, error) {
			return nothing(f.CreateAlias(ctx, who, &kms.CreateAliasInput{AliasName: "alias/new", TargetKeyID: k.ID}))
		}},
		{"UpdateAlias", func(who kms.Caller) (any, error) {
			return nothing(f.UpdateAlias(ctx, who, &kms.UpdateAliasInput{AliasName: "alias/moved", TargetKeyID: next.ID}))
		}},
		{"DeleteAlias", func(who kms.Caller) (any, error) {
			return nothing(f.DeleteAlias(ctx, who, &kms.DeleteAliasInput{AliasName: "alias/deleted"}))
		}},
		{"ListAliases", func(who kms.Caller) (any, error) { return f.ListAliases(ctx, who, &kms.ListAliasesInput{}) }},
		{"TagResource", func(who kms.Caller) (any, error) {
			return nothing(f.TagResource(ctx, who, &kms.TagResourceInput{KeyID: k.ID, Tags: []kms.Tag{{TagKey: "a"}}}))
		}},
		{"UntagResource", func(who kms.Caller) (any, error) {
			return nothing(f.UntagResource(ctx, who, &kms.UntagResourceInput{KeyID: k.ID, TagKeys: []string{"a"}}))
		}},
		{"ListResourceTags", func(who kms.Caller) (any, error) {
			return f.ListResourceTags(ctx, who, &kms.ListResourceTagsInput{KeyID: k.ID})
		}},
		{"GetKeyPolicy", func(who kms.Caller) (any, error) {
			return f.GetKeyPolicy(ctx, who, &kms.GetKeyPolicyInput{KeyID: k.ID})
		}},
		{"PutKeyPolicy", func(who kms.Caller) (any, error) {
			return nothing(f.PutKeyPolicy(ctx, who, &kms.PutKeyPolicyInput{KeyID: k.ID, Policy: kmstest.DefaultPolicy(kmstest.Account)}))
		}},
		{"ListKeyPolicies", func(who kms.Caller) (any, error) {
			return f.ListKeyPolicies(ctx, who, &kms.ListKeyPoliciesInput{KeyID: k.ID})
		}},
		{"CreateGrant", func(who kms.Caller) (any, error) {
			return f.CreateGrant(ctx, who, &kms.CreateGrantInput{KeyID: k.ID, GranteePrincipal: appRole, Operations: grantOps("Encrypt")})
		}},
		{"ListGrants", func(who kms.Caller) (any, error) { return f.ListGrants(ctx, who, &kms.ListGrantsInput{KeyID: k.ID}) }},
		{"ListRetirableGrants", func(who kms.Caller) (any, error) {
			return f.ListRetirableGrants(ctx, who, &kms.ListRetirableGrantsInput{RetiringPrincipal: app})
		}},
		{"RetireGrant", func(who kms.Caller) (any, error) {
			return nothing(f.RetireGrant(ctx, who, &kms.RetireGrantInput{KeyID: k.ID, GrantID: grants[0]}))
		}},
		{"RevokeGrant", func(who kms.Caller) (any, error) {
			return nothing(f.RevokeGrant(ctx, who, &kms.RevokeGrantInput{KeyID: k.ID, GrantID: grants[1]}))
		}},
	}
}

// snapshot is all the state there is.
func snapshot(t testing.TB, f *kmstest.Fixture) any {
	t.Helper()
	type state struct {
		Keys    []*kms.Key
		Aliases []kms.Alias
		Grants  []kms.Grant
	}
	var s state
	refs, err := f.Store.Keys(t.Context(), kmstest.Account, kmstest.Region, "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range refs {
		gs, err := f.Store.Grants(t.Context(), ref, kms.GrantFilter{}, "", 1000)
		if err != nil {
			t.Fatal(err)
		}
		s.Keys, s.Grants = append(s.Keys, stored(t, f, ref)), append(s.Grants, gs...)
	}
	if s.Aliases, err = f.Store.Aliases(t.Context(), kmstest.Account, kmstest.Region, "", 1000); err != nil {
		t.Fatal(err)
	}
	return s
}

func isNil(out any) bool { return out == nil || reflect.ValueOf(out).IsNil() }

func TestEveryControlOperationHasOneEntryAndChangesNothingIfDenied(t *testing.T) {
	t.Parallel()
	f, calls := controlCalls(t)
	for _, c := range calls {
		before, entries := snapshot(t, f), len(f.Entries(t))
		backend := backendCalls(f)
		out, err := c.run(kmstest.User(t))
		if err == nil || !isNil(out) {
			t.Errorf("%s without permission: %v, %v", c.op, out, err)
		}
		denied(t, f, err, "kms:"+c.op, noIdentityPolicy)
		if got := len(f.Entries(t)); got != entries+1 {
			t.Errorf("%s without permission: %d entries", c.op, got-entries)
		}
		if !reflect.DeepEqual(snapshot(t, f), before) || len(backend()) > 0 {
			t.Errorf("%s without permission changed something, or called the backend: %v", c.op, backend())
		}

		if _, err := c.run(kmstest.Admin(t)); err != nil {
			t.Errorf("%s: %v", c.op, err)
		}
		es := f.Entries(t)
		e := es[len(es)-1]
		readOnly := strings.HasPrefix(c.op, "List") || strings.HasPrefix(c.op, "Get")
		if len(es) != entries+2 || e.Outcome != audit.Allowed || e.Call.Event != c.op || e.Call.ReadOnly != readOnly || !strings.HasPrefix(e.Detail, "allowed by identity policy inline /Statement/0") {
			t.Errorf("%s: %d entries, the last is %+v of %+v", c.op, len(es)-entries-1, e, e.Call)
		}
		if changed := !reflect.DeepEqual(snapshot(t, f), before); changed == readOnly {
			t.Errorf("%s changed something: %v", c.op, changed)
		}
	}
}

func TestNoControlOperationSucceedsWithoutItsEntry(t *testing.T) {
	t.Parallel()
	f, calls := controlCalls(t)
	for _, c := range calls {
		before, entries := snapshot(t, f), len(f.Entries(t))
		f.Store.Fail(func(call string) error {
			if call == "Append" || call == "Update" {
				return errors.New("disk full")
			}
			return nil
		})
		out, err := c.run(kmstest.Admin(t))
		f.Store.Fail(nil)
		kmstest.Refused(t, err, kms.CodeInternal, "The request could not be recorded in the audit log and was refused.")
		if !isNil(out) || len(f.Entries(t)) != entries || !reflect.DeepEqual(snapshot(t, f), before) {
			t.Errorf("%s without an audit log: answered %v, or changed something", c.op, out)
		}
	}
}

func TestControlOperationsFailIfTheirChangeCannotBeWritten(t *testing.T) {
	t.Parallel()
	f, calls := controlCalls(t)
	for _, c := range calls {
		if strings.HasPrefix(c.op, "List") || strings.HasPrefix(c.op, "Get") {
			continue
		}
		before, entries := snapshot(t, f), len(f.Entries(t))
		f.Store.Fail(func(call string) error {
			if call == "Update" {
				return errors.New("connection lost")
			}
			return nil
		})
		out, err := c.run(kmstest.Admin(t))
		f.Store.Fail(nil)
		kmstest.Refused(t, err, kms.CodeInternal, "The change could not be written.")
		e := f.Last(t)
		if !isNil(out) || len(f.Entries(t)) != entries+1 || e.Outcome != audit.Failed || e.Call.Event != c.op || !strings.Contains(e.Detail, "connection lost") {
			t.Errorf("%s: answered %v; entry %+v", c.op, out, e)
		}
		if !reflect.DeepEqual(snapshot(t, f), before) {
			t.Errorf("%s changed something", c.op)
		}
	}
}

func BenchmarkEncryptByOneGrantOf50000(b *testing.B) {
	f := kmstest.New(b)
	k := f.Key(b, keyspec.SymmetricDefault)
	putGrants(b, f, k, "arn:aws:iam::111122223333:user/many", 0, 49_990, "Decrypt")
	putGrants(b, f, k, app, 49_990, 10, "Encrypt")
	who, plain := kmstest.User(b), text("x")
	in := &kms.EncryptInput{KeyID: k.ID, Plaintext: plain}
	for b.Loop() {
		if _, err := f.Encrypt(b.Context(), who, in); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncryptByPolicy(b *testing.B) {
	f := kmstest.New(b)
	k := f.Key(b, keyspec.SymmetricDefault)
	who, plain := kmstest.Admin(b), text("x")
	in := &kms.EncryptInput{KeyID: k.ID, Plaintext: plain}
	for b.Loop() {
		if _, err := f.Encrypt(b.Context(), who, in); err != nil {
			b.Fatal(err)
		}
	}
}
