package lockerapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"cardea/internal/custodian"
	"cardea/internal/lockerapi"
	"cardea/internal/testlog"
	"cardea/internal/vault"
)

// stored is what Hyperswitch reads of an add.
type stored struct {
	Status  string
	Payload struct {
		CardReference    string  `json:"card_reference"`
		DuplicationCheck *string `json:"duplication_check"`
	}
}

func (s *server) add(t testing.TB, c *envelopeClient, body string) stored {
	t.Helper()
	got := c.do(t, s, post("/cards/add", body))
	var out stored
	if err := json.Unmarshal([]byte(got.body), &out); err != nil || got.status != http.StatusOK || out.Status != "Ok" {
		t.Fatalf("add: %d %s", got.status, got.body)
	}
	return out
}

func duplication(s stored) string {
	if s.Payload.DuplicationCheck == nil {
		return ""
	}
	return *s.Payload.DuplicationCheck
}

func addBody(card, more string) string {
	return `{"merchant_id":"m","merchant_customer_id":"c",` + more + `"card":` + card + `,"ttl":220752000}`
}

// TestHyperswitchV1Flow is what the client does, its envelope included: store,
// find a duplicate, and on changed metadata delete and store again under the old
// reference, at once.
func TestHyperswitchV1Flow(t *testing.T) {
	t.Parallel()
	tenants := jweTenants()
	acme := tenants["acme"]
	acme.ResponseKeyAlgorithm = "RSA-OAEP" // what stock Hyperswitch expects
	tenants["acme"] = acme
	s := serve(t, serverOptions{tenants: tenants})
	c := rsaClient()
	c.answerAlg = "RSA-OAEP"
	card := `{"card_number":"4111111111111111","name_on_card":"Ada Lovelace","card_exp_month":"03","card_exp_year":"2030"}`

	if got := send(t, http.DefaultClient, s.url, request{method: http.MethodGet, path: "/health", header: http.Header{}}); got.status != 200 {
		t.Fatalf("health %d", got.status)
	}
	first := s.add(t, c, addBody(card, ""))
	again := s.add(t, c, addBody(card, ""))
	if again.Payload.CardReference != first.Payload.CardReference || duplication(again) != "duplicated" {
		t.Fatalf("second add: %+v", again)
	}
	renewed := strings.Replace(card, "2030", "2035", 1)
	changed := s.add(t, c, addBody(renewed, ""))
	if changed.Payload.CardReference != first.Payload.CardReference || duplication(changed) != "meta_data_changed" {
		t.Fatalf("changed add: %+v", changed)
	}
	named := fmt.Sprintf(`{"merchant_id":"m","merchant_customer_id":"c","card_reference":%q}`, first.Payload.CardReference)
	got := c.do(t, s, post("/cards/delete", named))
	got.want(t, 200, `{"status":"Ok"}`)
	third := s.add(t, c, addBody(renewed, fmt.Sprintf(`"requestor_card_reference":%q,`, first.Payload.CardReference)))
	if third.Payload.CardReference != first.Payload.CardReference || duplication(third) != "" {
		t.Fatalf("add after delete: %+v", third)
	}
	got = c.do(t, s, post("/cards/retrieve", named))
	if got.status != 200 || !strings.Contains(got.body, `"card_exp_year":"2035"`) || !strings.Contains(got.body, `"card_exp_month":"03"`) {
		t.Errorf("retrieve: %d", got.status)
	}
}

// TestHyperswitchV2Flow: fingerprint first, then add under a customer as entity,
// retrieve, delete.
func TestHyperswitchV2Flow(t *testing.T) {
	t.Parallel()
	s := serve(t, serverOptions{tenants: jweTenants()})
	c := ecClient()
	do := func(path, body string) reply { return c.do(t, s, post(path, body, "x-tenant-id", "ec")) }
	method := `{"Card":{"card_number":"4242424242424242","card_exp_month":"10","card_exp_year":"2031"}}`
	fp := do("/api/v2/vault/fingerprint", fmt.Sprintf(`{"data":%q,"key":"cus_1"}`, method))
	if fp.status != 200 || do("/api/v2/vault/fingerprint", fmt.Sprintf(`{"data":%q,"key":"cus_1"}`, method)).body != fp.body {
		t.Fatalf("fingerprint: %d %s", fp.status, fp.body)
	}
	if do("/api/v2/vault/fingerprint", fmt.Sprintf(`{"data":%q,"key":"cus_2"}`, method)).body == fp.body {
		t.Error("two customers share a fingerprint")
	}
	const ids = `{"entity_id":"cus_1","vault_id":"01890000-0000-7000-8000-000000000001"}`
	do("/api/v2/vault/add", strings.TrimSuffix(ids, "}")+`,"data":`+method+`,"ttl":220752000}`).want(t, 200, ids)
	do("/api/v2/vault/retrieve", ids).want(t, 200, `{"data":`+method+`}`)
	do("/api/v2/vault/delete", ids).want(t, 200, ids)
	do("/api/v2/vault/retrieve", ids).want(t, 404, notFound)
	do("/api/v2/vault/delete", strings.Replace(ids, "cus_1", "cus_9", 1)).want(t, 404, notFound)
}

