package kmsclient_test

import (
	"crypto/ed25519"
	"strings"
	"testing"

	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"cardea/internal/identity"
	"cardea/internal/kmsclient"
)

func edwards(in *awskms.CreateKeyInput) {
	in.KeySpec, in.KeyUsage = types.KeySpecEccNistEdwards25519, types.KeyUsageTypeSignVerify
}

// allowSigning lets the vault sign, and no more than that.
func (s *service) allowSigning(t *testing.T) {
	t.Helper()
	ok(t, s.people.PutUserPolicy(t.Context(), s.operator, &identity.PolicyInput{
		Account: account, Entity: "vault", Name: "sign",
		Document: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["kms:Sign","kms:GetPublicKey"],"Resource":"*"}]}`,
	}))
}

// TestSignatureIsOfTheMessageItself: not of its digest, so that whoever verifies
// Ed25519 can verify it.
func TestSignatureIsOfTheMessageItself(t *testing.T) {
	t.Parallel()
	s := startService(t)
	s.allowSigning(t)
	c, k := s.client(t), s.newKey(t, edwards)
	public, err := c.PublicEd25519(t.Context(), k)
	ok(t, err)
	for _, message := range []string{"x", "cardea/node-1\n7\n", strings.Repeat("m", kmsclient.MaxPlaintext)} {
		signature, err := c.SignEd25519(t.Context(), k, []byte(message))
		ok(t, err)
		if !ed25519.Verify(public, []byte(message), signature) {
			t.Errorf("a message of %d bytes: the signature does not verify", len(message))
		}
	}
	for _, n := range []int{0, kmsclient.MaxPlaintext + 1} {
		_, err := c.SignEd25519(t.Context(), k, make([]byte, n))
		if e := is(t, err, kmsclient.ErrInvalid); e.RequestID != "" {
			t.Errorf("a message of %d bytes was sent", n)
		}
	}
}

func TestSigningIsRefused(t *testing.T) {
	t.Parallel()
	s := startService(t)
	c, k := s.client(t), s.newKey(t, edwards)
	_, err := c.SignEd25519(t.Context(), k, []byte("m"))
	is(t, err, kmsclient.ErrDenied)
	_, err = c.PublicEd25519(t.Context(), k)
	is(t, err, kmsclient.ErrDenied)
	s.allowSigning(t)
	p256 := s.newKey(t, func(in *awskms.CreateKeyInput) {
		in.KeySpec, in.KeyUsage = types.KeySpecEccNistP256, types.KeyUsageTypeSignVerify
	})
	_, err = c.PublicEd25519(t.Context(), p256)
	if e := is(t, err, kmsclient.ErrInvalid); !strings.HasSuffix(e.Error(), "the key is of spec ECC_NIST_P256 and usage SIGN_VERIFY, not ECC_NIST_EDWARDS25519 and SIGN_VERIFY") {
		t.Error(e)
	}
	for _, other := range []kmsclient.Key{p256, s.newKey(t), s.newKey(t, hmacKey)} {
		_, err := c.SignEd25519(t.Context(), other, []byte("m"))
		is(t, err, kmsclient.ErrInvalid)
	}
	_, err = c.PublicEd25519(t.Context(), s.newKey(t))
	is(t, err, kmsclient.ErrInvalid)
	if _, err := s.admin.DisableKey(t.Context(), &awskms.DisableKeyInput{KeyId: &k.ID}); err != nil {
		t.Fatal(err)
	}
	_, err = c.SignEd25519(t.Context(), k, []byte("m"))
	is(t, err, kmsclient.ErrDisabled)
}
