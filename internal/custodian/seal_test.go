package custodian

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"cardea/internal/secret"
)

func newSeal(t *testing.T, tenant string, form Form, shares, threshold int) (Seal, secret.Bytes, []Part) {
	t.Helper()
	s, master, parts, err := NewSeal(tenant, form, shares, threshold)
	if err != nil {
		t.Fatal(err)
	}
	return s, master, parts
}

func TestAnyQuorumOpensTheSeal(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		form, n, k := FormHalves, 2, 2
		if rapid.Bool().Draw(t, "shamir") {
			form, n = FormShares, rapid.IntRange(2, maxShares).Draw(t, "n")
			k = rapid.IntRange(2, n).Draw(t, "k")
		}
		s, master, parts, err := NewSeal("acme", form, n, k)
		if err != nil {
			t.Fatal(err)
		}
		// What is stored and what custodians type is what opens later.
		blob, err := s.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var stored Seal
		if err := stored.UnmarshalBinary(blob); err != nil {
			t.Fatal(err)
		}
		order := rapid.Permutation(parts).Draw(t, "order")[:rapid.IntRange(k, n).Draw(t, "use")]
		var typed []Part
		for _, p := range order {
			var q Part
			if form == FormHalves {
				q, err = ParseHalf(p.Index(), p.Text())
			} else {
				q, err = ParseShare(p.Text())
			}
			if err != nil {
				t.Fatal(err)
			}
			typed = append(typed, q)
		}
		got, err := stored.Open(typed)
		if err != nil || !got.Equal(master) {
			t.Fatalf("open with %d of %d: %v, or another key", len(typed), n, err)
		}
	})
}

func TestSealRefusesTerms(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		tenant    string
		form      Form
		n, k      int
		want      string
		keyLength int
	}{
		{"acme", FormShares, 1, 1, "threshold 1: at least 2 custodians must agree (PCI DSS 3.7.6)", 32},
		{"acme", FormShares, 3, 1, "threshold 1: at least 2 custodians must agree (PCI DSS 3.7.6)", 32},
		{"acme", FormShares, 3, 0, "threshold 0: at least 2 custodians must agree (PCI DSS 3.7.6)", 32},
		{"acme", FormShares, 2, 3, "threshold 3 is more than the 2 shares", 32},
		{"acme", FormShares, 17, 2, "17 shares: at most 16", 32},
		{"acme", FormHalves, 3, 2, "halves are 2 of 2, not 2 of 3", 32},
		{"acme", "thirds", 3, 3, `unknown form "thirds": want "shares" or "halves"`, 32},
		{"", FormShares, 3, 2, "tenant name has 0 bytes, want 1 to 255", 32},
		{strings.Repeat("x", 256), FormShares, 3, 2, "tenant name has 256 bytes, want 1 to 255", 32},
		{"acme", FormShares, 3, 2, "master key has 31 bytes, want 32", 31},
		{"acme", FormShares, 3, 2, "master key has 0 bytes, want 32", 0},
	} {
		if _, _, err := SealMaster(c.tenant, secret.Random(c.keyLength), c.form, c.n, c.k); err == nil || err.Error() != c.want {
			t.Errorf("got %v, want %q", err, c.want)
		}
		if c.keyLength != keySize {
			continue
		}
		if _, master, parts, err := NewSeal(c.tenant, c.form, c.n, c.k); err == nil || err.Error() != c.want || master.Len() != 0 || parts != nil {
			t.Errorf("NewSeal: got %v, want %q", err, c.want)
		}
	}
}

