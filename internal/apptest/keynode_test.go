package apptest

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"cardea/internal/adminapi"
	"cardea/internal/identity"
	"cardea/internal/sdkhttp"
	"cardea/internal/secret"
)

// Where the keys of these tests are.
const (
	keyAccount = "111122223333"
	keyRegion  = "eu-central-1"
)

// keyInstallation is an installation that serves keys alone, with an administrator.
type keyInstallation struct {
	*installation
	admin *adminapi.Client
	root  string // file of the root key
	creds aws.Credentials
}

// installKeys writes a configuration of a key service that unseals itself, because
// no custodian comes after a SIGKILL.
func installKeys(t *testing.T, database string) *keyInstallation {
	t.Helper()
	dir := t.TempDir()
	sockets, err := os.MkdirTemp("", "cardea") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(sockets) })
	socket := filepath.Join(sockets, "s")
	key := secret.Random(32)
	in := &keyInstallation{
		installation: &installation{dir: dir, config: filepath.Join(dir, "cardea.toml")},
		admin:        adminapi.NewClient(socket), root: filepath.Join(dir, "root.hex"),
	}
	write(t, in.root, hex.EncodeToString(key.Expose()))
	write(t, in.config, fmt.Sprintf(`
[node]
name = "crash"
data_dir = %q
[vault]
listen = ""
[ops]
listen = "127.0.0.1:0"
[log]
format = "json"
level = "info"
[key_service]
listen = "127.0.0.1:0"
regions = [%q]
admin_socket = %q
root_key_file = %q
insecure_root_key_without_custodians = true
[key_service.database]
url = %q
`, dir, keyRegion, socket, in.root, databases[database](t, dir)))
	return in
}

// bootstrap makes the first account and its administrator on a running node.
func (in *keyInstallation) bootstrap(t *testing.T) {
	t.Helper()
	var b identity.Bootstrapped
	err := in.admin.Call(t.Context(), "identity/Bootstrap", &identity.BootstrapInput{Account: identity.CreateAccountInput{ID: keyAccount}}, &b)
	if err != nil {
		t.Fatal(err)
	}
	in.creds = aws.Credentials{AccessKeyID: b.Key.ID, SecretAccessKey: string(b.Key.Secret.Expose())}
}

// sdk is a client of the AWS SDK that tries once.
func sdk(n *node, c aws.Credentials, callers int) *kms.Client {
	return kms.New(kms.Options{
		BaseEndpoint: aws.String(n.url), Region: keyRegion, Retryer: aws.NopRetryer{},
		Credentials: credentials.StaticCredentialsProvider{Value: c},
		HTTPClient:  sdkhttp.New(&http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: callers}, Timeout: patience}),
	})
}
