package kms_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/kms/kmstest"
)

// TestMakingRSAKeysLeavesProcessorsToOthers: half of the processors make RSA keys,
// some requests wait, and the rest is sent away.
func TestMakingRSAKeysLeavesProcessorsToOthers(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	want := int64(max(1, runtime.GOMAXPROCS(0)/2))
	var busy, most atomic.Int64
	const asked = 200
	begun, release, made := make(chan struct{}, asked), make(chan struct{}), errors.New("far enough")
	f.FailBackend(func(call string) error {
		if call != "Generate" {
			return nil
		}
		for n := busy.Add(1); ; {
			if old := most.Load(); n <= old || most.CompareAndSwap(old, n) {
				break
			}
		}
		begun <- struct{}{}
		<-release
		busy.Add(-1)
		return made
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	create := func(ctx context.Context, who kms.Caller, spec keyspec.Spec) error {
		_, err := f.CreateKey(ctx, who, &kms.CreateKeyInput{KeySpec: spec, KeyUsage: spec.Usages()[0]})
		return err
	}
	errs := make(chan error, asked)
	var wg sync.WaitGroup
	for range asked {
		wg.Go(func() { errs <- create(ctx, kmstest.Admin(t), keyspec.RSA4096) })
	}
	// Those who find no room come back at once, while nothing is made.
	for range asked - int(want) - 16 {
		kmstest.Refused(t, <-errs, kms.CodeThrottling, "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.")
	}
	for range want { // before the fault is taken away: who has a place need not have come to the backend yet
		<-begun
	}
	if e := f.Last(t); e.Call.Error != "ThrottlingException" {
		t.Errorf("entry %+v", e)
	}
	// Others wait neither for them nor among them.
	if _, err := f.Service.GenerateRandom(ctx, kmstest.Admin(t), &kms.GenerateRandomInput{NumberOfBytes: i32(1)}); err != nil {
		t.Error(err)
	}
	f.FailBackend(nil)
	if err := create(ctx, kmstest.Admin(t), keyspec.ECCNISTP256); err != nil {
		t.Error(err)
	}
	gone, leave := context.WithCancel(ctx)
	leave()
	if err := create(gone, kmstest.Foreigner(t), keyspec.RSA2048); !errors.Is(err, context.Canceled) {
		t.Errorf("a client that went away: %v", err)
	}
	cancel() // those who wait go
	for range 16 {
		if err := <-errs; !errors.Is(err, context.Canceled) {
			t.Errorf("one who waits: %v", err)
		}
	}
	close(release)
	wg.Wait()
	if n := most.Load(); n != want {
		t.Errorf("%d keys were made at the same time, want %d", n, want)
	}
	for range want {
		if err := <-errs; !errors.Is(err, made) {
			t.Errorf("got %v", err)
		}
	}
}
