package iam

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// maxPattern is the longest string of a policy that may hold wildcards or
// variables, in bytes.
const maxPattern = 4096

// folding says whether a comparison minds the case of letters.
type folding bool

const (
	caseSensitive folding = false
	ignoreCase    folding = true // A-Z and a-z only
)

// pattern is a compiled string of a policy: text with wildcards and variables.
type pattern struct {
	lit    string  // the whole pattern, if pieces is nil
	pieces []piece // never two literals in a row
	vars   bool
}

type pieceOp uint8

const (
	opLiteral  pieceOp = iota
	opOne              // ?, any one character
	opMany             // *, any run of characters
	opVariable         // ${key} or ${key, 'default'}
)

type piece struct {
	op         pieceOp
	lit        string
	key        condKey
	def        string
	hasDefault bool
}

// compilePattern compiles text. wild says whether * and ? are wildcards, vars
// whether ${…} is a variable (Version 2012-10-17 only).
func compilePattern(text string, wild, vars bool) (pattern, error) {
	special := ""
	if wild {
		special += "*?"
	}
	if vars {
		special += "$"
	}
	if special == "" || !strings.ContainsAny(text, special) {
		return pattern{lit: text}, nil
	}
	if len(text) > maxPattern {
		return pattern{}, errors.New("longer than 4096 bytes")
	}
	var p pattern
	literal := func(s string) {
		if n := len(p.pieces); n > 0 && p.pieces[n-1].op == opLiteral {
			p.pieces[n-1].lit += s
		} else {
			p.pieces = append(p.pieces, piece{op: opLiteral, lit: s})
		}
	}
	for text != "" {
		i := strings.IndexAny(text, special)
		if i < 0 {
			literal(text)
			break
		}
		if i > 0 {
			literal(text[:i])
			text = text[i:]
		}
		switch {
		case text[0] == '*':
			if n := len(p.pieces); n == 0 || p.pieces[n-1].op != opMany {
				p.pieces = append(p.pieces, piece{op: opMany})
			}
			text = text[1:]
		case text[0] == '?':
			p.pieces = append(p.pieces, piece{op: opOne})
			text = text[1:]
		case !strings.HasPrefix(text, "${"):
			literal("$")
			text = text[1:]
		default:
			end := strings.IndexByte(text, '}')
			if end < 0 {
				return pattern{}, errors.New("a variable lacks its closing brace")
			}
			body := text[2:end]
			text = text[end+1:]
			if body == "*" || body == "?" || body == "$" {
				literal(body)
				continue
			}
			v, err := compileVariable(body)
			if err != nil {
				return pattern{}, err
			}
			p.pieces = append(p.pieces, v)
			p.vars = true
		}
	}
	if len(p.pieces) == 1 && p.pieces[0].op == opLiteral {
		return pattern{lit: p.pieces[0].lit}, nil
	}
	return p, nil
}

// compileVariable compiles what stands between the braces of a variable.
func compileVariable(body string) (piece, error) {
	name, rest, hasDefault := strings.Cut(body, ",")
	v := piece{op: opVariable, hasDefault: hasDefault}
	if hasDefault {
		rest = strings.TrimLeft(rest, " ")
		if len(rest) < 2 || rest[0] != '\'' || rest[len(rest)-1] != '\'' || strings.Count(rest, "'") != 2 {
			return piece{}, errors.New("a variable's default value stands in single quotes")
		}
		v.def = rest[1 : len(rest)-1]
	}
	if strings.ContainsAny(name, "${' ") {
		return piece{}, errors.New("a variable's name is that of a condition key")
	}
	var err error
	if v.key, err = compileKey(name); err != nil {
		return piece{}, errors.New("a variable's name is that of a condition key")
	}
	return v, nil
}

// match reports whether s matches p, and whether all variables have a value. A
// variable's value is taken literally, whatever wildcards are in it.
func (p *pattern) match(e *env, s string, fold folding) (ok, resolved bool) {
	if p.pieces == nil {
		return equal(s, p.lit, fold), true
	}
	if !p.vars {
		return glob(p.pieces, s, fold), true
	}
	var buf [8]piece
	pieces, ok := p.resolve(e, buf[:0])
	if !ok {
		return false, false
	}
	return glob(pieces, s, fold), true
}

// resolve appends the pieces to out, each variable replaced by its value.
func (p *pattern) resolve(e *env, out []piece) ([]piece, bool) {
	for i := range p.pieces {
		v := &p.pieces[i]
		if v.op != opVariable {
			out = append(out, *v)
			continue
		}
		s, ok := e.variable(&v.key)
		if !ok {
			if !v.hasDefault {
				return nil, false
			}
			s = v.def
		}
		out = append(out, piece{op: opLiteral, lit: s})
	}
	return out, true
}

// glob matches s against pieces. It keeps only the last * to come back to, which
// is enough, and leaps to the next place where the literal after it stands; so
// its work is at most the product of both lengths.
func glob(ps []piece, s string, fold folding) bool {
	pi, si := 0, 0
	star, mark := -1, 0
	for {
		if pi == len(ps) {
			if si == len(s) {
				return true
			}
		} else {
			switch p := &ps[pi]; p.op {
			case opMany:
				star, mark = pi, si
				pi++
				if pi == len(ps) {
					return true
				}
				if last := &ps[pi]; pi == len(ps)-1 && last.op == opLiteral {
					at := len(s) - len(last.lit)
					return at >= si && equal(s[at:], last.lit, fold)
				}
				continue
			case opOne:
				if si < len(s) {
					_, n := utf8.DecodeRuneInString(s[si:])
					si += n
					pi++
					continue
				}
			default:
				if n := len(p.lit); len(s)-si >= n && equal(s[si:si+n], p.lit, fold) {
					si += n
					pi++
					continue
				}
			}
		}
		if star < 0 || mark >= len(s) {
			return false
		}
		_, n := utf8.DecodeRuneInString(s[mark:])
		mark += n
		if next := &ps[star+1]; next.op == opLiteral && !fold {
			i := strings.Index(s[mark:], next.lit)
			if i < 0 {
				return false
			}
			mark += i
		}
		pi, si = star+1, mark
	}
}

// equal compares two strings.
func equal(a, b string, fold folding) bool {
	if !fold {
		return a == b
	}
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// lowered is s with A-Z made a-z.
func lowered(s string) string {
	for i := range len(s) {
		if lower(s[i]) != s[i] {
			b := []byte(s)
			for i := range b {
				b[i] = lower(b[i])
			}
			return string(b)
		}
	}
	return s
}
