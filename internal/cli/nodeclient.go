package cli

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"cardea/internal/secret"
)

// nodeClient talks to a running node as a custodian. It goes where it is told and
// nowhere else: no proxy, no redirect, nothing in clear over a network.
type nodeClient struct {
	p      *Process
	base   string
	tenant string
	token  secret.Bytes
	http   *http.Client
}

func newNodeClient(p *Process, f nodeFlags, token secret.Bytes) (*nodeClient, error) {
	u, err := url.Parse(f.URL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		return nil, usageError{fmt.Errorf("--url: %q is not an address such as https://vault-1:8080", f.URL)}
	}
	if u.Scheme == "http" && !isLoopback(u.Hostname()) {
		return nil, usageError{fmt.Errorf("--url: %s would carry share and token over a network in clear; use https, or run this on the node itself", f.URL)}
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.CAFile != "" {
		pem, err := os.ReadFile(f.CAFile)
		if err != nil {
			return nil, fmt.Errorf("--ca-file: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--ca-file: %s holds no certificate", f.CAFile)
		}
	}
	if (f.CertFile == "") != (f.KeyFile == "") {
		return nil, usageError{errors.New("--cert-file and --key-file belong together; give both or none")}
	}
	if f.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(f.CertFile, f.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("--cert-file: %w", err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return &nodeClient{
		p: p, base: strings.TrimSuffix(f.URL, "/"), tenant: f.Tenant, token: token,
		http: &http.Client{
			Timeout:       30 * time.Second,
			Transport:     &http.Transport{TLSClientConfig: t},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// isLoopback knows localhost by name (RFC 6761 6.3) and loopback addresses.
func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.Unmap().IsLoopback()
}

// custodyStatus is what GET /custodian/status answers about a tenant.
type custodyStatus struct {
	Tenant     string `json:"tenant_id"`
	Unlocked   bool   `json:"unlocked"`
	Form       string `json:"form"`
	Threshold  int    `json:"threshold"`
	Shares     int    `json:"shares"`
	Submitted  int    `json:"submitted"`
	Generation int    `json:"generation"`
}

func (n *nodeClient) status(ctx context.Context) (custodyStatus, error) {
	var st custodyStatus
	err := n.call(ctx, http.MethodGet, "/custodian/status/"+url.PathEscape(n.tenant), nil, &st)
	return st, err
}

// submit sends a share, or the half with that number.
func (n *nodeClient) submit(ctx context.Context, part secret.Bytes, half int) error {
	path, member := "/custodian/share", "share"
	if half != 0 {
		path, member = fmt.Sprintf("/custodian/key%d", half), "key"
	}
	// A part that parsed is plain ASCII without quotes.
	body := append(append([]byte(`{"`+member+`":"`), part.Expose()...), `"}`...)
	defer secret.Wipe(body)
	return n.call(ctx, http.MethodPost, path, body, nil)
}

func (n *nodeClient) unlock(ctx context.Context) error {
	err := n.call(ctx, http.MethodPost, "/custodian/decrypt", nil, nil)
	if refused, ok := errors.AsType[*refusal](err); ok && strings.Contains(refused.message, "AES decryption failed") {
		return hinted(err, "the parts do not fit together and are all forgotten; every custodian begins again")
	}
	return err
}

// errAlreadyUnlocked is the answer to a custodian who comes too late.
var errAlreadyUnlocked = errors.New("tenant is unlocked already")

// refusal is an answer that is none of those wanted.
type refusal struct {
	url     string
	status  int
	message string
	after   time.Duration // from Retry-After
}

func (e *refusal) Error() string {
	text := fmt.Sprintf("%s answers %d: %s", e.url, e.status, printable(e.message))
	switch {
	case e.status == http.StatusTooManyRequests && e.after > 0:
		text += fmt.Sprintf("; try again in %s", e.after)
	case e.status == http.StatusUnauthorized && strings.Contains(e.message, "not authenticated"):
		text += ": the token is not that of a custodian of this tenant; after a rekey only the new tokens count"
	}
	return text
}

func (e *refusal) Is(target error) bool {
	return target == errAlreadyUnlocked && e.status == http.StatusBadRequest && strings.Contains(e.message, "already unlocked")
}

// patience is how long a node's request to come back later is complied with; a
// lockout is longer.
const patience = time.Minute

// call sends a request and decodes the answer into out. 423, which says that a
// tenant is still locked, is an answer and no error. A node that takes only so
// many calls a minute is asked again when it says.
func (n *nodeClient) call(ctx context.Context, method, path string, body []byte, out any) error {
	for {
		err := n.once(ctx, method, path, body, out)
		refused, ok := errors.AsType[*refusal](err)
		if !ok || refused.status != http.StatusTooManyRequests || refused.after <= 0 || refused.after > patience {
			return err
		}
		fmt.Fprintf(n.p.Stderr, "the node takes only so many calls a minute: waiting %s\n", refused.after)
		if err := n.p.sleep(ctx, refused.after); err != nil {
			return err
		}
	}
}

func (n *nodeClient) once(ctx context.Context, method, path string, body []byte, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, n.base+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("X-Tenant-Id", n.tenant)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+string(n.token.Expose())) // a header is a string
	res, err := n.http.Do(req)
	if err != nil {
		return fmt.Errorf("no answer from the node: %w", err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 1<<16))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusLocked {
		var e struct {
			Message string `json:"message"`
		}
		if json.Unmarshal(answer, &e) != nil || e.Message == "" {
			e.Message = http.StatusText(res.StatusCode)
		}
		seconds, _ := strconv.Atoi(res.Header.Get("Retry-After"))
		return &refusal{url: n.base + path, status: res.StatusCode, message: e.Message, after: time.Duration(seconds) * time.Second}
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("%s%s: %w", n.base, path, err)
	}
	return nil
}
