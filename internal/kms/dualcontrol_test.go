package kms_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cardea/internal/audit"
	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/kms/kmstest"
	"cardea/internal/secret"
)

// judge reads notes that are what it is to answer, in JSON; those who are gone do not
// count.
type judge struct {
	mu   sync.Mutex
	gone []string
}

func (j *judge) leave(name string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.gone = append(j.gone, name)
}

func (j *judge) Read(signed []byte, _ time.Time) (*kms.Approved, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	a := &kms.Approved{}
	if err := json.Unmarshal(signed, a); err != nil {
		return nil, errors.New("it is no note")
	}
	a.Approvers = slices.DeleteFunc(a.Approvers, func(name string) bool { return slices.Contains(j.gone, name) })
	return a, nil
}

func (j *judge) Check(signed []byte, at time.Time, w kms.Wanted) (*kms.Approved, error) {
	a, err := j.Read(signed, at)
	switch {
	case err != nil:
		return nil, err
	case a.Operation != w.Operation || a.Target != w.Target || !maps.Equal(a.Params, w.Params):
		return nil, fmt.Errorf("it is for %s with %v", a.Operation, a.Params)
	case !at.Before(a.Expires):
		return nil, errors.New("it has expired")
	case len(a.Approvers) < w.Approvals:
		return nil, fmt.Errorf("it has %d approvals", len(a.Approvers))
	}
	return a, nil
}

// controlled is a fixture whose keys are under dual control.
func controlled(t testing.TB, change ...func(*kms.DualControl)) (*kmstest.Fixture, *judge) {
	t.Helper()
	j := &judge{}
	d := kms.DualControl{
		Judge: j, Operations: kms.ControlledOperations(), Approvals: 2,
		CheckValue: func(_ keyspec.Spec, m secret.Bytes) (string, error) { return fmt.Sprintf("KCV%d", m.Len()), nil },
	}
	for _, c := range change {
		c(&d)
	}
	return kmstest.New(t, func(o *kms.Options) { o.DualControl = d }), j
}

// approvalOf is an approved request, and its note.
func approvalOf(f *kmstest.Fixture, id string, k kms.KeyRef, operation string, params ...string) string {
	a := kms.Approved{
		Wanted: kms.Wanted{Operation: operation, Target: k.ARN(), Params: map[string]string{}}, ID: id,
		Requester: "alice", Approvers: []string{"bob", "carol"}, Expires: f.Clock.Now().Add(72 * time.Hour), Register: strings.Repeat("ab", 32),
	}
	for p := range slices.Chunk(params, 2) {
		a.Params[p[0]] = p[1]
	}
	text, err := json.Marshal(a)
	if err != nil {
		panic(err)
	}
	return string(text)
}

func deposit(t testing.TB, f *kmstest.Fixture, note string) error {
	t.Helper()
	_, err := f.DepositApproval(t.Context(), kms.Operator("olivia", "", ""), &kms.DepositApprovalInput{Note: note})
	return err
}

const needs = "The key is under dual control: an approval by 2 people of %s of %s with {%s}, which nobody has used, must be deposited with the key service before ('cardea approval deposit')."

