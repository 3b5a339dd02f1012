package interop

import (
	"bytes"
	"testing"

	wrapping "github.com/hashicorp/go-kms-wrapping/v2"
	awskms "github.com/hashicorp/go-kms-wrapping/wrappers/awskms/v2"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/google/uuid"
)

// wrapper is what Vault seals itself with, configured as by its "awskms" stanza. It
// speaks by version 1 of the SDK.
func (s *server) wrapper(t *testing.T, key string) (*awskms.Wrapper, error) {
	t.Helper()
	w := awskms.NewWrapper()
	_, err := w.SetConfig(t.Context(), wrapping.WithConfigMap(map[string]string{
		"disallow_env_vars": "true", "kms_key_id": key, "region": region, "endpoint": s.url, "access_key": s.id, "secret_key": s.secret,
	}))
	return w, err
}

func TestVaultSealOpensWhatItSealedAfterTheKeyWasRotated(t *testing.T) {
	t.Parallel()
	s := serve(t)
	sdk := s.sdk()
	arn := newKey(t, sdk, kms.CreateKeyInput{})
	alias := "alias/vault-" + uuid.NewString()
	if _, err := sdk.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: &alias, TargetKeyId: &arn}); err != nil {
		t.Fatal(err)
	}
	w, err := s.wrapper(t, alias)
	if err != nil {
		t.Fatal(err)
	}
	if id, err := w.KeyId(t.Context()); err != nil || "arn:aws:kms:"+region+":"+account+":key/"+id != arn {
		t.Errorf("the alias gave key %s, %v, want that of %s", id, err, arn)
	}
	secret := []byte("the root key of a vault")
	aad := wrapping.WithAad([]byte("purpose"))
	sealed, err := w.Encrypt(t.Context(), secret, aad)
	if err != nil {
		t.Fatal(err)
	}
	if sealed.KeyInfo.KeyId != arn {
		t.Errorf("sealed by %s, want %s", sealed.KeyInfo.KeyId, arn)
	}
	rotate(t, sdk, arn)
	opened, err := w.Decrypt(t.Context(), sealed, aad)
	if err != nil || !bytes.Equal(opened, secret) {
		t.Errorf("what was sealed before the rotation does not open: %v", err)
	}
	if again, err := w.Encrypt(t.Context(), secret, aad); err != nil || bytes.Equal(again.KeyInfo.WrappedKey, sealed.KeyInfo.WrappedKey) {
		t.Errorf("sealing again: %v", err)
	}
	if _, err := w.Decrypt(t.Context(), sealed, wrapping.WithAad([]byte("another"))); err == nil {
		t.Error("opened with other associated data")
	}
	broken := bytes.Clone(sealed.KeyInfo.WrappedKey)
	broken[len(broken)-1] ^= 1
	_, err = w.Decrypt(t.Context(), &wrapping.BlobInfo{
		Ciphertext: sealed.Ciphertext, Iv: sealed.Iv, KeyInfo: &wrapping.KeyInfo{Mechanism: sealed.KeyInfo.Mechanism, WrappedKey: broken},
	}, aad)
	refused(t, err, "InvalidCiphertextException")
	disable(t, sdk, arn)
	_, err = w.Decrypt(t.Context(), sealed, aad)
	refused(t, err, "DisabledException", arn+" is disabled.")
	_, err = w.Encrypt(t.Context(), secret, aad)
	refused(t, err, "DisabledException", arn+" is disabled.")
}

// A wrapper for another key opens it too, since it does not say by which key.
func TestVaultSealMigratesToAnotherKey(t *testing.T) {
	t.Parallel()
	s := serve(t)
	sdk := s.sdk()
	older, newer := newKey(t, sdk, kms.CreateKeyInput{}), newKey(t, sdk, kms.CreateKeyInput{})
	first, err := s.wrapper(t, older)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := first.Encrypt(t.Context(), []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := s.wrapper(t, newer)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := second.Decrypt(t.Context(), sealed)
	if err != nil || string(opened) != "secret" {
		t.Errorf("what the other key sealed does not open: %v", err)
	}
}

func TestVaultSealIsRefusedAtItsStart(t *testing.T) {
	t.Parallel()
	s := serve(t)
	_, err := s.wrapper(t, "1234abcd-12ab-34cd-56ef-1234567890ab")
	refused(t, err, "NotFoundException", "Key 'arn:aws:kms:"+region+":"+account+":key/1234abcd-12ab-34cd-56ef-1234567890ab' does not exist")
	// A key that cannot encrypt is found at its first use.
	w, err := s.wrapper(t, newKey(t, s.sdk(), kms.CreateKeyInput{KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeSignVerify}))
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Encrypt(t.Context(), []byte("secret"))
	refused(t, err, "InvalidKeyUsageException")
	_, err = s.user(t, "stranger-to-the-seal").wrapper(t, newKey(t, s.sdk(), kms.CreateKeyInput{}))
	refused(t, err, "AccessDeniedException", "kms:DescribeKey")
}
