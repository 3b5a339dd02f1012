package detect

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"cardea/internal/cloudtrail"
)

// policyFacts is what of a key policy is compared.
type policyFacts struct {
	Allowed []string // principals of allowing statements, sorted; "* (with conditions)" is told apart from "*"
	Denies  []string // denying statements, as text
}

// maxPolicies are kept at most, of keys last changed.
const (
	maxPolicies   = 4096
	maxPrincipals = 1024 // of a policy; KMS's 32 KB hold fewer
)

type policyText struct {
	Statement json.RawMessage
}

type statementText struct {
	Effect       string
	Principal    json.RawMessage
	NotPrincipal json.RawMessage
	Condition    json.RawMessage
}

// factsOf reads a policy's text; false if it is none.
func factsOf(text string) (f policyFacts, ok bool) {
	var p policyText
	if json.Unmarshal([]byte(text), &p) != nil {
		return f, false
	}
	var raws []json.RawMessage
	if json.Unmarshal(p.Statement, &raws) != nil {
		raws = []json.RawMessage{p.Statement}
	}
	for _, raw := range raws {
		var s statementText
		if json.Unmarshal(raw, &s) != nil {
			return f, false
		}
		if s.Effect == "Deny" {
			f.Denies = append(f.Denies, compactJSON(raw))
			continue
		}
		names := principalsOf(s.Principal)
		if len(s.NotPrincipal) > 0 {
			names = append(names, "*")
		}
		for _, n := range names {
			if n == "*" && len(s.Condition) > 2 {
				n = "* (with conditions)"
			}
			if !slices.Contains(f.Allowed, n) && len(f.Allowed) < maxPrincipals {
				f.Allowed = append(f.Allowed, n)
			}
		}
	}
	slices.Sort(f.Allowed)
	return f, true
}

func compactJSON(raw json.RawMessage) string {
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return string(raw)
	}
	b, err := json.Marshal(v) // sorts members
	if err != nil {
		return string(raw)
	}
	return string(b)
}

// principalsOf flattens "*", {"AWS": "…"} and {"AWS": ["…"], "Service": "…"}.
func principalsOf(raw json.RawMessage) (names []string) {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		return []string{one}
	}
	var kinds map[string]json.RawMessage
	if json.Unmarshal(raw, &kinds) != nil {
		return nil
	}
	for _, v := range kinds {
		var s string
		var l []string
		if json.Unmarshal(v, &s) == nil {
			names = append(names, s)
		} else if json.Unmarshal(v, &l) == nil {
			names = append(names, l...)
		}
	}
	return names
}

// policyChange is R3: one change of a key's policy, in the order of time.
func (d *Detector) policyChange(e *cloudtrail.Event) {
	p := parametersOf(e.Params)
	w, _ := d.names.principal(e, d.rules.Engine.MaxPrincipals)
	text := p.text("policy")
	bypass := p.yes("bypassPolicyLockoutSafetyCheck")
	if e.Name == "CreateKey" && text == "" {
		if bypass {
			d.at(r3, e, w, 0, "a key was created with a bypass of the lockout check")
		}
		return
	}
	key := ""
	if len(e.Keys) > 0 {
		key = e.Keys[0]
	}
	now, readable := factsOf(text)
	was, known := d.state.Policies[key]
	if readable && key != "" && !e.Failed() {
		d.state.keepPolicy(key, now)
	}
	var why []string
	raise := 0
	if bypass {
		why = append(why, "the lockout check was bypassed")
	}
	for _, name := range now.Allowed {
		if known && slices.Contains(was.Allowed, name) {
			continue
		}
		switch a := accountOf(name); {
		case name == "*":
			why, raise = append(why, "it allows everybody"), 1
		case a != "" && a != e.Account && !d.names.known[a]:
			why, raise = append(why, "it allows "+name+" of an account that is not registered"), 1
		case known:
			why = append(why, "it now allows "+name)
		}
	}
	dropped := 0
	for _, deny := range was.Denies {
		if !slices.Contains(now.Denies, deny) {
			dropped++
		}
	}
	if dropped > 0 && readable {
		why = append(why, fmt.Sprintf("%d denying statements are gone or altered", dropped))
	}
	switch {
	case len(why) > 0:
		d.at(r3, e, w, raise, "the key's policy was set: "+strings.Join(why, ", "))
	case e.Name == "CreateKey":
	case !readable:
		d.at(r3, e, w, -1, "the key's policy was replaced; the log does not show by what")
	case !known:
		d.at(r3, e, w, -2, "the key's policy was replaced; what it was before is not known")
	}
}
