//go:build pkcs11 && cgo

package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	p11 "github.com/miekg/pkcs11"

	"cardea/internal/kms"
	"cardea/internal/secret"
)

// token is a token that this process is logged in to: a login is for all sessions of
// a process, so backends of one token share it.
type token struct {
	lib   *library
	label string
	pin   secret.Bytes // kept to log in again
	o     Options
	room  chan struct{} // has an element for each session that is in use

	// objects is held for writing while an object is made or destroyed, and for reading
	// while one is looked for: at the same time, SoftHSM 2.6.1 fails now and then.
	objects sync.RWMutex

	mu     sync.Mutex // guards all below; held shortly
	users  int        // backends
	held   int        // sessions in use
	login  *login     // nil while there is none
	failed error      // why there was none at the last try
	retry  time.Time  // no try before
	barred bool       // no more tries: the PIN was refused
}

// login is what ends together.
type login struct {
	anchor p11.SessionHandle // keeps the login alive; not used
	slot   uint
	free   []p11.SessionHandle
	keys   map[keyID]knownKey
}

// sessions are those that nobody uses.
func (l *login) sessions() []p11.SessionHandle {
	all := append(l.free, l.anchor)
	l.free = nil
	return all
}

// session is one that belongs to its user, until it is released.
type session struct {
	*token
	p11.SessionHandle
	login *login
}

// openToken logs in to a token, or joins who has done so with the same PIN. The
// caller keeps pin and ends with a call of leave. Errors are [*kms.ConnectError] or
// the context's.
func openToken(ctx context.Context, where Token, pin secret.Bytes, o Options) (*token, error) {
	lib, err := libraryAt(where.Library)
	if err != nil {
		return nil, err
	}
	if err := lib.enter(ctx); err != nil {
		return nil, err
	}
	defer lib.leave()
	if t := lib.tokens[where.Label]; t != nil {
		return t, t.join(pin)
	}
	o = o.withDefaults()
	t := &token{lib: lib, label: where.Label, pin: secret.Copy(pin.Expose()), o: o, room: make(chan struct{}, o.Sessions)}
	anchor, slot, err := lib.open(t, false)
	if err != nil {
		t.pin.Destroy()
		if len(lib.tokens) == 0 && lib.initialised {
			lib.finalise()
		}
		return nil, err
	}
	t.users, t.login = 1, newLogin(anchor, slot)
	lib.tokens[where.Label] = t
	return t, nil
}

func newLogin(anchor p11.SessionHandle, slot uint) *login {
	return &login{anchor: anchor, slot: slot, keys: map[keyID]knownKey{}}
}

// join adds a backend, which must know the PIN.
func (t *token) join(pin secret.Bytes) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.pin.Equal(pin) {
		return &kms.ConnectError{Code: kms.ConnectInvalidCredentials, Err: errors.New("another PIN is logged in with")}
	}
	if t.barred {
		return t.failed
	}
	t.users++
	return nil
}

// idle reports whether no session of the token is open.
func (t *token) idle() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.login == nil && t.held == 0
}

// leaveTimeout is how long leaving a token waits for others at the library.
const leaveTimeout = 5 * time.Second

// leave takes a backend away. The last one logs out, at once or when the last
// session is released.
func (t *token) leave() {
	t.mu.Lock()
	t.users--
	t.mu.Unlock()
	t.closeIfLast()
}

func (t *token) closeIfLast() {
	t.mu.Lock()
	last := t.users == 0 && t.held == 0
	t.mu.Unlock()
	if last {
		t.close()
	}
}

// close ends a token that nobody uses.
func (t *token) close() {
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout) // of no request
	defer cancel()
	if t.lib.enter(ctx) != nil {
		return // the library hangs: everything stays as it is
	}
	defer t.lib.leave()
	t.mu.Lock()
	if t.users > 0 || t.held > 0 || t.lib.tokens[t.label] != t {
		t.mu.Unlock()
		return
	}
	l := t.login
	t.login = nil
	t.mu.Unlock()
	delete(t.lib.tokens, t.label)
	if l != nil {
		t.lib.Logout(l.anchor) //nolint:errcheck // closing the sessions does the same
		t.lib.closeAll(l.sessions())
	}
	t.pin.Destroy()
	if len(t.lib.tokens) == 0 {
		t.lib.finalise()
	}
}