// TestConcurrentAddsOfOneCardAllSucceed: at the peer the loser gets 404.
func TestConcurrentAddsOfOneCardAllSucceed(t *testing.T) {
	t.Parallel()
	s := serve(t, serverOptions{})
	const n = 16
	replies := make([]reply, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { replies[i] = s.do(t, post("/cards/add", addBody(`{"card_number":"5555555555554444"}`, ""))) })
	}
	wg.Wait()
	references, fresh := map[string]bool{}, 0
	for _, r := range replies {
		var out stored
		if err := json.Unmarshal([]byte(r.body), &out); err != nil || r.status != 200 {
			t.Fatalf("%d %s", r.status, r.body)
		}
		references[out.Payload.CardReference] = true
		if duplication(out) == "" {
			fresh++
		}
	}
	if len(references) != 1 || fresh != 1 {
		t.Errorf("%d references, %d of them new; want one and one", len(references), fresh)
	}
}

// TestRequestIDReachesTheAuditLog: the same id in header, answer and entry.
func TestRequestIDReachesTheAuditLog(t *testing.T) {
	t.Parallel()
	s := serve(t, serverOptions{})
	for _, r := range []request{
		post("/cards/retrieve", retrieveBody, "x-request-id", "req-1"), // audited by the vault
		post("/cards/retrieve", "nonsense", "x-request-id", "req-2"),   // audited by the API
	} {
		got := s.do(t, r)
		entries, err := s.Store.Entries(s.Store.Len() - 1)
		if err != nil {
			t.Fatal(err)
		}
		id := r.header.Get("X-Request-Id")
		if got.header.Get("X-Request-Id") != id || entries[0].RequestID != id {
			t.Errorf("%s came back as %s and was logged as %s", id, got.header.Get("X-Request-Id"), entries[0].RequestID)
		}
	}
}

// TestEveryErrorHasAnAnswer walks the sentinels of the vault and, in its
// source, those of package custodian.
func TestEveryErrorHasAnAnswer(t *testing.T) {
	t.Parallel()
	all := map[string]error{
		"ErrMalformed": custodian.ErrMalformed, "ErrWrongPart": custodian.ErrWrongPart, "ErrNotEnough": custodian.ErrNotEnough,
		"ErrDoesNotOpen": custodian.ErrDoesNotOpen, "ErrCorruptSeal": custodian.ErrCorruptSeal, "ErrSameCustodian": custodian.ErrSameCustodian,
		"ErrPartTaken": custodian.ErrPartTaken, "ErrLocked": custodian.ErrLocked, "ErrUnlocked": custodian.ErrUnlocked,
		"ErrUnknownTenant": custodian.ErrUnknownTenant, "ErrMalformedToken": custodian.ErrMalformedToken,
		"ErrBadToken": custodian.ErrBadToken, "ErrExpired": custodian.ErrExpired,
		"ErrCustodianSeal": custodian.ErrCustodianSeal, "ErrTokenSeal": custodian.ErrTokenSeal,
		"RateLimitedError": &custodian.RateLimitedError{}, "LockedOutError": &custodian.LockedOutError{},
		"PartError": &custodian.PartError{Kind: custodian.ErrWrongPart},
	}
	for _, name := range exportedErrors(t, "../custodian") {
		if all[name] == nil {
			t.Errorf("custodian.%s is not in this test", name)
		}
	}
	for i, err := range vault.Errors() {
		all[fmt.Sprintf("vault %d", i)] = err
	}
	all["ValidationError"] = &vault.ValidationError{Field: "f", Reason: "r"}
	for name, err := range all {
		status, code, message, known := lockerapi.AnswerOf(fmt.Errorf("wrapped: %w", err))
		if !known || status < 400 || !strings.HasPrefix(code, "TE_0") || message == "" {
			t.Errorf("%s: %d %s %q, known %v", name, status, code, message, known)
		}
	}
	if status, code, message, known := lockerapi.AnswerOf(errors.New("new")); known || status != 500 || code != "TE_00" || message != "Something went wrong" {
		t.Errorf("unknown error: %d %s %q %v", status, code, message, known)
	}
}