func TestChangesOfKeysUnderDualControlNeedAnApproval(t *testing.T) {
	t.Parallel()
	f, _ := controlled(t)
	ctx := t.Context()
	k := f.Key(t, keyspec.SymmetricDefault)
	primary := f.Key(t, keyspec.SymmetricDefault, func(k *kms.Key) {
		k.ID, k.Regions = "mrk-"+strings.Repeat("a1", 16), &kms.Regions{Type: kms.Primary, Primary: kmstest.Region}
	})
	imported := f.Key(t, keyspec.SymmetricDefault, func(k *kms.Key) {
		k.Origin = kms.OriginExternal
		k.Materials[0].Import, k.Materials[0].Expiration = kms.Imported, kms.MaterialDoesNotExpire
	})
	policy := strings.Replace(kmstest.DefaultPolicy(kmstest.Account), "key-default-1", "another", 1)
	sum := func(s string) string { h := sha256.Sum256([]byte(s)); return hex.EncodeToString(h[:]) }
	days := int32(9)
	for i, c := range []struct {
		op     string
		key    kms.KeyRef
		what   string
		params []string
		run    func(who kms.Caller) error
	}{
		{"PutKeyPolicy", k.KeyRef, "key.put-policy", []string{"policy-sha256", sum(policy)}, func(who kms.Caller) error {
			return f.PutKeyPolicy(ctx, who, &kms.PutKeyPolicyInput{KeyID: k.ID, Policy: policy})
		}},
		{"PutKeyPolicy", k.KeyRef, "key.put-policy", []string{"bypass-lockout-check", "yes", "policy-sha256", sum(policy + " ")}, func(who kms.Caller) error {
			return f.PutKeyPolicy(ctx, who, &kms.PutKeyPolicyInput{KeyID: k.ID, Policy: policy + " ", BypassPolicyLockoutSafetyCheck: true})
		}},
		{"DisableKey", k.KeyRef, "key.disable", nil, func(who kms.Caller) error {
			return f.DisableKey(ctx, who, &kms.DisableKeyInput{KeyID: k.ID})
		}},
		{"ScheduleKeyDeletion", k.KeyRef, "key.schedule-deletion", []string{"window", "9"}, func(who kms.Caller) error {
			_, err := f.ScheduleKeyDeletion(ctx, who, &kms.ScheduleKeyDeletionInput{KeyID: k.ID, PendingWindowInDays: &days})
			return err
		}},
		{"DeleteImportedKeyMaterial", imported.KeyRef, "key.delete-material", []string{"material", imported.Materials[0].ID}, func(who kms.Caller) error {
			_, err := f.DeleteImportedKeyMaterial(ctx, who, &kms.DeleteImportedKeyMaterialInput{KeyID: imported.ID})
			return err
		}},
		{"ReplicateKey", primary.KeyRef, "key.replicate", []string{"policy-sha256", sum(policy), "region", kmstest.OtherRegion}, func(who kms.Caller) error {
			_, err := f.ReplicateKey(ctx, who, &kms.ReplicateKeyInput{KeyID: primary.ID, ReplicaRegion: kmstest.OtherRegion, Policy: policy})
			return err
		}},
	} {
		var words []string
		for p := range slices.Chunk(c.params, 2) {
			words = append(words, p[0]+": "+p[1])
		}
		before := stored(t, f, c.key)
		err := c.run(kmstest.Admin(t))
		kmstest.Refused(t, err, kms.CodeAccessDenied, fmt.Sprintf(needs, c.what, c.key.ARN(), strings.Join(words, ", ")))
		e := f.Last(t)
		if e.Outcome != audit.Denied || e.Call.Event != c.op || !strings.HasPrefix(e.Detail, "dual control: no approval of "+c.what) || !strings.HasSuffix(e.Detail, ": none was deposited") && !strings.HasSuffix(e.Detail, " were used already") {
			t.Errorf("%s: entry %+v", c.op, e)
		}
		if now := stored(t, f, c.key); now.Version != before.Version {
			t.Errorf("%s without approval changed the key", c.op)
		}
		id := fmt.Sprintf("approval-%d", i)
		if err := deposit(t, f, approvalOf(f, id, c.key, c.what, c.params...)); err != nil {
			t.Fatalf("%s: %v", c.op, err)
		}
		if e := f.Last(t); e.Op != "kms.deposit_approval" || e.Who.Name != "olivia" || e.Resource.Key != c.key.ARN() || e.Outcome != audit.Allowed {
			t.Errorf("%s: deposited by %+v", c.op, e)
		}
		if err := c.run(kmstest.Admin(t)); err != nil {
			t.Errorf("%s with an approval: %v", c.op, err)
		}
		if e := f.Last(t); !strings.HasSuffix(e.Detail, "; approval/"+id+", asked by alice, approved by bob, carol, register abababababababab") {
			t.Errorf("%s: detail %q", c.op, e.Detail)
		}
		a := stored(t, f, c.key).Approvals
		if last := a[len(a)-1]; last.ID != id || !last.Spent.Equal(f.Clock.Now()) || last.Note != "" {
			t.Errorf("%s: %+v is left", c.op, last)
		}
	}
	if got := stored(t, f, kms.KeyRef{Account: primary.Account, Region: kmstest.OtherRegion, ID: primary.ID}).Approvals; len(got) != 0 {
		t.Errorf("the replica has its primary key's approvals %+v", got)
	}
}

