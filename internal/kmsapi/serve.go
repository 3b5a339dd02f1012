package kmsapi

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"cardea/internal/httpd"
	"cardea/internal/kms"
)

// exchange is one request and its answer.
type exchange struct {
	w       http.ResponseWriter
	r       *http.Request
	ctx     context.Context //nolint:containedctx // an exchange is the request, and lives no longer
	start   time.Time
	who     kms.Caller // anonymous until authenticated
	op      string     // its operation, "" until it is known to be one
	guessed bool       // the signature did not verify, so that it counts as a failure of the access key
	in      *buffer    // the body; nil until it is read
	out     *buffer    // the body of the answer
}

// Header values that never change are shared by all responses.
var (
	headerJSON10  = []string{"application/x-amz-json-1.0"}
	headerJSON    = []string{"application/x-amz-json-1.1"}
	headerXML     = []string{"text/xml"}
	headerText    = []string{"text/plain; charset=utf-8"}
	headerNoStore = []string{"no-store"}
	headerAllow   = []string{"POST"}
)

const about = "Cardea key service. It speaks the AWS KMS API of 2014-11-01: use an AWS SDK or the AWS CLI with this address as the endpoint.\n"

func (a *API) serve(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/" || r.URL.RawPath != "" {
		httpd.SetRoute(r, "none")
		a.plain(w, http.StatusNotFound, "Not found.\n")
		return
	}
	httpd.SetRoute(r, "/")
	switch r.Method {
	case http.MethodPost:
	case http.MethodGet, http.MethodHead:
		if r.URL.RawQuery == "" {
			a.plain(w, http.StatusOK, about)
			return
		}
		// A request in AWS Query, most likely a presigned one, which is refused.
	default:
		w.Header()["Allow"] = headerAllow
		a.plain(w, http.StatusMethodNotAllowed, "Only POST.\n")
		return
	}
	x := &exchange{w: w, r: r, ctx: r.Context(), start: a.now(), out: getBuffer()}
	x.who = a.caller(r, requestID(r.Context()))
	defer x.release()
	content := r.Header["Content-Type"]
	if isForm(content) || r.Method != http.MethodPost {
		a.serveSTS(x)
		return
	}
	a.serveKMS(x, content)
}

// plain answers who is no client of the API.
func (a *API) plain(w http.ResponseWriter, status int, text string) {
	h := w.Header()
	h["Content-Type"] = headerText
	h["Content-Length"] = []string{strconv.Itoa(len(text))}
	w.WriteHeader(status)
	io.WriteString(w, text) //nolint:errcheck // nothing is left to do
}

// requestID is the id of the request, which clients expect to be a UUID.
func requestID(ctx context.Context) string {
	if id := httpd.RequestID(ctx); len(id) == 36 && uuid.Validate(id) == nil {
		return id
	}
	return uuid.Must(uuid.NewV7()).String() // errs only if crypto/rand does, which never happens (Go 1.24)
}

const targetPrefix = "TrentService."

// serveKMS takes the steps of a request in order: limits, signature, target, body.
func (a *API) serveKMS(x *exchange, content []string) {
	err := a.runKMS(x, content)
	status := http.StatusOK
	if err != nil {
		var e *kms.Error
		e, status = x.failed(a, err)
		x.out.clear()
		encodeError(x.out, e)
		x.w.Header()["X-Amzn-Errortype"] = []string{string(e.Code)}
		a.metrics.failed(x.op, string(e.Code), a.now().Sub(x.start))
	} else {
		a.metrics.succeeded(x.op, a.now().Sub(x.start))
	}
	header := headerJSON
	if isJSON10(content) {
		header = headerJSON10
	}
	x.respond(status, header)
}

