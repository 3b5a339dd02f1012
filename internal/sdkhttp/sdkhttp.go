// Package sdkhttp is what stands between AWS's SDK and net/http. It promises that an
// answer can be read to its end.
//
// Without it, an answer of more than 4 KiB, or in several pieces, of a server so near
// that it answers while the request is being written may break off with "use of closed
// network connection": the SDK closes a request's body when the answer begins, the body then reports its end
// as an error (smithy-go, internal/io, safeWriteToReadCloser.WriteTo), and net/http
// closes a connection whose request it could not write.
package sdkhttp

import (
	"bytes"
	"fmt"
	"io"
	"net/http"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
)

// maxBody is the longest body that is sent from memory, in bytes. Longer ones are S3's
// objects: their answers are short.
const maxBody = 1 << 20

// Client sends requests; the SDK's packages each call it HTTPClient.
type Client interface {
	Do(*http.Request) (*http.Response, error)
}

// New makes a client that sends requests by next, or the SDK's own client if that is
// nil, which a loaded configuration may leave open. Bodies of up to 1 MiB that have a
// length are in memory before the first byte is sent, in one piece with the headers. It
// is as safe for concurrent use as next.
func New(next Client) Client {
	if next == nil {
		next = awshttp.NewBuildableClient()
	}
	return client{next}
}

type client struct{ next Client }

// Do implements Client.
func (c client) Do(r *http.Request) (*http.Response, error) {
	if r.Body == nil || r.ContentLength <= 0 || r.ContentLength > maxBody {
		return c.next.Do(r)
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, r.ContentLength+1)) // one more is for net/http to refuse
	if cerr := r.Body.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, fmt.Errorf("body of the request: %w", err)
	}
	r = r.WithContext(r.Context()) // a copy
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	return c.next.Do(r)
}
