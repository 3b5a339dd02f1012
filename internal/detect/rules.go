package detect

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // the rules that ship
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"cardea/internal/iam"
)

// MaxRulesFile is the longest rules file, in bytes.
const MaxRulesFile = 1 << 20

//go:embed rules.toml
var defaultRules []byte

// Rules is the reviewed file: what is registered, and the thresholds.
type Rules struct {
	Version       int                 `toml:"version"`
	Engine        Engine              `toml:"engine"`
	Hours         Hours               `toml:"hours"`
	KnownAccounts []string            `toml:"known_accounts"`
	VPCEndpoints  []string            `toml:"vpc_endpoints"`  // by which vault keys are used; empty: not checked
	Hosts         []string            `toml:"hosts"`          // patterns of host headers; empty: not checked
	PinnedAliases []string            `toml:"pinned_aliases"` // "alias/cards"
	LogBuckets    []string            `toml:"log_buckets"`
	People        []string            `toml:"people"`    // patterns of principals
	Workloads     []string            `toml:"workloads"` // patterns of principals
	OnCall        []string            `toml:"on_call"`   // people who may look at any hour
	Networks      []Network           `toml:"network"`
	Tenants       []Tenant            `toml:"tenant"`
	Keys          []Key               `toml:"key"`
	Settings      map[string]Settings `toml:"rules"`

	hash string
}

// Engine is what holds for all rules.
type Engine struct {
	Lateness      Duration `toml:"lateness"`
	Learning      Duration `toml:"learning"`
	Cooldown      Duration `toml:"cooldown"`
	Combine       float64  `toml:"combine"`
	CombineCap    float64  `toml:"combine_cap"`
	ScoreCap      float64  `toml:"score_cap"`
	MaxPrincipals int      `toml:"max_principals"`
	MaxKeys       int      `toml:"max_keys"`
	MaxPairs      int      `toml:"max_pairs"`
	MaxValues     int      `toml:"max_values"`
}

// Hours are the working hours of people.
type Hours struct {
	Days     []string `toml:"days"`
	From     int      `toml:"from"`
	To       int      `toml:"to"`
	Location string   `toml:"location"`

	location *time.Location
	workday  [7]bool
}

// Network names addresses, such as those of an office or of a carrier.
type Network struct {
	Name  string   `toml:"name"`
	CIDRs []string `toml:"cidrs"`

	prefixes []netip.Prefix
}

// Tenant registers the principals that act for a tenant, and for no other.
type Tenant struct {
	Name       string   `toml:"name"`
	Principals []string `toml:"principals"` // patterns
}

// Key registers a vault key.
type Key struct {
	Name             string   `toml:"name"`
	IDs              []string `toml:"ids"`              // ARNs or bare ids, replicas too
	RequiredContext  []string `toml:"required_context"` // names of the encryption context; empty: any context will do
	ContextOptional  bool     `toml:"context_optional"` // R10 does not look at this key
	Principals       []string `toml:"principals"`       // patterns of its users; a new one that matches is no finding
	Retired          bool     `toml:"retired"`          // only decrypts
	RetiredMaterials []string `toml:"retired_materials"`
}

// Settings are the thresholds of a rule; rules.toml says what each is.
type Settings struct {
	Disabled bool     `toml:"disabled"`
	Severity string   `toml:"severity"`
	Cooldown Duration `toml:"cooldown"`
	Days     int      `toml:"days"`
	Score    float64  `toml:"score"`
	Minimum  int      `toml:"minimum"`
	Ratio    float64  `toml:"ratio"`
	Drift    float64  `toml:"drift"`

	severity Severity // 0: the rule's own
}

// Duration is a time.Duration written "10m".
type Duration time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err == nil && v < 0 {
		err = errors.New("a negative duration")
	}
	*d = Duration(v)
	return err
}

// ParseRules reads a rules file and lays it over the rules that ship, which an
// empty file leaves as they are. The error names everything that is wrong.
func ParseRules(file []byte) (*Rules, error) {
	if len(file) > MaxRulesFile {
		return nil, fmt.Errorf("rules file: %d bytes, at most %d", len(file), MaxRulesFile)
	}
	return overlay(file)
}

