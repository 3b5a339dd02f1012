package iam_test

import (
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"cardea/internal/iam"
)

// holds asks whether one condition holds in a statement with the effect.
func holds(t *testing.T, effect iam.Effect, operator, key, values string, q iam.Query) bool {
	t.Helper()
	p, err := iam.ParsePolicy(iam.IdentityPolicy, []byte(`{"Version":"2012-10-17","Statement":{"Effect":"`+string(effect)+
		`","Action":"*","Resource":"*","Condition":{"`+operator+`":{"`+key+`":`+values+`}}}}`))
	if err != nil {
		t.Fatalf("%s %s %s: %v", operator, key, values, err)
	}
	v := iam.Decide(&q, &iam.Policies{IdentityOnly: true, Identity: []iam.NamedPolicy{{Policy: p}}})
	return v.Allowed || v.Reason == iam.DeniedExplicitly
}

func TestConditionOperators(t *testing.T) {
	t.Parallel()
	str := func(s ...string) (out []iam.Value) {
		for _, s := range s {
			out = append(out, iam.String(s))
		}
		return out
	}
	num := func(n int64) []iam.Value { return []iam.Value{iam.Number(n)} }
	ip := func(s string) []iam.Value { return []iam.Value{iam.IP(netip.MustParseAddr(s))} }
	boolean := func(b bool) []iam.Value { return []iam.Value{iam.Bool(b)} }
	date := func(s string) []iam.Value {
		d, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			t.Fatal(err)
		}
		return []iam.Value{iam.Date(d)}
	}
	const one, many = "custom:Thing", "kms:ResourceAliases"
	for _, c := range []struct {
		operator, key, values string
		request               []iam.Value
		want                  bool
	}{
		// strings
		{"StringEquals", one, `"a"`, str("a"), true},
		{"StringEquals", one, `["b","a"]`, str("a"), true},
		{"StringEquals", one, `"a"`, str("A"), false},
		{"StringEquals", one, `"*"`, str("a"), false},
		{"StringEquals", one, `"a"`, nil, false},
		{"StringEquals", one, `""`, str(""), true},
		{"StringEquals", one, `true`, boolean(true), true},
		{"StringEquals", one, `365`, num(365), true},
		{"StringEquals", one, `"10.0.0.1"`, ip("10.0.0.1"), true},
		{"StringNotEquals", one, `"a"`, str("b"), true},
		{"StringNotEquals", one, `["a","b"]`, str("b"), false},
		{"StringNotEquals", one, `"a"`, nil, true},
		{"StringEqualsIgnoreCase", one, `"aB"`, str("Ab"), true},
		{"StringEqualsIgnoreCase", one, `"k"`, str("\u212a"), false}, // the Kelvin sign is no k
		{"StringNotEqualsIgnoreCase", one, `"aB"`, str("Ab"), false},
		{"StringNotEqualsIgnoreCase", one, `"aB"`, nil, true},
		{"StringLike", one, `"a*c?"`, str("abbcd"), true},
		{"StringLike", one, `"a*c?"`, str("abbc"), false},
		{"StringLike", one, `"*"`, str(""), true},
		{"StringLike", one, `"*"`, nil, false},
		{"StringLike", one, `"?"`, str("ä"), true},
		{"StringLike", one, `"${*}${?}"`, str("*?"), true},
		{"StringLike", one, `"${*}"`, str("a"), false},
		{"StringEquals", one, `"${$}{x}"`, str("${x}"), true},
		{"StringEquals", one, `"a$b"`, str("a$b"), true},
		{"StringNotLike", one, `"a*"`, str("ab"), false},
		{"StringNotLike", one, `"a*"`, str("b"), true},
		{"StringNotLike", one, `"a*"`, nil, true},

		// numbers
		{"NumericEquals", one, `"5.0"`, num(5), true},
		{"NumericEquals", one, `5`, str("5"), true},
		{"NumericEquals", one, `5`, str("five"), false},
		{"NumericEquals", one, `5`, nil, false},
		{"NumericNotEquals", one, `5`, num(6), true},
		{"NumericNotEquals", one, `[5,6]`, num(6), false},
		{"NumericNotEquals", one, `5`, nil, true},
		{"NumericNotEquals", one, `5`, boolean(true), true},
		{"NumericLessThan", one, `"-1"`, num(-2), true},
		{"NumericLessThan", one, `5`, num(5), false},
		{"NumericLessThanEquals", one, `"5"`, num(5), true},
		{"NumericLessThanEquals", one, `["4","9"]`, num(5), true},
		{"NumericLessThanEquals", one, `5`, num(6), false},
		{"NumericGreaterThan", one, `5`, num(5), false},
		{"NumericGreaterThan", one, `4.5`, num(5), true},
		{"NumericGreaterThanEquals", one, `999999999999999`, num(999999999999999), true},
		{"NumericGreaterThanEquals", one, `999999999999999`, num(999999999999998), false},
		{"NumericLessThanEquals", one, `"1483257599.0"`, date("2017-01-01T07:59:59Z"), true},
		{"NumericLessThanEquals", one, `"1483257599.0"`, date("2017-01-01T08:00:00Z"), false},

		// dates
		{"DateEquals", one, `"2026-11-22T08:30:00Z"`, date("2026-11-22T09:30:00+01:00"), true},
		{"DateEquals", one, `"2026-11-22T08:30Z"`, date("2026-11-22T08:30:00Z"), true},
		{"DateEquals", one, `1795336200`, date("2026-11-22T08:30:00Z"), true},
		{"DateEquals", one, `"2026"`, date("2026-01-01T00:00:00Z"), true},
		{"DateEquals", one, `"2026-11"`, date("2026-11-01T00:00:00Z"), true},
		{"DateEquals", one, `"2026-11-22"`, str("2026-11-22T00:00:00Z"), true},
		{"DateEquals", one, `"2026-11-22"`, num(1795305600), true},
		{"DateEquals", one, `"2026-11-22"`, str("yesterday"), false},
		{"DateEquals", one, `"2026-11-22"`, boolean(true), false},
		{"DateNotEquals", one, `"2026-11-22"`, date("2026-11-22T00:00:00.000001Z"), true},
		{"DateNotEquals", one, `"2026-11-22"`, nil, true},
		{"DateLessThan", one, `"2026-11-22T08:30:00.5Z"`, date("2026-11-22T08:30:00.4Z"), true},
		{"DateLessThan", one, `"2026-11-22"`, date("2026-11-22T00:00:00Z"), false},
		{"DateLessThanEquals", one, `"2026-11-22"`, date("2026-11-22T00:00:00Z"), true},
		{"DateGreaterThan", one, `"2026-11-22"`, date("2026-11-22T00:00:00Z"), false},
		{"DateGreaterThan", one, `"2026-11-22"`, nil, false},
		{"DateGreaterThanEquals", one, `"2026-11-22"`, date("9999-12-31T00:00:00Z"), true},

		// booleans, binaries
		{"Bool", one, `true`, boolean(true), true},
		{"Bool", one, `"True"`, boolean(true), true},
		{"Bool", one, `"false"`, boolean(true), false},
		{"Bool", one, `"false"`, boolean(false), true},
		{"Bool", one, `"true"`, str("TRUE"), true},
		{"Bool", one, `"true"`, str("1"), false},
		{"Bool", one, `["true","false"]`, boolean(false), true},
		{"Bool", one, `"false"`, nil, false},
		{"Bool", one, `"${aws:PrincipalIsAWSService}"`, boolean(false), true},
		{"BinaryEquals", one, `"QmluYXJ5"`, []iam.Value{iam.Binary([]byte("Binary"))}, true},
		{"BinaryEquals", one, `"QmluYXJ5"`, str("QmluYXJ5"), true},
		{"BinaryEquals", one, `"QmluYXJ5"`, []iam.Value{iam.Binary([]byte("binary"))}, false},
		{"BinaryEquals", one, `"QmluYXJ5"`, num(1), false},
		{"StringEquals", one, `"QmluYXJ5"`, []iam.Value{iam.Binary([]byte("Binary"))}, true},

		// addresses
		{"IpAddress", one, `"203.0.113.0/24"`, ip("203.0.113.255"), true},
		{"IpAddress", one, `"203.0.113.9/24"`, ip("203.0.113.1"), true},
		{"IpAddress", one, `"203.0.113.0/24"`, ip("203.0.114.0"), false},
		{"IpAddress", one, `"203.0.113.7"`, ip("203.0.113.7"), true},
		{"IpAddress", one, `"203.0.113.7"`, ip("203.0.113.8"), false},
		{"IpAddress", one, `["203.0.113.0/24","2001:DB8:1234:5678::/64"]`, ip("2001:db8:1234:5678::1"), true},
		{"IpAddress", one, `"0.0.0.0/0"`, ip("::ffff:1.2.3.4"), true},
		{"IpAddress", one, `"0.0.0.0/0"`, ip("2001:db8::1"), false},
		{"IpAddress", one, `"::ffff:10.0.0.0/104"`, ip("10.9.9.9"), true},
		{"IpAddress", one, `"fe80::/10"`, ip("fe80::1%eth0"), true},
		{"IpAddress", one, `"10.0.0.0/8"`, str("10.0.0.1"), true},
		{"IpAddress", one, `"10.0.0.0/8"`, str("10.0.0"), false},
		{"IpAddress", one, `"10.0.0.0/8"`, boolean(true), false},
		{"IpAddress", one, `"10.0.0.0/8"`, []iam.Value{iam.IP(netip.Addr{})}, false},
		{"IpAddress", one, `"10.0.0.0/8"`, nil, false},
		{"NotIpAddress", one, `["10.0.0.0/8","192.0.2.0/24"]`, ip("192.0.2.1"), false},
		{"NotIpAddress", one, `"10.0.0.0/8"`, ip("192.0.2.1"), true},
		{"NotIpAddress", one, `"10.0.0.0/8"`, nil, true},

		// ARNs
		{"ArnEquals", one, `"arn:aws:iam::*:role/app"`, str("arn:aws:iam::111122223333:role/app"), true},
		{"ArnLike", one, `"arn:aws:iam::*:role/a*"`, str("arn:aws:iam::111122223333:role/team/app"), false},
		{"ArnLike", one, `"arn:aws:iam::*:role/*app"`, str("arn:aws:iam::111122223333:role/team/app"), true},
		{"ArnLike", one, `"arn:aws:someservice:*:111122223333:finance/*"`, str("arn:aws:someservice:us-east-2:999999999999:store/abc:111122223333:finance/document.txt"), false},
		{"StringLike", one, `"arn:aws:someservice:*:111122223333:finance/*"`, str("arn:aws:someservice:us-east-2:999999999999:store/abc:111122223333:finance/document.txt"), true},
		{"ArnLike", one, `"arn:aws:logs:us-west-2:111122223333:*"`, str("arn:aws:logs:us-west-2:111122223333:log-group:a:b"), true},
		{"ArnLike", one, `"arn:aws:iam::${aws:PrincipalAccount}:user/*"`, str("arn:aws:iam::111122223333:user/x"), true},
		{"ArnLike", one, `"arn:aws:iam::${aws:PrincipalAccount}:user/*"`, str("arn:aws:iam::444455556666:user/x"), false},
		{"ArnLike", one, `"*"`, str("arn:aws:s3:::b"), true},
		{"ArnLike", one, `"*"`, str("b"), false},
		{"ArnLike", one, `"*"`, nil, false},
		{"ArnNotEquals", one, `"arn:aws:s3:::a"`, str("arn:aws:s3:::b"), true},
		{"ArnNotLike", one, `"arn:aws:s3:::*"`, str("arn:aws:s3:::b"), false},
		{"ArnNotLike", one, `"arn:aws:s3:::*"`, str("no ARN"), true},
		{"ArnNotLike", one, `"arn:aws:s3:::*"`, nil, true},

		// presence
		{"Null", one, `true`, nil, true},
		{"Null", one, `"true"`, str("a"), false},
		{"Null", one, `false`, str(""), true},
		{"Null", one, `["true","false"]`, nil, true},
		{"Null", many, `false`, str(""), false}, // an empty set
		{"StringEqualsIfExists", one, `"a"`, nil, true},
		{"StringEqualsIfExists", one, `"a"`, str("b"), false},
		{"StringNotEqualsIfExists", one, `"a"`, nil, true},
		{"StringNotEqualsIfExists", one, `"a"`, str("a"), false},
		{"BoolIfExists", one, `true`, nil, true},
		{"BoolIfExists", one, `true`, boolean(false), false},
		{"NotIpAddressIfExists", one, `"10.0.0.0/8"`, ip("10.0.0.1"), false},
		{"ArnLikeIfExists", one, `"arn:aws:s3:::*"`, nil, true},
		{"NumericLessThanIfExists", one, `5`, nil, true},

		// sets
		{"ForAllValues:StringEquals", many, `["a","b"]`, str("a", "b", "a"), true},
		{"ForAllValues:StringEquals", many, `["a","b"]`, str("a", "c"), false},
		{"ForAllValues:StringEquals", many, `"a"`, nil, true},
		{"ForAllValues:StringEquals", many, `"a"`, str(""), true},
		{"ForAllValues:StringLike", many, `["alias/a*","alias/b*"]`, str("alias/ab", "alias/bc"), true},
		{"ForAllValues:StringNotEquals", many, `["a","b"]`, str("c", "d"), true},
		{"ForAllValues:StringNotEquals", many, `["a","b"]`, str("c", "b"), false},
		{"ForAllValues:StringEqualsIfExists", many, `"a"`, str("b"), false},
		{"ForAnyValue:StringEquals", many, `["a","b"]`, str("x", "b"), true},
		{"ForAnyValue:StringEquals", many, `["a","b"]`, str("x", "y"), false},
		{"ForAnyValue:StringEquals", many, `"a"`, nil, false},
		{"ForAnyValue:StringEquals", many, `""`, str(""), false},
		{"ForAnyValue:StringEqualsIfExists", many, `"a"`, nil, true},
		{"ForAnyValue:StringNotEquals", many, `"a"`, str("a", "b"), true},
		{"ForAnyValue:StringNotEquals", many, `"a"`, str("a", "a"), false},
		{"ForAnyValue:StringNotEquals", many, `"a"`, nil, false},
		{"ForAllValues:StringEquals", one, `["a","b"]`, str("a"), true},
		// a key with several values without a set operator: any, and for negated ones none
		{"StringEquals", many, `"a"`, str("a", "b"), true},
		{"StringNotEquals", many, `"a"`, str("a", "b"), false},
		{"StringNotEquals", many, `"c"`, str("a", "b"), true},
	} {
		q := iam.Query{Caller: user("alice"), Action: "kms:Encrypt", Resource: testKey, Time: testTime, Context: &iam.Context{}}
		q.Context.Add(c.key, c.request...)
		for _, effect := range []iam.Effect{iam.Allow, iam.Deny} {
			if got := holds(t, effect, c.operator, c.key, c.values, q); got != c.want {
				t.Errorf("%s %s %s of %d values, %s: got %v", c.operator, c.key, c.values, len(c.request), effect, got)
			}
		}
	}
}

