package soft

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cardea/internal/bubble"
	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/secret"
)

func testBackend(t *testing.T, unsealed func() bool) (*Backend, kms.MaterialRef) {
	t.Helper()
	root := secret.Random(32)
	b := New(Options{
		Root:     func() (secret.Bytes, error) { return secret.Copy(root.Expose()), nil },
		Unsealed: unsealed,
	})
	t.Cleanup(b.Close)
	m := kms.MaterialRef{KeyID: "key", ID: "material", Spec: keyspec.SymmetricDefault}
	var err error
	if m.Handle, _, err = b.Generate(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	return b, m
}

func always() bool { return true }

func zero(b []byte) bool { return !slices.ContainsFunc(b, func(c byte) bool { return c != 0 }) }

// clearOf returns the bytes of the key that is in the cache for m.
func clearOf(t *testing.T, b *Backend, m kms.MaterialRef) []byte {
	t.Helper()
	k, err := b.use(m)
	if err != nil {
		t.Fatal(err)
	}
	defer k.release()
	return k.key.Symmetric().Expose()
}

func TestMaterialIsOpenedOnce(t *testing.T) {
	t.Parallel()
	b, m := testBackend(t, always)
	if first, second := clearOf(t, b, m), clearOf(t, b, m); &first[0] != &second[0] {
		t.Error("the second use opened the handle again")
	}
}

func TestMaterialIsWipedWhenItLeavesTheCache(t *testing.T) {
	t.Parallel()
	for what, leave := range map[string]func(*Backend, kms.MaterialRef){
		"forget":  func(b *Backend, _ kms.MaterialRef) { b.Forget() },
		"destroy": func(b *Backend, m kms.MaterialRef) { b.Destroy(t.Context(), m) },
		"close":   func(b *Backend, _ kms.MaterialRef) { b.Close() },
		"replaced by another handle": func(b *Backend, m kms.MaterialRef) {
			var err error
			if m.Handle, _, err = b.Generate(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			clearOf(t, b, m)
		},
	} {
		b, m := testBackend(t, always)
		held := clearOf(t, b, m)
		if zero(held) {
			t.Fatal("there is no key to begin with")
		}
		if leave(b, m); !zero(held) {
			t.Errorf("%s: the key is still there", what)
		}
	}
}

func TestSealedRootKeyWipesTheCacheAtTheNextUse(t *testing.T) {
	t.Parallel()
	var open atomic.Bool
	open.Store(true)
	b, m := testBackend(t, open.Load)
	held := clearOf(t, b, m)
	open.Store(false)
	if _, err := b.use(m); !errors.Is(err, kms.ErrSealed) || !zero(held) {
		t.Errorf("got %v, wiped %v", err, zero(held))
	}
}

func TestMaterialInUseIsWipedByItsLastUser(t *testing.T) {
	t.Parallel()
	b, m := testBackend(t, always)
	k, err := b.use(m)
	if err != nil {
		t.Fatal(err)
	}
	held := k.key.Symmetric().Expose()
	b.Forget()
	if zero(held) {
		t.Error("the key was wiped under its user")
	}
	if k.release(); !zero(held) {
		t.Error("the key is still there after its last use")
	}
	if k.acquire() {
		t.Error("a wiped key was acquired")
	}
}

// TestMaterialOpenedWhileTheRootKeyIsSealedDoesNotStay seals after the operation
// has looked, and before the key is in the cache.
func TestMaterialOpenedWhileTheRootKeyIsSealedDoesNotStay(t *testing.T) {
	t.Parallel()
	var open atomic.Bool
	open.Store(true)
	b, m := testBackend(t, open.Load)
	root := b.root
	b.root = func() (secret.Bytes, error) {
		defer b.Forget() // by whoever sealed it
		defer open.Store(false)
		return root()
	}
	if _, err := b.use(m); !errors.Is(err, kms.ErrSealed) {
		t.Errorf("got %v", err)
	}
	if n := b.cache.keys.EstimatedSize(); n != 0 {
		t.Errorf("%d materials in the cache", n)
	}
}

// expires checks that what is put into the cache is wiped when want is over. It
// looks at the number of users, because the bytes belong to the cache until then.
func expires(t *testing.T, b *Backend, want time.Duration) {
	t.Helper()
	key, err := keyspec.ParsePrivate(keyspec.SymmetricDefault, secret.Random(32))
	if err != nil {
		t.Fatal(err)
	}
	held := key.Symmetric().Expose()
	k := b.cache.put(kms.MaterialRef{KeyID: "k", ID: "m"}, key)
	k.release()
	time.Sleep(want - 3*time.Second)
	if k.users.Load() != 1 {
		t.Errorf("wiped before %s", want)
	}
	time.Sleep(6 * time.Second) // otter looks each second
	synctest.Wait()
	if k.users.Load() != 0 || !zero(held) {
		t.Errorf("still there after %s", want)
	}
}

func TestMaterialStaysForItsTimeOnly(t *testing.T) {
	t.Parallel()
	for ttl, want := range map[time.Duration]time.Duration{0: defaultTTL, -1: defaultTTL, time.Minute: time.Minute, 24 * time.Hour: maxTTL} {
		bubble.Test(t, func(t *testing.T) {
			b := New(Options{Root: func() (secret.Bytes, error) { return secret.Random(32), nil }, CacheTTL: ttl})
			defer b.Close()
			expires(t, b, want)
		})
	}
}
