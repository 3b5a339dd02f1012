package app

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"cardea/internal/adminapi"
	"cardea/internal/config"
	"cardea/internal/identity"
	"cardea/internal/sdkhttp"
)

// TestLastRequestsOfTheVaultStillHaveTheirKeys: a request that the vault accepted
// before it was told to stop needs a key that is not in memory, from the key service
// of the same process.
func TestLastRequestsOfTheVaultStillHaveTheirKeys(t *testing.T) {
	cfg := keyServiceConfig(t, "both", "127.0.0.1:0")
	a, stop := start(t, cfg, time.Now)
	admin := bootstrap(t, a, cfg.KeyService.AdminSocket)
	cfg = a.config
	x := config.DefaultTenant()
	x.Mode = config.ModeKMSEnvelope
	x.KMS = config.TenantKMS{KeyID: makeKey(t, admin, &awskms.CreateKeyInput{}), Endpoint: a.Keys().URL(), Oversize: config.OversizeRefuse}
	cfg.Tenants = map[string]config.Tenant{"t": x}
	cfg.Derive("")
	if err := a.Reload(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}

	const body = `{"merchant_id":"m","merchant_customer_id":"c","requestor_card_reference":"r","card":{"card_number":"4111111111111111"}}`
	u, err := url.Parse(a.Vault().URL())
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "POST /data/add HTTP/1.1\r\nHost: %s\r\nx-tenant-id: t\r\nContent-Type: application/json\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n",
		u.Host, len(body))
	r := bufio.NewReader(c)
	if line, err := r.ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") {
		t.Fatal(line, err)
	}
	if _, err := r.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan struct{})
	go func() {
		stop()
		close(stopped)
	}()
	for { // until nothing more is accepted
		other, err := net.Dial("tcp", u.Host)
		if err != nil {
			break
		}
		other.Close()
	}
	if _, err := io.WriteString(c, body); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil || res.StatusCode != http.StatusOK {
		t.Errorf("%d %s, %v", res.StatusCode, answer, err)
	}
	<-stopped
}

// bootstrap makes the key service's first account. Its administrator's credentials
// become the environment's.
func bootstrap(t *testing.T, a *App, socket string) *awskms.Client {
	t.Helper()
	var b identity.Bootstrapped
	client := adminapi.NewClient(socket)
	for { // until it listens
		in := &identity.BootstrapInput{Account: identity.CreateAccountInput{ID: "111122223333"}}
		if err := client.Call(t.Context(), "identity/Bootstrap", in, &b); err == nil {
			break
		} else if t.Context().Err() != nil || !strings.Contains(err.Error(), "connect") {
			t.Fatal(err)
		}
	}
	creds := aws.Credentials{AccessKeyID: b.Key.ID, SecretAccessKey: string(b.Key.Secret.Expose())}
	t.Setenv("AWS_ACCESS_KEY_ID", creds.AccessKeyID)
	t.Setenv("AWS_SECRET_ACCESS_KEY", creds.SecretAccessKey)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	return awskms.New(awskms.Options{
		BaseEndpoint: aws.String(a.Keys().URL()), Region: kmsRegion, Retryer: aws.NopRetryer{}, HTTPClient: sdkhttp.New(http.DefaultClient),
		Credentials: credentials.StaticCredentialsProvider{Value: creds},
	})
}
