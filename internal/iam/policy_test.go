package iam_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"cardea/internal/iam"
)

// stmt is a key policy with one statement, whose members are given after what every statement needs.
func stmt(members string) string {
	return `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"` + members + `}}`
}

func cond(operator, key, values string) string {
	return stmt(`,"Condition":{"` + operator + `":{"` + key + `":` + values + `}}`)
}

func repeat(n int, item string) string {
	return "[" + strings.TrimSuffix(strings.Repeat(item+",", n), ",") + "]"
}

func TestMalformedPolicyNamesThePlace(t *testing.T) {
	t.Parallel()
	const (
		id      = iam.IdentityPolicy
		trust   = iam.TrustPolicy
		arnWant = `must be "*" or an ARN, which begins with "arn:"`
		whoWant = `must be "*", an account id, or the ARN of an account's root, a user, a role or a session, in full`
		actWant = `must be "*" or have the form service:Name, where the name may hold wildcards`
		strWant = "must be a string or a list of strings"
		keyWant = "a condition key has the form prefix:name, without wildcards or variables"
	)
	for _, c := range []struct {
		kind          iam.PolicyKind // KeyPolicy if zero
		doc           string
		pointer, want string
	}{
		// JSON
		{doc: ``, want: "the document ends too early"},
		{doc: `{"Version":"2012-10-17"`, want: "the document ends too early"},
		{doc: `[]`, want: "must be an object"},
		{doc: `"x"`, want: "must be an object"},
		{doc: `{"Statement":[}`, pointer: "/Statement/0", want: "not valid JSON at byte 14"},
		{doc: "{\"Id\":\"\xff\"}", pointer: "/Id", want: "not valid JSON at byte 7"},
		{doc: stmt("") + "{}", want: "something follows the document"},
		{doc: `{"Version":"2012-10-17","Version":"2012-10-17"}`, pointer: "/Version", want: "the member is there twice"},
		{doc: stmt(`,"Effect":"Deny"`), pointer: "/Statement/Effect", want: "the member is there twice"},

		// the document
		{doc: `{}`, want: "Statement is missing"},
		{doc: `{"version":"2012-10-17"}`, pointer: "/version", want: "unknown member"},
		{doc: `{"Version":"2012-10-18"}`, pointer: "/Version", want: "must be 2012-10-17 or 2008-10-17"},
		{doc: `{"Version":20121017}`, pointer: "/Version", want: "must be a string"},
		{doc: `{"Version":null}`, pointer: "/Version", want: "must be a string"},
		{doc: `{"Id":{}}`, pointer: "/Id", want: "must be a string"},
		{doc: `{"Statement":[]}`, pointer: "/Statement", want: "the list is empty"},
		{doc: `{"Statement":"x"}`, pointer: "/Statement", want: "must be an object"},
		{doc: `{"Statement":[1]}`, pointer: "/Statement/0", want: "must be an object"},
		{doc: `{"Statement":` + repeat(501, `{"Effect":"Deny","Principal":"*"}`) + `}`, pointer: "/Statement/499", want: "there are more than 500 statements"},

		// the statement
		{doc: `{"Statement":{}}`, pointer: "/Statement", want: "Effect is missing"},
		{doc: `{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`, pointer: "/Statement/0", want: "Principal is missing"},
		{doc: `{"Statement":[{"Effect":"allow"}]}`, pointer: "/Statement/0/Effect", want: "must be Allow or Deny"},
		{doc: `{"Statement":[{"Effect":["Allow"]}]}`, pointer: "/Statement/0/Effect", want: "must be a string"},
		{doc: stmt(`,"Comment":"x"`), pointer: "/Statement/Comment", want: "unknown member"},
		{doc: stmt(`,"NotPrincipal":"*"`), pointer: "/Statement", want: "Principal and NotPrincipal exclude each other"},
		{doc: stmt(`,"NotAction":"kms:*"`), pointer: "/Statement", want: "Action and NotAction exclude each other"},
		{doc: stmt(`,"NotResource":"*"`), pointer: "/Statement", want: "Resource and NotResource exclude each other"},
		{doc: stmt(`,"Sid":7`), pointer: "/Statement/Sid", want: "must be a string"},
		{doc: stmt(`,"Sid":"a\u0000b"`), pointer: "/Statement/Sid", want: "the Sid holds characters it may not have"},
		{kind: id, doc: `{"Statement":[{"Sid":"a b"}]}`, pointer: "/Statement/0/Sid", want: "the Sid holds characters it may not have"},
		{kind: id, doc: `{"Statement":[{"Sid":"ä"}]}`, pointer: "/Statement/0/Sid", want: "the Sid holds characters it may not have"},
		{
			kind: id, doc: `{"Statement":[{"Sid":"A","Effect":"Deny","Action":"*","Resource":"*"},{"Sid":"A"}]}`,
			pointer: "/Statement/1/Sid", want: "another statement has the same Sid",
		},
		{kind: id, doc: stmt(""), pointer: "/Statement/Principal", want: "an identity policy names no principals: it belongs to one"},
		{kind: id, doc: `{"Statement":[{"Effect":"Deny","Resource":"*"}]}`, pointer: "/Statement/0", want: "Action is missing"},
		{kind: id, doc: `{"Statement":[{"Effect":"Deny","Action":"*"}]}`, pointer: "/Statement/0", want: "Resource is missing"},
		{kind: trust, doc: `{"Statement":[{"Effect":"Deny","Principal":"*"}]}`, pointer: "/Statement/0", want: "Action is missing"},
		{kind: trust, doc: `{"Statement":[{"Effect":"Deny","Action":"*"}]}`, pointer: "/Statement/0", want: "Principal is missing"},
		{kind: trust, doc: stmt(""), pointer: "/Statement/Resource", want: "a trust policy names no resource: it belongs to a role"},

		// principals
		{doc: `{"Statement":[{"Principal":"arn:aws:iam::111122223333:root"}]}`, pointer: "/Statement/0/Principal", want: `must be "*" or an object`},
		{doc: `{"Statement":[{"Principal":["*"]}]}`, pointer: "/Statement/0/Principal", want: "must be an object"},
		{doc: `{"Statement":[{"Principal":{}}]}`, pointer: "/Statement/0/Principal", want: "names no principal"},
		{doc: `{"Statement":[{"Principal":{"AWS":[]}}]}`, pointer: "/Statement/0/Principal/AWS", want: "the list is empty"},
		{doc: `{"Statement":[{"Principal":{"AWS":111122223333}}]}`, pointer: "/Statement/0/Principal/AWS", want: strWant},
		{doc: `{"Statement":[{"Principal":{"CanonicalUser":"x"}}]}`, pointer: "/Statement/0/Principal/CanonicalUser", want: "must be AWS, Service or Federated"},
		{doc: `{"Statement":[{"Principal":{"AWS":["11112222333"]}}]}`, pointer: "/Statement/0/Principal/AWS/0", want: whoWant},
		{doc: `{"Statement":[{"Principal":{"AWS":"arn:aws:iam::111122223333:user/*"}}]}`, pointer: "/Statement/0/Principal/AWS", want: whoWant},
		{doc: `{"Statement":[{"Principal":{"AWS":"arn:aws:iam::111122223333:group/admins"}}]}`, pointer: "/Statement/0/Principal/AWS", want: whoWant},
		{doc: `{"Statement":[{"Principal":{"AWS":"arn:aws:iam::*:root"}}]}`, pointer: "/Statement/0/Principal/AWS", want: whoWant},
		{doc: `{"Statement":[{"Principal":{"AWS":"arn:aws:sts::111122223333:assumed-role/r"}}]}`, pointer: "/Statement/0/Principal/AWS", want: whoWant},
		{doc: `{"Statement":[{"Principal":{"AWS":"arn:aws:iam::111122223333:user/"}}]}`, pointer: "/Statement/0/Principal/AWS", want: whoWant},
		{doc: `{"Statement":[{"NotPrincipal":{"Service":"*"}}]}`, pointer: "/Statement/0/NotPrincipal/Service", want: "must be the name of a service, as s3.amazonaws.com"},
		{doc: `{"Statement":[{"Principal":{"Service":"s3"}}]}`, pointer: "/Statement/0/Principal/Service", want: "must be the name of a service, as s3.amazonaws.com"},
		{doc: `{"Statement":[{"Principal":{"Federated":"*"}}]}`, pointer: "/Statement/0/Principal/Federated", want: "must be the name or ARN of an identity provider, in full"},

		// actions and resources
		{doc: `{"Statement":[{"Action":[]}]}`, pointer: "/Statement/0/Action", want: "the list is empty"},
		{doc: `{"Statement":[{"Action":["kms:Encrypt",["x"]]}]}`, pointer: "/Statement/0/Action/1", want: strWant},
		{doc: `{"Statement":[{"Action":true}]}`, pointer: "/Statement/0/Action", want: strWant},
		{doc: `{"Statement":[{"Action":"Encrypt"}]}`, pointer: "/Statement/0/Action", want: actWant},
		{doc: `{"Statement":[{"Action":"kms*:Encrypt"}]}`, pointer: "/Statement/0/Action", want: actWant},
		{doc: `{"Statement":[{"NotAction":"kms:"}]}`, pointer: "/Statement/0/NotAction", want: actWant},
		{doc: `{"Statement":[{"Action":"kms:${aws:username}"}]}`, pointer: "/Statement/0/Action", want: actWant},
		{doc: `{"Statement":[{"Resource":"key/*"}]}`, pointer: "/Statement/0/Resource", want: arnWant},
		{doc: `{"Statement":[{"Resource":["*",""]}]}`, pointer: "/Statement/0/Resource/1", want: arnWant},
		{doc: `{"Statement":[{"NotResource":"arn"}]}`, pointer: "/Statement/0/NotResource", want: arnWant},
		{doc: `{"Statement":[{"Resource":"arn:aws:kms:` + strings.Repeat("x", 2048) + `"}]}`, pointer: "/Statement/0/Resource", want: "longer than 2048 bytes"},
		{doc: `{"Statement":[{"Action":` + repeat(4097, `"a:b"`) + `}]}`, pointer: "/Statement/0/Action/4096", want: "the list has more than 4096 values"},

		// conditions
		{doc: stmt(`,"Condition":[]`), pointer: "/Statement/Condition", want: "must be an object"},
		{doc: stmt(`,"Condition":{"StringEquals":{}}`), pointer: "/Statement/Condition/StringEquals", want: "the operator has no condition key"},
		{doc: stmt(`,"Condition":{"StringEquals":"x"}`), pointer: "/Statement/Condition/StringEquals", want: "must be an object"},
		{doc: cond("StringMatches", "aws:username", `"x"`), pointer: "/Statement/Condition/StringMatches", want: "unknown condition operator"},
		{doc: cond("stringEquals", "aws:username", `"x"`), pointer: "/Statement/Condition/stringEquals", want: "unknown condition operator"},
		{doc: cond("ForSomeValues:StringEquals", "aws:username", `"x"`), pointer: "/Statement/Condition/ForSomeValues:StringEquals", want: "unknown condition operator"},
		{doc: cond("StringLess", "aws:username", `"x"`), pointer: "/Statement/Condition/StringLess", want: "unknown condition operator"},
		{doc: cond("NumericLess", "aws:username", `"1"`), pointer: "/Statement/Condition/NumericLess", want: "unknown condition operator"},
		{doc: cond("NullIfExists", "aws:username", `true`), pointer: "/Statement/Condition/NullIfExists", want: "operator Null takes neither IfExists nor a set operator"},
		{doc: cond("ForAnyValue:Null", "aws:username", `true`), pointer: "/Statement/Condition/ForAnyValue:Null", want: "operator Null takes neither IfExists nor a set operator"},
		{doc: cond("StringEquals", "username", `"x"`), pointer: "/Statement/Condition/StringEquals/username", want: keyWant},
		{doc: cond("StringEquals", "aws:", `"x"`), pointer: "/Statement/Condition/StringEquals/aws:", want: keyWant},
		{doc: cond("StringEquals", "a/b:c", `"x"`), pointer: "/Statement/Condition/StringEquals/a~1b:c", want: keyWant},
		{doc: cond("StringEquals", "example.com/:sub", `"x"`), pointer: "/Statement/Condition/StringEquals/example.com~1:sub", want: keyWant},
		{doc: cond("StringEquals", "${aws:username}", `"x"`), pointer: "/Statement/Condition/StringEquals/${aws:username}", want: keyWant},
		{doc: cond("StringEquals", "aws:username", `[]`), pointer: "/Statement/Condition/StringEquals/aws:username", want: "the list is empty"},
		{doc: cond("StringEquals", "aws:username", `null`), pointer: "/Statement/Condition/StringEquals/aws:username", want: "must be a string, number or boolean, or a list of them"},
		{doc: cond("StringEquals", "aws:username", `["a",{}]`), pointer: "/Statement/Condition/StringEquals/aws:username/1", want: "must be a string, number or boolean, or a list of them"},
		{
			doc:     stmt(`,"Condition":{"StringEquals":{"aws:SourceIp":"x","AWS:sourceip":"y"}}`),
			pointer: "/Statement/Condition/StringEquals/AWS:sourceip", want: "the key is there twice",
		},
		{doc: cond("Bool", "aws:SecureTransport", `"yes"`), pointer: "/Statement/Condition/Bool/aws:SecureTransport", want: "must be true or false"},
		{doc: cond("Null", "aws:SecureTransport", `["true","1"]`), pointer: "/Statement/Condition/Null/aws:SecureTransport/1", want: "must be true or false"},
		{doc: cond("NumericEquals", "aws:MultiFactorAuthAge", `"5m"`), pointer: "/Statement/Condition/NumericEquals/aws:MultiFactorAuthAge", want: "not a number"},
		{doc: cond("NumericEquals", "aws:MultiFactorAuthAge", `""`), pointer: "/Statement/Condition/NumericEquals/aws:MultiFactorAuthAge", want: "not a number of at most 15 digits"},
		{doc: cond("NumericEquals", "aws:MultiFactorAuthAge", `1234567890123456`), pointer: "/Statement/Condition/NumericEquals/aws:MultiFactorAuthAge", want: "not a number of at most 15 digits"},
		{doc: cond("NumericEquals", "aws:MultiFactorAuthAge", `"${aws:EpochTime}"`), pointer: "/Statement/Condition/NumericEquals/aws:MultiFactorAuthAge", want: "not a number"},
		{
			doc: cond("DateLessThan", "aws:CurrentTime", `"22.11.2026"`), pointer: "/Statement/Condition/DateLessThan/aws:CurrentTime",
			want: "not a date, as 2026-11-22T08:30:00Z or in seconds since 1970",
		},
		{doc: cond("IpAddress", "aws:SourceIp", `"10.0.0.0/33"`), pointer: "/Statement/Condition/IpAddress/aws:SourceIp", want: "not an IP address or a network in CIDR form"},
		{doc: cond("IpAddress", "aws:SourceIp", `"fe80::1%eth0"`), pointer: "/Statement/Condition/IpAddress/aws:SourceIp", want: "not an IP address or a network in CIDR form"},
		{doc: cond("IpAddress", "aws:SourceIp", `"::ffff:10.0.0.0/64"`), pointer: "/Statement/Condition/IpAddress/aws:SourceIp", want: "not an IP address or a network in CIDR form"},
		{doc: cond("BinaryEquals", "custom:Thing", `"a"`), pointer: "/Statement/Condition/BinaryEquals/custom:Thing", want: "not base64"},
		{doc: cond("ArnLike", "aws:SourceArn", `"user/x"`), pointer: "/Statement/Condition/ArnLike/aws:SourceArn", want: arnWant},
		{doc: cond("ArnLike", "aws:SourceArn", `"arn:aws:s3"`), pointer: "/Statement/Condition/ArnLike/aws:SourceArn", want: "an ARN has six parts divided by colons"},
		{doc: cond("StringLike", "aws:username", `"${aws:username"`), pointer: "/Statement/Condition/StringLike/aws:username", want: "a variable lacks its closing brace"},
		{doc: cond("StringLike", "aws:username", `"${}"`), pointer: "/Statement/Condition/StringLike/aws:username", want: "a variable's name is that of a condition key"},
		{doc: cond("StringLike", "aws:username", `"${aws:a b}"`), pointer: "/Statement/Condition/StringLike/aws:username", want: "a variable's name is that of a condition key"},
		{doc: cond("StringLike", "aws:username", `"${aws:username, x}"`), pointer: "/Statement/Condition/StringLike/aws:username", want: "a variable's default value stands in single quotes"},
		{doc: cond("StringLike", "aws:username", `"*`+strings.Repeat("x", 4096)+`"`), pointer: "/Statement/Condition/StringLike/aws:username", want: "longer than 4096 bytes"},
		{
			doc:     cond("ForAllValues:StringEquals", "kms:EncryptionContext:App", `"x"`),
			pointer: "/Statement/Condition/ForAllValues:StringEquals/kms:EncryptionContext:App",
			want: "OverlyPermissiveCondition: Using the ForAllValues set operator with a single-valued condition key matches requests without the " +
				"specified encryption context or with an unspecified encryption context. To fix, remove ForAllValues.",
		},
		{
			doc:     cond("ForAllValues:StringLike", "AWS:RequestTag/cost", `"x"`),
			pointer: "/Statement/Condition/ForAllValues:StringLike/AWS:RequestTag~1cost",
			want: "OverlyPermissiveCondition: Using the ForAllValues set operator with a single-valued condition key matches requests without the " +
				"specified tag or with an unspecified tag. To fix, remove ForAllValues.",
		},
	} {
		kind := c.kind
		if kind == 0 {
			kind = iam.KeyPolicy
		}
		_, err := iam.ParsePolicy(kind, []byte(c.doc))
		var m *iam.MalformedPolicyError
		if !errors.As(err, &m) {
			t.Errorf("%.120s: error %v, want a MalformedPolicyError", c.doc, err)
			continue
		}
		if m.Pointer != c.pointer || m.Problem != c.want {
			t.Errorf("%.120s:\n got  %q %q\n want %q %q", c.doc, m.Pointer, m.Problem, c.pointer, c.want)
		}
		want := "malformed policy document at " + c.pointer + ": " + c.want
		if c.pointer == "" {
			want = "malformed policy document: " + c.want
		}
		if err.Error() != want {
			t.Errorf("got %q, want %q", err, want)
		}
	}
}

