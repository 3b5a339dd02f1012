package approval

import (
	"fmt"
	"slices"
	"time"
)

// Part is a part of a key that a custodian holds: a share, a component.
type Part struct {
	Of   string `toml:"of" json:"of"`     // what it is a part of: "key-service, generation 2", "set 3f2a91c04b7de812"
	Part string `toml:"part" json:"part"` // which: "share 1 of 3", "component 2 of 3"
}

func (p Part) String() string { return p.Part + " of " + p.Of }

// validateParts refuses parts that tell against split knowledge.
func (r *Register) validateParts() error {
	holder := map[Part]string{}
	for _, p := range r.People {
		if len(p.Holds) > 0 && !slices.Contains(p.Roles, RoleCustodian) {
			return fmt.Errorf("register: person %q: holds: only a custodian holds parts of keys", p.Name)
		}
		seen := map[string]string{}
		for _, part := range p.Holds {
			for member, v := range map[string]string{"of": part.Of, "part": part.Part} {
				if err := checkValue(v); err != nil {
					return fmt.Errorf("register: person %q: holds: %s: %w", p.Name, member, err)
				}
			}
			if other, twice := holder[part]; twice {
				return fmt.Errorf("register: person %q: holds: %s is held by %q, too: a part has one holder", p.Name, part, other)
			}
			if other, twice := seen[part.Of]; twice {
				return fmt.Errorf("register: person %q: holds: has %s and %s of %s: split knowledge needs different people", p.Name, other, part.Part, part.Of)
			}
			holder[part], seen[part.Of] = p.Name, part.Part
		}
	}
	return nil
}

// Review tells what is to be done about a person, now or within a time, nil if
// nothing: a role that is over, an acknowledgement that is missing or ends (PCI DSS
// 3.7.8), parts of keys in the hands of somebody who has left (3.7.5).
func (r *Register) Review(name string, now time.Time, within time.Duration) (findings []error) {
	p, err := r.Person(name)
	if err != nil {
		return []error{err}
	}
	if !p.Left.IsZero() && !now.Before(p.Left) {
		for _, part := range p.Holds {
			findings = append(findings, fmt.Errorf("%q left on %s and knows %s: replace that key, or divide it anew", name, p.Left.Format(time.DateOnly), part))
		}
		return findings
	}
	for _, role := range p.Roles {
		check := func(at time.Time) error { return r.May(name, role, at) }
		if role == RoleCustodian {
			check = func(at time.Time) error { return r.Custodian(name, at) }
		}
		err := check(now)
		if err == nil && within > 0 {
			if err = check(now.Add(within)); err != nil {
				err = fmt.Errorf("soon: %w", err)
			}
		}
		if err != nil && !slices.ContainsFunc(findings, func(f error) bool { return f.Error() == err.Error() }) {
			findings = append(findings, err)
		}
	}
	return findings
}

// AcknowledgedUntil is when a person's acknowledgement ends, zero if there is none that
// is good.
func (r *Register) AcknowledgedUntil(name string) time.Time {
	p, err := r.Person(name)
	if err != nil {
		return time.Time{}
	}
	a, err := p.acknowledged()
	if err != nil {
		return time.Time{}
	}
	return a.Expires
}
