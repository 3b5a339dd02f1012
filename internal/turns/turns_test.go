package turns_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"cardea/internal/turns"
)

func TestOneAfterTheOther(t *testing.T) {
	t.Parallel()
	all := turns.New()
	var inside, most atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 100 {
				done := all.Take("key")
				if n := inside.Add(1); n > most.Load() {
					most.Store(n)
				}
				inside.Add(-1)
				done()
			}
		})
	}
	wg.Wait()
	if most.Load() != 1 {
		t.Errorf("%d at once", most.Load())
	}
}

func TestOtherResourcesDoNotWait(t *testing.T) {
	t.Parallel()
	all := turns.New()
	done := all.Take("key")
	const others = 256 // some share the key's place
	got := make(chan struct{}, others)
	for i := range others {
		go func() {
			all.Take(fmt.Sprint("key ", i))()
			got <- struct{}{}
		}()
	}
	<-got
	done()
	for range others - 1 {
		<-got
	}
}
