package custodian

import (
	"errors"
	"strings"
	"testing"

	"cardea/internal/secret"
)

func TestHyperswitchAcceptsEitherCaseOfDigits(t *testing.T) {
	t.Parallel()
	v := readVectors(t).Hyperswitch
	got, err := OpenHyperswitch(text(strings.ToUpper(v.Sealed)), text(strings.ToUpper(v.Key1)), text(v.Key2))
	if err != nil || !got.Equal(secret.New(unhex(t, v.Master))) {
		t.Errorf("open: %v, or another key", err)
	}
}

func TestOpenHyperswitchRefuses(t *testing.T) {
	t.Parallel()
	v := readVectors(t).Hyperswitch
	flipped := []byte(v.Sealed)
	flipped[60] ^= 1
	for _, c := range []struct {
		name, sealed, key1, key2, want string
		is                             error
	}{
		{"halves exchanged", v.Sealed, v.Key2, v.Key1, "the parts do not open the seal", ErrDoesNotOpen},
		{"other half", v.Sealed, v.Key1, strings.Repeat("0", 32), "the parts do not open the seal", ErrDoesNotOpen},
		{"damaged", string(flipped), v.Key1, v.Key2, "the parts do not open the seal", ErrDoesNotOpen},
		{"short", v.Sealed[2:], v.Key1, v.Key2, "has 118 characters, want 120: seal is corrupt", ErrCorruptSeal},
		{"long", v.Sealed + "00", v.Key1, v.Key2, "has 122 characters, want 120: seal is corrupt", ErrCorruptSeal},
		{"no digit", "x" + v.Sealed[1:], v.Key1, v.Key2, "has a character that is not a hexadecimal digit: seal is corrupt", ErrCorruptSeal},
		{"short half 1", v.Sealed, v.Key1[1:], v.Key2, "half 1 has 31 characters, want 32", ErrMalformed},
		{"short half 2", v.Sealed, v.Key1, v.Key2[1:], "half 2 has 31 characters, want 32", ErrMalformed},
	} {
		_, err := OpenHyperswitch(text(c.sealed), text(c.key1), text(c.key2))
		if err == nil || err.Error() != c.want || !errors.Is(err, c.is) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

func TestHyperswitchSealRefusesParts(t *testing.T) {
	t.Parallel()
	v := readVectors(t)
	s, err := NewHyperswitchSeal(text(v.Hyperswitch.Sealed))
	if err != nil {
		t.Fatal(err)
	}
	half, err := ParseHalf(1, text(v.Hyperswitch.Key1))
	if err != nil {
		t.Fatal(err)
	}
	share, err := ParseShare(text(v.Seals[0].Parts[0]))
	if err != nil {
		t.Fatal(err)
	}
	destroyed := half.clone()
	destroyed.Destroy()
	for _, c := range []struct {
		parts []Part
		want  string
		is    error
	}{
		{[]Part{half}, "have 1 of 2: not enough parts", ErrNotEnough},
		{[]Part{half, half}, "half 1: this part was given already", ErrPartTaken},
		{[]Part{half, share}, "share 1 is not of this seal, which has halves", ErrWrongPart},
		{[]Part{half, destroyed}, "half 1 is empty", ErrWrongPart},
	} {
		if _, err := s.Open(c.parts); err == nil || err.Error() != c.want || !errors.Is(err, c.is) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}

// A deployment moves from the peer's form to shares without touching what the
// master key wraps.
func TestHyperswitchKeyMovesToShares(t *testing.T) {
	t.Parallel()
	v := readVectors(t).Hyperswitch
	master, err := OpenHyperswitch(text(v.Sealed), text(v.Key1), text(v.Key2))
	if err != nil {
		t.Fatal(err)
	}
	s, parts, err := SealMaster("acme", master, FormShares, 5, 3)
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Open(parts[1:4])
	if err != nil || !got.Equal(master) {
		t.Errorf("open: %v, or another key", err)
	}
}
