//go:build pkcs11 && cgo

package pkcs11

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	p11 "github.com/miekg/pkcs11"

	"cardea/internal/kms"
)

// wantConnectError checks the code that DescribeCustomKeyStores would tell, and the text.
func wantConnectError(t testing.TB, what string, err error, code, text string) {
	t.Helper()
	e, is := errors.AsType[*kms.ConnectError](err)
	if !is || e.Code != code || !strings.Contains(err.Error(), text) {
		t.Errorf("%s: got %v, want %s and %q", what, err, code, text)
	}
}

func TestLoginThatCannotBe(t *testing.T) {
	where, folder := newToken(t)
	noLibrary := filepath.Join(folder, "no.so")
	if err := os.WriteFile(noLibrary, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, tc := range map[string]struct {
		where      Token
		pin        string
		code, text string
	}{
		"wrong PIN":       {where, "pin-of-nobody", kms.ConnectInvalidCredentials, "CKR_PIN_INCORRECT"},
		"PIN cut short":   {where, testPIN[1:], kms.ConnectInvalidCredentials, "CKR_PIN_INCORRECT"},
		"no PIN":          {where, "", kms.ConnectInvalidCredentials, "CKR_PIN"},
		"PIN of the SO":   {where, "so-" + testPIN, kms.ConnectInvalidCredentials, "CKR_PIN_INCORRECT"},
		"no such token":   {Token{where.Library, "another"}, testPIN, kms.ConnectInsufficientHSMs, `token "another": no such token is there`},
		"part of a label": {Token{where.Library, testLabel[:5]}, testPIN, kms.ConnectInsufficientHSMs, "no such token is there"},
		"no file":         {Token{"/no/such/library.so", testLabel}, testPIN, kms.ConnectInternalError, "/no/such/library.so cannot be loaded, or is no PKCS #11 library"},
		"no library":      {Token{noLibrary, testLabel}, testPIN, kms.ConnectInternalError, "cannot be loaded, or is no PKCS #11 library"},
	} {
		b, err := Open(t.Context(), tc.where, pin(tc.pin), fast)
		wantConnectError(t, what, err, tc.code, tc.text)
		if b != nil {
			t.Errorf("%s: there is a backend", what)
		}
	}
	works(t, open(t, where, fast), newKey(t, open(t, where, fast), "key")) // the right one still does
}

func TestTokensWithOneLabelAreToldApartByNobody(t *testing.T) {
	where, _ := newToken(t)
	initToken(t, testLabel, testPIN)
	_, err := Open(t.Context(), where, pin(testPIN), fast)
	wantConnectError(t, "two tokens", err, kms.ConnectInternalError, `token "cardea test": two tokens have this label`)
}

func TestTokenWithoutUserHasNoUser(t *testing.T) {
	library, _ := softHSM(t)
	d, ok := loadDevice(library)
	if !ok {
		t.Fatal("not loaded")
	}
	if err := d.Initialize(); err != nil {
		t.Fatal(err)
	}
	slots, err := d.GetSlotList(true)
	if err == nil {
		err = d.InitToken(slots[0], "so-pin", "fresh")
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Finalize(); err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), Token{library, "fresh"}, pin(testPIN), fast)
	wantConnectError(t, "no user", err, kms.ConnectUserNotFound, "CKR_USER_PIN_NOT_INITIALIZED")
}

// What SoftHSM never says.
func TestErrorsOfLoginsHaveAWSNames(t *testing.T) {
	for code, want := range map[p11.Error]string{
		p11.CKR_PIN_LOCKED: kms.ConnectUserLockedOut, p11.CKR_PIN_EXPIRED: kms.ConnectInvalidCredentials, p11.CKR_PIN_LEN_RANGE: kms.ConnectInvalidCredentials,
		p11.CKR_USER_ANOTHER_ALREADY_LOGGED_IN: kms.ConnectUserLoggedIn, p11.CKR_TOKEN_NOT_PRESENT: kms.ConnectNetworkErrors,
		p11.CKR_DEVICE_ERROR: kms.ConnectNetworkErrors, p11.CKR_HOST_MEMORY: kms.ConnectInternalError,
	} {
		err := loginError(code)
		wantConnectError(t, "login", err, want, code.Error())
		if final := want == kms.ConnectUserLockedOut || want == kms.ConnectInvalidCredentials; refused(err) != final {
			t.Errorf("%v: tried again: %v", code, !refused(err))
		}
	}
}

