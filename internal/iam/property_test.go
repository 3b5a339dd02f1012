package iam_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	json "github.com/go-json-experiment/json"

	"cardea/internal/iam"
)

// The properties draw documents and requests from a small world, in which
// statements apply often.

type jsonObject = map[string]any

func drawStatement(t *rapid.T, label string, kind iam.PolicyKind, effect string) jsonObject {
	pick := func(name string, from ...string) string { return rapid.SampledFrom(from).Draw(t, label+name) }
	list := func(name string, from ...string) []string {
		return rapid.SliceOfN(rapid.SampledFrom(from), 1, 3).Draw(t, label+name)
	}
	s := jsonObject{"Effect": effect}
	if effect == "" {
		s["Effect"] = pick("effect", "Allow", "Deny", "Allow")
	}
	if kind == iam.KeyPolicy {
		name := pick("principal element", "Principal", "Principal", "Principal", "NotPrincipal")
		if rapid.Bool().Draw(t, label+"everyone") {
			s[name] = "*"
		} else {
			s[name] = jsonObject{"AWS": list("principals", testAccount, "444455556666", "arn:aws:iam::111122223333:user/alice",
				"arn:aws:iam::111122223333:role/app", "arn:aws:sts::111122223333:assumed-role/app/s1"), "Service": "s3.amazonaws.com"}
		}
	}
	s[pick("action element", "Action", "Action", "NotAction")] = list("actions", "*", "kms:Encrypt", "kms:D*", "kms:?e*", "KMS:DECRYPT", "s3:*")
	s[pick("resource element", "Resource", "Resource", "NotResource")] = list("resources", "*", testKey, "arn:aws:kms:*:*:key/*", "arn:aws:kms:us-east-1:*:*",
		"arn:aws:kms", "arn:aws:kms:*:*:key/${aws:PrincipalTag/key}*")
	if rapid.Bool().Draw(t, label+"conditional") {
		operator := pick("operator", "StringEquals", "StringNotEquals", "StringLike", "StringNotLikeIfExists", "ForAnyValue:StringEquals", "ForAllValues:StringNotEquals")
		s["Condition"] = jsonObject{operator: jsonObject{pick("key", "kms:EncryptionContextKeys", "kms:ViaService", "aws:PrincipalTag/key", "aws:username", "custom:Thing"): list(
			"values", "a", "b", "*", "alice", "${aws:PrincipalTag/key}", "${aws:username, 'a'}")}}
	}
	return s
}

func drawStatements(t *rapid.T, label string, kind iam.PolicyKind) []jsonObject {
	n := rapid.IntRange(1, 4).Draw(t, label+"count")
	var out []jsonObject
	for i := range n {
		out = append(out, drawStatement(t, fmt.Sprintf("%s %d ", label, i), kind, ""))
	}
	return out
}

func compileStatements(t *rapid.T, kind iam.PolicyKind, statements []jsonObject) *iam.Policy {
	data, err := json.Marshal(jsonObject{"Version": "2012-10-17", "Statement": statements})
	if err != nil {
		t.Fatal(err)
	}
	p, err := iam.ParsePolicy(kind, data)
	if err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	return p
}

// world is a drawn request and its documents as statements, by place.
type world struct {
	q        iam.Query
	resource []jsonObject
	identity []jsonObject
	boundary []jsonObject // nil: none
	session  []jsonObject // nil: none
	grant    *iam.GrantMatch
}

func drawWorld(t *rapid.T) *world {
	w := &world{q: iam.Query{
		Caller:   drawCaller(t),
		Action:   rapid.SampledFrom([]string{"kms:Encrypt", "kms:Decrypt", "kms:DescribeKey"}).Draw(t, "action"),
		Resource: rapid.SampledFrom([]string{testKey, "arn:aws:kms:us-east-1:111122223333:key/mrk-1"}).Draw(t, "resource"),
		Time:     testTime,
		Context:  &iam.Context{},
	}}
	for _, key := range []string{"kms:ViaService", "custom:Thing"} {
		for _, v := range rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", ""}), 0, 2).Draw(t, key) {
			w.q.Context.Add(key, iam.String(v))
		}
	}
	w.q.Context.SetEncryptionContext(rapid.MapOfN(rapid.SampledFrom([]string{"a", "A", "b"}), rapid.Just("x"), 0, 2).Draw(t, "ec"))
	w.resource = drawStatements(t, "resource", iam.KeyPolicy)
	w.identity = drawStatements(t, "identity", iam.IdentityPolicy)
	if rapid.Bool().Draw(t, "has boundary") {
		w.boundary = drawStatements(t, "boundary", iam.IdentityPolicy)
	}
	if rapid.Bool().Draw(t, "has session policy") {
		w.session = drawStatements(t, "session", iam.IdentityPolicy)
	}
	if rapid.Bool().Draw(t, "has grant") {
		w.grant = &iam.GrantMatch{ID: "g"}
		switch rapid.SampledFrom([]string{"identity", "session", "account"}).Draw(t, "grant to") {
		case "session":
			w.grant.ToSession = true
		case "account":
			w.grant.ToAccount = true
		}
	}
	return w
}

