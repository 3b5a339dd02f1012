package apptest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cardea/internal/adminapi"
	"cardea/internal/config"
	"cardea/internal/vault"
)

// TestKeyWorkCrash kills the node with SIGKILL at random moments of rotations and of
// migrations between modes, under load. Each job is carried on by the next start to
// its end; afterwards every acknowledged card is under the reference that was given
// for it and opens, all rows are under keys as configured, and the audit log
// verifies. With 'make crash' the last job waits for retirement, and then a merchant
// is shredded.
func TestKeyWorkCrash(t *testing.T) {
	url, keys, _ := embeddedKMS(t)
	for name := range databases {
		t.Run(name, func(t *testing.T) {
			in := install(t, name)
			base, err := os.ReadFile(in.config)
			if err != nil {
				t.Fatal(err)
			}
			sockets, err := os.MkdirTemp("", "cardea") // the path of a socket must be short
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(sockets) })
			socket := filepath.Join(sockets, "s")
			configure := func(mode string) {
				text := strings.Replace(string(base), "[vault]\n", fmt.Sprintf("[vault]\nadmin_socket = %q\n", socket), 1)
				text = strings.Replace(text, `mode = "local"`, fmt.Sprintf("mode = %q\nkms.key_id = %q\nkms.endpoint = %q", mode, keys[0], url), 1)
				write(t, in.config, text)
			}
			o := operator{adminapi.NewClient(socket), func(time.Duration) { time.Sleep(time.Second) }} // it is not this process's clock
			f := &fleet{cards: map[string]string{}, dies: true}
			modes := []string{config.ModeLocal, config.ModeKMSEnvelope, config.ModeKMS}
			configure(modes[0])
			n := f.start(t, in)
			client := &http.Client{Timeout: 30 * time.Second}
			for i := range 60 {
				f.store(t.Context(), client, fmt.Sprintf("seed-%d", i))
			}
			all := 3 * min(*rounds, 3) // a job whose node is killed waits for its lease to end
			jobs := 0
			for round := range all {
				retires := *rounds > 2 && round == all-1
				operation := "vault/Rotate"
				if round%3 != 0 { // to the next mode
					n.kill(t)
					configure(modes[(round-round/3)%len(modes)])
					n, operation = f.start(t, in), "vault/Migrate"
				}
				stop := f.traffic(t, fmt.Sprintf("r%d", round))
				var j adminapi.Job
				if err := o.Call(t.Context(), operation, &vault.JobRequest{Tenant: tenant, Keep: !retires, Verify: round%2 == 0}, &j); err != nil {
					t.Fatalf("%s: %v\n%s", operation, err, n.log)
				}
				for range 1 + rand.IntN(3) {
					time.Sleep(time.Duration(rand.IntN(150)) * time.Millisecond) // the moment of the kill, not a wait for anything
					n.kill(t)
					n = f.start(t, in)
				}
				j = o.ended(t, j.ID)
				stop()
				if j.State != vault.JobDone || j.Bad != 0 {
					t.Fatalf("%s: %+v\n%s", operation, j, n.log)
				}
				jobs++
				f.check(t, operation)
				if byMode, current := o.count(t); len(byMode) != 1 || !current {
					t.Errorf("after %s records are %v, all as configured: %v", operation, byMode, current)
				}
			}
			if *rounds > 2 {
				f.shred(t, in, o, &n)
			}
			n.stop(t)
			in.run(t, "audit", "verify", "--config", in.config)
			t.Logf("%d jobs, each killed at random moments: all %d acknowledged cards are kept", jobs, len(f.cards))
		})
	}
}

// start starts the node and tells the clients where it is.
func (f *fleet) start(t *testing.T, in *installation) *node {
	t.Helper()
	n := in.start(t)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.urls = []string{n.url}
	return n
}

// ended waits until a job of a real process has ended, which may wait itself.
func (o operator) ended(t *testing.T, id string) adminapi.Job {
	t.Helper()
	var j adminapi.Job
	for end := time.Now().Add(5 * time.Minute); !j.Ended(); {
		if err := o.Call(t.Context(), "vault/Job", &adminapi.JobID{ID: id}, &j); err != nil || time.Now().After(end) {
			t.Fatalf("job is %+v, %v", j, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	return j
}

// shred destroys a merchant's keys, is killed, and leaves nothing of it.
func (f *fleet) shred(t *testing.T, in *installation, o operator, n **node) {
	t.Helper()
	var j adminapi.Job
	if err := o.Call(t.Context(), "vault/Shred", &vault.JobRequest{Tenant: tenant, Holder: "m1", Reason: "test"}, &j); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		time.Sleep(time.Duration(rand.IntN(10000)) * time.Millisecond) // the moment of the kill
		(*n).kill(t)
		*n = f.start(t, in)
	}
	if j = o.ended(t, j.ID); j.State != vault.JobDone {
		t.Fatalf("%+v", j)
	}
	client := &http.Client{Timeout: 30 * time.Second}
	for customer, ref := range f.cards {
		i := int(customer[len(customer)-1]) % len(numbers)
		status, _ := f.ask(context.Background(), client, "/cards/retrieve", fmt.Sprintf(`{"merchant_id":"m%d","merchant_customer_id":%q,"card_reference":%q}`, i, customer, ref))
		if want := map[bool]int{true: http.StatusNotFound, false: http.StatusOK}[i == 1]; status != want {
			t.Errorf("card of m%d after m1 was shredded: %d", i, status)
		}
	}
}
