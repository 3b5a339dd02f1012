package cloudtrail_test

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"cardea/internal/audit"
	"cardea/internal/cloudtrail"
)

const keyARN = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"

var at = time.Date(2026, 11, 22, 8, 30, 0, 123456000, time.UTC)

func entry(c *audit.Call) audit.Entry {
	return audit.Entry{
		ID: "019a9b3c-5d2e-7f10-8a4b-0123456789ab", Time: at, Node: "n", RequestID: "019a9b3c-5d2e-7aaa-9a4b-ba9876543210",
		Who: audit.Actor{Type: "principal", Auth: "sigv4", IP: "192.0.2.7"}, Op: "kms.x", Outcome: audit.Allowed, Result: "done", Call: c,
	}
}

// TestRecordsHaveCloudTrailsForm holds records to what AWS's guides show, member by
// member.
func TestRecordsHaveCloudTrailsForm(t *testing.T) {
	t.Parallel()
	denied := entry(&audit.Call{
		Event: "Decrypt", Source: "kms.amazonaws.com", Region: "eu-central-1", Account: "111122223333", ReadOnly: true,
		Type: "IAMUser", ID: "AIDAEXAMPLE", ARN: "arn:aws:iam::111122223333:user/team/alice", Caller: "111122223333", Key: "AKIAEXAMPLE",
		Error: "AccessDeniedException", Resources: []string{keyARN},
	})
	denied.Outcome, denied.Detail = audit.Denied, "denied by resource policy /Statement/1"
	for name, c := range map[string]struct {
		entry audit.Entry
		want  string
	}{
		"a data key by a session": {entry(&audit.Call{
			Event: "GenerateDataKey", Source: "kms.amazonaws.com", Region: "eu-central-1", Account: "111122223333", ReadOnly: true,
			Type: "AssumedRole", ID: "AROAEXAMPLE:node-1", ARN: "arn:aws:sts::111122223333:assumed-role/vault/node-1",
			Issuer: "arn:aws:iam::111122223333:role/vault", Caller: "111122223333", Key: "ASIAEXAMPLE", MFA: true, Issued: at.Add(-time.Hour),
			Agent: "aws-sdk-go-v2/1.47.7", TLS: "TLSv1.3 TLS_AES_128_GCM_SHA256",
			Request:   []audit.Param{{Name: "keyId", Value: keyARN}, {Name: "numberOfBytes", Value: "32"}, {Name: "dryRun", Value: "true"}},
			Response:  []audit.Param{{Name: "keyMaterialId", Value: "ab"}},
			Context:   []audit.Param{{Name: "tenant", Value: "public"}},
			Resources: []string{keyARN},
		}), `{"eventVersion":"1.11","userIdentity":{"type":"AssumedRole","principalId":"AROAEXAMPLE:node-1",
			"arn":"arn:aws:sts::111122223333:assumed-role/vault/node-1","accountId":"111122223333","accessKeyId":"ASIAEXAMPLE",
			"sessionContext":{"sessionIssuer":{"type":"Role","principalId":"AROAEXAMPLE","arn":"arn:aws:iam::111122223333:role/vault","accountId":"111122223333","userName":"vault"},
			"attributes":{"creationDate":"2026-11-22T07:30:00Z","mfaAuthenticated":"true"}}},
			"eventTime":"2026-11-22T08:30:00Z","eventSource":"kms.amazonaws.com","eventName":"GenerateDataKey","awsRegion":"eu-central-1",
			"sourceIPAddress":"192.0.2.7","userAgent":"aws-sdk-go-v2/1.47.7",
			"requestParameters":{"keyId":"` + keyARN + `","numberOfBytes":32,"dryRun":true,"encryptionContext":{"tenant":"public"}},"responseElements":null,
			"additionalEventData":{"keyMaterialId":"ab"},
			"requestID":"019a9b3c-5d2e-7aaa-9a4b-ba9876543210","eventID":"019a9b3c-5d2e-7f10-8a4b-0123456789ab","readOnly":true,
			"resources":[{"accountId":"111122223333","type":"AWS::KMS::Key","ARN":"` + keyARN + `"}],
			"eventType":"AwsApiCall","managementEvent":true,"recipientAccountId":"111122223333","eventCategory":"Management",
			"tlsDetails":{"tlsVersion":"TLSv1.3","cipherSuite":"TLS_AES_128_GCM_SHA256"}}`},
		"a refusal": {denied, `{"eventVersion":"1.11","userIdentity":{"type":"IAMUser","principalId":"AIDAEXAMPLE",
			"arn":"arn:aws:iam::111122223333:user/team/alice","accountId":"111122223333","accessKeyId":"AKIAEXAMPLE","userName":"alice"},
			"eventTime":"2026-11-22T08:30:00Z","eventSource":"kms.amazonaws.com","eventName":"Decrypt","awsRegion":"eu-central-1","sourceIPAddress":"192.0.2.7",
			"errorCode":"AccessDenied","errorMessage":"denied by resource policy /Statement/1","requestParameters":null,"responseElements":null,
			"requestID":"019a9b3c-5d2e-7aaa-9a4b-ba9876543210","eventID":"019a9b3c-5d2e-7f10-8a4b-0123456789ab","readOnly":true,
			"resources":[{"accountId":"111122223333","type":"AWS::KMS::Key","ARN":"` + keyARN + `"}],
			"eventType":"AwsApiCall","managementEvent":true,"recipientAccountId":"111122223333","eventCategory":"Management"}`},
		"a grant": {entry(&audit.Call{
			Event: "CreateGrant", Source: "kms.amazonaws.com", Region: "eu-central-1", Account: "111122223333", Type: "Root",
			Request: []audit.Param{
				{Name: "operations", Value: "Decrypt,Encrypt"}, {Name: "constraints.encryptionContextSubset.tenant", Value: "a"}, {Name: "constraints.encryptionContextSubset.x", Value: "b"},
			},
			Response:  []audit.Param{{Name: "grantId", Value: "g"}},
			Resources: []string{"arn:aws:kms:eu-central-1:111122223333:alias/a", "odd"},
		}), `{"eventVersion":"1.11","userIdentity":{"type":"Root"},"eventTime":"2026-11-22T08:30:00Z","eventSource":"kms.amazonaws.com","eventName":"CreateGrant",
			"awsRegion":"eu-central-1","sourceIPAddress":"192.0.2.7",
			"requestParameters":{"operations":["Decrypt","Encrypt"],"constraints":{"encryptionContextSubset":{"tenant":"a","x":"b"}}},"responseElements":{"grantId":"g"},
			"requestID":"019a9b3c-5d2e-7aaa-9a4b-ba9876543210","eventID":"019a9b3c-5d2e-7f10-8a4b-0123456789ab","readOnly":false,
			"resources":[{"accountId":"111122223333","type":"AWS::KMS::Alias","ARN":"arn:aws:kms:eu-central-1:111122223333:alias/a"},{"ARN":"odd"}],
			"eventType":"AwsApiCall","managementEvent":true,"recipientAccountId":"111122223333","eventCategory":"Management"}`},
		"what the service does by itself": {entry(&audit.Call{
			Event: "RotateKey", Source: "kms.amazonaws.com", Region: "eu-central-1", Account: "111122223333", Type: "AWSService", Caller: "111122223333",
			Resources: []string{keyARN},
		}), `{"eventVersion":"1.11","userIdentity":{"type":"","accountId":"111122223333","invokedBy":"AWS Internal"},"eventTime":"2026-11-22T08:30:00Z",
			"eventSource":"kms.amazonaws.com","eventName":"RotateKey","awsRegion":"eu-central-1","sourceIPAddress":"AWS Internal","userAgent":"AWS Internal",
			"requestParameters":null,"responseElements":null,
			"requestID":"019a9b3c-5d2e-7aaa-9a4b-ba9876543210","eventID":"019a9b3c-5d2e-7f10-8a4b-0123456789ab","readOnly":false,
			"resources":[{"accountId":"111122223333","type":"AWS::KMS::Key","ARN":"` + keyARN + `"}],
			"eventType":"AwsServiceEvent","managementEvent":true,"recipientAccountId":"111122223333",
			"serviceEventDetails":{"keyId":"1234abcd-12ab-34cd-56ef-1234567890ab"},"eventCategory":"Management"}`},
	} {
		r, ok := cloudtrail.FromEntry(c.entry)
		if !ok {
			t.Errorf("%s: no record", name)
			continue
		}
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		var got, want any
		if err := json.Unmarshal([]byte(c.want), &want); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got\n%s\nwant\n%s", name, b, c.want)
		}
	}
}