func user(name string) iam.Caller {
	return iam.Caller{
		Type: iam.CallerUser, ARN: "arn:aws:iam::" + testAccount + ":user/" + name, Account: testAccount,
		ID: "AIDAEXAMPLE" + strings.ToUpper(name),
	}
}

// Where AWS's language has no answer, a condition fails in an Allow and holds in a Deny.
func TestConditionsWithoutAnswerAreCareful(t *testing.T) {
	t.Parallel()
	q := iam.Query{Caller: user("alice"), Action: "kms:Encrypt", Resource: testKey, Context: &iam.Context{}}
	q.Caller.Tags = []iam.Tag{{"twice", "a"}, {"Twice", "b"}}
	q.Context.Add("custom:Two", iam.String("a"), iam.String("b"))
	q.Context.Add("custom:One", iam.String("a"))
	for _, c := range []struct {
		operator, key, values string
		allow, deny           bool
	}{
		// two values of a key that should have one
		{"StringEquals", "custom:Two", `"a"`, false, true},
		{"StringNotEquals", "custom:Two", `"x"`, false, true},
		{"StringEqualsIfExists", "custom:Two", `"a"`, false, true},
		{"StringEquals", "aws:PrincipalTag/TWICE", `"a"`, false, true},
		// a variable without a value matches nothing
		{"StringEquals", "custom:One", `"${aws:PrincipalTag/none}"`, false, false},
		{"StringNotEquals", "custom:One", `"${aws:PrincipalTag/none}"`, false, true},
		{"StringNotEquals", "custom:One", `["${aws:PrincipalTag/none}","a"]`, false, false},
		{"StringEquals", "custom:One", `["${aws:PrincipalTag/none}","a"]`, true, true},
		{"StringNotLike", "custom:One", `"${aws:PrincipalTag/twice}*"`, false, true},
		{"ForAllValues:StringNotEquals", "custom:One", `"${aws:PrincipalTag/none}"`, false, true},
		{"ForAnyValue:StringNotEquals", "custom:One", `"${aws:PrincipalTag/none}"`, false, true},
		{"StringNotEquals", "custom:One", `"${aws:PrincipalTag/none, 'b'}"`, true, true},
	} {
		if got := holds(t, iam.Allow, c.operator, c.key, c.values, q); got != c.allow {
			t.Errorf("%s %s %s in an Allow: got %v", c.operator, c.key, c.values, got)
		}
		if got := holds(t, iam.Deny, c.operator, c.key, c.values, q); got != c.deny {
			t.Errorf("%s %s %s in a Deny: got %v", c.operator, c.key, c.values, got)
		}
	}
}

