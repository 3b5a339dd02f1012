package ciphertext

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"cardea/internal/secret"
)

func TestRecordOpensWhereItWasSealed(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		key, b := secret.Random(KeySize), genBinding().Draw(t, "binding")
		entity := rapid.SampledFrom([][]byte{nil, bytes.Repeat([]byte{7}, KeySize)}).Draw(t, "entity")
		plaintext := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "plaintext")
		blob, err := SealRecord(key, entity, b, plaintext)
		if err != nil {
			t.Fatal(err)
		}
		if len(blob) != len(plaintext)+RecordOverhead {
			t.Fatalf("record of %d bytes for %d bytes of plaintext", len(blob), len(plaintext))
		}
		h, err := ParseRecord(blob)
		if err != nil || h != (RecordHeader{b.KeyID, b.KeyVersion}) {
			t.Fatalf("header %v, %v; want key %v version %d", h, err, b.KeyID, b.KeyVersion)
		}
		got, err := OpenRecord(key, entity, b, blob)
		if err != nil || !bytes.Equal(got.Expose(), plaintext) {
			t.Fatalf("open: %v, or another plaintext", err)
		}
	})
}

func TestRecordOpensNowhereElse(t *testing.T) {
	t.Parallel()
	key, b := key32(1), testBinding()
	blob := mustSeal(t, key, nil, b, []byte("a card"))
	for name, other := range otherBindings(b) {
		if _, err := OpenRecord(key, nil, other, blob); !errors.Is(err, ErrCorrupt) {
			t.Errorf("other %s: got %v, want ErrCorrupt", name, err)
		}
		// An attacker who writes rows also sets the header to what is asked for.
		h := record{RecordHeader: RecordHeader{other.KeyID, other.KeyVersion}, box: blob[recordHeaderSize:]}
		if _, err := OpenRecord(key, nil, other, h.append(nil)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("other %s with a changed header: got %v, want ErrCorrupt", name, err)
		}
	}
}

func TestSwappedRecordsDoNotOpen(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := genBinding().Draw(t, "a"), genBinding().Draw(t, "b")
		if a == b {
			t.Skip("the same row")
		}
		key := key32(1)
		blob, err := SealRecord(key, nil, a, []byte("a"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := OpenRecord(key, nil, b, blob); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("row a opened as row b: %v", err)
		}
	})
}

func TestRecordRefusesOtherKeys(t *testing.T) {
	t.Parallel()
	b, entity := testBinding(), bytes.Repeat([]byte{9}, KeySize)
	plain, mixed := mustSeal(t, key32(1), nil, b, []byte("a")), mustSeal(t, key32(1), entity, b, []byte("a"))
	for name, c := range map[string]struct {
		key    secret.Bytes
		entity []byte
		blob   []byte
	}{
		"other branch key":         {key32(2), nil, plain},
		"entity secret added":      {key32(1), entity, plain},
		"entity secret left out":   {key32(1), nil, mixed},
		"other entity secret":      {key32(1), bytes.Repeat([]byte{8}, KeySize), mixed},
		"key and secret exchanged": {secret.Copy(entity), key32(1).Expose(), mixed},
	} {
		if _, err := OpenRecord(c.key, c.entity, b, c.blob); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: got %v, want ErrCorrupt", name, err)
		}
	}
}

func TestRecordRefusesEveryFlippedBit(t *testing.T) {
	t.Parallel()
	key, b := key32(1), testBinding()
	blob := mustSeal(t, key, nil, b, []byte("0123456789"))
	for i := range len(blob) * 8 {
		bad := slices.Clone(blob)
		bad[i/8] ^= 1 << (i % 8)
		if _, err := OpenRecord(key, nil, b, bad); !errors.Is(err, ErrCorrupt) {
			t.Errorf("bit %d flipped: got %v, want ErrCorrupt", i, err)
		}
		if _, err := OpenRecord(key, nil, b, bad); errors.Is(err, ErrUnknownVersion) != (i < 16) {
			t.Errorf("bit %d flipped: got %v; ErrUnknownVersion is for version and suite", i, err)
		}
	}
}

