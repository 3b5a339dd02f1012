package ceremony

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"cardea/internal/secret"
)

// Limits.
const (
	MinComponents = 2
	MaxComponents = 16
	maxText       = 1024 // of a component, in bytes
)

// Errors that a caller branches on.
var (
	ErrMalformed = errors.New("not a key component")
	ErrWeak      = errors.New("component is weak")
	ErrMismatch  = errors.New("components do not belong together")
	ErrCheck     = errors.New("check value does not match")
)

// Set names components that belong together.
type Set [8]byte

// String is the name in hexadecimal digits.
func (s Set) String() string { return hex.EncodeToString(s[:]) }

// Component is one custodian's part of key material, as long as the material.
type Component struct {
	Set       Set
	Index     int // from 1
	Count     int
	Algorithm Algorithm
	value     secret.Bytes
}

// Generate makes material of n random components and tells its check value. Each
// goes to another custodian, who destroys it after use; nobody has the material.
func Generate(a Algorithm, n int) ([]Component, string, error) {
	if err := a.check(); err != nil {
		return nil, "", err
	}
	if n < MinComponents || n > MaxComponents {
		return nil, "", fmt.Errorf("components: %d, want %d to %d", n, MinComponents, MaxComponents)
	}
	var set Set
	rand.Read(set[:])
	all := make([]Component, n)
	for i := range all {
		all[i] = Component{set, i + 1, n, a, secret.Random(a.Size())}
	}
	m, err := Combine(all)
	if err != nil { // one in 2^100
		Destroy(all)
		return nil, "", err
	}
	m.Destroy()
	return all, m.KCV, nil
}

// Destroy wipes components.
func Destroy(cs []Component) {
	for _, c := range cs {
		c.value.Destroy()
	}
}

// KCV is the component's own check value.
func (c Component) KCV() string {
	kcv, err := KCV(c.Algorithm, c.value)
	if err != nil {
		return "" // only of a zero Component
	}
	return kcv
}

// Name is how messages call it.
func (c Component) Name() string { return fmt.Sprintf("component %d of %d", c.Index, c.Count) }

// textHeader is the first line of a component's text.
const textHeader = "cardea key component v1"

// Text is the component as its custodian keeps it, the value in the clear. The
// caller destroys it.
func (c Component) Text() secret.Bytes {
	var b bytes.Buffer
	b.Grow(maxText)
	fmt.Fprintf(&b, "%s\nset: %s\ncomponent: %d of %d\nalgorithm: %s\nvalue: ", textHeader, c.Set, c.Index, c.Count, c.Algorithm)
	digits := make([]byte, hex.EncodedLen(c.value.Len()))
	defer secret.Wipe(digits)
	hex.Encode(digits, c.value.Expose())
	for i := 0; i < len(digits); i += 4 {
		if i > 0 {
			b.WriteByte('-')
		}
		b.Write(digits[i : i+4])
	}
	fmt.Fprintf(&b, "\nkcv: %s\n", c.KCV())
	return secret.New(b.Bytes())
}

