package ciphertext

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"cardea/internal/secret"
)

func TestWrappedKeyOpensUnderItsName(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		kek, kb := secret.Random(KeySize), genKeyBinding().Draw(t, "key binding")
		key := secret.Random(rapid.IntRange(MinWrappedKey, MaxWrappedKey).Draw(t, "size"))
		blob, err := WrapKey(kek, kb, key)
		if err != nil {
			t.Fatal(err)
		}
		h, err := ParseWrapped(blob)
		if err != nil || h != kb.header() {
			t.Fatalf("header %v, %v; want %v", h, err, kb.header())
		}
		got, err := UnwrapKey(kek, kb, blob)
		if err != nil || !got.Equal(key) {
			t.Fatalf("unwrap: %v, or another key", err)
		}
	})
}

func TestWrappedKeyOpensUnderNoOtherName(t *testing.T) {
	t.Parallel()
	kek, kb := key32(1), testKeyBinding()
	blob := mustWrap(t, kek, kb, key32(3))
	for name, other := range otherKeyBindings(kb) {
		if _, err := UnwrapKey(kek, other, blob); !errors.Is(err, ErrCorrupt) {
			t.Errorf("other %s: got %v, want ErrCorrupt", name, err)
		}
		w := wrapped{WrappedHeader: other.header(), payload: blob[wrappedHeaderSize:]}
		if _, err := UnwrapKey(kek, other, w.append(nil)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("other %s with a changed header: got %v, want ErrCorrupt", name, err)
		}
	}
	if _, err := UnwrapKey(key32(2), kb, blob); !errors.Is(err, ErrCorrupt) {
		t.Errorf("other wrapping key: got %v, want ErrCorrupt", err)
	}
}

func TestWrappedKeyRefusesDamage(t *testing.T) {
	t.Parallel()
	kek, kb := key32(1), testKeyBinding()
	blob := mustWrap(t, kek, kb, key32(3))
	for i := range len(blob) * 8 {
		bad := slices.Clone(blob)
		bad[i/8] ^= 1 << (i % 8)
		_, err := UnwrapKey(kek, kb, bad)
		if !errors.Is(err, ErrCorrupt) || errors.Is(err, ErrUnknownVersion) != (i < 16) {
			t.Errorf("bit %d flipped: got %v", i, err)
		}
	}
	for n := range len(blob) {
		if _, err := UnwrapKey(kek, kb, blob[:n]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("cut to %d bytes: got %v, want ErrCorrupt", n, err)
		}
	}
	for _, n := range []int{1, 32, 1 << 16} {
		if _, err := UnwrapKey(kek, kb, append(slices.Clone(blob), make([]byte, n)...)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%d bytes added: got %v, want ErrCorrupt", n, err)
		}
	}
}

func TestReservedModesAreRefused(t *testing.T) {
	t.Parallel()
	blob := mustWrap(t, key32(1), testKeyBinding(), key32(3))
	for mode := range 256 {
		if Mode(mode) == ModeLocal {
			continue
		}
		blob[1] = byte(mode)
		if _, err := ParseWrapped(blob); !errors.Is(err, ErrUnknownVersion) {
			t.Errorf("mode %d: got %v, want ErrUnknownVersion", mode, err)
		}
	}
}

func TestWrapKeyRefuses(t *testing.T) {
	t.Parallel()
	with := func(f func(*KeyBinding)) KeyBinding { kb := testKeyBinding(); f(&kb); return kb }
	long := strings.Repeat("x", MaxField+1)
	for _, c := range []struct {
		name     string
		kek, key secret.Bytes
		kb       KeyBinding
		want     string
	}{
		{"no kek", secret.Bytes{}, key32(3), testKeyBinding(), "wrapping key has 0 bytes, want 32"},
		{"no key", key32(1), secret.Bytes{}, testKeyBinding(), "key to wrap has 0 bytes, want 32 to 64"},
		{"short key", key32(1), secret.Random(31), testKeyBinding(), "key to wrap has 31 bytes, want 32 to 64"},
		{"long key", key32(1), secret.Random(65), testKeyBinding(), "key to wrap has 65 bytes, want 32 to 64"},
		{"no tenant", key32(1), key32(3), with(func(kb *KeyBinding) { kb.Tenant = "" }), "key binding: tenant is empty"},
		{"no purpose", key32(1), key32(3), with(func(kb *KeyBinding) { kb.Purpose = "" }), "key binding: purpose is empty"},
		{"no key id", key32(1), key32(3), with(func(kb *KeyBinding) { kb.KeyID = uuid.Nil }), "key binding: key id is nil"},
		{"no version", key32(1), key32(3), with(func(kb *KeyBinding) { kb.Version = 0 }), "key binding: version is 0"},
		{"no mode", key32(1), key32(3), with(func(kb *KeyBinding) { kb.Mode = 0 }), "key binding: mode 0 is not one that is wrapped here"},
		{"KMS mode", key32(1), key32(3), with(func(kb *KeyBinding) { kb.Mode = 2 }), "key binding: mode 2 is not one that is wrapped here"},
		{"long holder", key32(1), key32(3), with(func(kb *KeyBinding) { kb.Holder = long }), "key binding: holder has 1025 bytes, at most 1024: too large"},
	} {
		if _, err := WrapKey(c.kek, c.kb, c.key); err == nil || err.Error() != c.want {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
		if strings.HasPrefix(c.want, "key to wrap") {
			continue
		}
		blob := mustWrap(t, key32(1), testKeyBinding(), key32(3))
		if _, err := UnwrapKey(c.kek, c.kb, blob); err == nil || err.Error() != c.want {
			t.Errorf("%s: unwrap: got %v, want %q", c.name, err, c.want)
		}
	}
}

func TestParseWrappedRefusesNilNames(t *testing.T) {
	t.Parallel()
	blob := mustWrap(t, key32(1), testKeyBinding(), key32(3))
	noID, noVersion := slices.Clone(blob), slices.Clone(blob)
	clear(noID[2:18])
	clear(noVersion[18:22])
	for name, b := range map[string][]byte{"key id": noID, "version": noVersion} {
		if _, err := ParseWrapped(b); err != ErrCorrupt { //nolint:errorlint // the exact sentinel is the point
			t.Errorf("no %s: got %v, want ErrCorrupt", name, err)
		}
	}
}

func TestBoxBindsItsContext(t *testing.T) {
	t.Parallel()
	key, ctx := key32(1), Context("test box v1", []byte("here"))
	box, err := SealBox(key, ctx, []byte("contents"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := OpenBox(key, ctx, box); err != nil || string(got.Expose()) != "contents" {
		t.Fatalf("open: %v, or other contents", err)
	}
	if _, err := OpenBox(key, Context("test box v1", []byte("there")), box); !errors.Is(err, ErrCorrupt) {
		t.Errorf("other context: got %v, want ErrCorrupt", err)
	}
	if _, err := OpenBox(key, ctx, box[:BoxOverhead-1]); !errors.Is(err, ErrCorrupt) {
		t.Errorf("short box: got %v, want ErrCorrupt", err)
	}
	const want = "box key has 0 bytes, want 32"
	if _, err := SealBox(secret.Bytes{}, ctx, nil); err == nil || err.Error() != want {
		t.Errorf("seal without key: got %v, want %q", err, want)
	}
	if _, err := OpenBox(secret.Bytes{}, ctx, box); err == nil || err.Error() != want {
		t.Errorf("open without key: got %v, want %q", err, want)
	}
}
