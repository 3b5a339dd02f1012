package sigv4

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"sort"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cardea/internal/secret"
)

// The credentials of AWS's documentation, which are nobody's.
const (
	exampleID     = "AKIDEXAMPLE"
	exampleSecret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	sessionID     = "ASIDEXAMPLE"
	sessionToken  = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI"
)

var exampleTime = time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC)

// keys is a [Keys] of a fixed set that counts what it is asked.
type keys struct {
	credentials map[string]Credential
	secrets     map[string]string // by SecretID
	lookupErr   error
	secretErr   error
	secretCalls atomic.Int64
	given       atomic.Pointer[secret.Bytes] // last
}

func (k *keys) Lookup(_ context.Context, id string) (Credential, error) {
	if k.lookupErr != nil {
		return Credential{}, k.lookupErr
	}
	c, ok := k.credentials[id]
	if !ok {
		return Credential{}, ErrUnknownKey
	}
	return c, nil
}

func (k *keys) Secret(_ context.Context, c Credential) (secret.Bytes, error) {
	k.secretCalls.Add(1)
	if k.secretErr != nil {
		return secret.Bytes{}, k.secretErr
	}
	s := secret.New([]byte(k.secrets[c.SecretID]))
	k.given.Store(&s)
	return s, nil
}

func exampleKeys() *keys {
	return &keys{
		credentials: map[string]Credential{
			exampleID: {SecretID: "1", Principal: "user/example"},
			sessionID: {SecretID: "2", Principal: "role/example", SessionTokenHash: sha256.Sum256([]byte(sessionToken))},
		},
		secrets: map[string]string{"1": exampleSecret, "2": "session" + exampleSecret},
	}
}

// verifier is for service kms in two regions, at exampleTime, with changes.
func verifier(t testing.TB, change ...func(*Options)) *Verifier {
	t.Helper()
	o := Options{
		Keys: exampleKeys(), Service: "kms", Now: func() time.Time { return exampleTime },
		Regions: func(r string) bool { return r == "us-east-1" || r == "eu-central-1" },
	}
	for _, f := range change {
		f(&o)
	}
	v, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// receive parses a request as a server reads it from a connection. Lines end in
// \n in text, for the reader's sake.
func receive(t testing.TB, text string) (*http.Request, []byte) {
	t.Helper()
	head, body, _ := strings.Cut(text, "\n\n")
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(strings.ReplaceAll(head, "\n", "\r\n") + "\r\n\r\n" + body)))
	if err != nil {
		t.Fatal(err)
	}
	return r, []byte(body)
}

// overTheWire writes r as a client does and reads it as a server does.
func overTheWire(t interface{ Fatal(...any) }, r *http.Request) (*http.Request, []byte) {
	var wire bytes.Buffer
	if err := r.Write(&wire); err != nil {
		t.Fatal(err)
	}
	got, err := http.ReadRequest(bufio.NewReader(&wire))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(got.Body)
	if err != nil {
		t.Fatal(err)
	}
	return got, body
}

// signer signs plainly, step by step as the AWS documentation says, sharing no
// code with what is tested.
type signer struct {
	id, secret, region, service string
	date                        string // of the scope; default the day of the request
	only                        []string
	noDate                      bool // keep the request's own date headers
}

func example() signer {
	return signer{id: exampleID, secret: exampleSecret, region: "us-east-1", service: "kms"}
}

func (s signer) sign(r *http.Request, body []byte, at time.Time) {
	stamp := at.UTC().Format("20060102T150405Z")
	if !s.noDate {
		r.Header.Set("X-Amz-Date", stamp)
	}
	if s.date == "" {
		s.date = stamp[:8]
	}
	values := map[string]string{"host": r.Host}
	for name, v := range r.Header {
		if name != "Authorization" && name != "User-Agent" {
			values[strings.ToLower(name)] = strings.Join(v, ",")
		}
	}
	var names []string
	for name := range values {
		if s.only == nil || strings.Contains(";"+strings.Join(s.only, ";")+";", ";"+name+";") {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	canonical := r.Method + "\n" + strings.ReplaceAll(r.URL.EscapedPath(), "%", "%25") + "\n" + r.URL.RawQuery + "\n"
	for _, name := range names {
		canonical += name + ":" + strings.TrimSpace(values[name]) + "\n"
	}
	sum := sha256.Sum256(body)
	canonical += "\n" + strings.Join(names, ";") + "\n" + hex.EncodeToString(sum[:])
	scope := s.date + "/" + s.region + "/" + s.service + "/aws4_request"
	sum = sha256.Sum256([]byte(canonical))
	toSign := "AWS4-HMAC-SHA256\n" + stamp + "\n" + scope + "\n" + hex.EncodeToString(sum[:])
	key := []byte("AWS4" + s.secret)
	for _, part := range []string{s.date, s.region, s.service, "aws4_request", toSign} {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(part))
		key = h.Sum(nil)
	}
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+s.id+"/"+scope+
		", SignedHeaders="+strings.Join(names, ";")+", Signature="+hex.EncodeToString(key))
}

const kmsBody = `{"KeyId":"alias/cards","Plaintext":"aGVsbG8="}`

// kmsRequest is what an SDK sends for Encrypt, not yet signed.
func kmsRequest() (*http.Request, []byte) {
	body := []byte(kmsBody)
	r, err := http.NewRequest(http.MethodPost, "http://localhost:4599/", bytes.NewReader(body))
	if err != nil {
		panic(err)
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "TrentService.Encrypt")
	r.Header.Set("Amz-Sdk-Invocation-Id", "0b3bd6f0-ab3c-4f0b-a6a1-1ddd4f1dcf5b")
	r.Header.Set("Amz-Sdk-Request", "attempt=1; max=3")
	return r, body
}

func signed(s signer) (*http.Request, []byte) {
	r, body := kmsRequest()
	s.sign(r, body, exampleTime)
	return r, body
}

// refused checks code and message of a refusal.
func refused(t testing.TB, err error, code Code, message string) {
	t.Helper()
	e, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("got %v, want a refusal %s", err, code)
	}
	if e.Code != code || !strings.Contains(e.Message, message) {
		t.Fatalf("got %s %q, want %s %q", e.Code, e.Message, code, message)
	}
}

func hash(s string) [32]byte { return sha256.Sum256([]byte(s)) }

func hexHash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
