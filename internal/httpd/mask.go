package httpd

import (
	"slices"
	"strings"
)

// maskedPAN stands where a card number was. Nothing of the number is kept: logs
// need no BIN.
const maskedPAN = "[card number]"

// cardGroups are the ways in which card numbers are printed in groups.
var cardGroups = [][]int{{4, 4, 4, 4}, {4, 4, 4, 4, 3}, {4, 4, 4, 1}, {4, 6, 5}, {4, 6, 4}}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// mayHoldPAN is a cheap first look: fewer than 13 digits cannot.
func mayHoldPAN(s string) bool {
	if len(s) < 13 {
		return false
	}
	n := 0
	for i := range len(s) {
		if isDigit(s[i]) {
			n++
		}
	}
	return n >= 13
}

func holdsPAN(s string) bool {
	if !mayHoldPAN(s) {
		return false
	}
	for i := 0; i < len(s); {
		if !isDigit(s[i]) {
			i++
			continue
		}
		end, found := panAt(s, i)
		if found {
			return true
		}
		i = end
	}
	return false
}

// maskPANs replaces every card number in s: a run of 13 to 19 digits, or digits
// in groups as cards print them, that pass the Luhn check; and any run of more
// than 19 digits, which may be a card number with something glued to it.
func maskPANs(s string) string {
	if !mayHoldPAN(s) {
		return s
	}
	var b strings.Builder
	kept := 0 // s[:kept] is in b
	for i := 0; i < len(s); {
		if !isDigit(s[i]) {
			i++
			continue
		}
		end, found := panAt(s, i)
		if found {
			b.WriteString(s[kept:i])
			b.WriteString(maskedPAN)
			kept = end
		}
		i = end
	}
	if kept == 0 {
		return s
	}
	b.WriteString(s[kept:])
	return b.String()
}

// panAt looks at the digits that begin at i. If they are a card number, end is
// behind it; if not, end is behind the first run of digits.
func panAt(s string, i int) (end int, found bool) {
	runEnd := digitsEnd(s, i)
	n := runEnd - i
	if n > 19 || (n >= 13 && luhn(s[i:runEnd])) {
		return runEnd, true
	}
	if n != 4 || runEnd == len(s) || (s[runEnd] != ' ' && s[runEnd] != '-') {
		return runEnd, false
	}
	groups, ends := []int{4}, []int{runEnd}
	for e := runEnd; len(groups) < 6 && e+1 < len(s) && s[e] == s[runEnd] && isDigit(s[e+1]); {
		next := digitsEnd(s, e+1)
		groups, ends = append(groups, next-e-1), append(ends, next)
		e = next
	}
	// The longest form first: more groups may follow than belong to the number.
	for k := len(groups); k > 2; k-- {
		e := ends[k-1]
		if e < len(s) && isLetter(s[e]) {
			continue // as in a UUID: the group goes on
		}
		if slices.ContainsFunc(cardGroups, func(g []int) bool { return slices.Equal(g, groups[:k]) }) && luhn(s[i:e]) {
			return e, true
		}
	}
	return runEnd, false
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

func digitsEnd(s string, i int) int {
	for i < len(s) && isDigit(s[i]) {
		i++
	}
	return i
}

// luhn checks the digits of s (ISO/IEC 7812-1 annex B) and passes over separators.
func luhn(s string) bool {
	sum, double := 0, false
	for i := len(s) - 1; i >= 0; i-- {
		if !isDigit(s[i]) {
			continue
		}
		d := int(s[i] - '0')
		if double {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
		double = !double
	}
	return sum%10 == 0
}
