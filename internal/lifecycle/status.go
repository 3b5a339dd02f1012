package lifecycle

import (
	"embed"
	"fmt"
	"html/template"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// Late is how long after its time a rotation may be in the list of rotations before
// it counts as missed: key services are eventually consistent.
const Late = 48 * time.Hour

// unusedFor is how long a key may go without use before that is a finding (PCI DSS
// 3.6.1.4: keys in the fewest places).
const unusedFor = 90 * 24 * time.Hour

// remind is how long before imported material expires it must be imported again.
const remind = 30 * 24 * time.Hour

// KeyStatus is a line of the status.
type KeyStatus struct {
	Class       string    `json:"class"`
	Service     string    `json:"service"`
	Environment string    `json:"environment"`
	KeyID       string    `json:"key_id,omitempty"`
	ARN         string    `json:"arn,omitempty"`
	Alias       string    `json:"alias,omitempty"`
	Spec        string    `json:"spec"`
	Origin      string    `json:"origin"`
	State       string    `json:"state"`
	Created     time.Time `json:"created,omitzero"`
	AgeDays     int       `json:"material_age_days"` // since the material was last new
	Rotation    string    `json:"rotation"`          // automatic every 90d, by hand, …
	LastRotated time.Time `json:"last_rotated,omitzero"`
	Next        time.Time `json:"next_rotation,omitzero"` // the key service's, or the end of the cryptoperiod
	LeftDays    int       `json:"cryptoperiod_left_days"` // negative: over
	LastUse     string    `json:"last_use"`               // a time, never, or unknown
	Records     *int64    `json:"records,omitempty"`      // of the vault, under it; not told unless the vault was asked
	ValidTo     time.Time `json:"valid_to,omitzero"`      // of imported material
	Deletion    time.Time `json:"deletion,omitzero"`
	Findings    []string  `json:"findings"`
}

// Status is every key of the policy, and those that are tagged as its own and are
// not in it.
type Status struct {
	At       time.Time   `json:"at"`
	Keys     []KeyStatus `json:"keys"`
	Unread   []string    `json:"unread"` // keys that may be of the policy, each a finding
	Findings int         `json:"findings"`
}

// Status judges what there is against the policy.
func (p *Policy) Status(inv *Inventory, now time.Time) *Status {
	s := &Status{At: now.UTC().Truncate(time.Second), Unread: append([]string{}, inv.Unread...), Findings: len(inv.Unread)}
	shown := map[*Key]bool{}
	for _, name := range slices.Sorted(maps.Keys(p.Keys)) {
		c := p.Keys[name]
		k, err := inv.Of(name)
		if k == nil {
			problem := "there is no such key: 'cardea lifecycle apply' makes it"
			if err != nil {
				problem = err.Error()
			}
			s.Keys = append(s.Keys, KeyStatus{Class: name, Service: c.Service, Environment: c.Environment, Spec: c.Spec, Origin: c.Origin, State: "missing", LastUse: "never", Findings: []string{problem}})
			continue
		}
		shown[k] = true
		s.Keys = append(s.Keys, c.judge(k, now))
	}
	for _, k := range inv.Keys {
		if !shown[k] {
			s.Keys = append(s.Keys, p.judgeOld(k, now))
		}
	}
	for i := range s.Keys {
		if s.Keys[i].Findings == nil {
			s.Keys[i].Findings = []string{}
		}
		s.Findings += len(s.Keys[i].Findings)
	}
	return s
}

// AddRecords tells how many records of a vault are under each key, by key as the vault
// names it: an ARN or an id.
func (s *Status) AddRecords(under map[string]int64) {
	for i := range s.Keys {
		v := &s.Keys[i]
		if v.KeyID == "" {
			continue
		}
		n := under[v.ARN] + under[v.KeyID]
		if v.Records = &n; n > 0 && v.Rotation == rotationReplaced {
			v.Findings = append(v.Findings, fmt.Sprintf("it was replaced, and %d records are still under it: 'cardea keys rotate --key-id %s' goes on", n, v.KeyID))
			s.Findings++
		}
	}
}

func days(d time.Duration) int { return int(d / (24 * time.Hour)) }

// facts are what needs no policy.
func facts(k *Key, now time.Time) KeyStatus {
	v := KeyStatus{
		Class: k.Class, KeyID: k.ID, ARN: k.ARN, Spec: k.Spec, Origin: k.Origin, State: string(k.State), Created: k.Created,
		AgeDays: days(now.Sub(k.Turned())), Next: k.NextRotation, ValidTo: k.ValidTo, Deletion: k.Deletion, LastUse: "unknown", Rotation: "by hand",
	}
	if len(k.Aliases) > 0 {
		v.Alias = k.Aliases[0]
	}
	if n := len(k.Rotations); n > 0 {
		v.LastRotated = k.Rotations[n-1]
	}
	if k.Rotates {
		v.Rotation = "automatic " + rotationText(true, k.Period)
	}
	switch u := k.LastUse; {
	case u == nil:
	case !u.Time.IsZero():
		v.LastUse = u.Time.Format(time.RFC3339)
	default:
		v.LastUse = "never"
	}
	return v
}

func (c *Class) judge(k *Key, now time.Time) KeyStatus {
	v := facts(k, now)
	v.Service, v.Environment = c.Service, c.Environment
	find := func(format string, args ...any) { v.Findings = append(v.Findings, fmt.Sprintf(format, args...)) }
	end := k.Turned().Add(c.Cryptoperiod.Originator.Duration())
	v.LeftDays = days(end.Sub(now))
	if v.Next.IsZero() {
		v.Next = end
	}
	if !now.Before(end) {
		find("its cryptoperiod of %s is over since %s: 'cardea keys rotate --key-id %s' (PCI DSS 3.7.4)", c.Cryptoperiod.Originator, end.Format(time.DateOnly), k.ID)
	}
	switch {
	case c.Rotation == 0: // automatic rotation cannot be, or is not wanted: the cryptoperiod decides
	case !k.Rotates && k.State == types.KeyStateEnabled:
		find("automatic rotation is off, the policy wants every %s: 'cardea lifecycle apply'", c.Rotation)
	case k.Rotates && !k.rotatesEvery(c.Rotation):
		find("automatic rotation is every %s, the policy wants every %s: 'cardea lifecycle apply'", k.Period, c.Rotation)
	case k.Rotates && !k.NextRotation.IsZero() && now.Sub(k.NextRotation) > Late:
		find("its rotation of %s was not done: ask AWS support, and rotate it by 'cardea keys rotate --key-id %s'", k.NextRotation.Format(time.DateOnly), k.ID)
	case k.Rotates && now.Sub(k.Turned()) > c.Rotation.Duration()+Late:
		find("no rotation since %s, though it is to rotate every %s: the list of rotations has none", k.Turned().Format(time.DateOnly), c.Rotation)
	}
	switch k.State {
	case types.KeyStateEnabled:
	case types.KeyStatePendingImport:
		find("it has no material, or what it had expired: import it by 'cardea ceremony import'")
	default:
		find("its state is %s", k.State)
	}
	if len(k.Aliases) == 0 {
		find("no alias names it: 'cardea lifecycle apply'")
	}
	if !k.ValidTo.IsZero() && k.ValidTo.Sub(now) < remind {
		find("its imported material expires on %s: import it again before, by 'cardea ceremony import'", k.ValidTo.Format(time.RFC3339))
	}
	if u := k.LastUse; u != nil {
		last, what := u.Time, "was last used on"
		if last.IsZero() {
			last, what = u.Tracked, "was not used since"
		}
		if !last.IsZero() && now.Sub(last) > unusedFor {
			find("it %s %s: is it needed?", what, last.Format(time.DateOnly))
		}
	}
	return v
}

// rotationReplaced is what is said of the rotation of keys that others took the place of.
const rotationReplaced = "replaced"

// judgeOld judges a key that was replaced, is to be destroyed, or is in no policy.
func (p *Policy) judgeOld(k *Key, now time.Time) KeyStatus {
	v := facts(k, now)
	c := p.Keys[k.Class]
	switch {
	case c == nil:
		v.Findings = append(v.Findings, fmt.Sprintf("its class %s is not in the policy file: put it there, or retire the key", k.Class))
		return v
	case !k.Live():
		return v
	}
	v.Service, v.Environment = c.Service, c.Environment
	end := k.Created.Add(c.Cryptoperiod.Recipient.Duration())
	v.LeftDays, v.Rotation = days(end.Sub(now)), rotationReplaced
	if k.ReplacedBy != "" && k.State == types.KeyStateEnabled {
		v.Findings = append(v.Findings, "it was replaced by "+k.ReplacedBy+" and is still enabled: a replaced key must not protect anything again (PCI DSS 3.7.5)")
	}
	if !now.Before(end) {
		v.Findings = append(v.Findings, fmt.Sprintf("its recipient's cryptoperiod is over since %s: it is to be destroyed", end.Format(time.DateOnly)))
	}
	return v
}

//go:embed status.html.tmpl report.html.tmpl
var pages embed.FS

// HTML writes the status as one file that needs no other.
func (s *Status) HTML(w io.Writer) error {
	t, err := template.New("status.html.tmpl").Funcs(template.FuncMap{"day": func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.UTC().Format(time.DateOnly)
	}}).ParseFS(pages, "status.html.tmpl")
	if err != nil {
		return fmt.Errorf("page: %w", err)
	}
	return t.Execute(w, s)
}
