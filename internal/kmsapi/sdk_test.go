package kmsapi_test

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
)

// createKey makes a key by the API and returns its ARN.
func createKey(t testing.TB, c *awskms.Client, in awskms.CreateKeyInput) *string {
	t.Helper()
	out, err := c.CreateKey(context.Background(), &in)
	if err != nil {
		t.Fatal(err)
	}
	return out.KeyMetadata.Arn
}

// typed fails unless err is an E of the SDK.
func typed[E error](t testing.TB, err error) {
	t.Helper()
	var e E
	if !errors.As(err, &e) {
		t.Errorf("got %v, want a %T", err, e)
	}
}

// coded fails unless err has the code, for errors that the SDK has no type for.
func coded(t testing.TB, err error, code string) {
	t.Helper()
	var e smithy.APIError
	if !errors.As(err, &e) || e.ErrorCode() != code {
		t.Errorf("got %v, want %s", err, code)
	}
}

func must[T any](t testing.TB) func(out *T, err error) *T {
	return func(out *T, err error) *T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
}

func TestSDKEncryption(t *testing.T) {
	t.Parallel()
	ctx, c := context.Background(), serve(t).sdk()
	key := createKey(t, c, awskms.CreateKeyInput{Description: aws.String("of a test, with é")})
	plaintext := []byte("the plaintext \x00\xff")
	tenant := map[string]string{"tenant": "a", "ключ": "значение"}
	enc := must[awskms.EncryptOutput](t)(c.Encrypt(ctx, &awskms.EncryptInput{KeyId: key, Plaintext: plaintext, EncryptionContext: tenant}))
	if aws.ToString(enc.KeyId) != *key || enc.EncryptionAlgorithm != types.EncryptionAlgorithmSpecSymmetricDefault {
		t.Errorf("got %+v", enc)
	}
	dec := must[awskms.DecryptOutput](t)(c.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: enc.CiphertextBlob, EncryptionContext: tenant}))
	if !bytes.Equal(dec.Plaintext, plaintext) || aws.ToString(dec.KeyId) != *key || len(aws.ToString(dec.KeyMaterialId)) != 64 {
		t.Errorf("got %+v", dec)
	}
	re := must[awskms.ReEncryptOutput](t)(c.ReEncrypt(ctx, &awskms.ReEncryptInput{
		CiphertextBlob: enc.CiphertextBlob, SourceEncryptionContext: tenant, DestinationKeyId: key,
	}))
	dec = must[awskms.DecryptOutput](t)(c.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: re.CiphertextBlob, KeyId: key}))
	if !bytes.Equal(dec.Plaintext, plaintext) {
		t.Errorf("got %+v", dec)
	}
	random := must[awskms.GenerateRandomOutput](t)(c.GenerateRandom(ctx, &awskms.GenerateRandomInput{NumberOfBytes: aws.Int32(1024)}))
	if len(random.Plaintext) != 1024 {
		t.Errorf("got %d random bytes", len(random.Plaintext))
	}

	_, err := c.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: enc.CiphertextBlob})
	typed[*types.InvalidCiphertextException](t, err)
	other := createKey(t, c, awskms.CreateKeyInput{})
	_, err = c.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: enc.CiphertextBlob, EncryptionContext: tenant, KeyId: other})
	typed[*types.IncorrectKeyException](t, err)
	_, err = c.Encrypt(ctx, &awskms.EncryptInput{KeyId: key, Plaintext: plaintext, DryRun: aws.Bool(true)})
	typed[*types.DryRunOperationException](t, err)
	_, err = c.Encrypt(ctx, &awskms.EncryptInput{KeyId: key, Plaintext: make([]byte, 4097)})
	coded(t, err, "ValidationException")
	_, err = c.Encrypt(ctx, &awskms.EncryptInput{KeyId: aws.String("alias/none"), Plaintext: plaintext})
	typed[*types.NotFoundException](t, err)
}

