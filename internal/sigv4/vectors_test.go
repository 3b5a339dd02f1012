package sigv4

import (
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"cardea/internal/secret"
)

// The worked example of AWS's documentation, "Signing AWS API requests".
const iamListUsers = `GET /?Action=ListUsers&Version=2010-05-08 HTTP/1.1
Host: iam.amazonaws.com
Content-Type: application/x-www-form-urlencoded; charset=utf-8
X-Amz-Date: 20150830T123600Z
Authorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, SignedHeaders=content-type;host;x-amz-date, Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7

`

func TestWorkedExampleOfTheDocumentation(t *testing.T) {
	t.Parallel()
	v := verifier(t, func(o *Options) { o.Service = "iam" })
	r, body := receive(t, iamListUsers)
	id, err := v.Verify(r, body)
	if err != nil {
		t.Fatal(err)
	}
	want := Identity{
		AccessKeyID: exampleID, Principal: "user/example", Region: "us-east-1", Service: "iam",
		Date: exampleTime, SignedHeaders: "content-type;host;x-amz-date",
	}
	if id != want {
		t.Errorf("got %+v, want %+v", id, want)
	}
}

func TestWorkedExampleStepByStep(t *testing.T) {
	t.Parallel()
	v := verifier(t)
	r, body := receive(t, iamListUsers)
	s := v.scratch.Get().(*scratch)
	c, err := v.claim(r, s)
	if err != nil {
		t.Fatal(err)
	}
	if err = v.gatherHeaders(r, c, s); err != nil {
		t.Fatal(err)
	}
	payload, err := payloadHash(r, c, s, body)
	if err != nil {
		t.Fatal(err)
	}
	if err = s.canonicalRequest(r, c, payload); err != nil {
		t.Fatal(err)
	}
	const canonical = `GET
/
Action=ListUsers&Version=2010-05-08
content-type:application/x-www-form-urlencoded; charset=utf-8
host:iam.amazonaws.com
x-amz-date:20150830T123600Z

content-type;host;x-amz-date
e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855`
	if string(s.buf) != canonical {
		t.Errorf("canonical request\n%s\nwant\n%s", s.buf, canonical)
	}
	s.stringToSign(c)
	const toSign = `AWS4-HMAC-SHA256
20150830T123600Z
20150830/us-east-1/iam/aws4_request
f536975d06c0309214f805bb90ccff089219ecd68b2577efef23edd43b7e1a59`
	if string(s.buf) != toSign {
		t.Errorf("string to sign\n%s\nwant\n%s", s.buf, toSign)
	}
	var key [32]byte
	deriveKey(&key, secret.New([]byte(exampleSecret)), "20150830", "us-east-1", "iam")
	if got := hex.EncodeToString(key[:]); got != "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9" {
		t.Errorf("signing key %s", got)
	}
}

