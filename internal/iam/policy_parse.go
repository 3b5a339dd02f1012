package iam

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
)

// ParsePolicy parses and compiles a document strictly: unknown and repeated
// members, values of a wrong type, empty lists and whatever could not be evaluated
// are refused. The error is ErrPolicyTooLarge or a *MalformedPolicyError.
func ParsePolicy(kind PolicyKind, data []byte) (*Policy, error) {
	if len(data) > MaxPolicyBytes {
		return nil, ErrPolicyTooLarge
	}
	return parsePolicy(kind, data)
}

func parsePolicy(kind PolicyKind, data []byte) (*Policy, error) {
	if kind < KeyPolicy || kind > TrustPolicy {
		return nil, errors.New("parse policy: unknown kind of policy")
	}
	r := policyReader{dec: jsontext.NewDecoder(bytes.NewBuffer(data)), p: &Policy{kind: kind}, vars: hasVariables(data)}
	r.document()
	if r.err == nil {
		if _, err := r.dec.ReadToken(); !errors.Is(err, io.EOF) {
			r.failAt("", "something follows the document")
		}
	}
	if r.err != nil {
		return nil, r.err
	}
	for i := range r.p.statements {
		r.p.statements[i].src = &r.p.doc.Statements[i]
	}
	r.p.keys = usedKeys(r.p.statements)
	return r.p, nil
}

// hasVariables reports whether the document's Version has policy variables. It is
// asked before all else because Version may stand after the statements; what is
// wrong with the document is found later.
func hasVariables(data []byte) bool {
	dec := jsontext.NewDecoder(bytes.NewBuffer(data))
	if t, err := dec.ReadToken(); err != nil || t.Kind() != '{' {
		return false
	}
	for {
		name, err := dec.ReadToken()
		if err != nil || name.Kind() != '"' {
			return false
		}
		if name.String() != "Version" {
			if dec.SkipValue() != nil {
				return false
			}
			continue
		}
		v, err := dec.ReadToken()
		return err == nil && v.Kind() == '"' && v.String() == "2012-10-17"
	}
}

// policyReader reads a document token by token. Its methods do nothing once err is set.
type policyReader struct {
	dec  *jsontext.Decoder
	p    *Policy
	vars bool // ${…} are variables: Version is 2012-10-17
	err  error
}

// fail records a problem at the token that was read last.
func (r *policyReader) fail(problem string) { r.failAt(string(r.dec.StackPointer()), problem) }

func (r *policyReader) failAt(pointer, problem string) {
	if r.err == nil {
		r.err = &MalformedPolicyError{Pointer: pointer, Problem: problem}
	}
}

func (r *policyReader) token() jsontext.Token {
	if r.err != nil {
		return jsontext.Token{}
	}
	t, err := r.dec.ReadToken()
	if err == nil {
		return t
	}
	switch se, ok := errors.AsType[*jsontext.SyntacticError](err); {
	case ok && errors.Is(err, jsontext.ErrDuplicateName):
		r.failAt(string(se.JSONPointer), "the member is there twice")
	case ok && !errors.Is(err, io.ErrUnexpectedEOF):
		r.failAt(string(se.JSONPointer), fmt.Sprintf("not valid JSON at byte %d", se.ByteOffset))
	default:
		r.failAt("", "the document ends too early")
	}
	return jsontext.Token{}
}

// object reads an object and calls member for each name, which must read the value.
func (r *policyReader) object(member func(name string)) (n int) {
	if r.token().Kind() != '{' {
		r.fail("must be an object")
		return 0
	}
	for r.err == nil {
		t := r.token()
		if r.err != nil || t.Kind() == '}' {
			break
		}
		n++
		member(t.String())
	}
	return n
}

// text reads a string.
func (r *policyReader) text() string {
	t := r.token()
	if t.Kind() != '"' {
		r.fail("must be a string")
		return ""
	}
	return t.String()
}

// list reads a value or a list of at least one and calls item for each; scalars
// says that numbers and booleans are as good as strings.
func (r *policyReader) list(scalars bool, item func(string)) {
	value := func(t jsontext.Token) {
		switch k := t.Kind(); {
		case r.err != nil:
		case k == '"', scalars && (k == '0' || k == 't' || k == 'f'):
			item(t.String())
		case scalars:
			r.fail("must be a string, number or boolean, or a list of them")
		default:
			r.fail("must be a string or a list of strings")
		}
	}
	t := r.token()
	if t.Kind() != '[' {
		value(t)
		return
	}
	for n := 0; r.err == nil; n++ {
		t := r.token()
		switch {
		case t.Kind() == ']' && n == 0:
			r.fail("the list is empty")
		case t.Kind() == ']':
			return
		case n == maxValues:
			r.fail("the list has more than 4096 values")
		default:
			value(t)
		}
	}
}

