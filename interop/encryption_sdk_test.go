package interop

import (
	"bytes"
	"encoding/pem"
	"strings"
	"testing"

	mpl "github.com/aws/aws-cryptographic-material-providers-library/releases/go/mpl/awscryptographymaterialproviderssmithygenerated"
	mpltypes "github.com/aws/aws-cryptographic-material-providers-library/releases/go/mpl/awscryptographymaterialproviderssmithygeneratedtypes"
	primitives "github.com/aws/aws-cryptographic-material-providers-library/releases/go/primitives/awscryptographyprimitivessmithygeneratedtypes"
	esdk "github.com/aws/aws-encryption-sdk/releases/go/encryption-sdk/awscryptographyencryptionsdksmithygenerated"
	esdktypes "github.com/aws/aws-encryption-sdk/releases/go/encryption-sdk/awscryptographyencryptionsdksmithygeneratedtypes"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// encryptionSDK is AWS's Encryption SDK with what makes its keyrings.
type encryptionSDK struct {
	*esdk.Client
	providers *mpl.Client
}

func newEncryptionSDK(t *testing.T) encryptionSDK {
	t.Helper()
	return encryptionSDK{must(esdk.NewClient(esdktypes.AwsEncryptionSdkConfig{}))(t), must(mpl.NewClient(mpltypes.MaterialProvidersConfig{}))(t)}
}

// keyring is the keyring of one key.
func (e encryptionSDK) keyring(t *testing.T, sdk *kms.Client, arn string) mpltypes.IKeyring {
	t.Helper()
	return must(e.providers.CreateAwsKmsKeyring(t.Context(), mpltypes.CreateAwsKmsKeyringInput{KmsClient: sdk, KmsKeyId: arn}))(t)
}

// message is longer than what the service encrypts itself.
var message = []byte(strings.Repeat("cardholder data ", 1000))

func (e encryptionSDK) encrypt(t *testing.T, k mpltypes.IKeyring, context map[string]string) []byte {
	t.Helper()
	return must(e.Encrypt(t.Context(), esdktypes.EncryptInput{Plaintext: message, EncryptionContext: context, Keyring: k}))(t).Ciphertext
}

// opens fails the test unless the keyring opens the message in the context.
func (e encryptionSDK) opens(t *testing.T, k mpltypes.IKeyring, sealed []byte, context map[string]string) {
	t.Helper()
	out, err := e.Decrypt(t.Context(), esdktypes.DecryptInput{Ciphertext: sealed, EncryptionContext: context, Keyring: k})
	if err != nil || !bytes.Equal(out.Plaintext, message) {
		t.Errorf("does not open: %v", err)
	}
}

// refuses fails the test unless the keyring refuses the message with the words.
func (e encryptionSDK) refuses(t *testing.T, k mpltypes.IKeyring, sealed []byte, context map[string]string, words ...string) {
	t.Helper()
	_, err := e.Decrypt(t.Context(), esdktypes.DecryptInput{Ciphertext: sealed, EncryptionContext: context, Keyring: k})
	refused(t, err, words...)
}

var shop = map[string]string{"tenant": "shop", "purpose": "backup"}

func TestEncryptionSDKKeyring(t *testing.T) {
	t.Parallel()
	sdk, e := serve(t).sdk(), newEncryptionSDK(t)
	arn := newKey(t, sdk, kms.CreateKeyInput{})
	k := e.keyring(t, sdk, arn)
	sealed := e.encrypt(t, k, shop)
	e.opens(t, k, sealed, shop)
	rotate(t, sdk, arn)
	e.opens(t, k, sealed, shop)
	e.opens(t, k, sealed, nil) // the message carries its context
	e.refuses(t, k, sealed, map[string]string{"tenant": "another"}, "does not match reproduced encryption context")
	e.refuses(t, e.keyring(t, sdk, newKey(t, sdk, kms.CreateKeyInput{})), sealed, shop, "No Encrypted Data Keys found to match")
	disable(t, sdk, arn)
	e.refuses(t, k, sealed, shop, "DisabledException", arn+" is disabled.")
	_, err := e.Encrypt(t.Context(), esdktypes.EncryptInput{Plaintext: message, Keyring: k})
	refused(t, err, "DisabledException", arn+" is disabled.")
}

// A context that is required is not in the message: whoever opens it must know it,
// and it is the service that refuses a wrong one.
func TestEncryptionSDKRequiredContextIsCheckedByTheService(t *testing.T) {
	t.Parallel()
	sdk, e := serve(t).sdk(), newEncryptionSDK(t)
	k := e.keyring(t, sdk, newKey(t, sdk, kms.CreateKeyInput{}))
	cmm := must(e.providers.CreateRequiredEncryptionContextCMM(t.Context(), mpltypes.CreateRequiredEncryptionContextCMMInput{
		UnderlyingCMM:                 must(e.providers.CreateDefaultCryptographicMaterialsManager(t.Context(), mpltypes.CreateDefaultCryptographicMaterialsManagerInput{Keyring: k}))(t),
		RequiredEncryptionContextKeys: []string{"tenant"},
	}))(t)
	sealed := must(e.Encrypt(t.Context(), esdktypes.EncryptInput{Plaintext: message, EncryptionContext: shop, MaterialsManager: cmm}))(t)
	decrypt := func(tenant string) ([]byte, error) {
		out, err := e.Decrypt(t.Context(), esdktypes.DecryptInput{
			Ciphertext: sealed.Ciphertext, EncryptionContext: map[string]string{"tenant": tenant}, MaterialsManager: cmm,
		})
		if err != nil {
			return nil, err
		}
		return out.Plaintext, nil
	}
	if opened, err := decrypt("shop"); err != nil || !bytes.Equal(opened, message) {
		t.Errorf("does not open: %v", err)
	}
	_, err := decrypt("another")
	refused(t, err, "InvalidCiphertextException")
	e.refuses(t, k, sealed.Ciphertext, nil, "InvalidCiphertextException")
}

// Each of the keys of a message opens it alone: one made its data key, the other
// encrypted it.
func TestEncryptionSDKMessageOfTwoKeys(t *testing.T) {
	t.Parallel()
	sdk, e := serve(t).sdk(), newEncryptionSDK(t)
	first, second := newKey(t, sdk, kms.CreateKeyInput{}), newKey(t, sdk, kms.CreateKeyInput{})
	both := must(e.providers.CreateAwsKmsMultiKeyring(t.Context(), mpltypes.CreateAwsKmsMultiKeyringInput{
		Generator: &first, KmsKeyIds: []string{second}, ClientSupplier: supplier{serve(t)},
	}))(t)
	sealed := e.encrypt(t, both, shop)
	e.opens(t, e.keyring(t, sdk, first), sealed, shop)
	e.opens(t, e.keyring(t, sdk, second), sealed, shop)
	disable(t, sdk, first)
	rotate(t, sdk, second)
	e.opens(t, both, sealed, shop)
	disable(t, sdk, second)
	e.refuses(t, both, sealed, shop, first+" is disabled.", second+" is disabled.")
}

// supplier gives clients of the server by Region, as keyrings of many Regions want.
type supplier struct{ s *server }

func (c supplier) GetClient(want mpltypes.GetClientInput) (kms.Client, error) {
	return *c.s.sdk(in(want.Region)), nil
}

func TestEncryptionSDKDiscoveryFindsTheKey(t *testing.T) {
	t.Parallel()
	sdk, e := serve(t).sdk(), newEncryptionSDK(t)
	sealed := e.encrypt(t, e.keyring(t, sdk, newKey(t, sdk, kms.CreateKeyInput{})), shop)
	discovery := func(of string) mpltypes.IKeyring {
		return must(e.providers.CreateAwsKmsDiscoveryKeyring(t.Context(), mpltypes.CreateAwsKmsDiscoveryKeyringInput{
			KmsClient: sdk, DiscoveryFilter: &mpltypes.DiscoveryFilter{Partition: "aws", AccountIds: []string{of}},
		}))(t)
	}
	e.opens(t, discovery(account), sealed, shop)
	e.refuses(t, discovery("444455556666"), sealed, shop, "No Encrypted Data Keys found to match")
}

// What a multi-Region key encrypts in one Region is decrypted in the other by its
// replica.
func TestEncryptionSDKOpensInAnotherRegion(t *testing.T) {
	t.Parallel()
	s, e := serve(t), newEncryptionSDK(t)
	yes := true
	here, there := s.sdk(), s.sdk(in(otherRegion))
	primary := newKey(t, here, kms.CreateKeyInput{MultiRegion: &yes})
	region2 := otherRegion
	replica := *must(here.ReplicateKey(t.Context(), &kms.ReplicateKeyInput{KeyId: &primary, ReplicaRegion: &region2}))(t).ReplicaKeyMetadata.Arn
	keyring := func(c *kms.Client, arn string) mpltypes.IKeyring {
		return must(e.providers.CreateAwsKmsMrkKeyring(t.Context(), mpltypes.CreateAwsKmsMrkKeyringInput{KmsClient: c, KmsKeyId: arn}))(t)
	}
	sealed := e.encrypt(t, keyring(here, primary), shop)
	rotate(t, here, primary)
	e.opens(t, keyring(there, replica), sealed, shop)
	e.opens(t, keyring(here, primary), e.encrypt(t, keyring(there, replica), shop), shop)
	other := newKey(t, there, kms.CreateKeyInput{MultiRegion: &yes})
	e.refuses(t, keyring(there, other), sealed, shop, "No Encrypted Data Keys found to match")
}

func TestEncryptionSDKRSA(t *testing.T) {
	t.Parallel()
	sdk, e := serve(t).sdk(), newEncryptionSDK(t)
	arn := newKey(t, sdk, kms.CreateKeyInput{KeySpec: types.KeySpecRsa3072, KeyUsage: types.KeyUsageTypeEncryptDecrypt})
	public := must(sdk.GetPublicKey(t.Context(), &kms.GetPublicKeyInput{KeyId: &arn}))(t)
	k := must(e.providers.CreateAwsKmsRsaKeyring(t.Context(), mpltypes.CreateAwsKmsRsaKeyringInput{
		KmsClient: sdk, KmsKeyId: arn, EncryptionAlgorithm: types.EncryptionAlgorithmSpecRsaesOaepSha256,
		PublicKey: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public.PublicKey}),
	}))(t)
	suite := mpltypes.ESDKAlgorithmSuiteIdAlgAes256GcmHkdfSha512CommitKey // RSA keyrings take no suite that signs
	sealed := must(e.Encrypt(t.Context(), esdktypes.EncryptInput{Plaintext: message, EncryptionContext: shop, Keyring: k, AlgorithmSuiteId: &suite}))(t).Ciphertext
	e.opens(t, k, sealed, shop)
	disable(t, sdk, arn)
	e.refuses(t, k, sealed, shop, "DisabledException")
}

