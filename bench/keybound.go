package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"cardea/internal/audit"
	"cardea/internal/ciphertext"
	"cardea/internal/hsm/soft"
	"cardea/internal/httpd"
	"cardea/internal/iam"
	"cardea/internal/kms"
	"cardea/internal/kms/kmstest"
	"cardea/internal/kmsapi"
	"cardea/internal/secret"
	"cardea/internal/sigv4"
)

// boundVariable tells a process of this program to be the bound of the key service,
// as JSON of boundOptions.
const boundVariable = "CARDEA_BENCH_BOUND"

// boundOptions is what such a process is told.
type boundOptions struct {
	Key accessKey
	// Same asks for the product's own handler and service, called by the root user, of
	// which the store discards entries.
	Same bool
}

// startBound runs a bound of the key service: a process that does the same for a
// request but neither looks for permission nor records anything, and has no store.
// It has the same HTTP stack, signature verifier, JSON library and sealing.
func startBound(ctx context.Context, k accessKey, same bool) (*server, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(boundOptions{k, same})
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, exe)
	cmd.Env = append(os.Environ(), boundVariable+"="+string(text))
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	var addr string
	if _, err := fmt.Fscanln(stdout, &addr); err != nil {
		return nil, fmt.Errorf("the bound did not start: %w", err)
	}
	return &server{cmd: cmd, addr: addr}, nil
}

// bound answers Encrypt, Decrypt and GenerateDataKey of one key.
type bound struct {
	key      secret.Bytes
	secret   string
	material string
	verifier *sigv4.Verifier
	buffers  sync.Pool
}

// rootUser is who calls.
var rootUser = &iam.Subject{Caller: iam.Caller{Type: iam.CallerRoot, ARN: "arn:aws:iam::" + account + ":root", Account: account, ID: account}}

// Lookup implements sigv4.Keys for anybody.
func (b *bound) Lookup(_ context.Context, id string) (sigv4.Credential, error) {
	return sigv4.Credential{SecretID: id, Principal: rootUser}, nil
}

// Failed and Succeeded implement kmsapi.Identities.
func (b *bound) Failed(context.Context, string, netip.Addr) error { return nil }
func (b *bound) Succeeded(string)                                 {}

// discard is a store that keeps no entries.
type discard struct{ kms.Store }

func (discard) Append(context.Context, ...audit.Sealed) error { return nil }

// sameHandler is the product's own handler with nothing durable behind it.
func sameHandler(b *bound) (http.Handler, error) {
	backend := soft.New(soft.Options{
		Root: func() (secret.Bytes, error) { return secret.Copy(b.key.Expose()), nil }, Unsealed: func() bool { return true },
	})
	service, err := kms.New(kms.Options{
		Node: "bound", Store: discard{kmstest.NewStore()}, Soft: backend, Secrets: backend, Regions: []string{region},
		Accounts: func(_ context.Context, a string) bool { return a == account },
	})
	if err != nil {
		return nil, err
	}
	api, err := kmsapi.New(kmsapi.Options{
		Service: service, Identities: b, STS: struct{ kmsapi.STS }{}, Regions: []string{region}, Metrics: prometheus.NewRegistry(),
	})
	if err != nil {
		return nil, err
	}
	return api.Handler(), nil
}

// Secret implements sigv4.Keys.
func (b *bound) Secret(context.Context, sigv4.Credential) (secret.Bytes, error) {
	return secret.New([]byte(b.secret)), nil
}