func drawCaller(t *rapid.T) iam.Caller {
	text := rapid.SampledFrom([]string{
		"user/alice", "user/bob", "root", "role/app/s1", "role/app/s2", "federated/alice", "444455556666:user/eve", "444455556666:root",
		"service/s3.amazonaws.com", "user/alice tag:key=1234", "user/alice tag:KEY=*", "444455556666:role/app/s1", "anonymous",
	}).Draw(t, "caller")
	c, err := parseCaller(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// places are the lists of statements that are there.
func (w *world) places() []*[]jsonObject {
	out := []*[]jsonObject{&w.resource, &w.identity}
	for _, p := range []*[]jsonObject{&w.boundary, &w.session} {
		if *p != nil {
			out = append(out, p)
		}
	}
	return out
}

func (w *world) kindAt(place *[]jsonObject) iam.PolicyKind {
	if place == &w.resource {
		return iam.KeyPolicy
	}
	return iam.IdentityPolicy
}

func (w *world) policies(t *rapid.T) *iam.Policies {
	p := &iam.Policies{
		Resource: compileStatements(t, iam.KeyPolicy, w.resource),
		Identity: []iam.NamedPolicy{{Policy: compileStatements(t, iam.IdentityPolicy, w.identity)}},
		Grant:    w.grant,
	}
	if w.boundary != nil {
		p.Boundary = compileStatements(t, iam.IdentityPolicy, w.boundary)
	}
	if w.session != nil {
		p.Session = []iam.NamedPolicy{{Policy: compileStatements(t, iam.IdentityPolicy, w.session)}}
	}
	return p
}

func (w *world) decide(t *rapid.T) iam.Verdict { return iam.Decide(&w.q, w.policies(t)) }

func (w *world) insert(t *rapid.T, statement func(iam.PolicyKind) jsonObject) {
	place := rapid.SampledFrom(w.places()).Draw(t, "place")
	at := rapid.IntRange(0, len(*place)).Draw(t, "at")
	*place = slices.Insert(slices.Clone(*place), at, statement(w.kindAt(place)))
}

func TestADenyAlwaysWins(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		w.insert(t, func(kind iam.PolicyKind) jsonObject {
			s := jsonObject{"Effect": "Deny", "Action": "*", "Resource": "*"}
			if kind == iam.KeyPolicy {
				s["Principal"] = "*"
			}
			return s
		})
		if v := w.decide(t); v.Allowed {
			t.Fatalf("allowed beside a deny of everything: %v", v)
		}
	})
}

func TestAddingADenyNeverAllows(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		before := w.decide(t)
		w.insert(t, func(kind iam.PolicyKind) jsonObject { return drawStatement(t, "added ", kind, "Deny") })
		if after := w.decide(t); after.Allowed && !before.Allowed {
			t.Fatalf("a deny turned %q into %q", before, after)
		}
	})
}

func TestAddingAnAllowNeverDenies(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		before := w.decide(t)
		w.insert(t, func(kind iam.PolicyKind) jsonObject { return drawStatement(t, "added ", kind, "Allow") })
		if after := w.decide(t); before.Allowed && !after.Allowed {
			t.Fatalf("an allow turned %q into %q", before, after)
		}
	})
}

func TestOrderOfStatementsIsIrrelevant(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		before := w.decide(t)
		for _, place := range w.places() {
			*place = rapid.Permutation(*place).Draw(t, "order")
		}
		if after := w.decide(t); after.Allowed != before.Allowed || after.Reason != before.Reason {
			t.Fatalf("before %q, after %q", before, after)
		}
	})
}