func TestVariables(t *testing.T) {
	t.Parallel()
	q := iam.Query{Caller: user("team/alice"), Action: "kms:Encrypt", Resource: testKey, Time: testTime, Context: &iam.Context{}}
	q.Caller.Tags = []iam.Tag{{"Dept", "a*b"}}
	q.Context.Add("aws:SourceIp", iam.IP(netip.MustParseAddr("192.0.2.1")))
	for _, c := range []struct {
		operator, values, request string
		want                      bool
	}{
		{"StringEquals", `"home/${aws:username}"`, "home/alice", true},
		{"StringEquals", `"${AWS:UserName}"`, "alice", true},
		{"StringEquals", `"${aws:userid}"`, "AIDAEXAMPLETEAM/ALICE", true},
		{"StringLike", `"${aws:PrincipalTag/dept}/*"`, "a*b/x", true},
		{"StringLike", `"${aws:PrincipalTag/dept}/*"`, "aXb/x", false},
		{"StringLike", `"*/${aws:PrincipalTag/dept}"`, "x/aXb", false},
		{"StringLike", `"*-${aws:username}-*"`, "x-bob-x-alice-x", true},
		{"StringEqualsIgnoreCase", `"${aws:username}"`, "ALICE", true},
		{"StringEquals", `"${aws:PrincipalTag/none, 'company-wide'}"`, "company-wide", true},
		{"StringEquals", `"${aws:username,'x'}"`, "alice", true},
		{"StringEquals", `"${aws:PrincipalTag/none, ''}"`, "", true},
		{"StringEquals", `"${aws:SourceIp}"`, "192.0.2.1", true},
		{"StringEquals", `"${aws:CurrentTime}"`, "2026-11-22T08:30:00Z", true},
		{"StringEquals", `"${aws:EpochTime}"`, "1795336200", true},
		{"StringEquals", `"${aws:PrincipalAccount}${$}${aws:PrincipalType}"`, "111122223333$User", true},
		{"ArnLike", `"arn:aws:s3:::${aws:username}/*"`, "arn:aws:s3:::alice/x", true},
		{"StringEquals", `"${aws:TokenIssueTime}"`, "", false},
	} {
		q.Context.Reset()
		q.Context.Add("aws:SourceIp", iam.IP(netip.MustParseAddr("192.0.2.1")))
		q.Context.Add("custom:Thing", iam.String(c.request))
		if got := holds(t, iam.Allow, c.operator, "custom:Thing", c.values, q); got != c.want {
			t.Errorf("%s %s with %q: got %v", c.operator, c.values, c.request, got)
		}
	}
}

