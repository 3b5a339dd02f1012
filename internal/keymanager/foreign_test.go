package keymanager

import (
	"errors"
	"net/http"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"cardea/internal/awstest"
	"cardea/internal/kmsclient"
	"cardea/internal/kmsclient/faultproxy"
	"cardea/internal/sdkhttp"
	"cardea/internal/secret"
	"cardea/internal/vault"
)

// newForeignNode is a vault's keys before a KMS that we did not write.
func newForeignNode(t *testing.T, url string, mode vault.Mode) *realNode {
	t.Helper()
	n := &realNode{proxy: faultproxy.New(t, url), inv: newInventory(), modes: vault.NewTenants(vault.Tenant{Name: "acme", Mode: mode})}
	keys := KMSKeys{Key: n.foreignKey(t, url, &awskms.CreateKeyInput{})}
	if mode == vault.ModeKMS {
		keys.MAC = n.foreignKey(t, url, &awskms.CreateKeyInput{KeySpec: types.KeySpecHmac256, KeyUsage: types.KeyUsageTypeGenerateVerifyMac})
	}
	n.use(t, kmsclient.Credentials{AccessKeyID: "AKIAEXAMPLE", SecretAccessKey: secret.Copy([]byte("secret"))}, keys)
	return n
}

func (n *realNode) foreignKey(t *testing.T, url string, in *awskms.CreateKeyInput) kmsclient.Key {
	t.Helper()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	admin := awskms.New(awskms.Options{
		BaseEndpoint: &url, Region: testRegion, Retryer: aws.NopRetryer{}, HTTPClient: sdkhttp.New(&http.Client{Transport: transport}),
		Credentials: credentials.NewStaticCredentialsProvider("AKIAEXAMPLE", "secret", ""),
	})
	out, err := admin.CreateKey(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return kmsclient.Key{ID: *out.KeyMetadata.Arn, Region: testRegion, Endpoint: n.proxy.URL}
}

// TestModesOnMoto: what holds on the embedded key service holds on a KMS that we did
// not write. Not tried, for moto cannot show it: revoked access and clock skew (it
// verifies no signature, evaluates no policy and answers everybody), a disabled key (it
// encrypts and decrypts under one), a replica in a Region (it cuts the id of a
// multi-Region key off in its ciphertext, which then opens nowhere), and one audit entry
// a call (it keeps no record of calls; the proxy before it counts them).
func TestModesOnMoto(t *testing.T) {
	t.Parallel()
	modesOn(t, awstest.Moto(t))
}

// TestModesOnLocalKMS: the same on another one.
func TestModesOnLocalKMS(t *testing.T) {
	t.Parallel()
	modesOn(t, awstest.LocalKMS(t, "111122223333", testRegion))
}

func modesOn(t *testing.T, url string) {
	t.Helper()
	for _, mode := range modesOfKMS {
		t.Run(mode.String(), func(t *testing.T) {
			newForeignNode(t, url, mode).works(t, mode)
			newForeignNode(t, url, mode).recovers(t, mode)
			newForeignNode(t, url, mode).takesUp(t, url)
		})
	}
	t.Run("cold callers", func(t *testing.T) { newForeignNode(t, url, vault.ModeKMSEnvelope).coldCallers(t) })
	t.Run("longest record", func(t *testing.T) {
		n, c := newForeignNode(t, url, vault.ModeKMS), card("acme", "m")
		longest := secret.New(make([]byte, maxDirect))
		s, err := n.Seal(t.Context(), c, longest)
		if err != nil {
			t.Fatal(err)
		}
		p, err := n.Open(t.Context(), c, s)
		if err != nil || !p.Equal(longest) {
			t.Errorf("%v, or something else", err)
		}
	})
}

// takesUp goes over to another KMS key: what was sealed opens, and is sealed anew
// under the other; without its former key the tenant has lost it.
func (n *realNode) takesUp(t *testing.T, url string) {
	t.Helper()
	c := card("acme", "m")
	s := mustSeal(t, n, c)
	was := n.tenants.All()["acme"]
	next := was
	next.Key = n.foreignKey(t, url, &awskms.CreateKeyInput{})
	next.Previous = []string{was.Key.ID}
	n.tenants.Replace(map[string]KMSKeys{"acme": next})
	n.Forget("acme")
	mustOpen(t, n, c, s)
	purpose, holder := vault.PurposeRecord, "m"
	if s.Mode == vault.ModeKMS {
		purpose, holder = vault.PurposeDirect, ""
	}
	if _, err := n.Rotate(t.Context(), "acme", holder, purpose, "operator"); err != nil {
		t.Fatal(err)
	}
	moved, err := n.Reseal(t.Context(), c, s)
	if err != nil {
		t.Fatal(err)
	}
	next.Previous = nil
	n.tenants.Replace(map[string]KMSKeys{"acme": next})
	n.Forget("acme")
	mustOpen(t, n, c, moved)
	if _, err := n.Open(t.Context(), c, s); !errors.Is(err, vault.ErrKeyUnavailable) {
		t.Errorf("under a key that is no longer configured: %v", err)
	}
}

// coldCallers ask at once for a key that nobody has in memory: the KMS is asked once.
func (n *realNode) coldCallers(t *testing.T) {
	t.Helper()
	c := card("acme", "m")
	s := mustSeal(t, n, c)
	mustOpen(t, n, c, s)
	if asked := n.proxy.Asked("GenerateDataKey"); asked != 1 || n.proxy.Asked("Decrypt") != 0 {
		t.Errorf("%d data keys were made for one record", asked)
	}
	n.Forget("acme")
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			p, err := n.Open(t.Context(), c, s)
			if err != nil {
				t.Error(err)
			}
			p.Destroy()
		})
	}
	wg.Wait()
	if asked := n.proxy.Asked("Decrypt"); asked != 1 {
		t.Errorf("64 cold callers asked the KMS %d times", asked)
	}
}

func TestColdCallersAskTheKeyServiceOnce(t *testing.T) {
	t.Parallel()
	newRealNode(t, vault.ModeKMSEnvelope).coldCallers(t)
}