func TestSDKDataKeys(t *testing.T) {
	t.Parallel()
	ctx, c := context.Background(), serve(t).sdk()
	key := createKey(t, c, awskms.CreateKeyInput{})
	k := must[awskms.GenerateDataKeyOutput](t)(c.GenerateDataKey(ctx, &awskms.GenerateDataKeyInput{
		KeyId: key, KeySpec: types.DataKeySpecAes256, EncryptionContext: map[string]string{"a": "b"}, GrantTokens: []string{},
	}))
	if len(k.Plaintext) != 32 || aws.ToString(k.KeyId) != *key || len(aws.ToString(k.KeyMaterialId)) != 64 {
		t.Errorf("got %d bytes, %s", len(k.Plaintext), aws.ToString(k.KeyId))
	}
	d := must[awskms.DecryptOutput](t)(c.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: k.CiphertextBlob, EncryptionContext: map[string]string{"a": "b"}}))
	if !bytes.Equal(d.Plaintext, k.Plaintext) {
		t.Error("the data key does not come back")
	}
	must[awskms.GenerateDataKeyWithoutPlaintextOutput](t)(c.GenerateDataKeyWithoutPlaintext(ctx, &awskms.GenerateDataKeyWithoutPlaintextInput{
		KeyId: key, NumberOfBytes: aws.Int32(64),
	}))
	p := must[awskms.GenerateDataKeyPairOutput](t)(c.GenerateDataKeyPair(ctx, &awskms.GenerateDataKeyPairInput{
		KeyId: key, KeyPairSpec: types.DataKeyPairSpecEccNistP256,
	}))
	private, err := x509.ParsePKCS8PrivateKey(p.PrivateKeyPlaintext)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.ParsePKIXPublicKey(p.PublicKey)
	if err != nil || !private.(*ecdsa.PrivateKey).PublicKey.Equal(public) {
		t.Errorf("the halves do not belong together: %v", err)
	}
	must[awskms.GenerateDataKeyPairWithoutPlaintextOutput](t)(c.GenerateDataKeyPairWithoutPlaintext(ctx, &awskms.GenerateDataKeyPairWithoutPlaintextInput{
		KeyId: key, KeyPairSpec: types.DataKeyPairSpecEccNistEdwards25519,
	}))
	_, err = c.GenerateDataKey(ctx, &awskms.GenerateDataKeyInput{KeyId: key})
	coded(t, err, "ValidationException")
	_, err = c.GenerateDataKey(ctx, &awskms.GenerateDataKeyInput{KeyId: key, NumberOfBytes: aws.Int32(0)})
	coded(t, err, "ValidationException")
	_, err = c.GenerateDataKey(ctx, &awskms.GenerateDataKeyInput{KeyId: key, KeySpec: types.DataKeySpecAes128, DryRun: aws.Bool(true)})
	typed[*types.DryRunOperationException](t, err)
}

