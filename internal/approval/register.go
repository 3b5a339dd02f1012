package approval

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"golang.org/x/mod/sumdb/note"
)

// Role is what a person may do.
type Role string

// The roles.
const (
	RoleRequester Role = "requester"
	RoleApprover  Role = "approver"
	RoleCustodian Role = "custodian" // holds a part of key material (PCI DSS 3.6.1.3)
)

// maxRegister bounds a register's text, in bytes.
const maxRegister = 1 << 20

// Register is who may ask, approve, and hold parts of keys: the register of key
// custodians that PCI DSS 3.6.1.3 and 3.7.8 ask for. It is a reviewed file.
type Register struct {
	People []Person `toml:"person"`

	digest [32]byte
}

// Person is somebody in the register.
type Person struct {
	Name       string    `toml:"name"` // of the key, without spaces
	FullName   string    `toml:"full_name"`
	Roles      []Role    `toml:"roles"`
	Key        string    `toml:"key"` // verifier: NAME+HASH+KEY
	ValidUntil time.Time `toml:"valid_until"`
	Left       time.Time `toml:"left,omitempty"` // when the person left the role
	// Acknowledgement is the note that a custodian signed (PCI DSS 3.7.8).
	Acknowledgement string `toml:"acknowledgement,multiline,omitempty"`
	Holds           []Part `toml:"holds,omitempty"` // parts of keys, also of who has left

	verifier note.Verifier
}

// ParseRegister reads a register: TOML, no unknown members.
func ParseRegister(text []byte) (*Register, error) {
	if len(text) > maxRegister {
		return nil, fmt.Errorf("register: longer than %d bytes", maxRegister)
	}
	r := &Register{digest: sha256.Sum256(text)}
	d := toml.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(r); err != nil {
		if s, ok := errors.AsType[*toml.StrictMissingError](err); ok {
			return nil, fmt.Errorf("register: unknown member:\n%s", s.String())
		}
		return nil, fmt.Errorf("register: %w", err)
	}
	seen := map[string]string{}
	for i := range r.People {
		p := &r.People[i]
		if err := p.validate(); err != nil {
			return nil, fmt.Errorf("register: person %q: %w", p.Name, err)
		}
		_, key, _ := strings.Cut(p.Key, "+")
		_, key, _ = strings.Cut(key, "+")
		for what, v := range map[string]string{"name": "n" + p.Name, "key": "k" + key} {
			if other, twice := seen[v]; twice {
				return nil, fmt.Errorf("register: person %q: has the %s of person %q: nobody may count twice", p.Name, what, other)
			}
			seen[v] = p.Name
		}
	}
	if err := r.validateParts(); err != nil {
		return nil, err
	}
	return r, nil
}

func (p *Person) validate() error {
	switch {
	case !validName(p.Name):
		return errors.New("name: must be 1 to 64 of a-z, 0-9, dot, underscore and hyphen")
	case p.FullName == "":
		return errors.New("full_name: must not be empty")
	case len(p.Roles) == 0:
		return errors.New("roles: must name one of requester, approver, custodian")
	case p.ValidUntil.IsZero():
		return errors.New("valid_until: must be given: who may approve is reviewed, at least every year")
	}
	for _, role := range p.Roles {
		if role != RoleRequester && role != RoleApprover && role != RoleCustodian {
			return fmt.Errorf("roles: %q is none of requester, approver, custodian", role)
		}
	}
	v, err := note.NewVerifier(p.Key)
	if err != nil {
		return errors.New("key: is not a verifier NAME+HASH+KEY, as 'cardea approval keygen' prints it")
	}
	if v.Name() != p.Name {
		return fmt.Errorf("key: is of %q", v.Name())
	}
	p.verifier = v
	return nil
}

// Digest names this version of the register in the log.
func (r *Register) Digest() string { return hex.EncodeToString(r.digest[:]) }

// Person returns the one with a name.
func (r *Register) Person(name string) (*Person, error) {
	for i := range r.People {
		if r.People[i].Name == name {
			return &r.People[i], nil
		}
	}
	return nil, fmt.Errorf("%q is not in the register", name)
}

// May tells why a person may not act in a role now, or nil.
func (r *Register) May(name string, role Role, now time.Time) error {
	p, err := r.Person(name)
	switch {
	case err != nil:
		return err
	case !slices.Contains(p.Roles, role):
		return fmt.Errorf("%q is not %s in the register", name, article(role))
	case !p.Left.IsZero() && !now.Before(p.Left):
		return fmt.Errorf("%q left on %s", name, p.Left.Format(time.DateOnly))
	case !now.Before(p.ValidUntil):
		return fmt.Errorf("%q was valid until %s: review the register", name, p.ValidUntil.Format(time.DateOnly))
	}
	return nil
}

func article(r Role) string {
	if r == RoleApprover {
		return "an approver"
	}
	return "a " + string(r)
}

// Custodian tells why a person may not hold a part of a key now, or nil: the role,
// and a signed acknowledgement that is in force (PCI DSS 3.7.8).
func (r *Register) Custodian(name string, now time.Time) error {
	if err := r.May(name, RoleCustodian, now); err != nil {
		return err
	}
	p, err := r.Person(name)
	if err != nil {
		return err
	}
	a, err := p.acknowledged()
	switch {
	case err != nil:
		return fmt.Errorf("%q has not acknowledged the responsibilities of a key custodian: %w", name, err)
	case !now.Before(a.Expires):
		return fmt.Errorf("%q acknowledged until %s: have it signed again", name, a.Expires.Format(time.DateOnly))
	}
	return nil
}

// verifiers are all keys in the register, of those who left, too: an old approval
// is still theirs.
func (r *Register) verifiers() note.Verifiers {
	var all []note.Verifier
	for i := range r.People {
		all = append(all, r.People[i].verifier)
	}
	return note.VerifierList(all...)
}
