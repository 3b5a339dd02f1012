package lockerapi

import (
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"cardea/internal/custodian"
	"cardea/internal/httpd"
	"cardea/internal/iam"
	"cardea/internal/secret"
	"cardea/internal/vault"
)

// authenticate finds out who asks and puts it into x.who. For a JWE tenant it
// opens the envelope too.
func (x *exchange) authenticate(a *API) *fault {
	switch x.route.access {
	case accessOpen:
		x.who = x.principal("diagnostics", "none", nil, []string{vault.OpDiagnose.Action})
		return nil
	case accessCustodian, accessStatus:
		return x.authenticateCustodian(a)
	}
	var f *fault
	if x.tenant.config.Envelope == EnvelopeJWE {
		f = x.open(a)
	} else {
		f = x.authenticatePlain(a)
	}
	if f != nil && errors.Is(f, vault.ErrDenied) {
		a.metrics.authFailed(string(x.tenant.config.Envelope)).Inc()
	}
	return f
}

func (x *exchange) principal(name, auth string, merchants, actions []string) iam.Principal {
	return iam.Principal{
		Type: iam.TypeTenant, Name: name, Tenant: x.tenant.name, Auth: auth, IP: x.ip,
		Merchants: merchants, Actions: actions,
	}
}

// authenticatePlain lets in a mapped client certificate; where none is mapped,
// the loopback interface; and everyone only if that danger was asked for.
func (x *exchange) authenticatePlain(a *API) *fault {
	t := x.tenant
	switch {
	case len(t.config.Clients) > 0:
		cert := httpd.ClientCertificate(x.r)
		c := t.client(cert)
		if c == nil {
			if cert == nil {
				return deny(answerCertificate, "no client certificate")
			}
			return deny(answerCertificate, "the client certificate is not mapped")
		}
		x.who = x.principal(c.Name, "mtls", c.Merchants, c.Actions)
	case isLocal(x.r):
		x.who = x.principal("loopback", "loopback", t.merchants, t.actions)
	case a.plainAny:
		x.who = x.principal("anyone", "none", t.merchants, t.actions)
	default:
		return deny(answerPlain, "")
	}
	return nil
}

// forwarding are headers that no program on this machine sends by itself: a
// proxy speaks for someone else, or a web page does through the user's browser.
var forwarding = [...]string{"X-Forwarded-For", "Forwarded", "X-Real-Ip", "Via", "Origin"}

// isLocal reports whether a request comes from this machine and from nobody
// behind it.
func isLocal(r *http.Request) bool {
	for _, name := range forwarding {
		if _, ok := r.Header[name]; ok {
			return false
		}
	}
	return overLoopback(r)
}

// overLoopback reports whether the connection itself is from this machine.
func overLoopback(r *http.Request) bool {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && peer.Addr().Unmap().IsLoopback()
}

// open takes a request out of its envelope. What fails here is answered without
// one.
func (x *exchange) open(a *API) *fault {
	outer, f := x.read(a.bodyLimit)
	if f != nil {
		return f
	}
	defer outer.release()
	var jwe jweBody
	if f := decodeBody(outer.b, &jwe); f != nil {
		return f
	}
	start := a.now()
	plaintext, enc, err := a.keys.open(&jwe)
	if err != nil {
		return denyEnvelope(err)
	}
	defer secret.Wipe(plaintext)
	var jws jwsBody
	if f := decodeBody(plaintext, &jws); f != nil {
		return &fault{answer: answerNotJWS, result: "bad_envelope", detail: "what was encrypted is no JWS", cause: vault.ErrDenied}
	}
	payload := getBuffer()
	h, err := jws.verify(x.tenant.config.ClientKey, payload)
	if err != nil {
		payload.release()
		return denyEnvelope(err)
	}
	a.metrics.openSeconds.Observe(a.now().Sub(start).Seconds())
	who := x.principal("jws:"+x.tenant.name, "jws", x.tenant.merchants, x.tenant.actions)
	b := binding{method: x.r.Method, path: x.r.URL.Path, tenant: x.tenant.name}
	if rerr := x.tenant.replays.check(x.tenant.config.Replay, h.replay, b, a.now()); rerr != nil {
		payload.release()
		x.who = who
		a.metrics.replayed(rerr.reason).Inc()
		return rerr.fault()
	}
	x.in, x.enc, x.who = payload, enc, who
	x.plainEcho = x.route.plainAnswer && x.r.Header.Get("X-Response-Encoding") == "plain"
	return nil
}

func denyEnvelope(err error) *fault {
	return &fault{answer: answerEnvelope, result: "bad_envelope", detail: err.Error(), cause: vault.ErrDenied}
}

func (e *replayError) fault() *fault {
	if e.reason == replayFull {
		return &fault{answer: answerRate, result: "replay_full", detail: e.Error(), cause: vault.ErrDenied}
	}
	a := answerEnvelope
	a.message = "failed in request middleware: " + e.Error()
	return &fault{answer: a, result: "replay", cause: vault.ErrDenied}
}

// authenticateCustodian checks the bearer token. A part in clear on a network
// would not be split knowledge any more.
func (x *exchange) authenticateCustodian(a *API) *fault {
	if x.r.TLS == nil && !a.plainAny && !overLoopback(x.r) {
		a.metrics.authFailed("clear").Inc()
		return deny(answerClear, "")
	}
	text, ok := bearer(x.r.Header["Authorization"])
	if !ok {
		a.metrics.authFailed("bearer").Inc()
		return &fault{answer: answerToken, detail: "no bearer token", cause: vault.ErrDenied, challenge: true}
	}
	token := secret.Copy([]byte(text))
	defer token.Destroy()
	name, err := a.custodians.Authenticate(x.ctx, x.tenant.name, token, x.ip)
	if err == nil {
		x.who = iam.Principal{
			Type: iam.TypeCustodian, Name: name, Tenant: x.tenant.name, Auth: "bearer", IP: x.ip,
			Actions: []string{"custodian:*"},
		}
		return nil
	}
	return x.notACustodian(a, err)
}

func (x *exchange) notACustodian(a *API, err error) *fault {
	ans, expected := answerOf(err)
	f := &fault{answer: ans, detail: err.Error(), cause: vault.ErrDenied}
	if limited, ok := errors.AsType[*custodian.RateLimitedError](err); ok {
		f.result, f.retryAfter = "rate_limited", max(limited.RetryAfter, time.Second)
	}
	if out, ok := errors.AsType[*custodian.LockedOutError](err); ok {
		f.result, f.retryAfter = "locked_out", max(out.Until.Sub(a.now()), time.Second)
	}
	switch {
	case f.retryAfter > 0:
		a.metrics.limited("/custodian").Inc()
	case ans.status == http.StatusUnauthorized:
		a.metrics.authFailed("bearer").Inc()
		f.challenge = true
	case !expected || ans.status >= http.StatusInternalServerError:
		f.cause = err // not the sender's fault
	}
	return f
}

// bearer is the token of RFC 6750 section 2.1.
func bearer(values []string) (string, bool) {
	if len(values) != 1 {
		return "", false
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	return token, ok && strings.EqualFold(scheme, "bearer") && token != ""
}