func TestSDKSignaturesMACsAndAgreement(t *testing.T) {
	t.Parallel()
	ctx, c := context.Background(), serve(t).sdk()
	signing := createKey(t, c, awskms.CreateKeyInput{KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeSignVerify})
	digest := sha256.Sum256([]byte("message"))
	sig := must[awskms.SignOutput](t)(c.Sign(ctx, &awskms.SignInput{
		KeyId: signing, Message: digest[:], MessageType: types.MessageTypeDigest, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256,
	}))
	ver := must[awskms.VerifyOutput](t)(c.Verify(ctx, &awskms.VerifyInput{
		KeyId: signing, Message: []byte("message"), Signature: sig.Signature, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256,
	}))
	pub := must[awskms.GetPublicKeyOutput](t)(c.GetPublicKey(ctx, &awskms.GetPublicKeyInput{KeyId: signing}))
	public, err := x509.ParsePKIXPublicKey(pub.PublicKey)
	if err != nil || !ver.SignatureValid || !ecdsa.VerifyASN1(public.(*ecdsa.PublicKey), digest[:], sig.Signature) {
		t.Errorf("the signature is not valid: %+v, %v", ver, err)
	}
	_, err = c.Verify(ctx, &awskms.VerifyInput{
		KeyId: signing, Message: []byte("another"), Signature: sig.Signature, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256,
	})
	typed[*types.KMSInvalidSignatureException](t, err)
	_, err = c.Encrypt(ctx, &awskms.EncryptInput{KeyId: signing, Plaintext: []byte("x")})
	typed[*types.InvalidKeyUsageException](t, err)

	hmac := createKey(t, c, awskms.CreateKeyInput{KeySpec: types.KeySpecHmac256, KeyUsage: types.KeyUsageTypeGenerateVerifyMac})
	mac := must[awskms.GenerateMacOutput](t)(c.GenerateMac(ctx, &awskms.GenerateMacInput{
		KeyId: hmac, Message: []byte("message"), MacAlgorithm: types.MacAlgorithmSpecHmacSha256,
	}))
	vm := must[awskms.VerifyMacOutput](t)(c.VerifyMac(ctx, &awskms.VerifyMacInput{
		KeyId: hmac, Message: []byte("message"), Mac: mac.Mac, MacAlgorithm: types.MacAlgorithmSpecHmacSha256,
	}))
	if !vm.MacValid {
		t.Error("the MAC is not valid")
	}
	_, err = c.VerifyMac(ctx, &awskms.VerifyMacInput{
		KeyId: hmac, Message: []byte("another"), Mac: mac.Mac, MacAlgorithm: types.MacAlgorithmSpecHmacSha256,
	})
	typed[*types.KMSInvalidMacException](t, err)

	agreeing := createKey(t, c, awskms.CreateKeyInput{KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeKeyAgreement})
	pub = must[awskms.GetPublicKeyOutput](t)(c.GetPublicKey(ctx, &awskms.GetPublicKeyInput{KeyId: agreeing}))
	theirs, err := x509.ParsePKIXPublicKey(pub.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	mine, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(mine.Public())
	if err != nil {
		t.Fatal(err)
	}
	shared := must[awskms.DeriveSharedSecretOutput](t)(c.DeriveSharedSecret(ctx, &awskms.DeriveSharedSecretInput{
		KeyId: agreeing, KeyAgreementAlgorithm: types.KeyAgreementAlgorithmSpecEcdh, PublicKey: der,
	}))
	if want := agree(t, mine, theirs); !bytes.Equal(shared.SharedSecret, want) {
		t.Error("the shared secrets differ")
	}
}

func agree(t *testing.T, mine *ecdsa.PrivateKey, theirs any) []byte {
	t.Helper()
	a, err := mine.ECDH()
	if err != nil {
		t.Fatal(err)
	}
	var b *ecdh.PublicKey
	if b, err = theirs.(*ecdsa.PublicKey).ECDH(); err != nil {
		t.Fatal(err)
	}
	secret, err := a.ECDH(b)
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

func TestSDKLifecycle(t *testing.T) {
	t.Parallel()
	ctx, c := context.Background(), serve(t).sdk()
	key := createKey(t, c, awskms.CreateKeyInput{Tags: []types.Tag{{TagKey: aws.String("a"), TagValue: aws.String("")}}})
	describe := func() *types.KeyMetadata {
		return must[awskms.DescribeKeyOutput](t)(c.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: key})).KeyMetadata
	}
	must[awskms.UpdateKeyDescriptionOutput](t)(c.UpdateKeyDescription(ctx, &awskms.UpdateKeyDescriptionInput{KeyId: key, Description: aws.String("new")}))
	if got := aws.ToString(describe().Description); got != "new" {
		t.Errorf("got description %q", got)
	}
	must[awskms.DisableKeyOutput](t)(c.DisableKey(ctx, &awskms.DisableKeyInput{KeyId: key}))
	_, err := c.Encrypt(ctx, &awskms.EncryptInput{KeyId: key, Plaintext: []byte("x")})
	typed[*types.DisabledException](t, err)
	must[awskms.EnableKeyOutput](t)(c.EnableKey(ctx, &awskms.EnableKeyInput{KeyId: key}))
	must[awskms.EncryptOutput](t)(c.Encrypt(ctx, &awskms.EncryptInput{KeyId: key, Plaintext: []byte("x")}))
	used := must[awskms.GetKeyLastUsageOutput](t)(c.GetKeyLastUsage(ctx, &awskms.GetKeyLastUsageInput{KeyId: key}))
	if used.KeyLastUsage == nil || string(used.KeyLastUsage.Operation) != "Encrypt" || used.KeyLastUsage.Timestamp == nil {
		t.Errorf("got last usage %+v", used.KeyLastUsage)
	}
	gone := must[awskms.ScheduleKeyDeletionOutput](t)(c.ScheduleKeyDeletion(ctx, &awskms.ScheduleKeyDeletionInput{KeyId: key, PendingWindowInDays: aws.Int32(7)}))
	if m := describe(); m.KeyState != types.KeyStatePendingDeletion || m.DeletionDate == nil || !m.DeletionDate.Equal(*gone.DeletionDate) {
		t.Errorf("got %+v", m)
	}
	_, err = c.Encrypt(ctx, &awskms.EncryptInput{KeyId: key, Plaintext: []byte("x")})
	typed[*types.KMSInvalidStateException](t, err)
	must[awskms.CancelKeyDeletionOutput](t)(c.CancelKeyDeletion(ctx, &awskms.CancelKeyDeletionInput{KeyId: key}))
	if m := describe(); m.KeyState != types.KeyStateDisabled {
		t.Errorf("got state %s", m.KeyState)
	}
	_, err = c.CreateKey(ctx, &awskms.CreateKeyInput{Policy: aws.String("{")})
	typed[*types.MalformedPolicyDocumentException](t, err)
	_, err = c.CreateKey(ctx, &awskms.CreateKeyInput{Origin: types.OriginTypeExternalKeyStore, XksKeyId: aws.String("x"), CustomKeyStoreId: aws.String("cks-1")})
	if err == nil {
		t.Error("a key of an external key store was made")
	}
}