// hashOf tells versions apart by the rules that ship and the files laid over them.
func hashOf(files ...[]byte) string {
	h := sha256.New()
	h.Write(defaultRules)
	for _, f := range files {
		h.Write(f)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

func strict(file []byte, into *Rules) error {
	dec := toml.NewDecoder(bytes.NewReader(file))
	dec.DisallowUnknownFields()
	err := dec.Decode(into)
	if missing, ok := errors.AsType[*toml.StrictMissingError](err); ok {
		var names []string
		for _, e := range missing.Errors {
			row, _ := e.Position()
			names = append(names, fmt.Sprintf("line %d: no such setting %q", row, strings.Join(e.Key(), ".")))
		}
		return errors.New("rules file: " + strings.Join(names, "; "))
	}
	if bad, ok := errors.AsType[*toml.DecodeError](err); ok {
		row, col := bad.Position()
		return fmt.Errorf("rules file: line %d, column %d: %w", row, col, err)
	}
	return err
}

// mergeSettings lays what the file says of a rule over what ships.
func (r *Rules) mergeSettings(base map[string]Settings) error {
	var errs []error
	merged := maps.Clone(base)
	for id, s := range r.Settings {
		if !slices.ContainsFunc(Catalogue(), func(c Rule) bool { return c.ID == id }) {
			errs = append(errs, fmt.Errorf("rules file: rules.%s: no such rule", id))
			continue
		}
		b := merged[id]
		from, to := reflect.ValueOf(s), reflect.ValueOf(&b).Elem()
		for i := range from.NumField() {
			if to.Field(i).CanSet() && !from.Field(i).IsZero() {
				to.Field(i).Set(from.Field(i))
			}
		}
		merged[id] = b
	}
	for id, s := range merged {
		if s.Severity == "" {
			continue
		}
		for v := Info; v <= Critical; v++ {
			if v.String() == s.Severity {
				s.severity = v
			}
		}
		if s.severity == 0 {
			errs = append(errs, fmt.Errorf("rules file: rules.%s.severity: %q, expected info, low, medium, high or critical", id, s.Severity))
		}
		merged[id] = s
	}
	r.Settings = merged
	return errors.Join(errs...)
}

func (r *Rules) check() (errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("rules file: "+format, args...)) }
	if r.Version != 1 {
		bad("version: %d, this release knows 1", r.Version)
	}
	e := r.Engine
	if d := time.Duration(e.Lateness); d > time.Hour {
		bad("engine.lateness: %v, at most 1h", d)
	}
	for name, n := range map[string]int{"max_principals": e.MaxPrincipals, "max_keys": e.MaxKeys, "max_pairs": e.MaxPairs, "max_values": e.MaxValues} {
		if n < 1 {
			bad("engine.%s: %d, expected 1 or more", name, n)
		}
	}
	if e.ScoreCap <= 0 || e.CombineCap <= 0 || e.Combine <= 0 {
		bad("engine: combine, combine_cap and score_cap must be more than 0")
	}
	var err error
	if r.Hours.location, err = time.LoadLocation(r.Hours.Location); err != nil {
		bad("hours.location: %v", err)
	}
	for _, name := range r.Hours.Days {
		i := slices.IndexFunc([]time.Weekday{0, 1, 2, 3, 4, 5, 6}, func(d time.Weekday) bool { return d.String()[:3] == name })
		if i < 0 {
			bad("hours.days: %q, expected Mon, Tue, Wed, Thu, Fri, Sat or Sun", name)
			continue
		}
		r.Hours.workday[i] = true
	}
	if r.Hours.From < 0 || r.Hours.To > 24 || r.Hours.From >= r.Hours.To {
		bad("hours: from %d to %d, expected 0 <= from < to <= 24", r.Hours.From, r.Hours.To)
	}
	for i := range r.Networks {
		n := &r.Networks[i]
		if n.Name == "" {
			bad("network %d has no name", i+1)
		}
		n.prefixes = nil
		for _, text := range n.CIDRs {
			p, err := netip.ParsePrefix(text)
			if err != nil {
				bad("network %s: %v", n.Name, err)
			}
			n.prefixes = append(n.prefixes, p)
		}
	}
	for i, t := range r.Tenants {
		if t.Name == "" || len(t.Principals) == 0 {
			bad("tenant %d needs a name and principals", i+1)
		}
	}
	seen := map[string]string{}
	for i, k := range r.Keys {
		if k.Name == "" || len(k.IDs) == 0 {
			bad("key %d needs a name and ids", i+1)
		}
		for _, id := range k.IDs {
			if other, twice := seen[bareKey(id)]; twice && id != "" {
				bad("key %s: id %q is also of key %s", k.Name, id, other)
			}
			seen[bareKey(id)] = k.Name
		}
	}
	for _, a := range r.PinnedAliases {
		if !strings.HasPrefix(a, "alias/") {
			bad("pinned_aliases: %q, expected alias/NAME", a)
		}
	}
	return errs
}

// Hash tells versions of the rules apart: 16 hexadecimal digits over the rules
// that ship and the file laid over them.
func (r *Rules) Hash() string { return r.hash }

// bareKey is the id of a key in any of its forms.
func bareKey(id string) string { return id[strings.LastIndexByte(id, '/')+1:] }

func matchAny(patterns []string, s string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return iam.Match(p, s) })
}

// working reports whether people usually work at t.
func (h *Hours) working(t time.Time) bool {
	t = t.In(h.location)
	return h.workday[t.Weekday()] && t.Hour() >= h.From && t.Hour() < h.To
}

// String is the duration as the file has it.
func (d Duration) String() string { return time.Duration(d).String() }

// Thresholds is a rules file of the thresholds alone, without what is registered.
func (r *Rules) Thresholds() []byte {
	var b bytes.Buffer
	for _, id := range slices.Sorted(maps.Keys(r.Settings)) {
		s := r.Settings[id]
		fmt.Fprintf(&b, "[rules.%s]\ndisabled = %t\ndays = %d\nscore = %f\nminimum = %d\nratio = %f\ndrift = %f\n", id, s.Disabled, s.Days, s.Score, s.Minimum, s.Ratio, s.Drift)
		if s.Cooldown != 0 {
			fmt.Fprintf(&b, "cooldown = %q\n", s.Cooldown)
		}
	}
	return b.Bytes()
}
