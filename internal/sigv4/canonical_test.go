package sigv4

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestPathIsEncodedTwice(t *testing.T) {
	t.Parallel()
	for target, want := range map[string]string{
		"/":                    "/",
		"/a/b":                 "/a/b",
		"/a/b/":                "/a/b/",
		"/documents%20and/x":   "/documents%2520and/x", // the example of the documentation
		"/a%2Fb":               "/a%252Fb",
		"/a%2fb":               "/a%252fb",
		"/-._~":                "/-._~",
		"/a+b":                 "/a%2Bb",
		"/*:@$&'(),;=":         "/%2A%3A%40%24%26%27%28%29%2C%3B%3D",
		"/%E1%88%B4":           "/%25E1%2588%25B4",
		"/\u1234":              "/%E1%88%B4", // as it was sent: not encoded
		"/...":                 "/...",
		"/.a/b./..c":           "/.a/b./..c",
		"http://localhost:459": "/",
	} {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			t.Fatal(err)
		}
		path, err := sentPath(u)
		if err != nil {
			t.Errorf("%s: %v", target, err)
			continue
		}
		if got := string(appendEncoded(nil, path, true)); got != want {
			t.Errorf("%s: got %s, want %s", target, got, want)
		}
	}
}

func TestPathThatIsNotNormalIsRefused(t *testing.T) {
	t.Parallel()
	for _, target := range []string{
		"/.", "/..", "/./", "/a/./b", "/a/../b", "/a/..", "//", "//a", "/a//b", "/a//", "/%2e", "/%2E%2e/a", "/.%2E", "/%2e./",
	} {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			t.Fatal(err)
		}
		_, err = sentPath(u)
		refused(t, err, InvalidSignature, "The path must be normalized: no '.', '..' or empty segments.")
	}
	_, err := sentPath(&url.URL{Path: "*"})
	refused(t, err, InvalidSignature, "The request target is not a path.")
	_, err = sentPath(&url.URL{Path: "/a", RawPath: "/b"})
	refused(t, err, InvalidSignature, "The path is not well-formed.")
	_, err = sentPath(&url.URL{Path: "/a", RawPath: "/%zz"})
	refused(t, err, InvalidSignature, "The path is not well-formed.")
}

func canonicalQuery(raw string) (string, error) {
	var s scratch
	err := s.parseQuery(raw)
	return string(appendQuery(nil, s.params, false)), err
}

func TestCanonicalQuery(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"":                        "",
		"a":                       "a=",
		"a=":                      "a=",
		"=a":                      "=a",
		"&&a=b&":                  "a=b",
		"b=2&a=1":                 "a=1&b=2",
		"a=2&a=1":                 "a=1&a=2",
		"A=1&a=1&B=1":             "A=1&B=1&a=1",
		"a-=1&a=2":                "a=2&a-=1", // by name, not by the pair as text
		"%C3%A4=1&z=1":            "%C3%A4=1&z=1",
		"a=a/b&a=a-b":             "a=a%2Fb&a=a-b", // sorted after encoding
		"a=x+y&b=x%20y&c=x%2By":   "a=x%20y&b=x%20y&c=x%2By",
		"a=%7e%2D%2e%5f":          "a=~-._",
		"a=b=c":                   "a=b%3Dc",
		"a=!*'()":                 "a=%21%2A%27%28%29",
		"X-Amz-Signature=0&a=%00": "X-Amz-Signature=0&a=%00",
	} {
		if got, err := canonicalQuery(raw); err != nil || got != want {
			t.Errorf("%s: got %s, %v, want %s", raw, got, err, want)
		}
	}
	for _, raw := range []string{"a=%", "a=%4", "%zz=a", "a;b", "a=1;b=2"} {
		_, err := canonicalQuery(raw)
		refused(t, err, InvalidSignature, "The query string is not well-formed.")
	}
}