// TestSDKLockoutCheck has a policy that only lets a user use the key: AWS refuses it
// too, unless told that it is meant.
func TestSDKLockoutCheck(t *testing.T) {
	t.Parallel()
	ctx, c := context.Background(), serve(t).sdk()
	policy := aws.String(`{"Statement": [{"Sid": "Allow KMS Key Usage", "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::` + account + `:user/nobody"}, ` +
		`"Action": ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"], "Resource": "*"}]}`)
	_, err := c.CreateKey(ctx, &awskms.CreateKeyInput{Policy: policy})
	typed[*types.MalformedPolicyDocumentException](t, err)
	must[awskms.CreateKeyOutput](t)(c.CreateKey(ctx, &awskms.CreateKeyInput{Policy: policy, BypassPolicyLockoutSafetyCheck: true}))
}

func TestSDKAliasesTagsAndPolicies(t *testing.T) {
	t.Parallel()
	ctx, c := context.Background(), serve(t).sdk()
	key, other := createKey(t, c, awskms.CreateKeyInput{}), createKey(t, c, awskms.CreateKeyInput{})
	id := (*key)[strings.LastIndexByte(*key, '/')+1:]
	alias := aws.String("alias/app")
	must[awskms.CreateAliasOutput](t)(c.CreateAlias(ctx, &awskms.CreateAliasInput{AliasName: alias, TargetKeyId: &id}))
	_, err := c.CreateAlias(ctx, &awskms.CreateAliasInput{AliasName: alias, TargetKeyId: other})
	typed[*types.AlreadyExistsException](t, err)
	_, err = c.CreateAlias(ctx, &awskms.CreateAliasInput{AliasName: aws.String("alias/a:b"), TargetKeyId: other})
	typed[*types.InvalidAliasNameException](t, err)
	enc := must[awskms.EncryptOutput](t)(c.Encrypt(ctx, &awskms.EncryptInput{KeyId: alias, Plaintext: []byte("x")}))
	if *enc.KeyId != *key {
		t.Errorf("got %s", *enc.KeyId)
	}
	must[awskms.UpdateAliasOutput](t)(c.UpdateAlias(ctx, &awskms.UpdateAliasInput{AliasName: alias, TargetKeyId: other}))
	list := must[awskms.ListAliasesOutput](t)(c.ListAliases(ctx, &awskms.ListAliasesInput{KeyId: other}))
	if len(list.Aliases) != 1 || aws.ToString(list.Aliases[0].AliasName) != "alias/app" || list.Aliases[0].CreationDate == nil {
		t.Errorf("got %+v", list.Aliases)
	}
	must[awskms.DeleteAliasOutput](t)(c.DeleteAlias(ctx, &awskms.DeleteAliasInput{AliasName: alias}))

	must[awskms.TagResourceOutput](t)(c.TagResource(ctx, &awskms.TagResourceInput{KeyId: key, Tags: []types.Tag{{TagKey: aws.String("k"), TagValue: aws.String("v")}}}))
	tags := must[awskms.ListResourceTagsOutput](t)(c.ListResourceTags(ctx, &awskms.ListResourceTagsInput{KeyId: key}))
	if len(tags.Tags) != 1 || aws.ToString(tags.Tags[0].TagValue) != "v" {
		t.Errorf("got %+v", tags.Tags)
	}
	must[awskms.UntagResourceOutput](t)(c.UntagResource(ctx, &awskms.UntagResourceInput{KeyId: key, TagKeys: []string{"k"}}))
	_, err = c.TagResource(ctx, &awskms.TagResourceInput{KeyId: key, Tags: []types.Tag{
		{TagKey: aws.String("k"), TagValue: aws.String("1")}, {TagKey: aws.String("k"), TagValue: aws.String("2")},
	}})
	typed[*types.TagException](t, err)

	policy := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + account + `:root"},"Action":"kms:*","Resource":"*"},` +
		`{"Effect":"Deny","Principal":"*","Action":"kms:Encrypt","Resource":"*"}]}`
	must[awskms.PutKeyPolicyOutput](t)(c.PutKeyPolicy(ctx, &awskms.PutKeyPolicyInput{KeyId: key, Policy: &policy}))
	got := must[awskms.GetKeyPolicyOutput](t)(c.GetKeyPolicy(ctx, &awskms.GetKeyPolicyInput{KeyId: key}))
	if aws.ToString(got.Policy) != policy {
		t.Errorf("got %s", aws.ToString(got.Policy))
	}
	_, err = c.Encrypt(ctx, &awskms.EncryptInput{KeyId: key, Plaintext: []byte("x")})
	coded(t, err, "AccessDeniedException")
	names := must[awskms.ListKeyPoliciesOutput](t)(c.ListKeyPolicies(ctx, &awskms.ListKeyPoliciesInput{KeyId: key}))
	if len(names.PolicyNames) != 1 || names.PolicyNames[0] != "default" {
		t.Errorf("got %v", names.PolicyNames)
	}
}