func TestReEncryptHasTwoContexts(t *testing.T) {
	t.Parallel()
	r, _ := cloudtrail.FromEntry(entry(&audit.Call{Event: "ReEncrypt", Context: []audit.Param{
		{Name: "sourceEncryptionContext.a.b", Value: "1"}, {Name: "destinationEncryptionContext.a", Value: "2"}, {Name: "…", Value: "…[cut]"},
	}}))
	want := map[string]any{
		"sourceEncryptionContext": map[string]any{"a.b": "1"}, "destinationEncryptionContext": map[string]any{"a": "2"},
		"encryptionContext": map[string]any{"…": "…[cut]"},
	}
	if !reflect.DeepEqual(r.RequestParameters, want) {
		t.Errorf("got %v, want %v", r.RequestParameters, want)
	}
}

func TestOtherEntriesHaveNoRecord(t *testing.T) {
	t.Parallel()
	if r, ok := cloudtrail.FromEntry(entry(nil)); ok {
		t.Errorf("got %+v", r)
	}
}

// TestParametersThatAreNotWhatTheyShouldBeStayTexts: a value was cut, or an entry
// comes of another release.
func TestParametersThatAreNotWhatTheyShouldBeStayTexts(t *testing.T) {
	t.Parallel()
	r, _ := cloudtrail.FromEntry(entry(&audit.Call{Request: []audit.Param{
		{Name: "numberOfBytes", Value: "many"}, {Name: "dryRun", Value: "perhaps"}, {Name: "a", Value: "1"}, {Name: "a.b", Value: "2"}, {Name: ".c", Value: "3"}, {Name: "…", Value: "…[cut]"},
	}}))
	want := map[string]any{"numberOfBytes": "many", "dryRun": "perhaps", "a": map[string]any{"b": "2"}, ".c": "3", "…": "…[cut]"}
	if !reflect.DeepEqual(r.RequestParameters, want) {
		t.Errorf("got %v, want %v", r.RequestParameters, want)
	}
}

