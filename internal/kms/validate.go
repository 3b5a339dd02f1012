package kms

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits of members, from the service model of KMS 2014-11-01.
const (
	maxPlaintext   = 4096
	maxCiphertext  = 6144
	maxKeyID       = 2048
	maxGrantTokens = 10
	maxToken       = 8192
	maxRandom      = 1024
	maxLimit       = 1000
	maxMarker      = 1024
)

// Of the encryption context, for which the model has no limits. These bound the
// work, and no client comes near them.
const (
	maxContextPairs = 64
	maxContextBytes = 8192 // names and values together
)

// maxViolations is how many violations are told: a list of a request may have
// many thousand items, each out of bounds.
const maxViolations = 20

// violations collects what of a request is out of bounds, in the words of AWS.
type violations struct {
	found []string // the first maxViolations
	n     int      // how many there are
}

// add says that the member's value fails a constraint, "have length less than or
// equal to 4096" for example. Values that may be secret are not shown: show is
// then empty.
func (v *violations) add(member, show, constraint string) {
	if !v.more() {
		return
	}
	value := "Value at '" + member + "'"
	if show != "" {
		value = "Value '" + cut(show) + "' at '" + member + "'"
	}
	v.found = append(v.found, value+" failed to satisfy constraint: Member must "+constraint)
}

// more counts a violation and reports whether it is told.
func (v *violations) more() bool {
	v.n++
	return v.n <= maxViolations
}

func cut(s string) string {
	const most = 128
	if len(s) <= most {
		return s
	}
	s = s[:most]
	for len(s) > 0 && !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + "…"
}

// err is the ValidationException of all that was found, nil if nothing was.
func (v *violations) err() error {
	switch v.n {
	case 0:
		return nil
	case 1:
		return refuse(CodeValidation, "1 validation error detected: "+v.found[0])
	default:
		return refuse(CodeValidation, strconv.Itoa(v.n)+" validation errors detected: "+strings.Join(v.found, "; "))
	}
}

// required says that the member must be there.
func (v *violations) required(member string, there bool) bool {
	if !there && v.more() {
		v.found = append(v.found, "Value null at '"+member+"' failed to satisfy constraint: Member must not be null")
	}
	return there
}

// length checks the length of a member that is there; show is its value if it may be shown.
func (v *violations) length(member, show string, n, least, most int) {
	if n < least {
		v.add(member, show, fmt.Sprintf("have length greater than or equal to %d", least))
	} else if n > most {
		v.add(member, show, fmt.Sprintf("have length less than or equal to %d", most))
	}
}

// bytes checks a required member of bytes that may be there and empty.
func (v *violations) bytes(member string, b []byte, most int) {
	if v.required(member, b != nil) {
		v.length(member, "", len(b), 1, most)
	}
}

// confidential checks a required member of which AWS tells nothing in messages,
// not even that it is missing.
func (v *violations) confidential(member string, there bool, n, most int) {
	if !there {
		v.add(member, "", "not be null")
		return
	}
	v.length(member, "", n, 1, most)
}

// text checks a member that may be absent.
func (v *violations) text(member, s string, most int) {
	if s != "" {
		v.length(member, s, len(s), 1, most)
	}
}

// chars is length in characters.
func (v *violations) chars(member, s string, least, most int) {
	v.length(member, s, utf8.RuneCountInString(s), least, most)
}

// pattern checks that every character of a member satisfies ok, as the regular
// expression says.
func (v *violations) pattern(member, s, expression string, ok func(rune) bool) {
	for _, r := range s {
		if !ok(r) {
			v.add(member, s, "satisfy regular expression pattern: "+expression)
			return
		}
	}
}

// keyID checks a required name of a key.
func (v *violations) keyID(member, s string) {
	if v.required(member, s != "") {
		v.length(member, s, len(s), 1, maxKeyID)
	}
}

// number checks a member that may be absent.
func (v *violations) number(member string, n *int32, least, most int32) {
	switch {
	case n == nil:
	case *n < least:
		v.add(member, strconv.Itoa(int(*n)), fmt.Sprintf("have value greater than or equal to %d", least))
	case *n > most:
		v.add(member, strconv.Itoa(int(*n)), fmt.Sprintf("have value less than or equal to %d", most))
	}
}

// grantTokens checks a list of tokens, which may be empty.
func (v *violations) grantTokens(ts []string) {
	if len(ts) > maxGrantTokens {
		v.add("grantTokens", "", fmt.Sprintf("have length less than or equal to %d", maxGrantTokens))
		return
	}
	for _, t := range ts {
		v.length("grantTokens", "", len(t), 1, maxToken)
	}
}

// context checks an encryption context.
func (v *violations) context(member string, pairs map[string]string) {
	if len(pairs) > maxContextPairs {
		v.add(member, "", fmt.Sprintf("have at most %d pairs", maxContextPairs))
		return
	}
	n := 0
	for name, value := range pairs {
		n += len(name) + len(value)
		if name == "" {
			v.add(member, "", "not have an empty key")
		}
	}
	if n > maxContextBytes {
		v.add(member, "", fmt.Sprintf("have keys and values of at most %d bytes together", maxContextBytes))
	}
}

// enum checks a member against a list of values; absent is fine.
func enum[S ~string](v *violations, member string, s S, of ...S) {
	if s == "" {
		return
	}
	names := make([]string, len(of))
	for i, o := range of {
		if s == o {
			return
		}
		names[i] = string(o)
	}
	v.add(member, string(s), "satisfy enum value set: ["+strings.Join(names, ", ")+"]")
}

// page checks Limit and Marker.
func (v *violations) page(limit *int32, marker string) {
	v.number("limit", limit, 1, maxLimit)
	if marker != "" {
		v.length("marker", marker, len(marker), 1, maxMarker)
	}
}
