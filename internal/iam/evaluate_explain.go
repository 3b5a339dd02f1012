package iam

import (
	"slices"
	"strconv"
	"strings"
)

// Explanation is a decision with everything that led to it. It encodes as JSON.
type Explanation struct {
	Allowed   bool            `json:"allowed"`
	Reason    Reason          `json:"reason"`
	Summary   string          `json:"summary"` // Verdict.String
	By        *StatementRef   `json:"by,omitempty"`
	Via       *StatementRef   `json:"via,omitempty"`
	Grant     string          `json:"grant,omitempty"`
	Caller    string          `json:"caller"`
	Action    string          `json:"action"`
	Resource  string          `json:"resource"`
	Documents []DocumentTrace `json:"documents"`
}

// DocumentTrace says how each statement of a document stands to the request.
type DocumentTrace struct {
	Document   DocumentRole     `json:"document"`
	Name       string           `json:"name,omitempty"`
	Statements []StatementTrace `json:"statements"`
}

// StatementTrace says whether a statement applies, and if not the first thing
// that kept it from applying.
type StatementTrace struct {
	Index   int    `json:"index"`
	Sid     string `json:"sid,omitempty"`
	Effect  Effect `json:"effect"`
	Applies bool   `json:"applies"`
	// Delegates is set if the statement names only the caller's account, and so
	// leaves the decision to identity policies.
	Delegates bool  `json:"delegates,omitzero"`
	Miss      *Miss `json:"miss,omitempty"`
}

// Miss is the first element of a statement that did not match.
type Miss struct {
	// Element is Principal, NotPrincipal, Action, NotAction, Resource, NotResource,
	// Condition, or Inert if the statement lacks what Policy lists.
	Element  string   `json:"element"`
	Operator string   `json:"operator,omitempty"` // of a condition
	Key      string   `json:"key,omitempty"`
	Policy   []string `json:"policy"`  // what the statement has
	Request  []string `json:"request"` // what the request has; empty if the key is absent
}

// Explain decides as Decide does and says how each statement took part in it.
// It costs about ten times as much.
func Explain(q *Query, p *Policies) Explanation {
	var tr tracer
	v := decide(q, p, &tr)
	x := Explanation{
		Allowed: v.Allowed, Reason: v.Reason, Summary: v.String(), Grant: v.Grant,
		Caller: q.Caller.Name(), Action: q.Action, Resource: q.Resource, Documents: tr.docs,
	}
	if v.By.Document != "" {
		x.By = &v.By
	}
	if v.Via.Document != "" {
		x.Via = &v.Via
	}
	return x
}

// String is the explanation for people, several lines.
func (x Explanation) String() string {
	var b strings.Builder
	b.WriteString(x.Caller + "\n  " + x.Action + "\n  " + x.Resource + "\n" + x.Summary + "\n")
	for _, d := range x.Documents {
		b.WriteString("\n" + string(d.Document))
		if d.Name != "" {
			b.WriteString(" " + d.Name)
		}
		b.WriteString("\n")
		for _, s := range d.Statements {
			b.WriteString("  /Statement/" + strconv.Itoa(s.Index) + " " + string(s.Effect))
			if s.Sid != "" {
				b.WriteString(" " + strconv.Quote(s.Sid))
			}
			switch {
			case s.Delegates:
				b.WriteString(": applies, and leaves it to identity policies\n")
			case s.Applies:
				b.WriteString(": applies\n")
			default:
				b.WriteString(": " + s.Miss.String() + "\n")
			}
		}
	}
	return b.String()
}

// String says in one line what did not match.
func (m *Miss) String() string {
	if m.Element == "Inert" {
		return "no effect, for it lacks " + strings.Join(m.Policy, " and ")
	}
	request := "the request does not have it"
	if len(m.Request) > 0 {
		request = "the request has " + quoted(m.Request)
	}
	if m.Element == "Condition" {
		return "Condition " + m.Operator + " " + m.Key + " " + quoted(m.Policy) + ": " + request
	}
	return m.Element + " " + quoted(m.Policy) + ": " + request
}

// quoted lists values, the first few of many.
func quoted(list []string) string {
	const most = 5
	var out []string
	for i, s := range list {
		if i == most {
			out = append(out, "and "+strconv.Itoa(len(list)-most)+" more")
			break
		}
		out = append(out, strconv.Quote(s))
	}
	return strings.Join(out, ", ")
}

// tracer collects an explanation. A nil tracer collects nothing.
type tracer struct {
	docs []DocumentTrace
}

func (t *tracer) document(role DocumentRole, name string) {
	if t != nil {
		t.docs = append(t.docs, DocumentTrace{Document: role, Name: name})
	}
}

func (t *tracer) statement(i int, s *statement) {
	if t != nil {
		d := &t.docs[len(t.docs)-1]
		d.Statements = append(d.Statements, StatementTrace{Index: i, Sid: s.sid, Effect: s.effect})
	}
}

func (t *tracer) current() *StatementTrace {
	d := &t.docs[len(t.docs)-1]
	return &d.Statements[len(d.Statements)-1]
}

func (t *tracer) done(r reach) {
	if t != nil {
		s := t.current()
		s.Applies = r != reachNone
		s.Delegates = r == reachAccount && s.Effect == Allow
	}
}

// miss records what did not match. The values are functions so that nothing is
// made of them when nobody wants an explanation.
func (t *tracer) miss(element, operator, key string, policy, request func() []string) {
	if t == nil {
		return
	}
	m := &Miss{Element: element, Operator: operator, Key: key, Policy: policy()}
	if request != nil {
		m.Request = request()
	}
	t.current().Miss = m
}

// texts are the values of a key as text, sorted.
func (e *env) texts(k *condKey) []string {
	var out []string
	for _, v := range e.values(k) {
		out = append(out, v.text())
	}
	slices.Sort(out)
	return out
}

// callerTexts are the names that a Principal element may know the caller by.
func (e *env) callerTexts() []string {
	c := &e.q.Caller
	var out []string
	for _, s := range append([]string{c.Session, c.ARN, c.Account, c.Provider}, c.Services...) {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}