// What is explained is what was decided, and what was encoded decides the same.
func TestExplainAndEncodeAgreeWithDecide(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		p := w.policies(t)
		v := iam.Decide(&w.q, p)
		x := iam.Explain(&w.q, p)
		if x.Summary != v.String() || x.Allowed != v.Allowed || x.Reason != v.Reason {
			t.Fatalf("Explain says %q, Decide %q", x.Summary, v)
		}
		for _, d := range x.Documents {
			for _, s := range d.Statements {
				if s.Applies == (s.Miss != nil) {
					t.Fatalf("statement applies: %v, miss: %v", s.Applies, s.Miss)
				}
			}
		}
		again := *p
		var err error
		if again.Resource, err = iam.ParsePolicy(iam.KeyPolicy, p.Resource.Encode()); err != nil {
			t.Fatal(err)
		}
		if got := iam.Decide(&w.q, &again); got != v {
			t.Fatalf("encoded and parsed again decides %q, before %q", got, v)
		}
	})
}

// NotAction and NotResource are the complements of Action and Resource.
func TestNotElementsAreComplements(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		for _, element := range []string{"Action", "Resource"} {
			s := drawStatement(t, element+" ", iam.IdentityPolicy, "Allow")
			delete(s, "Condition")
			delete(s, "NotAction")
			delete(s, "NotResource")
			s["Action"], s["Resource"] = "*", "*"
			values := rapid.SliceOfN(rapid.SampledFrom(map[string][]string{
				"Action":   {"*", "kms:Encrypt", "kms:D*", "kms:?e*", "KMS:DECRYPT", "s3:*"},
				"Resource": {"*", testKey, "arn:aws:kms:*:*:key/*", "arn:aws:kms:us-east-1:*:*", "arn:aws:s3"},
			}[element]), 1, 3).Draw(t, "values")
			w.q.Caller = user("alice")
			allows := func(name string) bool {
				one := jsonObject{}
				for k, v := range s {
					if k != element {
						one[k] = v
					}
				}
				one[name] = values
				p := compileStatements(t, iam.IdentityPolicy, []jsonObject{one})
				return iam.Decide(&w.q, &iam.Policies{IdentityOnly: true, Identity: []iam.NamedPolicy{{Policy: p}}}).Allowed
			}
			if allows(element) == allows("Not"+element) {
				t.Fatalf("%s and Not%s of %q agree on %s %s", element, element, values, w.q.Action, w.q.Resource)
			}
		}
	})
}

// globModel is the regular expression that a pattern stands for.
func globModel(pattern string, fold bool) *regexp.Regexp {
	var b strings.Builder
	b.WriteString("(?s")
	if fold {
		b.WriteString("i")
	}
	b.WriteString(")^")
	for _, r := range pattern {
		switch r {
		case '*':
			b.WriteString(".*")
		case '?':
			b.WriteString(".")
		default:
			b.WriteString(regexp.QuoteMeta(string(r)))
		}
	}
	b.WriteString("$")
	return regexp.MustCompile(b.String())
}

func TestWildcardsAgreeWithARegexp(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.StringMatching(`[abä*?]{0,10}`).Draw(t, "pattern")
		s := rapid.StringMatching(`[abä]{0,10}`).Draw(t, "s")
		p := compileStatements(t, iam.IdentityPolicy, []jsonObject{{
			"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": jsonObject{"StringLike": jsonObject{"custom:Thing": pattern}},
		}})
		q := iam.Query{Caller: user("alice"), Action: "kms:Encrypt", Resource: testKey, Context: &iam.Context{}}
		q.Context.Add("custom:Thing", iam.String(s))
		got := iam.Decide(&q, &iam.Policies{IdentityOnly: true, Identity: []iam.NamedPolicy{{Policy: p}}}).Allowed
		if want := globModel(pattern, false).MatchString(s); got != want {
			t.Fatalf("StringLike %q of %q: %v, want %v", pattern, s, got, want)
		}
	})
}

