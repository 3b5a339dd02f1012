package sigv4

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strconv"
	"strings"
)

// gatherHeaders finds the values of each signed header and refuses a request with
// a header that must be signed and is not, or that comes twice and is read once.
func (v *Verifier) gatherHeaders(r *http.Request, c claim, s *scratch) error {
	for name := range strings.SplitSeq(c.signedHeaders, ";") {
		s.headers = append(s.headers, header{name: name})
	}
	for name, values := range r.Header {
		if len(values) == 0 {
			continue
		}
		protected := hasPrefixFold(name, "x-amz-") || strings.EqualFold(name, "Content-Type")
		if protected && len(values) > 1 {
			return refuse(InvalidSignature, "The request has more than one '", name, "' header.")
		}
		h := s.find(name)
		switch {
		case h == nil && protected && (!v.o.AllowUnsignedContentType || !strings.EqualFold(name, "Content-Type")):
			return refuse(InvalidSignature, "'", name, "' must be a 'SignedHeader' in the AWS Authorization.")
		case h == nil:
		case h.values != nil: // possible only with names that are not in canonical form
			return refuse(InvalidSignature, "The request has the header '", h.name, "' in two spellings.")
		default:
			h.values = values
		}
	}
	for i := range s.headers {
		if err := s.headers[i].complete(r); err != nil {
			return err
		}
	}
	if h := s.find("host"); h == nil || h.value == "" {
		return refuse(InvalidSignature, "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
	}
	return nil
}

// header is a signed header: its values, or one value that net/http keeps
// elsewhere.
type header struct {
	name   string
	value  string
	values []string
}

// complete takes from r what is not in its header map: the host always, the
// length of the body where the request was not read from a connection.
func (h *header) complete(r *http.Request) error {
	switch {
	case h.name == "host":
		h.value, h.values = r.Host, nil
	case h.values != nil:
	case h.name == "content-length" && r.ContentLength > 0:
		h.value = strconv.FormatInt(r.ContentLength, 10)
	default:
		return refuse(InvalidSignature, "The signed header '", h.name, "' is not in the request; a proxy may have removed it.")
	}
	return nil
}

// find is the signed header of that name, in any case of letters, or nil.
func (s *scratch) find(name string) *header {
	for i := range s.headers {
		if len(s.headers[i].name) == len(name) && strings.EqualFold(s.headers[i].name, name) {
			return &s.headers[i]
		}
	}
	return nil
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// payloadHash is the SHA-256 of the body. What the request itself says of its
// payload must agree: nothing but a hash of the whole body is accepted.
func payloadHash(r *http.Request, c claim, s *scratch, body []byte) ([sha256.Size]byte, error) {
	sum := sha256.Sum256(body)
	said, err := single(r.Header, "X-Amz-Content-Sha256")
	if err != nil {
		return sum, err
	}
	if err := checkContentHash(said, sum); err != nil {
		return sum, err
	}
	if c.presigned {
		for _, p := range s.params {
			if p.name == queryContentHash {
				return sum, checkContentHash(p.value, sum)
			}
		}
	}
	return sum, nil
}

func checkContentHash(said string, sum [sha256.Size]byte) error {
	var want [sha256.Size]byte
	switch {
	case said == "":
		return nil
	case said == "UNSIGNED-PAYLOAD" || strings.HasPrefix(said, "STREAMING-"):
		return refuse(InvalidSignature, "The payload must be signed: 'x-amz-content-sha256' must be the SHA-256 of the whole body in hexadecimal.")
	case !decodeHex(want[:], said) || subtle.ConstantTimeCompare(want[:], sum[:]) != 1:
		return refuse(InvalidSignature, "The provided 'x-amz-content-sha256' header does not match what was computed.")
	}
	return nil
}
