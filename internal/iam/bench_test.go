package iam_test

import (
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"cardea/internal/iam"
)

// BenchmarkDecide decides by the key policy that the AWS console writes: four
// statements, the third of which allows.
func BenchmarkDecide(b *testing.B) {
	policies := func(file string) *iam.Policies {
		a, err := txtar.ParseFile("testdata/policy/" + file + ".txtar")
		if err != nil {
			b.Fatal(err)
		}
		var p iam.Policies
		for _, f := range a.Files {
			switch f.Name {
			case "resource.json":
				p.Resource = mustPolicy(b, iam.KeyPolicy, string(f.Data))
			case "requests":
			default:
				p.Identity = append(p.Identity, iam.NamedPolicy{Name: f.Name, Policy: mustPolicy(b, iam.IdentityPolicy, string(f.Data))})
			}
		}
		return &p
	}
	role := iam.Caller{
		Type: iam.CallerRole, ARN: "arn:aws:iam::" + testAccount + ":role/ExampleRole", Session: "arn:aws:sts::" + testAccount + ":assumed-role/ExampleRole/s1",
		Account: testAccount, ID: "AROAEXAMPLEROLE0:s1", Issued: testTime,
	}
	app := role
	app.ARN, app.Session = "arn:aws:iam::"+testAccount+":role/app", "arn:aws:sts::"+testAccount+":assumed-role/app/s1"
	ec := map[string]string{"AppName": "ExampleApp", "Project": "Alpha"}
	for _, c := range []struct {
		name, file, action string
		who                iam.Caller
	}{
		{"key_policy", "console_key_policy", "kms:Encrypt", role},
		{"delegated", "default_key_policy", "kms:Decrypt", role},
		{"denied", "console_key_policy", "kms:PutKeyPolicy", role},
		{"encryption_context", "encryption_context", "kms:GenerateDataKey", app},
	} {
		p := policies(c.file)
		var context iam.Context
		q := iam.Query{Caller: c.who, Action: c.action, Resource: testKey, Time: testTime, Context: &context}
		want := c.name != "denied"
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				context.Reset() // as a request would fill it
				context.Add("kms:KeySpec", iam.String("SYMMETRIC_DEFAULT"))
				context.Add("kms:KeyUsage", iam.String("ENCRYPT_DECRYPT"))
				context.Add("kms:KeyOrigin", iam.String("AWS_KMS"))
				context.Add("kms:MultiRegion", iam.Bool(false))
				context.Add("aws:SecureTransport", iam.Bool(true))
				context.Add("aws:RequestedRegion", iam.String("us-west-2"))
				context.Add("aws:UserAgent", iam.String("aws-sdk-go-v2/1.47.7"))
				context.SetEncryptionContext(ec)
				if v := iam.Decide(&q, p); v.Allowed != want {
					b.Fatal(v)
				}
			}
		})
		b.Run("explain_"+c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				iam.Explain(&q, p)
			}
		})
	}
}

func BenchmarkParsePolicy(b *testing.B) {
	a, err := txtar.ParseFile("testdata/policy/console_key_policy.txtar")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := iam.ParsePolicy(iam.KeyPolicy, a.Files[0].Data); err != nil {
			b.Fatal(err)
		}
	}
}
