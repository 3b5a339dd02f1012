package lockerapi

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"cardea/internal/custodian"
	"cardea/internal/httpd"
	"cardea/internal/iam"
	"cardea/internal/secret"
	"cardea/internal/vault"
)

// exchange is one request and its answer.
type exchange struct {
	w      http.ResponseWriter
	r      *http.Request
	ctx    context.Context //nolint:containedctx // an exchange is the request, and lives no longer
	route  *route
	ip     netip.Addr
	tenant *tenant       // nil until it is known
	who    iam.Principal // anonymous until authenticated
	in     *buffer       // the JSON to decode; nil until it is read
	out    *buffer       // the answer
	status int           // of the answer if the handler succeeds

	enc       jose.ContentEncryption // of the request, and so of the answer; empty: no envelope
	plainEcho bool                   // the client asked for an answer without an envelope
}

// Header values that never change are shared by all responses.
var (
	headerJSON  = []string{"application/json"}
	headerText  = []string{"text/plain; charset=utf-8"}
	headerPlain = []string{"plain"}
)

func (a *API) serve(w http.ResponseWriter, r *http.Request) {
	if a.version != nil {
		w.Header()["X-Version"] = a.version
	}
	rt := a.route(r)
	switch {
	case rt == nil:
		httpd.SetRoute(r, "none")
		w.WriteHeader(http.StatusNotFound)
		return
	case !rt.allows(r.Method):
		httpd.SetRoute(r, rt.path)
		w.Header()["Allow"] = []string{rt.allow()}
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	httpd.SetRoute(r, rt.path)
	x := &exchange{w: w, r: r, route: rt, ip: httpd.PeerIP(r), out: getBuffer(), status: http.StatusOK}
	x.ctx = vault.WithRequestID(r.Context(), httpd.RequestID(r.Context()))
	x.who = iam.Anonymous(x.ip)
	defer x.release()
	x.respond(a, a.run(x))
}

// route finds the row of a path as it was sent: /data/%61dd is nobody's.
func (a *API) route(r *http.Request) *route {
	if r.URL.RawPath != "" {
		return nil
	}
	if rest, ok := strings.CutPrefix(r.URL.Path, statusPrefix); ok {
		if rest == "" || strings.Contains(rest, "/") {
			return nil
		}
		return a.routes[statusPrefix]
	}
	return a.routes[r.URL.Path]
}

// run takes the steps of a request in the contract's order: tenant, lock,
// sender, envelope; then the handler's own headers, query and body.
func (a *API) run(x *exchange) error {
	if x.route.access == accessNone {
		return x.route.handle(a, x)
	}
	if f := x.findTenant(a); f != nil {
		return f
	}
	if f := x.checkLock(a); f != nil {
		return f
	}
	if f := x.authenticate(a); f != nil {
		return f
	}
	if x.route.limitDelete && x.tenant.deletes != nil && !x.tenant.deletes.AllowN(a.now(), 1) {
		a.metrics.limited(x.route.path).Inc()
		return &fault{answer: answerRate, result: "rate_limited", detail: "the tenant's delete limit is used up", plainText: true}
	}
	return x.route.handle(a, x)
}

// findTenant reads x-tenant-id, or the path of the one route that has it there.
func (x *exchange) findTenant(a *API) *fault {
	name, missing := "", answerNoTenant
	switch x.route.path {
	case statusPrefix:
		name = strings.TrimPrefix(x.r.URL.Path, statusPrefix)
	default:
		if x.route.access == accessCustodian || x.route.access == accessStatus {
			missing = answerNoTenantCustod
		}
		values := x.r.Header["X-Tenant-Id"]
		if len(values) == 0 || !isText(values[0]) {
			return refuse(missing)
		}
		if len(values) > 1 { // which one would count depends on who reads it
			return &fault{answer: answerBadTenant, detail: "header given twice", cause: vault.ErrUnknownTenant}
		}
		name = values[0]
	}
	t := (*a.tenants.Load())[name]
	if t == nil {
		return &fault{answer: answerBadTenant, cause: vault.ErrUnknownTenant}
	}
	x.tenant = t
	return nil
}

// isText reports whether a header value is visible ASCII, as the peer's
// framework wants it.
func isText(v string) bool {
	for i := range len(v) {
		if c := v[i]; c != '\t' && (c < ' ' || c > '~') {
			return false
		}
	}
	return true
}

func (x *exchange) checkLock(a *API) *fault {
	err := a.service.Ready(x.tenant.name)
	if errors.Is(err, vault.ErrUnknownTenant) {
		x.tenant = nil
		return &fault{answer: answerBadTenant, cause: vault.ErrUnknownTenant}
	}
	switch locked := errors.Is(err, vault.ErrLocked); {
	case err != nil && !locked:
		known, _ := answerOf(err)
		return &fault{answer: known, cause: err}
	case x.route.access == accessStatus:
	case x.route.access == accessCustodian && !locked && a.service.AwaitsCustodians(x.tenant.name):
	case x.route.access == accessCustodian && !locked:
		return &fault{answer: answerUnlocked, cause: custodian.ErrUnlocked}
	case x.route.access != accessCustodian && locked:
		return &fault{answer: answerLocked, cause: vault.ErrLocked}
	}
	return nil
}

// decode reads the body, unless it came in an envelope and is there already.
func (x *exchange) decode(a *API, into body) *fault {
	if x.in == nil {
		var f *fault
		if x.in, f = x.read(a.bodyLimit); f != nil {
			return f
		}
	}
	return decodeBody(x.in.b, into)
}

// firstRead is how much room a body gets before any of it has come, so that
// claiming a length costs nothing here.
const firstRead = 16 << 10

// read takes the body as it came over the wire.
func (x *exchange) read(limit int64) (*buffer, *fault) {
	if !isJSON(x.r.Header["Content-Type"]) {
		return nil, contentTypeFault()
	}
	if x.r.ContentLength > limit {
		return nil, tooLongFault()
	}
	b := getBuffer()
	if n := x.r.ContentLength; n > 0 {
		b.grow(int(min(n, firstRead)) + 1) // one more, to see the end without growing
	}
	for {
		b.grow(1)
		n, err := x.r.Body.Read(b.b[len(b.b):cap(b.b)])
		b.b = b.b[:len(b.b)+n]
		var tooLong *http.MaxBytesError
		switch {
		case int64(len(b.b)) > limit, errors.As(err, &tooLong):
			b.release()
			return nil, tooLongFault()
		case errors.Is(err, io.EOF):
			return b, nil
		case err != nil:
			b.release()
			return nil, readFault()
		}
	}
}

// isJSON accepts application/json and application/*+json, with any parameters.
func isJSON(values []string) bool {
	if len(values) == 0 {
		return false
	}
	essence, _, _ := strings.Cut(values[0], ";")
	essence = strings.TrimRight(essence, " \t")
	if essence == "application/json" {
		return true
	}
	essence = strings.ToLower(essence)
	sub, ok := strings.CutPrefix(essence, "application/")
	return ok && (sub == "json" || (strings.HasSuffix(sub, "+json") && len(sub) > len("+json")))
}

// respond writes the answer: x.out if err is nil, else what the error table says.
func (x *exchange) respond(a *API, err error) {
	status, contentType := x.status, headerJSON
	if err != nil {
		status, contentType = x.errorAnswer(a, err)
	}
	if x.enc != "" && !x.plainEcho {
		if serr := x.seal(a); serr != nil {
			a.log.ErrorContext(x.ctx, "response not encrypted", slog.String("request_id", vault.RequestID(x.ctx)), slog.Any("error", serr))
			status = answerSealing.status
			x.clearOut()
			encodeError(x.out, answerSealing)
		}
		contentType = headerJSON
	}
	h := x.w.Header()
	if x.plainEcho {
		h["X-Response-Encoding"] = headerPlain
	}
	h["Content-Type"] = contentType
	h["Content-Length"] = []string{strconv.Itoa(len(x.out.b))}
	x.w.WriteHeader(status)
	x.w.Write(x.out.b) //nolint:errcheck // the client is gone; the access is in the log
}

// errorAnswer puts the answer to err into x.out, after the refusal of a request
// that the vault has not seen is in the audit log.
func (x *exchange) errorAnswer(a *API, err error) (status int, contentType []string) {
	f, refused := errors.AsType[*fault](err)
	if refused && x.route.op != nil {
		if aerr := x.refuse(a, f); aerr != nil {
			err, refused = aerr, false
		}
	}
	ans, known := answerOf(err)
	switch {
	case !known && x.ctx.Err() != nil:
		// The client went away in the middle; nobody reads this answer.
	case ans.status >= http.StatusInternalServerError:
		a.log.ErrorContext(x.ctx, "request failed", slog.String("route", x.route.path),
			slog.String("request_id", vault.RequestID(x.ctx)), slog.Any("error", err))
	}
	x.clearOut()
	if !refused {
		if ans.status == http.StatusServiceUnavailable {
			x.retryAfter(retryAfter(err))
		}
		encodeError(x.out, ans)
		return ans.status, headerJSON
	}
	x.retryAfter(f.retryAfter)
	if f.challenge {
		x.w.Header()["Www-Authenticate"] = []string{`Bearer realm="custodian"`}
	}
	if f.plainText {
		x.out.text(ans.message)
		return ans.status, headerText
	}
	encodeError(x.out, ans)
	return ans.status, headerJSON
}

// refuse sees to it that a refusal is in the audit log, which of strangers who are
// refused again and again holds the number only.
func (x *exchange) refuse(a *API, f *fault) error {
	who, op, target := x.who, x.route.op, x.target() // the entry may be written when the exchange is over
	write := func(ctx context.Context, counted string) error {
		cause := error(f)
		if counted != "" {
			cause = &repeated{f, counted}
		}
		if err := a.service.Refuse(ctx, who, op, target, cause); !errors.Is(err, f) {
			return err
		}
		return nil
	}
	if who.Type != iam.TypeAnonymous && x.route.access != accessOpen {
		return write(x.ctx, "")
	}
	counted, err := a.refusals.Refuse(x.ctx, x.ip, op.Name+" "+target.Tenant, f.code(), write)
	if counted {
		a.metrics.counted.Inc()
	}
	return err
}

// repeated is a fault that many requests had, of which the audit log is told by one entry.
type repeated struct {
	*fault
	counted string
}

func (r *repeated) Error() string       { return r.counted }
func (r *repeated) Unwrap() error       { return r.fault }
func (r *repeated) AuditResult() string { return "repeated" }

// retryAfter sets the header of that name, in whole seconds rounded up.
func (x *exchange) retryAfter(d time.Duration) {
	if d > 0 {
		x.w.Header()["Retry-After"] = []string{strconv.Itoa(int(math.Ceil(d.Seconds())))}
	}
}

func (x *exchange) target() vault.Target {
	t := vault.Target{RequestID: vault.RequestID(x.ctx)}
	if x.tenant != nil {
		t.Tenant = x.tenant.name
	}
	return t
}

// clearOut forgets what the handler wrote.
func (x *exchange) clearOut() {
	secret.Wipe(x.out.b)
	x.out.b = x.out.b[:0]
}

// seal replaces x.out by its envelope.
func (x *exchange) seal(a *API) error {
	start := a.now()
	signed := getBuffer()
	defer signed.release()
	if err := x.tenant.signer.append(signed, x.out.b); err != nil {
		return err
	}
	jwe, err := x.tenant.encrypters[x.enc].Encrypt(signed.b)
	if err != nil {
		return err
	}
	compact, err := jwe.CompactSerialize()
	if err != nil {
		return err
	}
	x.clearOut()
	if err := encodeJWE(x.out, compact); err != nil {
		return err
	}
	a.metrics.sealSeconds.Observe(a.now().Sub(start).Seconds())
	return nil
}

func (x *exchange) release() {
	x.in.release()
	x.out.release()
}