func TestRecordRefusesEveryOtherLength(t *testing.T) {
	t.Parallel()
	key, b := key32(1), testBinding()
	blob := mustSeal(t, key, nil, b, []byte("0123456789"))
	for n := range len(blob) {
		if _, err := OpenRecord(key, nil, b, blob[:n]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("cut to %d bytes: got %v, want ErrCorrupt", n, err)
		}
		if _, err := OpenRecord(key, nil, b, blob[n+1:]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("first %d bytes missing: got %v, want ErrCorrupt", n+1, err)
		}
	}
	for _, tail := range [][]byte{{0}, blob, make([]byte, MaxPlaintext)} {
		if _, err := OpenRecord(key, nil, b, append(slices.Clone(blob), tail...)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%d bytes added: got %v, want ErrCorrupt", len(tail), err)
		}
	}
}

// The commitment is checked by itself: a box whose commitment is that of
// another key does not open even under the key that would decrypt it.
func TestRecordRefusesAForeignCommitment(t *testing.T) {
	t.Parallel()
	key, b := key32(1), testBinding()
	blob := mustSeal(t, key, nil, b, []byte("a"))
	okm, err := derive(key32(2).Expose(), blob[22:54], b.context())
	if err != nil {
		t.Fatal(err)
	}
	copy(blob[54:86], okm[KeySize:])
	for _, k := range []secret.Bytes{key, key32(2)} {
		if _, err := OpenRecord(k, nil, b, blob); !errors.Is(err, ErrCorrupt) {
			t.Errorf("got %v, want ErrCorrupt", err)
		}
	}
}

func TestSealIsRandomised(t *testing.T) {
	t.Parallel()
	key, b := key32(1), testBinding()
	seen := map[string]bool{}
	for range 100 {
		blob := mustSeal(t, key, nil, b, []byte("the same card"))
		for _, part := range []string{string(blob[22:54]), string(blob[54:86]), string(blob[86:98]), string(blob[98:])} {
			if seen[part] {
				t.Fatal("salt, commitment, nonce or ciphertext came twice")
			}
			seen[part] = true
		}
	}
}

func TestSealKeepsItsArguments(t *testing.T) {
	t.Parallel()
	key, entity, plaintext := key32(1), bytes.Repeat([]byte{2}, KeySize), []byte("a card")
	blob := mustSeal(t, key, entity, testBinding(), plaintext)
	kept := slices.Clone(blob)
	if _, err := OpenRecord(key, entity, testBinding(), blob); err != nil {
		t.Fatal(err)
	}
	if !key.Equal(key32(1)) || !bytes.Equal(entity, bytes.Repeat([]byte{2}, KeySize)) ||
		string(plaintext) != "a card" || !bytes.Equal(blob, kept) {
		t.Error("an argument was changed")
	}
}