func TestTooManyConditionsAreRefused(t *testing.T) {
	t.Parallel()
	var keys []string
	for i := range 257 {
		keys = append(keys, fmt.Sprintf(`"aws:RequestTag/%d":"x"`, i))
	}
	_, err := iam.ParsePolicy(iam.KeyPolicy, []byte(stmt(`,"Condition":{"StringEquals":{`+strings.Join(keys, ",")+`}}`)))
	want := "malformed policy document at /Statement/Condition/StringEquals/aws:RequestTag~1256: the statement has more than 256 conditions"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestPolicySizeLimit(t *testing.T) {
	t.Parallel()
	doc := stmt("")
	full := doc + strings.Repeat(" ", iam.MaxPolicyBytes-len(doc))
	if _, err := iam.ParsePolicy(iam.KeyPolicy, []byte(full)); err != nil {
		t.Errorf("%d bytes: %v", len(full), err)
	}
	_, err := iam.ParsePolicy(iam.KeyPolicy, []byte(full+" "))
	if !errors.Is(err, iam.ErrPolicyTooLarge) || err.Error() != "policy document is longer than 32768 bytes" {
		t.Errorf("%d bytes: %v", len(full)+1, err)
	}
}

func TestParsePolicyRefusesUnknownKind(t *testing.T) {
	t.Parallel()
	if _, err := iam.ParsePolicy(0, []byte(stmt(""))); err == nil || err.Error() != "parse policy: unknown kind of policy" {
		t.Errorf("got %v", err)
	}
}

func TestEncodeIsCanonical(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		kind      iam.PolicyKind
		doc, want string
	}{
		{
			"everything", iam.KeyPolicy,
			`{ "Statement" : [ { "Resource": ["*"], "Condition": {
			     "StringLike": {"kms:ViaService": ["s3.*", "ec2.*"]},
			     "Bool": {"kms:GrantIsForAWSResource": true, "aws:SecureTransport": ["true"]},
			     "NumericLessThan": {"kms:RotationPeriodInDays": 180}},
			   "Principal": {"Federated": "accounts.google.com", "Service": ["s3.amazonaws.com"], "AWS": ["111122223333", "arn:aws-cn:iam::444455556666:root", "*"]},
			   "Action": ["kms:Encrypt"], "Effect": "Allow", "Sid": "a \u0022b\u0022 / ä" }, {"NotPrincipal": "*", "Effect": "Deny", "NotAction": "kms:Get*", "NotResource": "arn:aws:kms"} ],
			   "Id": "k", "Version": "2012-10-17" }`,
			`{"Version":"2012-10-17","Id":"k","Statement":[{"Sid":"a \"b\" / ä","Effect":"Allow",` +
				`"Principal":{"AWS":["arn:aws:iam::111122223333:root","arn:aws-cn:iam::444455556666:root","*"],"Service":"s3.amazonaws.com","Federated":"accounts.google.com"},` +
				`"Action":"kms:Encrypt","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"true","kms:GrantIsForAWSResource":"true"},` +
				`"NumericLessThan":{"kms:RotationPeriodInDays":"180"},"StringLike":{"kms:ViaService":["s3.*","ec2.*"]}}},` +
				`{"Effect":"Deny","NotPrincipal":{"AWS":"*"},"NotAction":"kms:Get*","NotResource":"arn:aws:kms"}]}`,
		},
		{
			"no version, empty Sid and Condition", iam.IdentityPolicy,
			`{"Statement":{"Sid":"","Effect":"Deny","Action":"*","Resource":"*","Condition":{}}}`,
			`{"Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}`,
		},
		{
			"trust", iam.TrustPolicy,
			`{"Version":"2008-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"AROAEXAMPLEROLE0"},"Action":["sts:AssumeRole","sts:TagSession"]}}`,
			`{"Version":"2008-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"AROAEXAMPLEROLE0"},"Action":["sts:AssumeRole","sts:TagSession"]}]}`,
		},
	} {
		p, err := iam.ParsePolicy(c.kind, []byte(c.doc))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		got := p.Encode()
		if string(got) != c.want {
			t.Errorf("%s:\n got  %s\n want %s", c.name, got, c.want)
		}
		again, err := iam.ParsePolicy(c.kind, got)
		if err != nil || !reflect.DeepEqual(again.Document(), p.Document()) || p.Kind() != c.kind {
			t.Errorf("%s: %v, parsed again differs", c.name, err)
		}
	}
}

