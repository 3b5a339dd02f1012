package kmsclient_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"cardea/internal/kmsclient"
	"cardea/internal/secret"
)

// BenchmarkEncrypt compares a call with a bare one of the SDK, over loopback.
func BenchmarkEncrypt(b *testing.B) {
	s := startService(b)
	out, err := s.admin.CreateKey(b.Context(), &awskms.CreateKeyInput{})
	ok(b, err)
	k := kmsclient.Key{ID: *out.KeyMetadata.Arn, Region: region, Endpoint: s.url}
	c := s.client(b, func(o *kmsclient.Options) { o.Rate = -1 })
	bare := awskms.New(awskms.Options{
		BaseEndpoint: &s.url, Region: region, Retryer: aws.NopRetryer{}, HTTPClient: httpClient(b),
		Credentials: credentials.NewStaticCredentialsProvider(s.vault.AccessKeyID, string(s.vault.SecretAccessKey.Expose()), ""),
	})
	plaintext := secret.Random(64)
	b.Run("sdk", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, err := bare.Encrypt(b.Context(), &awskms.EncryptInput{KeyId: &k.ID, Plaintext: plaintext.Expose(), EncryptionContext: tenant})
			ok(b, err)
		}
	})
	b.Run("client", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _, err := c.Encrypt(b.Context(), k, plaintext, tenant)
			ok(b, err)
		}
	})
}
