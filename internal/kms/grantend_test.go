package kms_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/kms/kmstest"
)

func TestWhoMayRetireAGrant(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	user := kmstest.User(t)
	by := func(policy string) kms.Caller { return kmstest.As(kmstest.Subject(t, kmstest.Account, "ops", policy)) }
	const retire = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:RetireGrant","Resource":"*"}]}`
	constrained := &kms.GrantConstraints{EncryptionContextEquals: map[string]string{"a": "1"}}
	for name, c := range map[string]struct {
		in     kms.CreateGrantInput
		who    kms.Caller
		detail string // of a denial
	}{
		"retiring principal":            {kms.CreateGrantInput{GranteePrincipal: appRole, RetiringPrincipal: app}, user, ""},
		"retiring role":                 {kms.CreateGrantInput{GranteePrincipal: app, RetiringPrincipal: appRole}, appSession(t, ""), ""},
		"of another account":            {kms.CreateGrantInput{GranteePrincipal: app, RetiringPrincipal: userARN(kmstest.Other, "foreigner")}, kmstest.Foreigner(t), ""},
		"retiring account's user":       {kms.CreateGrantInput{GranteePrincipal: app, RetiringPrincipal: rootUser}, user, noGrant},
		"grantee":                       {kms.CreateGrantInput{GranteePrincipal: app}, user, noGrant},
		"grantee who may":               {kms.CreateGrantInput{GranteePrincipal: app, Operations: grantOps("Encrypt", "RetireGrant")}, user, ""},
		"grantee who may, constrained":  {kms.CreateGrantInput{GranteePrincipal: app, Operations: grantOps("Encrypt", "RetireGrant"), Constraints: constrained}, user, ""},
		"somebody else":                 {kms.CreateGrantInput{GranteePrincipal: appRole, RetiringPrincipal: appRole, Operations: grantOps("RetireGrant")}, user, noGrant},
		"by policy":                     {kms.CreateGrantInput{GranteePrincipal: app}, by(retire), ""},
		"policy of another account":     {kms.CreateGrantInput{GranteePrincipal: app}, kmstest.Foreigner(t), "denied: neither the resource policy nor a grant allows it, nor does the policy leave it to identity policies"},
		"retiring principal but denied": {kms.CreateGrantInput{GranteePrincipal: app, RetiringPrincipal: userARN(kmstest.Account, "ops")}, by(strings.Replace(retire, "Allow", "Deny", 1)), "denied by identity policy inline /Statement/0"},
	} {
		for _, byToken := range []bool{false, true} {
			c.in.KeyID = k.ID
			if c.in.Operations == nil {
				c.in.Operations = grantOps("Encrypt")
			}
			g := createGrant(t, f, c.in)
			in := kms.RetireGrantInput{KeyID: k.ARN(), GrantID: g.GrantID}
			if byToken {
				in = kms.RetireGrantInput{GrantToken: g.GrantToken}
			}
			err := f.RetireGrant(t.Context(), c.who, &in)
			e := f.Last(t)
			if c.detail != "" {
				denied(t, f, err, "kms:RetireGrant on resource: "+k.ARN(), c.detail)
				continue
			}
			if err != nil {
				t.Errorf("%s, by token %v: %v", name, byToken, err)
				continue
			}
			if got := paramsOf(e.Call.Response); got["grantId"] != g.GrantID || got["keyId"] != k.ARN() || e.Resource.Key != k.ARN() {
				t.Errorf("%s: entry %+v", name, e)
			}
			again := f.RetireGrant(t.Context(), kmstest.Admin(t), &in)
			if byToken {
				kmstest.Refused(t, again, kms.CodeInvalidGrantToken, "Grant token is invalid.")
			} else {
				kmstest.Refused(t, again, kms.CodeNotFound, "Grant ID "+g.GrantID+" not found")
			}
		}
	}
}

func TestAGrantThatMayBeRetiredIsNoRightToRetireOthers(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	createGrant(t, f, kms.CreateGrantInput{KeyID: k.ID, GranteePrincipal: app, Operations: grantOps("RetireGrant")})
	other := createGrant(t, f, kms.CreateGrantInput{KeyID: k.ID, GranteePrincipal: app, Operations: grantOps("Encrypt")})
	err := f.RetireGrant(t.Context(), kmstest.User(t), &kms.RetireGrantInput{KeyID: k.ARN(), GrantID: other.GrantID})
	denied(t, f, err, "kms:RetireGrant", noGrant)
}

func TestRetireAndRevokeGrantRefuse(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	g := createGrant(t, f, kms.CreateGrantInput{KeyID: k.ID, GranteePrincipal: app, Operations: grantOps("Encrypt")})
	unknown := strings.Repeat("0a", 32)
	const either = "You must specify either GrantToken, or both KeyId and GrantId."
	for name, c := range map[string]struct {
		in      kms.RetireGrantInput
		code    kms.Code
		message string
	}{
		"nothing":        {kms.RetireGrantInput{}, kms.CodeValidation, either},
		"key only":       {kms.RetireGrantInput{KeyID: k.ARN()}, kms.CodeValidation, either},
		"id only":        {kms.RetireGrantInput{GrantID: g.GrantID}, kms.CodeValidation, either},
		"both":           {kms.RetireGrantInput{KeyID: k.ARN(), GrantID: g.GrantID, GrantToken: g.GrantToken}, kms.CodeValidation, either},
		"nonsense id":    {kms.RetireGrantInput{KeyID: k.ARN(), GrantID: "x"}, kms.CodeInvalidGrantID, "Grant ID x is invalid."},
		"unknown id":     {kms.RetireGrantInput{KeyID: k.ARN(), GrantID: unknown}, kms.CodeNotFound, "Grant ID " + unknown + " not found"},
		"nonsense token": {kms.RetireGrantInput{GrantToken: "x"}, kms.CodeInvalidGrantToken, "Grant token is invalid."},
		"long id": {kms.RetireGrantInput{KeyID: k.ARN(), GrantID: strings.Repeat("0", 129)}, kms.CodeValidation, "1 validation error detected: Value '" +
			strings.Repeat("0", 128) + "…' at 'grantId' failed to satisfy constraint: Member must have length less than or equal to 128"},
	} {
		t.Run(name, func(t *testing.T) {
			kmstest.Refused(t, f.RetireGrant(t.Context(), kmstest.Admin(t), &c.in), c.code, c.message)
		})
	}
	// In another Region neither the key nor its token is known.
	elsewhere := kmstest.In(kmstest.Admin(t), kmstest.OtherRegion)
	kmstest.Refused(t, f.RetireGrant(t.Context(), elsewhere, &kms.RetireGrantInput{GrantToken: g.GrantToken}), kms.CodeInvalidGrantToken, "Grant token is invalid.")
	kmstest.Refused(t, f.RevokeGrant(t.Context(), elsewhere, &kms.RevokeGrantInput{KeyID: k.ARN(), GrantID: g.GrantID}), kms.CodeNotFound, "Invalid arn eu-central-1")

	revoke := func(who kms.Caller, id string) error {
		return f.RevokeGrant(t.Context(), who, &kms.RevokeGrantInput{KeyID: k.ARN(), GrantID: id})
	}
	kmstest.Refused(t, revoke(kmstest.Admin(t), "x"), kms.CodeInvalidGrantID, "Grant ID x is invalid.")
	kmstest.Refused(t, revoke(kmstest.Admin(t), unknown), kms.CodeNotFound, "Grant ID "+unknown+" not found")
	kmstest.Refused(t, revoke(kmstest.Admin(t), ""), kms.CodeValidation, "1 validation error detected: Value null at 'grantId' failed to satisfy constraint: Member must not be null")
	denied(t, f, revoke(kmstest.User(t), g.GrantID), "kms:RevokeGrant", noIdentityPolicy)
	denied(t, f, revoke(kmstest.User(t), unknown), "kms:RevokeGrant", noIdentityPolicy)
	if err := mayEncrypt(t, f, kmstest.User(t), k, nil); err != nil {
		t.Errorf("the grant ended: %v", err)
	}
	if err := revoke(kmstest.Admin(t), g.GrantID); err != nil {
		t.Error(err)
	}
	e := f.Last(t)
	wantParams(t, &e, map[string]string{"keyId": k.ARN(), "grantId": g.GrantID})
}

func TestAnotherAccountMayRevokeIfTheKeysPolicySaysSo(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault, func(k *kms.Key) {
		k.Policy = `{"Statement":[{"Effect":"Allow","Principal":{"AWS":["111122223333","444455556666"]},"Action":"kms:*","Resource":"*"}]}`
	})
	out, err := f.CreateGrant(t.Context(), kmstest.Foreigner(t), &kms.CreateGrantInput{KeyID: k.ARN(), GranteePrincipal: app, Operations: grantOps("Encrypt")})
	if err != nil {
		t.Fatal(err)
	}
	list, err := f.ListGrants(t.Context(), kmstest.Foreigner(t), &kms.ListGrantsInput{KeyID: k.ARN()})
	if err != nil || len(list.Grants) != 1 || list.Grants[0].IssuingAccount != "arn:aws:iam::444455556666:root" {
		t.Errorf("got %+v, %v", list, err)
	}
	if err := f.RevokeGrant(t.Context(), kmstest.Foreigner(t), &kms.RevokeGrantInput{KeyID: k.ARN(), GrantID: out.GrantID}); err != nil {
		t.Error(err)
	}
	if e := f.Last(t); e.Call.Account != kmstest.Account || e.Call.Caller != kmstest.Other {
		t.Errorf("entry: key of %s, caller of %s", e.Call.Account, e.Call.Caller)
	}
}

func TestListGrantsPagesAndFilters(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k, other := f.Key(t, keyspec.SymmetricDefault), f.Key(t, keyspec.SymmetricDefault)
	var all, ofApp, retirable []string
	for i := range 70 {
		in := kms.CreateGrantInput{KeyID: k.ID, GranteePrincipal: appRole, RetiringPrincipal: rootUser, Name: fmt.Sprint("n", i), Operations: grantOps("Encrypt")}
		if i%5 == 0 {
			in.GranteePrincipal = app
		}
		if i%7 == 0 {
			in.RetiringPrincipal = app
		}
		id := createGrant(t, f, in).GrantID
		all = append(all, id)
		if i%5 == 0 {
			ofApp = append(ofApp, id)
		}
		if i%7 == 0 {
			retirable = append(retirable, id)
		}
	}
	retirable = append(retirable, createGrant(t, f, kms.CreateGrantInput{KeyID: other.ID, GranteePrincipal: app, RetiringPrincipal: app, Operations: grantOps("Encrypt")}).GrantID)
	for _, ids := range [][]string{all, ofApp, retirable} {
		slices.Sort(ids)
	}
	ids := func(gs []kms.GrantListEntry) (ids []string) {
		for _, g := range gs {
			ids = append(ids, g.GrantID)
		}
		return ids
	}
	for _, c := range []struct {
		in   kms.ListGrantsInput
		want []string
	}{
		{kms.ListGrantsInput{}, all},
		{kms.ListGrantsInput{Limit: i32(3)}, all},
		{kms.ListGrantsInput{GranteePrincipal: app, Limit: i32(4)}, ofApp},
		{kms.ListGrantsInput{GrantID: all[9]}, all[9:10]},
		{kms.ListGrantsInput{GrantID: strings.Repeat("0", 64)}, nil},
		{kms.ListGrantsInput{GrantID: ofApp[0], GranteePrincipal: app}, ofApp[:1]},
		{kms.ListGrantsInput{GrantID: ofApp[0], GranteePrincipal: appRole}, nil},
	} {
		var got []string
		c.in.KeyID = k.ARN()
		for more := true; more; {
			out, err := f.ListGrants(t.Context(), kmstest.Admin(t), &c.in)
			if err != nil {
				t.Fatal(err)
			}
			got, c.in.Marker, more = append(got, ids(out.Grants)...), out.NextMarker, out.Truncated
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%+v: got %d grants, want %d", c.in, len(got), len(c.want))
		}
	}
	var got []string
	in := &kms.ListRetirableGrantsInput{RetiringPrincipal: app, Limit: i32(4)}
	for more := true; more; {
		out, err := f.ListRetirableGrants(t.Context(), kmstest.Admin(t), in)
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range out.Grants {
			if g.RetiringPrincipal != app || g.KeyID != k.ARN() && g.KeyID != other.ARN() || !g.CreationDate.Equal(f.Clock.Now()) {
				t.Errorf("got %+v", g)
			}
		}
		got, in.Marker, more = append(got, ids(out.Grants)...), out.NextMarker, out.Truncated
	}
	if !slices.Equal(got, retirable) {
		t.Errorf("retirable: got %d, want %d", len(got), len(retirable))
	}
}

func TestListGrantsRefuses(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	_, err := f.ListGrants(t.Context(), kmstest.Admin(t), &kms.ListGrantsInput{KeyID: k.ID, GrantID: "x"})
	kmstest.Refused(t, err, kms.CodeInvalidGrantID, "Grant ID x is invalid.")
	_, err = f.ListGrants(t.Context(), kmstest.Admin(t), &kms.ListGrantsInput{KeyID: k.ID, GranteePrincipal: app, GranteeServicePrincipal: "s3.amazonaws.com"})
	kmstest.Refused(t, err, kms.CodeValidation, "You cannot specify both GranteePrincipal and GranteeServicePrincipal.")
	_, err = f.ListGrants(t.Context(), kmstest.User(t), &kms.ListGrantsInput{KeyID: k.ID})
	denied(t, f, err, "kms:ListGrants", noIdentityPolicy)
	retirable := func(who kms.Caller, in kms.ListRetirableGrantsInput) error {
		_, err := f.ListRetirableGrants(t.Context(), who, &in)
		return err
	}
	const either = "You must specify either RetiringPrincipal or RetiringServicePrincipal, but not both."
	kmstest.Refused(t, retirable(kmstest.Admin(t), kms.ListRetirableGrantsInput{}), kms.CodeValidation, either)
	kmstest.Refused(t, retirable(kmstest.Admin(t), kms.ListRetirableGrantsInput{RetiringPrincipal: app, RetiringServicePrincipal: "s3.amazonaws.com"}), kms.CodeValidation, either)
	kmstest.Refused(t, retirable(kmstest.Admin(t), kms.ListRetirableGrantsInput{RetiringPrincipal: "anna"}), kms.CodeInvalidARN, "ARN does not refer to a valid principal: anna")
	denied(t, f, retirable(kmstest.User(t), kms.ListRetirableGrantsInput{RetiringPrincipal: app}), "kms:ListRetirableGrants", noIdentityPolicy)
	denied(t, f, retirable(kmstest.Foreigner(t), kms.ListRetirableGrantsInput{RetiringPrincipal: app}), "kms:ListRetirableGrants",
		"denied: the action cannot be used from another account")
}
