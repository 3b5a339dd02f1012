package kms_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/kms/kmstest"
	"cardea/internal/secret"
)

const thirdRegion = "ap-southeast-2"

// threeRegions adds a third Region to a fixture.
func threeRegions(o *kms.Options) { o.Regions = append(o.Regions, thirdRegion) }

func elsewhere(t testing.TB) kms.Caller { return kmstest.In(kmstest.Admin(t), kmstest.OtherRegion) }

func replicate(t testing.TB, f *kmstest.Fixture, id, region string) *kms.KeyMetadata {
	t.Helper()
	return must(f.ReplicateKey(t.Context(), kmstest.Admin(t), &kms.ReplicateKeyInput{KeyID: id, ReplicaRegion: region}))(t).ReplicaKeyMetadata
}

func multiRegion(in *kms.CreateKeyInput) { in.MultiRegion = true }

func TestReplicaSharesWhatReplicasShare(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := createKey(t, f, kms.CreateKeyInput{MultiRegion: true, Description: "the primary", Tags: []kms.Tag{{TagKey: "a", TagValue: "b"}}})
	enableRotation(t, f, k.KeyID, 90)
	n := len(f.Entries(t))
	out := must(f.ReplicateKey(t.Context(), kmstest.Admin(t), &kms.ReplicateKeyInput{
		KeyID: k.ARN, ReplicaRegion: kmstest.OtherRegion, Description: "the replica", Tags: []kms.Tag{{TagKey: "c", TagValue: "d"}},
	}))(t)
	r := out.ReplicaKeyMetadata
	if r.KeyID != k.KeyID || r.ARN != strings.Replace(k.ARN, kmstest.Region, kmstest.OtherRegion, 1) || r.KeyState != kms.StateEnabled || r.Description != "the replica" ||
		r.KeySpec != k.KeySpec || r.KeyUsage != k.KeyUsage || r.Origin != k.Origin || r.CurrentKeyMaterialID != k.CurrentKeyMaterialID {
		t.Errorf("the replica is %+v", r)
	}
	if !slices.Equal(out.ReplicaTags, []kms.Tag{{TagKey: "c", TagValue: "d"}}) || !strings.Contains(out.ReplicaPolicy, "key-default-1") {
		t.Errorf("the replica has tags %v and policy %s", out.ReplicaTags, out.ReplicaPolicy)
	}
	wantEntries(t, f, n, "CreateKey "+kmstest.OtherRegion+" allowed", "ReplicateKey "+kmstest.Region+" allowed")
	es := f.Entries(t)
	if es[n].Who.Name != userARN(kmstest.Account, "admin") || es[n].Resource.Key != r.ARN || es[n+1].Resource.Key != k.ARN {
		t.Errorf("entries are of %s by %s and of %s", es[n].Resource.Key, es[n].Who.Name, es[n+1].Resource.Key)
	}
	for _, who := range []kms.Caller{kmstest.Admin(t), elsewhere(t)} {
		c := describe(t, f, who, k.KeyID).MultiRegionConfiguration
		if c.PrimaryKey.ARN != k.ARN || len(c.ReplicaKeys) != 1 || c.ReplicaKeys[0].ARN != r.ARN {
			t.Errorf("in %s the key is in %+v", who.Region, c)
		}
	}
	if s := rotationStatus(t, f, elsewhere(t), k.KeyID); !s.KeyRotationEnabled || *s.RotationPeriodInDays != 90 {
		t.Errorf("the replica's rotation is %+v", s)
	}

	// And what comes later.
	sealed := encrypt(t, f, k.KeyID, "text", nil)
	n = len(f.Entries(t))
	must(f.RotateKeyOnDemand(t.Context(), kmstest.Admin(t), &kms.RotateKeyOnDemandInput{KeyID: k.KeyID}))(t)
	wantEntries(t, f, n, "SynchronizeMultiRegionKey "+kmstest.OtherRegion+" allowed", "RotateKey "+kmstest.Region+" allowed", "RotateKeyOnDemand "+kmstest.Region+" allowed")
	if a, b := describe(t, f, kmstest.Admin(t), k.KeyID), describe(t, f, elsewhere(t), k.KeyID); a.CurrentKeyMaterialID != b.CurrentKeyMaterialID || a.CurrentKeyMaterialID == k.CurrentKeyMaterialID {
		t.Error("after a rotation the keys have different material, or the old")
	}
	opens(t, f, elsewhere(t), sealed, "text")
	opens(t, f, elsewhere(t), encrypt(t, f, k.KeyID, "after", nil), "after")
	ok(t, f.DisableKeyRotation(t.Context(), kmstest.Admin(t), &kms.DisableKeyRotationInput{KeyID: k.KeyID}))
	if rotationStatus(t, f, elsewhere(t), k.KeyID).KeyRotationEnabled {
		t.Error("the replica's rotation goes on")
	}
	ok(t, f.DisableKey(t.Context(), kmstest.Admin(t), &kms.DisableKeyInput{KeyID: k.KeyID}))
	if s := describe(t, f, elsewhere(t), k.KeyID).KeyState; s != kms.StateEnabled {
		t.Errorf("the replica is %s after its primary was disabled", s)
	}
}

