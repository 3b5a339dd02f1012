package lifecycle

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"cardea/internal/iam"
)

// ErrLastAdministrator says that a key would be left without an administrator.
var ErrLastAdministrator = errors.New("nobody else administers the key")

// without is a key's policy without principals in what it allows; a statement that
// allows nobody else goes. Denials stay: they take nothing away by standing. It is
// empty if the policy names none of them. named says where else it names one, which a
// person must look at: a condition, or all but somebody.
func without(policy, key string, principals []string) (after string, named []string, err error) {
	var d map[string]json.RawMessage
	if err := json.Unmarshal([]byte(policy), &d); err != nil {
		return "", nil, fmt.Errorf("key policy: %w", err)
	}
	var statements, left []json.RawMessage
	if err := json.Unmarshal(d["Statement"], &statements); err != nil { // one alone may stand without a list
		statements = []json.RawMessage{d["Statement"]}
	}
	changed := false
	for _, s := range statements {
		text, dropped, err := dropFrom(s, principals)
		if err != nil {
			return "", nil, err
		}
		changed = changed || dropped
		if text == nil {
			continue
		}
		left = append(left, text)
		for _, p := range principals {
			if strings.Contains(string(text), `"`+p+`"`) {
				named = append(named, fmt.Sprintf("a statement still names %s, in a denial, a condition or as an exception: %s", p, text))
			}
		}
	}
	if !changed {
		return "", named, nil
	}
	if d["Statement"], err = json.Marshal(left); err != nil {
		return "", nil, fmt.Errorf("key policy: %w", err)
	}
	text, err := json.Marshal(d)
	if err != nil {
		return "", nil, fmt.Errorf("key policy: %w", err)
	}
	p, err := iam.ParsePolicy(iam.KeyPolicy, text)
	if err != nil && len(left) > 0 {
		return string(text), named, nil //nolint:nilerr // the key service knows more than the evaluator, and looks at it itself
	}
	if len(left) == 0 || !administered(p, key) {
		return "", nil, fmt.Errorf("%w: name another administrator in its policy first", ErrLastAdministrator)
	}
	return string(p.Encode()), named, nil
}

// dropFrom drops principals from a statement; it is nil if nobody is left.
func dropFrom(s json.RawMessage, principals []string) (text json.RawMessage, dropped bool, err error) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(s, &m); err != nil {
		return nil, false, fmt.Errorf("key policy: %w", err)
	}
	var kinds map[string]json.RawMessage
	if string(m["Effect"]) != `"Allow"` || json.Unmarshal(m["Principal"], &kinds) != nil || kinds["AWS"] == nil {
		return s, false, nil // "*" is nobody in particular
	}
	var all []string
	if err := json.Unmarshal(kinds["AWS"], &all); err != nil {
		one := ""
		if err := json.Unmarshal(kinds["AWS"], &one); err != nil {
			return nil, false, fmt.Errorf("key policy: principal: %w", err)
		}
		all = []string{one}
	}
	left := slices.DeleteFunc(slices.Clone(all), func(p string) bool { return slices.Contains(principals, p) })
	switch {
	case len(left) == len(all):
		return s, false, nil
	case len(left) == 0 && len(kinds) == 1:
		return nil, true, nil
	case len(left) == 0:
		delete(kinds, "AWS")
	default:
		if kinds["AWS"], err = json.Marshal(left); err != nil {
			return nil, false, err
		}
	}
	if m["Principal"], err = json.Marshal(kinds); err != nil {
		return nil, false, err
	}
	text, err = json.Marshal(m)
	return text, true, err
}

// administered says whether a policy lets anybody set another one.
func administered(p *iam.Policy, key string) bool {
	for _, who := range p.Principals(iam.Allow, false) {
		arn := who.Value
		if who.Kind == iam.PrincipalAccount {
			for _, s := range p.Document().Statements {
				if s.Effect == iam.Allow && slices.Contains(s.Principals, who) && slices.ContainsFunc(s.Actions, func(a string) bool { return iam.Match(strings.ToLower(a), "kms:putkeypolicy") }) {
					return true
				}
			}
			continue
		}
		if ok, err := allows(p, key, arn, "kms:PutKeyPolicy"); err == nil && ok {
			return true
		}
	}
	return false
}
