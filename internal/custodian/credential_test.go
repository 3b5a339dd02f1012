package custodian

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"cardea/internal/secret"
)

func TestTokenReadsBack(t *testing.T) {
	t.Parallel()
	seen := map[[32]byte]bool{}
	for range 100 {
		token, want := NewToken()
		got, err := HashToken(token)
		if err != nil || got != want || want != sha256.Sum256(token.Expose()) {
			t.Fatalf("hash: %v, or another one", err)
		}
		if token.Len() != 65 || !strings.HasPrefix(string(token.Expose()), "cardea-custodian-") {
			t.Fatal("the token has another form")
		}
		if seen[got] {
			t.Fatal("a token came twice")
		}
		seen[got] = true
	}
}

func TestHashTokenRefusesEveryMistypedCharacter(t *testing.T) {
	t.Parallel()
	good := readVectors(t).Token.Token
	for i := range good {
		for c := byte(0); c < 128; c++ {
			if c == good[i] {
				continue
			}
			if _, err := HashToken(text(good[:i] + string(c) + good[i+1:])); !errors.Is(err, ErrMalformedToken) {
				t.Fatalf("character %d changed: got %v, want ErrMalformedToken", i, err)
			}
		}
	}
	for _, bad := range []string{
		"", good[1:], good[:len(good)-1], good + "A", good + "\n", " " + good, good[:64] + "\n", good[:30] + "\n" + good[30:],
		"cardea-custodian-" + base64.StdEncoding.EncodeToString(make([]byte, 36)),
		strings.ToUpper(good), strings.Repeat("x", 1<<16),
	} {
		_, err := HashToken(text(bad))
		wantError(t, err, ErrMalformedToken, "malformed custodian token")
	}
	if _, err := HashToken(secret.Bytes{}); !errors.Is(err, ErrMalformedToken) {
		t.Errorf("no token: got %v", err)
	}
}

func TestAuthenticate(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	alice, aliceHash := NewToken()
	bob, bobHash := NewToken()
	eve, _ := NewToken()
	credentials := []Credential{
		{Tenant: "acme", Name: "alice", TokenHash: aliceHash, ShareIndex: 1, CreatedAt: now},
		{Tenant: "acme", Name: "bob", TokenHash: bobHash, ShareIndex: 2, CreatedAt: now, ExpiresAt: now.Add(time.Hour)},
	}
	for name, token := range map[string]secret.Bytes{"alice": alice, "bob": bob} {
		if c, err := Authenticate(credentials, "acme", token, now); err != nil || c.Name != name {
			t.Errorf("got %q, %v; want %q", c.Name, err, name)
		}
	}
	for _, c := range []struct {
		name, tenant string
		token        secret.Bytes
		now          time.Time
		is           error
		want         string
	}{
		{"nobody's token", "acme", eve, now, ErrBadToken, "custodian token is not valid here"},
		{"token of another tenant", "other", alice, now, ErrBadToken, "custodian token is not valid here"},
		{"no token", "acme", secret.Bytes{}, now, ErrMalformedToken, "malformed custodian token"},
		{"expired", "acme", bob, now.Add(time.Hour), ErrExpired, `custodian "bob": custodian token has expired`},
	} {
		got, err := Authenticate(credentials, c.tenant, c.token, c.now)
		if err == nil || err.Error() != c.want || !errors.Is(err, c.is) || got != (Credential{}) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
	if _, err := Authenticate(credentials, "acme", alice, now.AddDate(100, 0, 0)); err != nil {
		t.Errorf("a credential without end ended: %v", err)
	}
	if _, err := Authenticate(nil, "acme", alice, now); !errors.Is(err, ErrBadToken) {
		t.Errorf("without credentials: got %v", err)
	}
}

func TestCredentialValidate(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	good := Credential{Tenant: "acme", Name: "alice@example.com", TokenHash: [32]byte{1}, ShareIndex: 16, CreatedAt: now, ExpiresAt: now.Add(1)}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		change func(*Credential)
		want   string
	}{
		{func(c *Credential) { c.Tenant = "" }, "custodian: tenant has 0 bytes, want 1 to 255"},
		{func(c *Credential) { c.Name = "" }, "custodian: name has 0 bytes, want 1 to 64"},
		{func(c *Credential) { c.Name = strings.Repeat("a", 65) }, "custodian: name has 65 bytes, want 1 to 64"},
		{func(c *Credential) { c.Name = "a b" }, "custodian: name has a character other than visible ASCII, or a slash"},
		{func(c *Credential) { c.Name = "a/b" }, "custodian: name has a character other than visible ASCII, or a slash"},
		{func(c *Credential) { c.Name = "a\nb" }, "custodian: name has a character other than visible ASCII, or a slash"},
		{func(c *Credential) { c.Name = "ä" }, "custodian: name has a character other than visible ASCII, or a slash"},
		{func(c *Credential) { c.ShareIndex = 17 }, `custodian "alice@example.com": share index 17, want 0 to 16`},
		{func(c *Credential) { c.ShareIndex = -1 }, `custodian "alice@example.com": share index -1, want 0 to 16`},
		{func(c *Credential) { c.TokenHash = [32]byte{} }, `custodian "alice@example.com": has no token hash`},
		{func(c *Credential) { c.ExpiresAt = now }, `custodian "alice@example.com": expires before it is created`},
	} {
		bad := good
		c.change(&bad)
		wantError(t, bad.Validate(), nil, c.want)
	}
}

func FuzzHashToken(f *testing.F) {
	token, _ := NewToken()
	f.Add(string(token.Expose()))
	f.Add("cardea-custodian-")
	f.Fuzz(func(t *testing.T, s string) {
		got, err := HashToken(text(s))
		if err != nil {
			if !errors.Is(err, ErrMalformedToken) || got != [32]byte{} {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		// One valid encoding: what was accepted is what its bytes encode to.
		raw, err := base64.RawURLEncoding.Strict().DecodeString(s[len(tokenPrefix):])
		if err != nil || tokenPrefix+base64.RawURLEncoding.EncodeToString(raw) != s {
			t.Fatalf("accepted another spelling: %v", err)
		}
	})
}