func (a *API) runKMS(x *exchange, content []string) error {
	if err := x.read(a.bodyLimit); err != nil {
		return a.refused(err)
	}
	if err := x.authenticate(a, a.kmsKeys); err != nil {
		return a.refused(err)
	}
	targets := x.r.Header["X-Amz-Target"]
	if len(targets) != 1 || !isJSON(content) {
		return refuse(codeUnknownOperation, textUnknown)
	}
	name, ok := strings.CutPrefix(targets[0], targetPrefix)
	if !ok {
		return refuse(codeUnknownOperation, textUnknown)
	}
	rt := a.routes[name]
	if rt == nil {
		return refuse(codeUnknownOperation, textUnknown)
	}
	x.op = rt.name
	return rt.run(a.service, x)
}

// failed is what to answer to err, after the refusal of a request that is no
// operation is in the audit log.
func (x *exchange) failed(a *API, err error) (*kms.Error, int) {
	if r, ok := errors.AsType[*refusal](err); ok {
		who, name := x.who, x.op // the entry may be written when the exchange is over
		aerr := x.refuse(a, "kms."+name, string(r.err.Code), func(ctx context.Context, counted string) error {
			return a.service.Refuse(ctx, who, name, r.err, counted)
		})
		if aerr != nil {
			err = aerr
		}
		x.countFailure(a)
	}
	e, status, known := answerTo(err)
	switch {
	case !known && x.ctx.Err() != nil:
		// The client went away in the middle; nobody reads this answer.
	case status >= http.StatusInternalServerError:
		a.log.ErrorContext(x.ctx, "request failed", slog.String("op", x.op), slog.String("request_id", x.who.RequestID),
			slog.Any("error", err), slog.String("reason", e.Reason))
	}
	return e, status
}

// refuse sees to it that a refusal is in the audit log: by write, or by counting it
// if the sender is a stranger who is refused again and again. A signature that is not
// right by a key that there is has its own entry always: the key is locked after few.
func (x *exchange) refuse(a *API, kind, code string, write func(ctx context.Context, counted string) error) error {
	if x.who.Auth != "none" || x.guessed {
		return write(x.ctx, "")
	}
	counted, err := a.refusals.Refuse(x.ctx, x.who.IP, kind, code, write)
	if counted {
		a.metrics.counted.Inc()
	}
	return err
}

// firstRead is how much room a body gets before any of it has come, so that
// claiming a length costs nothing here.
const firstRead = 16 << 10

// read takes the whole body, since the signature covers it.
func (x *exchange) read(limit int64) error {
	if x.r.ContentLength > limit {
		return errTooLarge
	}
	x.in = getBuffer()
	if n := x.r.ContentLength; n > 0 {
		x.in.grow(int(min(n, firstRead)) + 1) // one more, to see the end without growing
	}
	for {
		x.in.grow(1)
		b := x.in.b
		n, err := x.r.Body.Read(b[len(b):cap(b)])
		x.in.b = b[:len(b)+n]
		_, over := errors.AsType[*http.MaxBytesError](err)
		switch {
		case int64(len(x.in.b)) > limit, over:
			return errTooLarge
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return errEndedEarly
		}
	}
}

// respond writes x.out.
func (x *exchange) respond(status int, contentType []string) {
	h := x.w.Header()
	h["Content-Type"] = contentType
	h["Cache-Control"] = headerNoStore
	h["Content-Length"] = []string{strconv.Itoa(len(x.out.b))}
	h["X-Amzn-Requestid"] = []string{x.who.RequestID}
	// Clients set their clock by the answer, so it tells that of the verifier.
	h["Date"] = []string{x.start.UTC().Format(http.TimeFormat)}
	x.w.WriteHeader(status)
	x.w.Write(x.out.b) //nolint:errcheck // the client is gone; the operation is in the log
}

func (x *exchange) release() {
	x.in.release()
	x.out.release()
}

// essence is a media type without its parameters, in lower case.
func essence(values []string) string {
	if len(values) != 1 {
		return ""
	}
	s, _, _ := strings.Cut(values[0], ";")
	return strings.ToLower(strings.TrimRight(s, " \t"))
}

func isForm(values []string) bool { return essence(values) == "application/x-www-form-urlencoded" }

func isJSON10(values []string) bool { return essence(values) == headerJSON10[0] }

func isJSON(values []string) bool {
	e := essence(values)
	return e == headerJSON[0] || e == headerJSON10[0]
}
