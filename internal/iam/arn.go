package iam

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxARN is the longest ARN accepted, in bytes; the KMS API allows 2048 for a key's name.
const maxARN = 2048

// ErrInvalidARN says that a string is no Amazon Resource Name.
var ErrInvalidARN = errors.New("invalid ARN")

// ARN is an Amazon Resource Name, arn:partition:service:region:account:resource.
// Region and account may be empty; the resource may hold colons.
type ARN struct {
	Partition, Service, Region, Account, Resource string
}

// ParseARN parses an ARN. The error is an ErrInvalidARN that says what is wrong;
// it does not quote the whole input, which a client may have chosen.
func ParseARN(s string) (ARN, error) {
	bad := func(why string) (ARN, error) { return ARN{}, fmt.Errorf("%w: %s", ErrInvalidARN, why) }
	if len(s) > maxARN {
		return bad("longer than 2048 bytes")
	}
	f, ok := splitARN(s)
	switch {
	case !ok:
		return bad("it has the form arn:partition:service:region:account:resource")
	case f[1] == "":
		return bad("no partition")
	case f[2] == "":
		return bad("no service")
	case f[5] == "":
		return bad("no resource")
	case f[4] != "" && f[4] != "aws" && !isAccount(f[4]):
		return bad("the account is not 12 digits")
	case !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return bad("it holds control characters or is not UTF-8")
	}
	return ARN{Partition: f[1], Service: f[2], Region: f[3], Account: f[4], Resource: f[5]}, nil
}

// String is the ARN as text; ParseARN gives the same ARN back.
func (a ARN) String() string {
	return "arn:" + a.Partition + ":" + a.Service + ":" + a.Region + ":" + a.Account + ":" + a.Resource
}

// splitARN cuts an ARN into its six segments, the first being "arn". Colons after
// the fifth belong to the last segment.
func splitARN(s string) (f [6]string, ok bool) {
	for i := range 5 {
		if f[i], s, ok = strings.Cut(s, ":"); !ok {
			return f, false
		}
	}
	f[5] = s
	return f, f[0] == "arn"
}

// isAccount reports whether s is the id of an account: 12 digits.
func isAccount(s string) bool {
	if len(s) != 12 {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// arnPattern is a pattern for ARNs: each of the six segments is matched on its
// own, so a wildcard never reaches over a colon but within the last.
type arnPattern struct {
	any  bool // "*"
	segs [6]pattern
}

// compileARN compiles an ARN pattern. With complete, missing segments at the end
// are taken as "*", as AWS does for a Resource element.
func compileARN(text string, vars, complete bool) (arnPattern, error) {
	if text == "*" {
		return arnPattern{any: true}, nil
	}
	fields := splitPattern(text, vars)
	if fields[0] != "arn" || len(fields) < 2 {
		return arnPattern{}, errors.New(`must be "*" or an ARN, which begins with "arn:"`)
	}
	if len(fields) < 6 && !complete {
		return arnPattern{}, errors.New("an ARN has six parts divided by colons")
	}
	var p arnPattern
	for i := range p.segs {
		text := "*"
		if i < len(fields) {
			text = fields[i]
		}
		seg, err := compilePattern(text, true, vars)
		if err != nil {
			return arnPattern{}, err
		}
		p.segs[i] = seg
	}
	return p, nil
}

// splitPattern cuts a pattern at its first five colons outside of ${…}.
func splitPattern(text string, vars bool) []string {
	var out []string
	start, inVar := 0, false
	for i := 0; i < len(text) && len(out) < 5; i++ {
		switch {
		case vars && !inVar && strings.HasPrefix(text[i:], "${"):
			inVar = true
		case inVar && text[i] == '}':
			inVar = false
		case !inVar && text[i] == ':':
			out = append(out, text[start:i])
			start = i + 1
		}
	}
	return append(out, text[start:])
}

// match reports whether the ARN f matches, and whether all variables of the
// pattern that were needed have a value.
func (p *arnPattern) match(e *env, f *[6]string) (ok, resolved bool) {
	if p.any {
		return true, true
	}
	for i := range p.segs {
		if ok, resolved = p.segs[i].match(e, f[i], caseSensitive); !ok {
			return false, resolved
		}
	}
	return true, true
}
