package apptest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// rounds is how often each crash test kills the node; 'make crash' wants more.
var rounds = flag.Int("crash.rounds", 2, "how often the crash tests kill the node")

// card is a record as a client knows it, with what it may believe of it.
type card struct {
	customer, reference string
	deleted             bool // acknowledged
	unsure              bool // a delete was sent and not answered
}

// history is what all clients of a crash test were told.
type history struct {
	mu       sync.Mutex
	cards    []*card
	answered map[string]string // request id -> operation
	stored   int
	deleted  int
	read     int
}

// TestCrash kills the node with SIGKILL in the middle of load, many times over.
// Afterwards every acknowledged store is readable, every acknowledged delete is
// gone, and the audit log verifies and has an entry for every answer given.
func TestCrash(t *testing.T) {
	t.Parallel()
	for name := range databases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := install(t, name)
			h := &history{answered: map[string]string{}}
			for round := range *rounds {
				n := in.start(t)
				h.verify(t, n)
				h.load(t, n, round)
			}
			n := in.start(t)
			h.verify(t, n)
			n.stop(t)
			in.verifyAudit(t, h)
			t.Logf("%d kills: %d stores, %d deletes and %d reads acknowledged, all kept; %d answers, all in the audit log",
				*rounds, h.stored, h.deleted, h.read, len(h.answered))
		})
	}
}

// load runs clients until the node is killed, after a random number of answers.
func (h *history) load(t *testing.T, n *node, round int) {
	t.Helper()
	const workers = 16
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() { h.client(t.Context(), n, fmt.Sprintf("r%d-w%d", round, w), stop) })
	}
	untilAnswered(t, 10+rand.IntN(400), h.answers, &wg)
	n.kill(t)
	close(stop)
	wg.Wait()
}

// answers is how many answers there were so far.
func (h *history) answers() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.answered)
}

// client stores, reads and deletes cards of its own until it is stopped or the
// node is gone.
func (h *history) client(ctx context.Context, n *node, name string, stop <-chan struct{}) {
	client := &http.Client{Transport: &http.Transport{}, Timeout: patience}
	defer client.CloseIdleConnections()
	var mine []*card
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		id := fmt.Sprintf("%s-%d", name, i)
		switch {
		case len(mine) > 3 && i%4 == 3:
			c := mine[0]
			mine = mine[1:]
			h.mark(func() { c.unsure = true })
			status, _ := n.call(ctx, client, id, "/cards/delete", c.body())
			if status == 0 {
				return
			}
			h.mark(func() {
				h.answered[id] = "card.delete"
				if status == http.StatusOK {
					c.deleted, c.unsure = true, false
					h.deleted++
				}
			})
		case len(mine) > 0 && i%4 == 1:
			status, _ := n.call(ctx, client, id, "/cards/retrieve", mine[len(mine)-1].body())
			if status == 0 {
				return
			}
			h.mark(func() { h.answered[id] = "card.retrieve"; h.read++ })
		default:
			c := &card{customer: id}
			status, answer := n.call(ctx, client, id, "/cards/add", `{"merchant_id":"m","merchant_customer_id":"`+id+`","card":{"card_number":"4111111111111111","nick_name":"`+id+`"}}`)
			if status == 0 {
				return
			}
			h.mark(func() {
				h.answered[id] = "card.store"
				if status == http.StatusOK {
					c.reference = reference(answer)
					h.cards = append(h.cards, c)
					mine = append(mine, c)
					h.stored++
				}
			})
		}
	}
}

func (h *history) mark(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
}

func (c *card) body() string {
	return `{"merchant_id":"m","merchant_customer_id":"` + c.customer + `","card_reference":"` + c.reference + `"}`
}

func reference(answer []byte) string {
	var a struct {
		Payload struct {
			Reference string `json:"card_reference"`
		} `json:"payload"`
	}
	if err := json.Unmarshal(answer, &a); err != nil {
		return ""
	}
	return a.Payload.Reference
}

// verify reads every card back.
func (h *history) verify(t *testing.T, n *node) {
	t.Helper()
	ctx := t.Context()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}, Timeout: patience}
	defer client.CloseIdleConnections()
	var wg sync.WaitGroup
	slots := make(chan struct{}, 16)
	for i, c := range h.cards {
		if c.unsure {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			status, answer := n.call(ctx, client, fmt.Sprintf("verify-%d", i), "/cards/retrieve", c.body())
			switch {
			case c.deleted && status != http.StatusNotFound:
				t.Errorf("an acknowledged delete came back: status %d", status)
			case !c.deleted && (status != http.StatusOK || !bytes.Contains(answer, []byte(`"`+c.customer+`"`))):
				t.Errorf("an acknowledged store is lost: status %d", status)
			}
		})
	}
	wg.Wait()
}

// verifyAudit proves the log and looks for every answer in it.
func (in *installation) verifyAudit(t *testing.T, h *history) {
	t.Helper()
	in.run(t, "audit", "verify", "--config", in.config)
	logged := map[string]string{}
	s := bufio.NewScanner(bytes.NewReader(in.run(t, "audit", "show", "--config", in.config, "--output", "json", "--origin", "cardea/crash")))
	for s.Scan() {
		var line struct {
			Entry struct {
				Request string `json:"request"`
				Op      string `json:"op"`
			} `json:"entry"`
		}
		if err := json.Unmarshal(s.Bytes(), &line); err != nil {
			t.Fatalf("audit show printed a line that is not JSON: %v", err)
		}
		if id := line.Entry.Request; id != "" && !strings.HasPrefix(line.Entry.Op, "holder.") && !strings.HasPrefix(line.Entry.Op, "key.") {
			logged[id] = line.Entry.Op
		}
	}
	missing := 0
	for id, op := range h.answered {
		if logged[id] != op {
			missing++
		}
	}
	if missing > 0 {
		t.Errorf("%d of %d answers have no entry in the audit log", missing, len(h.answered))
	}
}
