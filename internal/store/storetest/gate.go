package storetest

import (
	"errors"
	"sync"
	"testing"
	"time"

	"cardea/internal/store"
	"cardea/internal/vault"

	"github.com/prometheus/client_golang/prometheus"
)

// Gate holds a store's commits back, so that tests decide what shares one.
type Gate struct {
	s   *store.Store
	reg *prometheus.Registry
}

// OpenGated is Open of a store with a gate.
func OpenGated(tb testing.TB, url string, change ...func(*store.Options)) (*store.Store, *Gate) {
	tb.Helper()
	g := &Gate{reg: prometheus.NewRegistry()}
	g.s = Open(tb, url, append(change, func(o *store.Options) { o.Metrics = g.reg })...)
	return g.s, g
}

var errGate = errors.New("gate")

// Close returns when no commit is under way, and holds further ones back until
// open is called.
func (g *Gate) Close(tb testing.TB) (open func()) {
	tb.Helper()
	closed, release, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- g.s.Update(tb.Context(), func(vault.CustodyTx) error {
			close(closed)
			<-release
			return errGate
		})
	}()
	select {
	case <-closed:
	case err := <-ended:
		tb.Fatalf("close the gate: %v", err)
	}
	return sync.OnceFunc(func() {
		close(release)
		if err := <-ended; !errors.Is(err, errGate) {
			tb.Errorf("open the gate: %v", err)
		}
	})
}

// Queued is how many calls wait.
func (g *Gate) Queued(tb testing.TB) int {
	tb.Helper()
	families, err := g.reg.Gather()
	if err != nil {
		tb.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "cardea_store_queue_depth" {
			return int(f.Metric[0].GetGauge().GetValue())
		}
	}
	tb.Fatal("no metric cardea_store_queue_depth")
	return 0
}

// AwaitQueued returns when n calls wait.
func (g *Gate) AwaitQueued(tb testing.TB, n int) {
	tb.Helper()
	for deadline := time.Now().Add(patience); g.Queued(tb) != n; {
		if time.Now().After(deadline) {
			tb.Fatalf("%d calls are queued, want %d", g.Queued(tb), n)
		}
		time.Sleep(50 * time.Microsecond)
	}
}

// Together runs calls in one commit, in the order given, and returns when all have.
func (g *Gate) Together(tb testing.TB, calls ...func()) {
	tb.Helper()
	open := g.Close(tb)
	defer open()
	var wg sync.WaitGroup
	for i, call := range calls {
		wg.Go(call)
		g.AwaitQueued(tb, i+1)
	}
	open()
	wg.Wait()
}
