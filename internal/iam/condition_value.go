package iam

import (
	"encoding/base64"
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Value is one typed value of a condition key in a request. The zero Value is the
// empty string.
type Value struct {
	kind valueKind
	s    string
	n    int64 // a bool as 0 or 1, a date as microseconds since 1970
	f    float64
	ip   netip.Addr
}

type valueKind uint8

const (
	kindString valueKind = iota // also ARNs, and numbers and dates given as text
	kindBool
	kindNumber
	kindDate
	kindIP
	kindBinary
)

// String is a text or ARN value.
func String(s string) Value { return Value{kind: kindString, s: s} }

// Bool is a truth value.
func Bool(b bool) Value {
	v := Value{kind: kindBool}
	if b {
		v.n = 1
	}
	return v
}

// Number is a whole number. Numbers beyond ±10^15 are compared with less than full precision.
func Number(n int64) Value { return Value{kind: kindNumber, f: float64(n)} }

// Date is a moment; it is compared to the microsecond.
func Date(t time.Time) Value { return Value{kind: kindDate, n: t.UnixMicro()} }

// IP is an IP address; an IPv4 address in IPv6 form counts as IPv4. An invalid
// address matches nothing.
func IP(a netip.Addr) Value { return Value{kind: kindIP, ip: a.Unmap().WithZone("")} }

// Binary is a value of any bytes, for BinaryEquals.
func Binary(b []byte) Value { return Value{kind: kindBinary, s: string(b)} }

// text is the value as the String operators see it.
func (v *Value) text() string {
	switch v.kind {
	case kindBool:
		return strconv.FormatBool(v.n != 0)
	case kindNumber:
		return strconv.FormatFloat(v.f, 'f', -1, 64)
	case kindDate:
		return time.UnixMicro(v.n).UTC().Format(time.RFC3339Nano)
	case kindIP:
		return v.ip.String()
	case kindBinary:
		return base64.StdEncoding.EncodeToString([]byte(v.s))
	default:
		return v.s
	}
}

// number is the value as the Numeric operators see it: dates are seconds since 1970.
func (v *Value) number() (float64, bool) {
	switch v.kind {
	case kindNumber:
		return v.f, true
	case kindDate:
		return float64(v.n) / 1e6, true
	case kindString:
		f, err := parseNumber(v.s)
		return f, err == nil
	default:
		return 0, false
	}
}

// date is the value as the Date operators see it, in microseconds since 1970.
func (v *Value) date() (int64, bool) {
	switch v.kind {
	case kindDate:
		return v.n, true
	case kindNumber:
		return secondsToMicro(v.f)
	case kindString:
		t, err := parseDate(v.s)
		return t, err == nil
	default:
		return 0, false
	}
}

func (v *Value) addr() (netip.Addr, bool) {
	switch v.kind {
	case kindIP:
		return v.ip, v.ip.IsValid()
	case kindString:
		a, err := netip.ParseAddr(v.s)
		return a.Unmap().WithZone(""), err == nil
	default:
		return netip.Addr{}, false
	}
}

func (v *Value) bytes() (string, bool) {
	switch v.kind {
	case kindBinary:
		return v.s, true
	case kindString:
		b, err := base64.StdEncoding.Strict().DecodeString(v.s)
		return string(b), err == nil
	default:
		return "", false
	}
}

// parseNumber parses a number of a policy. More than 15 significant digits are
// refused, because only up to there do distinct numbers stay distinct.
func parseNumber(s string) (float64, error) {
	digits, seen := 0, false
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
			seen = true
			if digits > 0 || c != '0' {
				digits++
			}
		case (c == '-' || c == '+') && i == 0:
		case c == '.' && seen && i < len(s)-1 && strings.Count(s, ".") == 1:
		default:
			return 0, errors.New("not a number")
		}
	}
	if !seen || digits > 15 {
		return 0, errors.New("not a number of at most 15 digits")
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return 0, errors.New("not a number")
	}
	return f, nil
}

// dateLayouts are the forms of the W3C profile of ISO 8601 that policies use.
var dateLayouts = [...]string{"2006", "2006-01", "2006-01-02", "2006-01-02T15:04Z07:00", "2006-01-02T15:04:05Z07:00"}

// parseDate parses a date of a policy, in one of the W3C forms or as seconds since
// 1970. Four digits alone are a year.
func parseDate(s string) (int64, error) {
	if len(s) > 4 || len(s) < 4 {
		if f, err := parseNumber(s); err == nil {
			if us, ok := secondsToMicro(f); ok {
				return us, nil
			}
		}
	}
	for _, layout := range dateLayouts {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UnixMicro(), nil
		}
	}
	return 0, errors.New("not a date, as 2026-11-22T08:30:00Z or in seconds since 1970")
}

func secondsToMicro(f float64) (int64, bool) {
	if f < -1e12 || f > 1e12 {
		return 0, false
	}
	return int64(f * 1e6), true
}

// parseNetwork parses an address or a network in CIDR form.
func parseNetwork(s string) (netip.Prefix, error) {
	bad := errors.New("not an IP address or a network in CIDR form")
	p, err := netip.ParsePrefix(s)
	if err != nil {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, bad
		}
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	if a := p.Addr(); a.Is4In6() {
		if p.Bits() < 96 {
			return netip.Prefix{}, bad
		}
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	return p.Masked(), nil
}
