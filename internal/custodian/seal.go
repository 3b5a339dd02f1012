package custodian

import (
	"crypto/hmac"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"cardea/internal/ciphertext"
	"cardea/internal/secret"
)

// Seal is a tenant's master key under a custodian key that nobody has, with
// what is needed to check each custodian's part. It holds no secret in clear and
// never changes; a change of custodians makes a new one ([Rekey]). The zero value
// is not a seal.
type Seal struct {
	info      Info
	checkSalt [16]byte
	checks    [][16]byte
	box       []byte
}

// Info is what a source of master keys says of itself.
type Info struct {
	Tenant            string // empty: the source does not name it
	Form              Form
	Shares, Threshold int
	Generation        int       // counts the changes of custodians, from 1
	MasterID          uuid.UUID // kept by Rekey
}

const (
	sealVersion = 1
	sealLabel   = "cardea custodian seal v1"
	boxSize     = ciphertext.BoxOverhead + keySize
)

// NewSeal makes a random 32-byte master key for a tenant (1 to 255 bytes) and
// divides it among custodians: 2 to 16 shares of which threshold, at least 2, open
// it; or 2 of 2 halves. The caller hands each part to its custodian and destroys
// it, and destroys the master key, which it needs only to wrap first keys.
func NewSeal(tenant string, form Form, shares, threshold int) (Seal, secret.Bytes, []Part, error) {
	master := secret.Random(keySize)
	s, parts, err := SealMaster(tenant, master, form, shares, threshold)
	if err != nil {
		master.Destroy()
		return Seal{}, secret.Bytes{}, nil, err
	}
	return s, master, parts, nil
}

// SealMaster is [NewSeal] for a master key of 32 bytes that exists, such as one
// that [OpenHyperswitch] returned. The caller keeps master.
func SealMaster(tenant string, master secret.Bytes, form Form, shares, threshold int) (Seal, []Part, error) {
	id, err := uuid.NewRandom()
	if err != nil {
		return Seal{}, nil, fmt.Errorf("make master key id: %w", err)
	}
	return sealMaster(master, Info{tenant, form, shares, threshold, 1, id})
}

// Rekey divides the master key of s anew among other custodians, in a new seal
// of the next generation. parts are a quorum of s. The master key and its id stay,
// so nothing that it wraps changes. The caller destroys the old parts and, if one
// of them leaked, the old seal with its backups: together they still open.
func Rekey(s Seal, parts []Part, form Form, shares, threshold int) (Seal, []Part, error) {
	if s.info.Generation >= maxGeneration {
		return Seal{}, nil, fmt.Errorf("rekey: generation %d is the last", s.info.Generation)
	}
	master, err := s.Open(parts)
	if err != nil {
		return Seal{}, nil, fmt.Errorf("rekey: %w", err)
	}
	defer master.Destroy()
	next := Info{s.info.Tenant, form, shares, threshold, s.info.Generation + 1, s.info.MasterID}
	return sealMaster(master, next)
}

func sealMaster(master secret.Bytes, info Info) (Seal, []Part, error) {
	if info.Tenant == "" || len(info.Tenant) > maxTenant {
		return Seal{}, nil, fmt.Errorf("tenant name has %d bytes, want 1 to %d", len(info.Tenant), maxTenant)
	}
	if err := checkTerms(info.Form, info.Shares, info.Threshold); err != nil {
		return Seal{}, nil, err
	}
	if n := master.Len(); n != keySize {
		return Seal{}, nil, fmt.Errorf("master key has %d bytes, want %d", n, keySize)
	}
	key := secret.Random(keySize)
	defer key.Destroy()
	parts := divide(key.Expose(), info)
	s := Seal{info: info}
	rand.Read(s.checkSalt[:])
	for _, p := range parts {
		s.checks = append(s.checks, p.checkValue(info.Tenant, info.Generation, s.checkSalt))
	}
	var err error
	if s.box, err = ciphertext.SealBox(key, s.context(), master.Expose()); err != nil {
		return Seal{}, nil, fmt.Errorf("seal master key: %w", err)
	}
	return s, parts, nil
}

// divide makes the parts of a custodian key.
func divide(key []byte, info Info) []Part {
	if info.Form == FormHalves {
		return []Part{
			{form: FormHalves, index: 1, value: secret.Copy(key[:halfSize])},
			{form: FormHalves, index: 2, value: secret.Copy(key[halfSize:])},
		}
	}
	parts := make([]Part, info.Shares)
	for i, v := range split(key, info.Shares, info.Threshold) {
		parts[i] = Part{
			form: FormShares, index: i + 1, value: secret.New(v), tenant: tagOf(info.Tenant),
			generation: info.Generation, threshold: info.Threshold, shares: info.Shares,
		}
	}
	return parts
}

// Info says what the seal is of. Opening authenticates it.
func (s Seal) Info() Info { return s.info }

// Check refuses a part that is not of this seal, with a [*PartError] of kind
// [ErrWrongPart] that says what is wrong with it.
func (s Seal) Check(p Part) error {
	if p.form != s.info.Form {
		return p.wrong("is not of this seal, which has %s", s.info.Form)
	}
	if !p.whole() {
		return p.wrong("is empty")
	}
	if p.form == FormShares {
		if p.tenant != tagOf(s.info.Tenant) {
			return p.wrong("is of another tenant than %q", s.info.Tenant)
		}
		if p.generation != s.info.Generation {
			return p.wrong("is of generation %d, the seal of generation %d", p.generation, s.info.Generation)
		}
		if p.threshold != s.info.Threshold || p.shares != s.info.Shares {
			return p.wrong("is one of %d of which %d are needed, the seal has %d and needs %d",
				p.shares, p.threshold, s.info.Shares, s.info.Threshold)
		}
	}
	if p.index < 1 || p.index > s.info.Shares {
		return p.wrong("is not one of the %d", s.info.Shares)
	}
	want := p.checkValue(s.info.Tenant, s.info.Generation, s.checkSalt)
	if !hmac.Equal(want[:], s.checks[p.index-1][:]) {
		return p.wrong("is not the one that was handed out")
	}
	return nil
}

