package apptest

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"cardea/internal/adminapi"
	"cardea/internal/config"
	"cardea/internal/vault"
)

// keyWork is a node whose keys are worked on, under clients, and which is killed
// meanwhile.
type keyWork struct {
	*fleet
	in   *installation
	base string // its configuration
	sock string
	rate int // of its jobs, in rows a second
	o    operator
	n    *node
}

// installKeyWork installs a node on a clock of its own, whose jobs move so many rows
// a second.
func installKeyWork(t *testing.T, database string, rate int) *keyWork {
	t.Helper()
	w := &keyWork{fleet: &fleet{cards: map[string]string{}, dies: true}, in: install(t, database)}
	w.in.clock = newClockFile(t)
	text, err := os.ReadFile(w.in.config)
	if err != nil {
		t.Fatal(err)
	}
	sockets, err := os.MkdirTemp("", "cardea") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(sockets) })
	w.sock = filepath.Join(sockets, "s")
	w.base = strings.Replace(string(text), "[vault]\n", fmt.Sprintf("[keys]\nreencrypt_rate = %d\n[vault]\nadmin_socket = %q\n", rate, w.sock), 1)
	w.rate = rate
	write(t, w.in.config, w.base)
	w.o = operator{adminapi.NewClient(w.sock), w.steady(func(d time.Duration) { w.in.clock.pass(t, d) })}
	return w
}

// start starts the node and tells the clients where it is. Until then they ask nobody:
// the port of the one before may be another server's by now.
func (w *keyWork) start(t *testing.T) {
	t.Helper()
	w.at(nil)
	w.n = w.in.start(t)
	w.at([]string{w.n.url})
}

// at tells the clients where nodes are.
func (w *keyWork) at(urls []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.urls = urls
}

// again kills the node and starts it.
func (w *keyWork) again(t *testing.T) {
	t.Helper()
	w.n.kill(t)
	w.start(t)
}

// againAt kills the node and starts it with jobs at another rate: slow ones stay where
// they can be seen from outside, however slow the machine is.
func (w *keyWork) againAt(t *testing.T, rate int) {
	t.Helper()
	was := fmt.Sprintf("reencrypt_rate = %d\n", w.rate)
	w.base, w.rate = strings.Replace(w.base, was, fmt.Sprintf("reencrypt_rate = %d\n", rate), 1), rate
	write(t, w.in.config, w.base)
	w.again(t)
}

// Rates at which a job takes half a minute for the cards of m1, a second, and none
// worth a word.
const slow, paced, quick = 10, 300, 10_000

// seed stores cards of n customers. The last digit says whose one is.
func (w *keyWork) seed(t *testing.T, n int, customer func(i int) string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}, Timeout: patience}
	defer client.CloseIdleConnections()
	var wg sync.WaitGroup
	for k := range 8 {
		wg.Go(func() {
			for i := k; i < n; i += 8 {
				w.store(t.Context(), client, customer(i))
			}
		})
	}
	wg.Wait()
}

// until waits for something, for as long as patience lasts.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// ended lets the time pass that a job waits for, and returns it when it has ended.
func (w *keyWork) ended(t *testing.T, id string) adminapi.Job {
	t.Helper()
	var j adminapi.Job
	until(t, "the job ends", func() bool {
		if j = w.job(t, id); j.State == vault.JobWaiting {
			w.o.passes(2 * time.Second)
		}
		return j.Ended()
	})
	return j
}

func (w *keyWork) job(t *testing.T, id string) (j adminapi.Job) {
	t.Helper()
	if err := w.o.Call(t.Context(), "vault/Job", &adminapi.JobID{ID: id}, &j); err != nil {
		t.Fatalf("%v\n%s", err, w.n.log)
	}
	return j
}

// begin begins a job.
func (w *keyWork) begin(t *testing.T, operation string, r vault.JobRequest) string {
	t.Helper()
	r.Tenant = tenant
	var j adminapi.Job
	if err := w.o.Call(t.Context(), operation, &r, &j); err != nil {
		t.Fatalf("%s: %v\n%s", operation, err, w.n.log)
	}
	return j.ID
}

