package identity

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"strings"
	"unicode"

	"cardea/internal/iam"
	"cardea/internal/secret"
)

// Prefixes of unique ids, AWS's "IAM identifiers".
const (
	prefixUser      = "AIDA"
	prefixRole      = "AROA"
	prefixGroup     = "AGPA"
	prefixAccessKey = "AKIA"
	prefixSession   = "ASIA"
)

// newID makes an id of the prefix and n characters of A-Z and 2-7, of 5 random bits each.
func newID(prefix string, n int) string {
	b := make([]byte, 15) // 24 characters
	rand.Read(b)
	return prefix + base32.StdEncoding.EncodeToString(b)[:n]
}

// Ids of entities have 21 characters, access key ids 20.
func newEntityID(prefix string) string { return newID(prefix, 17) }
func newKeyID(prefix string) string    { return newID(prefix, 16) }

// isKeyID reports whether s has the form of an access key id of this package.
func isKeyID(s string) bool {
	if len(s) != 20 || s[:4] != prefixAccessKey && s[:4] != prefixSession {
		return false
	}
	for i := 4; i < len(s); i++ {
		if c := s[i]; (c < 'A' || c > 'Z') && (c < '2' || c > '7') {
			return false
		}
	}
	return true
}

// newSecretKey makes a secret access key: 40 characters of base64 of 240 random bits.
func newSecretKey() secret.Bytes { return newToken(30) }

// newToken makes n random bytes, in base64.
func newToken(n int) secret.Bytes {
	raw := secret.Random(n)
	defer raw.Destroy()
	text := make([]byte, base64.StdEncoding.EncodedLen(n))
	base64.StdEncoding.Encode(text, raw.Expose())
	return secret.New(text)
}

// newAccountID makes an account id at random. It does not begin with 0, which
// spreadsheets and configuration files lose.
func newAccountID() string {
	const digits = "0123456789"
	for {
		b := make([]byte, 12)
		rand.Read(b)
		ok := true
		for i, c := range b {
			ok = ok && c < 250 // else some digits would be more likely
			b[i] = digits[c%10]
		}
		if ok && b[0] != '0' {
			return string(b)
		}
	}
}

func arnOf(kind Kind, account, path, name string) string {
	return "arn:aws:iam::" + account + ":" + string(kind) + path + name
}

func rootARN(account string) string { return "arn:aws:iam::" + account + ":root" }

func sessionARN(account, role, session string) string {
	return "arn:aws:sts::" + account + ":assumed-role/" + role + "/" + session
}

// lastName is the name at the end of a resource "user/path/name".
func lastName(resource string) string { return resource[strings.LastIndexByte(resource, '/')+1:] }

// isTagText reports whether s has only characters that tags may have.
func isTagText(s string) bool {
	for _, r := range s {
		if !unicode.In(r, unicode.L, unicode.Z, unicode.N) && !strings.ContainsRune("_.:/=+-@", r) || r == unicode.ReplacementChar {
			return false
		}
	}
	return true
}

// principalKind is the kind of row and the name that an ARN of a user or role
// names; for an assumed role's session those of its role. The path is not
// checked for a session, which has none.
func principalOf(a iam.ARN) (kind Kind, name string, ok bool) {
	kindName, rest, _ := strings.Cut(a.Resource, "/")
	switch {
	case a.Partition != "aws" || a.Region != "" || rest == "":
	case a.Service == "iam" && (kindName == "user" || kindName == "role"):
		return Kind(kindName), lastName(a.Resource), true
	case a.Service == "sts" && kindName == "assumed-role":
		role, session, _ := strings.Cut(rest, "/")
		return kindRole, role, isName(session)
	}
	return "", "", false
}
