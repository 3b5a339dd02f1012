package kmsclient_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"cardea/internal/awstest"
	"cardea/internal/kmsclient"
	"cardea/internal/kmsclient/faultproxy"
	"cardea/internal/sdkhttp"
	"cardea/internal/secret"
)

func TestAgainstMoto(t *testing.T) {
	t.Parallel()
	url := awstest.Moto(t)
	s := &service{url: url, here: faultproxy.New(t, url), there: faultproxy.New(t, url), vault: anybody()}
	s.admin = awskms.New(awskms.Options{
		BaseEndpoint: &s.url, Region: region, Retryer: aws.NopRetryer{}, HTTPClient: sdkhttp.New(httpClient(t)),
		Credentials: credentials.NewStaticCredentialsProvider("AKIAEXAMPLE", "secret", ""),
	})
	c := s.client(t)
	k, to, mac := s.newKey(t), s.newKey(t), s.newKey(t, hmacKey)

	c.works(t, k)
	ok(t, c.Check(t.Context(), k))
	d, err := c.GenerateDataKey(t.Context(), k, tenant)
	ok(t, err)
	defer d.Plaintext.Destroy()
	p, err := c.Decrypt(t.Context(), k, d.Blob, tenant)
	ok(t, err)
	defer p.Destroy()
	if !p.Equal(d.Plaintext) || d.KeyARN != k.ID {
		t.Errorf("the data key does not come back, or is of %s", d.KeyARN)
	}
	_, err = c.Decrypt(t.Context(), k, d.Blob, map[string]string{"tenant": "t2"})
	is(t, err, kmsclient.ErrWrongContext)
	moved, _, err := c.ReEncrypt(t.Context(), k, d.Blob, tenant, to, tenant)
	ok(t, err)
	q, err := c.Decrypt(t.Context(), to, moved, tenant)
	ok(t, err)
	defer q.Destroy()
	if !q.Equal(d.Plaintext) {
		t.Error("the blob opens to another key after it was moved")
	}
	a, err := c.GenerateMAC(t.Context(), mac, []byte("x"))
	ok(t, err)
	b, err := c.GenerateMAC(t.Context(), mac, []byte("x"))
	ok(t, err)
	if !bytes.Equal(a, b) {
		t.Error("MACs are not a function of the message")
	}

	missing := k
	missing.ID = missing.ID[:len(missing.ID)-8] + "00000000"
	is(t, c.encrypt(t, missing), kmsclient.ErrNotFound)
	is(t, c.Check(t.Context(), missing), kmsclient.ErrNotFound)
	_, id, _ := strings.Cut(to.ID, "key/") // moto fails if it is named by its ARN
	_, err = s.admin.DisableKey(t.Context(), &awskms.DisableKeyInput{KeyId: &id})
	ok(t, err)
	is(t, c.Check(t.Context(), to), kmsclient.ErrDisabled)

	multi := s.replicated(t) // of which moto opens nothing: it cuts the id off
	ok(t, c.encrypt(t, multi))
	s.here.Set(faultproxy.Reset())
	_, arn, err := c.Encrypt(t.Context(), multi, secret.Copy([]byte("x")), tenant)
	ok(t, err)
	if arn != multi.ID || !strings.Contains(arn, "mrk-") {
		t.Errorf("got %s", arn)
	}
}
