package lifecycle

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"cardea/internal/approval"
	"cardea/internal/iam"
)

// maxPolicyFile bounds a policy file, in bytes; maxClasses the keys it may have.
const (
	maxPolicyFile = 1 << 20
	maxClasses    = 500
)

// Policy is the written key-management policy (PCI DSS 3.6.1, 3.7.4): every key by
// service and environment, for how long it is used, by whom, and what needs whose
// approval. docs/spec/key-lifecycle.schema.json describes its file.
type Policy struct {
	Version      int                        `yaml:"version"`
	RequiredTags []string                   `yaml:"required_tags"`
	Approvals    map[approval.Operation]int `yaml:"approvals"`
	Keys         map[string]*Class          `yaml:"keys"`
}

// Class is a key as the policy wants it.
type Class struct {
	Name        string `yaml:"-"`
	Service     string `yaml:"service"`
	Environment string `yaml:"environment"`
	Description string `yaml:"description"`

	Spec   string `yaml:"spec"`   // SYMMETRIC_DEFAULT if not given
	Usage  string `yaml:"usage"`  // ENCRYPT_DECRYPT if not given
	Origin string `yaml:"origin"` // AWS_KMS if not given
	// CustomKeyStore is the store's id, with origin AWS_CLOUDHSM or EXTERNAL_KEY_STORE.
	CustomKeyStore string `yaml:"custom_key_store"`

	Cryptoperiod   Cryptoperiod      `yaml:"cryptoperiod"`
	Rotation       Days              `yaml:"rotation"` // automatic, 90 to 2560 days; 0: by hand, within the cryptoperiod
	DeletionWindow Days              `yaml:"deletion_window"`
	Aliases        []string          `yaml:"aliases"`
	Tags           map[string]string `yaml:"tags"`
	Administrators []string          `yaml:"administrators"`
	Users          []string          `yaml:"users"`
	Conditions     Conditions        `yaml:"conditions"`
	Replicas       []string          `yaml:"replicas"` // Regions
}

// Cryptoperiod is for how long a key protects (originator) and is read with
// (recipient), from its making (NIST SP 800-57 part 1, 5.3.6).
type Cryptoperiod struct {
	Originator Days `yaml:"originator"`
	Recipient  Days `yaml:"recipient"`
}

// Conditions narrow what the key's policy allows.
type Conditions struct {
	AdministratorsMFA bool     `yaml:"administrators_mfa"` // administration needs a second factor
	ViaService        []string `yaml:"via_service"`        // use only through these services
	SourceIP          []string `yaml:"source_ip"`          // use only from these networks
}

// Days is a number of days, written 90d or, of 365 days, 2y.
type Days int

// UnmarshalYAML implements yaml.Unmarshaler.
func (d *Days) UnmarshalYAML(n *yaml.Node) error {
	number, unit := strings.CutSuffix(n.Value, "d")
	factor := 1
	if !unit {
		number, unit = strings.CutSuffix(n.Value, "y")
		factor = 365
	}
	days, err := strconv.Atoi(number)
	if err != nil || !unit || days < 0 || days > 36500 || strconv.Itoa(days) != number {
		return fmt.Errorf("line %d: %q is not a time such as 90d or 2y", n.Line, n.Value)
	}
	*d = Days(days * factor)
	return nil
}

// Duration is the time that it stands for.
func (d Days) Duration() time.Duration { return time.Duration(d) * 24 * time.Hour }

func (d Days) String() string { return strconv.Itoa(int(d)) + "d" }

// FieldError says what of a policy file cannot be.
type FieldError struct {
	Path    string // keys.rds-prod.rotation
	Problem string // and what to do
}

func (e *FieldError) Error() string { return e.Path + ": " + e.Problem }