func TestSealRecordRefuses(t *testing.T) {
	t.Parallel()
	with := func(f func(*Binding)) Binding { b := testBinding(); f(&b); return b }
	long := strings.Repeat("x", MaxField+1)
	for _, c := range []struct {
		name      string
		key       secret.Bytes
		entity    []byte
		b         Binding
		plaintext int
		want      string
	}{
		{"no key", secret.Bytes{}, nil, testBinding(), 1, "branch key has 0 bytes, want 32"},
		{"long key", secret.Random(33), nil, testBinding(), 1, "branch key has 33 bytes, want 32"},
		{"short entity secret", key32(1), make([]byte, 31), testBinding(), 1, "entity secret has 31 bytes, want 32 or none"},
		{"long plaintext", key32(1), nil, testBinding(), MaxPlaintext + 1, "record has 1052673 bytes, at most 1052672: too large"},
		{"no tenant", key32(1), nil, with(func(b *Binding) { b.Tenant = "" }), 1, "binding: tenant is empty"},
		{"no space", key32(1), nil, with(func(b *Binding) { b.Space = "" }), 1, "binding: space is empty"},
		{"no kind", key32(1), nil, with(func(b *Binding) { b.Kind = "" }), 1, "binding: kind is empty"},
		{"no key id", key32(1), nil, with(func(b *Binding) { b.KeyID = uuid.Nil }), 1, "binding: key id is nil"},
		{"no key version", key32(1), nil, with(func(b *Binding) { b.KeyVersion = 0 }), 1, "binding: key version is 0"},
		{"long tenant", key32(1), nil, with(func(b *Binding) { b.Tenant = long }), 1, "binding: tenant has 1025 bytes, at most 1024: too large"},
		{"long holder", key32(1), nil, with(func(b *Binding) { b.Holder = long }), 1, "binding: holder has 1025 bytes, at most 1024: too large"},
		{"long customer", key32(1), nil, with(func(b *Binding) { b.Customer = long }), 1, "binding: customer has 1025 bytes, at most 1024: too large"},
		{"long reference", key32(1), nil, with(func(b *Binding) { b.Reference = long }), 1, "binding: reference has 1025 bytes, at most 1024: too large"},
	} {
		_, err := SealRecord(c.key, c.entity, c.b, make([]byte, c.plaintext))
		if err == nil || err.Error() != c.want {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
		if strings.HasSuffix(c.want, "too large") != errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: errors.Is(err, ErrTooLarge) is wrong for %v", c.name, err)
		}
		if c.plaintext > MaxPlaintext {
			continue
		}
		// Misuse is not reported as damage of the row.
		blob := mustSeal(t, key32(1), nil, testBinding(), []byte("a"))
		if _, err := OpenRecord(c.key, c.entity, c.b, blob); err == nil || err.Error() != c.want {
			t.Errorf("%s: open: got %v, want %q", c.name, err, c.want)
		}
	}
}

func TestLargestRecord(t *testing.T) {
	t.Parallel()
	plaintext := bytes.Repeat([]byte("x"), MaxPlaintext)
	b := testBinding()
	b.Customer = strings.Repeat("c", MaxField)
	blob := mustSeal(t, key32(1), nil, b, plaintext)
	got, err := OpenRecord(key32(1), nil, b, blob)
	if err != nil || !bytes.Equal(got.Expose(), plaintext) {
		t.Fatalf("open: %v, or another plaintext", err)
	}
}

func TestParseRecordRefuses(t *testing.T) {
	t.Parallel()
	blob := mustSeal(t, key32(1), nil, testBinding(), nil)
	with := func(f func(b []byte) []byte) []byte { return f(slices.Clone(blob)) }
	for _, c := range []struct {
		name string
		blob []byte
		want error
	}{
		{"nothing", nil, ErrCorrupt},
		{"one byte short", blob[:len(blob)-1], ErrCorrupt},
		{"one byte over the limit", append(slices.Clone(blob), make([]byte, MaxPlaintext+1)...), ErrCorrupt},
		{"version 0", with(func(b []byte) []byte { b[0] = 0; return b }), ErrUnknownVersion},
		{"version 2", with(func(b []byte) []byte { b[0] = 2; return b }), ErrUnknownVersion},
		{"suite 2", with(func(b []byte) []byte { b[1] = 2; return b }), ErrUnknownVersion},
		{"nil key id", with(func(b []byte) []byte { clear(b[2:18]); return b }), ErrCorrupt},
		{"key version 0", with(func(b []byte) []byte { clear(b[18:22]); return b }), ErrCorrupt},
	} {
		if _, err := ParseRecord(c.blob); err != c.want { //nolint:errorlint // the exact sentinel is the point
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
	if ErrCorrupt.Error() != "ciphertext is corrupt or does not belong here" ||
		ErrUnknownVersion.Error() != "ciphertext is corrupt or does not belong here: unknown format version" {
		t.Error("the messages changed; they are in the audit log")
	}
}
