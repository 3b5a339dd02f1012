package kmsapi_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

func TestSDKGrants(t *testing.T) {
	t.Parallel()
	ctx, s := context.Background(), serve(t)
	c, user := s.sdk(), s.sdk(as(userID, userSecret, ""))
	key := createKey(t, c, awskms.CreateKeyInput{})
	nobody := aws.String("arn:aws:iam::" + account + ":user/nobody")
	tenant := map[string]string{"tenant": "a"}
	grant := func(name string) *awskms.CreateGrantOutput {
		return must[awskms.CreateGrantOutput](t)(c.CreateGrant(ctx, &awskms.CreateGrantInput{
			KeyId: key, GranteePrincipal: nobody, RetiringPrincipal: nobody, Name: &name,
			Operations:  []types.GrantOperation{types.GrantOperationEncrypt, types.GrantOperationDecrypt, types.GrantOperationRetireGrant},
			Constraints: &types.GrantConstraints{EncryptionContextSubset: tenant},
		}))
	}
	first := grant("first")
	if again := grant("first"); *again.GrantId != *first.GrantId {
		t.Error("the same grant was made twice")
	}
	encrypt := func(context map[string]string, tokens ...string) error {
		_, err := user.Encrypt(ctx, &awskms.EncryptInput{KeyId: key, Plaintext: []byte("x"), EncryptionContext: context, GrantTokens: tokens})
		return err
	}
	if err := encrypt(tenant, *first.GrantToken); err != nil {
		t.Error(err)
	}
	coded(t, encrypt(map[string]string{"tenant": "b"}), "AccessDeniedException")
	typed[*types.InvalidGrantTokenException](t, encrypt(tenant, "no token"))
	for _, name := range []string{"second", "third"} {
		grant(name)
	}
	seen := map[string]bool{}
	for p := awskms.NewListGrantsPaginator(c, &awskms.ListGrantsInput{KeyId: key, Limit: aws.Int32(2)}); p.HasMorePages(); {
		for _, g := range must[awskms.ListGrantsOutput](t)(p.NextPage(ctx)).Grants {
			seen[*g.GrantId] = true
			if g.CreationDate == nil || g.Constraints == nil || g.Constraints.EncryptionContextSubset["tenant"] != "a" || len(g.Operations) != 3 {
				t.Errorf("got %+v", g)
			}
		}
	}
	if len(seen) != 3 {
		t.Errorf("got %d grants", len(seen))
	}
	clear(seen)
	for p := awskms.NewListRetirableGrantsPaginator(c, &awskms.ListRetirableGrantsInput{RetiringPrincipal: nobody, Limit: aws.Int32(2)}); p.HasMorePages(); {
		for _, g := range must[awskms.ListRetirableGrantsOutput](t)(p.NextPage(ctx)).Grants {
			seen[*g.GrantId] = true
		}
	}
	if len(seen) != 3 {
		t.Errorf("got %d grants to retire", len(seen))
	}
	_, err := user.RetireGrant(ctx, &awskms.RetireGrantInput{GrantToken: first.GrantToken, DryRun: aws.Bool(true)})
	typed[*types.DryRunOperationException](t, err)
	must[awskms.RetireGrantOutput](t)(user.RetireGrant(ctx, &awskms.RetireGrantInput{GrantToken: first.GrantToken}))
	for id := range seen {
		if id != *first.GrantId {
			must[awskms.RevokeGrantOutput](t)(c.RevokeGrant(ctx, &awskms.RevokeGrantInput{KeyId: key, GrantId: &id}))
		}
	}
	coded(t, encrypt(tenant), "AccessDeniedException")
	_, err = c.RevokeGrant(ctx, &awskms.RevokeGrantInput{KeyId: key, GrantId: first.GrantId})
	if err == nil {
		t.Error("a grant that was retired was revoked")
	}
}

