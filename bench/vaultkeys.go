package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"cardea/internal/adminapi"
)

// measureVaultKeys measures what it costs the vault to have its keys elsewhere, and
// what replacing them costs.
func measureVaultKeys(ctx context.Context, o options, r *report, exe, dir string) error {
	keys, err := startKeys(ctx, exe, filepath.Join(dir, "vault-keys"), "sqlite")
	if err != nil {
		return err
	}
	if err := keys.bootstrap(ctx); err != nil {
		return err
	}
	client, transport := sdk("http://"+keys.addr, keys.root, o.conns)
	defer transport.CloseIdleConnections()
	var arns [2]string
	for i, in := range []*kms.CreateKeyInput{{}, {KeySpec: types.KeySpecHmac256, KeyUsage: types.KeyUsageTypeGenerateVerifyMac}} {
		out, err := client.CreateKey(ctx, in)
		if err != nil {
			return err
		}
		arns[i] = *out.KeyMetadata.Arn
	}
	k := vaultKMS{keyServer: keys, url: "http://" + keys.addr, key: arns[0], mac: arns[1]}
	if strings.Contains(o.vaultParts, "direct") {
		if err := measureDirect(ctx, o, r, exe, filepath.Join(dir, "direct"), k, "aws_kms", o.keyConns()); err != nil {
			return fmt.Errorf("aws_kms: %w", err)
		}
		away, stop, err := relay(keys.addr, awayTime)
		if err != nil {
			return err
		}
		defer stop()
		far := k
		far.url = "http://" + away
		if err := measureDirect(ctx, o, r, exe, filepath.Join(dir, "far"), far, fmt.Sprintf("aws_kms, %s away,", awayTime), []int{16}); err != nil {
			return fmt.Errorf("aws_kms, away: %w", err)
		}
	}
	if strings.Contains(o.vaultParts, "envelope") {
		if err := measureModes(ctx, o, r, exe, dir, k); err != nil {
			return fmt.Errorf("aws_kms_envelope: %w", err)
		}
	}
	if err := keys.stop(); err != nil || !strings.Contains(o.vaultParts, "rotate") {
		return err
	}
	for _, db := range strings.Split(o.databases, ",") {
		if err := measureReencrypt(ctx, o, r, exe, filepath.Join(dir, "reencrypt-"+db), db); err != nil {
			return fmt.Errorf("re-encryption on %s: %w", db, err)
		}
	}
	return nil
}

// vaultKMS are the key service and the keys that a vault uses in it.
type vaultKMS struct {
	*keyServer
	url      string // as the vault reaches it
	key, mac string
}

// awayTime is how long a call to a KMS in the same Region is under way, about.
const awayTime = 5 * time.Millisecond

// relay passes connections on to addr and holds up every answer by d.
func relay(addr string, d time.Duration) (at string, stop func() error, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return // it was stopped
			}
			far, err := net.Dial("tcp", addr)
			if err != nil {
				near.Close()
				continue
			}
			go func() {
				defer near.Close()
				for buf := make([]byte, 64<<10); ; {
					n, err := far.Read(buf)
					if bytes.HasPrefix(buf[:n], []byte("HTTP/")) {
						time.Sleep(d)
					}
					if _, werr := near.Write(buf[:n]); err != nil || werr != nil {
						return
					}
				}
			}()
			go func() {
				defer far.Close()
				io.Copy(far, near)
			}()
		}
	}()
	return l.Addr().String(), l.Close, nil
}

// vaultServer is a vault whose operator can be asked.
type vaultServer struct {
	*server
	config string
	admin  *adminapi.Client
}

