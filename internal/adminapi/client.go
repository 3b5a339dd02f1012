package adminapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/go-json-experiment/json"

	"cardea/internal/secret"
)

// ErrNotRunning says that nobody answers on the socket.
var ErrNotRunning = errors.New("no service answers on its admin socket")

// maxAnswer is the longest answer in bytes: a page of a list.
const maxAnswer = 16 << 20

// Client asks a running key service or vault.
type Client struct {
	path string
	http *http.Client
}

// NewClient returns a client of the socket with the path.
func NewClient(path string) *Client {
	d := net.Dialer{Timeout: 5 * time.Second}
	return &Client{path: path, http: &http.Client{
		Timeout: maxWait, // of what looks at all records; a person can give up sooner
		Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", path)
		}},
	}}
}

// Call has an operation done, such as "identity/CreateUser". in and out are as
// package identity has them. Errors: ErrNotRunning, *Error.
func (c *Client) Call(ctx context.Context, operation string, in, out any) error {
	body, err := json.Marshal(in, json.WithMarshalers(json.MarshalToFunc(encodeSecret)))
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	defer secret.Wipe(body)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://admin/"+operation, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if _, serr := os.Stat(c.path); serr != nil {
			return fmt.Errorf("%w: %w", ErrNotRunning, serr)
		}
		return fmt.Errorf("%w: %w", ErrNotRunning, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	defer secret.Wipe(text)
	if err != nil || len(text) > maxAnswer {
		return fmt.Errorf("read the answer: %w", errors.Join(err, errTooLong(len(text))))
	}
	if resp.StatusCode != http.StatusOK {
		e := &Error{}
		if err := json.Unmarshal(text, e); err != nil || e.Message == "" {
			return fmt.Errorf("the service answered %s", resp.Status)
		}
		return e
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(text, out, json.WithUnmarshalers(json.UnmarshalFromFunc(decodeSecret))); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	return nil
}

func errTooLong(n int) error {
	if n <= maxAnswer {
		return nil
	}
	return fmt.Errorf("it is longer than %d bytes", maxAnswer)
}
