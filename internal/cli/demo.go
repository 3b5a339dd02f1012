package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"cardea/internal/audit"
	"cardea/internal/vault"
)

type demoCommand struct {
	Keep string `type:"path" placeholder:"DIR" help:"Keep the data in this new folder instead of throwing it away."`
}

// Help implements kong.HelpProvider.
func (demoCommand) Help() string {
	return "Examples:\n  cardea demo\n  cardea demo --keep ./demo-data && cardea audit show --data-dir ./demo-data"
}

// demoTTL is how many seconds the demo's short-lived card has.
const demoTTL = 1

func (c demoCommand) Run(ctx context.Context, p *Process) (err error) {
	dir := c.Keep
	if dir == "" {
		if dir, err = os.MkdirTemp("", "cardea-demo-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	} else if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return usageError{fmt.Errorf("--keep: %s is not empty; name a new folder", dir)}
	}
	// What the node logs about the story's tampering would look like a failure of
	// the story; it is shown if there is one.
	var log bytes.Buffer
	d, err := startDev(ctx, p, devOptions{DataDir: dir, Listen: "127.0.0.1:0", Keys: "127.0.0.1:0", Ops: "127.0.0.1:0", Level: "error", Log: &log})
	if err != nil {
		return err
	}
	run := &demo{p: p, app: d, dir: dir, http: &http.Client{Timeout: 30 * time.Second}}
	serving, stop := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- d.Run(serving) }()
	// Stopping twice is harmless; the story stops the node itself before it verifies.
	run.stop = sync.OnceValue(func() error {
		run.http.CloseIdleConnections()
		stop()
		return errors.Join(<-served, d.Close())
	})
	err = run.story(ctx)
	if serr := run.stop(); err == nil {
		err = serr
	}
	if err != nil {
		p.Stderr.Write(log.Bytes()) //nolint:errcheck // the error is told anyhow
		return fmt.Errorf("demo: %w", err)
	}
	fmt.Fprintln(p.Stdout, "\nAll of it is as it should be. 'cardea dev' starts one to try.")
	if c.Keep != "" {
		fmt.Fprintf(p.Stdout, "The data is in %s; '%s audit show --data-dir %s' shows the log.\n", dir, invocation(p), quoted(dir))
	}
	return nil
}

// demo is the state of the story.
type demo struct {
	p    *Process
	app  *devApp
	dir  string
	http *http.Client
	stop func() error
	step int

	market [][2]string // the second merchant's cards: members of a body that name the owner, and the reference
}

// say begins a step.
func (d *demo) say(format string, args ...any) {
	d.step++
	fmt.Fprintf(d.p.Stdout, "%2d. %s\n", d.step, fmt.Sprintf(format, args...))
}

// show prints what happened in a step.
func (d *demo) show(format string, args ...any) {
	fmt.Fprintf(d.p.Stdout, "      %s\n", fmt.Sprintf(format, args...))
}

// answer is every member of every answer that the story looks at.
type answer struct {
	Payload struct {
		Reference   string `json:"card_reference"`
		Duplication string `json:"duplication_check"`
		Card        struct {
			Number string `json:"card_number"`
		} `json:"card"`
	} `json:"payload"`
	Fingerprint string          `json:"fingerprint_id"`
	Data        json.RawMessage `json:"data"`
	Message     string          `json:"message"`
}

// post sends a body and fails if the status is not the one wanted.
func (d *demo) post(ctx context.Context, path, body string, want int) (answer, error) {
	var a answer
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.app.Vault().URL()+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return a, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Tenant-Id", devTenant)
	res, err := d.http.Do(req)
	if err != nil {
		return a, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return a, err
	}
	if res.StatusCode != want {
		return a, fmt.Errorf("POST %s: status %d, want %d", path, res.StatusCode, want)
	}
	if err := json.Unmarshal(text, &a); err != nil {
		return a, fmt.Errorf("POST %s: %w", path, err)
	}
	return a, nil
}