// ParsePolicy reads a policy file: YAML, one document, no unknown members. Its error
// joins a *FieldError for each thing that is wrong.
func ParsePolicy(text []byte) (*Policy, error) {
	if len(text) > maxPolicyFile {
		return nil, fmt.Errorf("longer than %d bytes", maxPolicyFile)
	}
	var root yaml.Node
	if err := yaml.Load(text, &root, yaml.WithUniqueKeys()); err != nil {
		return nil, fmt.Errorf("YAML: %w", err)
	}
	if len(root.Content) != 1 {
		return nil, errors.New("it is empty: write version: 1 and keys")
	}
	if bad := unknown(root.Content[0], "", policyShape()); len(bad) > 0 {
		return nil, errors.Join(bad...)
	}
	p := &Policy{}
	if err := yaml.Load(bytes.Clone(text), p, yaml.WithKnownFields(), yaml.WithUniqueKeys()); err != nil {
		return nil, fmt.Errorf("YAML: %w", err)
	}
	return p, p.validate()
}

// shape is the members that a mapping may have: nil ends the look. The name "*"
// stands for any.
type shape map[string]shape

func policyShape() shape {
	return shape{
		"version": nil, "required_tags": nil, "approvals": nil,
		"keys": {"*": {
			"service": nil, "environment": nil, "description": nil, "spec": nil, "usage": nil, "origin": nil, "custom_key_store": nil,
			"cryptoperiod": {"originator": nil, "recipient": nil}, "rotation": nil, "deletion_window": nil, "aliases": nil, "tags": nil,
			"administrators": nil, "users": nil, "conditions": {"administrators_mfa": nil, "via_service": nil, "source_ip": nil}, "replicas": nil,
		}},
	}
}

// unknown finds members that the shape has not, and anchors and aliases, which would
// let two keys share what looks like one's own.
func unknown(n *yaml.Node, path string, s shape) []error {
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		return []error{&FieldError{cmpPath(path), "anchors and aliases are not read: write it out"}}
	}
	var bad []error
	if n.Kind != yaml.MappingNode {
		if s != nil {
			return []error{&FieldError{cmpPath(path), "must be a mapping"}}
		}
		for _, c := range n.Content {
			bad = append(bad, unknown(c, path, nil)...)
		}
		return bad
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name := n.Content[i].Value
		below := name
		if path != "" {
			below = path + "." + name
		}
		next, ok := s[name]
		if !ok {
			next, ok = s["*"]
		}
		if s != nil && !ok {
			bad = append(bad, &FieldError{below, fmt.Sprintf("is no member here (line %d): want one of %s", n.Content[i].Line, strings.Join(slices.Sorted(maps.Keys(s)), ", "))})
			continue
		}
		bad = append(bad, unknown(n.Content[i+1], below, next)...)
	}
	return bad
}

func cmpPath(path string) string {
	if path == "" {
		return "(file)"
	}
	return path
}