// closeAll closes sessions, which may have ended by themselves.
func (l *library) closeAll(all []p11.SessionHandle) {
	for _, s := range all {
		l.CloseSession(s) //nolint:errcheck // see above
	}
}

// acquire waits for a session, and logs in again if there is no login. Errors wrap
// kms.ErrSealed or are the context's.
func (t *token) acquire(ctx context.Context) (*session, error) {
	select {
	case t.room <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for a session: %w", ctx.Err())
	}
	s, err := t.take(ctx)
	if err != nil {
		<-t.room
		t.closeIfLast()
		return nil, err
	}
	return s, nil
}

func (t *token) take(ctx context.Context) (*session, error) {
	t.mu.Lock()
	l := t.login
	if l == nil {
		t.mu.Unlock()
		return t.again(ctx)
	}
	return t.from(l)
}

// from takes a session of l. It needs t.mu, and gives it back.
func (t *token) from(l *login) (*session, error) {
	t.held++
	s := &session{token: t, login: l}
	if n := len(l.free); n > 0 {
		s.SessionHandle, l.free = l.free[n-1], l.free[:n-1]
		t.mu.Unlock()
		return s, nil
	}
	t.mu.Unlock()
	var err error
	if s.SessionHandle, err = t.lib.OpenSession(l.slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION); err == nil {
		return s, nil
	}
	t.giveUp(l, err)
	return nil, unreachable(fmt.Errorf("open a session: %w", err))
}

// again logs in anew, unless another has just done so.
func (t *token) again(ctx context.Context) (*session, error) {
	if err := t.lib.enter(ctx); err != nil {
		return nil, err
	}
	defer t.lib.leave()
	t.mu.Lock()
	switch {
	case t.login != nil:
		return t.from(t.login)
	case t.users == 0:
		t.mu.Unlock()
		return nil, unreachable(errClosed)
	case t.barred || t.o.Now().Before(t.retry):
		defer t.mu.Unlock()
		return nil, unreachable(t.failed)
	}
	t.mu.Unlock()
	anchor, slot, err := t.lib.open(t, true)
	t.mu.Lock()
	if err != nil {
		defer t.mu.Unlock()
		t.failed, t.retry, t.barred = err, t.o.Now().Add(t.o.RetryAfter), refused(err)
		return nil, unreachable(err)
	}
	t.login = newLogin(anchor, slot)
	return t.from(t.login)
}

// release gives a session back. One whose operation ended with an error of the
// device may be in any state, and is closed.
func (s *session) release(err error) {
	t := s.token
	t.mu.Lock()
	keep := t.login == s.login && (err == nil || errors.Is(err, kms.ErrNotOurs))
	if keep {
		s.login.free = append(s.login.free, s.SessionHandle)
	}
	t.mu.Unlock()
	if !keep {
		t.lib.closeAll([]p11.SessionHandle{s.SessionHandle})
	}
	t.giveUp(s.login, err)
	<-t.room
	t.closeIfLast()
}

// giveUp takes back that a session of l was in use, and with an error of one that
// was lost gives up l. What it closes is closed before the token counts as idle.
func (t *token) giveUp(l *login, err error) {
	var all []p11.SessionHandle
	t.mu.Lock()
	if lost(err) && t.login == l {
		t.login, all = nil, l.sessions()
	}
	t.mu.Unlock()
	t.lib.closeAll(all)
	t.mu.Lock()
	t.held--
	t.mu.Unlock()
}

// do runs an operation in a session, and once more in another if the session turns
// out to be lost. Errors wrap kms.ErrSealed if the token cannot be used, or are the
// context's or the operation's.
func (t *token) do(ctx context.Context, op func(*session) error) error {
	for try := 0; ; try++ {
		s, err := t.acquire(ctx)
		if err == nil {
			err = op(s)
			s.release(err)
			if !lost(err) {
				return err
			}
			err = unreachable(err)
		}
		if try > 0 || !lost(err) {
			return err
		}
	}
}
