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
	"net/url"
	"os"
	"time"

	"cardea/internal/secret"
)

// nodeClient talks to a running node as a custodian.
type nodeClient struct {
	base   string
	tenant string
	token  secret.Bytes
	http   *http.Client
}

func newNodeClient(f nodeFlags, token secret.Bytes) (*nodeClient, error) {
	u, err := url.Parse(f.URL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, usageError{fmt.Errorf("--url: %q is not an http or https address", f.URL)}
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
	return &nodeClient{
		base: f.URL, tenant: f.Tenant, token: token,
		http: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: t}},
	}, nil
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
	switch half {
	case 0:
	case 1, 2:
		path, member = fmt.Sprintf("/custodian/key%d", half), "key"
	default:
		return usageError{fmt.Errorf("--half is 1 or 2, not %d", half)}
	}
	// The part is plain ASCII without quotes, which its parser checks again.
	if bytes.ContainsAny(part.Expose(), "\"\\\n") {
		return errors.New("the part has characters that no part has")
	}
	body := append(append([]byte(`{"`+member+`":"`), part.Expose()...), `"}`...)
	defer secret.Wipe(body)
	return n.call(ctx, http.MethodPost, path, body, nil)
}

func (n *nodeClient) unlock(ctx context.Context) error {
	return n.call(ctx, http.MethodPost, "/custodian/decrypt", nil, nil)
}

// call sends a request and decodes the answer into out. 423, which says that a
// tenant is still locked, is an answer and no error.
func (n *nodeClient) call(ctx context.Context, method, path string, body []byte, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, n.base+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("X-Tenant-Id", n.tenant)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+string(n.token.Expose())) // a header is a string
	res, err := n.http.Do(req)
	if err != nil {
		return err
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
		return fmt.Errorf("%s%s answers %d: %s", n.base, path, res.StatusCode, e.Message)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("%s%s: %w", n.base, path, err)
	}
	return nil
}