// Keys that follow from the caller are not to be had from the request.
func TestDerivedKeys(t *testing.T) {
	t.Parallel()
	role := iam.Caller{
		Type: iam.CallerRole, ARN: "arn:aws:iam::" + testAccount + ":role/path/app", Session: "arn:aws:sts::" + testAccount + ":assumed-role/app/s1",
		Account: testAccount, ID: "AROAEXAMPLEROLE0:s1", Issued: testTime.Add(-time.Hour), SourceIdentity: "bob",
	}
	mfa := user("alice")
	mfa.Issued, mfa.MFA = testTime.Add(-time.Minute), testTime.Add(-time.Minute)
	noSession := user("alice")
	noSession.MFA = testTime // means nothing: long-term credentials have no second factor
	federated := iam.Caller{
		Type: iam.CallerFederated, ARN: user("alice").ARN, Session: "arn:aws:sts::" + testAccount + ":federated-user/x",
		Account: testAccount, ID: testAccount + ":x", Issued: testTime,
	}
	root := iam.Caller{Type: iam.CallerRoot, ARN: "arn:aws:iam::" + testAccount + ":root", Account: testAccount, ID: testAccount}
	service := iam.Caller{Type: iam.CallerService, Services: []string{"s3.amazonaws.com", "s3.us-west-2.amazonaws.com"}}
	for _, c := range []struct {
		who  iam.Caller
		key  string
		want string // empty: absent
	}{
		{user("alice"), "aws:PrincipalArn", "arn:aws:iam::111122223333:user/alice"},
		{user("alice"), "aws:username", "alice"},
		{user("alice"), "aws:userid", "AIDAEXAMPLEALICE"},
		{user("alice"), "aws:PrincipalType", "User"},
		{user("alice"), "aws:PrincipalAccount", testAccount},
		{user("alice"), "kms:CallerAccount", testAccount},
		{user("alice"), "aws:ResourceAccount", testAccount},
		{user("alice"), "aws:PrincipalIsAWSService", "false"},
		{user("alice"), "aws:TokenIssueTime", ""},
		{user("alice"), "aws:MultiFactorAuthPresent", ""},
		{user("alice"), "aws:MultiFactorAuthAge", ""},
		{user("alice"), "aws:SourceIdentity", ""},
		{user("alice"), "aws:PrincipalServiceName", ""},
		{user("alice"), "aws:PrincipalTag/any", ""},
		{noSession, "aws:MultiFactorAuthPresent", ""},
		{noSession, "aws:MultiFactorAuthAge", ""},
		{mfa, "aws:MultiFactorAuthPresent", "true"},
		{mfa, "aws:MultiFactorAuthAge", "60"},
		{mfa, "aws:CurrentTime", "2026-11-22T08:30:00Z"},
		{role, "aws:PrincipalArn", "arn:aws:iam::111122223333:role/path/app"},
		{role, "aws:username", ""},
		{role, "aws:userid", "AROAEXAMPLEROLE0:s1"},
		{role, "aws:PrincipalType", "AssumedRole"},
		{role, "aws:MultiFactorAuthPresent", "false"},
		{role, "aws:MultiFactorAuthAge", ""},
		{role, "aws:TokenIssueTime", "2026-11-22T07:30:00Z"},
		{role, "aws:SourceIdentity", "bob"},
		{federated, "aws:PrincipalArn", "arn:aws:sts::111122223333:federated-user/x"},
		{federated, "aws:PrincipalType", "FederatedUser"},
		{root, "aws:PrincipalType", "Account"},
		{root, "aws:PrincipalArn", "arn:aws:iam::111122223333:root"},
		{service, "aws:PrincipalIsAWSService", "true"},
		{service, "aws:PrincipalServiceName", "s3.amazonaws.com"},
		{service, "aws:PrincipalArn", ""},
		{service, "aws:PrincipalType", ""},
		{service, "kms:CallerAccount", ""},
	} {
		q := iam.Query{Caller: c.who, Action: "kms:Encrypt", Resource: testKey, Time: testTime, Context: &iam.Context{}}
		q.Context.Add(c.key, iam.String("forged"))
		operator, values := "StringEquals", `"`+c.want+`"`
		if c.want == "" {
			operator, values = "Null", `true`
		}
		p, err := iam.ParsePolicy(iam.KeyPolicy, []byte(cond(operator, c.key, values)))
		if err != nil {
			t.Fatal(err)
		}
		if v := iam.Decide(&q, &iam.Policies{Resource: p}); v.Reason != iam.AllowedByResource {
			t.Errorf("%s for %s is not %q: %v", c.key, c.who.Name(), c.want, v)
		}
	}
}