func TestAnImportUnderDualControlIsOfTheMaterialThatWasApproved(t *testing.T) {
	t.Parallel()
	f, _ := controlled(t)
	k := f.Key(t, keyspec.SymmetricDefault, func(k *kms.Key) { k.Origin, k.State, k.Materials = kms.OriginExternal, kms.StatePendingImport, nil })
	in := importing(t, f, kmstest.Admin(t), k.ID, secret.Random(32))
	in.ExpirationModel, in.ValidTo = kms.MaterialDoesNotExpire, time.Time{}
	_, err := f.ImportKeyMaterial(t.Context(), kmstest.Admin(t), &in)
	kmstest.Refused(t, err, kms.CodeAccessDenied, fmt.Sprintf(needs, "key.import-material", k.ARN(), "expires: never, kcv: KCV32"))
	if err := deposit(t, f, approvalOf(f, "a", k.KeyRef, "key.import-material", "kcv", "KCV32", "expires", "never")); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ImportKeyMaterial(t.Context(), kmstest.Admin(t), &in); err != nil {
		t.Error(err)
	}
}

func TestAnApprovalPermitsWhatItSaysOnceWhileItsPeopleCount(t *testing.T) {
	t.Parallel()
	f, j := controlled(t)
	ctx := t.Context()
	k := f.Key(t, keyspec.SymmetricDefault)
	disable := func() error { return f.DisableKey(ctx, kmstest.Admin(t), &kms.DisableKeyInput{KeyID: k.ID}) }
	enable := func() {
		t.Helper()
		if err := f.EnableKey(ctx, kmstest.Admin(t), &kms.EnableKeyInput{KeyID: k.ID}); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(why string) {
		t.Helper()
		kmstest.Refused(t, disable(), kms.CodeAccessDenied, fmt.Sprintf(needs, "key.disable", k.ARN(), ""))
		if e := f.Last(t); !strings.HasSuffix(e.Detail, why) {
			t.Errorf("the log says %q, want %q", e.Detail, why)
		}
	}
	first := approvalOf(f, "first", k.KeyRef, "key.disable")
	if err := deposit(t, f, first); err != nil {
		t.Fatal(err)
	}
	kmstest.Refused(t, deposit(t, f, first), kms.CodeAlreadyExists, "The approval has been deposited already.")
	if err := disable(); err != nil {
		t.Fatal(err)
	}
	if err := disable(); err != nil {
		t.Errorf("disabling a disabled key changes nothing: %v", err)
	}
	enable()
	refused("with {}: 1 were used already")
	kmstest.Refused(t, deposit(t, f, first), kms.CodeAlreadyExists, "The approval was used on 2026-11-22T10:00:00Z: ask for a new one.")

	// Another operation's approval does not do, nor one of whose people one has left.
	if err := deposit(t, f, approvalOf(f, "other", k.KeyRef, "key.schedule-deletion", "window", "30")); err != nil {
		t.Fatal(err)
	}
	refused("with {}: approval/other: it is for key.schedule-deletion with map[window:30]; 1 were used already")
	if err := deposit(t, f, approvalOf(f, "second", k.KeyRef, "key.disable")); err != nil {
		t.Fatal(err)
	}
	j.leave("carol")
	refused("approval/second: it has 1 approvals; 1 were used already")
	list, err := f.ListApprovals(ctx, kms.Operator("olivia", "", ""), &kms.ListApprovalsInput{KeyARN: k.ARN()})
	if err != nil {
		t.Fatal(err)
	}
	var states []string
	for _, a := range list.Approvals {
		states = append(states, a.ID+" "+a.Operation+" "+a.Problem)
	}
	if want := []string{"first  it was used", "other key.schedule-deletion it has 1 approvals", "second key.disable it has 1 approvals"}; !slices.Equal(states, want) {
		t.Errorf("listed: %q", states)
	}

	f.Clock.Advance(73 * time.Hour)
	refused("approval/second: it has expired; 1 were used already")
	if list, err = f.ListApprovals(ctx, kms.Operator("olivia", "", ""), &kms.ListApprovalsInput{KeyARN: k.ARN()}); err != nil || len(list.Approvals) != 0 {
		t.Errorf("expired ones are listed: %+v, %v", list, err)
	}
}

func TestAnApprovalIsUsedOnceHoweverManyRace(t *testing.T) {
	t.Parallel()
	f, _ := controlled(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	if err := deposit(t, f, approvalOf(f, "once", k.KeyRef, "key.schedule-deletion", "window", "30")); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() {
			_, errs[i] = f.ScheduleKeyDeletion(t.Context(), kmstest.Admin(t), &kms.ScheduleKeyDeletionInput{KeyID: k.ID})
		})
	}
	wg.Wait()
	if done := len(slices.DeleteFunc(errs, func(err error) bool { return err != nil })); done != 1 {
		t.Errorf("%d of 8 were let through", done)
	}
	spent := 0
	for _, e := range f.Entries(t) {
		if strings.Contains(e.Detail, "; approval/once, asked by alice") {
			spent++
		}
	}
	if spent != 1 {
		t.Errorf("%d entries tell of its use", spent)
	}
}