// TestNamesThatClientsChoseStayWhole: tags and encryption contexts have names with
// dots, and names that are those of parameters.
func TestNamesThatClientsChoseStayWhole(t *testing.T) {
	t.Parallel()
	r, _ := cloudtrail.FromEntry(entry(&audit.Call{
		Event: "CreateKey",
		Request: []audit.Param{
			{Name: "tags.cost.center", Value: "7"},
			{Name: "tags.multiRegion", Value: "true"},
			{Name: "tags.operations", Value: "a,b"},
			{Name: "tagKeys", Value: "a,b"},
			{Name: "tagKeys", Value: "c"},
			{Name: "operations", Value: "Decrypt,Encrypt"},
			{Name: "constraints.encryptionContextEquals.a.b", Value: "1"},
			{Name: "constraints.encryptionContextEquals.dryRun", Value: "true"},
			{Name: "constraints.sourceArn", Value: "x"},
			{Name: "policySha256", Value: "ab"},
			{Name: "policyLength", Value: "12"},
			{Name: "keyMaterialId", Value: "x"},
			{Name: "keyMaterialId", Value: "y"},
			{Name: "keyMaterialId", Value: "z"},
		},
		Response: []audit.Param{{Name: "keyMetadata.keyId", Value: "k"}, {Name: "keyMetadata.multiRegion", Value: "true"}},
	}))
	want := map[string]any{
		"tags": []any{
			map[string]any{"tagKey": "cost.center", "tagValue": "7"},
			map[string]any{"tagKey": "multiRegion", "tagValue": "true"},
			map[string]any{"tagKey": "operations", "tagValue": "a,b"},
		},
		"tagKeys": []any{"a,b", "c"}, "operations": []string{"Decrypt", "Encrypt"},
		"constraints": map[string]any{
			"encryptionContextEquals": map[string]any{"a.b": "1", "dryRun": "true"}, "sourceArn": "x",
		},
		"policySha256": "ab", "policyLength": int64(12), "keyMaterialId": []any{"x", "y", "z"},
	}
	if !reflect.DeepEqual(r.RequestParameters, want) {
		t.Errorf("got %v, want %v", r.RequestParameters, want)
	}
	if want := map[string]any{"keyMetadata": map[string]any{"keyId": "k", "multiRegion": true}}; !reflect.DeepEqual(r.ResponseElements, want) {
		t.Errorf("got %v, want %v", r.ResponseElements, want)
	}
}

// TestOneWithoutAnIdentityHasNoARN: the log calls the sender of a request that
// could not be authenticated anonymous.
func TestOneWithoutAnIdentityHasNoARN(t *testing.T) {
	t.Parallel()
	r, _ := cloudtrail.FromEntry(entry(&audit.Call{Event: "Unknown", Type: "Unknown", ARN: "anonymous", Key: "AKIAEXAMPLE", Error: "InvalidSignatureException"}))
	if want := (cloudtrail.UserIdentity{Type: "Unknown", AccessKeyID: "AKIAEXAMPLE"}); r.UserIdentity != want {
		t.Errorf("got %+v", r.UserIdentity)
	}
}
