package sdkhttp_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"cardea/internal/sdkhttp"
)

// late is a connection on which the server has what was written before Write returns,
// as on one machine.
type late struct{ net.Conn }

func (l late) Write(b []byte) (int, error) {
	n, err := l.Conn.Write(b)
	time.Sleep(5 * time.Millisecond)
	return n, err
}

func lateClient(t *testing.T) *http.Client {
	tr := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		return late{c}, err
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// TestAnswerOfANearServerIsReadToItsEnd asks for long answers, which begin while the
// writer of the request has yet to return.
func TestAnswerOfANearServerIsReadToItsEnd(t *testing.T) {
	t.Parallel()
	const keys = 2000
	list := kms.ListKeysOutput{}
	for range keys {
		list.Keys = append(list.Keys, types.KeyListEntry{KeyId: aws.String("0123"), KeyArn: aws.String(strings.Repeat("a", 80))})
	}
	text, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			t.Error(err)
		}
		_, err := w.Write(text[:len(text)/2])
		if err := errors.Join(err, http.NewResponseController(w).Flush()); err != nil {
			t.Error(err)
		}
		time.Sleep(20 * time.Millisecond) // the answer goes on when Write has returned
		if _, err := w.Write(text[len(text)/2:]); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(s.Close)
	c := kms.New(kms.Options{
		BaseEndpoint: &s.URL, Region: "us-east-1", Retryer: aws.NopRetryer{}, HTTPClient: sdkhttp.New(lateClient(t)),
		Credentials: credentials.NewStaticCredentialsProvider("id", "secret", ""),
	})
	for i := range 3 {
		out, err := c.ListKeys(t.Context(), &kms.ListKeysInput{})
		if err != nil || len(out.Keys) != keys {
			t.Fatalf("answer %d: %v", i, err)
		}
	}
}

// seen is what was sent.
type seen struct {
	r    *http.Request
	body []byte
}

func (s *seen) Do(r *http.Request) (*http.Response, error) {
	s.r = r
	if r.Body != nil {
		var err error
		if s.body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	return &http.Response{StatusCode: http.StatusNoContent, Body: http.NoBody}, nil
}

type closing struct {
	io.Reader
	closed int
}

func (c *closing) Close() error { c.closed++; return nil }

func TestBodyIsSentFromMemory(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		length   int
		declared int64
		inMemory bool
	}{
		"short":             {5, 5, true},
		"longest":           {1 << 20, 1 << 20, true},
		"object":            {1<<20 + 1, 1<<20 + 1, false},
		"of unknown length": {5, -1, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := bytes.Repeat([]byte("x"), c.length)
			body := &closing{Reader: bytes.NewReader(text)}
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://127.0.0.1/", body)
			if err != nil {
				t.Fatal(err)
			}
			r.ContentLength = c.declared
			var s seen
			res, err := sdkhttp.New(&s).Do(r)
			if err != nil || res.StatusCode != http.StatusNoContent {
				t.Fatal(res, err)
			}
			if !bytes.Equal(s.body, text) || s.r.ContentLength != c.declared {
				t.Errorf("%d bytes of %d sent, length %d", len(s.body), len(text), s.r.ContentLength)
			}
			if (s.r.Body != body) != c.inMemory || (s.r != r) != c.inMemory || (body.closed == 1) != c.inMemory {
				t.Errorf("body is sent as %T, that of the caller closed %d times", s.r.Body, body.closed)
			}
			if !c.inMemory {
				return
			}
			again, err := s.r.GetBody()
			if err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(again); err != nil || !bytes.Equal(b, text) {
				t.Errorf("%d bytes the second time, %v", len(b), err)
			}
		})
	}
}

func TestRequestWithoutBodyIsSentAsItIs(t *testing.T) {
	t.Parallel()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1/", nil)
	if err != nil {
		t.Fatal(err)
	}
	var s seen
	if _, err := sdkhttp.New(&s).Do(r); err != nil || s.r != r {
		t.Errorf("%v, error %v", s.r, err)
	}
}

func TestNoClientIsTheSDKs(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(s.Close)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := sdkhttp.New(nil).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := res.Body.Close(); err != nil || res.StatusCode != http.StatusNotFound {
		t.Errorf("status %d, %v", res.StatusCode, err)
	}
}

func TestBodyThatCannotBeReadIsNotSent(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken off")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://127.0.0.1/", iotest.ErrReader(broken))
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = 5
	var s seen
	_, err = sdkhttp.New(&s).Do(r)
	if !errors.Is(err, broken) || err.Error() != "body of the request: broken off" || s.r != nil {
		t.Errorf("error %v, sent %v", err, s.r)
	}
}