func TestATagPutsAKeyUnderDualControl(t *testing.T) {
	t.Parallel()
	f, _ := controlled(t, func(d *kms.DualControl) { d.Tag = "two-people" })
	ctx := t.Context()
	free := f.Key(t, keyspec.SymmetricDefault)
	k := f.Key(t, keyspec.SymmetricDefault, func(k *kms.Key) {
		k.Tags = []kms.Tag{{TagKey: "two-people"}}
		k.ID, k.Regions = "mrk-"+strings.Repeat("b2", 16), &kms.Regions{Type: kms.Primary, Primary: kmstest.Region}
	})
	if err := f.DisableKey(ctx, kmstest.Admin(t), &kms.DisableKeyInput{KeyID: free.ID}); err != nil {
		t.Errorf("a key without the tag: %v", err)
	}
	kmstest.Refused(t, deposit(t, f, approvalOf(f, "a", free.KeyRef, "key.disable")), kms.CodeValidation, "The key service asks for no approval of key.disable of "+free.ARN()+".")
	_, err := f.ReplicateKey(ctx, kmstest.Admin(t), &kms.ReplicateKeyInput{KeyID: k.ID, ReplicaRegion: kmstest.OtherRegion})
	kmstest.Refused(t, err, kms.CodeValidation, "The key is under dual control by its tag two-people: give the replica the same tag.")

	untag := func(tags ...string) error {
		return f.UntagResource(ctx, kmstest.Admin(t), &kms.UntagResourceInput{KeyID: k.ID, TagKeys: tags})
	}
	if err := untag("another"); err != nil {
		t.Errorf("another tag: %v", err)
	}
	kmstest.Refused(t, untag("another", "two-people"), kms.CodeAccessDenied, fmt.Sprintf(needs, "key.end-dual-control", k.ARN(), ""))
	if err := deposit(t, f, approvalOf(f, "end", k.KeyRef, "key.end-dual-control")); err != nil {
		t.Fatal(err)
	}
	if err := untag("two-people"); err != nil {
		t.Error(err)
	}
	if err := f.DisableKey(ctx, kmstest.Admin(t), &kms.DisableKeyInput{KeyID: k.ID}); err != nil {
		t.Errorf("without the tag: %v", err)
	}
}

