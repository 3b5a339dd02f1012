package ciphertext

import (
	"testing"

	"pgregory.net/rapid"

	"cardea/internal/secret"
)

func TestMACSeparatesKeysLabelsAndParts(t *testing.T) {
	t.Parallel()
	type input struct {
		key   byte
		label string
		parts string // one part a character, so that lists are comparable
	}
	gen := rapid.Custom(func(t *rapid.T) input {
		return input{rapid.ByteRange(1, 2).Draw(t, "key"), genText().Draw(t, "label"), genMaybe().Draw(t, "parts")}
	})
	mac := func(in input) [32]byte {
		var parts [][]byte
		for i := range in.parts {
			parts = append(parts, []byte(in.parts[i:i+1]))
		}
		sum, err := MAC(key32(in.key), in.label, parts...)
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := gen.Draw(t, "a"), gen.Draw(t, "b")
		if (mac(a) == mac(b)) != (a == b) {
			t.Fatalf("MACs of %v and %v", a, b)
		}
	})
	joined, err := MAC(key32(1), "l", []byte("ab"), []byte("c"))
	if err != nil {
		t.Fatal(err)
	}
	split, err := MAC(key32(1), "l", []byte("a"), []byte("bc"))
	if err != nil {
		t.Fatal(err)
	}
	if joined == split {
		t.Error(`("ab", "c") and ("a", "bc") have the same MAC`)
	}
}

func TestMACRefusesToBeAnUnkeyedHash(t *testing.T) {
	t.Parallel()
	destroyed := secret.Random(KeySize)
	destroyed.Destroy()
	for _, c := range []struct {
		key  secret.Bytes
		want string
	}{
		{secret.Bytes{}, "MAC key has 0 bytes, want 32 to 64"},
		{destroyed, "MAC key has 0 bytes, want 32 to 64"},
		{secret.Random(31), "MAC key has 31 bytes, want 32 to 64"},
		{secret.Random(65), "MAC key has 65 bytes, want 32 to 64"},
	} {
		if sum, err := MAC(c.key, "l", []byte("x")); err == nil || err.Error() != c.want || sum != [32]byte{} {
			t.Errorf("got %v, want %q and no MAC", err, c.want)
		}
	}
}

func TestMACKeepsItsParts(t *testing.T) {
	t.Parallel()
	part := []byte("part")
	if _, err := MAC(key32(1), "l", part); err != nil {
		t.Fatal(err)
	}
	if string(part) != "part" {
		t.Error("MAC wiped the caller's part")
	}
}
