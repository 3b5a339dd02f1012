package kms

import (
	"context"
	"runtime"
	"sync"

	"cardea/internal/keyspec"
	"cardea/internal/secret"
)

// maxWaiting is how many of an account's requests wait until an RSA key can be made.
const maxWaiting = 16

// keyMaking bounds the making of RSA keys, each of which takes a processor for up
// to seconds: half of the processors at the most are busy with it, so that those
// who ask for many keys keep nobody from using theirs.
type keyMaking struct {
	slots chan struct{}

	mu      sync.Mutex
	waiting map[string]int // by account
}

func (m *keyMaking) init() {
	m.slots = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))
	m.waiting = map[string]int{}
}

// do runs work, which makes a key of the spec for a request of the account, when it
// is its turn. If too many requests of the account wait it is a ThrottlingException.
func (m *keyMaking) do(ctx context.Context, account string, spec keyspec.Spec, work func() error) error {
	if spec.Family() != keyspec.FamilyRSA {
		return work()
	}
	if err := m.enter(ctx, account); err != nil {
		return err
	}
	defer func() { <-m.slots }()
	return work()
}

// enter takes a slot.
func (m *keyMaking) enter(ctx context.Context, account string) error {
	select {
	case m.slots <- struct{}{}:
		return nil
	default:
	}
	if !m.wait(account, 1) {
		return refuse(CodeThrottling, "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.")
	}
	defer m.wait(account, -1)
	select {
	case m.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// wait counts those of an account who wait, and reports whether one more may.
func (m *keyMaking) wait(account string, by int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.waiting[account] + by
	switch {
	case n > maxWaiting:
		return false
	case n == 0:
		delete(m.waiting, account)
	default:
		m.waiting[account] = n
	}
	return true
}

// generate is do for a key that no backend holds. The caller owns the private half.
func (m *keyMaking) generate(ctx context.Context, account string, spec keyspec.Spec) (private secret.Bytes, public []byte, err error) {
	err = m.do(ctx, account, spec, func() (err error) {
		private, public, err = keyspec.Generate(spec)
		return err
	})
	return private, public, err
}
