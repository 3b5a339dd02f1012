package cloudtrail_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"cardea/internal/audit"
	"cardea/internal/cloudtrail"
)

// minimal is a record of KMS with these members besides; later ones replace.
func minimal(members map[string]any) string {
	m := map[string]any{
		"eventVersion": "1.11", "eventTime": "2026-11-22T08:30:00Z", "eventSource": "kms.amazonaws.com", "eventName": "Decrypt",
		"awsRegion": "eu-central-1", "recipientAccountId": "111122223333", "eventID": "id", "readOnly": true,
		"userIdentity": map[string]any{"type": "IAMUser", "arn": "arn:aws:iam::111122223333:user/a", "accountId": "111122223333"},
	}
	for k, v := range members {
		m[k] = v
	}
	b, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return string(b)
}

type object = map[string]any

func one(t *testing.T, src string, o cloudtrail.Options) cloudtrail.Event {
	t.Helper()
	list, stats := parse(t, src, o)
	if len(list) != 1 || stats.Skipped > 0 {
		t.Fatalf("%s: %d events, %+v", src, len(list), stats)
	}
	return list[0]
}

func TestPrincipalIsWhoIsBehindASession(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		record, principal, kind, session, caller string
		mfa                                      cloudtrail.MFA
	}{
		"a user":                {`{"type":"IAMUser","arn":"arn:aws:iam::1:user/team/alice","accountId":"1","userName":"alice"}`, "arn:aws:iam::1:user/team/alice", "IAMUser", "", "1", 0},
		"a user without an ARN": {`{"type":"IAMUser","accountId":"1","userName":"alice","principalId":"AIDAX"}`, "arn:aws:iam::1:user/alice", "IAMUser", "", "1", 0},
		"a session": {
			`{"type":"AssumedRole","principalId":"AROAX:s-1","arn":"arn:aws:sts::1:assumed-role/r/s-1","accountId":"1","sessionContext":{"sessionIssuer":{"type":"Role","arn":"arn:aws:iam::1:role/path/r"},"attributes":{"mfaAuthenticated":"true"}}}`,
			"arn:aws:iam::1:role/path/r", "AssumedRole", "s-1", "1", cloudtrail.MFAPresent,
		},
		"a session that does not tell its role": {`{"type":"AssumedRole","principalId":"AROAX:s-1","arn":"arn:aws:sts::1:assumed-role/r/s-1"}`, "arn:aws:iam::1:role/r", "AssumedRole", "s-1", "1", 0},
		"a session in China":                    {`{"type":"AssumedRole","arn":"arn:aws-cn:sts::1:assumed-role/r/s-1"}`, "arn:aws-cn:iam::1:role/r", "AssumedRole", "s-1", "1", 0},
		"a session without MFA":                 {`{"type":"AssumedRole","arn":"arn:aws:sts::1:assumed-role/r/s","sessionContext":{"attributes":{"mfaAuthenticated":false}}}`, "arn:aws:iam::1:role/r", "AssumedRole", "s", "1", cloudtrail.MFAAbsent},
		"a federated user": {
			`{"type":"FederatedUser","principalId":"1:bob","arn":"arn:aws:sts::1:federated-user/bob","accountId":"1","sessionContext":{"sessionIssuer":{"type":"IAMUser","arn":"arn:aws:iam::1:user/portal"}}}`,
			"arn:aws:iam::1:user/portal", "FederatedUser", "bob", "1", 0,
		},
		"the root":                {`{"type":"Root","principalId":"1","arn":"arn:aws:iam::1:root","accountId":"1"}`, "arn:aws:iam::1:root", "Root", "", "1", 0},
		"the root, by its alias":  {`{"type":"Root","principalId":"1","accountId":"1","userName":"company"}`, "arn:aws:iam::1:root", "Root", "", "1", 0},
		"a service":               {`{"type":"AWSService","invokedBy":"lambda.amazonaws.com"}`, "lambda.amazonaws.com", "AWSService", "", "", 0},
		"KMS itself":              {`{"accountId":"1","invokedBy":"AWS Internal"}`, "kms.amazonaws.com", "AWSService", "", "1", 0},
		"another account":         {`{"type":"AWSAccount","principalId":"AROAX:s-1","accountId":"999"}`, "999/AROAX", "AWSAccount", "s-1", "999", 0},
		"SAML":                    {`{"type":"SAMLUser","principalId":"SAML:x","userName":"carol","identityProvider":"https://idp.example"}`, "https://idp.example/carol", "SAMLUser", "", "", 0},
		"web identity":            {`{"type":"WebIdentityUser","principalId":"accounts.example:app:42"}`, "accounts.example:app:42", "WebIdentityUser", "", "", 0},
		"IAM Identity Center":     {`{"type":"IdentityCenterUser","accountId":"1","onBehalfOf":{"userId":"u-1","identityStoreArn":"arn:aws:identitystore::1:identitystore/d-1"}}`, "arn:aws:identitystore::1:identitystore/d-1/user/u-1", "IdentityCenterUser", "", "1", 0},
		"one who is unknown":      {`{"type":"Unknown","principalId":"","accountId":""}`, "", "Unknown", "", "", 0},
		"a kind of another year":  {`{"type":"Robot","arn":"arn:aws:robots::1:robot/7"}`, "arn:aws:robots::1:robot/7", "Robot", "", "1", 0},
		"an identity that is not": {`null`, "", "", "", "", 0},
		"an ARN that is none":     {`{"type":"AssumedRole","arn":"arn:aws","principalId":"AROAX:s"}`, "arn:aws", "AssumedRole", "s", "", 0},
	} {
		e := one(t, minimal(object{"userIdentity": json.RawMessage(c.record)}), cloudtrail.Options{})
		if e.Principal != c.principal || e.PrincipalType != c.kind || e.Session != c.session || e.CallerAccount != c.caller || e.MFA != c.mfa {
			t.Errorf("%s: got %q %q %q %q %d", name, e.Principal, e.PrincipalType, e.Session, e.CallerAccount, e.MFA)
		}
	}
}

