//go:build pkcs11 && cgo

package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"sync"

	p11 "github.com/miekg/pkcs11"

	"cardea/internal/kms"
)

// library is a PKCS #11 library. C_Initialize and C_Finalize are for the whole
// process, so there is one library a path, initialised while a token of it is in use.
type library struct {
	device
	path string

	// gate is held, by whoever has put something into it, while tokens are logged in
	// to or left and while the library is initialised: what may take long, and what
	// must not happen twice at a time. It guards all below.
	gate        chan struct{}
	initialised bool
	tokens      map[string]*token // in use, by label
}

// libraries are those that were loaded into this process. This is state of the
// process, not of ours: a second copy of it would initialise a library twice, and
// finalise it under the feet of the first.
var libraries = struct {
	sync.Mutex
	byPath map[string]*library
}{byPath: map[string]*library{}}

func libraryAt(path string) (*library, error) {
	libraries.Lock()
	defer libraries.Unlock()
	if l := libraries.byPath[path]; l != nil {
		return l, nil
	}
	d, ok := loadDevice(path)
	if !ok {
		return nil, &kms.ConnectError{Code: kms.ConnectInternalError, Err: fmt.Errorf("%s cannot be loaded, or is no PKCS #11 library", path)}
	}
	l := &library{device: d, path: path, gate: make(chan struct{}, 1), tokens: map[string]*token{}}
	libraries.byPath[path] = l
	return l, nil
}

// enter takes the gate; the caller leaves it.
func (l *library) enter(ctx context.Context) error {
	select {
	case l.gate <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for %s: %w", l.path, ctx.Err())
	}
}

func (l *library) leave() { <-l.gate }

// initialise needs the gate, as all below do.
func (l *library) initialise() error {
	if err := l.Initialize(); err != nil && !isAny(err, p11.CKR_CRYPTOKI_ALREADY_INITIALIZED) {
		return &kms.ConnectError{Code: kms.ConnectInternalError, Err: fmt.Errorf("initialise %s: %w", l.path, err)}
	}
	l.initialised = true
	return nil
}

func (l *library) finalise() {
	l.Finalize() //nolint:errcheck // it is left, whether it likes it or not
	l.initialised = false
}

// idle reports whether no token has a session, so that the library can be begun anew.
func (l *library) idle() bool {
	for _, t := range l.tokens {
		if !t.idle() {
			return false
		}
	}
	return true
}

var errAbsent = errors.New("no such token is there")

// open logs in to a token and returns the session and slot of the login. A library
// that does not find the token looks for it anew if nobody else uses it: some see
// only what was there when they were initialised. again says that the PIN was right
// before, so that a login that still stands is good enough.
func (l *library) open(t *token, again bool) (p11.SessionHandle, uint, error) {
	if !l.initialised {
		if err := l.initialise(); err != nil {
			return 0, 0, err
		}
	}
	session, slot, err := l.tryOpen(t, again)
	if err == nil || refused(err) || !l.idle() {
		return session, slot, err
	}
	l.finalise()
	if err := l.initialise(); err != nil {
		return 0, 0, err
	}
	return l.tryOpen(t, again)
}

func (l *library) tryOpen(t *token, again bool) (p11.SessionHandle, uint, error) {
	slot, err := l.find(t.label)
	if err != nil {
		return 0, 0, err
	}
	session, err := l.OpenSession(slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
	if err != nil {
		return 0, 0, loginError(err)
	}
	err = l.login(session, t.pin)
	if isAny(err, p11.CKR_USER_ALREADY_LOGGED_IN) {
		if err = nil; !again { // by whom? Only a login proves the PIN
			l.Logout(session) //nolint:errcheck // the login will tell
			err = l.login(session, t.pin)
		}
	}
	if err != nil {
		l.CloseSession(session) //nolint:errcheck // the login's error matters
		return 0, 0, loginError(err)
	}
	return session, slot, nil
}

// find looks for a token by its label.
func (l *library) find(label string) (uint, error) {
	slots, err := l.GetSlotList(true)
	if err != nil {
		return 0, loginError(fmt.Errorf("list slots: %w", err))
	}
	found := -1
	for i, s := range slots {
		info, err := l.GetTokenInfo(s)
		if err != nil || info.Label != label {
			continue // one that is broken or not ours
		}
		if found >= 0 {
			return 0, &kms.ConnectError{Code: kms.ConnectInternalError, Err: fmt.Errorf("token %q: two tokens have this label", label)}
		}
		found = i
	}
	if found < 0 {
		return 0, &kms.ConnectError{Code: kms.ConnectInsufficientHSMs, Err: fmt.Errorf("token %q: %w", label, errAbsent)}
	}
	return slots[found], nil
}
