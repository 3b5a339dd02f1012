package kms

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"
)

// A grant token names a grant, so that it can be found by a node whose cache does
// not know it yet. It gives nobody anything: the grant does, to its grantee. It is
// authenticated under a key in the grant's row, so that it is valid on every node at
// once, needs no other key, and dies with the grant. docs/spec/kms-grant-token.md
// has the bytes.
type grantToken struct {
	key   KeyRef
	grant string
	body  []byte // all but the MAC
	mac   []byte
}

const (
	grantTokenVersion = 1
	grantTokenLabel   = "cardea grant token v1"
	grantSalt         = 16
)

func errGrantToken() error { return refuse(CodeInvalidGrantToken, "Grant token is invalid.") }

// newGrantToken makes a token of the grant, another each time.
func newGrantToken(g *Grant) string {
	var salt [grantSalt]byte
	rand.Read(salt[:])
	return encodeGrantToken(g, salt[:])
}

func encodeGrantToken(g *Grant, salt []byte) string {
	id, _ := hex.DecodeString(g.ID) // ids are made by us
	b := []byte{grantTokenVersion}
	b = append(b, g.Key.Account...)
	b = append(append(b, byte(len(g.Key.Region))), g.Key.Region...)
	b = append(append(b, byte(len(g.Key.ID))), g.Key.ID...)
	b = append(append(b, id...), salt...)
	return base64.RawURLEncoding.EncodeToString(append(b, grantMAC(g, b)...))
}

func grantMAC(g *Grant, body []byte) []byte {
	m := hmac.New(sha256.New, g.TokenKey)
	m.Write([]byte(grantTokenLabel))
	m.Write(body)
	return m.Sum(nil)
}

// madeBy reports whether the token was made of the grant.
func (t *grantToken) madeBy(g *Grant) bool {
	return len(g.TokenKey) > 0 && t.key == g.Key && t.grant == g.ID && hmac.Equal(t.mac, grantMAC(g, t.body))
}

// parseGrantToken parses a token. Whether it was made here the grant tells.
func parseGrantToken(s string) (*grantToken, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || strings.ContainsAny(s, "\r\n") { // which decoding skips
		return nil, errGrantToken()
	}
	rest, t := b, &grantToken{}
	take := func(n int) []byte {
		if len(rest) < n {
			rest, n = nil, 0
			err = errGrantToken()
		}
		out := rest[:n]
		rest = rest[n:]
		return out
	}
	short := func() string { // a string after its length
		n := take(1)
		if len(n) == 0 {
			return ""
		}
		return string(take(int(n[0])))
	}
	version := take(1)
	t.key.Account = string(take(12))
	t.key.Region, t.key.ID = short(), short()
	t.grant = hex.EncodeToString(take(sha256.Size))
	take(grantSalt)
	t.body = b[:len(b)-len(rest)]
	t.mac = take(sha256.Size)
	if err != nil || len(rest) > 0 || version[0] != grantTokenVersion || !digits(t.key.Account) || !validRegion(t.key.Region) || !validKeyID(t.key.ID) {
		return nil, errGrantToken()
	}
	return t, nil
}

// wellFormedTokens refuses tokens that cannot be ours, before they are needed.
func wellFormedTokens(ts []string) error {
	for _, t := range ts {
		if _, err := parseGrantToken(t); err != nil {
			return err
		}
	}
	return nil
}

func digits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// validRegion reports whether s has the characters of a Region's name.
func validRegion(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}
