package interop

import (
	"bytes"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/tink-crypto/tink-go-awskms/v3/integration/awskms"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// remote is Tink's AEAD by a key of KMS.
func remote(t *testing.T, sdk *kms.Client, arn string, opts ...awskms.ClientOption) tink.AEAD {
	t.Helper()
	c, err := awskms.NewClientWithOptions(t.Context(), "aws-kms://", append(opts, awskms.WithKMS(sdk))...)
	if err != nil {
		t.Fatal(err)
	}
	a, err := c.GetAEAD("aws-kms://" + arn)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestTinkEncryptsByTheService(t *testing.T) {
	t.Parallel()
	sdk := serve(t).sdk()
	arn := newKey(t, sdk, kms.CreateKeyInput{})
	a := remote(t, sdk, arn)
	sealed, err := a.Encrypt([]byte("secret"), []byte("entity 1"))
	if err != nil {
		t.Fatal(err)
	}
	empty, err := a.Encrypt([]byte("secret"), nil)
	if err != nil {
		t.Fatal(err)
	}
	// The associated data goes into the encryption context as hex, so it gets long.
	long := bytes.Repeat([]byte{7}, 3<<10)
	large, err := a.Encrypt([]byte("secret"), long)
	if err != nil {
		t.Fatal(err)
	}
	rotate(t, sdk, arn)
	for _, c := range []struct {
		name         string
		sealed, data []byte
		opens        bool
	}{
		{"after a rotation", sealed, []byte("entity 1"), true},
		{"no associated data", empty, nil, true},
		{"long associated data", large, long, true},
		{"other associated data", sealed, []byte("entity 2"), false},
		{"associated data left out", sealed, nil, false},
		{"associated data added", empty, []byte("entity 1"), false},
	} {
		opened, err := a.Decrypt(c.sealed, c.data)
		if !c.opens {
			t.Run(c.name, func(t *testing.T) { refused(t, err, "InvalidCiphertextException") })
		} else if err != nil || string(opened) != "secret" {
			t.Errorf("%s: does not open: %v", c.name, err)
		}
	}
	_, err = remote(t, sdk, arn, awskms.WithEncryptionContextName(awskms.LegacyAdditionalData)).Decrypt(sealed, []byte("entity 1"))
	refused(t, err, "InvalidCiphertextException")
	// Tink names the key, so another's ciphertext is refused.
	_, err = remote(t, sdk, newKey(t, sdk, kms.CreateKeyInput{})).Decrypt(sealed, []byte("entity 1"))
	refused(t, err, "IncorrectKeyException")
	disable(t, sdk, arn)
	_, err = a.Decrypt(sealed, []byte("entity 1"))
	refused(t, err, "DisabledException", arn+" is disabled.")
}

func TestTinkEnvelope(t *testing.T) {
	t.Parallel()
	sdk := serve(t).sdk()
	arn := newKey(t, sdk, kms.CreateKeyInput{})
	a := aead.NewKMSEnvelopeAEAD2(aead.AES256GCMKeyTemplate(), remote(t, sdk, arn))
	plain := []byte(strings.Repeat("more than Encrypt takes ", 1000))
	sealed, err := a.Encrypt(plain, []byte("entity 1"))
	if err != nil {
		t.Fatal(err)
	}
	rotate(t, sdk, arn)
	if opened, err := a.Decrypt(sealed, []byte("entity 1")); err != nil || !bytes.Equal(opened, plain) {
		t.Errorf("does not open: %v", err)
	}
	if _, err := a.Decrypt(sealed, []byte("entity 2")); err == nil {
		t.Error("opened with other associated data")
	}
}

// A keyset on disk is encrypted by the service; that is how most people use Tink
// with a KMS.
func TestTinkKeysetIsReadWithItsAssociatedDataOnly(t *testing.T) {
	t.Parallel()
	sdk := serve(t).sdk()
	arn := newKey(t, sdk, kms.CreateKeyInput{})
	kek := remote(t, sdk, arn)
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	if err := handle.WriteWithAssociatedData(keyset.NewJSONWriter(&file), kek, []byte("keyset of the shop")); err != nil {
		t.Fatal(err)
	}
	text := file.String()
	rotate(t, sdk, arn)
	read, err := keyset.ReadWithAssociatedData(keyset.NewJSONReader(strings.NewReader(text)), kek, []byte("keyset of the shop"))
	if err != nil {
		t.Fatal(err)
	}
	seal, err := aead.New(handle)
	if err != nil {
		t.Fatal(err)
	}
	open, err := aead.New(read)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := seal.Encrypt([]byte("secret"), []byte("a"))
	if err != nil {
		t.Fatal(err)
	}
	if opened, err := open.Decrypt(sealed, []byte("a")); err != nil || string(opened) != "secret" {
		t.Errorf("the keyset that was read is another: %v", err)
	}
	_, err = keyset.ReadWithAssociatedData(keyset.NewJSONReader(strings.NewReader(text)), kek, []byte("keyset of another"))
	if err == nil {
		t.Error("read with other associated data")
	}
}