func TestReplicateKeyRefuses(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t, threeRegions)
	single, k := createKey(t, f, kms.CreateKeyInput{}), createKey(t, f, kms.CreateKeyInput{MultiRegion: true})
	gone := createKey(t, f, kms.CreateKeyInput{MultiRegion: true})
	must(f.ScheduleKeyDeletion(t.Context(), kmstest.Admin(t), &kms.ScheduleKeyDeletionInput{KeyID: gone.KeyID}))(t)
	r := replicate(t, f, k.KeyID, kmstest.OtherRegion)
	pattern := func(v string) string {
		return "1 validation error detected: Value '" + v + "' at 'replicaRegion' failed to satisfy constraint: Member must satisfy regular expression pattern: ^([a-z]+-){2,3}\\d+$"
	}
	for name, c := range map[string]struct {
		who  kms.Caller
		in   kms.ReplicateKeyInput
		code kms.Code
		text string
	}{
		"single Region": {kmstest.Admin(t), kms.ReplicateKeyInput{KeyID: single.KeyID, ReplicaRegion: thirdRegion}, kms.CodeUnsupported, single.ARN + " is not a multi-Region primary key."},
		"a replica":     {elsewhere(t), kms.ReplicateKeyInput{KeyID: k.KeyID, ReplicaRegion: thirdRegion}, kms.CodeUnsupported, r.ARN + " is not a multi-Region primary key."},
		"there already": {kmstest.Admin(t), kms.ReplicateKeyInput{KeyID: k.KeyID, ReplicaRegion: kmstest.OtherRegion}, kms.CodeAlreadyExists, "Key '" + r.ARN + "' already exists"},
		"itself":        {kmstest.Admin(t), kms.ReplicateKeyInput{KeyID: k.KeyID, ReplicaRegion: kmstest.Region}, kms.CodeAlreadyExists, "Key '" + k.ARN + "' already exists"},
		"not served":    {kmstest.Admin(t), kms.ReplicateKeyInput{KeyID: k.KeyID, ReplicaRegion: "eu-west-3"}, kms.CodeUnsupported, "The Region eu-west-3 is not served here."},
		"state":         {kmstest.Admin(t), kms.ReplicateKeyInput{KeyID: gone.KeyID, ReplicaRegion: thirdRegion}, kms.CodeInvalidState, gone.ARN + " is pending deletion."},
		"policy":        {kmstest.Admin(t), kms.ReplicateKeyInput{KeyID: k.KeyID, ReplicaRegion: thirdRegion, Policy: "{"}, kms.CodeMalformedPolicy, ""},
		"tags": {
			kmstest.Admin(t),
			kms.ReplicateKeyInput{KeyID: k.KeyID, ReplicaRegion: thirdRegion, Tags: []kms.Tag{{TagKey: "a"}, {TagKey: "a"}}},
			kms.CodeTag, "Duplicate tag keys",
		},
		"no Region": {
			kmstest.Admin(t),
			kms.ReplicateKeyInput{KeyID: k.KeyID},
			kms.CodeValidation,
			"1 validation error detected: Value null at 'replicaRegion' failed to satisfy constraint: Member must not be null",
		},
		"no Region's name":   {kmstest.Admin(t), kms.ReplicateKeyInput{KeyID: k.KeyID, ReplicaRegion: "Mars"}, kms.CodeValidation, pattern("Mars")},
		"one word":           {kmstest.Admin(t), kms.ReplicateKeyInput{KeyID: k.KeyID, ReplicaRegion: "eu-1"}, kms.CodeValidation, pattern("eu-1")},
		"four words":         {kmstest.Admin(t), kms.ReplicateKeyInput{KeyID: k.KeyID, ReplicaRegion: "a-b-c-d-1"}, kms.CodeValidation, pattern("a-b-c-d-1")},
		"no number":          {kmstest.Admin(t), kms.ReplicateKeyInput{KeyID: k.KeyID, ReplicaRegion: "eu-west-x"}, kms.CodeValidation, pattern("eu-west-x")},
		"without permission": {kmstest.User(t), kms.ReplicateKeyInput{KeyID: k.KeyID, ReplicaRegion: thirdRegion}, kms.CodeAccessDenied, ""},
		"locks out": {
			kmstest.Admin(t),
			kms.ReplicateKeyInput{
				KeyID: k.KeyID, ReplicaRegion: thirdRegion,
				Policy: `{"Statement":[{"Effect":"Allow","Principal":{"AWS":"` + userARN(kmstest.Account, "someone") + `"},"Action":"kms:*","Resource":"*"}]}`,
			},
			kms.CodeMalformedPolicy, "The new key policy will not allow you to update the key policy in the future." +
				" Let it allow kms:PutKeyPolicy to you or your account, or set BypassPolicyLockoutSafetyCheck.",
		},
	} {
		_, err := f.ReplicateKey(t.Context(), c.who, &c.in)
		if e, is := errors.AsType[*kms.Error](err); !is || e.Code != c.code || c.text != "" && e.Message != c.text {
			t.Errorf("%s: got %v, want %s: %s", name, err, c.code, c.text)
		}
		if e := f.Last(t); e.Call.Event != "ReplicateKey" || e.Outcome == "allowed" {
			t.Errorf("%s: recorded as %s %s", name, e.Call.Event, e.Outcome)
		}
	}
	if c := describe(t, f, kmstest.Admin(t), k.KeyID).MultiRegionConfiguration; len(c.ReplicaKeys) != 1 {
		t.Errorf("after refusals the key is in %+v", c)
	}
}