func TestSDKPaginators(t *testing.T) {
	t.Parallel()
	ctx, c := context.Background(), serve(t).sdk()
	var keys []*string
	for range 5 {
		keys = append(keys, createKey(t, c, awskms.CreateKeyInput{}))
	}
	for i := range 5 {
		name := fmt.Sprintf("alias/app-%d", i)
		must[awskms.CreateAliasOutput](t)(c.CreateAlias(ctx, &awskms.CreateAliasInput{AliasName: &name, TargetKeyId: keys[0]}))
		must[awskms.TagResourceOutput](t)(c.TagResource(ctx, &awskms.TagResourceInput{KeyId: keys[0], Tags: []types.Tag{{TagKey: &name, TagValue: &name}}}))
	}
	seen, pages := map[string]bool{}, 0
	for p := awskms.NewListKeysPaginator(c, &awskms.ListKeysInput{Limit: aws.Int32(2)}); p.HasMorePages(); pages++ {
		for _, k := range must[awskms.ListKeysOutput](t)(p.NextPage(ctx)).Keys {
			seen[*k.KeyArn] = true
		}
	}
	if len(seen) != 5 || pages != 3 {
		t.Errorf("got %d keys in %d pages", len(seen), pages)
	}
	clear(seen)
	for p := awskms.NewListAliasesPaginator(c, &awskms.ListAliasesInput{KeyId: keys[0], Limit: aws.Int32(2)}); p.HasMorePages(); {
		for _, a := range must[awskms.ListAliasesOutput](t)(p.NextPage(ctx)).Aliases {
			seen[*a.AliasName] = true
		}
	}
	if len(seen) != 5 {
		t.Errorf("got %v", seen)
	}
	clear(seen)
	for p := awskms.NewListResourceTagsPaginator(c, &awskms.ListResourceTagsInput{KeyId: keys[0], Limit: aws.Int32(2)}); p.HasMorePages(); {
		for _, tag := range must[awskms.ListResourceTagsOutput](t)(p.NextPage(ctx)).Tags {
			seen[*tag.TagKey] = true
		}
	}
	if len(seen) != 5 {
		t.Errorf("got %v", seen)
	}
	_, err := c.ListKeys(ctx, &awskms.ListKeysInput{Marker: aws.String("!")})
	typed[*types.InvalidMarkerException](t, err)
	_, err = c.ListKeys(ctx, &awskms.ListKeysInput{Limit: aws.Int32(1001)})
	coded(t, err, "ValidationException")
}
