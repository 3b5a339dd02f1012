package lockerapi

import "errors"

// RouteInfo is a row of the route table, for tests.
type RouteInfo struct {
	Method, Path string
	Wrapped      bool
	Audited      bool
}

// Routes is the route table.
func Routes() []RouteInfo {
	var out []RouteInfo
	for _, r := range routes() {
		out = append(out, RouteInfo{r.method, r.path, r.wrapped(), r.op != nil})
	}
	return out
}

// AnswerOf is the error table.
func AnswerOf(err error) (status int, code, message string, known bool) {
	a, known := answerOf(err)
	return a.status, a.code, a.message, known
}

// ReplayLimit makes replay caches of the tenant hold n requests.
func (a *API) ReplayLimit(tenant string, n int) { (*a.tenants.Load())[tenant].replays.limit = n }

// BreakSigner makes the tenant's responses impossible to sign.
func (a *API) BreakSigner(tenant string) {
	(*a.tenants.Load())[tenant].signer = &signer{sign: func([]byte) ([]byte, error) { return nil, errors.New("no entropy") }}
}

// CanonicalBase64 is canonicalBase64.
func CanonicalBase64(text []byte) bool { return canonicalBase64(text) }