// ParseComponent reads a component's text; white space at its end and the case of
// digits do not matter. A value that was mistyped does not match its check value:
// ErrCheck. Other errors are ErrMalformed and ErrWeak. The caller keeps text.
func ParseComponent(text secret.Bytes) (Component, error) {
	var c Component
	if text.Len() > maxText {
		return c, fmt.Errorf("%w: longer than %d bytes", ErrMalformed, maxText)
	}
	lines := bytes.Split(bytes.TrimRight(text.Expose(), " \t\r\n"), []byte("\n"))
	if len(lines) != 6 || string(bytes.TrimSpace(lines[0])) != textHeader {
		return c, fmt.Errorf("%w: want six lines, the first %q", ErrMalformed, textHeader)
	}
	var values [5][]byte
	for i, name := range []string{"set: ", "component: ", "algorithm: ", "value: ", "kcv: "} {
		rest, ok := bytes.CutPrefix(lines[i+1], []byte(name))
		if !ok {
			return c, fmt.Errorf("%w: line %d does not begin with %q", ErrMalformed, i+2, name)
		}
		values[i] = bytes.TrimSpace(rest)
	}
	if n, err := hex.Decode(c.Set[:], limit(values[0], 2*len(c.Set))); err != nil || n != len(c.Set) || len(values[0]) != 2*n {
		return c, fmt.Errorf("%w: set: want %d hexadecimal digits", ErrMalformed, 2*len(c.Set))
	}
	if _, err := fmt.Sscanf(string(values[1]), "%d of %d", &c.Index, &c.Count); err != nil || string(values[1]) != fmt.Sprintf("%d of %d", c.Index, c.Count) ||
		c.Count < MinComponents || c.Count > MaxComponents || c.Index < 1 || c.Index > c.Count {
		return c, fmt.Errorf("%w: component: want such as \"1 of 3\"", ErrMalformed)
	}
	c.Algorithm = Algorithm(values[2])
	if err := c.Algorithm.check(); err != nil {
		return c, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return c.fill(values[3], string(values[4]))
}

func limit(b []byte, n int) []byte { return b[:min(len(b), n)] }

// fill reads the value and checks it.
func (c Component) fill(digits []byte, kcv string) (Component, error) {
	plain := make([]byte, 0, len(digits))
	defer func() { secret.Wipe(plain[:cap(plain)]) }()
	for _, d := range digits {
		if d != '-' && d != ' ' {
			plain = append(plain, d)
		}
	}
	value := make([]byte, c.Algorithm.Size())
	if len(plain) != 2*len(value) {
		return Component{}, fmt.Errorf("%w: %s: value has %d digits, want %d", ErrMalformed, c.Name(), len(plain), 2*len(value))
	}
	if _, err := hex.Decode(value, plain); err != nil {
		secret.Wipe(value)
		return Component{}, fmt.Errorf("%w: %s: value has a character that is not a hexadecimal digit", ErrMalformed, c.Name())
	}
	c.value = secret.New(value)
	if err := c.verify(kcv); err != nil {
		c.value.Destroy()
		return Component{}, err
	}
	return c, nil
}

func (c Component) verify(kcv string) error {
	want, err := c.KCV(), error(nil)
	if len(kcv) == 6 && c.Algorithm == AES256 {
		want, err = legacyKCV(c.value)
	}
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare([]byte(strings.ToUpper(kcv)), []byte(want)) != 1 {
		return fmt.Errorf("%s: %w: a digit is mistyped, or it is of another component", c.Name(), ErrCheck)
	}
	return weak(c.Name(), c.value)
}

// weak refuses a value that is a pattern: all bytes alike, or one half twice. A
// random one is such a pattern once in 2^120.
func weak(name string, v secret.Bytes) error {
	b := v.Expose()
	alike := 1
	for _, x := range b[1:] {
		alike &= subtle.ConstantTimeByteEq(x, b[0])
	}
	if alike == 1 || subtle.ConstantTimeCompare(b[:len(b)/2], b[len(b)/2:]) == 1 {
		return fmt.Errorf("%s: %w: its bytes are a pattern: make a new one from random bytes", name, ErrWeak)
	}
	return nil
}

// Material is a whole key, in memory only.
type Material struct {
	Algorithm Algorithm
	KCV       string
	value     secret.Bytes
}

// Destroy wipes it.
func (m *Material) Destroy() { m.value.Destroy() }

// newMaterial takes value.
func newMaterial(a Algorithm, value secret.Bytes) (*Material, error) {
	kcv, err := KCV(a, value)
	if err == nil {
		err = weak("the combined key", value)
	}
	if err != nil {
		value.Destroy()
		return nil, err
	}
	return &Material{a, kcv, value}, nil
}

// Combine makes the material of all its components, in any order. The caller
// destroys both. Errors: ErrMismatch, ErrWeak.
func Combine(cs []Component) (*Material, error) {
	if len(cs) == 0 {
		return nil, fmt.Errorf("%w: there are none", ErrMismatch)
	}
	first := cs[0]
	seen := map[int]bool{}
	for i, c := range cs {
		switch {
		case c.Set != first.Set || c.Count != first.Count || c.Algorithm != first.Algorithm:
			return nil, fmt.Errorf("%w: %s is of set %s for %s, %s of set %s for %s", ErrMismatch, first.Name(), first.Set, first.Algorithm, c.Name(), c.Set, c.Algorithm)
		case seen[c.Index]:
			return nil, fmt.Errorf("%w: %s is given twice", ErrMismatch, c.Name())
		}
		for _, other := range cs[:i] {
			if c.value.Equal(other.value) {
				return nil, fmt.Errorf("%s and %s are equal: %w: together they are nothing", other.Name(), c.Name(), ErrWeak)
			}
		}
		seen[c.Index] = true
	}
	if len(cs) != first.Count {
		return nil, fmt.Errorf("%w: %d of %d are given", ErrMismatch, len(cs), first.Count)
	}
	sum := make([]byte, first.Algorithm.Size())
	for _, c := range cs {
		xor(sum, c.value.Expose())
	}
	return newMaterial(first.Algorithm, secret.New(sum))
}
