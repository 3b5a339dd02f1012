package iam_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"cardea/internal/iam"
)

// The files of testdata/policy hold the documents as files named resource.json,
// trust.json, identity-NAME.json, boundary.json, session-NAME.json, and a file
// requests: each request is a line that names it, and indented lines
//
//	caller   user/alice, role/app/session, root, federated/bob, service/s3.amazonaws.com,
//	         provider/NAME or anonymous, with an account and colon before it if it is
//	         another than 111122223333; then any of temporary, mfa=60s (ago), tag:name=value
//	action   kms:Encrypt
//	resource the ARN, or * ; the test's key if there is none
//	time     2026-11-22T08:30:00Z
//	context  key value  (a line a value; typed as the key is)
//	ec       name value (one pair of the encryption context)
//	grant    id, or id session, or id account
//	lockout  (asks KeepsControl with resource.json in place of Decide)
//	want     the verdict, as Verdict.String
const (
	testAccount = "111122223333"
	testKey     = "arn:aws:kms:us-west-2:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
)

var testTime = time.Date(2026, 11, 22, 8, 30, 0, 0, time.UTC)

type policyRequest struct {
	name     string
	query    iam.Query
	policies iam.Policies
	lockout  bool
	want     string
}

func (r *policyRequest) verdict() iam.Verdict {
	if r.lockout {
		return iam.KeepsControl(&r.query, r.policies.Resource)
	}
	return iam.Decide(&r.query, &r.policies)
}

func TestPolicyCases(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/policy/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			for _, r := range readPolicyCases(t, file) {
				got := r.verdict()
				if got.String() != r.want {
					t.Errorf("%s:\n got  %s\n want %s", r.name, got, r.want)
				}
				if !r.lockout {
					if x := iam.Explain(&r.query, &r.policies); x.Summary != got.String() || x.Allowed != got.Allowed {
						t.Errorf("%s: Explain says %q, Decide %q", r.name, x.Summary, got)
					}
				}
			}
		})
	}
}

func readPolicyCases(t *testing.T, file string) []*policyRequest {
	t.Helper()
	a, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var docs iam.Policies
	var requests []*policyRequest
	for _, f := range a.Files {
		kind := iam.IdentityPolicy
		switch f.Name {
		case "resource.json":
			kind = iam.KeyPolicy
		case "trust.json":
			kind = iam.TrustPolicy
		case "requests":
			requests = parseRequests(t, string(f.Data))
			continue
		}
		p, err := iam.ParsePolicy(kind, f.Data)
		if err != nil {
			t.Fatalf("%s: %s: %v", file, f.Name, err)
		}
		base := strings.TrimSuffix(f.Name, ".json")
		role, name, _ := strings.Cut(base, "-")
		switch role {
		case "resource", "trust":
			docs.Resource = p
		case "identity":
			docs.Identity = append(docs.Identity, iam.NamedPolicy{Name: name, Policy: p})
		case "boundary":
			docs.Boundary = p
		case "session":
			docs.Session = append(docs.Session, iam.NamedPolicy{Name: name, Policy: p})
		default:
			t.Fatalf("%s: what is %s?", file, f.Name)
		}
	}
	docs.IdentityOnly = docs.Resource == nil
	for _, r := range requests {
		grant := r.policies.Grant
		r.policies = docs
		r.policies.Grant = grant
	}
	if len(requests) == 0 {
		t.Fatalf("%s: no requests", file)
	}
	return requests
}

func parseRequests(t *testing.T, text string) (out []*policyRequest) {
	t.Helper()
	var r *policyRequest
	var ec map[string]string
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if strings.TrimSpace(line) == "" {
			continue
		}
		if !strings.HasPrefix(line, " ") {
			ec = map[string]string{}
			r = &policyRequest{name: line, query: iam.Query{Action: "kms:Encrypt", Resource: testKey, Time: testTime, Context: &iam.Context{}}}
			r.query.Context.SetEncryptionContext(ec)
			out = append(out, r)
			continue
		}
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		rest = strings.TrimSpace(rest)
		var err error
		switch word {
		case "caller":
			r.query.Caller, err = parseCaller(rest)
		case "action":
			r.query.Action = rest
		case "resource":
			r.query.Resource = rest
		case "time":
			r.query.Time, err = time.Parse(time.RFC3339, rest)
		case "context":
			key, value, _ := strings.Cut(rest, " ")
			var v iam.Value
			v, err = parseValue(key, value)
			r.query.Context.Add(key, v)
		case "ec":
			name, value, _ := strings.Cut(rest, " ")
			ec[name] = value
		case "grant":
			id, more, _ := strings.Cut(rest, " ")
			r.policies.Grant = &iam.GrantMatch{ID: id, ToSession: more == "session", ToAccount: more == "account"}
		case "lockout":
			r.lockout = true
		case "want":
			r.want = rest
		default:
			err = fmt.Errorf("what is %s?", word)
		}
		if err != nil {
			t.Fatalf("%s: %q: %v", r.name, line, err)
		}
	}
	return out
}