// The specification lists exactly the keys that the code knows, with their types.
func TestSpecificationListsConditionKeys(t *testing.T) {
	t.Parallel()
	spec, err := os.ReadFile("../../docs/spec/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `((?:aws|kms):[^`]+)` \\| ([^|]+) \\| ([^|]*) \\|").FindAllStringSubmatch(string(spec), -1) {
		rows[m[1]] = m[2] + "|" + m[3]
	}
	prev := ""
	for _, k := range iam.ConditionKeys() {
		if lower := strings.ToLower(k.Name); lower <= prev {
			t.Errorf("%s is out of order", k.Name)
		} else {
			prev = lower
		}
		name, kind, from := k.Name, string(k.Type), "request"
		if strings.HasSuffix(name, "/") || strings.HasSuffix(name, ":") {
			name += "…"
		}
		if k.Multivalued {
			kind += ", several"
		}
		if k.Derived {
			from = "derived"
		}
		if got := rows[name]; got != kind+"|"+from {
			t.Errorf("docs/spec/policy.md has %q for %s, want %q", got, name, kind+"|"+from)
		}
		delete(rows, name)
	}
	for name := range rows {
		t.Errorf("docs/spec/policy.md lists %s, which the code does not know", name)
	}
}

// TestConditionKeysWithSlashes: of tags, and of identity providers whose URL has a path.
func TestConditionKeysWithSlashes(t *testing.T) {
	t.Parallel()
	for _, key := range []string{
		"aws:ResourceTag/Team", "aws:PrincipalTag/cost/center", "aws:RequestTag/Cost Center", "kms:EncryptionContext:a/b", "ec2:ResourceTag/x",
		"oidc.eks.us-east-1.amazonaws.com/id/EXAMPLE:sub", "token.actions.githubusercontent.com:sub", "sso.example.org/auth/realms/x:aud",
	} {
		doc := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:*","Resource":"*","Condition":{"StringEquals":{"` + key + `":"x"}}}]}`
		if _, err := iam.ParsePolicy(iam.IdentityPolicy, []byte(doc)); err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
}