func TestWrongPartsAreRefusedByThemselves(t *testing.T) {
	t.Parallel()
	s, _, parts := newSeal(t, "acme", FormShares, 3, 2)
	_, _, others := newSeal(t, "other", FormShares, 3, 2)
	_, _, again := newSeal(t, "acme", FormShares, 3, 2)
	_, _, wider := newSeal(t, "acme", FormShares, 5, 3)
	halves, _, half := newSeal(t, "acme", FormHalves, 2, 2)
	_, _, otherHalf := newSeal(t, "acme", FormHalves, 2, 2)
	next, moved, err := Rekey(s, parts[:2], FormShares, 3, 2)
	if err != nil {
		t.Fatal(err)
	}
	damaged := parts[1].clone()
	damaged.value.Expose()[31] ^= 1
	renumbered := parts[1].clone()
	renumbered.index = 1
	beyond := parts[1].clone()
	beyond.index = 4
	destroyed := parts[1].clone()
	destroyed.Destroy()
	swapped := half[0].clone()
	swapped.index = 2
	for _, c := range []struct {
		name string
		seal Seal
		part Part
		want string
	}{
		{"other tenant", s, others[1], `share 2 is of another tenant than "acme"`},
		{"other seal of the tenant", s, again[1], "share 2 is not the one that was handed out"},
		{"other terms", s, wider[1], "share 2 is one of 5 of which 3 are needed, the seal has 3 and needs 2"},
		{"later generation", s, moved[0], "share 1 is of generation 2, the seal of generation 1"},
		{"earlier generation", next, parts[2], "share 3 is of generation 1, the seal of generation 2"},
		{"one bit flipped", s, damaged, "share 2 is not the one that was handed out"},
		{"other number", s, renumbered, "share 1 is not the one that was handed out"},
		{"number 4 of 3", s, beyond, "share 4 is not one of the 3"},
		{"destroyed", s, destroyed, "share 2 is empty"},
		{"half for shares", s, half[0], "half 1 is not of this seal, which has shares"},
		{"share for halves", halves, parts[0], "share 1 is not of this seal, which has halves"},
		{"half of another seal", halves, otherHalf[1], "half 2 is not the one that was handed out"},
		{"half 1 as half 2", halves, swapped, "half 2 is not the one that was handed out"},
		{"zero part", s, Part{}, "share 0 is not of this seal, which has shares"},
	} {
		err := c.seal.Check(c.part)
		var pe *PartError
		if err == nil || err.Error() != c.want || !errors.Is(err, ErrWrongPart) || !errors.As(err, &pe) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
		if _, err := c.seal.Open([]Part{c.part, c.part}); err == nil || err.Error() != c.want {
			t.Errorf("%s: open: got %v, want %q", c.name, err, c.want)
		}
	}
}

func TestOpenRefusesTooFewAndRepeatedParts(t *testing.T) {
	t.Parallel()
	s, _, parts := newSeal(t, "acme", FormShares, 4, 3)
	halves, _, half := newSeal(t, "acme", FormHalves, 2, 2)
	for _, c := range []struct {
		seal  Seal
		parts []Part
		want  string
		is    error
	}{
		{s, nil, "have 0 of 3: not enough parts", ErrNotEnough},
		{s, parts[:2], "have 2 of 3: not enough parts", ErrNotEnough},
		{s, []Part{parts[0], parts[1], parts[0]}, "share 1: this part was given already", ErrPartTaken},
		{halves, half[:1], "have 1 of 2: not enough parts", ErrNotEnough},
		{halves, []Part{half[1], half[1]}, "half 2: this part was given already", ErrPartTaken},
	} {
		if _, err := c.seal.Open(c.parts); err == nil || err.Error() != c.want || !errors.Is(err, c.is) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}

// The box itself notices wrong shares, without the check values.
func TestWrongKeyDoesNotOpenTheSeal(t *testing.T) {
	t.Parallel()
	s, _, parts := newSeal(t, "acme", FormShares, 3, 2)
	for i := range parts {
		bad := parts[i].clone()
		bad.value.Expose()[0] ^= 0x80
		other := s
		other.checks = slices.Clone(s.checks)
		other.checks[i] = bad.checkValue("acme", 1, s.checkSalt)
		quorum := []Part{bad, parts[(i+1)%3]}
		if _, err := other.Open(quorum); !errors.Is(err, ErrDoesNotOpen) || err.Error() != "the parts do not open the seal" {
			t.Errorf("share %d wrong: got %v, want ErrDoesNotOpen", i+1, err)
		}
	}
}

func TestEveryChangedByteOfTheSealIsNoticed(t *testing.T) {
	t.Parallel()
	for _, form := range []Form{FormShares, FormHalves} {
		s, _, parts := newSeal(t, "acme", form, 2, 2)
		blob, err := s.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		for i := range len(blob) * 8 {
			bad := slices.Clone(blob)
			bad[i/8] ^= 1 << (i % 8)
			var got Seal
			if err := got.UnmarshalBinary(bad); err != nil {
				if !errors.Is(err, ErrCorruptSeal) {
					t.Errorf("%s: bit %d: got %v, want ErrCorruptSeal", form, i, err)
				}
				continue
			}
			if _, err := got.Open(parts); !errors.Is(err, ErrDoesNotOpen) && !errors.Is(err, ErrWrongPart) {
				t.Errorf("%s: bit %d: got %v, want a refusal", form, i, err)
			}
		}
		for n := range len(blob) {
			if err := new(Seal).UnmarshalBinary(blob[:n]); !errors.Is(err, ErrCorruptSeal) {
				t.Errorf("%s: cut to %d bytes: got %v, want ErrCorruptSeal", form, n, err)
			}
		}
		if err := new(Seal).UnmarshalBinary(append(slices.Clone(blob), 0)); !errors.Is(err, ErrCorruptSeal) {
			t.Errorf("%s: a byte added: got %v, want ErrCorruptSeal", form, err)
		}
	}
}

func TestUnmarshalSealSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	s, _, _ := newSeal(t, "acme", FormShares, 3, 2)
	blob, err := s.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	set := func(i int, v ...byte) []byte { b := slices.Clone(blob); copy(b[i:], v); return b }
	for _, c := range []struct {
		blob []byte
		want string
	}{
		{nil, "has 0 bytes: seal is corrupt"},
		{set(0, 2), "version 2 is not known: seal is corrupt"},
		{set(1, 0), "form 0 is not known: seal is corrupt"},
		{set(2, 17), "17 shares: at most 16: seal is corrupt"},
		{set(3, 1), "threshold 1: at least 2 custodians must agree (PCI DSS 3.7.6): seal is corrupt"},
		{set(1, 2), "halves are 2 of 2, not 2 of 3: seal is corrupt"},
		{set(4, 0, 0, 0, 0), "generation 0: seal is corrupt"},
		{set(4, 0x80), "generation 2147483649: seal is corrupt"},
		{set(8, make([]byte, 16)...), "no master key id or no tenant: seal is corrupt"},
		{set(24, 0), "no master key id or no tenant: seal is corrupt"},
		{set(24, 5), "has 217 bytes, want 218: seal is corrupt"},
	} {
		var got Seal
		if err := got.UnmarshalBinary(c.blob); err == nil || err.Error() != c.want || !errors.Is(err, ErrCorruptSeal) {
			t.Errorf("got %v, want %q", err, c.want)
		}
		if got.info != (Info{}) {
			t.Error("a refused seal was kept")
		}
	}
}