func TestSDKRotation(t *testing.T) {
	t.Parallel()
	ctx, c := context.Background(), serve(t).sdk()
	key := createKey(t, c, awskms.CreateKeyInput{})
	must[awskms.EnableKeyRotationOutput](t)(c.EnableKeyRotation(ctx, &awskms.EnableKeyRotationInput{KeyId: key, RotationPeriodInDays: aws.Int32(90)}))
	status := must[awskms.GetKeyRotationStatusOutput](t)(c.GetKeyRotationStatus(ctx, &awskms.GetKeyRotationStatusInput{KeyId: key}))
	if !status.KeyRotationEnabled || aws.ToInt32(status.RotationPeriodInDays) != 90 || status.NextRotationDate == nil {
		t.Errorf("got %+v", status)
	}
	must[awskms.DisableKeyRotationOutput](t)(c.DisableKeyRotation(ctx, &awskms.DisableKeyRotationInput{KeyId: key}))
	must[awskms.RotateKeyOnDemandOutput](t)(c.RotateKeyOnDemand(ctx, &awskms.RotateKeyOnDemandInput{KeyId: key}))
	for p := awskms.NewListKeyRotationsPaginator(c, &awskms.ListKeyRotationsInput{KeyId: key, Limit: aws.Int32(1), IncludeKeyMaterial: types.IncludeKeyMaterialAllKeyMaterial}); p.HasMorePages(); {
		for _, r := range must[awskms.ListKeyRotationsOutput](t)(p.NextPage(ctx)).Rotations {
			if len(aws.ToString(r.KeyMaterialId)) != 64 || r.KeyMaterialState == "" {
				t.Errorf("got %+v", r)
			}
		}
	}
	_, err := c.EnableKeyRotation(ctx, &awskms.EnableKeyRotationInput{KeyId: key, RotationPeriodInDays: aws.Int32(89)})
	coded(t, err, "ValidationException")
	hmac := createKey(t, c, awskms.CreateKeyInput{KeySpec: types.KeySpecHmac256, KeyUsage: types.KeyUsageTypeGenerateVerifyMac})
	_, err = c.EnableKeyRotation(ctx, &awskms.EnableKeyRotationInput{KeyId: hmac})
	typed[*types.UnsupportedOperationException](t, err)
}

func TestSDKImport(t *testing.T) {
	t.Parallel()
	ctx, c := context.Background(), serve(t).sdk()
	key := createKey(t, c, awskms.CreateKeyInput{Origin: types.OriginTypeExternal})
	_, err := c.Encrypt(ctx, &awskms.EncryptInput{KeyId: key, Plaintext: []byte("x")})
	typed[*types.KMSInvalidStateException](t, err)
	p := must[awskms.GetParametersForImportOutput](t)(c.GetParametersForImport(ctx, &awskms.GetParametersForImportInput{
		KeyId: key, WrappingAlgorithm: types.AlgorithmSpecRsaesOaepSha256, WrappingKeySpec: types.WrappingKeySpecRsa2048,
	}))
	public, err := x509.ParsePKIXPublicKey(p.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public.(*rsa.PublicKey), bytes.Repeat([]byte{7}, 32), nil)
	if err != nil {
		t.Fatal(err)
	}
	until := time.Now().Add(48*time.Hour + 123*time.Millisecond).Truncate(time.Millisecond)
	in := &awskms.ImportKeyMaterialInput{
		KeyId: key, ImportToken: p.ImportToken, EncryptedKeyMaterial: wrapped, ExpirationModel: types.ExpirationModelTypeKeyMaterialExpires, ValidTo: &until,
	}
	imported := must[awskms.ImportKeyMaterialOutput](t)(c.ImportKeyMaterial(ctx, in))
	m := must[awskms.DescribeKeyOutput](t)(c.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: key})).KeyMetadata
	if m.KeyState != types.KeyStateEnabled || m.ValidTo == nil || m.ValidTo.Unix() != until.Unix() {
		t.Errorf("got %+v, want valid to %v", m, until)
	}
	must[awskms.EncryptOutput](t)(c.Encrypt(ctx, &awskms.EncryptInput{KeyId: key, Plaintext: []byte("x")}))
	deleted := must[awskms.DeleteImportedKeyMaterialOutput](t)(c.DeleteImportedKeyMaterial(ctx, &awskms.DeleteImportedKeyMaterialInput{KeyId: key}))
	if aws.ToString(deleted.KeyMaterialId) != aws.ToString(imported.KeyMaterialId) {
		t.Errorf("got %s", aws.ToString(deleted.KeyMaterialId))
	}
	in.ImportToken = []byte("another")
	_, err = c.ImportKeyMaterial(ctx, in)
	typed[*types.InvalidImportTokenException](t, err)
	_, err = c.GetParametersForImport(ctx, &awskms.GetParametersForImportInput{
		KeyId: createKey(t, c, awskms.CreateKeyInput{}), WrappingAlgorithm: types.AlgorithmSpecRsaesOaepSha256, WrappingKeySpec: types.WrappingKeySpecRsa2048,
	})
	typed[*types.UnsupportedOperationException](t, err)
}

