//go:build pkcs11 && cgo

package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	p11 "github.com/miekg/pkcs11"

	"cardea/internal/kms"
)

// breaks are ways in which a device forgets its sessions.
var breaks = map[string]func(b *Backend) error{
	"sessions closed":   func(b *Backend) error { return b.token.lib.CloseAllSessions(b.token.login.slot) },
	"logged out":        func(b *Backend) error { return b.token.lib.Logout(b.token.login.anchor) },
	"library finalised": func(b *Backend) error { return b.token.lib.Finalize() },
	"one session closed": func(b *Backend) error {
		return b.token.lib.CloseSession(b.token.login.free[0])
	},
}

func TestLostSessionsAreMadeAnew(t *testing.T) {
	for what, lose := range breaks {
		t.Run(what, func(t *testing.T) {
			where, _ := newToken(t)
			b := open(t, where, fast)
			m := newKey(t, b, "key")
			for range 3 {
				if err := lose(b); err != nil {
					t.Fatal(err)
				}
				works(t, b, m)
				if err := lose(b); err != nil {
					t.Fatal(err)
				}
				if err := b.Ready(t.Context()); err != nil {
					t.Errorf("ready: %v", err)
				}
			}
			if err := lose(b); err != nil {
				t.Fatal(err)
			}
			works(t, b, newKey(t, b, "another key"))
		})
	}
}

// Many find at the same time that their sessions are lost: no caller sees it. They
// are not lost in the middle of an operation, which SoftHSM does not survive.
func TestLostSessionsUnderLoad(t *testing.T) {
	where, _ := newToken(t)
	b := open(t, where, Options{Sessions: 4, RetryAfter: time.Nanosecond})
	m := newKey(t, b, "key")
	var device sync.RWMutex // held for writing while sessions are lost
	stop := make(chan struct{})
	errs := make([]error, 8)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() {
			for errs[i] == nil {
				select {
				case <-stop:
					return
				default:
				}
				device.RLock()
				sealed, err := b.Seal(context.Background(), m, someAAD, pin("text"))
				if err == nil {
					_, err = b.Open(context.Background(), m, someAAD, sealed)
				}
				device.RUnlock()
				errs[i] = err
			}
		})
	}
	for range 30 {
		works(t, b, m) // so that there is a login
		device.Lock()
		err := b.token.lib.CloseAllSessions(b.token.login.slot)
		device.Unlock()
		if err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	works(t, b, m)
}