// keysOf are the versions of a merchant's key, with their records counted.
func (w *keyWork) keysOf(t *testing.T, merchant string) []vault.KeyInfo {
	t.Helper()
	var keys adminapi.List[vault.KeyInfo]
	if err := w.o.Call(t.Context(), "vault/Keys", &vault.KeyQuery{Tenant: tenant, Holder: merchant, Count: true}, &keys); err != nil {
		t.Fatal(err)
	}
	return keys.Items
}

// TestKeyWorkCrash kills the node with SIGKILL at random moments of rotations and of
// migrations between modes, under load. Each job is carried on by the next start to
// its end; afterwards every acknowledged card is under the reference that was given
// for it and opens, all rows are under keys as configured, and the audit log
// verifies. The last job of all retires what was replaced.
func TestKeyWorkCrash(t *testing.T) {
	url, keys, _ := embeddedKMS(t)
	for name := range databases {
		t.Run(name, func(t *testing.T) {
			w := installKeyWork(t, name, 1000)
			modes := []string{config.ModeLocal, config.ModeKMSEnvelope, config.ModeKMS}
			configure := func(mode string) {
				write(t, w.in.config, strings.Replace(w.base, `mode = "local"`, fmt.Sprintf("mode = %q\nkms.key_id = %q\nkms.endpoint = %q", mode, keys[0], url), 1))
			}
			configure(modes[0])
			w.start(t)
			w.seed(t, 60, func(i int) string { return fmt.Sprintf("seed-%d", i) })
			all := 3 * min(*rounds, 3)
			for round := range all {
				operation := "vault/Rotate"
				if round%3 != 0 { // to the next mode
					w.n.kill(t)
					configure(modes[(round-round/3)%len(modes)])
					w.start(t)
					operation = "vault/Migrate"
				}
				stop := w.traffic(t, fmt.Sprintf("r%d", round))
				id := w.begin(t, operation, vault.JobRequest{Keep: round < all-1, Verify: round%2 == 0})
				for range 1 + rand.IntN(3) {
					w.answers(t, 1+rand.IntN(40)) // the moment of the kill
					w.again(t)
				}
				j := w.ended(t, id)
				stop()
				if j.State != vault.JobDone || j.Bad != 0 {
					t.Fatalf("%s: %+v\n%s", operation, j, w.n.log)
				}
				w.check(t, operation)
				if byMode, current := w.o.count(t); len(byMode) != 1 || !current {
					t.Errorf("after %s records are %v, all as configured: %v", operation, byMode, current)
				}
			}
			w.n.stop(t)
			w.in.run(t, "audit", "verify", "--config", w.in.config)
			t.Logf("%d jobs, each killed at random moments: all %d acknowledged cards are kept", all, len(w.cards))
		})
	}
}

// answers waits until clients have got so many answers more.
func (w *keyWork) answers(t *testing.T, n int) {
	t.Helper()
	from := w.answered.Load()
	until(t, "clients are answered", func() bool { return w.answered.Load() >= from+int64(n) })
}

// shredded is how many cards of merchant m1 there are when its keys are worked on: some
// batches.
const shredded = 450

// TestRetireAndShredCrash kills the node with SIGKILL in each phase of a rotation that
// retires what it replaces, and of a shredding: as soon as the phase is to be seen
// from outside. The next start carries on to the end.
func TestRetireAndShredCrash(t *testing.T) {
	t.Parallel()
	for name := range databases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := installKeyWork(t, name, slow)
			w.start(t)
			for m, n := range []int{20, shredded, 20} {
				w.seed(t, n, func(i int) string { return fmt.Sprintf("seed-%d-%d", i, m) })
			}
			w.check(t, "before")
			w.retire(t)
			w.shred(t)
			w.n.stop(t)
			w.in.run(t, "audit", "verify", "--config", w.in.config)
		})
	}
}

