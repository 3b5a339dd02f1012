package kms_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/kms/kmstest"
)

const explained = `{"Version":"2012-10-17","Statement":[
	{"Sid":"Root","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"kms:*","Resource":"*"},
	{"Sid":"Tenant","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:user/user"},"Action":"kms:Decrypt","Resource":"*",
	 "Condition":{"StringEquals":{"kms:EncryptionContext:tenant":"a"},"IpAddress":{"aws:SourceIp":"192.0.2.0/24"}}}]}`

func TestExplainSaysWhatDecides(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault, func(k *kms.Key) { k.Policy = explained })
	f.Alias(t, k, "alias/cards")
	who := kms.Operator("alice", k.Region, k.Account)
	user := kmstest.User(t)
	for name, c := range map[string]struct {
		in   kms.ExplainInput
		want string
	}{
		"allowed": {
			kms.ExplainInput{Action: "decrypt", KeyID: "alias/cards", EncryptionContext: map[string]string{"tenant": "a"}, IP: netip.MustParseAddr("192.0.2.7")},
			`allowed by resource policy /Statement/1 "Tenant"`,
		},
		"another context": {
			kms.ExplainInput{Action: "kms:Decrypt", KeyID: k.ARN(), EncryptionContext: map[string]string{"tenant": "b"}, IP: netip.MustParseAddr("192.0.2.7")},
			"denied: no identity policy allows it",
		},
		"no key": {kms.ExplainInput{Action: "kms:CreateKey"}, "denied: no identity policy allows it"},
	} {
		in := c.in
		in.Subject = user.Subject
		x, err := f.Service.Explain(t.Context(), who, &in)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if x.Summary != c.want {
			t.Errorf("%s: %s, want %s", name, x.Summary, c.want)
		}
		e := f.Last(t)
		if e.Op != "kms.explain" || e.Who.Type != "operator" || e.Who.Name != "alice" || e.Detail != c.want {
			t.Errorf("%s: logged %+v", name, e)
		}
	}
}

func TestExplainRefuses(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	admin := kmstest.Admin(t)
	for name, c := range map[string]struct {
		who  kms.Caller
		in   kms.ExplainInput
		code kms.Code
		text string
	}{
		"a client":       {admin, kms.ExplainInput{Subject: admin.Subject, Action: "Decrypt", KeyID: k.ID}, kms.CodeAccessDenied, "Only operators of the host may ask why a request is allowed."},
		"no principal":   {kms.Operator("o", k.Region, k.Account), kms.ExplainInput{Action: "Decrypt"}, kms.CodeValidation, "'principal' failed to satisfy constraint: Member must not be null"},
		"no such action": {kms.Operator("o", k.Region, k.Account), kms.ExplainInput{Subject: admin.Subject, Action: "kms:Fly"}, kms.CodeValidation, "'kms:Fly' at 'action' failed to satisfy constraint: Member must be an action of KMS, such as kms:Decrypt"},
		"no such key": {
			kms.Operator("o", k.Region, k.Account),
			kms.ExplainInput{Subject: admin.Subject, Action: "Decrypt", KeyID: "alias/none"},
			kms.CodeNotFound,
			"Alias arn:aws:kms:" + k.Region + ":" + k.Account + ":alias/none is not found.",
		},
	} {
		_, err := f.Service.Explain(t.Context(), c.who, &c.in)
		var e *kms.Error
		if !errors.As(err, &e) || e.Code != c.code || !strings.Contains(e.Message, c.text) {
			t.Errorf("%s: got %v, want %s %s", name, err, c.code, c.text)
		}
	}
	if _, err := f.Service.Encrypt(t.Context(), kms.Operator("o", k.Region, k.Account), &kms.EncryptInput{KeyID: k.ID}); err == nil {
		t.Error("an operator may encrypt")
	}
}