// TestAnUnwrittenEntryOutweighsEverything: an operation that is not in the log
// has failed, whatever else it did.
func TestAnUnwrittenEntryOutweighsEverything(t *testing.T) {
	t.Parallel()
	for _, err := range append(vault.Errors(), &vault.ValidationError{Field: "f", Reason: "r"}, custodian.ErrUnlocked) {
		if status, _, message, _ := lockerapi.AnswerOf(errors.Join(err, vault.ErrUnavailable)); status != 500 || message != "Failed while connecting to database" {
			t.Errorf("%v: %d %s", err, status, message)
		}
	}
}

// exportedErrors are the names of a package's sentinels and error types.
func exportedErrors(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		src, err := parser.ParseFile(token.NewFileSet(), f, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for name, o := range src.Scope.Objects {
			sentinel := o.Kind == ast.Var && strings.HasPrefix(name, "Err")
			kind := o.Kind == ast.Typ && strings.HasSuffix(name, "Error") && ast.IsExported(name)
			if sentinel || kind {
				out = append(out, name)
			}
		}
	}
	if len(out) == 0 {
		t.Fatal("no errors found")
	}
	return out
}

// TestEveryRouteIsInAGoldenFile and answers its wrong method with 405.
func TestEveryRouteIsInAGoldenFile(t *testing.T) {
	t.Parallel()
	s := serve(t, serverOptions{})
	files, err := filepath.Glob("testdata/wire/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, f := range files {
		a, err := txtar.ParseFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range a.Files {
			line, _, _ := strings.Cut(string(x.Data), "\n")
			line, _, _ = strings.Cut(line, "?")
			seen[line] = true
		}
	}
	for _, r := range lockerapi.Routes() {
		if !strings.HasPrefix(r.Path, "/custodian/") && !seen[r.Method+" "+r.Path] {
			t.Errorf("%s %s is in no golden file", r.Method, r.Path)
		}
		path, before := strings.Replace(r.Path, "/status/", "/status/acme", 1), s.Store.Len()
		got := s.do(t, request{method: http.MethodPatch, path: path, header: http.Header{}})
		if got.status != http.StatusMethodNotAllowed || got.body != "" || !strings.HasPrefix(got.header.Get("Allow"), r.Method) {
			t.Errorf("PATCH %s: %d %q Allow %q", path, got.status, got.body, got.header.Get("Allow"))
		}
		if s.Store.Len() != before {
			t.Errorf("PATCH %s is in the audit log", path)
		}
	}
}

// TestNothingOfACardComesBackOrIsLogged sends a card number in every place where
// it does not belong.
func TestNothingOfACardComesBackOrIsLogged(t *testing.T) {
	t.Parallel()
	const number, name = "4111111111111111", "Canary Cardholder"
	var log testlog.Buffer
	s := serve(t, serverOptions{change: func(o *lockerapi.Options) {
		o.Logger = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}})
	s.Store.FailWith(func(op string) error {
		if op == "PutRecord" || op == "UpsertRecord" {
			return errors.New("down")
		}
		return nil
	})
	for _, body := range []string{
		addBody(`{"card_number":"4111111111111111","name_on_card":"Canary Cardholder"}`, ""),
		addBody(`{"card_number":4111111111111111,"name_on_card":"Canary Cardholder"}`, ""),
		addBody(`{"card_number":"4111111111111111x","name_on_card":"Canary Cardholder"}`, ""),
		addBody(`"4111111111111111 Canary Cardholder"`, ""),
		`{"4111111111111111":1,"4111111111111111":"Canary Cardholder"`,
		`{"merchant_id":"m","ttl":4111111111111111.5,"Canary Cardholder":[}`,
		`"4111111111111111`, `4111111111111111 Canary Cardholder`,
		`{"entity_id":"e","vault_id":"v","data":{"n":"4111111111111111","c":"Canary Cardholder"}}`,
		`{"data":"4111111111111111","key":["Canary Cardholder"]}`,
	} {
		for _, r := range lockerapi.Routes() {
			if r.Method != http.MethodPost {
				continue
			}
			req := post(r.Path+"?mode="+number, body, "x-fingerprint-id", number)
			if strings.Contains(body, "vault_id") {
				req.path = r.Path + "?mode=upsert"
			}
			got := s.do(t, req)
			if strings.Contains(got.body, number) || strings.Contains(got.body, name) {
				t.Errorf("%s gives back what it was sent: %d", r.Path, got.status)
			}
		}
	}
	s.do(t, post("/cards/retrieve", retrieveBody, "x-tenant-id", number))
	if log.String() == "" {
		t.Error("failures of the store were not logged")
	}
	for what, text := range map[string][]byte{"log": []byte(log.String()), "audit log": s.Store.Lines()} {
		if bytes.Contains(text, []byte(number)) || bytes.Contains(text, []byte(name)) {
			t.Errorf("the %s holds what was sent", what)
		}
	}
}