// Open gives the master key back from a quorum of parts, each checked by itself
// first. Errors: [*PartError], [ErrNotEnough], [ErrPartTaken] for one part given
// twice, [ErrDoesNotOpen]. The caller keeps the parts and destroys the key.
func (s Seal) Open(parts []Part) (secret.Bytes, error) {
	for _, p := range parts {
		if err := s.Check(p); err != nil {
			return secret.Bytes{}, err
		}
	}
	key, err := join(s.info, parts)
	if err != nil {
		return secret.Bytes{}, err
	}
	defer key.Destroy()
	master, err := ciphertext.OpenBox(key, s.context(), s.box)
	if errors.Is(err, ciphertext.ErrCorrupt) {
		return secret.Bytes{}, ErrDoesNotOpen
	}
	return master, err
}

// join gives the custodian key back from parts that were checked.
func join(info Info, parts []Part) (secret.Bytes, error) {
	if len(parts) < info.Threshold {
		return secret.Bytes{}, fmt.Errorf("have %d of %d: %w", len(parts), info.Threshold, ErrNotEnough)
	}
	seen := map[int]bool{}
	for _, p := range parts {
		if seen[p.index] {
			return secret.Bytes{}, fmt.Errorf("%s: %w", p.Name(), ErrPartTaken)
		}
		seen[p.index] = true
	}
	if info.Form == FormHalves {
		a, b := parts[0], parts[1]
		if a.index > b.index {
			a, b = b, a
		}
		return secret.New(append(append(make([]byte, 0, keySize), a.value.Expose()...), b.value.Expose()...)), nil
	}
	var xs []byte
	var values [][]byte
	for _, p := range parts[:info.Threshold] {
		xs, values = append(xs, byte(p.index)), append(values, p.value.Expose())
	}
	return secret.New(combine(xs, values)), nil
}

// context binds all of the seal before its box to the box.
func (s Seal) context() []byte { return ciphertext.Context(sealLabel, s.appendHeader(nil)) }

func (s Seal) appendHeader(b []byte) []byte {
	form := byte(1)
	if s.info.Form == FormHalves {
		form = 2
	}
	b = append(b, sealVersion, form, byte(s.info.Shares), byte(s.info.Threshold))
	b = binary.BigEndian.AppendUint32(b, uint32(s.info.Generation))
	b = append(b, s.info.MasterID[:]...)
	b = append(b, byte(len(s.info.Tenant)))
	b = append(b, s.info.Tenant...)
	b = append(b, s.checkSalt[:]...)
	for _, c := range s.checks {
		b = append(b, c[:]...)
	}
	return b
}

// MarshalBinary writes the seal as it is stored. It never fails.
func (s Seal) MarshalBinary() ([]byte, error) {
	return append(s.appendHeader(nil), s.box...), nil
}

// UnmarshalBinary reads what MarshalBinary wrote and nothing else. A seal of a token
// is [ErrTokenSeal], other bytes are [ErrCorruptSeal]. The caller keeps b.
func (s *Seal) UnmarshalBinary(b []byte) error {
	const fixed = 1 + 1 + 1 + 1 + 4 + 16 + 1
	if len(b) < fixed {
		return fmt.Errorf("has %d bytes: %w", len(b), ErrCorruptSeal)
	}
	if b[0] != sealVersion {
		return fmt.Errorf("version %d is not known: %w", b[0], ErrCorruptSeal)
	}
	if b[1] == tokenSealForm {
		return ErrTokenSeal
	}
	form, ok := map[byte]Form{1: FormShares, 2: FormHalves}[b[1]]
	if !ok {
		return fmt.Errorf("form %d is not known: %w", b[1], ErrCorruptSeal)
	}
	shares, threshold := int(b[2]), int(b[3])
	if err := checkTerms(form, shares, threshold); err != nil {
		return fmt.Errorf("%w: %w", err, ErrCorruptSeal)
	}
	generation := binary.BigEndian.Uint32(b[4:])
	if generation == 0 || generation > maxGeneration {
		return fmt.Errorf("generation %d: %w", generation, ErrCorruptSeal)
	}
	id := uuid.UUID(b[8:24])
	tenant := int(b[24])
	if id == uuid.Nil || tenant == 0 {
		return fmt.Errorf("no master key id or no tenant: %w", ErrCorruptSeal)
	}
	if want := fixed + tenant + 16 + 16*shares + boxSize; len(b) != want {
		return fmt.Errorf("has %d bytes, want %d: %w", len(b), want, ErrCorruptSeal)
	}
	r := Seal{info: Info{string(b[fixed : fixed+tenant]), form, shares, threshold, int(generation), id}}
	b = b[fixed+tenant:]
	r.checkSalt, b = [16]byte(b), b[16:]
	for range shares {
		r.checks, b = append(r.checks, [16]byte(b)), b[16:]
	}
	r.box = append([]byte(nil), b...)
	*s = r
	return nil
}