func TestSDKMultiRegionKeys(t *testing.T) {
	t.Parallel()
	ctx, s := context.Background(), serve(t)
	c, there := s.sdk(), s.sdk(func(o *awskms.Options) { o.Region = otherRegion })
	key := createKey(t, c, awskms.CreateKeyInput{MultiRegion: aws.Bool(true)})
	replica := must[awskms.ReplicateKeyOutput](t)(c.ReplicateKey(ctx, &awskms.ReplicateKeyInput{
		KeyId: key, ReplicaRegion: aws.String(otherRegion), Tags: []types.Tag{{TagKey: aws.String("a"), TagValue: aws.String("b")}},
	}))
	if len(replica.ReplicaTags) != 1 || aws.ToString(replica.ReplicaPolicy) == "" || *replica.ReplicaKeyMetadata.Arn != strings.Replace(*key, region, otherRegion, 1) {
		t.Errorf("got %+v", replica)
	}
	_, err := c.ReplicateKey(ctx, &awskms.ReplicateKeyInput{KeyId: key, ReplicaRegion: aws.String(otherRegion)})
	typed[*types.AlreadyExistsException](t, err)
	enc := must[awskms.EncryptOutput](t)(c.Encrypt(ctx, &awskms.EncryptInput{KeyId: key, Plaintext: []byte("x")}))
	dec := must[awskms.DecryptOutput](t)(there.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: enc.CiphertextBlob}))
	if *dec.KeyId != *replica.ReplicaKeyMetadata.Arn || string(dec.Plaintext) != "x" {
		t.Errorf("got %+v", dec)
	}
	must[awskms.UpdatePrimaryRegionOutput](t)(c.UpdatePrimaryRegion(ctx, &awskms.UpdatePrimaryRegionInput{KeyId: key, PrimaryRegion: aws.String(otherRegion)}))
	m := must[awskms.DescribeKeyOutput](t)(there.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: replica.ReplicaKeyMetadata.KeyId})).KeyMetadata
	if m.MultiRegionConfiguration == nil || m.MultiRegionConfiguration.MultiRegionKeyType != types.MultiRegionKeyTypePrimary ||
		len(m.MultiRegionConfiguration.ReplicaKeys) != 1 || *m.MultiRegionConfiguration.ReplicaKeys[0].Region != region {
		t.Errorf("got %+v", m.MultiRegionConfiguration)
	}
}

