package sigv4

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// scratch is the working memory of one verification. It is used again, so it is
// wiped: the canonical request holds the session token.
type scratch struct {
	params  []param
	headers []header
	buf     []byte
}

func (s *scratch) reset() {
	clear(s.params)
	clear(s.headers)
	clear(s.buf[:cap(s.buf)])
	s.params, s.headers, s.buf = s.params[:0], s.headers[:0], s.buf[:0]
	if cap(s.buf) > 8<<10 {
		s.buf = nil // one big request shall not be paid for ever after
	}
}

// canonicalRequest writes the canonical request of the AWS documentation
// ("Create a signed AWS API request", step 1) into s.buf.
func (s *scratch) canonicalRequest(r *http.Request, c claim, payload [sha256.Size]byte) error {
	path, err := sentPath(r.URL)
	if err != nil {
		return err
	}
	b := s.buf[:0]
	b = append(b, r.Method...)
	b = append(b, '\n')
	b = appendEncoded(b, path, true)
	b = append(b, '\n')
	b = appendQuery(b, s.params, c.presigned)
	b = append(b, '\n')
	for i := range s.headers {
		h := &s.headers[i]
		b = append(b, h.name...)
		b = append(b, ':')
		var ok bool
		if b, ok = h.appendValues(b); !ok {
			s.buf = b
			return refuse(InvalidSignature, "The header '", h.name, "' has a control character.")
		}
		b = append(b, '\n')
	}
	b = append(b, '\n')
	b = append(b, c.signedHeaders...)
	b = append(b, '\n')
	s.buf = hex.AppendEncode(b, payload[:])
	return nil
}

// stringToSign replaces the canonical request in s.buf by the string to sign
// (step 3).
func (s *scratch) stringToSign(c claim) {
	sum := sha256.Sum256(s.buf)
	b := s.buf[:0]
	b = append(b, algorithm+"\n"...)
	b = append(b, c.timestamp...)
	b = append(b, '\n')
	b = append(b, c.scope...)
	b = append(b, '\n')
	s.buf = hex.AppendEncode(b, sum[:])
}

// sentPath is the path as the client sent it, still encoded once. The canonical
// form encodes it again, as for every service but S3. AWS's documentation removes
// dot segments and doubled slashes first, but not all of its SDKs do so and a
// handler would see another path than the one verified: such a path is refused.
func sentPath(u *url.URL) (string, error) {
	if u.Path == "/" && u.RawPath == "" || u.Path == "" {
		return "/", nil
	}
	p := u.RawPath
	if p == "" {
		p = u.EscapedPath()
	} else if decoded, err := url.PathUnescape(p); err != nil || decoded != u.Path {
		return "", refuse(InvalidSignature, "The path is not well-formed.")
	}
	if p[0] != '/' {
		return "", refuse(InvalidSignature, "The request target is not a path.")
	}
	segments := strings.Count(p, "/")
	for segment := range strings.SplitSeq(p[1:], "/") {
		segments--
		if isDots(segment) || segment == "" && segments > 0 {
			return "", refuse(InvalidSignature, "The path must be normalized: no '.', '..' or empty segments.")
		}
	}
	return p, nil
}

// isDots recognises "." and ".." also with encoded dots, which are the same (RFC
// 3986 section 6.2.2).
func isDots(segment string) bool {
	n := 0
	for segment != "" {
		switch {
		case segment[0] == '.':
			segment = segment[1:]
		case hasPrefixFold(segment, "%2e"):
			segment = segment[3:]
		default:
			return false
		}
		n++
	}
	return n == 1 || n == 2
}

// appendQuery appends the canonical query string: names and values encoded, then
// sorted by name and value. It leaves out the signature of a presigned request.
func appendQuery(b []byte, params []param, presigned bool) []byte {
	if len(params) == 0 {
		return b
	}
	encoded := make([]param, 0, len(params))
	for _, p := range params {
		if presigned && p.name == querySignature {
			continue
		}
		encoded = append(encoded, param{encode(p.name), encode(p.value)})
	}
	slices.SortFunc(encoded, func(x, y param) int {
		return cmp.Or(strings.Compare(x.name, y.name), strings.Compare(x.value, y.value))
	})
	for i, p := range encoded {
		if i > 0 {
			b = append(b, '&')
		}
		b = append(b, p.name...)
		b = append(b, '=')
		b = append(b, p.value...)
	}
	return b
}

func encode(s string) string {
	for i := range len(s) {
		if !unreserved(s[i]) {
			return string(appendEncoded(nil, s, false))
		}
	}
	return s
}

// appendEncoded is UriEncode of AWS: all bytes but the unreserved characters of
// RFC 3986 (and slashes, in paths) become %XY with capitals.
func appendEncoded(b []byte, s string, slashes bool) []byte {
	const digits = "0123456789ABCDEF"
	for i := range len(s) {
		if c := s[i]; unreserved(c) || c == '/' && slashes {
			b = append(b, c)
		} else {
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	return b
}

func unreserved(c byte) bool {
	return digit(c) || lower(c|0x20) || c == '-' || c == '_' || c == '.' || c == '~'
}

// appendValues appends the values of a header as they came, joined by commas.
func (h *header) appendValues(b []byte) ([]byte, bool) {
	if h.values == nil {
		return appendFolded(b, h.value)
	}
	for i, value := range h.values {
		if i > 0 {
			b = append(b, ',')
		}
		var ok bool
		if b, ok = appendFolded(b, value); !ok {
			return b, false
		}
	}
	return b, true
}

// appendFolded appends a value without white space at its ends and with single
// spaces within. A control character would let one header look like two.
func appendFolded(b []byte, value string) ([]byte, bool) {
	value = strings.Trim(value, " \t")
	for i := range len(value) {
		switch c := value[i]; {
		case c == ' ' && value[i-1] == ' ':
		case c < ' ' && c != '\t' || c == 0x7f:
			return b, false
		default:
			b = append(b, c)
		}
	}
	return b, true
}
