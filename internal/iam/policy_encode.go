package iam

import "github.com/go-json-experiment/json/jsontext"

// Encode is the document in canonical form: no white space; the members in the
// order Version, Id, Statement and Sid, Effect, Principal, Action, Resource,
// Condition; a list of one as the value alone; accounts as the ARN of their root;
// values of conditions as strings; operators and keys sorted. Lists keep their
// order. Parsing it gives an equal document, though it may be longer than
// MaxPolicyBytes where the original was not.
func (p *Policy) Encode() []byte {
	w := policyWriter{b: make([]byte, 0, 1024)}
	w.open()
	if p.doc.Version != "" {
		w.member("Version", p.doc.Version)
	}
	if p.doc.ID != "" {
		w.member("Id", p.doc.ID)
	}
	w.name("Statement")
	w.b = append(w.b, '[')
	for i := range p.doc.Statements {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		w.statement(&p.doc.Statements[i])
	}
	w.b = append(w.b, ']')
	w.close()
	return w.b
}

// policyWriter appends JSON.
type policyWriter struct {
	b     []byte
	comma bool // the next member is not the first of its object
}

func (w *policyWriter) open() {
	w.b = append(w.b, '{')
	w.comma = false
}

func (w *policyWriter) close() {
	w.b = append(w.b, '}')
	w.comma = true
}

func (w *policyWriter) quote(s string) {
	// Strings come from a parsed document, so they are valid UTF-8 and this cannot fail.
	w.b, _ = jsontext.AppendQuote(w.b, s)
}

func (w *policyWriter) name(s string) {
	if w.comma {
		w.b = append(w.b, ',')
	}
	w.comma = true
	w.quote(s)
	w.b = append(w.b, ':')
}

func (w *policyWriter) member(name string, values ...string) {
	if len(values) == 0 {
		return
	}
	w.name(name)
	if len(values) == 1 {
		w.quote(values[0])
		return
	}
	for i, v := range values {
		w.b = append(w.b, "[,"[min(i, 1)])
		w.quote(v)
	}
	w.b = append(w.b, ']')
}

func (w *policyWriter) statement(s *Statement) {
	w.open()
	if s.Sid != "" {
		w.member("Sid", s.Sid)
	}
	w.member("Effect", string(s.Effect))
	w.principals("Principal", s.Principals)
	w.principals("NotPrincipal", s.NotPrincipals)
	w.member("Action", s.Actions...)
	w.member("NotAction", s.NotActions...)
	w.member("Resource", s.Resources...)
	w.member("NotResource", s.NotResources...)
	if len(s.Conditions) > 0 {
		w.name("Condition")
		w.open()
		for i, c := range s.Conditions {
			if i == 0 || s.Conditions[i-1].Operator != c.Operator {
				if i > 0 {
					w.close()
				}
				w.name(c.Operator)
				w.open()
			}
			w.member(c.Key, c.Values...)
		}
		w.close()
		w.close()
	}
	w.close()
}

func (w *policyWriter) principals(name string, list []PolicyPrincipal) {
	if len(list) == 0 {
		return
	}
	var values [3][]string
	for _, p := range list {
		g := principalGroup(p)
		values[g] = append(values[g], p.Value)
	}
	w.name(name)
	w.open()
	for g, group := range [3]string{"AWS", "Service", "Federated"} {
		w.member(group, values[g]...)
	}
	w.close()
}