func TestSDKCustomKeyStores(t *testing.T) {
	t.Parallel()
	ctx, c := context.Background(), serve(t).sdk()
	anchor := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("not parsed")}))
	create := func(name, password string) (*awskms.CreateCustomKeyStoreOutput, error) {
		return c.CreateCustomKeyStore(ctx, &awskms.CreateCustomKeyStoreInput{
			CustomKeyStoreName: &name, CloudHsmClusterId: aws.String(cluster), KeyStorePassword: &password, TrustAnchorCertificate: &anchor,
		})
	}
	store := must[awskms.CreateCustomKeyStoreOutput](t)(create("one", "wrong-password")).CustomKeyStoreId
	_, err := create("one", password)
	typed[*types.CustomKeyStoreNameInUseException](t, err)
	state := func() types.CustomKeyStoresListEntry {
		out := must[awskms.DescribeCustomKeyStoresOutput](t)(c.DescribeCustomKeyStores(ctx, &awskms.DescribeCustomKeyStoresInput{CustomKeyStoreId: store}))
		return out.CustomKeyStores[0]
	}
	connect := func(want types.ConnectionStateType) types.CustomKeyStoresListEntry {
		must[awskms.ConnectCustomKeyStoreOutput](t)(c.ConnectCustomKeyStore(ctx, &awskms.ConnectCustomKeyStoreInput{CustomKeyStoreId: store}))
		for {
			if now := state(); now.ConnectionState != types.ConnectionStateTypeConnecting {
				if now.ConnectionState != want {
					t.Fatalf("got %s, want %s", now.ConnectionState, want)
				}
				return now
			}
		}
	}
	if failed := connect(types.ConnectionStateTypeFailed); failed.ConnectionErrorCode != types.ConnectionErrorCodeTypeInvalidCredentials {
		t.Errorf("got %s", failed.ConnectionErrorCode)
	}
	must[awskms.DisconnectCustomKeyStoreOutput](t)(c.DisconnectCustomKeyStore(ctx, &awskms.DisconnectCustomKeyStoreInput{CustomKeyStoreId: store}))
	must[awskms.UpdateCustomKeyStoreOutput](t)(c.UpdateCustomKeyStore(ctx, &awskms.UpdateCustomKeyStoreInput{CustomKeyStoreId: store, KeyStorePassword: aws.String(password)}))
	_, err = c.CreateKey(ctx, &awskms.CreateKeyInput{Origin: types.OriginTypeAwsCloudhsm, CustomKeyStoreId: store})
	typed[*types.CustomKeyStoreInvalidStateException](t, err)
	connect(types.ConnectionStateTypeConnected)
	key := createKey(t, c, awskms.CreateKeyInput{Origin: types.OriginTypeAwsCloudhsm, CustomKeyStoreId: store})
	enc := must[awskms.EncryptOutput](t)(c.Encrypt(ctx, &awskms.EncryptInput{KeyId: key, Plaintext: []byte("x")}))
	must[awskms.DisconnectCustomKeyStoreOutput](t)(c.DisconnectCustomKeyStore(ctx, &awskms.DisconnectCustomKeyStoreInput{CustomKeyStoreId: store}))
	_, err = c.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: enc.CiphertextBlob})
	typed[*types.KMSInvalidStateException](t, err)
	_, err = c.DeleteCustomKeyStore(ctx, &awskms.DeleteCustomKeyStoreInput{CustomKeyStoreId: store})
	typed[*types.CustomKeyStoreHasCMKsException](t, err)
	_, err = c.DeleteCustomKeyStore(ctx, &awskms.DeleteCustomKeyStoreInput{CustomKeyStoreId: aws.String("cks-none")})
	typed[*types.CustomKeyStoreNotFoundException](t, err)
	_, err = c.CreateCustomKeyStore(ctx, &awskms.CreateCustomKeyStoreInput{
		CustomKeyStoreName: aws.String("xks"), CustomKeyStoreType: types.CustomKeyStoreTypeExternalKeyStore,
		XksProxyAuthenticationCredential: &types.XksProxyAuthenticationCredentialType{AccessKeyId: aws.String("A"), RawSecretAccessKey: aws.String("B")},
	})
	typed[*types.UnsupportedOperationException](t, err)
}

func TestSDKOperationsThatAreNotThere(t *testing.T) {
	t.Parallel()
	ctx, c := context.Background(), serve(t).sdk()
	key := createKey(t, c, awskms.CreateKeyInput{})
	_, err := c.Encapsulate(ctx, &awskms.EncapsulateInput{KeyId: key, EncapsulationAlgorithm: "ML_KEM"})
	coded(t, err, "UnknownOperationException")
	_, err = c.GenerateDataKey(ctx, &awskms.GenerateDataKeyInput{
		KeyId: key, KeySpec: types.DataKeySpecAes256,
		Recipient: &types.RecipientInfo{AttestationDocument: []byte("x"), KeyEncryptionAlgorithm: types.KeyEncryptionMechanismRsaesOaepSha256},
	})
	typed[*types.UnsupportedOperationException](t, err)
	_, err = c.CreateKey(ctx, &awskms.CreateKeyInput{KeySpec: types.KeySpecSm2, KeyUsage: types.KeyUsageTypeSignVerify})
	typed[*types.UnsupportedOperationException](t, err)
	_, err = c.CreateKey(ctx, &awskms.CreateKeyInput{KeySpec: "ML_KEM_768", KeyUsage: "KEY_ENCAPSULATION"})
	coded(t, err, "ValidationException")
}
