package lockerapi_test

import (
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"cardea/internal/lockerapi"
	"cardea/internal/vault"
	"cardea/internal/vault/vaulttest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestWire sends every request of testdata/wire/*.txtar and compares status,
// headers, body and audit entries with what is written there. A section "x" is a
// request, "x.answer" what came back. A section "do WORDS" changes the world.
// Every file runs a second time in the envelope, where each inner answer must be
// the same.
func TestWire(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/wire/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txtar")
		t.Run(name+"/plain", func(t *testing.T) {
			t.Parallel()
			runWire(t, file, nil)
		})
		t.Run(name+"/jwe", func(t *testing.T) {
			t.Parallel()
			runWire(t, file, rsaClient())
		})
	}
}

func runWire(t *testing.T, file string, client *envelopeClient) {
	a, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	acme := lockerapi.TenantConfig{}
	if client != nil {
		acme = lockerapi.TenantConfig{Envelope: lockerapi.EnvelopeJWE, ClientKey: &clientRSA().PublicKey}
	}
	custodians := vaulttest.NewCustodians()
	s := serve(t, serverOptions{custodians: custodians, tenants: map[string]lockerapi.TenantConfig{"acme": acme, "beta": {}}})
	var out []txtar.File
	for _, f := range a.Files {
		if strings.HasSuffix(f.Name, ".answer") {
			continue
		}
		out = append(out, f)
		if words, ok := strings.CutPrefix(f.Name, "do "); ok {
			s.act(t, custodians, strings.Fields(words))
			continue
		}
		r := parseRequest(t, f)
		before := s.Store.Len()
		var got string
		if client != nil && r.header.Get("X-Tenant-Id") == "acme" && wrappedPath(r.path) {
			got = s.answerInEnvelope(t, client, r)
		} else {
			got = writeAnswer(s.do(t, r))
		}
		for _, line := range s.auditLines(t, before) {
			got += "\naudit " + line
		}
		out = append(out, txtar.File{Name: f.Name + ".answer", Data: []byte(normalise(got) + "\n\n")})
	}
	a.Files, out = out, a.Files
	if *update && client == nil {
		if err := os.WriteFile(file, txtar.Format(a), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	compareWire(t, a.Files, out, client != nil)
}

// compareWire compares the sections by name.
func compareWire(t *testing.T, got, want []txtar.File, envelope bool) {
	t.Helper()
	wanted := map[string]string{}
	for _, f := range want {
		wanted[f.Name] = strings.TrimSpace(string(f.Data))
	}
	for _, f := range got {
		g, w := strings.TrimSpace(string(f.Data)), wanted[f.Name]
		if envelope && strings.HasSuffix(f.Name, ".answer") {
			g, w = withoutEnvelope(g), withoutEnvelope(w)
		}
		if g != w {
			t.Errorf("%s\n--- got\n%s\n--- want\n%s", f.Name, g, w)
		}
	}
}

// lengths and senders are what an envelope changes.
var envelopeNoise = regexp.MustCompile(`(?m)^Content-Length: .*\n|(tenant|anonymous)/(loopback/loopback|jws:acme/jws|anonymous/none)|^Content-Type: .*\n`)

func withoutEnvelope(s string) string { return envelopeNoise.ReplaceAllString(s, "") }

// wrappedPath reports whether a path's bodies are in the envelope.
func wrappedPath(path string) bool {
	path, _, _ = strings.Cut(path, "?")
	for _, r := range lockerapi.Routes() {
		if r.Path == path {
			return r.Wrapped
		}
	}
	return false
}

func parseRequest(t *testing.T, f txtar.File) request {
	t.Helper()
	head, body, _ := strings.Cut(string(f.Data), "\n\n")
	lines := strings.Split(strings.TrimSpace(head), "\n")
	method, path, ok := strings.Cut(lines[0], " ")
	if !ok {
		t.Fatalf("%s: no request line", f.Name)
	}
	r := request{method: method, path: path, header: http.Header{"X-Request-Id": {"golden"}}}
	for _, l := range lines[1:] {
		name, value, _ := strings.Cut(l, ":")
		r.header.Add(name, strings.TrimSpace(value))
	}
	if r.header.Get("X-Tenant-Id") == "none" {
		r.header.Del("X-Tenant-Id")
	} else if r.header.Get("X-Tenant-Id") == "" {
		r.header.Set("X-Tenant-Id", "acme")
	}
	if method == http.MethodPost && r.header.Get("Content-Type") == "" {
		r.header.Set("Content-Type", "application/json")
	}
	r.body = strings.TrimSpace(body)
	for n, text := range map[string]string{
		"<256>": strings.Repeat("x", 256), "<255>": strings.Repeat("ü", 255), "<2000>": strings.Repeat("y", 2000),
		"<deep>": strings.Repeat("[", 70) + strings.Repeat("]", 70), "<63deep>": strings.Repeat("[", 63) + strings.Repeat("]", 63),
	} {
		r.body = strings.ReplaceAll(r.body, n, text)
	}
	return r
}

func writeAnswer(r reply) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d\n", r.status)
	names := slices.Sorted(func(yield func(string) bool) {
		for n := range r.header {
			if n != "Date" && !yield(n) {
				return
			}
		}
	})
	for _, n := range names {
		fmt.Fprintf(&b, "%s: %s\n", n, strings.Join(r.header[n], " | "))
	}
	return b.String() + "\n" + r.body
}

// act changes the world between two requests.
func (s *server) act(t *testing.T, c *vaulttest.Custodians, words []string) {
	t.Helper()
	switch words[0] {
	case "lock":
		c.Lock(words[1])
	case "unlock":
		c.Unlock(words[1])
	case "damage":
		s.Store.Damage()
	case "advance":
		d, err := time.ParseDuration(words[1])
		if err != nil {
			t.Fatal(err)
		}
		s.clock.advance(d)
	case "fail":
		s.Store.FailWith(func(op string) error {
			if slices.Contains(words[1:], op) {
				return errors.New("disk on fire")
			}
			return nil
		})
	case "probe":
		s.Store.SetProbe(vault.Probe{Write: errors.New("read-only"), Delete: errors.New("read-only")})
	case "keys":
		s.Keys.FailWith(vault.ErrKeyUnavailable)
	case "repair":
		s.Store.FailWith(nil)
		s.Keys.FailWith(nil)
		s.Store.SetProbe(vault.Probe{})
	case "remove":
		s.SetTenants("beta")
	default:
		t.Fatalf("unknown action %v", words)
	}
}

var (
	uuidText        = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`)
	fingerprintText = regexp.MustCompile(`("fingerprint_id":"| )[0-9A-Za-z]{20}("| |$)`)
)

// normalise replaces what is random.
func normalise(s string) string {
	s = uuidText.ReplaceAllString(s, "<uuid>")
	return fingerprintText.ReplaceAllStringFunc(s, func(m string) string {
		if strings.Contains(m, "Wanted") {
			return m
		}
		return fingerprintText.ReplaceAllString(m, "$1<fingerprint>$2")
	})
}
