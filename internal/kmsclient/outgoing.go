package kmsclient

import (
	"bytes"
	"context"
	"io"
	"net/http/httptrace"
	"runtime"
	"sync"
)

// outgoing is the text of a request, for as long as the transport may read it: that may
// be longer than the answer takes. Its bodies are of a kind of which net/http knows that
// they are in memory, so that headers and body go out in one write and not in two. Nobody
// is told when such a body is closed. What says that a body is read no more is that the
// request was written on each connection that it was given; one that ends before it is
// written to says nothing, and then it is that the body is nobody's any more.
type outgoing struct {
	mu      sync.Mutex // guards all below; text is changed only once nobody reads it
	text    []byte
	writing int // connections that may be reading it
	over    bool
	readers []*bytes.Reader // until it is over
	left    int             // of readers, afterwards
}

// body is one more body of the text, for the request or for a repetition of it.
func (o *outgoing) body() io.ReadCloser {
	o.mu.Lock()
	defer o.mu.Unlock()
	r := bytes.NewReader(o.text)
	if !o.over {
		o.readers = append(o.readers, r)
	}
	return io.NopCloser(r)
}

// watch is the context for the request.
func (o *outgoing) watch(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn:      func(httptrace.GotConnInfo) { o.count(1) },
		WroteRequest: func(httptrace.WroteRequestInfo) { o.count(-1) },
	})
}

func (o *outgoing) count(n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writing += n
	o.wipe()
}

// end says that the round trip has ended, after which no connection is taken for the
// request any more. The text is wiped now or when the last one is done with it.
func (o *outgoing) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.over, o.left = true, len(o.readers)
	if o.wipe(); o.writing > 0 {
		for _, r := range o.readers {
			runtime.AddCleanup(r, (*outgoing).dropped, o)
		}
	}
	o.readers = nil // or they would never be nobody's
}

// dropped says that a reader is nobody's any more.
func (o *outgoing) dropped() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.left--; o.left == 0 {
		clear(o.text)
	}
}

func (o *outgoing) wipe() {
	if o.over && o.writing <= 0 {
		clear(o.text)
	}
}