func TestReplicateKeyNeedsPermissionInBothRegions(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := createKey(t, f, kms.CreateKeyInput{MultiRegion: true})
	for _, c := range []struct {
		statements string
		allowed    bool
	}{
		{`{"Effect":"Allow","Action":"kms:ReplicateKey","Resource":"*"}`, false},
		{`{"Effect":"Allow","Action":"kms:ReplicateKey","Resource":"*"},
		  {"Effect":"Allow","Action":"kms:CreateKey","Resource":"*","Condition":{"StringEquals":{"aws:RequestedRegion":"` + kmstest.Region + `"}}}`, false},
		{`{"Effect":"Allow","Action":"kms:ReplicateKey","Resource":"*","Condition":{"StringEquals":{"kms:ReplicaRegion":"eu-west-1"}}},
		  {"Effect":"Allow","Action":"kms:CreateKey","Resource":"*"}`, false},
		{`{"Effect":"Allow","Action":"kms:ReplicateKey","Resource":"*","Condition":{"StringEquals":{"kms:ReplicaRegion":"` + kmstest.OtherRegion + `"}}},
		  {"Effect":"Allow","Action":"kms:CreateKey","Resource":"*","Condition":{"StringEquals":{"aws:RequestedRegion":"` + kmstest.OtherRegion + `","kms:MultiRegionKeyType":"REPLICA"}}}`, true},
	} {
		who := kmstest.As(kmstest.Subject(t, kmstest.Account, "replicator", `{"Version":"2012-10-17","Statement":[`+c.statements+`]}`))
		_, err := f.ReplicateKey(t.Context(), who, &kms.ReplicateKeyInput{KeyID: k.KeyID, ReplicaRegion: kmstest.OtherRegion})
		if e, is := errors.AsType[*kms.Error](err); (err == nil) != c.allowed || err != nil && (!is || e.Code != kms.CodeAccessDenied) {
			t.Errorf("with %s got %v, want allowed %v", c.statements, err, c.allowed)
		}
	}
}