// retire replaces the key of m1 and is killed while records move, while the job waits
// for retirement, and as it goes on.
func (w *keyWork) retire(t *testing.T) {
	t.Helper()
	id := w.begin(t, "vault/Rotate", vault.JobRequest{Holder: "m1"})
	until(t, "some records are moved", func() bool {
		keys := w.keysOf(t, "m1")
		return len(keys) == 2 && keys[0].Records > 0 && keys[1].Records > 0
	})
	w.againAt(t, quick)
	until(t, "the job waits", func() bool { return w.job(t, id).State == vault.JobWaiting })
	w.again(t)
	if keys := w.keysOf(t, "m1"); keys[0].State != vault.KeyDecryptOnly || keys[0].Records != 0 {
		t.Errorf("the replaced version before it may be retired: %+v", keys[0])
	}
	w.o.passes(vault.RetireDelay)
	w.again(t)
	if j := w.ended(t, id); j.State != vault.JobDone || j.Bad != 0 {
		t.Fatalf("%+v\n%s", j, w.n.log)
	}
	if keys := w.keysOf(t, "m1"); len(keys) != 2 || keys[0].State != vault.KeyRetired || keys[1].State != vault.KeyActive || keys[1].Records != shredded {
		t.Errorf("afterwards: %+v", keys)
	}
	w.check(t, "retired")
}

// shred destroys the keys of m1 and is killed when nothing is stored for it any more,
// while the job waits, as it goes on, and while rows are removed. Nothing of m1 is
// left, and all of the others.
func (w *keyWork) shred(t *testing.T) {
	t.Helper()
	client := &http.Client{Timeout: patience}
	store := func(merchant string) int {
		status, _ := w.ask(t.Context(), client, "/cards/add", fmt.Sprintf(`{"merchant_id":%q,"merchant_customer_id":"late","card":{"card_number":%q}}`, merchant, numbers[0]))
		return status
	}
	id := w.begin(t, "vault/Shred", vault.JobRequest{Holder: "m1", Reason: "test"})
	until(t, "nothing is stored for it", func() bool { return store("m1") == http.StatusGone })
	w.again(t)
	until(t, "the job waits", func() bool { return w.job(t, id).State == vault.JobWaiting })
	w.again(t)
	w.o.passes(vault.RetireDelay)
	w.againAt(t, paced)
	until(t, "some rows are removed", func() bool {
		n := int64(0)
		for _, k := range w.keysOf(t, "m1") {
			if k.State != vault.KeyDestroyed {
				t.Fatalf("version %d is %s", k.Version, k.State)
			}
			n += k.Records
		}
		return n < shredded
	})
	w.againAt(t, quick)
	if j := w.ended(t, id); j.State != vault.JobDone {
		t.Fatalf("%+v\n%s", j, w.n.log)
	}
	for _, k := range w.keysOf(t, "m1") {
		if k.State != vault.KeyDestroyed || k.Records != 0 {
			t.Errorf("version %d is %s and has %d records", k.Version, k.State, k.Records)
		}
	}
	for customer, ref := range w.cards {
		i := int(customer[len(customer)-1]) % len(numbers)
		status, _ := w.ask(t.Context(), client, "/cards/retrieve", fmt.Sprintf(`{"merchant_id":"m%d","merchant_customer_id":%q,"card_reference":%q}`, i, customer, ref))
		if want := map[bool]int{true: http.StatusNotFound, false: http.StatusOK}[i == 1]; status != want {
			t.Errorf("card of m%d after m1 was shredded: %d", i, status)
		}
	}
	if got := [2]int{store("m1"), store("m2")}; got != [2]int{http.StatusGone, http.StatusOK} {
		t.Errorf("stores for m1 and m2 are answered %v", got)
	}
	if out := w.in.run(t, "audit", "show", "--config", w.in.config, "--op", "key.shred"); strings.Count(string(out), "proved") != 1 {
		t.Errorf("the proof in the log:\n%s", out)
	}
}