// serveBound is the process of the bound.
func serveBound(ctx context.Context, text string) error {
	var o boundOptions
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	// As in cmd/cardea.
	debug.SetGCPercent(400)
	weight := make([]byte, 32<<20)
	defer runtime.KeepAlive(weight)
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	uuid.EnableRandPool()

	material := secret.Random(32)
	b := &bound{key: secret.Random(32), secret: o.Key.Secret, material: hex.EncodeToString(material.Expose())}
	b.buffers.New = func() any { return new(bytes.Buffer) }
	var err error
	b.verifier, err = sigv4.New(sigv4.Options{Keys: b, Service: "kms", Regions: func(r string) bool { return r == region }, AllowUnsignedContentType: true})
	if err != nil {
		return err
	}
	var handler http.Handler = b
	if o.Same {
		if handler, err = sameHandler(b); err != nil {
			return err
		}
	}
	srv, err := httpd.New(httpd.Options{Name: "bound", Addr: "127.0.0.1:0", Handler: handler, Logger: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	if err != nil {
		return err
	}
	if err := srv.Listen(); err != nil {
		return err
	}
	fmt.Println(srv.Addr())
	return srv.Serve(ctx)
}

// boundRequest has the members of all three operations.
type boundRequest struct {
	KeyID             string `json:"KeyId"`
	KeySpec           string
	Plaintext         []byte
	CiphertextBlob    []byte
	EncryptionContext map[string]string
}

// boundAnswer has too.
type boundAnswer struct {
	CiphertextBlob      []byte `json:",omitempty"`
	EncryptionAlgorithm string `json:",omitempty"`
	KeyID               string `json:"KeyId"`
	KeyMaterialID       string `json:"KeyMaterialId,omitempty"`
	Plaintext           []byte `json:",omitempty"`
}

// ServeHTTP implements http.Handler.
func (b *bound) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	in, out := b.buffers.Get().(*bytes.Buffer), b.buffers.Get().(*bytes.Buffer)
	defer b.buffers.Put(in)
	defer b.buffers.Put(out)
	in.Reset()
	out.Reset()
	httpd.SetRoute(r, "/")
	if err := b.answer(r, in, out); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	h := w.Header()
	h["Content-Type"] = []string{"application/x-amz-json-1.1"}
	h["Cache-Control"] = []string{"no-store"}
	h["Content-Length"] = []string{strconv.Itoa(out.Len())}
	h["X-Amzn-Requestid"] = []string{httpd.RequestID(r.Context())}
	h["Date"] = []string{time.Now().UTC().Format(http.TimeFormat)}
	w.Write(out.Bytes())
}

func (b *bound) answer(r *http.Request, text, to *bytes.Buffer) error {
	if _, err := io.Copy(text, r.Body); err != nil {
		return err
	}
	if _, err := b.verifier.Verify(r, text.Bytes()); err != nil {
		return err
	}
	var in boundRequest
	if err := json.Unmarshal(text.Bytes(), &in); err != nil {
		return err
	}
	out := boundAnswer{KeyID: in.KeyID}
	var err error
	switch target, _ := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "TrentService."); target {
	case "Encrypt":
		out.EncryptionAlgorithm = "SYMMETRIC_DEFAULT"
		out.CiphertextBlob, err = b.seal(in, in.Plaintext)
	case "GenerateDataKey":
		key := secret.Random(32)
		defer key.Destroy()
		out.Plaintext, out.KeyMaterialID = key.Expose(), b.material
		out.CiphertextBlob, err = b.seal(in, key.Expose())
	case "Decrypt":
		var blob ciphertext.KMSBlob
		if blob, err = ciphertext.ParseKMSBlob(in.CiphertextBlob); err != nil {
			return err
		}
		var p secret.Bytes
		p, err = ciphertext.OpenBox(b.key, ciphertext.KMSContext(in.CiphertextBlob[:ciphertext.KMSHeaderSize], in.EncryptionContext), blob.Sealed)
		defer p.Destroy()
		out.Plaintext, out.EncryptionAlgorithm, out.KeyMaterialID = p.Expose(), "SYMMETRIC_DEFAULT", b.material
	default:
		err = errors.New("no such operation")
	}
	if err != nil {
		return err
	}
	return json.MarshalWrite(to, &out)
}

func (b *bound) seal(in boundRequest, plaintext []byte) ([]byte, error) {
	header, err := ciphertext.KMSHeader{Account: account, KeyID: keyID(in.KeyID), MaterialID: b.material}.Append(nil)
	if err != nil {
		return nil, err
	}
	sealed, err := ciphertext.SealBox(b.key, ciphertext.KMSContext(header, in.EncryptionContext), plaintext)
	return append(header, sealed...), err
}
