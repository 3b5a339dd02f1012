package soft_test

import (
	"errors"
	"sync/atomic"
	"testing"

	"cardea/internal/hsm/hsmtest"
	"cardea/internal/hsm/soft"
	"cardea/internal/kms"
	"cardea/internal/secret"
)

// rootKey is a root key that can be sealed.
type rootKey struct {
	key    secret.Bytes
	sealed atomic.Bool
}

var errLocked = errors.New("locked")

func newRootKey() *rootKey { return &rootKey{key: secret.Random(32)} }

func (r *rootKey) get() (secret.Bytes, error) {
	if r.sealed.Load() {
		return secret.Bytes{}, errLocked
	}
	return secret.Copy(r.key.Expose()), nil
}

func TestConformance(t *testing.T) {
	t.Parallel()
	roots := map[kms.Backend]*rootKey{}
	hsmtest.Run(t, func(t testing.TB) kms.Backend {
		root := newRootKey()
		b := soft.New(soft.Options{Root: root.get})
		t.Cleanup(b.Close)
		roots[b] = root
		return b
	}, hsmtest.Caps{
		Specs: hsmtest.AllSpecs(), Import: true,
		Seal: func(_ testing.TB, b kms.Backend) func() {
			roots[b].sealed.Store(true)
			return func() { roots[b].sealed.Store(false) }
		},
	})
}