func (d *demo) story(ctx context.Context) error {
	for _, part := range []func(context.Context) error{d.noMasterKey, d.cards, d.otherCalls, d.expiry, d.oneCall, d.rotate, d.tamper, d.verify} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

// ids name the demo card's owner in a body.
const ids = `"merchant_id":"shop","merchant_customer_id":"alice"`

// testNumber is a network's published test number.
const testNumber = "4242424242424242"

func (d *demo) cards(ctx context.Context) error {
	d.say("Store a card, encrypted under the merchant's own key.")
	first, err := d.post(ctx, "/cards/add", devCard, 200)
	if err != nil {
		return err
	}
	ref := first.Payload.Reference
	if ref == "" || first.Payload.Duplication != "" {
		return errors.New("a new card was not stored as new")
	}
	d.show("reference %s", ref)

	d.say("Store the same card again: it is found by a keyed hash, not stored twice.")
	again, err := d.post(ctx, "/cards/add", devCard, 200)
	if err != nil {
		return err
	}
	if again.Payload.Reference != ref || again.Payload.Duplication != "duplicated" {
		return errors.New("the duplicate was not recognised")
	}
	d.show("%s, the same reference", again.Payload.Duplication)

	d.say("Retrieve it.")
	got, err := d.post(ctx, "/cards/retrieve", `{`+ids+`,"card_reference":"`+ref+`"}`, 200)
	if err != nil {
		return err
	}
	if got.Payload.Card.Number != testNumber {
		return errors.New("the card that came back is another")
	}
	d.show("the card is back, and the access is in the audit log")

	d.say("Ask for it as another customer: refused, as if it were not there.")
	if _, err := d.post(ctx, "/cards/retrieve", `{"merchant_id":"shop","merchant_customer_id":"mallory","card_reference":"`+ref+`"}`, 404); err != nil {
		return err
	}
	d.say("Delete it; then it is gone.")
	if _, err := d.post(ctx, "/cards/delete", `{`+ids+`,"card_reference":"`+ref+`"}`, 200); err != nil {
		return err
	}
	_, err = d.post(ctx, "/cards/retrieve", `{`+ids+`,"card_reference":"`+ref+`"}`, 404)
	return err
}

func (d *demo) otherCalls(ctx context.Context) error {
	d.say("Fingerprint a number: the same id each time, useless without the tenant's key.")
	body := `{"data":"` + testNumber + `","key":"shop"}`
	one, err := d.post(ctx, "/cards/fingerprint", body, 200)
	if err != nil {
		return err
	}
	two, err := d.post(ctx, "/cards/fingerprint", body, 200)
	if err != nil {
		return err
	}
	if one.Fingerprint == "" || one.Fingerprint != two.Fingerprint {
		return errors.New("the fingerprint changed")
	}
	d.show("%s", one.Fingerprint)

	d.say("Keep any JSON for a customer (API v2); a refused number names its field.")
	if _, err := d.post(ctx, "/api/v2/vault/add", `{"entity_id":"customer-1","vault_id":"wallet","data":{"b":1,"a":[2.50]}}`, 200); err != nil {
		return err
	}
	v, err := d.post(ctx, "/api/v2/vault/retrieve", `{"entity_id":"customer-1","vault_id":"wallet"}`, 200)
	if err != nil {
		return err
	}
	if string(v.Data) != `{"b":1,"a":[2.50]}` {
		return errors.New("the JSON that came back is another")
	}
	bad, err := d.post(ctx, "/cards/add", `{`+ids+`,"card":{"card_number":"4242424242424241"}}`, 400)
	if err != nil {
		return err
	}
	d.show("%s", bad.Message)
	return nil
}

func (d *demo) expiry(ctx context.Context) error {
	d.say("Store a card for %d second, and wait: it answers no more, and the sweeper removes it.", demoTTL)
	body := fmt.Sprintf(`{%s,"ttl":%d,"card":{"card_number":"5555555555554444"}}`, ids, demoTTL)
	a, err := d.post(ctx, "/cards/add", body, 200)
	if err != nil {
		return err
	}
	if err := pause(ctx, (demoTTL*1000+50)*time.Millisecond); err != nil {
		return err
	}
	if _, err := d.post(ctx, "/cards/retrieve", `{`+ids+`,"card_reference":"`+a.Payload.Reference+`"}`, 404); err != nil {
		return err
	}
	n, err := d.app.Vault().Service().Sweep(ctx, 100)
	if err != nil {
		return err
	}
	d.show("removed: %d", n)
	return nil
}

func (d *demo) tamper(ctx context.Context) error {
	d.say("Tamper: swap the ciphertexts of two rows in the database. Both are refused.")
	a, err := d.post(ctx, "/cards/add", devCard, 200)
	if err != nil {
		return err
	}
	other := `{"merchant_id":"shop","merchant_customer_id":"bob","card":{"card_number":"5555555555554444"}}`
	b, err := d.post(ctx, "/cards/add", other, 200)
	if err != nil {
		return err
	}
	x := vault.LookupOf(devTenant, "shop", vault.SpaceV1, "alice", a.Payload.Reference)
	y := vault.LookupOf(devTenant, "shop", vault.SpaceV1, "bob", b.Payload.Reference)
	if err := d.app.Vault().SwapSealedForDemo(ctx, x, y); err != nil {
		return err
	}
	refused, err := d.post(ctx, "/cards/retrieve", `{`+ids+`,"card_reference":"`+a.Payload.Reference+`"}`, 500)
	if err != nil {
		return err
	}
	d.show("%s", refused.Message)
	_, err = d.post(ctx, "/cards/retrieve", `{"merchant_id":"shop","merchant_customer_id":"bob","card_reference":"`+b.Payload.Reference+`"}`, 500)
	return err
}

func (d *demo) verify(ctx context.Context) error {
	d.say("Stop, and verify the audit logs of both: every entry, every checkpoint, every signature.")
	logs := []struct {
		of, origin, verifier string
		keyService           bool
		entries              int64 // at least
	}{
		{"vault", "cardea/dev", d.app.Vault().Verifier(), false, 2*demoCustomers + 15},
		{"key service", "cardea/dev-keys", d.app.Keys().Verifier(), true, 15},
	}
	if err := d.stop(); err != nil {
		return err
	}
	for _, l := range logs {
		src, err := (logSource{DataDir: d.dir, KeyService: l.keyService}).open(ctx, d.p, "demo")
		if err != nil {
			return err
		}
		report, err := audit.Verify(ctx, src, audit.VerifyOptions{Verifiers: []string{l.verifier}, Origins: []string{l.origin}})
		err = errors.Join(err, src.close())
		if err != nil {
			return err
		}
		if !report.OK() || len(report.Logs) != 1 || report.Logs[0].Entries < l.entries || report.Logs[0].UnsignedTail != 0 {
			return fmt.Errorf("the audit log of the %s does not verify: %+v", l.of, report)
		}
		d.show("%s: %d entries, intact; nothing unsigned", l.of, report.Logs[0].Entries)
	}
	found, err := containsFile(d.dir, []byte(testNumber))
	if err != nil {
		return err
	}
	d.say("Look for the card number in every file of the data folder: it is in none.")
	if found != "" {
		return fmt.Errorf("a card number is in clear in %s", found)
	}
	return nil
}

// containsFile is the first file below dir that contains needle.
func containsFile(dir string, needle []byte) (found string, err error) {
	err = filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() || found != "" {
			return err
		}
		b, err := os.ReadFile(path) //nolint:gosec // G122: the folder is the demo's own
		if bytes.Contains(b, needle) {
			found = path
		}
		return err
	})
	return found, err
}
