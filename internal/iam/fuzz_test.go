package iam_test

import (
	"errors"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"cardea/internal/iam"
)

// Whatever parses is encoded to what parses to the same document, and encoding
// that again changes nothing. Neither parsing nor deciding panics.
func FuzzParsePolicy(f *testing.F) {
	files, _ := filepath.Glob("testdata/policy/*.txtar")
	for _, file := range files {
		a, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, doc := range a.Files {
			if filepath.Ext(doc.Name) == ".json" {
				f.Add(doc.Data)
			}
		}
	}
	f.Add([]byte(cond("ForAnyValue:StringLikeIfExists", "aws:PrincipalTag/x", `["a${*}b","${aws:username, 'x'}?",1.5,true]`)))
	f.Add([]byte(cond("DateLessThan", "aws:CurrentTime", `["2026-11","1795336200"]`)))
	f.Add([]byte(`{"Statement":{"Effect":"Deny","NotPrincipal":{"Federated":"a","Service":["b.c"],"AWS":"AIDAEXAMPLEGHOST"},"NotAction":"a:b","NotResource":"arn:x"}}`))
	context := &iam.Context{}
	context.Add("kms:ViaService", iam.String("s3"), iam.String("ec2"))
	context.SetEncryptionContext(map[string]string{"a": "b"})
	q := iam.Query{Caller: user("alice"), Action: "kms:Encrypt", Resource: testKey, Time: testTime, Context: context}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, kind := range []iam.PolicyKind{iam.KeyPolicy, iam.IdentityPolicy, iam.TrustPolicy} {
			p, err := iam.ParsePolicy(kind, data)
			if err != nil {
				var m *iam.MalformedPolicyError
				if !errors.As(err, &m) && !errors.Is(err, iam.ErrPolicyTooLarge) {
					t.Fatalf("error of another kind: %v", err)
				}
				continue
			}
			enc := p.Encode()
			if len(enc) <= iam.MaxPolicyBytes {
				again, err := iam.ParsePolicy(kind, enc)
				if err != nil {
					t.Fatalf("encoded as %s: %v", enc, err)
				}
				if !reflect.DeepEqual(again.Document(), p.Document()) || string(again.Encode()) != string(enc) {
					t.Fatalf("parse and encode is no identity:\n%s\n%s", enc, again.Encode())
				}
			}
			docs := iam.Policies{Resource: p}
			if kind == iam.IdentityPolicy {
				docs = iam.Policies{IdentityOnly: true, Identity: []iam.NamedPolicy{{Policy: p}}, Boundary: p}
			}
			if v, x := iam.Decide(&q, &docs), iam.Explain(&q, &docs); v.String() != x.Summary || x.String() == "" {
				t.Fatalf("Decide says %s, Explain %s", v, x.Summary)
			}
		}
	})
}

func FuzzParseARN(f *testing.F) {
	for _, s := range []string{testKey, "arn:aws:s3:::b", "arn:aws:iam::111122223333:user/a:b", "arn:aws:s3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := iam.ParseARN(s)
		if err != nil {
			return
		}
		if a.String() != s {
			t.Fatalf("%q becomes %q", s, a.String())
		}
	})
}
