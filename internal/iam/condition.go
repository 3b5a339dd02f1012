package iam

import (
	"errors"
	"net/netip"
	"strings"
)

// operator is a kind of comparison; the base name of a condition operator stands
// for one and whether it is negated.
type operator uint8

const (
	opString operator = iota
	opStringFold
	opStringLike
	opNumeric
	opDate
	opBool
	opBinary
	opIP
	opARN
	opNull
)

// ordering is which results of a comparison of numbers or dates are wanted.
type ordering uint8

const (
	less    ordering = 1 << iota // the request's value is less than the policy's
	same                         // both are equal
	greater                      // the request's value is greater
)

type operatorSpec struct {
	op     operator
	negate bool
	order  ordering
}

// operatorOf knows the condition operators without ForAllValues:, ForAnyValue: and IfExists.
func operatorOf(base string) (operatorSpec, bool) {
	if kind, order, ok := strings.Cut(base, "Less"); ok {
		return ordered(kind, "Less"+order)
	}
	if kind, order, ok := strings.Cut(base, "Greater"); ok {
		return ordered(kind, "Greater"+order)
	}
	switch base {
	case "StringEquals":
		return operatorSpec{op: opString}, true
	case "StringNotEquals":
		return operatorSpec{op: opString, negate: true}, true
	case "StringEqualsIgnoreCase":
		return operatorSpec{op: opStringFold}, true
	case "StringNotEqualsIgnoreCase":
		return operatorSpec{op: opStringFold, negate: true}, true
	case "StringLike":
		return operatorSpec{op: opStringLike}, true
	case "StringNotLike":
		return operatorSpec{op: opStringLike, negate: true}, true
	case "NumericEquals", "DateEquals":
		return ordered(strings.TrimSuffix(base, "Equals"), "Equals")
	case "NumericNotEquals", "DateNotEquals":
		s, ok := ordered(strings.TrimSuffix(base, "NotEquals"), "Equals")
		s.negate = true
		return s, ok
	case "Bool":
		return operatorSpec{op: opBool}, true
	case "BinaryEquals":
		return operatorSpec{op: opBinary}, true
	case "IpAddress":
		return operatorSpec{op: opIP}, true
	case "NotIpAddress":
		return operatorSpec{op: opIP, negate: true}, true
	case "ArnEquals", "ArnLike":
		return operatorSpec{op: opARN}, true
	case "ArnNotEquals", "ArnNotLike":
		return operatorSpec{op: opARN, negate: true}, true
	case "Null":
		return operatorSpec{op: opNull}, true
	}
	return operatorSpec{}, false
}

func ordered(kind, order string) (operatorSpec, bool) {
	var s operatorSpec
	switch kind {
	case "Numeric":
		s.op = opNumeric
	case "Date":
		s.op = opDate
	default:
		return s, false
	}
	switch order {
	case "Equals":
		s.order = same
	case "LessThan":
		s.order = less
	case "LessThanEquals":
		s.order = less | same
	case "GreaterThan":
		s.order = greater
	case "GreaterThanEquals":
		s.order = greater | same
	default:
		return s, false
	}
	return s, true
}

// setOperator says how the values of a request are taken together.
type setOperator uint8

const (
	setNone setOperator = iota
	setAll
	setAny
)

// condition is one compiled operator, key and list of values.
type condition struct {
	operatorSpec
	name     string // as written, "ForAllValues:StringEqualsIfExists"
	key      condKey
	set      setOperator
	ifExists bool
	texts    []string // the values as written

	patterns []pattern // the String operators and Bool
	arns     []arnPattern
	numbers  []float64
	dates    []int64
	nets     []netip.Prefix
	binaries []string
	nulls    []bool
}

var errOperator = errors.New("unknown condition operator")

// parseOperator takes an operator's name apart.
func parseOperator(name string) (condition, error) {
	c := condition{name: name}
	base := name
	if set, rest, ok := strings.Cut(name, ":"); ok {
		switch set {
		case "ForAllValues":
			c.set = setAll
		case "ForAnyValue":
			c.set = setAny
		default:
			return c, errOperator
		}
		base = rest
	}
	base, c.ifExists = strings.CutSuffix(base, "IfExists")
	spec, ok := operatorOf(base)
	if !ok {
		return c, errOperator
	}
	c.operatorSpec = spec
	if c.op == opNull && (c.ifExists || c.set != setNone) {
		return c, errors.New("operator Null takes neither IfExists nor a set operator")
	}
	return c, nil
}

