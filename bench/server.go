package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const tenant = "bench"

// build compiles the product as it is released.
func build(ctx context.Context, dir string) (string, error) {
	exe := filepath.Join(dir, "cardea")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", exe, "./cmd/cardea")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return exe, nil
}

// server is the product under load.
type server struct {
	cmd  *exec.Cmd
	addr string
	ops  string // where its metrics are
}

// serverOptions are what differs between servers.
type serverOptions struct {
	database string
	dir      string
	envelope string   // of the tenant; plain if empty
	keys     *keyPair // for the envelope
	batch    string   // environment override of the batch size
}

// keyPair are the keys of vault and tenant for an envelope.
type keyPair struct {
	vault  crypto.PrivateKey
	tenant crypto.PublicKey
}

// start runs 'cardea serve' and waits until it serves.
func start(ctx context.Context, exe string, o serverOptions) (*server, error) {
	master := make([]byte, 32)
	rand.Read(master)
	masterFile := filepath.Join(o.dir, "master.hex")
	if _, err := os.Stat(masterFile); err != nil {
		if err := os.WriteFile(masterFile, []byte(hex.EncodeToString(master)), 0o600); err != nil {
			return nil, err
		}
	}
	extra, locker := "", ""
	if o.envelope == "jwe" {
		vaultKey, tenantKey := filepath.Join(o.dir, "vault.pem"), filepath.Join(o.dir, "tenant.pem")
		if err := writePEM(vaultKey, "PRIVATE KEY", o.keys.vault); err != nil {
			return nil, err
		}
		if err := writePEM(tenantKey, "PUBLIC KEY", o.keys.tenant); err != nil {
			return nil, err
		}
		locker = fmt.Sprintf("[locker]\nprivate_key_file = %q\n", vaultKey)
		extra = fmt.Sprintf("envelope = \"jwe\"\npublic_key_file = %q\n", tenantKey)
	}
	config := filepath.Join(o.dir, "cardea.toml")
	text := fmt.Sprintf("[node]\nname = \"bench\"\ndata_dir = %q\n[vault]\nlisten = \"127.0.0.1:0\"\n[ops]\nlisten = \"127.0.0.1:0\"\n"+
		"[database]\nurl = %q\n%s[tenants.%s]\nmode = \"local\"\nmaster_key_file = %q\ninsecure_master_key_without_custodians = true\n%s",
		o.dir, o.database, locker, tenant, masterFile, extra)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return launch(ctx, exe, config, "vault", o.batch)
}

// launch runs 'cardea serve' and waits until it tells where the part serves.
func launch(ctx context.Context, exe, config, part string, env ...string) (*server, error) {
	cmd := exec.CommandContext(ctx, exe, "serve", "--config", config)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.Env = append(os.Environ(), env...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &server{cmd: cmd}
	var seen strings.Builder
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		seen.WriteString(lines.Text() + "\n")
		line := map[string]any{}
		if json.Unmarshal(lines.Bytes(), &line) != nil || line["msg"] != "serving" {
			continue
		}
		address, _ := line[part].(string)
		u, err := url.Parse(address)
		if err != nil {
			return nil, err
		}
		s.addr = u.Host
		if address, _ = line["ops"].(string); address != "" {
			if u, err = url.Parse(address); err != nil {
				return nil, err
			}
			s.ops = u.Host
		}
		go io.Copy(io.Discard, stderr)
		return s, nil
	}
	return nil, fmt.Errorf("the server did not start:\n%s", seen.String())
}

func (s *server) stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return s.cmd.Wait()
}

// rss is the server's resident memory in MiB.
func (s *server) rss() float64 { return float64(rss(s.cmd.Process.Pid)) / (1 << 20) }

// cpu is the processor time of the server so far (Linux; 0 elsewhere).
func (s *server) cpu() time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100 on Linux
}

func writePEM(path, kind string, key any) error {
	var der []byte
	var err error
	if kind == "PUBLIC KEY" {
		der, err = x509.MarshalPKIXPublicKey(key)
	} else {
		der, err = x509.MarshalPKCS8PrivateKey(key)
	}
	if err != nil {
		return err
	}
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

// testNumber is a network's published test number; customers differ instead.
const testNumber = "4111111111111111"

// storeBody stores the card of a customer of its own.
func storeBody(worker, i int) []byte {
	return fmt.Appendf(nil, `{"merchant_id":"merchant-%d","merchant_customer_id":"customer-%d-%d","card":{"card_number":"%s","name_on_card":"Alice Example","card_exp_month":"12","card_exp_year":"2031"},"ttl":220752000}`,
		worker%16, worker, i, testNumber)
}

// stored is what a store must know to read the card again.
type stored struct{ merchant, customer, reference string }

func (s stored) body() []byte {
	return fmt.Appendf(nil, `{"merchant_id":"%s","merchant_customer_id":"%s","card_reference":"%s"}`, s.merchant, s.customer, s.reference)
}