func TestActionsAgreeWithARegexp(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		pattern := "kms:" + rapid.StringMatching(`[abAB*?]{1,8}`).Draw(t, "pattern")
		action := "kms:" + rapid.StringMatching(`[abAB]{1,8}`).Draw(t, "action")
		p := compileStatements(t, iam.IdentityPolicy, []jsonObject{{"Effect": "Allow", "Action": pattern, "Resource": "*"}})
		q := iam.Query{Caller: user("alice"), Action: action, Resource: testKey}
		got := iam.Decide(&q, &iam.Policies{IdentityOnly: true, Identity: []iam.NamedPolicy{{Policy: p}}}).Allowed
		if want := globModel(pattern, true).MatchString(action); got != want {
			t.Fatalf("%q of %q: %v, want %v", pattern, action, got, want)
		}
	})
}

// In ARNs a wildcard stays within its segment, but in the last.
func TestARNPatternsAgreeWithARegexpASegment(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		seg := rapid.StringMatching(`[ab*?]{0,3}`)
		var pattern, arn [5]string
		for i := range pattern {
			pattern[i] = seg.Draw(t, "pattern")
			arn[i] = rapid.StringMatching(`[ab]{0,3}`).Draw(t, "arn")
		}
		arn[4] += rapid.SampledFrom([]string{"", ":a"}).Draw(t, "colon")
		want := true
		for i := range pattern {
			want = want && globModel(pattern[i], false).MatchString(arn[i])
		}
		resource := "arn:" + strings.Join(arn[:], ":")
		p := compileStatements(t, iam.KeyPolicy, []jsonObject{{
			"Effect": "Allow", "Principal": jsonObject{"Service": "s3.amazonaws.com"}, "Action": "*", "Resource": "arn:" + strings.Join(pattern[:], ":"),
		}})
		q := iam.Query{Caller: iam.Caller{Type: iam.CallerService, Services: []string{"s3.amazonaws.com"}}, Action: "kms:Encrypt", Resource: resource}
		if got := iam.Decide(&q, &iam.Policies{Resource: p}).Allowed; got != want {
			t.Fatalf("%q of %q: %v, want %v", pattern, resource, got, want)
		}
	})
}

// A negated operator says the contrary of the plain one, of a key that is there once.
func TestNegatedOperatorsAreContraries(t *testing.T) {
	t.Parallel()
	pairs := [][3]string{
		{"StringEquals", "StringNotEquals", "a"},
		{"StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase", "A"},
		{"StringLike", "StringNotLike", "a*"},
		{"NumericEquals", "NumericNotEquals", "5"},
		{"NumericLessThan", "NumericGreaterThanEquals", "5"},
		{"NumericGreaterThan", "NumericLessThanEquals", "5"},
		{"DateEquals", "DateNotEquals", "5"},
		{"IpAddress", "NotIpAddress", "10.0.0.0/8"},
		{"ArnLike", "ArnNotLike", "arn:aws:s3:::*"},
		{"ArnEquals", "ArnNotEquals", "arn:aws:s3:::*"},
	}
	rapid.Check(t, func(t *rapid.T) {
		pair := rapid.SampledFrom(pairs).Draw(t, "operators")
		value := rapid.SampledFrom([]string{"a", "A", "ab", "b", "4", "5", "6", "10.1.1.1", "11.1.1.1", "arn:aws:s3:::b", "arn:aws:iam:::b"}).Draw(t, "value")
		q := iam.Query{Caller: user("alice"), Action: "kms:Encrypt", Resource: testKey, Context: &iam.Context{}}
		q.Context.Add("custom:Thing", iam.String(value))
		allows := func(operator string) bool {
			p := compileStatements(t, iam.IdentityPolicy, []jsonObject{{
				"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": jsonObject{operator: jsonObject{"custom:Thing": pair[2]}},
			}})
			return iam.Decide(&q, &iam.Policies{IdentityOnly: true, Identity: []iam.NamedPolicy{{Policy: p}}}).Allowed
		}
		plain, contrary := allows(pair[0]), allows(pair[1])
		if strings.HasPrefix(pair[0], "Numeric") && !strings.Contains("4 5 6", value) && !strings.HasSuffix(pair[1], "NotEquals") {
			if plain || contrary {
				t.Fatalf("%s or %s compares %q", pair[0], pair[1], value)
			}
			return
		}
		if plain == contrary {
			t.Fatalf("%s and %s agree on %q", pair[0], pair[1], value)
		}
	})
}
