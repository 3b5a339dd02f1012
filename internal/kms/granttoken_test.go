package kms

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"os"
	"strings"
	"testing"
)

func vectorGrant() *Grant {
	return &Grant{
		Key:      KeyRef{"111122223333", "eu-central-1", "1234abcd-12ab-34cd-56ef-1234567890ab"},
		ID:       "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
		TokenKey: bytes.Repeat([]byte{0xaa}, 32),
	}
}

func TestGrantTokenVector(t *testing.T) {
	t.Parallel()
	token := encodeGrantToken(vectorGrant(), bytes.Repeat([]byte{0xff}, grantSalt))
	spec, err := os.ReadFile("../../docs/spec/kms-grant-token.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(spec), "\n"+token+"\n") {
		t.Errorf("the specification has another vector than %s", token)
	}
	parsed, err := parseGrantToken(token)
	if err != nil {
		t.Fatal(err)
	}
	if g := vectorGrant(); parsed.key != g.Key || parsed.grant != g.ID || !parsed.madeBy(g) {
		t.Errorf("got %+v", parsed)
	}
}

func TestGrantTokensAreMadeByTheirGrantOnly(t *testing.T) {
	t.Parallel()
	g := vectorGrant()
	parsed, err := parseGrantToken(newGrantToken(g))
	if err != nil || !parsed.madeBy(g) {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Grant){
		"key":     func(g *Grant) { g.Key.ID = "mrk-1234abcd12ab34cd56ef1234567890ab" },
		"Region":  func(g *Grant) { g.Key.Region = "eu-west-1" },
		"account": func(g *Grant) { g.Key.Account = "444455556666" },
		"id":      func(g *Grant) { g.ID = strings.Repeat("0", 64) },
		"secret":  func(g *Grant) { g.TokenKey = bytes.Repeat([]byte{0xab}, 32) },
		"none":    func(g *Grant) { g.TokenKey = nil },
	} {
		other := vectorGrant()
		change(other)
		if parsed.madeBy(other) {
			t.Errorf("a grant of another %s has made the token", name)
		}
	}
}

func TestMalformedGrantTokens(t *testing.T) {
	t.Parallel()
	raw, err := base64.RawURLEncoding.DecodeString(newGrantToken(vectorGrant()))
	if err != nil {
		t.Fatal(err)
	}
	changed := func(at int, to byte) []byte {
		b := bytes.Clone(raw)
		b[at] = to
		return b
	}
	for name, b := range map[string][]byte{
		"empty": nil, "version only": {1}, "version 2": changed(0, 2), "account": changed(1, 'x'), "no Region": changed(13, 0), "long Region": changed(13, 255),
		"Region": changed(14, 'E'), "key": changed(27, 'X'), "short": raw[:len(raw)-1], "long": append(bytes.Clone(raw), 0),
	} {
		if _, err := parseGrantToken(base64.RawURLEncoding.EncodeToString(b)); err == nil {
			t.Errorf("%s: parsed", name)
		}
	}
}

// FuzzGrantToken checks that a token has one form only.
func FuzzGrantToken(f *testing.F) {
	f.Add(encodeGrantToken(vectorGrant(), make([]byte, grantSalt)))
	f.Add("")
	f.Add("AQ")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parseGrantToken(s)
		if err != nil {
			return
		}
		id, err := hex.DecodeString(p.grant)
		if err != nil || len(id) != 32 || len(p.mac) != 32 || !validKeyID(p.key.ID) {
			t.Fatalf("got %+v", p)
		}
		again := encodeGrantToken(&Grant{Key: p.key, ID: p.grant}, p.body[len(p.body)-grantSalt:])
		raw, err := base64.RawURLEncoding.DecodeString(again)
		if err != nil || base64.RawURLEncoding.EncodeToString(append(raw[:len(raw)-32], p.mac...)) != s {
			t.Fatalf("%q is also %q", s, again)
		}
	})
}