func TestEncryptionSDKKeyAgreement(t *testing.T) {
	t.Parallel()
	sdk, e := serve(t).sdk(), newEncryptionSDK(t)
	pair := func() (arn string, public []byte) {
		arn = newKey(t, sdk, kms.CreateKeyInput{KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeKeyAgreement})
		return arn, must(sdk.GetPublicKey(t.Context(), &kms.GetPublicKeyInput{KeyId: &arn}))(t).PublicKey
	}
	sender, senderPublic := pair()
	recipient, recipientPublic := pair()
	keyring := func(scheme mpltypes.KmsEcdhStaticConfigurations) mpltypes.IKeyring {
		return must(e.providers.CreateAwsKmsEcdhKeyring(t.Context(), mpltypes.CreateAwsKmsEcdhKeyringInput{
			KmsClient: sdk, CurveSpec: primitives.ECDHCurveSpecEccNistP256, KeyAgreementScheme: scheme,
		}))(t)
	}
	sealed := e.encrypt(t, keyring(&mpltypes.KmsEcdhStaticConfigurationsMemberKmsPrivateKeyToStaticPublicKey{
		Value: mpltypes.KmsPrivateKeyToStaticPublicKeyInput{SenderKmsIdentifier: sender, SenderPublicKey: senderPublic, RecipientPublicKey: recipientPublic},
	}), shop)
	discovery := keyring(&mpltypes.KmsEcdhStaticConfigurationsMemberKmsPublicKeyDiscovery{
		Value: mpltypes.KmsPublicKeyDiscoveryInput{RecipientKmsIdentifier: recipient},
	})
	e.opens(t, discovery, sealed, shop)
	disable(t, sdk, recipient)
	e.refuses(t, discovery, sealed, shop, "DisabledException")
}
