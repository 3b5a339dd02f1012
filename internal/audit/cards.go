package audit

// Lengths of the numbers that the guard takes for card numbers.
const (
	minCardDigits = 13
	maxCardDigits = 19
)

// maskCards replaces all but the first six and last four digits of everything in
// s that looks like a card number (docs/spec/audit-entry.md, Card numbers). The
// result is as long as s, and maskCards of it is itself.
func maskCards(s string) string {
	end := idTail(s)
	if !mayHoldCard(s[:end]) {
		return s
	}
	b := []byte(s[:end])
	masked := false
	// Masking one number ends groups of digits and may so make another. Each turn
	// takes digits away, so there is a last.
	for maskOnce(b) {
		masked = true
	}
	if !masked {
		return s
	}
	return string(b) + s[end:]
}

// mayHoldCard reports whether s has enough digits in a row, single spaces and
// hyphens between them not counted.
func mayHoldCard[T string | []byte](s T) bool {
	digits, joins := 0, 0
	for i := range len(s) {
		switch c := s[i]; {
		case classes[c] == digit:
			if digits, joins = digits+1, 0; digits >= minCardDigits {
				return true
			}
		case (c == ' ' || c == '-') && joins == 0:
			joins++
		default:
			digits, joins = 0, 0
		}
	}
	return false
}

// idTail is where an id begins that ends s, as a whole or after the last slash, or
// len(s): ids are random, and digits of theirs are no card number.
func idTail[T string | []byte](s T) int {
	from := len(s)
	for from > 0 && s[from-1] != '/' {
		from--
	}
	if isID(s[from:]) {
		return from
	}
	return len(s)
}

// isID reports whether s is a UUID, the id of a multi-Region key, mrk- and 32
// hexadecimal digits, or 64 hexadecimal digits; in the latter two at least one of
// them is a letter, all of them in lower case.
func isID[T string | []byte](s T) bool {
	switch {
	case len(s) == 36 && string(s[:4]) == "mrk-":
		s = s[4:]
	case len(s) != 64:
		return isUUID(s)
	}
	letters := false
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
		letters = letters || c >= 'a'
	}
	return letters
}

// idAt reports whether an id of ours stands at b[i:], apart from other words and numbers:
// a UUID of version 7 of the years 2004 to 2039, which begins with 01. Neighbouring whole
// groups of digits in it begin with 01, 7, 8 or 9, as no card of a payment network does,
// or behind one of its letters, where nobody writes a card number by accident. With a
// digit before or behind it, a space between, it may be half of one, and is none.
func idAt(b []byte, i int) bool {
	if b[i] != '0' || len(b)-i < uuidLen || b[i+1] != '1' || !isUUIDv7(b[i:i+uuidLen]) {
		return false
	}
	apart := func(next, beyond int) bool {
		inside := func(at int) bool { return at >= 0 && at < len(b) }
		switch {
		case !inside(next):
			return true
		case b[next] == ' ':
			return !inside(beyond) || classes[b[beyond]] != digit
		}
		c := b[next]
		return c != '-' && c != '_' && classes[c] != digit && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z')
	}
	return apart(i-1, i-2) && apart(i+uuidLen, i+uuidLen+1)
}

// group is a run of digits b[from:to]; joined says that one space or hyphen
// separates it from the group before.
type group struct {
	from, to int
	joined   bool
}

func maskOnce(b []byte) bool {
	groups := digitGroups(b)
	var hide []int // positions to mask
	number := make([]int, 0, maxCardDigits)
	add := func() {
		if len(number) >= minCardDigits && luhn(b, number) {
			hide = append(hide, number[6:len(number)-4]...)
		}
	}
	for i, g := range groups {
		if g.to-g.from > maxCardDigits {
			for from := g.from; from < g.to; from++ {
				number = number[:0]
				for at := from; at < min(from+maxCardDigits, g.to); at++ {
					number = append(number, at)
					add()
				}
			}
			continue
		}
		number = number[:0]
		for j := i; j < len(groups) && (j == i || groups[j].joined); j++ {
			if len(number)+groups[j].to-groups[j].from > maxCardDigits {
				break
			}
			for at := groups[j].from; at < groups[j].to; at++ {
				number = append(number, at)
			}
			add()
		}
	}
	for _, at := range hide {
		b[at] = '*'
	}
	return len(hide) > 0
}

func digitGroups(b []byte) []group {
	var groups []group
	for i := 0; i < len(b); {
		if idAt(b, i) {
			i += uuidLen
			continue
		}
		if classes[b[i]] != digit {
			i++
			continue
		}
		g := group{from: i}
		for i < len(b) && classes[b[i]] == digit {
			i++
		}
		g.to = i
		if n := len(groups); n > 0 && groups[n-1].to == g.from-1 && (b[g.from-1] == ' ' || b[g.from-1] == '-') {
			g.joined = true
		}
		groups = append(groups, g)
	}
	return groups
}

// luhn reports whether the digits of b at the positions satisfy ISO/IEC 7812-1
// annex B. (package pan has the same check over a number alone; a leaf imports
// no other.)
func luhn(b []byte, at []int) bool {
	sum := 0
	for i := range at {
		d := int(b[at[len(at)-1-i]] - '0')
		if i%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return sum%10 == 0
}

// cleanMasked returns s if it is a masked card number, otherwise stars only.
func cleanMasked(s string) string {
	if !isMasked(s) {
		return "********"
	}
	return s
}

// isMasked reports whether s is a masked card number: 8 to 19 digits and stars, of
// which at most the first six (eight of 16 or more) and the last four are digits and
// at least three are stars.
func isMasked[T string | []byte](s T) bool {
	if len(s) < 8 || len(s) > maxCardDigits {
		return false
	}
	lead := 6
	if len(s) >= 16 {
		lead = 8
	}
	first, last := -1, -1
	for i := range len(s) {
		switch {
		case s[i] == '*' && first < 0:
			first, last = i, i
		case s[i] == '*' && i == last+1:
			last = i
		case classes[s[i]] != digit:
			return false // also a second run of stars
		}
	}
	return first >= 0 && first <= lead && len(s)-1-last <= 4 && last-first >= 2
}