// published are requests of AWS's Signature Version 4 test suite with the
// signatures published there: service "service", region us-east-1, and
// host example.amazonaws.com. The suite's cases that are not here send a path
// with dot segments, doubled slashes or a raw space; they are refused, see
// TestPathThatIsNotNormalIsRefused.
var published = []struct {
	name, target, headers, signed, signature string
}{
	{"raw utf-8 path", "GET /\u1234", "", "host;x-amz-date", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"},
	{"unreserved path", "GET /-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", "", "host;x-amz-date", "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"},
	{"query order", "GET /?Param2=value2&Param1=value1", "", "host;x-amz-date", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"},
	{"query order after encoding", "GET /?Param-3=Value3&Param=Value2&%E1%88%B4=Value1", "", "host;x-amz-date", "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac"},
	{"raw utf-8 query", "GET /?\u1234=bar", "", "host;x-amz-date", "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04"},
	{"unreserved query", "GET /?-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz=-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", "", "host;x-amz-date", "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197"},
	{"post with query", "POST /?Param1=value1", "", "host;x-amz-date", "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11"},
	{"repeated header", "GET /", "My-Header1:value2\nMy-Header1:value2\nMy-Header1:value1\n", "host;my-header1;x-amz-date", "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea"},
	// The suite folds this one over three lines, for which RFC 9112 section 5.2 has spaces, not commas.
	{"header with commas", "GET /", "My-Header1:value1,value2,value3\n", "host;my-header1;x-amz-date", "ba17b383a53190154eb5fa66a1b836cc297cc0a3d70a5d00705980573d8ff790"},
	{"spaces in header", "GET /", "My-Header1: value1\nMy-Header2: \"a   b   c\"\n", "host;my-header1;my-header2;x-amz-date", "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"},
	{
		"form body", "POST /", "Content-Type:application/x-www-form-urlencoded; charset=utf-8\nContent-Length:13\n" +
			"x-amz-content-sha256:9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e\n",
		"content-length;content-type;host;x-amz-content-sha256;x-amz-date", "328d1b9eaadca9f5818ef05e8392801e091653bafec24fcab71e7344e7f51422",
	},
}

func TestPublishedVectors(t *testing.T) {
	t.Parallel()
	v := verifier(t, func(o *Options) { o.Service = "service" })
	for _, p := range published {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			text := p.target + " HTTP/1.1\nHost:example.amazonaws.com\n" + p.headers +
				"X-Amz-Date:20150830T123600Z\nAuthorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=" +
				p.signed + ", Signature=" + p.signature + "\n\n"
			if strings.Contains(p.headers, "Content-Length") {
				text += "Param1=value1"
			}
			r, body := receive(t, text)
			if _, err := v.Verify(r, body); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestPublishedVectorWithSessionToken(t *testing.T) {
	t.Parallel()
	const token = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267"
	v := verifier(t, func(o *Options) {
		k := exampleKeys()
		k.credentials[exampleID] = Credential{SecretID: "1", SessionTokenHash: hash(token)}
		o.Keys, o.Service = k, "service"
	})
	r, body := receive(t, "GET / HTTP/1.1\nHost:example.amazonaws.com\nX-Amz-Date:20150830T123600Z\nX-Amz-Security-Token:"+token+
		"\nAuthorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "+
		"SignedHeaders=host;x-amz-date;x-amz-security-token, Signature=07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8\n\n")
	id, err := v.Verify(r, body)
	if err != nil {
		t.Fatal(err)
	}
	if !id.Temporary {
		t.Error("credentials with a session token are not said to be temporary")
	}
}

// TestPublishedPresignedVectors leaves out the X-Amz-Date header that the suite
// adds to its presigned requests without signing it.
func TestPublishedPresignedVectors(t *testing.T) {
	t.Parallel()
	const token = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267"
	k := exampleKeys()
	presigned := func(o *Options) { o.Keys, o.Service, o.MaxPresigned = k, "service", time.Hour }
	const auth = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE%2F20150830%2Fus-east-1%2Fservice%2Faws4_request&X-Amz-Date=20150830T123600Z"
	for _, c := range []struct{ name, text string }{
		{"raw utf-8 query", "GET /?\u1234=bar&" + auth + "&X-Amz-SignedHeaders=host&X-Amz-Expires=3600" +
			"&X-Amz-Signature=0bdd809b1519ac4f0c1dc3540e2cc46bd0c7f778eda408b2ebf3b913d21ff600 HTTP/1.1\nHost:example.amazonaws.com\n\n"},
		{"repeated header", "GET /?" + auth + "&X-Amz-SignedHeaders=host%3Bmy-header1&X-Amz-Expires=3600" +
			"&X-Amz-Signature=3349ee0b81b4b589da0ff28a395c3591e04de515651dd74f298fa992d1507a97 HTTP/1.1\nHost:example.amazonaws.com\n" +
			"My-Header1:value2\nMy-Header1:value2\nMy-Header1:value1\n\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, body := receive(t, c.text)
			id, err := verifier(t, presigned).Verify(r, body)
			if err != nil {
				t.Fatal(err)
			}
			if !id.Presigned || id.AccessKeyID != exampleID {
				t.Errorf("got %+v", id)
			}
		})
	}
	t.Run("session token", func(t *testing.T) {
		k.credentials[exampleID] = Credential{SecretID: "1", SessionTokenHash: hash(token)}
		r, body := receive(t, "GET /?"+auth+"&X-Amz-SignedHeaders=host&X-Amz-Expires=3600&X-Amz-Security-Token="+token+
			"&X-Amz-Signature=7ff2b50b376cb4d151970630573d6291dc128cc5c2a12ffb237f73cc53f67b6c HTTP/1.1\nHost:example.amazonaws.com\n\n")
		if _, err := verifier(t, presigned).Verify(r, body); err != nil {
			t.Error(err)
		}
	})
}