// startVault runs a vault whose tenant is in a mode, with more settings of it.
func startVault(ctx context.Context, exe, dir, database, mode, more string, k *vaultKMS) (*vaultServer, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	var env []string
	if k != nil {
		more += fmt.Sprintf("[tenants.%s.kms]\nkey_id = %q\nendpoint = %q\n", tenant, k.key, k.url)
		if mode == "aws_kms" {
			more += fmt.Sprintf("mac_key_id = %q\n", k.mac)
		}
		env = []string{"AWS_ACCESS_KEY_ID=" + k.root.ID, "AWS_SECRET_ACCESS_KEY=" + k.root.Secret, "AWS_EC2_METADATA_DISABLED=true", "NO_PROXY=127.0.0.1"}
	}
	config, socket := filepath.Join(dir, "cardea.toml"), filepath.Join(dir, "v.sock")
	text := fmt.Sprintf("[node]\nname = \"bench\"\ndata_dir = %q\n[vault]\nlisten = \"127.0.0.1:0\"\nadmin_socket = %q\n[ops]\nlisten = \"127.0.0.1:0\"\n"+
		"[keys]\nkms_rate = 1000000\n[database]\nurl = %q\n[tenants.%s]\nmode = %q\n%s", dir, socket, database, tenant, mode, more)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	s, err := launch(ctx, exe, config, "vault", env...)
	if err != nil {
		return nil, err
	}
	return &vaultServer{s, config, adminapi.NewClient(socket)}, nil
}

// localVault is startVault in mode local.
func localVault(ctx context.Context, exe, dir, database string) (*vaultServer, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	master := filepath.Join(dir, "master.hex")
	if err := os.WriteFile(master, fmt.Appendf(nil, "%x", random(32)), 0o600); err != nil {
		return nil, err
	}
	return startVault(ctx, exe, dir, database, "local", fmt.Sprintf("master_key_file = %q\ninsecure_master_key_without_custodians = true\n", master), nil)
}

// alternate has measurements take turns in short windows: what else the machine does
// falls on all.
func alternate(o options, turns ...func(options) (result, error)) ([]result, error) {
	o.seconds /= cuts
	sums := make([]result, len(turns))
	for range cuts {
		for i, turn := range turns {
			got, err := check(turn(o))
			if err != nil {
				return nil, err
			}
			sums[i] = sums[i].plus(got)
		}
	}
	return sums, nil
}

// measureDirect compares stores and retrieves in mode aws_kms with the calls of the
// AWS SDK that they make, one after the other, by as many callers.
func measureDirect(ctx context.Context, o options, r *report, exe, dir string, k vaultKMS, name string, callers []int) error {
	s, err := startVault(ctx, exe, dir, "sqlite", "aws_kms", "", &k)
	if err != nil {
		return err
	}
	cards, err := seed(s.server, o.conns, 1000)
	if err != nil {
		return err
	}
	pairs := map[string]string{"tenant": tenant, "purpose": "record", "holder": "0123456789abcdef", "record": "0123456789abcdef"}
	plaintext := random(120) // as long as a card is
	for _, conns := range callers {
		o := o
		o.conns = conns
		client, transport := sdk(k.url, k.root, conns)
		sealed, err := client.Encrypt(ctx, &kms.EncryptInput{KeyId: &k.key, Plaintext: plaintext, EncryptionContext: pairs})
		if err != nil {
			return err
		}
		for _, op := range []struct {
			name, like string
			vault      func(options) (result, error)
			call       func() error
		}{
			{"store", "GenerateMac + Encrypt", func(o options) (result, error) { return measureStore(o, s.server) }, func() error {
				_, err := client.GenerateMac(ctx, &kms.GenerateMacInput{KeyId: &k.mac, MacAlgorithm: types.MacAlgorithmSpecHmacSha256, Message: plaintext})
				if err == nil {
					_, err = client.Encrypt(ctx, &kms.EncryptInput{KeyId: &k.key, Plaintext: plaintext, EncryptionContext: pairs})
				}
				return err
			}},
			{"retrieve", "Decrypt", func(o options) (result, error) { return measureRetrieve(o, s.server, cards) }, func() error {
				_, err := client.Decrypt(ctx, &kms.DecryptInput{KeyId: &k.key, CiphertextBlob: sealed.CiphertextBlob, EncryptionContext: pairs})
				return err
			}},
		} {
			got, err := alternate(o, op.vault, func(o options) (result, error) { return calls(o.conns, o.window(), op.call) })
			if err != nil {
				return fmt.Errorf("%s: %w", op.name, err)
			}
			bare := got[1]
			r.add(row{
				what: fmt.Sprintf("%s %s, %s", name, op.name, connections(conns)), bound: bare.rate(),
				note: fmt.Sprintf("bound: bare SDK, %s, p50 %s ms; overhead %.0f %% (target 15)", op.like, ms(bare.P50), 100*(bare.rate()/got[0].rate()-1)),
			}.with(got[0]))
		}
		transport.CloseIdleConnections()
	}
	return s.stop()
}