func parseValue(key, text string) (iam.Value, error) {
	k, _ := iam.LookupConditionKey(key)
	switch k.Type {
	case iam.ConditionBool:
		b, err := strconv.ParseBool(text)
		return iam.Bool(b), err
	case iam.ConditionNumeric:
		n, err := strconv.ParseInt(text, 10, 64)
		return iam.Number(n), err
	case iam.ConditionDate:
		d, err := time.Parse(time.RFC3339, text)
		return iam.Date(d), err
	case iam.ConditionIP:
		a, err := netip.ParseAddr(text)
		return iam.IP(a), err
	default:
		return iam.String(text), nil
	}
}

func parseCaller(text string) (iam.Caller, error) {
	words := strings.Fields(text)
	account, id := testAccount, words[0]
	if other, rest, ok := strings.Cut(words[0], ":"); ok && len(other) == len(testAccount) && other[0] >= '0' && other[0] <= '9' {
		account, id = other, rest
	}
	kind, name, _ := strings.Cut(id, "/")
	iamARN, stsARN := "arn:aws:iam::"+account+":", "arn:aws:sts::"+account+":"
	c := iam.Caller{Account: account}
	switch kind {
	case "user":
		c.Type, c.ARN, c.ID = iam.CallerUser, iamARN+id, "AIDAEXAMPLE"+strings.ToUpper(strings.ReplaceAll(name, "/", ""))
	case "role":
		cut := strings.LastIndexByte(name, '/')
		role, session := name[:cut], name[cut+1:]
		c.Type, c.ARN, c.ID = iam.CallerRole, iamARN+"role/"+role, "AROAEXAMPLEROLE0:"+session
		c.Session = stsARN + "assumed-role/" + role[strings.LastIndexByte(role, '/')+1:] + "/" + session
		c.Issued = testTime.Add(-time.Hour)
	case "root":
		c.Type, c.ARN, c.ID = iam.CallerRoot, iamARN+"root", account
	case "federated":
		c.Type, c.ARN, c.Session, c.ID = iam.CallerFederated, iamARN+"user/"+name, stsARN+"federated-user/"+name, account+":"+name
		c.Issued = testTime.Add(-time.Hour)
	case "service":
		c = iam.Caller{Type: iam.CallerService, Services: strings.Split(name, ",")}
	case "provider":
		c = iam.Caller{Type: iam.CallerProvider, Provider: name}
	case "anonymous":
		c = iam.Caller{Type: iam.CallerAnonymous}
	default:
		return c, fmt.Errorf("what is %s?", kind)
	}
	for _, w := range words[1:] {
		k, v, _ := strings.Cut(w, "=")
		switch {
		case k == "temporary":
			c.Issued = testTime.Add(-time.Hour)
		case k == "mfa":
			ago, err := time.ParseDuration(v)
			if err != nil {
				return c, err
			}
			c.Issued, c.MFA = testTime.Add(-ago), testTime.Add(-ago)
		case strings.HasPrefix(k, "tag:"):
			c.Tags = append(c.Tags, iam.Tag{Key: k[len("tag:"):], Value: v})
		default:
			return c, fmt.Errorf("what is %s?", w)
		}
	}
	return c, nil
}

// Every condition key of the cases is one that the tests mean to be known or
// unknown: a typing error in a case must not make a condition pass by absence.
func TestPolicyCasesNameKnownKeys(t *testing.T) {
	t.Parallel()
	unknown := []string{"custom:Thing"}
	files, _ := filepath.Glob("testdata/policy/*.txtar")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		a := txtar.Parse(data)
		for _, f := range a.Files {
			if f.Name != "requests" {
				continue
			}
			for line := range strings.Lines(string(f.Data)) {
				words := strings.Fields(line)
				if len(words) < 2 || words[0] != "context" {
					continue
				}
				k, ok := iam.LookupConditionKey(words[1])
				if (!ok || k.Derived) && !slices.Contains(unknown, words[1]) {
					t.Errorf("%s: context key %s is not one that a caller supplies", file, words[1])
				}
			}
		}
	}
}
