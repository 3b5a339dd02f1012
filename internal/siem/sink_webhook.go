package siem

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"cardea/internal/secret"
)

// Headers of a webhook's requests.
const (
	HeaderDelivery  = "Cardea-Delivery"
	HeaderTimestamp = "Cardea-Timestamp"
	HeaderSignature = "Cardea-Signature"
)

// WebhookOptions are what NewWebhook needs.
type WebhookOptions struct {
	URL     string
	TLS     *tls.Config
	Encoder *Encoder
	Key     secret.Bytes // of the signature; the zero value sends none. The caller keeps it
	Now     func() time.Time
}

// Webhook posts batches, a line an event, and signs them.
type Webhook struct {
	o      WebhookOptions
	client *http.Client
}

// NewWebhook returns the sink.
func NewWebhook(o WebhookOptions) *Webhook { return &Webhook{o: o, client: newClient(o.TLS)} }

// newClient makes the client of one receiver. It follows no redirects: whoever
// could answer one could send the log elsewhere.
func newClient(t *tls.Config) *http.Client {
	tr := &http.Transport{
		Proxy:       http.ProxyFromEnvironment,
		DialContext: (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext, TLSClientConfig: t,
		TLSHandshakeTimeout: 10 * time.Second, MaxResponseHeaderBytes: 64 << 10, IdleConnTimeout: 90 * time.Second, MaxConnsPerHost: 2,
	}
	return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// Send implements Sink.
func (s *Webhook) Send(ctx context.Context, b Batch) (int, error) {
	var body []byte
	var tooLarge error
	for i, ev := range b.Events {
		var err error
		if body, err = s.o.Encoder.Append(body, ev); err != nil {
			if i == 0 {
				return 0, &RejectedError{err.Error()}
			}
			b.Events, tooLarge = b.Events[:i], err
			break
		}
		body = append(body, '\n')
	}
	contentType := "text/plain; charset=utf-8"
	if f := s.o.Encoder.Format; f == FormatNDJSON || f == FormatOCSF || f == "" {
		contentType = "application/x-ndjson"
	}
	last := b.Events[len(b.Events)-1]
	if err := post(ctx, s.client, s.o.URL, contentType, b.Events[0].ID+".."+last.ID, body, s.o.Key, s.o.Now()); err != nil {
		return 0, err
	}
	if tooLarge != nil {
		return len(b.Events), &RejectedError{tooLarge.Error()}
	}
	return len(b.Events), nil
}

// Close implements Sink.
func (s *Webhook) Close() error { s.client.CloseIdleConnections(); return nil }

// Sign is the signature of a webhook's body: HMAC-SHA-256 over the time in seconds,
// the delivery's id and the body, each of the first two followed by a newline. A
// receiver computes the same, compares in constant time, and refuses times that are
// minutes away, so that nobody can send it again later.
func Sign(key secret.Bytes, timestamp, delivery string, body []byte) string {
	mac := hmac.New(sha256.New, key.Expose())
	mac.Write([]byte(timestamp + "\n" + delivery + "\n"))
	mac.Write(body)
	return "v1=" + hex.EncodeToString(mac.Sum(nil))
}

// post posts a body and reads what the answer means.
func post(ctx context.Context, client *http.Client, url, contentType, delivery string, body []byte, key secret.Bytes, now time.Time) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	delivery = strings.Map(func(c rune) rune { // of alerts, whose ids others made
		if c <= ' ' || c >= 0x7f {
			return '_'
		}
		return c
	}, delivery)
	stamp := strconv.FormatInt(now.Unix(), 10)
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("User-Agent", "cardea")
	r.Header.Set(HeaderDelivery, delivery)
	r.Header.Set(HeaderTimestamp, stamp)
	if key.Len() > 0 {
		r.Header.Set(HeaderSignature, Sign(key, stamp, delivery, body))
	}
	res, err := client.Do(r)
	if err != nil {
		return err
	}
	said, rerr := io.ReadAll(io.LimitReader(res.Body, 4096))
	if err := errors.Join(rerr, res.Body.Close()); err != nil && res.StatusCode/100 != 2 {
		return err
	}
	answer := fmt.Sprintf("%s: %s", res.Status, cut(strings.TrimSpace(string(said)), 200))
	switch code := res.StatusCode; {
	case code/100 == 2:
		return nil
	case code == http.StatusBadRequest, code == http.StatusRequestEntityTooLarge, code == http.StatusUnprocessableEntity:
		return &RejectedError{answer} // about what was sent; others are about who sent it, or when
	case code == http.StatusTooManyRequests, code == http.StatusServiceUnavailable:
		if after := retryAfter(res.Header.Get("Retry-After"), now); after > 0 {
			return &RetryError{After: after, Err: errors.New(answer)}
		}
	}
	return errors.New(answer)
}

// retryAfter reads the header (RFC 9110 section 10.2.3); 0 if it makes no sense.
func retryAfter(text string, now time.Time) time.Duration {
	if n, err := strconv.ParseInt(text, 10, 32); err == nil && n > 0 {
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return at.Sub(now)
	}
	return 0
}