func (r *policyReader) document() {
	var seenStatement bool
	doc := &r.p.doc
	r.object(func(name string) {
		switch name {
		case "Version":
			doc.Version = r.text()
			if doc.Version != "2012-10-17" && doc.Version != "2008-10-17" {
				r.fail("must be 2012-10-17 or 2008-10-17")
			}
		case "Id":
			doc.ID = r.text()
		case "Statement":
			seenStatement = true
			r.statements()
		default:
			r.fail("unknown member")
		}
	})
	if !seenStatement {
		r.failAt("", "Statement is missing")
	}
}

func (r *policyReader) statements() {
	if r.dec.PeekKind() != '[' {
		r.statement()
		return
	}
	r.token()
	for n := 0; r.err == nil; n++ {
		if r.dec.PeekKind() == ']' {
			r.token()
			if n == 0 {
				r.fail("the list is empty")
			}
			return
		}
		if n == maxStatements {
			r.fail("there are more than 500 statements")
			return
		}
		r.statement()
	}
}

func (r *policyReader) statement() {
	var s Statement
	c := statement{anyCaller: r.p.kind == IdentityPolicy}
	seen := map[string]bool{}
	r.object(func(name string) {
		seen[name] = true
		switch name {
		case "Sid":
			s.Sid = r.text()
			r.checkSid(s.Sid)
		case "Effect":
			s.Effect = Effect(r.text())
			if s.Effect != Allow && s.Effect != Deny {
				r.fail("must be Allow or Deny")
			}
		case "Principal":
			s.Principals = r.principals()
		case "NotPrincipal":
			s.NotPrincipals = r.principals()
		case "Action":
			s.Actions = r.actions(&c)
		case "NotAction":
			s.NotActions = r.actions(&c)
		case "Resource":
			s.Resources = r.resources(&c)
		case "NotResource":
			s.NotResources = r.resources(&c)
		case "Condition":
			r.conditions(&s, &c)
		default:
			r.fail("unknown member")
		}
	})
	if r.err == nil {
		r.checkStatement(string(r.dec.StackPointer()), seen)
	}
	if r.err != nil {
		return
	}
	c.sid, c.effect, c.inert = s.Sid, s.Effect, s.Inert() && r.p.kind == KeyPolicy
	c.notPrincipal, c.notAction, c.notResource = seen["NotPrincipal"], seen["NotAction"], seen["NotResource"]
	c.principals = compilePrincipals(append(slices.Clone(s.Principals), s.NotPrincipals...))
	r.p.doc.Statements = append(r.p.doc.Statements, s)
	r.p.statements = append(r.p.statements, c)
}

// checkSid checks a Sid: key policies may have spaces in it, others are
// alphanumeric, and those of identity policies are unique.
func (r *policyReader) checkSid(sid string) {
	for _, c := range sid {
		alnum := c < 0x80 && (lower(byte(c)) >= 'a' && lower(byte(c)) <= 'z' || c >= '0' && c <= '9')
		if !alnum && r.p.kind != KeyPolicy || c < ' ' || c == 0x7f {
			r.fail("the Sid holds characters it may not have")
			return
		}
	}
	if r.p.kind == IdentityPolicy && sid != "" {
		for i := range r.p.doc.Statements {
			if r.p.doc.Statements[i].Sid == sid {
				r.fail("another statement has the same Sid")
				return
			}
		}
	}
}

// checkStatement checks which elements the statement at pointer at has.
func (r *policyReader) checkStatement(at string, seen map[string]bool) {
	for _, name := range []string{"Principal", "Action", "Resource"} {
		if seen[name] && seen["Not"+name] {
			r.failAt(at, name+" and Not"+name+" exclude each other")
		}
	}
	if !seen["Effect"] {
		r.failAt(at, "Effect is missing")
	}
	need := func(name string) {
		if !seen[name] && !seen["Not"+name] {
			r.failAt(at, name+" is missing")
		}
	}
	refuse := func(name, why string) {
		for _, n := range []string{name, "Not" + name} {
			if seen[n] {
				r.failAt(at+"/"+n, why)
			}
		}
	}
	switch r.p.kind {
	case KeyPolicy:
		need("Principal")
	case IdentityPolicy:
		refuse("Principal", "an identity policy names no principals: it belongs to one")
		need("Action")
		need("Resource")
	case TrustPolicy:
		need("Principal")
		need("Action")
		refuse("Resource", "a trust policy names no resource: it belongs to a role")
	}
}
