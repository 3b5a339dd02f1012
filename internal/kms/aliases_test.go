package kms_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/kms/kmstest"
)

const aliasARN = "arn:aws:kms:eu-central-1:111122223333:"

func createAlias(t testing.TB, f *kmstest.Fixture, name, key string) error {
	t.Helper()
	return f.CreateAlias(t.Context(), kmstest.Admin(t), &kms.CreateAliasInput{AliasName: name, TargetKeyID: key})
}

func updateAlias(t testing.TB, f *kmstest.Fixture, name, key string) error {
	t.Helper()
	return f.UpdateAlias(t.Context(), kmstest.Admin(t), &kms.UpdateAliasInput{AliasName: name, TargetKeyID: key})
}

func deleteAlias(t testing.TB, f *kmstest.Fixture, name string) error {
	t.Helper()
	return f.DeleteAlias(t.Context(), kmstest.Admin(t), &kms.DeleteAliasInput{AliasName: name})
}

func describedID(t testing.TB, f *kmstest.Fixture, name string) string {
	t.Helper()
	out, err := f.DescribeKey(t.Context(), kmstest.Admin(t), &kms.DescribeKeyInput{KeyID: name})
	if err != nil {
		t.Fatal(err)
	}
	return out.KeyMetadata.KeyID
}

func TestAnAliasStandsForAKeyUntilItIsMovedOrDeleted(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	a, b := f.Key(t, keyspec.SymmetricDefault), f.Key(t, keyspec.SymmetricDefault)
	if err := createAlias(t, f, "alias/cards", a.ARN()); err != nil {
		t.Fatal(err)
	}
	e := f.Last(t)
	wantParams(t, &e, map[string]string{"aliasName": "alias/cards", "targetKeyId": a.ARN()})
	if !slices.Equal(e.Call.Resources, []string{a.ARN(), aliasARN + "alias/cards"}) {
		t.Errorf("entry's resources %v", e.Call.Resources)
	}
	if got := describedID(t, f, "alias/cards"); got != a.ID {
		t.Errorf("the alias stands for %s", got)
	}
	created := f.Clock.Now()
	f.Clock.Advance(time.Hour)
	if err := updateAlias(t, f, "alias/cards", b.ID); err != nil {
		t.Fatal(err)
	}
	if got := describedID(t, f, "alias/cards"); got != b.ID {
		t.Errorf("after UpdateAlias it stands for %s", got)
	}
	out, err := f.ListAliases(t.Context(), kmstest.Admin(t), &kms.ListAliasesInput{})
	if err != nil || len(out.Aliases) != 1 {
		t.Fatal(err, out)
	}
	want := kms.AliasListEntry{AliasARN: aliasARN + "alias/cards", AliasName: "alias/cards", CreationDate: created, LastUpdatedDate: f.Clock.Now(), TargetKeyID: b.ID}
	if out.Aliases[0] != want {
		t.Errorf("got %+v, want %+v", out.Aliases[0], want)
	}
	if err := deleteAlias(t, f, "alias/cards"); err != nil {
		t.Fatal(err)
	}
	_, err = f.DescribeKey(t.Context(), kmstest.Admin(t), &kms.DescribeKeyInput{KeyID: "alias/cards"})
	kmstest.Refused(t, err, kms.CodeNotFound, "Alias "+aliasARN+"alias/cards is not found.")
	if err := createAlias(t, f, "alias/cards", b.ID); err != nil {
		t.Errorf("again: %v", err)
	}
}

