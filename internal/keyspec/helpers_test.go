package keyspec

import (
	"encoding/hex"
	"sync"
	"testing"

	"cardea/internal/secret"
)

// allSpecs are the specs of which keys can be made.
var allSpecs = []Spec{
	SymmetricDefault, HMAC224, HMAC256, HMAC384, HMAC512, RSA2048, RSA3072, RSA4096,
	ECCNISTP256, ECCNISTP384, ECCNISTP521, ECCSECGP256K1, ECCEdwards25519, MLDSA44, MLDSA65, MLDSA87,
}

// made is a generated key, which all tests share: RSA keys take seconds.
type made struct {
	material secret.Bytes
	public   []byte
	err      error
}

var keys = func() map[Spec]func() made {
	m := map[Spec]func() made{}
	for _, s := range allSpecs {
		m[s] = sync.OnceValue(func() made {
			material, public, err := Generate(s)
			return made{material, public, err}
		})
	}
	return m
}()

// generated returns material of a key of the spec, which nobody destroys.
func generated(t testing.TB, s Spec) (secret.Bytes, []byte) {
	t.Helper()
	k := keys[s]()
	if k.err != nil {
		t.Fatalf("generate %s: %v", s, k.err)
	}
	return k.material, k.public
}

// private returns a key of its own for the test.
func private(t testing.TB, s Spec) *Private {
	t.Helper()
	material, _ := generated(t, s)
	k, err := ParsePrivate(s, material)
	if err != nil {
		t.Fatalf("parse generated %s: %v", s, err)
	}
	t.Cleanup(k.Destroy)
	return k
}

func public(t testing.TB, s Spec) *Public {
	t.Helper()
	_, spki := generated(t, s)
	k, err := ParsePublic(s, spki)
	if err != nil {
		t.Fatalf("parse public half of generated %s: %v", s, err)
	}
	return k
}

// hexBytes is how the vectors write bytes.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	*h = b
	return err
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// shards of one text in several algorithms' tests.
var someMessage = []byte("pay 12.50 to the bearer")
