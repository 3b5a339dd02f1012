package detect

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"cardea/internal/iam"
)

// Changes are the approved changes that explain alerts in advance.
type Changes struct{ list []Change }

// Change is one. What it leaves out matches everything, but ticket, rules,
// approver and time may not be left out, and it is for a month at most: there is
// no way to switch a rule off here.
type Change struct {
	Ticket     string    `toml:"ticket"`
	ApprovedBy string    `toml:"approved_by"`
	Rules      []string  `toml:"rules"`
	Principals []string  `toml:"principals"` // patterns
	Keys       []string  `toml:"keys"`       // patterns; every key of the alert must match
	From       time.Time `toml:"from"`
	Until      time.Time `toml:"until"`
	Learn      bool      `toml:"learn"` // what it explains is the new usual
}

const longestChange = 31 * 24 * time.Hour

// ParseChanges reads a file of [[change]] tables. The error names every mistake.
func ParseChanges(file []byte) (*Changes, error) {
	if len(file) > MaxRulesFile {
		return nil, fmt.Errorf("file of changes: %d bytes, at most %d", len(file), MaxRulesFile)
	}
	var f struct {
		Change []Change `toml:"change"`
	}
	dec := toml.NewDecoder(bytes.NewReader(file))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		if missing, ok := errors.AsType[*toml.StrictMissingError](err); ok && len(missing.Errors) > 0 {
			return nil, fmt.Errorf("file of changes: no such setting %q", strings.Join(missing.Errors[0].Key(), "."))
		}
		return nil, fmt.Errorf("file of changes: %w", err)
	}
	var errs []error
	for i, c := range f.Change {
		name := c.Ticket
		if name == "" {
			name = fmt.Sprintf("number %d", i+1)
		}
		bad := func(what string) { errs = append(errs, fmt.Errorf("file of changes: change %s: %s", name, what)) }
		switch {
		case c.Ticket == "":
			bad("it has no ticket")
		case c.ApprovedBy == "":
			bad("it has no approved_by")
		case len(c.Rules) == 0:
			bad("it names no rules")
		case len(c.Principals) == 0 && len(c.Keys) == 0:
			bad("it names neither principals nor keys")
		case c.From.IsZero() || c.Until.IsZero() || !c.From.Before(c.Until):
			bad("it needs a time from and a later time until")
		case c.Until.Sub(c.From) > longestChange:
			bad("it lasts longer than 31 days")
		}
		for _, id := range c.Rules {
			if !slices.ContainsFunc(Catalogue(), func(r Rule) bool { return r.ID == id }) {
				bad("no such rule " + id)
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &Changes{list: f.Change}, nil
}

// covering is the change that explains an alert, nil if none.
func (c *Changes) covering(a *Alert) *Change {
	if c == nil {
		return nil
	}
	for i := range c.list {
		x := &c.list[i]
		if !slices.Contains(x.Rules, a.Rule) || a.Start.Before(x.From) || a.Time.After(x.Until) {
			continue
		}
		if len(x.Principals) > 0 && !matchAny(x.Principals, a.Principal) {
			continue
		}
		if len(x.Keys) > 0 && (len(a.Keys) == 0 || slices.ContainsFunc(a.Keys, func(k string) bool { return !matchesKey(x.Keys, k) })) {
			continue
		}
		return x
	}
	return nil
}

// learns reports whether a change makes what happens now the new usual.
func (c *Changes) learns(rule, who, key string, minute int64) bool {
	if c == nil {
		return false
	}
	t := minuteTime(minute)
	return slices.ContainsFunc(c.list, func(x Change) bool {
		return x.Learn && slices.Contains(x.Rules, rule) && !t.Before(x.From) && t.Before(x.Until) &&
			(len(x.Principals) == 0 || matchAny(x.Principals, who)) && (len(x.Keys) == 0 || key == "" || matchesKey(x.Keys, key))
	})
}

func matchesKey(patterns []string, key string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return iam.Match(p, key) || p == bareKey(key) })
}
