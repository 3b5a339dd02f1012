package sigv4

import (
	"net/http"
	"strconv"
	"time"
)

// The parameters of a request that is signed in its query string.
const (
	queryAlgorithm     = "X-Amz-Algorithm"
	queryCredential    = "X-Amz-Credential"
	queryDate          = "X-Amz-Date"
	queryExpires       = "X-Amz-Expires"
	querySignedHeaders = "X-Amz-SignedHeaders"
	querySignature     = "X-Amz-Signature"
	querySession       = "X-Amz-Security-Token"
	queryContentHash   = "X-Amz-Content-Sha256"
)

// presignedClaim reads the signature from the query. Each parameter comes once;
// X-Amz-Expires may be left out and is then the clock skew, all but it and
// X-Amz-Security-Token are required.
func (v *Verifier) presignedClaim(r *http.Request, params []param) (claim, error) {
	found := make(map[string]string, 8)
	for _, p := range params {
		switch p.name {
		case queryAlgorithm, queryCredential, queryDate, queryExpires, querySignedHeaders, querySignature, querySession, queryContentHash:
			if _, twice := found[p.name]; twice {
				return claim{}, refuse(IncompleteSignature, "The query string has '", p.name, "' twice.")
			}
			found[p.name] = p.value
		}
	}
	for _, name := range [...]string{queryAlgorithm, queryCredential, querySignedHeaders, querySignature, queryDate} {
		if found[name] == "" {
			return claim{}, refuse(IncompleteSignature, "AWS query-string parameters must include '", name, "'.")
		}
	}
	if found[queryAlgorithm] != algorithm {
		return claim{}, refuseAlgorithm(found[queryAlgorithm])
	}
	if len(found[queryCredential]) > maxAuthorization || len(found[querySignedHeaders]) > maxAuthorization {
		return claim{}, refuse(IncompleteSignature, "The query string has a parameter that is too long.")
	}
	a, err := newAuthorization(found[queryCredential], found[querySignedHeaders], found[querySignature])
	c := claim{authorization: a, presigned: true, timestamp: found[queryDate], token: found[querySession], expires: v.o.MaxSkew}
	if err != nil {
		return c, err
	}
	if len(r.Header["X-Amz-Security-Token"]) > 0 {
		return c, refuse(IncompleteSignature, "A presigned request has its session token in the query string, not in a header.")
	}
	if c.time, err = parseTimestamp(c.timestamp); err != nil {
		return c, refuse(IncompleteSignature, "X-Amz-Date must be in ISO-8601 'basic format' (YYYYMMDDTHHMMSSZ).")
	}
	if text, ok := found[queryExpires]; ok {
		seconds, err := strconv.ParseUint(text, 10, 32)
		c.expires = time.Duration(seconds) * time.Second
		if err != nil || seconds == 0 || c.expires > v.o.MaxPresigned {
			return c, refuse(IncompleteSignature, "X-Amz-Expires must be a number of seconds between 1 and ",
				strconv.Itoa(int(v.o.MaxPresigned/time.Second)), ".")
		}
	}
	return c, nil
}