func TestHeaderValues(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		values []string
		want   string
	}{
		{[]string{""}, ""},
		{[]string{" \t "}, ""},
		{[]string{"a"}, "a"},
		{[]string{"  a   b  c "}, "a b c"},
		{[]string{`"a   b"`}, `"a b"`}, // quotes protect nothing
		{[]string{"a\tb \t c"}, "a\tb \t c"},
		{[]string{"b", " a ", "b"}, "b,a,b"},
		{[]string{"", ""}, ","},
		{[]string{"\u00e4"}, "\u00e4"},
		{[]string{"\xe4"}, "\xe4"},
	} {
		h := header{values: c.values}
		if got, ok := h.appendValues(nil); !ok || string(got) != c.want {
			t.Errorf("%q: got %q, %v, want %q", c.values, got, ok, c.want)
		}
	}
	for _, value := range []string{"a\nb", "a\rb", "a\x00", "\x1f", "a\x7fb"} {
		h := header{values: []string{"fine", value}}
		if _, ok := h.appendValues(nil); ok {
			t.Errorf("%q: accepted", value)
		}
	}
}

// TestCanonicalQueryMeansTheSame checks that what is verified is what a handler
// sees by url.ParseQuery: the same values, and other values have another form.
func TestCanonicalQueryMeansTheSame(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		raw := rapid.StringMatching(`([a-cA -~%&=+2]|%2[0-9A-Fa-f]|%[c-f][0-9]){0,30}`).Draw(t, "raw")
		checkQuery(t, raw)
	})
}

func checkQuery(t interface{ Fatalf(string, ...any) }, raw string) {
	canonical, err := canonicalQuery(raw)
	values, parseErr := url.ParseQuery(raw)
	if (err != nil) != (parseErr != nil) {
		if strings.Count(raw, "&") >= maxParams {
			return
		}
		t.Fatalf("%q: got %v, url.ParseQuery %v", raw, err, parseErr)
	}
	if err != nil {
		return
	}
	again, err := canonicalQuery(canonical)
	if err != nil || again != canonical {
		t.Fatalf("%q: canonical form %q of the canonical form %q, %v", raw, again, canonical, err)
	}
	if strings.ContainsAny(canonical, "+ \n;") {
		t.Fatalf("%q: canonical form %q is not encoded", raw, canonical)
	}
	back, err := url.ParseQuery(canonical)
	if err != nil || len(back) != len(values) {
		t.Fatalf("%q: canonical form %q means something else", raw, canonical)
	}
	for name := range values {
		slices.Sort(values[name])
		slices.Sort(back[name])
		if !slices.Equal(values[name], back[name]) {
			t.Fatalf("%q: canonical form %q changes the values of %q", raw, canonical, name)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		change  func(*http.Request)
		message string
	}{
		{"100 header lines", func(r *http.Request) {
			for n := len(r.Header); n < 100; n++ {
				r.Header.Add("Other", "x")
			}
		}, ""},
		{"101 header lines", func(r *http.Request) {
			for n := len(r.Header); n <= 100; n++ {
				r.Header.Add("Other", "x")
			}
		}, "more than 100 header lines"},
		{"header bytes", func(r *http.Request) { r.Header.Set("Other", strings.Repeat("x", 32<<10)) }, "The request's headers are too long."},
		{"query", func(r *http.Request) { r.URL.RawQuery = strings.Repeat("x", 16<<10+1) }, "The request's query string is too long."},
		{"parameters", func(r *http.Request) { r.URL.RawQuery = strings.Repeat("a&", 257) }, "more than 256 parameters"},
		{"path", func(r *http.Request) { r.URL.Path = "/" + strings.Repeat("x", 2048) }, "The request's path is too long."},
		{"host", func(r *http.Request) { r.Host = strings.Repeat("x", 262) }, "The request's host is too long."},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, body := signed(example())
			c.change(r)
			_, err := verifier(t).Verify(r, body)
			if c.message == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			refused(t, err, IncompleteSignature, c.message)
		})
	}
	r, body := signed(example())
	r.URL = nil
	_, err := verifier(t).Verify(r, body)
	refused(t, err, InvalidSignature, "The request target is not a path.")
}
