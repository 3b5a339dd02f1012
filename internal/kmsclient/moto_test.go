package kmsclient_test

import (
	"bytes"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"cardea/internal/kmsclient"
	"cardea/internal/kmsclient/faultproxy"
	"cardea/internal/secret"
)

// moto starts moto, a KMS that we did not write.
func moto(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("moto_server")
	if err != nil {
		t.Skip("moto_server is not here: pip install 'moto[server]'")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	var log bytes.Buffer
	cmd := exec.CommandContext(t.Context(), path, "-H", "127.0.0.1", "-p", port)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Skipf("moto_server does not start: %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
	})
	url := "http://127.0.0.1:" + port
	client := httpClient(t)
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		res, err := client.Get(url + "/moto-api/")
		if err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return url
			}
		}
		select {
		case err := <-ended:
			ended <- err
			t.Skipf("moto_server does not run here: %v\n%s", err, log.String())
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("moto_server did not start within a minute:\n%s", log.String())
		}
	}
}

func TestAgainstMoto(t *testing.T) {
	t.Parallel()
	url := moto(t)
	s := &service{url: url, here: faultproxy.New(t, url), there: faultproxy.New(t, url), vault: anybody()}
	s.admin = awskms.New(awskms.Options{
		BaseEndpoint: &s.url, Region: region, Retryer: aws.NopRetryer{}, HTTPClient: httpClient(t),
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