func TestPrimaryRegionMoves(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t, threeRegions)
	admin := kmstest.Admin(t)
	k := createKey(t, f, kms.CreateKeyInput{MultiRegion: true})
	replicate(t, f, k.KeyID, kmstest.OtherRegion)
	replicate(t, f, k.KeyID, thirdRegion)
	enableRotation(t, f, k.KeyID, 90)
	n := len(f.Entries(t))
	ok(t, f.UpdatePrimaryRegion(t.Context(), admin, &kms.UpdatePrimaryRegionInput{KeyID: k.KeyID, PrimaryRegion: kmstest.OtherRegion}))
	wantEntries(t, f, n, "UpdatePrimaryRegion "+kmstest.OtherRegion+" allowed", "UpdatePrimaryRegion "+kmstest.Region+" allowed")
	for _, region := range []string{kmstest.Region, kmstest.OtherRegion, thirdRegion} {
		c := describe(t, f, kmstest.In(admin, region), k.KeyID).MultiRegionConfiguration
		var replicas []string
		for _, r := range c.ReplicaKeys {
			replicas = append(replicas, r.Region)
		}
		if want := region == kmstest.OtherRegion; (c.MultiRegionKeyType == kms.Primary) != want || c.PrimaryKey.Region != kmstest.OtherRegion ||
			!slices.Equal(replicas, []string{thirdRegion, kmstest.Region}) {
			t.Errorf("in %s the key is %s of %s with replicas %v", region, c.MultiRegionKeyType, c.PrimaryKey.Region, replicas)
		}
	}
	n = len(f.Entries(t))
	pass(t, f, 90*day) // the new primary is rotated, and the others with it
	wantEntries(t, f, n, "SynchronizeMultiRegionKey "+thirdRegion+" allowed", "SynchronizeMultiRegionKey "+kmstest.Region+" allowed", "RotateKey "+kmstest.OtherRegion+" allowed")
}