// TestFailuresAreLoggedOnceWithTheRequestID so that an operator finds the cause.
func TestFailuresAreLoggedOnceWithTheRequestID(t *testing.T) {
	t.Parallel()
	var log testlog.Buffer
	s := serve(t, serverOptions{change: func(o *lockerapi.Options) {
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	}})
	s.Keys.FailWith(errors.New("flux capacitor"))
	s.do(t, post("/cards/add", addBody(`{"card_number":"4111111111111111"}`, ""), "x-request-id", "req-7")).want(t, 500, failure("TE_00", "Something went wrong"))
	s.do(t, post("/cards/retrieve", retrieveBody)).want(t, 404, notFound)
	if lines := strings.Count(log.String(), "\n"); lines != 1 || !strings.Contains(log.String(), "flux capacitor") || !strings.Contains(log.String(), "req-7") {
		t.Errorf("%d lines: %s", lines, log.String())
	}
}

// TestMetricsCountRefusals by labels of a fixed set.
func TestMetricsCountRefusals(t *testing.T) {
	t.Parallel()
	tenants := replayTenants(lockerapi.ReplayPolicy{Window: 60e9})
	tenants["plain"] = lockerapi.TenantConfig{DeleteLimit: lockerapi.DeleteLimit{Requests: 1, Per: 60e9}}
	s := serve(t, serverOptions{tenants: tenants})
	s.do(t, post("/cards/retrieve", ecClient().seal(t, retrieveBody)))                     // no jti
	s.do(t, post("/cards/retrieve", rsaClient().seal(t, retrieveBody)))                    // wrong key
	s.from("203.0.113.9:1", post("/cards/retrieve", retrieveBody, "x-tenant-id", "plain")) // not local
	s.do(t, post("/cards/delete", retrieveBody, "x-tenant-id", "plain"))
	s.do(t, post("/cards/delete", retrieveBody, "x-tenant-id", "plain"))
	families, err := s.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range families {
		for _, m := range f.GetMetric() {
			value := m.GetCounter().GetValue()
			if h := m.GetHistogram(); h != nil {
				value = float64(h.GetSampleCount())
			}
			label := ""
			if l := m.GetLabel(); len(l) > 0 {
				label = l[0].GetValue()
			}
			got = append(got, fmt.Sprintf("%s{%s} %v", f.GetName(), label, value))
		}
	}
	want := []string{
		"cardea_locker_auth_failures_total{jwe} 2", "cardea_locker_auth_failures_total{plain} 1",
		"cardea_locker_jwe_seconds{open} 1", "cardea_locker_jwe_seconds{seal} 0",
		"cardea_locker_rate_limited_total{/cards/delete} 1", "cardea_locker_refusals_counted_total{} 0", "cardea_locker_replay_refused_total{missing} 1",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

// TestNewRefuses what would not work later.
func TestNewRefuses(t *testing.T) {
	t.Parallel()
	if _, err := lockerapi.New(lockerapi.Options{}); err == nil || err.Error() != "locker API: no service" {
		t.Errorf("no service: %v", err)
	}
	s := serve(t, serverOptions{})
	_, err := lockerapi.New(lockerapi.Options{Service: s.Service, Tenants: jweTenants()})
	if err == nil || !strings.Contains(err.Error(), "envelope jwe needs a locker private key") {
		t.Errorf("no key: %v", err)
	}
	if _, err := lockerapi.New(lockerapi.Options{Service: s.Service, Metrics: s.metrics}); err == nil {
		t.Error("metrics registered twice")
	}
}

// TestClientThatHangsUpIsStillAudited: the access is tried, so it is logged.
func TestClientThatHangsUpIsStillAudited(t *testing.T) {
	t.Parallel()
	s := serve(t, serverOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "/cards/retrieve", strings.NewReader("nonsense"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header, req.RemoteAddr = post("", "").header, "127.0.0.1:1"
	s.api.Handler().ServeHTTP(discard{}, req)
	if lines := s.auditLines(t, 0); len(lines) != 1 {
		t.Errorf("audit %q", lines)
	}
}

type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) WriteHeader(int)             {}