// measureModes compares mode aws_kms_envelope with mode local, and counts its calls to
// the key service.
func measureModes(ctx context.Context, o options, r *report, exe, dir string, k vaultKMS) error {
	local, err := localVault(ctx, exe, filepath.Join(dir, "local"), "sqlite")
	if err != nil {
		return err
	}
	enveloped := filepath.Join(dir, "envelope")
	s, err := startVault(ctx, exe, enveloped, "sqlite", "aws_kms_envelope", "", &k)
	if err != nil {
		return err
	}
	var cards [2][]stored
	for i, x := range []*server{s.server, local.server} {
		if cards[i], err = seed(x, o.conns, 5000); err != nil {
			return err
		}
	}
	before, err := k.requests(ctx)
	if err != nil {
		return err
	}
	operations := 0
	for _, op := range []struct {
		name string
		turn func(i int, s *server) func(options) (result, error)
	}{
		{"store", func(_ int, s *server) func(options) (result, error) {
			return func(o options) (result, error) { return measureStore(o, s) }
		}},
		{"retrieve", func(i int, s *server) func(options) (result, error) {
			return func(o options) (result, error) { return measureRetrieve(o, s, cards[i]) }
		}},
	} {
		got, err := alternate(o, op.turn(0, s.server), op.turn(1, local.server))
		if err != nil {
			return fmt.Errorf("%s: %w", op.name, err)
		}
		operations += got[0].Requests
		r.add(row{what: "aws_kms_envelope " + op.name, bound: got[1].rate(), note: fmt.Sprintf("bound: mode local, p99 %s ms (target 95 %%)", ms(got[1].P99))}.with(got[0]))
	}
	after, err := k.requests(ctx)
	if err != nil {
		return err
	}
	r.add(row{what: "aws_kms_envelope calls to the key service", note: fmt.Sprintf("%.0f in %d record operations: %.2f in 10,000 (target 1)", after-before, operations, (after-before)/float64(operations)*10_000)})

	if err := errors.Join(s.stop(), local.stop()); err != nil {
		return err
	}
	if s, err = startVault(ctx, exe, enveloped, "sqlite", "aws_kms_envelope", "", &k); err != nil {
		return err
	}
	// All at once for the card of one merchant, of which nothing is in memory.
	if before, err = k.requests(ctx); err != nil {
		return err
	}
	if err := parallel(s.addr, o.conns, func(_ int, c *conn) error {
		_, err := c.do("/cards/retrieve", cards[0][0].body())
		return err
	}); err != nil {
		return err
	}
	if after, err = k.requests(ctx); err != nil {
		return err
	}
	r.add(row{what: "aws_kms_envelope cold callers", note: fmt.Sprintf("%d callers, %.0f calls to the key service (target 1)", o.conns, after-before)})
	return s.stop()
}

// requests is how many requests the key service has answered, by its metrics.
func (s *keyServer) requests(ctx context.Context) (sum float64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.ops+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		if !strings.HasPrefix(lines.Text(), "cardea_kms_requests_total{") {
			continue
		}
		n, err := strconv.ParseFloat(lines.Text()[strings.LastIndexByte(lines.Text(), ' ')+1:], 64)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	if sum == 0 {
		return 0, errors.New("the key service has no metric of its requests")
	}
	return sum, nil
}
