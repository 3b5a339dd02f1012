package sigv4

import (
	"strings"
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	terminator = "aws4_request"
)

// authorization is a parsed Authorization header, or the same parts of a query.
type authorization struct {
	accessKeyID   string
	scope         string // date/region/service/aws4_request
	date          string // YYYYMMDD
	region        string
	service       string
	signedHeaders string // lower case, sorted, unique, joined by semicolons
	signature     [32]byte
}

// parseAuthorization parses
//
//	AWS4-HMAC-SHA256 Credential=KEY/DATE/REGION/SERVICE/aws4_request, SignedHeaders=a;b, Signature=HEX
//
// The three parts may be in any order and have any number of spaces before them;
// each must be there once and nothing else may be.
func parseAuthorization(line string) (authorization, error) {
	if len(line) > maxAuthorization {
		return authorization{}, refuse(IncompleteSignature, "The Authorization header is too long.")
	}
	scheme, rest, _ := strings.Cut(line, " ")
	if scheme != algorithm {
		return authorization{}, refuseAlgorithm(scheme)
	}
	var credential, signed, signature string
	for rest != "" {
		var part string
		var more bool
		part, rest, more = strings.Cut(rest, ",")
		if more && strings.Trim(rest, " ") == "" {
			return authorization{}, refuse(IncompleteSignature, "Authorization header ends with a comma.")
		}
		name, value, ok := strings.Cut(strings.TrimLeft(part, " "), "=")
		if !ok {
			// Not echoed, as AWS does: it may be a secret that went astray.
			return authorization{}, refuse(IncompleteSignature,
				"A part of the Authorization header is not a valid key=value pair (missing equal-sign).")
		}
		var to *string
		switch name {
		case "Credential":
			to = &credential
		case "SignedHeaders":
			to = &signed
		case "Signature":
			to = &signature
		default:
			return authorization{}, refuse(IncompleteSignature,
				"Authorization header has a parameter other than 'Credential', 'SignedHeaders' and 'Signature'.")
		}
		if *to != "" {
			return authorization{}, refuse(IncompleteSignature, "Authorization header has the parameter '", name, "' twice.")
		}
		if value == "" {
			return authorization{}, refuse(IncompleteSignature, "Authorization header has an empty '", name, "' parameter.")
		}
		*to = value
	}
	if credential == "" || signed == "" || signature == "" {
		return authorization{}, refuseMissing(credential, signed, signature)
	}
	return newAuthorization(credential, signed, signature)
}

// refuseMissing lists what is not there, in AWS's words.
func refuseMissing(credential, signed, signature string) error {
	var lacks []string
	for _, p := range [...]struct{ name, value string }{
		{"Credential", credential}, {"Signature", signature}, {"SignedHeaders", signed},
	} {
		if p.value == "" {
			lacks = append(lacks, "Authorization header requires '"+p.name+"' parameter.")
		}
	}
	return refuse(IncompleteSignature, strings.Join(lacks, " "))
}

// refuseAlgorithm does not repeat what was sent: it may be a bare token.
func refuseAlgorithm(name string) error {
	if strings.HasPrefix(name, "AWS4-ECDSA-P256-SHA256") {
		return refuse(IncompleteSignature, "Unsupported AWS 'algorithm': 'AWS4-ECDSA-P256-SHA256' (Signature Version 4A). Sign with '", algorithm, "'.")
	}
	return refuse(IncompleteSignature, "Unsupported AWS 'algorithm'. Sign with '", algorithm, "'.")
}

func newAuthorization(credential, signed, signature string) (authorization, error) {
	a := authorization{signedHeaders: signed}
	if err := a.parseCredential(credential); err != nil {
		return authorization{}, err
	}
	if err := checkSignedHeaders(signed); err != nil {
		return a, err
	}
	if !decodeHex(a.signature[:], signature) {
		return a, refuse(IncompleteSignature, "'Signature' must be 64 lower-case hexadecimal digits.")
	}
	return a, nil
}

func (a *authorization) parseCredential(credential string) error {
	rest := credential
	var parts [4]string
	for i := range parts {
		var ok bool
		if parts[i], rest, ok = strings.Cut(rest, "/"); !ok {
			return refuseCredential()
		}
	}
	switch {
	case strings.Contains(rest, "/"):
		return refuseCredential()
	case !validKeyID(parts[0]):
		return refuse(IncompleteSignature, "The access key ID in 'Credential' must be 1 to 128 letters, digits or underscores.")
	case !validDate(parts[1]):
		return refuse(IncompleteSignature, "The date in 'Credential' must be YYYYMMDD.")
	case !validScopeName(parts[2]):
		return refuse(IncompleteSignature, "The region in 'Credential' must be 1 to 128 lower-case letters, digits or hyphens.")
	case !validScopeName(parts[3]):
		return refuse(IncompleteSignature, "The service in 'Credential' must be 1 to 128 lower-case letters, digits or hyphens.")
	case rest != terminator:
		return refuse(InvalidSignature, "Credential should be scoped with a valid terminator: '", terminator, "'.")
	}
	a.accessKeyID, a.date, a.region, a.service = parts[0], parts[1], parts[2], parts[3]
	a.scope = credential[len(a.accessKeyID)+1:]
	return nil
}

func refuseCredential() error {
	return refuse(IncompleteSignature, "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term.")
}

// checkSignedHeaders wants the one order that AWS documents.
func checkSignedHeaders(list string) error {
	n, last := 0, ""
	for name := range strings.SplitSeq(list, ";") {
		n++
		switch {
		case n > maxSignedHeaders:
			return refuse(IncompleteSignature, "'SignedHeaders' has too many names.")
		case !validHeaderName(name):
			return refuse(IncompleteSignature, "'SignedHeaders' must be lower-case header names joined by semicolons.")
		case name <= last:
			return refuse(IncompleteSignature, "'SignedHeaders' must be sorted and name each header once.")
		}
		last = name
	}
	return nil
}

// contains tells whether a list of signed headers has the name.
func contains(list, name string) bool {
	for n := range strings.SplitSeq(list, ";") {
		if n == name {
			return true
		}
	}
	return false
}

func all(s string, ok func(c byte) bool) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for i := range len(s) {
		if !ok(s[i]) {
			return false
		}
	}
	return true
}

func digit(c byte) bool { return '0' <= c && c <= '9' }
func lower(c byte) bool { return 'a' <= c && c <= 'z' }

// validKeyID is IAM's pattern for access key ids, but without its least length.
func validKeyID(s string) bool {
	return all(s, func(c byte) bool { return digit(c) || lower(c|0x20) || c == '_' })
}

func validDate(s string) bool { return len(s) == 8 && all(s, digit) }

// validScopeName is for regions and services.
func validScopeName(s string) bool {
	return all(s, func(c byte) bool { return digit(c) || lower(c) || c == '-' })
}

// validHeaderName is a token of RFC 9110 without capitals.
func validHeaderName(s string) bool {
	return all(s, func(c byte) bool {
		return digit(c) || lower(c) || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
	})
}

// decodeHex takes lower case only, so that a signature has one form.
func decodeHex(to []byte, s string) bool {
	if len(s) != 2*len(to) {
		return false
	}
	for i := range to {
		hi, lo := nibble(s[2*i]), nibble(s[2*i+1])
		if hi > 15 || lo > 15 {
			return false
		}
		to[i] = hi<<4 | lo
	}
	return true
}

func nibble(c byte) byte {
	switch {
	case digit(c):
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 0xff
}