func TestAliasesRefused(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	f.Alias(t, k, "alias/taken")
	const pattern = " at 'aliasName' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[a-zA-Z0-9:/_-]+$"
	for _, c := range []struct {
		name    string
		code    kms.Code
		message string
	}{
		{"alias/taken", kms.CodeAlreadyExists, "An alias with the name " + aliasARN + "alias/taken already exists"},
		{"", kms.CodeValidation, "1 validation error detected: Value null at 'aliasName' failed to satisfy constraint: Member must not be null"},
		{"cards", kms.CodeInvalidAliasName, `Alias must start with the prefix "alias/".`},
		{"Alias/cards", kms.CodeInvalidAliasName, `Alias must start with the prefix "alias/".`},
		{"alias/", kms.CodeInvalidAliasName, `Alias must have a name after the prefix "alias/".`},
		{"alias/aws/s3", kms.CodeInvalidAliasName, `Alias must not start with the prefix "alias/aws/", which is reserved for AWS managed keys.`},
		{"alias/a:b", kms.CodeInvalidAliasName, "alias/a:b contains invalid characters for an alias."},
		{"alias/a b", kms.CodeValidation, "1 validation error detected: Value 'alias/a b'" + pattern},
		{"alias/é", kms.CodeValidation, "1 validation error detected: Value 'alias/é'" + pattern},
		{"alias/" + strings.Repeat("x", 251), kms.CodeValidation, "1 validation error detected: Value 'alias/" + strings.Repeat("x", 122) +
			"…' at 'aliasName' failed to satisfy constraint: Member must have length less than or equal to 256"},
	} {
		kmstest.Refused(t, createAlias(t, f, c.name, k.ID), c.code, c.message)
		if c.code == kms.CodeAlreadyExists || strings.Contains(c.name, ":") {
			continue
		}
		kmstest.Refused(t, updateAlias(t, f, c.name, k.ID), c.code, c.message)
		kmstest.Refused(t, deleteAlias(t, f, c.name), c.code, c.message)
	}
	const unknown = "00000000-0000-4000-8000-000000000000"
	kmstest.Refused(t, createAlias(t, f, "alias/x", unknown), kms.CodeNotFound, "Key 'arn:aws:kms:eu-central-1:111122223333:key/"+unknown+"' does not exist")
	kmstest.Refused(t, createAlias(t, f, "alias/x", "alias/taken"), kms.CodeNotFound, "Invalid keyId 'alias/taken'")
	china := strings.Replace(k.ARN(), "arn:aws:", "arn:aws-cn:", 1)
	kmstest.Refused(t, createAlias(t, f, "alias/x", china), kms.CodeInvalidARN, "Invalid arn "+china)
	kmstest.Refused(t, updateAlias(t, f, "alias/x", k.ID), kms.CodeNotFound, "Alias "+aliasARN+"alias/x is not found.")
	kmstest.Refused(t, deleteAlias(t, f, "alias/x"), kms.CodeNotFound, "Alias "+aliasARN+"alias/x is not found.")
	if err := createAlias(t, f, "alias/"+strings.Repeat("x", 250), k.ID); err != nil {
		t.Errorf("the longest name: %v", err)
	}
	if err := f.CreateAlias(t.Context(), kmstest.In(kmstest.Admin(t), kmstest.OtherRegion), &kms.CreateAliasInput{AliasName: "alias/y", TargetKeyID: k.ARN()}); err != nil {
		kmstest.Refused(t, err, kms.CodeNotFound, "Invalid arn eu-central-1")
	} else {
		t.Error("an alias in one Region for a key of another")
	}
}

