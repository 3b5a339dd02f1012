package kmsapi_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"cardea/internal/kms"
	"cardea/internal/kmsapi"
	"cardea/internal/secret"
)

const encryptBody = `{"EncryptionContext":{"purpose":"branch-key","tenant":"acme"},"KeyId":"arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab","Plaintext":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}`

func BenchmarkDecodeEncrypt(b *testing.B) {
	body := []byte(encryptBody)
	b.ReportAllocs()
	for b.Loop() {
		in := new(kms.EncryptInput)
		if err := kmsapi.Decode(body, in); err != nil {
			b.Fatal(err)
		}
		kmsapi.Wipe(in)
	}
}

func BenchmarkEncodeDataKey(b *testing.B) {
	out := &kms.GenerateDataKeyOutput{
		CiphertextBlob: make([]byte, 184), KeyID: "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
		KeyMaterialID: hex.EncodeToString(make([]byte, 32)), Plaintext: secret.Random(32),
	}
	b.ReportAllocs()
	for b.Loop() {
		kmsapi.EncodeOnly(out)
	}
}

// discard is an http.ResponseWriter.
type discard struct {
	header http.Header
	status int
	n      int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(status int)      { d.status = status }
func (d *discard) Write(p []byte) (int, error) { d.n += len(p); return len(p), nil }

// BenchmarkHandler is a request without net/http: signature, decoding, the
// operation on a store in memory, its audit entry, encoding. Refused is one that
// ends before the operation, as it is not known, so that it is what the wire costs.
func BenchmarkHandler(b *testing.B) {
	s := serve(b)
	key := createKey(b, s.sdk(), awskms.CreateKeyInput{})
	for _, op := range []struct{ name, target, body string }{
		{"Encrypt", "Encrypt", `{"EncryptionContext":{"purpose":"branch-key","tenant":"acme"},"KeyId":"` + *key + `","Plaintext":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}`},
		{"GenerateDataKey", "GenerateDataKey", `{"EncryptionContext":{"purpose":"branch-key","tenant":"acme"},"KeyId":"` + *key + `","KeySpec":"AES_256"}`},
		{"DescribeKey", "DescribeKey", `{"KeyId":"` + *key + `"}`},
		{"Refused", "Nothing", encryptBody},
	} {
		b.Run(op.name, func(b *testing.B) {
			r, err := http.NewRequest(http.MethodPost, s.url+"/", nil)
			if err != nil {
				b.Fatal(err)
			}
			r.RemoteAddr = "127.0.0.1:1234"
			r.ContentLength = int64(len(op.body))
			r.Header.Set("Content-Type", "application/x-amz-json-1.1")
			r.Header.Set("X-Amz-Target", "TrentService."+op.target)
			r.Header.Set("User-Agent", "aws-sdk-go-v2/1.47.7")
			sum := sha256.Sum256([]byte(op.body))
			err = v4.NewSigner().SignHTTP(context.Background(), aws.Credentials{AccessKeyID: rootID, SecretAccessKey: rootSecret}, r,
				hex.EncodeToString(sum[:]), "kms", region, time.Now())
			if err != nil {
				b.Fatal(err)
			}
			h, body := s.api.Handler(), bytes.NewReader(nil)
			r.Body = io.NopCloser(body)
			w := &discard{header: http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				body.Reset([]byte(op.body))
				clear(w.header)
				h.ServeHTTP(w, r)
			}
			if want := 200; op.name != "Refused" && w.status != want {
				b.Fatalf("got status %d", w.status)
			}
		})
	}
}
