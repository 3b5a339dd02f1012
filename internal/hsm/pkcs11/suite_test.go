//go:build pkcs11 && cgo

package pkcs11

import (
	"os"
	"testing"

	"cardea/internal/hsm/hsmtest"
	"cardea/internal/keyspec"
	"cardea/internal/kms"
)

func TestSuite(t *testing.T) {
	var folder string // of the token that was made last
	hsmtest.Run(t, func(t testing.TB) kms.Backend {
		var where Token
		where, folder = newToken(t)
		return open(t, where, fast)
	}, hsmtest.Caps{
		Specs: []keyspec.Spec{keyspec.SymmetricDefault},
		Seal:  func(t testing.TB, b kms.Backend) func() { return unplug(t, b.(*Backend), folder) },
	})
}

// unplug takes the token away, with everything that the library knew of it, and
// returns what plugs it in again.
func unplug(t testing.TB, b *Backend, folder string) (plugIn func()) {
	t.Helper()
	if err := os.Rename(folder, folder+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := b.token.lib.Finalize(); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(folder); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(folder+".away", folder); err != nil {
			t.Fatal(err)
		}
	}
}