// add compiles one more value.
func (c *condition) add(text string, vars bool) error {
	c.texts = append(c.texts, text)
	switch c.op {
	case opString, opStringFold, opStringLike:
		p, err := compilePattern(text, c.op == opStringLike, vars)
		c.patterns = append(c.patterns, p)
		return err
	case opBool:
		p, err := compilePattern(text, false, vars)
		if err == nil && !p.vars && !isBool(text) {
			err = errors.New("must be true or false")
		}
		c.patterns = append(c.patterns, p)
		return err
	case opNull:
		if !isBool(text) {
			return errors.New("must be true or false")
		}
		c.nulls = append(c.nulls, equal(text, "true", ignoreCase))
	case opNumeric:
		f, err := parseNumber(text)
		c.numbers = append(c.numbers, f)
		return err
	case opDate:
		t, err := parseDate(text)
		c.dates = append(c.dates, t)
		return err
	case opIP:
		n, err := parseNetwork(text)
		c.nets = append(c.nets, n)
		return err
	case opARN:
		p, err := compileARN(text, vars, false)
		c.arns = append(c.arns, p)
		return err
	case opBinary:
		v := String(text)
		b, ok := v.bytes()
		if !ok {
			return errors.New("not base64")
		}
		c.binaries = append(c.binaries, b)
	}
	return nil
}

func isBool(s string) bool { return equal(s, "true", ignoreCase) || equal(s, "false", ignoreCase) }

// holds reports whether the condition holds in a statement with this effect. The
// effect matters only where AWS's language has no answer, and then the answer is
// the careful one: the condition holds in a Deny and does not in an Allow.
func (c *condition) holds(e *env, effect Effect) bool {
	vals := e.values(&c.key)
	if c.set != setNone || c.key.multi {
		vals = dropEmpty(vals)
	}
	if c.op == opNull {
		return c.hasNull(len(vals) == 0)
	}
	if len(vals) == 0 {
		switch {
		case c.ifExists, c.set == setAll:
			return true
		case c.set == setAny:
			return false
		default:
			return c.negate
		}
	}
	if c.set == setNone && len(vals) > 1 && !c.key.multi {
		return effect == Deny // two values of a key that has one
	}
	// A plain negated operator is the negation of the positive one: none may match.
	all := c.set == setAll || c.set == setNone && c.negate
	for i := range vals {
		ok, resolved := c.matchAny(e, &vals[i])
		if c.negate {
			ok = !ok && (resolved || effect == Deny)
		}
		if ok != all {
			return ok
		}
	}
	return all
}

func (c *condition) hasNull(null bool) bool {
	for _, want := range c.nulls {
		if want == null {
			return true
		}
	}
	return false
}

// dropEmpty leaves out empty strings: for sets AWS takes them as no value.
func dropEmpty(vals []Value) []Value {
	kept := vals[:0] // vals is the env's own buffer
	for _, v := range vals {
		if v.kind != kindString || v.s != "" {
			kept = append(kept, v)
		}
	}
	return kept
}

// matchAny reports whether v matches any of the policy's values. resolved is false
// if none did and a variable that would have been needed has no value.
func (c *condition) matchAny(e *env, v *Value) (ok, resolved bool) {
	resolved = true
	switch c.op {
	case opString, opStringFold, opStringLike, opBool:
		s, fold := v.text(), folding(c.op == opStringFold || c.op == opBool)
		for i := range c.patterns {
			ok, known := c.patterns[i].match(e, s, fold)
			if ok {
				return true, true
			}
			resolved = resolved && known
		}
	case opARN:
		f, isARN := splitARN(v.text())
		if !isARN {
			return false, true
		}
		for i := range c.arns {
			ok, known := c.arns[i].match(e, &f)
			if ok {
				return true, true
			}
			resolved = resolved && known
		}
	case opNumeric:
		n, isNumber := v.number()
		for _, want := range c.numbers {
			if isNumber && compares(n, want, c.order) {
				return true, true
			}
		}
	case opDate:
		t, isDate := v.date()
		for _, want := range c.dates {
			if isDate && compares(t, want, c.order) {
				return true, true
			}
		}
	case opIP:
		a, isAddr := v.addr()
		for _, n := range c.nets {
			if isAddr && n.Contains(a) {
				return true, true
			}
		}
	case opBinary:
		b, isBinary := v.bytes()
		for _, want := range c.binaries {
			if isBinary && b == want {
				return true, true
			}
		}
	case opNull: // has no comparison
	}
	return false, resolved
}

func compares[T int64 | float64](a, b T, order ordering) bool {
	switch {
	case a < b:
		return order&less != 0
	case a > b:
		return order&greater != 0
	default:
		return order&same != 0
	}
}