func TestAliasNeedsPermissionOnAliasAndKeys(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	a, b := f.Key(t, keyspec.SymmetricDefault), f.Key(t, keyspec.SymmetricDefault)
	f.Alias(t, a, "alias/one")
	subject := func(resources ...string) kms.Caller {
		return kmstest.As(kmstest.Subject(t, kmstest.Account, "dev", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:*Alias","Resource":["`+
			strings.Join(resources, `","`)+`"]}]}`))
	}
	one, two := aliasARN+"alias/one", aliasARN+"alias/two"
	for _, c := range []struct {
		name, action string
		run          func(who kms.Caller) error
		needs        []string
	}{
		{"create", "kms:CreateAlias", func(who kms.Caller) error {
			return f.CreateAlias(t.Context(), who, &kms.CreateAliasInput{AliasName: "alias/two", TargetKeyID: a.ID})
		}, []string{two, a.ARN()}},
		{"update", "kms:UpdateAlias", func(who kms.Caller) error {
			return f.UpdateAlias(t.Context(), who, &kms.UpdateAliasInput{AliasName: "alias/one", TargetKeyID: b.ID})
		}, []string{one, a.ARN(), b.ARN()}},
		{"delete", "kms:DeleteAlias", func(who kms.Caller) error {
			return f.DeleteAlias(t.Context(), who, &kms.DeleteAliasInput{AliasName: "alias/one"})
		}, []string{one, b.ARN()}},
	} {
		for i, missing := range c.needs {
			rest := slices.Delete(slices.Clone(c.needs), i, i+1)
			err := c.run(subject(rest...))
			denied(t, f, err, c.action+" on resource: "+missing, noIdentityPolicy)
		}
		if err := c.run(subject(c.needs...)); err != nil {
			t.Errorf("%s with permission on all: %v", c.name, err)
		}
	}
	err := f.CreateAlias(t.Context(), kmstest.Foreigner(t), &kms.CreateAliasInput{AliasName: "alias/mine", TargetKeyID: a.ARN()})
	denied(t, f, err, "kms:CreateAlias", "denied: the action cannot be used from another account")
}

func TestUpdateAliasKeepsKindAndUsage(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	usage := func(u keyspec.Usage) func(*kms.Key) { return func(k *kms.Key) { k.Usage = u } }
	symmetric, rsaSign, rsaEncrypt := f.Key(t, keyspec.SymmetricDefault), f.Key(t, keyspec.RSA2048, usage(keyspec.SignVerify)), f.Key(t, keyspec.RSA2048, usage(keyspec.EncryptDecrypt))
	ecc, mac256, mac512 := f.Key(t, keyspec.ECCNISTP256, usage(keyspec.SignVerify)), f.Key(t, keyspec.HMAC256), f.Key(t, keyspec.HMAC512)
	for i, c := range []struct {
		from, to *kms.Key
		ok       bool
	}{
		{symmetric, f.Key(t, keyspec.SymmetricDefault), true},
		{rsaSign, ecc, true},
		{mac256, mac512, true},
		{symmetric, symmetric, true},
		{symmetric, rsaEncrypt, false},
		{rsaEncrypt, symmetric, false},
		{rsaEncrypt, rsaSign, false},
		{mac256, symmetric, false},
		{ecc, mac256, false},
	} {
		name := fmt.Sprint("alias/", i)
		f.Alias(t, c.from, name)
		err := updateAlias(t, f, name, c.to.ID)
		if c.ok {
			if err != nil {
				t.Errorf("%s %s to %s %s: %v", c.from.Spec, c.from.Usage, c.to.Spec, c.to.Usage, err)
			}
			continue
		}
		kmstest.Refused(t, err, kms.CodeValidation, "Alias "+aliasARN+name+" stands for a key of key spec "+string(c.from.Spec)+" and key usage "+string(c.from.Usage)+
			". It cannot be given to "+c.to.ARN()+", which is of another type or has another key usage.")
	}
}

func TestUpdateAliasLooksAtTheStateOfTheNewKeyOnly(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	ending := func(k *kms.Key) { k.State = kms.StatePendingDeletion }
	old, next := f.Key(t, keyspec.SymmetricDefault, ending), f.Key(t, keyspec.SymmetricDefault)
	f.Alias(t, old, "alias/cards")
	if err := updateAlias(t, f, "alias/cards", next.ID); err != nil {
		t.Error(err)
	}
	kmstest.Refused(t, updateAlias(t, f, "alias/cards", old.ID), kms.CodeInvalidState, old.ARN()+" is pending deletion.")
}

func TestAKeyHasSoManyAliases(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k, other := f.Key(t, keyspec.SymmetricDefault), f.Key(t, keyspec.SymmetricDefault)
	for i := range 50 {
		if err := createAlias(t, f, fmt.Sprint("alias/", i), k.ID); err != nil {
			t.Fatal(err)
		}
	}
	full := k.ARN() + " has 50 aliases, which is the limit."
	kmstest.Refused(t, createAlias(t, f, "alias/one-more", k.ID), kms.CodeLimitExceeded, full)
	f.Alias(t, other, "alias/other")
	kmstest.Refused(t, updateAlias(t, f, "alias/other", k.ID), kms.CodeLimitExceeded, full)
	if err := updateAlias(t, f, "alias/7", k.ID); err != nil {
		t.Errorf("to the key it stands for: %v", err)
	}
	if err := updateAlias(t, f, "alias/7", other.ID); err != nil {
		t.Error(err)
	}
	if err := createAlias(t, f, "alias/one-more", k.ID); err != nil {
		t.Error(err)
	}
}

func TestListAliasesPagesAndFilters(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	a, b := f.Key(t, keyspec.SymmetricDefault), f.Key(t, keyspec.SymmetricDefault)
	var all, ofA []string
	for i := range 120 {
		k, name := b, fmt.Sprintf("alias/%03d", i)
		if i%3 == 0 {
			k, ofA = a, append(ofA, name)
		}
		f.Alias(t, k, name)
		all = append(all, name)
	}
	list := func(in kms.ListAliasesInput) (names []string, pages int) {
		t.Helper()
		for {
			out, err := f.ListAliases(t.Context(), kmstest.Admin(t), &in)
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range out.Aliases {
				names = append(names, a.AliasName)
			}
			if pages++; !out.Truncated {
				return names, pages
			}
			in.Marker = out.NextMarker
		}
	}
	for _, c := range []struct {
		in    kms.ListAliasesInput
		want  []string
		pages int
	}{
		{kms.ListAliasesInput{}, all, 3},
		{kms.ListAliasesInput{Limit: i32(1000)}, all, 2},
		{kms.ListAliasesInput{Limit: i32(7)}, all, 18},
		{kms.ListAliasesInput{KeyID: a.ARN()}, ofA, 1},
		{kms.ListAliasesInput{KeyID: a.ID, Limit: i32(9)}, ofA, 5},
	} {
		if got, pages := list(c.in); !slices.Equal(got, c.want) || pages != c.pages {
			t.Errorf("%+v: %d aliases on %d pages, want %d on %d", c.in, len(got), pages, len(c.want), c.pages)
		}
	}
	_, err := f.ListAliases(t.Context(), kmstest.Admin(t), &kms.ListAliasesInput{KeyID: "nonsense"})
	kmstest.Refused(t, err, kms.CodeNotFound, "Invalid keyId 'nonsense'")
	_, err = f.ListAliases(t.Context(), kmstest.User(t), &kms.ListAliasesInput{KeyID: a.ID})
	denied(t, f, err, "kms:ListAliases", noIdentityPolicy)
	if out, err := f.ListAliases(t.Context(), kmstest.Foreigner(t), &kms.ListAliasesInput{}); err != nil || len(out.Aliases) > 0 {
		t.Errorf("another account sees %v, %v", out, err)
	}
}

func TestOfTwoAliasesOfOneNameAtTheSameTimeOneIsMade(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	a, b := f.Key(t, keyspec.SymmetricDefault), f.Key(t, keyspec.SymmetricDefault)
	for i := range 20 {
		name := fmt.Sprint("alias/", i)
		var wg sync.WaitGroup
		errs := make([]error, 2)
		for j, k := range []*kms.Key{a, b} {
			wg.Go(func() { errs[j] = createAlias(t, f, name, k.ID) })
		}
		wg.Wait()
		winner, loser := a, errs[1]
		if errs[0] != nil {
			winner, loser = b, errs[0]
		}
		if errs[0] == nil && errs[1] == nil {
			t.Fatal("both were made")
		}
		kmstest.Refused(t, loser, kms.CodeAlreadyExists, "An alias with the name "+aliasARN+name+" already exists")
		if got := describedID(t, f, name); got != winner.ID {
			t.Errorf("%s stands for %s, want the winner's key %s", name, got, winner.ID)
		}
	}
}

// An alias that moves from key to key while others delete it and make it anew is
// never found where nobody put it, and each answer is one of those there are.
func TestConcurrentChangesOfAnAlias(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	keys := []*kms.Key{f.Key(t, keyspec.SymmetricDefault), f.Key(t, keyspec.SymmetricDefault), f.Key(t, keyspec.SymmetricDefault)}
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() {
			var err error
			switch k := keys[i%3]; i % 4 {
			case 0:
				err = createAlias(t, f, "alias/cards", k.ID)
			case 1, 2:
				err = updateAlias(t, f, "alias/cards", k.ID)
			default:
				err = deleteAlias(t, f, "alias/cards")
			}
			if e, is := errors.AsType[*kms.Error](err); err != nil &&
				(!is || e.Code != kms.CodeAlreadyExists && e.Code != kms.CodeNotFound && e.Code != kms.CodeConflict) {
				t.Errorf("got %v", err)
			}
		})
	}
	wg.Wait()
	if got := len(f.Entries(t)); got != 30 {
		t.Errorf("%d entries for 30 requests", got)
	}
	a, err := f.Store.Alias(t.Context(), kmstest.Account, kmstest.Region, "alias/cards")
	if errors.Is(err, kms.ErrNoRow) {
		return
	}
	if got := describedID(t, f, "alias/cards"); err != nil || got != a.KeyID {
		t.Errorf("the service finds %s, stored is %+v, %v", got, a, err)
	}
}
