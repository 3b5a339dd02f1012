package sigv4

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

// FuzzParseAuthorization checks that what is parsed has one usual form, which
// parses to the same.
func FuzzParseAuthorization(f *testing.F) {
	for _, line := range []string{
		goodLine,
		strings.ReplaceAll(goodLine, ", ", ","),
		goodLine + ",",
		"AWS4-HMAC-SHA256 Signature=" + goodSignature + ",Credential=a/00000000/-/0/aws4_request,SignedHeaders=!",
		"AWS4-ECDSA-P256-SHA256 Credential=a/b/aws4_request, SignedHeaders=host, Signature=00",
		"AWS4-HMAC-SHA256 Credential=,Credential=,=,",
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		a, err := parseAuthorization(line)
		if err != nil {
			if _, ok := errors.AsType[*Error](err); !ok {
				t.Fatalf("got %v, want a refusal", err)
			}
			return
		}
		usual := format(a)
		if again, err := parseAuthorization(usual); err != nil || again != a {
			t.Fatalf("%q: parsed again %+v, %v, want %+v", usual, again, err, a)
		}
		if squeezed := strings.ReplaceAll(line, " ", ""); len(squeezed) != len(strings.ReplaceAll(usual, " ", "")) {
			t.Fatalf("%q has parts that %q has not", line, usual)
		}
	})
}

func FuzzCanonicalQuery(f *testing.F) {
	for _, raw := range []string{"", "a=b&a=%20+c", "%zz", "b&a;c", "\u1234=bar&%E1%88%B4", "&&=&"} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) { checkQuery(t, raw) })
}

func FuzzHeaderValue(f *testing.F) {
	for _, value := range []string{"", " a  b ", "a\nb:c", "\"a   b\"", "\t a \t", "ä"} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		got, ok := appendFolded(nil, value)
		if !ok {
			return
		}
		if bytes.ContainsAny(got, "\n\r\x00") || bytes.Contains(got, []byte("  ")) {
			t.Fatalf("%q became %q", value, got)
		}
		if again, ok := appendFolded(nil, string(got)); !ok || !bytes.Equal(again, got) {
			t.Fatalf("%q became %q and that %q", value, got, again)
		}
		if strings.Join(strings.Fields(value), "") != strings.Join(strings.Fields(string(got)), "") {
			t.Fatalf("%q became %q, which has other characters", value, got)
		}
	})
}

// FuzzVerify reads requests off the wire. Only one was signed, so all that is
// accepted must mean the same as that.
func FuzzVerify(f *testing.F) {
	r, body := signed(example())
	var wire bytes.Buffer
	if err := r.Write(&wire); err != nil {
		f.Fatal(err)
	}
	f.Add(wire.Bytes())
	f.Add([]byte(strings.ReplaceAll(iamListUsers, "\n", "\r\n")))
	v := verifier(f)
	f.Fuzz(func(t *testing.T, wire []byte) {
		got, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(wire)))
		if err != nil {
			return
		}
		gotBody, err := io.ReadAll(got.Body)
		if err != nil {
			return
		}
		id, err := v.Verify(got, gotBody)
		if err != nil {
			if _, ok := errors.AsType[*Error](err); !ok {
				t.Fatalf("got %v, want a refusal", err)
			}
			return
		}
		if id.AccessKeyID != exampleID || got.Method != http.MethodPost || got.Host != r.Host || got.URL.Path != "/" && got.URL.Path != "" || len(got.URL.Query()) != 0 ||
			!bytes.Equal(gotBody, body) || got.Header.Get("X-Amz-Target") != r.Header.Get("X-Amz-Target") ||
			got.Header.Get("Content-Type") != r.Header.Get("Content-Type") {
			t.Fatalf("accepted what was not signed:\n%s", wire)
		}
	})
}
