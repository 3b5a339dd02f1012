package apptest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// fleet is what clients of a vault were told, and must go on being told.
type fleet struct {
	urls []string // nodes; none while there is none
	dies bool     // no answer is no finding: nodes are killed

	answered atomic.Int64

	mu    sync.Mutex // guards below
	cards map[string]string
	wrong []string
	steps int         // of a clock that is put ahead
	begun map[int]int // requests under way, by the step after which they began
}

// mostSteps is how many steps of a clock a request may see: with two seconds each, less
// than a request may take. The machine may be slow and the steps come quickly, and a
// request that sees a minute pass is rightly refused.
const mostSteps = 4

// steady is what puts a clock ahead, made to wait for requests that have seen many steps.
func (f *fleet) steady(pass func(time.Duration)) func(time.Duration) {
	old := func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		for step, n := range f.begun {
			if n > 0 && step <= f.steps-mostSteps {
				return true
			}
		}
		f.steps++
		return false
	}
	return func(d time.Duration) {
		for old() {
			time.Sleep(time.Millisecond)
		}
		pass(d)
	}
}

// begins notes that a request begins.
func (f *fleet) begins() (ends func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.begun == nil {
		f.begun = map[int]int{}
	}
	step := f.steps
	f.begun[step]++
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.begun[step]--; f.begun[step] == 0 {
			delete(f.begun, step)
		}
	}
}

// numbers are the networks' published test numbers.
var numbers = []string{"4111111111111111", "5555555555554444", "4242424242424242"}

func (f *fleet) note(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.wrong) < 20 {
		f.wrong = append(f.wrong, fmt.Sprintf(format, args...))
	}
}

// node is one of the nodes, or empty.
func (f *fleet) node() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.urls) == 0 {
		return ""
	}
	return f.urls[rand.IntN(len(f.urls))]
}

// ask posts to one of the nodes.
func (f *fleet) ask(ctx context.Context, client *http.Client, path, body string) (status int, answer []byte) {
	url := f.node()
	if url == "" {
		return 0, nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+path, strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Tenant-Id", tenant)
	defer f.begins()()
	res, err := client.Do(req)
	if err != nil {
		return 0, nil
	}
	defer res.Body.Close()
	answer, err = io.ReadAll(res.Body)
	if err != nil {
		return 0, nil
	}
	f.answered.Add(1)
	return res.StatusCode, answer
}

// store keeps a customer's card, again perhaps, and checks that its reference stays.
func (f *fleet) store(ctx context.Context, client *http.Client, customer string) {
	i := int(customer[len(customer)-1]) % len(numbers)
	status, answer := f.ask(ctx, client, "/cards/add", fmt.Sprintf(`{"merchant_id":"m%d","merchant_customer_id":%q,"card":{"card_number":%q}}`, i, customer, numbers[i]))
	if status == 0 && f.dies {
		return
	}
	ref := reference(answer)
	f.mu.Lock()
	was, known := f.cards[customer]
	if !known && ref != "" {
		f.cards[customer] = ref
	}
	f.mu.Unlock()
	if status != http.StatusOK || known && ref != was {
		f.note("store of %s: %d, reference %s was %s: %s", customer, status, ref, was, answer)
	}
}

func (f *fleet) retrieve(ctx context.Context, client *http.Client, customer string) {
	f.mu.Lock()
	ref := f.cards[customer]
	f.mu.Unlock()
	if ref == "" && f.dies {
		return // the store was not answered
	}
	i := int(customer[len(customer)-1]) % len(numbers)
	status, answer := f.ask(ctx, client, "/cards/retrieve", fmt.Sprintf(`{"merchant_id":"m%d","merchant_customer_id":%q,"card_reference":%q}`, i, customer, ref))
	if (status != 0 || !f.dies) && (status != http.StatusOK || !bytes.Contains(answer, []byte(numbers[i]))) {
		f.note("retrieve of %s: %d", customer, status)
	}
}

// fingerprint is the id of data.
func (f *fleet) fingerprint(ctx context.Context, client *http.Client, data string) string {
	_, answer := f.ask(ctx, client, "/cards/fingerprint", fmt.Sprintf(`{"data":%q,"key":"k"}`, data))
	var a struct {
		ID string `json:"fingerprint_id"`
	}
	if err := json.Unmarshal(answer, &a); err != nil || a.ID == "" {
		f.note("fingerprint: %s", answer)
	}
	return a.ID
}

// traffic stores and reads until stop is called, which waits for it to end.
func (f *fleet) traffic(t *testing.T, round string) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			client := &http.Client{Transport: &http.Transport{}, Timeout: patience}
			defer client.CloseIdleConnections()
			for i := 0; ; i++ {
				customer := fmt.Sprintf("%s-%d-%d", round, w, i)
				f.store(t.Context(), client, customer)
				f.store(t.Context(), client, customer)
				f.retrieve(t.Context(), client, customer)
				f.retrieve(t.Context(), client, fmt.Sprintf("seed-%d", rand.IntN(60)))
				select {
				case <-done:
					return
				case <-time.After(30 * time.Millisecond):
				}
			}
		})
	}
	return func() {
		close(done)
		wg.Wait()
	}
}

// check reads and stores everything again.
func (f *fleet) check(t *testing.T, when string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{}, Timeout: patience}
	defer client.CloseIdleConnections()
	f.mu.Lock()
	cards := maps.Clone(f.cards)
	f.mu.Unlock()
	var wg sync.WaitGroup
	slots := make(chan struct{}, 8)
	for customer := range cards {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			f.retrieve(t.Context(), client, customer)
			f.store(t.Context(), client, customer)
		})
	}
	wg.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range f.wrong {
		t.Errorf("%s: %s", when, w)
	}
	f.wrong = nil
}
