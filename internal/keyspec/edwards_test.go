package keyspec

import (
	"bytes"
	"crypto/ed25519"
	"testing"
)

// TestEd25519phExampleOfTheRFC is RFC 8032, section 7.3. The API cannot bring its
// message, since what it brings is 64 bytes; so this is about what follows.
func TestEd25519phExampleOfTheRFC(t *testing.T) {
	t.Parallel()
	key := ed25519.NewKeyFromSeed(unhex(t, "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42"))
	sum, options := edwardsPrehash([]byte("abc"))
	sig, err := key.Sign(nil, sum, options)
	want := unhex(t, "98a70222f0b8121aa9d30f813d683f809e462b469c7ff87639499bb94e6dae4131f85042463c2a355a2003d062adf5aaa10b8c61e636062aaad11c2a26083406")
	if err != nil || !bytes.Equal(sig, want) {
		t.Errorf("%x, %v", sig, err)
	}
}
