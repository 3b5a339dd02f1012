package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/go-json-experiment/json"

	"cardea/internal/adminapi"
	"cardea/internal/identity"
)

// Where the keys are.
const (
	account = "111122223333"
	region  = "eu-central-1"
)

// accessKey is whose signature requests bear.
type accessKey struct{ ID, Secret string }

// keyServer is the key service under load, alone in its process.
type keyServer struct {
	*server
	dir, database string
	admin         *adminapi.Client
	root          accessKey // of the administrator: a user with an identity policy that allows everything
}

// startKeys runs the key service on a database, "sqlite" or a URL. Its root key is
// in a file, so that no custodians are needed.
func startKeys(ctx context.Context, exe, dir, database string) (*keyServer, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	root, socket := filepath.Join(dir, "root.hex"), filepath.Join(dir, "a.sock")
	if _, err := os.Stat(root); err != nil {
		key := make([]byte, 32)
		rand.Read(key)
		if err := os.WriteFile(root, []byte(hex.EncodeToString(key)), 0o600); err != nil {
			return nil, err
		}
	}
	if database == "sqlite" {
		database = "sqlite:" + filepath.Join(dir, "keys.db")
	}
	config := filepath.Join(dir, "cardea.toml")
	text := fmt.Sprintf("[node]\nname = \"bench\"\ndata_dir = %q\n[vault]\nlisten = \"\"\n[ops]\nlisten = \"127.0.0.1:0\"\n"+
		"[key_service]\nlisten = \"127.0.0.1:0\"\nregions = [%q]\nadmin_socket = %q\nroot_key_file = %q\ninsecure_root_key_without_custodians = true\n"+
		"[key_service.database]\nurl = %q\n", dir, region, socket, root, database)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	s, err := launch(ctx, exe, config, "keys")
	if err != nil {
		return nil, err
	}
	return &keyServer{server: s, dir: dir, database: database, admin: adminapi.NewClient(socket)}, nil
}

// restart stops the server, has something done to its database, and starts it again.
func (s *keyServer) restart(ctx context.Context, exe string, meanwhile func() error) error {
	if err := s.stop(); err != nil {
		return err
	}
	if err := meanwhile(); err != nil {
		return err
	}
	again, err := startKeys(ctx, exe, s.dir, s.database)
	if err != nil {
		return err
	}
	s.server = again.server
	return nil
}

// bootstrap makes the account and its administrator.
func (s *keyServer) bootstrap(ctx context.Context) error {
	var b identity.Bootstrapped
	if err := s.admin.Call(ctx, "identity/Bootstrap", &identity.BootstrapInput{Account: identity.CreateAccountInput{ID: account}}, &b); err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	defer b.Destroy()
	s.root = accessKey{b.Key.ID, string(b.Key.Secret.Expose())}
	return nil
}

// user makes a user without any policy, who can do what grants allow.
func (s *keyServer) user(ctx context.Context, name string) (accessKey, error) {
	if err := s.admin.Call(ctx, "identity/CreateUser", &identity.CreateUserInput{Account: account, Name: name}, nil); err != nil {
		return accessKey{}, err
	}
	var k identity.NewAccessKey
	if err := s.admin.Call(ctx, "identity/CreateAccessKey", &identity.EntityInput{Account: account, Name: name}, &k); err != nil {
		return accessKey{}, err
	}
	defer k.Destroy()
	return accessKey{k.ID, string(k.Secret.Expose())}, nil
}

// sign makes a whole request, with the headers that the AWS SDK for Go sends. It is
// good for five minutes.
func sign(k accessKey, addr, op string, body []byte) ([]byte, error) {
	r, err := http.NewRequest(http.MethodPost, "http://"+addr+"/", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "TrentService."+op)
	r.Header.Set("User-Agent", "aws-sdk-go-v2/1.47.7 ua/2.1 os/linux lang/go#1.26 md/GOOS#linux md/GOARCH#amd64 api/kms#1.62.4 m/E,e")
	r.Header.Set("Amz-Sdk-Invocation-Id", "8f3a0f0e-6f0c-4a39-a2ab-53d2b0a6c1d4")
	r.Header.Set("Amz-Sdk-Request", "attempt=1; max=3")
	r.Header.Set("Accept-Encoding", "identity")
	sum := sha256.Sum256(body)
	err = v4.NewSigner().SignHTTP(context.Background(), aws.Credentials{AccessKeyID: k.ID, SecretAccessKey: k.Secret}, r, hex.EncodeToString(sum[:]), "kms", region, time.Now())
	if err != nil {
		return nil, err
	}
	var raw bytes.Buffer
	if err := r.Write(&raw); err != nil {
		return nil, err
	}
	return raw.Bytes(), nil
}

// ring are requests that were signed beforehand, to be sent again and again: to
// sign in the loop would measure the client.
type ring [][]byte

// signAll makes a ring of requests, body by body.
func signAll(k accessKey, addr, op string, n int, body func(i int) []byte) (ring, error) {
	out := make(ring, n)
	for i := range out {
		var err error
		if out[i], err = sign(k, addr, op, body(i)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// next sends the ring's requests so that connections do not send the same at once.
func (r ring) next(_ []byte, w, i int) []byte { return r[(w*7919+i*31)%len(r)] }

// ask sends one request after the other and decodes the answers.
func ask[O any](k accessKey, addr, op string, conns, n int, body func(i int) []byte) ([]O, error) {
	requests, err := signAll(k, addr, op, n, body)
	if err != nil {
		return nil, err
	}
	out := make([]O, n)
	err = parallel(addr, conns, func(w int, c *conn) error {
		for i := w; i < n; i += conns {
			answer, err := c.send(requests[i])
			if err != nil {
				return fmt.Errorf("%s: %w", op, err)
			}
			if len(answer) == 0 {
				continue
			}
			if err := json.Unmarshal(answer, &out[i]); err != nil {
				return fmt.Errorf("%s: %w", op, err)
			}
		}
		return nil
	})
	return out, err
}

// createKeys makes symmetric keys with the policy that AWS gives by default, and
// returns their ARNs.
func (s *keyServer) createKeys(n int) ([]string, error) {
	out, err := ask[struct{ KeyMetadata struct{ Arn string } }](s.root, s.addr, "CreateKey", min(64, n), n, func(int) []byte { return []byte(`{}`) })
	arns := make([]string, len(out))
	for i := range out {
		arns[i] = out[i].KeyMetadata.Arn
	}
	return arns, err
}

// keyID is the id in a key's ARN.
func keyID(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }
