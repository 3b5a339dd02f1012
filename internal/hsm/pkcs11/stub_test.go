//go:build !pkcs11 || !cgo

package pkcs11_test

import (
	"errors"
	"testing"

	"cardea/internal/hsm/pkcs11"
	"cardea/internal/secret"
)

func TestBuildWithoutPKCS11SaysSo(t *testing.T) {
	t.Parallel()
	const want = "this program was built without PKCS #11: build it with 'CGO_ENABLED=1 go build -tags pkcs11'"
	_, err := pkcs11.Open(t.Context(), pkcs11.Token{}, secret.Bytes{}, pkcs11.Options{})
	if !errors.Is(err, pkcs11.ErrNotBuilt) || err.Error() != want {
		t.Errorf("open: %v", err)
	}
	if _, err := pkcs11.NewKeyStores(nil, pkcs11.Options{}); !errors.Is(err, pkcs11.ErrNotBuilt) {
		t.Errorf("key stores: %v", err)
	}
}
