package cli

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"cardea/internal/iam"
	"cardea/internal/testlog"
)

// TestDemoCountsNewKeysAlone: on a slow machine the vault forgets keys in the middle of
// the demo's rotation, because one was replaced, and opens them again for the next read.
// Those calls are not taken for ones that make keys.
func TestDemoCountsNewKeysAlone(t *testing.T) {
	t.Parallel()
	p := &Process{Stdout: io.Discard, Stderr: io.Discard, Now: time.Now}
	dir, said := t.TempDir(), &testlog.Buffer{}
	app, err := startDev(t.Context(), p, devOptions{DataDir: dir, Listen: "127.0.0.1:0", Keys: "127.0.0.1:0", Ops: "127.0.0.1:0", Level: "warn", Log: said})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- app.Run(ctx) }()
	d := &demo{p: p, app: app, dir: dir, http: &http.Client{Transport: &http.Transport{}}}
	defer func() {
		if t.Failed() {
			t.Logf("what vault and key service warned of:\n%s", said)
		}
		d.http.CloseIdleConnections()
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if err := app.Close(); err != nil {
			t.Error(err)
		}
	}()
	calls := func(operation string) int {
		t.Helper()
		n, err := d.kmsCalls(t.Context(), operation)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if _, err := d.post(t.Context(), "/cards/add", `{"merchant_id":"shop","merchant_customer_id":"alice","card":{"card_number":"`+testNumber+`"}}`, 200); err != nil {
		t.Fatal(err)
	}
	if err := d.oneCall(t.Context()); err != nil {
		t.Fatal(err)
	}
	all, made := calls(""), calls(newKeys)
	admin, who := app.Vault().KeyAdmin(), iam.Principal{Type: iam.TypeOperator, Name: "dev", Auth: "internal", Actions: []string{"*"}, Merchants: []string{"*"}}
	if err := admin.Suspend(t.Context(), who, devTenant, "its keys are forgotten"); err != nil {
		t.Fatal(err)
	}
	if err := admin.Resume(t.Context(), who, devTenant, "and opened again"); err != nil {
		t.Fatal(err)
	}
	if err := d.readMarket(t.Context(), d.market[0][0], d.market[0][1]); err != nil {
		t.Fatal(err)
	}
	if got := calls(""); got <= all {
		t.Errorf("%d calls, %d before: no key was opened again", got, all)
	}
	if got := calls(newKeys); got != made || made == 0 {
		t.Errorf("%d keys made, %d before", got, made)
	}
}
