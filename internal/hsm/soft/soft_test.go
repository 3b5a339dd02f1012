package soft_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"cardea/internal/ciphertext"
	"cardea/internal/hsm/soft"
	"cardea/internal/identity"
	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var _ identity.Secrets = (*soft.Backend)(nil)

func ciphertextBox(key, plaintext []byte) ([]byte, error) {
	return ciphertext.SealBox(secret.Copy(key), []byte("context"), plaintext)
}

func newBackend(t *testing.T, root *rootKey) *soft.Backend {
	t.Helper()
	b := soft.New(soft.Options{Root: root.get})
	t.Cleanup(b.Close)
	return b
}

const materialID = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func newMaterial(t *testing.T, b *soft.Backend, spec keyspec.Spec) kms.MaterialRef {
	t.Helper()
	m := kms.MaterialRef{KeyID: "1234abcd-12ab-34cd-56ef-1234567890ab", ID: materialID, Spec: spec}
	var err error
	if m.Handle, _, err = b.Generate(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestHandleOpensOnEveryNodeWithTheRootKeyAndOnNoOther(t *testing.T) {
	t.Parallel()
	root := newRootKey()
	m := newMaterial(t, newBackend(t, root), keyspec.SymmetricDefault)
	aad := []byte("aad")
	sealed, err := newBackend(t, root).Seal(t.Context(), m, aad, secret.Copy([]byte("text")))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newBackend(t, root).Open(t.Context(), m, aad, sealed); err != nil {
		t.Errorf("the same root key: %v", err)
	}
	if _, err := newBackend(t, newRootKey()).Open(t.Context(), m, aad, sealed); !errors.Is(err, kms.ErrNotOurs) {
		t.Errorf("another root key: got %v", err)
	}
}

func TestHandleOfAnotherVersionIsRefusedAsSuch(t *testing.T) {
	t.Parallel()
	b := newBackend(t, newRootKey())
	m := newMaterial(t, b, keyspec.HMAC256)
	m.Handle = bytes.Clone(m.Handle)
	m.Handle[0] = 2
	_, err := b.MAC(t.Context(), m, keyspec.MACHMACSHA256, nil)
	if !errors.Is(err, kms.ErrNotOurs) || !strings.Contains(err.Error(), "unknown format version") {
		t.Errorf("got %v", err)
	}
}

func TestSecretsAreBoundToTheirLabel(t *testing.T) {
	t.Parallel()
	root := newRootKey()
	b := newBackend(t, root)
	ctx := t.Context()
	plain := secret.Copy([]byte("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"))
	sealed, err := b.SealSecret(ctx, "access-key 1", plain)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := b.OpenSecret(ctx, "access-key 1", sealed); err != nil || !p.Equal(plain) {
		t.Errorf("%v, or another secret", err)
	}
	m := newMaterial(t, b, keyspec.SymmetricDefault)
	for what, c := range map[string]struct {
		label  string
		sealed []byte
	}{
		"another label":   {"access-key 2", sealed},
		"flipped":         {"access-key 1", append(sealed[:len(sealed)-1:len(sealed)-1], sealed[len(sealed)-1]^1)},
		"cut":             {"access-key 1", sealed[:len(sealed)-1]},
		"empty":           {"access-key 1", nil},
		"too long":        {"access-key 1", make([]byte, 20_000)},
		"another version": {"access-key 1", append([]byte{9}, sealed[1:]...)},
		"a handle":        {"access-key 1", m.Handle},
	} {
		if _, err := b.OpenSecret(ctx, c.label, c.sealed); !errors.Is(err, kms.ErrNotOurs) {
			t.Errorf("%s: got %v", what, err)
		}
	}
	m.Handle = sealed
	if _, err := b.Seal(ctx, m, []byte("aad"), plain); !errors.Is(err, kms.ErrNotOurs) {
		t.Errorf("a secret as a handle: got %v", err)
	}

	root.sealed.Store(true)
	_, serr := b.SealSecret(ctx, "x", plain)
	_, oerr := b.OpenSecret(ctx, "access-key 1", sealed)
	if !errors.Is(serr, kms.ErrSealed) || !errors.Is(serr, errLocked) || !errors.Is(oerr, kms.ErrSealed) {
		t.Errorf("sealed: got %v and %v", serr, oerr)
	}
}

func TestRefusesWhatCannotBeBound(t *testing.T) {
	t.Parallel()
	b := newBackend(t, newRootKey())
	ctx := t.Context()
	m := newMaterial(t, b, keyspec.SymmetricDefault)
	noKey, noID, longID := m, m, m
	noKey.KeyID, noID.ID, longID.ID = "", "", strings.Repeat("a", 1025)
	generate := func(m kms.MaterialRef) error { _, _, err := b.Generate(ctx, m); return err }
	for want, err := range map[string]error{
		"key id has 0 bytes, want 1 to 1024":            generate(noKey),
		"material id has 0 bytes, want 1 to 1024":       generate(noID),
		"material id has 1025 bytes, want 1 to 1024":    generate(longID),
		"associated data is empty":                      second(b.Seal(ctx, m, nil, secret.Random(1))),
		"label of a secret has 0 bytes, want 1 to 1024": second(b.SealSecret(ctx, "", secret.Random(1))),
		"secret has 16385 bytes, at most 16384":         second(b.SealSecret(ctx, "x", secret.Random(16385))),
		"0 random bytes: want at least 1":               second(b.Random(ctx, 0)),
	} {
		if err == nil || err.Error() != want {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if _, err := b.Open(ctx, m, nil, make([]byte, 200)); err == nil || err.Error() != "associated data is empty" {
		t.Errorf("open: got %v", err)
	}
	if _, err := b.OpenSecret(ctx, "", nil); err == nil {
		t.Error("a secret without a label was opened")
	}
}

func second[A any](_ A, err error) error { return err }

func TestRootKeyOfAnotherSizeIsRefused(t *testing.T) {
	t.Parallel()
	b := soft.New(soft.Options{Root: func() (secret.Bytes, error) { return secret.Random(16), nil }})
	defer b.Close()
	_, err := b.SealSecret(t.Context(), "x", secret.Random(1))
	if err == nil || err.Error() != "root key has 16 bytes, want 32" {
		t.Errorf("got %v", err)
	}
}

func TestRootKeyCopiesAreWiped(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var given [][]byte
	key := secret.Random(32)
	b := soft.New(soft.Options{Root: func() (secret.Bytes, error) {
		c := secret.Copy(key.Expose())
		mu.Lock()
		defer mu.Unlock()
		given = append(given, c.Expose())
		return c, nil
	}})
	defer b.Close()
	m := newMaterial(t, b, keyspec.HMAC256)
	if _, err := b.MAC(t.Context(), m, keyspec.MACHMACSHA256, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := b.SealSecret(t.Context(), "x", secret.Random(8)); err != nil {
		t.Fatal(err)
	}
	if len(given) < 3 {
		t.Fatalf("root key was given out %d times", len(given))
	}
	for _, c := range given {
		if slices.ContainsFunc(c, func(x byte) bool { return x != 0 }) {
			t.Fatal("a copy of the root key is still there")
		}
	}
}

func TestNothingWorksAfterClose(t *testing.T) {
	t.Parallel()
	b := soft.New(soft.Options{Root: newRootKey().get})
	m := newMaterial(t, b, keyspec.SymmetricDefault)
	b.Close()
	for what, err := range map[string]error{
		"ready":    b.Ready(t.Context()),
		"seal":     second(b.Seal(t.Context(), m, []byte("aad"), secret.Random(1))),
		"secret":   second(b.SealSecret(t.Context(), "x", secret.Random(1))),
		"generate": second2(b.Generate(t.Context(), m)),
	} {
		if !errors.Is(err, kms.ErrSealed) {
			t.Errorf("%s: got %v", what, err)
		}
	}
}

func second2[A, B any](_ A, _ B, err error) error { return err }

func TestUnsealedDecidesAlone(t *testing.T) {
	t.Parallel()
	root := newRootKey()
	var open atomic.Bool
	open.Store(true)
	b := soft.New(soft.Options{Root: root.get, Unsealed: open.Load, CacheEntries: 4})
	defer b.Close()
	m := newMaterial(t, b, keyspec.HMAC512)
	mac := func() error { return second(b.MAC(t.Context(), m, keyspec.MACHMACSHA512, nil)) }
	if err := mac(); err != nil {
		t.Fatal(err)
	}
	open.Store(false)
	if err := mac(); !errors.Is(err, kms.ErrSealed) {
		t.Errorf("sealed: got %v", err)
	}
	open.Store(true)
	if err := mac(); err != nil {
		t.Errorf("unsealed again: %v", err)
	}
}

// TestMoreMaterialThanTheCacheHolds uses more keys than fit at the same time.
func TestMoreMaterialThanTheCacheHolds(t *testing.T) {
	t.Parallel()
	b := soft.New(soft.Options{Root: newRootKey().get, CacheEntries: 3})
	defer b.Close()
	var refs []kms.MaterialRef
	for i := range 24 {
		m := kms.MaterialRef{KeyID: strings.Repeat("k", i+1), ID: materialID, Spec: keyspec.SymmetricDefault}
		var err error
		if m.Handle, _, err = b.Generate(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		refs = append(refs, m)
	}
	var all sync.WaitGroup
	errs := make([]error, 4)
	for g := range errs {
		all.Go(func() {
			for i := range 500 {
				m := refs[(i*7+g)%len(refs)]
				aad := []byte(m.KeyID)
				sealed, err := b.Seal(t.Context(), m, aad, secret.Copy(aad))
				if err == nil {
					_, err = b.Open(t.Context(), m, aad, sealed)
				}
				if err != nil {
					errs[g] = err
					return
				}
			}
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
}