func TestLoginIsSharedByThoseWhoKnowThePIN(t *testing.T) {
	where, _ := newToken(t)
	first := open(t, where, fast)
	m := newKey(t, first, "key")
	if _, err := Open(t.Context(), where, pin("pin-of-nobody"), fast); err == nil {
		t.Fatal("a wrong PIN is good enough while another is logged in")
	} else {
		wantConnectError(t, "wrong PIN", err, kms.ConnectInvalidCredentials, "another PIN is logged in with")
	}
	second := open(t, where, fast)
	if first.token != second.token {
		t.Error("two logins to one token")
	}
	works(t, second, m)
	first.Close()
	first.Close()
	if err := first.Ready(t.Context()); !errors.Is(err, kms.ErrSealed) || err.Error() != "device cannot be reached: the token is no longer in use" {
		t.Errorf("a closed backend: %v", err)
	}
	works(t, second, m)

	token, held := second.token, second.token.pin.Expose()
	second.Close()
	if token.pin.Len() != 0 || string(held) == testPIN {
		t.Error("the PIN is still there")
	}
	if _, err := token.lib.GetInfo(); !isAny(err, p11.CKR_CRYPTOKI_NOT_INITIALIZED) {
		t.Errorf("the library was left initialised: %v", err)
	}
	works(t, open(t, where, fast), m) // and can be begun anew
}

// A login that nobody of ours made proves nothing of the PIN.
func TestLoginOfOthersIsNotTaken(t *testing.T) {
	where, _ := newToken(t)
	lib, err := libraryAt(where.Library)
	if err != nil {
		t.Fatal(err)
	}
	if err := lib.Initialize(); err != nil {
		t.Fatal(err)
	}
	slot, err := lib.find(where.Label)
	if err != nil {
		t.Fatal(err)
	}
	s, err := lib.OpenSession(slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
	if err == nil {
		err = lib.login(s, pin(testPIN))
	}
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), where, pin("pin-of-nobody"), fast)
	wantConnectError(t, "wrong PIN", err, kms.ConnectInvalidCredentials, "CKR_PIN_INCORRECT")
}

func TestConcurrentLogins(t *testing.T) {
	where, _ := newToken(t)
	initToken(t, "another", testPIN)
	var all sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		all.Go(func() {
			where := where
			if i%2 == 1 {
				where.Label = "another"
			}
			for range 5 {
				b, err := Open(context.Background(), where, pin(testPIN), fast)
				if err == nil {
					err = errors.Join(b.Ready(context.Background()), b.Close())
				}
				errs[i] = errors.Join(errs[i], err)
			}
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	lib, err := libraryAt(where.Library)
	if err != nil || len(lib.tokens) != 0 || lib.initialised {
		t.Errorf("after all: %v, %d tokens, initialised %v", err, len(lib.tokens), lib.initialised)
	}
}

func TestLoginEndsWithItsContext(t *testing.T) {
	where, _ := newToken(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	lib, err := libraryAt(where.Library)
	if err != nil {
		t.Fatal(err)
	}
	if err := lib.enter(t.Context()); err != nil { // as a device that does not answer
		t.Fatal(err)
	}
	_, err = Open(ctx, where, pin(testPIN), fast)
	lib.leave()
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	ctx, cancel = context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancel()
	if _, err = Open(ctx, where, pin(testPIN), fast); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}
