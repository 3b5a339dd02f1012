package kmsclient_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"cardea/internal/kmsclient"
	"cardea/internal/secret"
)

// TestRequestsAreAsKMSWantsThem looks at what goes out: the key service's own suite says
// that it is understood.
func TestRequestsAreAsKMSWantsThem(t *testing.T) {
	t.Parallel()
	var (
		got  *http.Request
		text map[string]any
	)
	s := &stub{}
	s.answer = func(_ int, r *http.Request) (*http.Response, error) {
		got = r
		body, err := r.GetBody()
		if err != nil {
			return nil, err
		}
		if err := json.NewDecoder(body).Decode(&text); err != nil {
			return nil, err
		}
		return encrypted()
	}
	c := s.client(t, func(o *kmsclient.Options) {
		creds := anybody()
		creds.SessionToken = secret.Copy([]byte("session"))
		o.Credentials[""] = creds
	})
	ok(t, c.encrypt(t, stubKey))
	for name, want := range map[string]string{
		"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "TrentService.Encrypt", "User-Agent": "cardea app/cardea", "X-Amz-Security-Token": "session",
	} {
		if v := got.Header.Get(name); v != want {
			t.Errorf("%s: %q, want %q", name, v, want)
		}
	}
	if got.URL.String() != "https://kms."+region+".amazonaws.com/" || got.Method != http.MethodPost || got.ContentLength < 100 {
		t.Errorf("%s %s, %d bytes", got.Method, got.URL, got.ContentLength)
	}
	auth := got.Header.Get("Authorization")
	if !strings.HasPrefix(auth, "AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/") || !strings.Contains(auth, "/"+region+"/kms/aws4_request, SignedHeaders=content-length;content-type;host;x-amz-date;x-amz-security-token;x-amz-target, ") {
		t.Errorf("signed as %s", auth)
	}
	if len(text) != 3 || text["KeyId"] != stubKey.ID || text["Plaintext"] != "eA==" || len(text["EncryptionContext"].(map[string]any)) != len(tenant) {
		t.Errorf("asked %v", text)
	}
	// Once the call has returned, nothing of it is left.
	after, err := got.GetBody()
	ok(t, err)
	left, err := io.ReadAll(after)
	if err != nil || int64(len(left)) != got.ContentLength || strings.Trim(string(left), "\x00") != "" {
		t.Errorf("%d bytes of %d are left, %v", len(strings.Trim(string(left), "\x00")), got.ContentLength, err)
	}
}

func TestContextThatIsNoTextIsRefused(t *testing.T) {
	t.Parallel()
	s := &stub{answer: func(int, *http.Request) (*http.Response, error) { return encrypted() }}
	_, _, err := s.client(t).Encrypt(t.Context(), stubKey, secret.Copy([]byte("x")), map[string]string{"tenant": "a\xff"})
	if e := is(t, err, kmsclient.ErrInvalid); !strings.HasSuffix(e.Error(), "the request cannot be written as JSON: text that is not UTF-8") || s.asked() != 0 {
		t.Errorf("got %v after %d requests", err, s.asked())
	}
}

// TestErrorsAreReadInEveryForm has the forms in which services name their errors.
func TestErrorsAreReadInEveryForm(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ header, body string }{
		"name":                     {"", `{"__type":"DisabledException","message":"off"}`},
		"namespace":                {"", `{"__type":"com.amazonaws.kms#DisabledException","message":"off"}`},
		"namespace and URI":        {"", `{"__type":"com.amazonaws.kms#DisabledException:http://internal.amazon.com/coral/","Message":"off"}`},
		"code":                     {"", `{"code":"DisabledException","message":"off"}`},
		"header":                   {"DisabledException", `{"message":"off"}`},
		"header before the body":   {"DisabledException:http://internal.amazon.com/", `{"__type":"NotFoundException","message":"off"}`},
		"other members are theirs": {"", `{"__type":"DisabledException","message":"off","Reason":7}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &stub{answer: func(int, *http.Request) (*http.Response, error) {
				h := http.Header{}
				if test.header != "" {
					h.Set("X-Amzn-Errortype", test.header)
				}
				return reply(http.StatusBadRequest, h, test.body)
			}}
			if e := is(t, s.client(t).encrypt(t, stubKey), kmsclient.ErrDisabled); !strings.HasSuffix(e.Error(), ": DisabledException: off") {
				t.Errorf("got %v", e)
			}
		})
	}
}