func TestSessionsAreBounded(t *testing.T) {
	where, _ := newToken(t)
	const most = 3
	b := open(t, where, Options{Sessions: most})
	m := newKey(t, b, "key")
	var all sync.WaitGroup
	for range 12 {
		all.Go(func() {
			for range 20 {
				if _, err := b.Seal(context.Background(), m, someAAD, pin("text")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if n := len(b.token.login.free); n > most || n == 0 {
		t.Errorf("%d sessions are open, at most %d", n, most)
	}
	if b.token.held != 0 || len(b.token.room) != 0 {
		t.Errorf("%d sessions are held, %d have room", b.token.held, len(b.token.room))
	}
}

func TestWaitForASessionEndsWithTheContext(t *testing.T) {
	where, _ := newToken(t)
	b := open(t, where, Options{Sessions: 1})
	m := newKey(t, b, "key")
	s, err := b.token.acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = b.Seal(ctx, m, someAAD, pin("text"))
	if !errors.Is(err, context.Canceled) || err.Error() != "wait for a session: context canceled" {
		t.Errorf("got %v", err)
	}
	done := make(chan error)
	go func() {
		_, err := b.Seal(context.Background(), m, someAAD, pin("text"))
		done <- err
	}()
	s.release(nil)
	if err := <-done; err != nil {
		t.Errorf("after the session was released: %v", err)
	}
}

func TestTokenThatIsAwayIsLeftAloneForAWhile(t *testing.T) {
	where, folder := newToken(t)
	now := time.Unix(1_800_000_000, 0)
	b := open(t, where, Options{RetryAfter: time.Minute, Now: func() time.Time { return now }})
	m := newKey(t, b, "key")
	plugIn := unplug(t, b, folder)
	err := b.Ready(t.Context())
	if !errors.Is(err, kms.ErrDeviceLost) || !strings.Contains(err.Error(), `token "cardea test": no such token is there`) {
		t.Errorf("away: %v", err)
	}
	plugIn()
	now = now.Add(time.Minute - 1)
	if err := b.Ready(t.Context()); !errors.Is(err, kms.ErrSealed) {
		t.Errorf("before it is tried again: %v", err)
	}
	now = now.Add(1)
	works(t, b, m)
}

// A PIN that was changed in the token must not be tried until the user is locked out.
func TestRefusedPINIsNeverTriedAgain(t *testing.T) {
	where, _ := newToken(t)
	b := open(t, where, fast)
	m := newKey(t, b, "key")
	change := func(from, to string) {
		t.Helper()
		if err := b.token.lib.SetPIN(b.token.login.anchor, from, to); err != nil {
			t.Fatal(err)
		}
	}
	change(testPIN, "changed")
	lib, slot := b.token.lib, b.token.login.slot
	if err := lib.CloseAllSessions(slot); err != nil {
		t.Fatal(err)
	}
	_, err := b.Seal(t.Context(), m, someAAD, pin("text"))
	if !errors.Is(err, kms.ErrDeviceLost) || !strings.Contains(err.Error(), "INVALID_CREDENTIALS: log in: pkcs11: 0xA0: CKR_PIN_INCORRECT") {
		t.Errorf("after the change: %v", err)
	}

	s, err := lib.OpenSession(slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
	if err == nil {
		err = lib.SetPIN(s, "changed", testPIN)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Ready(t.Context()); !errors.Is(err, kms.ErrSealed) {
		t.Errorf("it was tried again: %v", err)
	}
	_, err = Open(t.Context(), where, pin(testPIN), fast)
	wantConnectError(t, "another that joins", err, kms.ConnectInvalidCredentials, "CKR_PIN_INCORRECT")
	b.Close()
	works(t, open(t, where, fast), m)
}

// Closing does not pull the device from under those who are using it.
func TestCloseLetsOperationsEnd(t *testing.T) {
	where, _ := newToken(t)
	b := open(t, where, fast)
	m := newKey(t, b, "key")
	s, err := b.token.acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	key, err := s.find(m)
	if err == nil {
		_, err = s.lib.encrypt(s.SessionHandle, key, newNonce(), someAAD, []byte("text"))
	}
	if err != nil {
		t.Errorf("under way: %v", err)
	}
	s.release(nil)
	if lib := b.token.lib; len(lib.tokens) != 0 || lib.initialised || b.token.pin.Len() != 0 {
		t.Error("the last operation did not log out")
	}
	if _, err := b.Seal(t.Context(), m, someAAD, pin("text")); !errors.Is(err, kms.ErrSealed) {
		t.Errorf("afterwards: %v", err)
	}
}

// Others may come while the last operation of those who left is under way.
func TestTokenIsTakenUpAgainBeforeItIsLeft(t *testing.T) {
	where, _ := newToken(t)
	b := open(t, where, fast)
	m := newKey(t, b, "key")
	s, err := b.token.acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	next := open(t, where, fast)
	s.release(nil)
	works(t, next, m)
	if next.token != b.token {
		t.Error("two logins to one token")
	}
}

func TestErrorsThatAreNotOfTheDeviceKeepTheSession(t *testing.T) {
	where, _ := newToken(t)
	b := open(t, where, Options{Sessions: 1})
	m := newKey(t, b, "key")
	works(t, b, m)
	before := fmt.Sprint(b.token.login.free)
	if _, err := b.Open(t.Context(), m, someAAD, make([]byte, 64)); !errors.Is(err, kms.ErrNotOurs) {
		t.Fatal(err)
	}
	if after := fmt.Sprint(b.token.login.free); after != before {
		t.Errorf("sessions were %s, are %s", before, after)
	}
}
