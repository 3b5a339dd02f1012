package sigv4

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Limits, in bytes unless they say otherwise. They are checked before parsing.
const (
	maxAuthorization = 4096
	maxHeaderLines   = 100
	maxHeaderBytes   = 32 << 10 // names and values together
	maxSignedHeaders = 64       // names
	maxName          = 128      // of an access key, region, service, header
	maxPath          = 2048
	maxQuery         = 16 << 10
	maxParams        = 256 // of the query
	maxHost          = 261 // a name of 255, a colon and a port
	maxToken         = 8 << 10
)

// timeLayout is ISO 8601 basic format, always UTC.
const timeLayout = "20060102T150405Z"

func timestamp(t time.Time) string { return t.UTC().Format(timeLayout) }

// claim is what a request says of its signature; nothing in it is proven yet.
type claim struct {
	authorization
	presigned bool
	timestamp string // of the string to sign, in timeLayout
	time      time.Time
	expires   time.Duration // presigned only
	token     string        // session token; empty if there is none
}

// claim finds and parses the signature of r, in its header or its query.
func (v *Verifier) claim(r *http.Request, s *scratch) (claim, error) {
	if err := checkLimits(r); err != nil {
		return claim{}, err
	}
	if err := s.parseQuery(r.URL.RawQuery); err != nil {
		return claim{}, err
	}
	lines := r.Header["Authorization"]
	inQuery := slices.ContainsFunc(s.params, func(p param) bool {
		return p.name == queryAlgorithm || p.name == queryCredential || p.name == querySignature
	})
	switch {
	case len(lines) > 1:
		return claim{}, refuse(IncompleteSignature, "The request has more than one Authorization header.")
	case len(lines) == 1 && inQuery:
		return claim{}, refuse(IncompleteSignature, "The request is signed both in its Authorization header and in its query string.")
	case len(lines) == 1:
		return headerClaim(r, lines[0])
	case inQuery && v.o.MaxPresigned == 0:
		return claim{}, refuse(AccessDenied, "Presigned requests are not accepted here: sign in the Authorization header.")
	case inQuery:
		return v.presignedClaim(r, s.params)
	}
	return claim{}, refuse(MissingToken, textMissing)
}

func headerClaim(r *http.Request, line string) (claim, error) {
	a, err := parseAuthorization(line)
	c := claim{authorization: a}
	if err != nil {
		return c, err
	}
	if c.token, err = single(r.Header, "X-Amz-Security-Token"); err != nil {
		return c, err
	}
	date, err := single(r.Header, "X-Amz-Date")
	if err != nil {
		return c, err
	}
	if date != "" {
		c.time, err = parseTimestamp(date)
		if err != nil {
			return c, refuse(IncompleteSignature, "Date must be in ISO-8601 'basic format' (YYYYMMDDTHHMMSSZ) in X-Amz-Date.")
		}
		c.timestamp = date
		return c, nil
	}
	if date, err = single(r.Header, "Date"); err != nil {
		return c, err
	}
	if date == "" {
		return c, refuse(IncompleteSignature, "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
	}
	if !contains(c.signedHeaders, "date") {
		return c, refuse(InvalidSignature, "'Date' must be a 'SignedHeader' in the AWS Authorization, as there is no 'X-Amz-Date'.")
	}
	if c.time, err = parseTimestamp(date); err != nil {
		if c.time, err = time.Parse(http.TimeFormat, date); err != nil {
			return c, refuse(IncompleteSignature, "Date must be in ISO-8601 'basic format' or as HTTP writes it (RFC 9110, IMF-fixdate).")
		}
	}
	c.timestamp = timestamp(c.time)
	return c, nil
}

// checkLimits is all that is done with a request that is too big.
func checkLimits(r *http.Request) error {
	lines, size := 0, 0
	for name, values := range r.Header {
		lines += len(values)
		for _, value := range values {
			size += len(name) + len(value)
		}
	}
	long := ""
	switch {
	case r.URL == nil || r.URL.Opaque != "":
		return refuse(InvalidSignature, "The request target is not a path.")
	case lines > maxHeaderLines:
		return refuse(IncompleteSignature, "The request has more than ", strconv.Itoa(maxHeaderLines), " header lines.")
	case size > maxHeaderBytes:
		long = "headers are"
	case len(r.URL.RawQuery) > maxQuery:
		long = "query string is"
	case len(r.URL.Path) > maxPath || len(r.URL.RawPath) > maxPath:
		long = "path is"
	case len(r.Host) > maxHost:
		long = "host is"
	default:
		return nil
	}
	return refuse(IncompleteSignature, "The request's ", long, " too long.")
}

// single is the value of a header that may come once; empty if it does not come.
func single(h http.Header, name string) (string, error) {
	switch values := h[name]; len(values) {
	case 0:
		return "", nil
	case 1:
		return strings.Trim(values[0], " \t"), nil
	}
	return "", refuse(IncompleteSignature, "The request has more than one '", name, "' header.")
}

// parseTimestamp is stricter than time.Parse, which would take a fraction.
func parseTimestamp(s string) (time.Time, error) {
	if len(s) != len(timeLayout) {
		return time.Time{}, refuse(IncompleteSignature, "not a timestamp")
	}
	return time.Parse(timeLayout, s)
}

// checkScope compares the credential scope with the date of the request and with
// what is served here.
func (v *Verifier) checkScope(c claim) error {
	switch {
	case c.date != c.timestamp[:8]:
		return refuse(InvalidSignature, "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '",
			c.date, "' != '", c.timestamp[:8], "', from '", c.timestamp, "'.")
	case c.service != v.o.Service:
		return refuse(InvalidSignature, "Credential should be scoped to correct service: '", v.o.Service, "'.")
	case !v.o.Regions(c.region):
		return refuse(InvalidSignature, "Credential should be scoped to a valid region, not '", c.region, "'.")
	}
	return nil
}

// checkTime compares the date of the request with the clock, both ends included.
func (v *Verifier) checkTime(c claim) error {
	now := v.o.Now().UTC().Truncate(time.Second) // dates have no fraction
	switch age := now.Sub(c.time); {
	case age < -v.o.MaxSkew:
		return tooNew(c, now, v.o.MaxSkew)
	case c.presigned && age > c.expires:
		return refuse(RequestExpired, "Request has expired: it was valid until ", timestamp(c.time.Add(c.expires)),
			" and it is ", timestamp(now), ".")
	case !c.presigned && age > v.o.MaxSkew:
		return tooOld(c, now, v.o.MaxSkew)
	}
	return nil
}

// param is one name and value of the query, decoded.
type param struct{ name, value string }

// parseQuery decodes what url.ParseQuery would, so that what is verified is what
// a handler sees; but it refuses what that skips.
func (s *scratch) parseQuery(raw string) error {
	for piece := range strings.SplitSeq(raw, "&") {
		if piece == "" {
			continue
		}
		name, value, _ := strings.Cut(piece, "=")
		n, err := url.QueryUnescape(name)
		if err == nil {
			value, err = url.QueryUnescape(value)
		}
		if err != nil || strings.Contains(piece, ";") {
			return refuse(InvalidSignature, "The query string is not well-formed.")
		}
		if len(s.params) == maxParams {
			return refuse(IncompleteSignature, "The query string has more than ", strconv.Itoa(maxParams), " parameters.")
		}
		s.params = append(s.params, param{n, value})
	}
	return nil
}