// TestRoleHasOneNameWithAndWithoutItsPath: a session's ARN leaves the path out.
func TestRoleHasOneNameWithAndWithoutItsPath(t *testing.T) {
	t.Parallel()
	bare := minimal(object{"userIdentity": json.RawMessage(`{"type":"AssumedRole","arn":"arn:aws:sts::111122223333:assumed-role/vault/x"}`)})
	list, _ := parse(t, record(1)+bare, cloudtrail.Options{})
	if list[0].Principal != list[1].Principal || !strings.HasSuffix(list[1].Principal, "role/cards/vault") {
		t.Errorf("got %s and %s", list[0].Principal, list[1].Principal)
	}
}

func TestKeyHasOneNameHoweverItIsCalled(t *testing.T) {
	t.Parallel()
	const id = "1234abcd-12ab-34cd-56ef-1234567890ab"
	const aliasARN = "arn:aws:kms:eu-central-1:111122223333:alias/cards"
	names := cloudtrail.NewNames()
	names.SetAlias(aliasARN, keyARN, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	for name, members := range map[string]object{
		"by id":                   {"requestParameters": object{"keyId": id}},
		"by ARN":                  {"requestParameters": object{"keyId": keyARN}},
		"by alias":                {"requestParameters": object{"keyId": "alias/cards"}},
		"by alias ARN":            {"requestParameters": object{"keyId": aliasARN}},
		"in resources only":       {"requestParameters": nil, "resources": []object{{"ARN": keyARN}}},
		"alias among resources":   {"resources": []object{{"type": "AWS::KMS::Alias", "ARN": aliasARN}}},
		"alias and key":           {"requestParameters": object{"keyId": "alias/other"}, "resources": []object{{"ARN": aliasARN}, {"ARN": keyARN}}},
		"alias that has moved on": {"requestParameters": object{"keyId": "alias/other"}, "resources": []object{{"ARN": keyARN}}},
		"in the service's own":    {"serviceEventDetails": object{"keyId": id}, "eventType": "AwsServiceEvent"},
		"of the caller's account": {"requestParameters": object{"keyId": id}, "recipientAccountId": "999"},
	} {
		e := one(t, minimal(members), cloudtrail.Options{Names: names})
		if !slices.Equal(e.Keys, []string{keyARN}) {
			t.Errorf("%s: got %q", name, e.Keys)
		}
	}
	e := one(t, minimal(object{"requestParameters": object{"keyId": "alias/unknown"}}), cloudtrail.Options{})
	if !slices.Equal(e.Keys, []string{"arn:aws:kms:eu-central-1:111122223333:alias/unknown"}) {
		t.Errorf("an unknown alias became %q", e.Keys)
	}
	e = one(t, minimal(object{
		"eventName": "ReEncrypt", "requestParameters": object{"destinationKeyId": id, "sourceEncryptionContext": object{"tenant": "a", "x": "1"}, "destinationEncryptionContext": object{"tenant": "b", "x": "1"}},
		"resources": []object{{"ARN": keyARN + "2"}, {"ARN": keyARN}},
	}), cloudtrail.Options{})
	if !slices.Equal(e.Keys, []string{keyARN + "2", keyARN}) || fmt.Sprint(e.Context) != "map[destination.tenant:b tenant:a x:1]" || e.Tenant != "a" {
		t.Errorf("ReEncrypt: %q, %v", e.Keys, e.Context)
	}
	e = one(t, minimal(object{"eventSource": "s3.amazonaws.com", "requestParameters": object{"keyId": id}}), cloudtrail.Options{})
	if e.Keys != nil {
		t.Errorf("a keyId of another service became %q", e.Keys)
	}
}

func TestAliasesAreLearnedByTheTimeOfRecords(t *testing.T) {
	t.Parallel()
	at := func(name, clock, target string, more object) string {
		m := object{"eventName": name, "readOnly": false, "eventTime": "2026-11-22T" + clock + "Z", "requestParameters": object{"aliasName": "alias/cards", "targetKeyId": target}}
		for k, v := range more {
			m[k] = v
		}
		return minimal(m)
	}
	const first, second = "arn:aws:kms:eu-central-1:111122223333:key/1", "arn:aws:kms:eu-central-1:111122223333:key/2"
	for name, c := range map[string]struct {
		records []string
		want    string
	}{
		"created":               {[]string{at("CreateAlias", "08:00:00", "1", nil)}, first},
		"updated":               {[]string{at("CreateAlias", "08:00:00", "1", nil), at("UpdateAlias", "09:00:00", second, nil)}, second},
		"updated, read late":    {[]string{at("UpdateAlias", "09:00:00", "2", nil), at("CreateAlias", "08:00:00", "1", nil)}, second},
		"refused":               {[]string{at("CreateAlias", "08:00:00", "1", nil), at("UpdateAlias", "09:00:00", "2", object{"errorCode": "AccessDenied"})}, first},
		"deleted":               {[]string{at("CreateAlias", "08:00:00", "1", nil), at("DeleteAlias", "09:00:00", "", nil)}, ""},
		"of resources":          {[]string{at("CreateAlias", "08:00:00", "", object{"resources": []object{{"ARN": second}}})}, second},
		"not by other services": {[]string{at("CreateAlias", "08:00:00", "1", object{"eventSource": "lambda.amazonaws.com"})}, ""},
	} {
		names := cloudtrail.NewNames()
		parse(t, strings.Join(c.records, "\n"), cloudtrail.Options{Names: names})
		if got := names.Aliases()["arn:aws:kms:eu-central-1:111122223333:alias/cards"]; got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestOtherMembers(t *testing.T) {
	t.Parallel()
	e := one(t, minimal(object{
		"eventName": "PutKeyPolicy", "readOnly": false, "requestParameters": object{"policy": "{}"}, "responseElements": object{"a": 1}, "serviceEventDetails": object{"b": 2},
		"sourceIPAddress": "AWS Internal", "sessionCredentialFromConsole": "true", "sharedEventID": "s", "vpcEndpointId": "vpce-1", "errorCode": "AccessDenied", "errorMessage": "no",
		"managementEvent": object{"new": []int{1}}, "ofTheFuture": []any{nil, true, -1.5e-3, "x"},
	}), cloudtrail.Options{})
	if string(e.Params) != `{"policy":"{}"}` || string(e.Response) != `{"a":1}` || string(e.Details) != `{"b":2}` {
		t.Errorf("got %s %s %s", e.Params, e.Response, e.Details)
	}
	if e.IP != "" || e.SourceName != "AWS Internal" || !e.Console || e.SharedEventID != "s" || e.VPCEndpoint != "vpce-1" || !e.Failed() || e.ErrorMessage != "no" {
		t.Errorf("got %+v", e)
	}
	e = one(t, minimal(object{"requestParameters": object{"x": "y"}, "userAgent": "Mozilla/5.0", "sourceIPAddress": "2001:db8::1"}), cloudtrail.Options{})
	if e.Params != nil || !e.Console || e.IP != "2001:db8::1" {
		t.Errorf("got %+v", e)
	}
	e = one(t, strings.ReplaceAll(minimal(object{"eventName": "ListKeys", "eventID": nil}), `"readOnly":true,`, ""), cloudtrail.Options{})
	if !e.ReadOnly || !strings.HasPrefix(e.ID, "sha256-") || len(e.ID) != 39 {
		t.Errorf("got %+v", e)
	}
	e = one(t, minimal(object{"eventSource": "signin.amazonaws.com", "eventName": "ConsoleLogin", "additionalEventData": object{"MFAUsed": "No"}}), cloudtrail.Options{})
	if e.MFA != cloudtrail.MFAAbsent {
		t.Errorf("got %+v", e)
	}
}

func TestEntryOfTheKeyServiceGivesTheEventOfItsRecord(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]*audit.Call{
		"a data key": {
			Event: "GenerateDataKey", Source: "kms.amazonaws.com", Region: "eu-central-1", Account: "111122223333", ReadOnly: true,
			Type: "AssumedRole", ID: "AROAEXAMPLE:node-1", ARN: "arn:aws:sts::111122223333:assumed-role/vault/node-1",
			Issuer: "arn:aws:iam::111122223333:role/vault", Caller: "111122223333", Key: "ASIAEXAMPLE", MFA: true, Issued: at.Add(-time.Hour),
			Agent: "aws-sdk-go-v2/1.47.7 <&>", TLS: "TLSv1.3 TLS_AES_128_GCM_SHA256",
			Request: []audit.Param{{Name: "keyId", Value: keyARN}}, Response: []audit.Param{{Name: "keyMaterialId", Value: "ab"}},
			Context: []audit.Param{{Name: "tenant", Value: "public"}}, Resources: []string{keyARN},
		},
		"its own":   {Event: "RotateKey", Source: "kms.amazonaws.com", Region: "eu-central-1", Account: "111122223333", Type: "AWSService", Caller: "111122223333", Resources: []string{keyARN}},
		"a refusal": {Event: "ScheduleKeyDeletion", Source: "kms.amazonaws.com", Region: "eu-central-1", Account: "111122223333", Type: "Root", Caller: "111122223333", Error: "AccessDeniedException", Request: []audit.Param{{Name: "keyId", Value: keyARN}}},
	} {
		e := entry(c)
		r, _ := cloudtrail.FromEntry(e)
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := cloudtrail.EventOf(&e)
		if !ok || len(got.Keys) != 1 || got.Keys[0] != keyARN {
			t.Fatalf("%s: %v %+v", name, ok, got)
		}
		same(t, got, one(t, string(b), cloudtrail.Options{}))
	}
}

func TestEntryOfTheVault(t *testing.T) {
	t.Parallel()
	e := audit.Entry{
		ID: "019a9b3c-5d2e-7f10-8a4b-0123456789ab", Time: at, Node: "n", Tenant: "public", Who: audit.Actor{Type: "tenant", Name: "public", Auth: "jws", IP: "192.0.2.7"},
		Op: "card.retrieve", Resource: audit.Resource{Kind: "card", Merchant: "m", Reference: "r"}, Outcome: audit.Allowed, Result: "retrieved",
	}
	want := cloudtrail.Event{
		ID: e.ID, Time: at, Source: cloudtrail.SourceVault, Name: "card.retrieve", Account: "public", Principal: "tenant/public", PrincipalType: "tenant",
		IP: "192.0.2.7", Host: "n", ReadOnly: true, Tenant: "public", Merchant: "m", Records: 1,
	}
	got, ok := cloudtrail.EventOf(&e)
	if !ok {
		t.Fatal("no event")
	}
	same(t, got, want)
	e.Outcome, e.Result, e.Detail, e.Op, e.Resource.Key, e.Who.Name = audit.Failed, "locked", "sealed", "card.delete", "k1", ""
	want.Records, want.ErrorCode, want.ErrorMessage, want.Name, want.ReadOnly, want.Keys, want.Principal = 0, "locked", "sealed", "card.delete", false, []string{"k1"}, "tenant"
	got, _ = cloudtrail.EventOf(&e)
	same(t, got, want)
	e.Outcome = audit.Denied
	want.ErrorCode = "AccessDenied"
	got, _ = cloudtrail.EventOf(&e)
	same(t, got, want)
	if _, ok := cloudtrail.EventOf(&audit.Entry{}); ok {
		t.Error("an empty entry gives an event")
	}
}