// A condition key's variables count whether the Version stands before or after them.
func TestVariablesNeedVersion2012(t *testing.T) {
	t.Parallel()
	const s = `"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:userid":"${aws:username}"}}}`
	for doc, want := range map[string]bool{
		`{"Version":"2012-10-17",` + s + `}`: true,
		`{` + s + `,"Version":"2012-10-17"}`: true,
		`{"Version":"2008-10-17",` + s + `}`: false,
		`{` + s + `}`:                        false,
	} {
		p, err := iam.ParsePolicy(iam.IdentityPolicy, []byte(doc))
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Uses("AWS:UserName"); got != want {
			t.Errorf("%s: variables %v, want %v", doc, got, want)
		}
		if !p.Uses("aws:userid") || p.Uses("aws:SourceIp") {
			t.Errorf("%s: Uses is wrong", doc)
		}
	}
}

func TestPrincipalsOfAPolicy(t *testing.T) {
	t.Parallel()
	p, err := iam.ParsePolicy(iam.KeyPolicy, []byte(`{"Statement":[
	  {"Effect":"Allow","Principal":{"AWS":["111122223333","arn:aws:iam::111122223333:root","arn:aws:iam::111122223333:role/a/b","AIDAEXAMPLEGHOST"]}},
	  {"Effect":"Allow","Principal":{"Service":"s3.amazonaws.com","AWS":"arn:aws:sts::444455556666:assumed-role/r/s"}},
	  {"Effect":"Deny","Principal":"*"},
	  {"Effect":"Deny","NotPrincipal":{"AWS":["arn:aws:iam::111122223333:user/x","arn:aws:sts::111122223333:federated-user/y"]}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		effect iam.Effect
		not    bool
		want   string
	}{
		{iam.Allow, false, "[{Account arn:aws:iam::111122223333:root} {Role arn:aws:iam::111122223333:role/a/b} " +
			"{RoleSession arn:aws:sts::444455556666:assumed-role/r/s} {Service s3.amazonaws.com} {UniqueID AIDAEXAMPLEGHOST}]"},
		{iam.Deny, false, "[{Everyone *}]"},
		{iam.Deny, true, "[{FederatedUser arn:aws:sts::111122223333:federated-user/y} {User arn:aws:iam::111122223333:user/x}]"},
		{iam.Allow, true, "[]"},
	} {
		got := p.Principals(c.effect, c.not)
		if fmt.Sprint(got) != c.want {
			t.Errorf("%s, not %v:\n got  %v\n want %s", c.effect, c.not, got, c.want)
		}
		for _, who := range got {
			if strings.Contains(who.Value, "444455556666") != (who.Account() == "444455556666") {
				t.Errorf("%v belongs to account %q", who, who.Account())
			}
		}
	}
	if s := p.Document().Statements[0]; !s.Inert() {
		t.Error("a statement without Action is not inert")
	}
}

func TestParseARN(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		testKey, "arn:aws:iam::111122223333:user/a/b", "arn:aws:s3:::bucket", "arn:aws-us-gov:kms:us-gov-west-1:111122223333:alias/a:b:c",
		"arn:aws:iam::aws:policy/ReadOnlyAccess",
	} {
		a, err := iam.ParseARN(s)
		if err != nil || a.String() != s {
			t.Errorf("%s: %v, %v", s, a, err)
		}
	}
	for s, want := range map[string]string{
		"":                         "invalid ARN: it has the form arn:partition:service:region:account:resource",
		"arn:aws:kms:us-west-2:1":  "invalid ARN: it has the form arn:partition:service:region:account:resource",
		"ARN:aws:s3:::x":           "invalid ARN: it has the form arn:partition:service:region:account:resource",
		"arn::s3:::x":              "invalid ARN: no partition",
		"arn:aws::::x":             "invalid ARN: no service",
		"arn:aws:s3:::":            "invalid ARN: no resource",
		"arn:aws:iam::1:root":      "invalid ARN: the account is not 12 digits",
		"arn:aws:s3:::a\x00":       "invalid ARN: it holds control characters or is not UTF-8",
		"arn:aws:s3:::\xff":        "invalid ARN: it holds control characters or is not UTF-8",
		strings.Repeat("a", 2049):  "invalid ARN: longer than 2048 bytes",
		"arn:aws:s3::11112222333٣": "invalid ARN: it has the form arn:partition:service:region:account:resource",
	} {
		if _, err := iam.ParseARN(s); !errors.Is(err, iam.ErrInvalidARN) || err.Error() != want {
			t.Errorf("%.40q: got %v, want %s", s, err, want)
		}
	}
}