func TestRekeyKeepsTheMasterKey(t *testing.T) {
	t.Parallel()
	s, master, parts := newSeal(t, "acme", FormHalves, 2, 2)
	id := s.Info().MasterID
	for generation := 2; generation <= 4; generation++ {
		next, nextParts, err := Rekey(s, parts[:s.Info().Threshold], FormShares, 2+generation, generation)
		if err != nil {
			t.Fatal(err)
		}
		want := Info{"acme", FormShares, 2 + generation, generation, generation, id}
		if next.Info() != want {
			t.Errorf("got %+v, want %+v", next.Info(), want)
		}
		got, err := next.Open(nextParts[2:])
		if err != nil || !got.Equal(master) {
			t.Fatalf("generation %d: %v, or another key", generation, err)
		}
		if _, err := next.Open(parts); !errors.Is(err, ErrWrongPart) {
			t.Errorf("parts of the generation before: got %v, want ErrWrongPart", err)
		}
		s, parts = next, nextParts
	}
}

func TestRekeyRefuses(t *testing.T) {
	t.Parallel()
	s, _, parts := newSeal(t, "acme", FormShares, 3, 2)
	last := s
	last.info.Generation = maxGeneration
	for _, c := range []struct {
		seal  Seal
		parts []Part
		k     int
		want  string
	}{
		{s, parts[:1], 2, "rekey: have 1 of 2: not enough parts"},
		{s, parts[:2], 1, "threshold 1: at least 2 custodians must agree (PCI DSS 3.7.6)"},
		{last, parts[:2], 2, "rekey: generation 2147483647 is the last"},
	} {
		if _, _, err := Rekey(c.seal, c.parts, FormShares, 3, c.k); err == nil || err.Error() != c.want {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}

func TestSealHoldsNoSecretInClear(t *testing.T) {
	t.Parallel()
	s, master, parts := newSeal(t, "acme", FormShares, 3, 2)
	blob, err := s.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range append(parts, Part{value: master}) {
		if strings.Contains(string(blob), string(p.value.Expose()[:8])) {
			t.Error("the seal holds a secret")
		}
	}
}

func FuzzUnmarshalSeal(f *testing.F) {
	s, _, parts, err := NewSeal("acme", FormShares, 3, 2)
	if err != nil {
		f.Fatal(err)
	}
	blob, err := s.MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(blob)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		var got Seal
		if err := got.UnmarshalBinary(b); err != nil {
			if !errors.Is(err, ErrCorruptSeal) && !errors.Is(err, ErrTokenSeal) {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		again, err := got.MarshalBinary()
		if err != nil || !slices.Equal(again, b) {
			t.Fatalf("parse then encode is not the identity: %v", err)
		}
		if key, err := got.Open(parts[1:]); err == nil && (!slices.Equal(b, blob) || key.Len() != keySize) {
			t.Fatal("another seal opened")
		}
	})
}