var (
	className   = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)
	aliasName   = regexp.MustCompile(`^alias/[a-zA-Z0-9/_-]{1,250}$`)
	serviceName = regexp.MustCompile(`^[a-z0-9-]+(\.[a-z0-9-]+)+$`)
	regionRE    = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-[0-9]$`)
)

func (p *Policy) validate() error {
	var bad []error
	add := func(path, format string, args ...any) {
		bad = append(bad, &FieldError{path, fmt.Sprintf(format, args...)})
	}
	if p.Version != 1 {
		add("version", "is %d: this program reads version 1", p.Version)
	}
	if len(p.Keys) == 0 || len(p.Keys) > maxClasses {
		add("keys", "has %d: name 1 to %d keys", len(p.Keys), maxClasses)
	}
	for op, n := range p.Approvals {
		if !slices.Contains([]approval.Operation{approval.KeyPolicy, approval.KeyDeletion, approval.KeyRetire, approval.KeyCompromise}, op) {
			add("approvals."+string(op), "is none of key.put-policy, key.schedule-deletion, key.retire, key.compromise")
		} else if n < 1 || n > 10 {
			add("approvals."+string(op), "is %d: must be 1 to 10 people besides the one who asks", n)
		}
	}
	taken := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(p.Keys)) {
		c := p.Keys[name]
		if c == nil {
			add("keys."+name, "is empty: say its service, environment, cryptoperiod, aliases, administrators, users")
			continue
		}
		c.Name = name
		c.defaults()
		before := len(bad)
		c.validate("keys."+name, p.RequiredTags, add)
		if len(bad) == before { // else what is wrong is named by its field already
			if _, err := c.KeyPolicy(); err != nil {
				add("keys."+name, "no key can have it: %v", err)
			}
		}
		for _, a := range c.Aliases {
			if other, twice := taken[a]; twice {
				add("keys."+name+".aliases", "%s is of key %s already: an alias names one key", a, other)
			}
			taken[a] = name
		}
	}
	return errors.Join(bad...)
}

func (c *Class) defaults() {
	for p, d := range map[*string]string{&c.Spec: "SYMMETRIC_DEFAULT", &c.Usage: "ENCRYPT_DECRYPT", &c.Origin: "AWS_KMS"} {
		if *p == "" {
			*p = d
		}
	}
	if c.DeletionWindow == 0 {
		c.DeletionWindow = 30
	}
}

// usages are what keys of a spec may be for.
func usages(spec string) []string {
	switch {
	case spec == "SYMMETRIC_DEFAULT":
		return []string{"ENCRYPT_DECRYPT"}
	case strings.HasPrefix(spec, "HMAC_"):
		return []string{"GENERATE_VERIFY_MAC"}
	case slices.Contains([]string{"RSA_2048", "RSA_3072", "RSA_4096"}, spec):
		return []string{"ENCRYPT_DECRYPT", "SIGN_VERIFY"}
	case slices.Contains([]string{"ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521"}, spec):
		return []string{"SIGN_VERIFY", "KEY_AGREEMENT"}
	case slices.Contains([]string{"ECC_SECG_P256K1", "ECC_NIST_EDWARDS25519", "ML_DSA_44", "ML_DSA_65", "ML_DSA_87"}, spec):
		return []string{"SIGN_VERIFY"}
	}
	return nil
}

// Automatic says whether KMS can rotate such a key by itself: symmetric ones whose
// material it made, outside custom key stores.
func (c *Class) Automatic() bool { return c.Spec == "SYMMETRIC_DEFAULT" && c.Origin == "AWS_KMS" }

func (c *Class) validate(path string, required []string, add func(path, format string, args ...any)) {
	if !className.MatchString(c.Name) {
		add(path, "a key's name is 1 to 64 of a-z, 0-9, dot, underscore and hyphen")
	}
	for field, v := range map[string]string{"service": c.Service, "environment": c.Environment} {
		if v == "" {
			add(path+"."+field, "must be given: keys are kept apart by service and environment")
		}
	}
	if all := usages(c.Spec); all == nil {
		add(path+".spec", "%q is no key spec that is made here", c.Spec)
	} else if !slices.Contains(all, c.Usage) {
		add(path+".usage", "%q is not for a key of %s: want %s", c.Usage, c.Spec, strings.Join(all, " or "))
	}
	c.validateOrigin(path, add)
	c.validatePeriods(path, add)
	if len(c.Aliases) == 0 {
		add(path+".aliases", "name at least one: applications find the key by it, also after it was replaced")
	}
	for _, a := range c.Aliases {
		if !aliasName.MatchString(a) || strings.HasPrefix(a, "alias/aws/") {
			add(path+".aliases", "%q must be alias/ and a name of letters, digits, /, _ and -, and not alias/aws/", a)
		}
	}
	for _, t := range required {
		if c.Tags[t] == "" {
			add(path+".tags", "tag %s is required: give it a value", t)
		}
	}
	for k := range c.Tags {
		if strings.HasPrefix(k, tagPrefix) || strings.HasPrefix(k, "aws:") || k == "" || len(k) > 128 || len(c.Tags[k]) > 256 {
			add(path+".tags", "%q: tags begin with neither %s nor aws:, and have at most 128 and 256 characters", k, tagPrefix)
		}
	}
	c.validatePrincipals(path, add)
	for _, r := range c.Replicas {
		if !regionRE.MatchString(r) {
			add(path+".replicas", "%q is no Region such as eu-west-1", r)
		}
	}
}

func (c *Class) validateOrigin(path string, add func(path, format string, args ...any)) {
	store := c.Origin == "AWS_CLOUDHSM" || c.Origin == "EXTERNAL_KEY_STORE"
	switch {
	case c.Origin != "AWS_KMS" && c.Origin != "EXTERNAL" && !store:
		add(path+".origin", "%q is none of AWS_KMS, EXTERNAL, AWS_CLOUDHSM, EXTERNAL_KEY_STORE", c.Origin)
	case c.Origin == "EXTERNAL_KEY_STORE":
		add(path+".origin", "EXTERNAL_KEY_STORE: such keys are made by the external manager's operator; only their use is known here")
	case store && c.CustomKeyStore == "":
		add(path+".custom_key_store", "must name the store of a key of origin %s", c.Origin)
	case !store && c.CustomKeyStore != "":
		add(path+".custom_key_store", "is for origin AWS_CLOUDHSM: leave it out, or change origin")
	case store && (c.Spec != "SYMMETRIC_DEFAULT" || len(c.Replicas) > 0):
		add(path+".origin", "keys of a custom key store are SYMMETRIC_DEFAULT and have no replicas")
	}
}

func (c *Class) validatePeriods(path string, add func(path, format string, args ...any)) {
	o, r := c.Cryptoperiod.Originator, c.Cryptoperiod.Recipient
	switch {
	case o < 1:
		add(path+".cryptoperiod.originator", "must be given: PCI DSS 3.7.4 wants a cryptoperiod for every key, for example 365d")
	case r < o:
		add(path+".cryptoperiod.recipient", "%s is shorter than the originator's %s: what was protected must be readable", r, o)
	case r > o+3*365:
		add(path+".cryptoperiod.recipient", "%s is more than 3 years above the originator's %s (NIST SP 800-57 part 1, table 1)", r, o)
	}
	switch {
	case c.Rotation != 0 && !c.Automatic():
		add(path+".rotation", "KMS rotates only symmetric keys of origin AWS_KMS by itself: leave it out, and rotate within the cryptoperiod by 'cardea keys rotate --key-id'")
	case c.Rotation != 0 && (c.Rotation < 90 || c.Rotation > 2560):
		add(path+".rotation", "%s must be 90d to 2560d", c.Rotation)
	case c.Rotation > o && o > 0:
		add(path+".rotation", "%s is longer than the originator's cryptoperiod of %s", c.Rotation, o)
	}
	if c.DeletionWindow < 7 || c.DeletionWindow > 30 {
		add(path+".deletion_window", "%s must be 7d to 30d", c.DeletionWindow)
	}
}

func (c *Class) validatePrincipals(path string, add func(path, format string, args ...any)) {
	account := ""
	for field, all := range map[string][]string{"administrators": c.Administrators, "users": c.Users} {
		if len(all) == 0 {
			add(path+"."+field, "name at least one user or role by its ARN")
		}
		for _, s := range all {
			who, err := iam.ParseAWSPrincipal(s)
			if err != nil || who.Kind != iam.PrincipalUser && who.Kind != iam.PrincipalRole || strings.Contains(s, "$") {
				add(path+"."+field, "%q must be the ARN of one user or role, without * and ?: nobody is let in by a pattern", s)
				continue
			}
			if field == "administrators" {
				if account != "" && account != who.Account() {
					add(path+"."+field, "are of accounts %s and %s: a key is administered in its own account", account, who.Account())
				}
				account = who.Account()
			}
		}
	}
	for _, s := range c.Users {
		if slices.Contains(c.Administrators, s) {
			add(path+".users", "%s is an administrator, too: who administers a key does not use it", s)
		}
	}
	for _, n := range c.Conditions.ViaService {
		if !serviceName.MatchString(n) {
			add(path+".conditions.via_service", "%q is no service such as rds.eu-west-1.amazonaws.com", n)
		}
	}
	for _, n := range c.Conditions.SourceIP {
		if _, err := netip.ParsePrefix(n); err != nil {
			add(path+".conditions.source_ip", "%q is no network such as 10.0.0.0/8", n)
		}
	}
}

// Account is the account of the key's administrators.
func (c *Class) Account() string {
	arn, err := iam.ParseARN(c.Administrators[0])
	if err != nil {
		return "" // validated
	}
	return arn.Account
}