func TestUpdatePrimaryRegionRefuses(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t, threeRegions)
	admin := kmstest.Admin(t)
	single, k := createKey(t, f, kms.CreateKeyInput{}), createKey(t, f, kms.CreateKeyInput{MultiRegion: true})
	r := replicate(t, f, k.KeyID, kmstest.OtherRegion)
	move := func(who kms.Caller, id, region string) error {
		return f.UpdatePrimaryRegion(t.Context(), who, &kms.UpdatePrimaryRegionInput{KeyID: id, PrimaryRegion: region})
	}
	kmstest.Refused(t, move(admin, single.KeyID, kmstest.OtherRegion), kms.CodeUnsupported, single.ARN+" is not a multi-Region primary key.")
	kmstest.Refused(t, move(elsewhere(t), k.KeyID, kmstest.Region), kms.CodeUnsupported, r.ARN+" is not a multi-Region primary key.")
	kmstest.Refused(t, move(admin, k.KeyID, kmstest.Region), kms.CodeValidation, "The primary Region of "+k.ARN+" is "+kmstest.Region+" already.")
	kmstest.Refused(t, move(admin, k.KeyID, thirdRegion), kms.CodeNotFound,
		"Key '"+strings.Replace(k.ARN, kmstest.Region, thirdRegion, 1)+"' does not exist")
	limited := func(where string) kms.Caller {
		return kmstest.As(kmstest.Subject(t, kmstest.Account, "mover", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:UpdatePrimaryRegion",
			"Resource":"arn:aws:kms:`+where+`:*:key/*","Condition":{"StringEquals":{"kms:PrimaryRegion":"`+kmstest.OtherRegion+`"}}}]}`))
	}
	for _, where := range []string{kmstest.Region, kmstest.OtherRegion} {
		if e, is := errors.AsType[*kms.Error](move(limited(where), k.KeyID, kmstest.OtherRegion)); !is || e.Code != kms.CodeAccessDenied {
			t.Errorf("with permission in %s alone got %v", where, e)
		}
	}
	must(f.ScheduleKeyDeletion(t.Context(), elsewhere(t), &kms.ScheduleKeyDeletionInput{KeyID: k.KeyID}))(t)
	kmstest.Refused(t, move(admin, k.KeyID, kmstest.OtherRegion), kms.CodeInvalidState, r.ARN+" is pending deletion.")
	must(f.CancelKeyDeletion(t.Context(), elsewhere(t), &kms.CancelKeyDeletionInput{KeyID: k.KeyID}))(t)
	ok(t, move(limited("*"), k.KeyID, kmstest.OtherRegion))
}

func TestPrimaryIsDeletedAfterItsLastReplica(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t, threeRegions)
	admin := kmstest.Admin(t)
	k := createKey(t, f, kms.CreateKeyInput{MultiRegion: true})
	replicate(t, f, k.KeyID, kmstest.OtherRegion)
	replicate(t, f, k.KeyID, thirdRegion)
	schedule := func(region string, days int32) {
		t.Helper()
		must(f.ScheduleKeyDeletion(t.Context(), kmstest.In(admin, region), &kms.ScheduleKeyDeletionInput{KeyID: k.KeyID, PendingWindowInDays: &days}))(t)
	}
	schedule(kmstest.Region, 20)
	schedule(kmstest.OtherRegion, 7)
	schedule(thirdRegion, 10)
	wantState(t, f, k.KeyID, kms.StatePendingReplicaDeletion)
	pass(t, f, 7*day)
	c := describe(t, f, admin, k.KeyID)
	if c.KeyState != kms.StatePendingReplicaDeletion || len(c.MultiRegionConfiguration.ReplicaKeys) != 1 {
		t.Errorf("after the first replica the primary is %s with %+v", c.KeyState, c.MultiRegionConfiguration)
	}
	if c := describe(t, f, kmstest.In(admin, thirdRegion), k.KeyID); len(c.MultiRegionConfiguration.ReplicaKeys) != 1 {
		t.Errorf("the other replica still knows %+v", c.MultiRegionConfiguration)
	}
	pass(t, f, 3*day)
	if c := describe(t, f, admin, k.KeyID); c.KeyState != kms.StatePendingDeletion || !c.DeletionDate.Equal(f.Clock.Now().Add(20*day)) {
		t.Errorf("after the last replica the primary is %s until %v", c.KeyState, c.DeletionDate)
	}
	n := len(f.Entries(t))
	pass(t, f, 20*day)
	wantEntries(t, f, n, "DeleteKey "+kmstest.Region+" allowed")
	_, err := f.DescribeKey(t.Context(), admin, &kms.DescribeKeyInput{KeyID: k.KeyID})
	kmstest.Refused(t, err, kms.CodeNotFound, "Key '"+k.ARN+"' does not exist")
}

func TestReplicaWhoseKeyGoesLeavesTheOthersTheirMaterial(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := createKey(t, f, kms.CreateKeyInput{MultiRegion: true})
	replicate(t, f, k.KeyID, kmstest.OtherRegion)
	sealed := encrypt(t, f, k.KeyID, "text", nil)
	must(f.ScheduleKeyDeletion(t.Context(), elsewhere(t), &kms.ScheduleKeyDeletionInput{KeyID: k.KeyID, PendingWindowInDays: i32(7)}))(t)
	calls := backendCalls(f)
	pass(t, f, 7*day)
	if slices.Contains(calls(), "Destroy") {
		t.Error("material that the primary key needs was destroyed")
	}
	opens(t, f, kmstest.Admin(t), sealed, "text")
	replicate(t, f, k.KeyID, kmstest.OtherRegion)
	opens(t, f, elsewhere(t), sealed, "text")
}

func TestImportedMultiRegionKey(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	admin := kmstest.Admin(t)
	first, second := secret.Random(32), secret.Random(32)
	k := external(t, f, multiRegion)
	r := replicate(t, f, k.KeyID, kmstest.OtherRegion)
	if r.KeyState != kms.StatePendingImport {
		t.Errorf("the replica is %s", r.KeyState)
	}
	in := importing(t, f, elsewhere(t), k.KeyID, first)
	_, err := f.ImportKeyMaterial(t.Context(), elsewhere(t), &in)
	kmstest.Refused(t, err, kms.CodeUnsupported, r.ARN+" is not a multi-Region primary key.")
	one := importMaterial(t, f, admin, k.KeyID, first, "").KeyMaterialID
	if s := describe(t, f, elsewhere(t), k.KeyID).KeyState; s != kms.StatePendingImport {
		t.Errorf("the replica is %s after the import into its primary", s)
	}
	if got := importMaterial(t, f, elsewhere(t), k.KeyID, first, "").KeyMaterialID; got != one {
		t.Error("the same material has another id in another Region")
	}
	sealed := encrypt(t, f, k.KeyID, "text", nil)
	opens(t, f, elsewhere(t), sealed, "text")

	states := func(who kms.Caller) (out []string) {
		for _, m := range rotations(t, f, who, k.KeyID, kms.AllMaterial) {
			out = append(out, string(m.KeyMaterialState)+" "+string(m.ImportState))
		}
		return out
	}
	want := func(who kms.Caller, want ...string) {
		t.Helper()
		if got := states(who); !slices.Equal(got, want) {
			t.Errorf("material in %s is %q, want %q", who.Region, got, want)
		}
	}
	rotate := func(who kms.Caller) error {
		_, err := f.RotateKeyOnDemand(t.Context(), who, &kms.RotateKeyOnDemandInput{KeyID: k.KeyID})
		return err
	}
	none := "No available key material pending rotation for the key: " + k.ARN + "."
	two := importMaterial(t, f, admin, k.KeyID, second, kms.NewMaterial).KeyMaterialID
	want(admin, "CURRENT IMPORTED", "PENDING_MULTI_REGION_IMPORT_AND_ROTATION IMPORTED")
	want(elsewhere(t), "CURRENT IMPORTED", "PENDING_ROTATION PENDING_IMPORT")
	kmstest.Refused(t, rotate(admin), kms.CodeInvalidState, none)
	in = importing(t, f, elsewhere(t), k.KeyID, secret.Random(32))
	in.ImportType = kms.NewMaterial
	_, err = f.ImportKeyMaterial(t.Context(), elsewhere(t), &in)
	kmstest.Refused(t, err, kms.CodeUnsupported, r.ARN+" is not a multi-Region primary key.")
	importMaterial(t, f, elsewhere(t), k.KeyID, second, "")
	want(admin, "CURRENT IMPORTED", "PENDING_ROTATION IMPORTED")

	// Deleted in the replica it is to be imported there again, and the primary stays.
	must(f.DeleteImportedKeyMaterial(t.Context(), elsewhere(t), &kms.DeleteImportedKeyMaterialInput{KeyID: k.KeyID, KeyMaterialID: two}))(t)
	want(elsewhere(t), "CURRENT IMPORTED", "PENDING_ROTATION PENDING_IMPORT")
	kmstest.Refused(t, rotate(admin), kms.CodeInvalidState, none+" It has not been imported into "+r.ARN+".")
	// Deleted in the primary it is forgotten everywhere.
	must(f.DeleteImportedKeyMaterial(t.Context(), admin, &kms.DeleteImportedKeyMaterialInput{KeyID: k.KeyID, KeyMaterialID: two}))(t)
	want(admin, "CURRENT IMPORTED")
	want(elsewhere(t), "CURRENT IMPORTED")

	importMaterial(t, f, admin, k.KeyID, second, kms.NewMaterial)
	importMaterial(t, f, elsewhere(t), k.KeyID, second, "")
	kmstest.Refused(t, rotate(elsewhere(t)), kms.CodeUnsupported, r.ARN+" is not a multi-Region primary key.")
	ok(t, rotate(admin))
	want(admin, "NON_CURRENT IMPORTED", "CURRENT IMPORTED")
	want(elsewhere(t), "NON_CURRENT IMPORTED", "CURRENT IMPORTED")
	opens(t, f, elsewhere(t), sealed, "text")
	opens(t, f, elsewhere(t), encrypt(t, f, k.KeyID, "after", nil), "after")
	must(f.DeleteImportedKeyMaterial(t.Context(), elsewhere(t), &kms.DeleteImportedKeyMaterialInput{KeyID: k.KeyID}))(t)
	wantState(t, f, k.KeyID, kms.StateEnabled)
}

func TestReplicasOverTheQuotaLeaveNothing(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t, func(o *kms.Options) { o.Limits.Keys = 1 })
	k := createKey(t, f, kms.CreateKeyInput{MultiRegion: true})
	f.Key(t, keyspec.SymmetricDefault, func(k *kms.Key) { k.Region = kmstest.OtherRegion })
	_, err := f.ReplicateKey(t.Context(), kmstest.Admin(t), &kms.ReplicateKeyInput{KeyID: k.KeyID, ReplicaRegion: kmstest.OtherRegion})
	kmstest.Refused(t, err, kms.CodeLimitExceeded, "The account has 1 keys in the Region, which is the limit.")
	if c := describe(t, f, kmstest.Admin(t), k.KeyID).MultiRegionConfiguration; len(c.ReplicaKeys) != 0 {
		t.Errorf("the primary has replicas %+v", c.ReplicaKeys)
	}
}

func TestReplicaThatIsPendingDeletionKeepsItsShare(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := createKey(t, f, kms.CreateKeyInput{MultiRegion: true})
	replicate(t, f, k.KeyID, kmstest.OtherRegion)
	must(f.ScheduleKeyDeletion(t.Context(), elsewhere(t), &kms.ScheduleKeyDeletionInput{KeyID: k.KeyID}))(t)
	enableRotation(t, f, k.KeyID, 90)
	must(f.RotateKeyOnDemand(t.Context(), kmstest.Admin(t), &kms.RotateKeyOnDemandInput{KeyID: k.KeyID}))(t)
	sealed := encrypt(t, f, k.KeyID, "text", nil)
	if rotationStatus(t, f, elsewhere(t), k.KeyID).KeyRotationEnabled {
		t.Error("rotation is enabled for a replica that is pending deletion")
	}
	must(f.CancelKeyDeletion(t.Context(), elsewhere(t), &kms.CancelKeyDeletionInput{KeyID: k.KeyID}))(t)
	if s := rotationStatus(t, f, elsewhere(t), k.KeyID); !s.KeyRotationEnabled || *s.RotationPeriodInDays != 90 {
		t.Errorf("after the cancellation the replica's rotation is %+v", s)
	}
	ok(t, f.EnableKey(t.Context(), elsewhere(t), &kms.EnableKeyInput{KeyID: k.KeyID}))
	opens(t, f, elsewhere(t), sealed, "text")
}