func TestWhatCannotBeDeposited(t *testing.T) {
	t.Parallel()
	f, _ := controlled(t, func(d *kms.DualControl) { d.Operations = []string{"DisableKey", "ScheduleKeyDeletion"} })
	k := f.Key(t, keyspec.SymmetricDefault)
	gone := kms.KeyRef{Account: k.Account, Region: k.Region, ID: "11111111-2222-4333-8444-000000000000"}
	alone := strings.Replace(approvalOf(f, "a", k.KeyRef, "key.disable"), `,"carol"`, "", 1)
	for name, c := range map[string]struct {
		note    string
		code    kms.Code
		message string
	}{
		"no note":        {"x", kms.CodeValidation, "The approval cannot be read: it is no note"},
		"no quorum":      {alone, kms.CodeValidation, "The approval is not good: it has 1 approvals"},
		"not controlled": {approvalOf(f, "a", k.KeyRef, "key.put-policy"), kms.CodeValidation, "The key service asks for no approval of key.put-policy of " + k.ARN() + "."},
		"no such key":    {approvalOf(f, "a", gone, "key.disable"), kms.CodeNotFound, "Key '" + gone.ARN() + "' does not exist"},
		"no key":         {strings.Replace(approvalOf(f, "a", k.KeyRef, "key.disable"), k.ARN(), "tenant", 1), kms.CodeInvalidARN, "Invalid arn tenant"},
	} {
		kmstest.Refused(t, deposit(t, f, c.note), c.code, c.message)
		if e := f.Last(t); e.Op != "kms.deposit_approval" || e.Outcome != audit.Failed {
			t.Errorf("%s: entry %+v", name, e)
		}
	}
	for i := range 8 {
		if err := deposit(t, f, approvalOf(f, fmt.Sprint(i), k.KeyRef, "key.schedule-deletion", "window", fmt.Sprint(7+i))); err != nil {
			t.Fatal(err)
		}
	}
	kmstest.Refused(t, deposit(t, f, approvalOf(f, "9", k.KeyRef, "key.disable")), kms.CodeLimitExceeded, "The key has 8 approvals that nobody has used: withdraw some or let them expire first.")
	f.Clock.Advance(73 * time.Hour)
	if err := deposit(t, f, approvalOf(f, "9", k.KeyRef, "key.disable")); err != nil {
		t.Errorf("after the others have expired: %v", err)
	}

	_, err := f.DepositApproval(t.Context(), kmstest.Admin(t), &kms.DepositApprovalInput{Note: "x"})
	kmstest.Refused(t, err, kms.CodeAccessDenied, "Only operators of the host may see, deposit and withdraw approvals.")
	_, err = f.ListApprovals(t.Context(), kmstest.Admin(t), &kms.ListApprovalsInput{KeyARN: k.ARN()})
	kmstest.Refused(t, err, kms.CodeAccessDenied, "Only operators of the host may see, deposit and withdraw approvals.")
	off := kmstest.New(t)
	kmstest.Refused(t, deposit(t, off, "x"), kms.CodeUnsupported, "The key service asks for no approvals: set key_service.dual_control.register to have it do so.")
}

// TestAnApprovalIsGoneWhenTheChangeIsWritten: what this node has of the key is older
// than what another has written.
func TestAnApprovalIsGoneWhenTheChangeIsWritten(t *testing.T) {
	t.Parallel()
	for name, gone := range map[string]func(*kms.Approval, time.Time){
		"used":      func(a *kms.Approval, at time.Time) { a.Spent, a.Note = at, "" },
		"withdrawn": func(a *kms.Approval, at time.Time) { a.Withdrawn, a.Note = at, "" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, _ := controlled(t)
			k := f.Key(t, keyspec.SymmetricDefault)
			if err := deposit(t, f, approvalOf(f, "a", k.KeyRef, "key.disable")); err != nil {
				t.Fatal(err)
			}
			if _, err := f.DescribeKey(t.Context(), kmstest.Admin(t), &kms.DescribeKeyInput{KeyID: k.ID}); err != nil { // cached with it
				t.Fatal(err)
			}
			f.Update(t, func(ctx context.Context, tx kms.Tx) error {
				now, err := tx.Key(ctx, k.KeyRef)
				if err != nil {
					return err
				}
				next := now.Clone()
				gone(&next.Approvals[0], f.Clock.Now())
				return tx.PutKey(ctx, next)
			})
			kmstest.Refused(t, f.DisableKey(t.Context(), kmstest.Admin(t), &kms.DisableKeyInput{KeyID: k.ID}), kms.CodeAccessDenied, fmt.Sprintf(needs, "key.disable", k.ARN(), ""))
			if s := stored(t, f, k.KeyRef).State; s != kms.StateEnabled {
				t.Errorf("the key is %s", s)
			}
		})
	}
}

func TestServiceRefusesDualControlThatControlsNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		change func(*kms.DualControl)
		want   string
	}{
		{func(d *kms.DualControl) { d.Approvals = 0 }, "kms: dual control needs Operations, Approvals and CheckValue"},
		{func(d *kms.DualControl) { d.Operations = []string{"Encrypt"} }, `kms: dual control: no approval is known for operation "Encrypt"`},
	} {
		d := kms.DualControl{Judge: &judge{}, Operations: kms.ControlledOperations(), Approvals: 2, CheckValue: func(keyspec.Spec, secret.Bytes) (string, error) { return "", nil }}
		c.change(&d)
		f := kmstest.New(t)
		_, err := kms.New(kms.Options{Node: "n", Store: f.Store, Soft: f.Soft, Secrets: f.Soft, Accounts: func(context.Context, string) bool { return true }, Regions: []string{kmstest.Region}, DualControl: d})
		if err == nil || err.Error() != c.want {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
}
