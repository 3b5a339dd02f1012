package adminapi_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"cardea/internal/adminapi"
	"cardea/internal/iam"
	"cardea/internal/identity"
	"cardea/internal/identity/identitytest"
	"cardea/internal/keyspec"
	"cardea/internal/kms/kmstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type fixture struct {
	path   string
	store  *identitytest.Store
	keys   *kmstest.Fixture
	client *adminapi.Client
}

func start(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{store: identitytest.NewStore(), keys: kmstest.New(t)}
	dir, err := os.MkdirTemp("", "cardea") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	f.path = filepath.Join(dir, "admin.sock")
	ids, err := identity.New(t.Context(), identity.Options{Node: "n", Store: f.store, Secrets: identitytest.NewSecrets()})
	if err != nil {
		t.Fatal(err)
	}
	s, err := adminapi.Listen(adminapi.Options{
		Path: f.path, Identities: ids, Keys: f.keys.Service, Logger: slog.New(slog.DiscardHandler),
		Status: func(context.Context) *adminapi.Status { return &adminapi.Status{Node: "n", Unsealed: true} },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	f.client = adminapi.NewClient(f.path)
	return f
}

func (f *fixture) call(t *testing.T, op string, in, out any) {
	t.Helper()
	if err := f.client.Call(t.Context(), op, in, out); err != nil {
		t.Fatalf("%s: %v", op, err)
	}
}

// TestAnOperatorSetsUpAnAccount: secrets come over, and the log names who did it.
func TestAnOperatorSetsUpAnAccount(t *testing.T) {
	t.Parallel()
	f := start(t)
	var b identity.Bootstrapped
	f.call(t, "identity/Bootstrap", &identity.BootstrapInput{Account: identity.CreateAccountInput{ID: kmstest.Account}}, &b)
	defer b.Destroy()
	if b.Key.Secret.Len() != 40 || b.User.Name != "admin" {
		t.Errorf("got %+v, a secret of %d bytes", b.User, b.Key.Secret.Len())
	}
	var users identity.List[identity.User]
	f.call(t, "identity/ListUsers", &identity.Page{Account: kmstest.Account}, &users)
	if len(users.Items) != 1 || users.Items[0].ARN != "arn:aws:iam::"+kmstest.Account+":user/admin" {
		t.Errorf("users %+v", users)
	}
	entries := f.store.Entries()
	for _, e := range entries {
		if !strings.Contains(e, `"who":{"type":"operator","name":"`) || !strings.Contains(e, `"auth":"socket"`) {
			t.Errorf("logged %s", e)
		}
		if strings.Contains(e, string(b.Key.Secret.Expose())) {
			t.Error("the secret is in the log")
		}
	}
	f.call(t, "identity/UpdateAccessKey", &identity.AccessKeyInput{Account: kmstest.Account, User: "admin", ID: b.Key.ID, Active: false}, nil)
}

func TestExplainOverTheSocket(t *testing.T) {
	t.Parallel()
	f := start(t)
	k := f.keys.Key(t, keyspec.SymmetricDefault)
	f.call(t, "identity/CreateAccount", &identity.CreateAccountInput{ID: k.Account}, nil)
	var x iam.Explanation
	f.call(t, "kms/Explain", &adminapi.Explain{Principal: "arn:aws:iam::" + k.Account + ":root", Action: "kms:Decrypt", Region: k.Region, KeyID: k.ID}, &x)
	if !x.Allowed || len(x.Documents) == 0 {
		t.Errorf("got %+v", x)
	}
	var st adminapi.Status
	f.call(t, "kms/Status", struct{}{}, &st)
	if !st.Unsealed || st.Node != "n" {
		t.Errorf("got %+v", st)
	}
}

func TestRefusalsOfTheSocket(t *testing.T) {
	t.Parallel()
	f := start(t)
	for name, c := range map[string]struct {
		op   string
		in   any
		code string
		text string
	}{
		"no such operation": {"identity/Fly", struct{}{}, "UnknownOperation", "This release has no operation /identity/Fly: client and server must be of one release."},
		"unknown member":    {"identity/CreateUser", struct{ Nom string }{"a"}, "ValidationError", "The request cannot be read: "},
		"too long":          {"identity/CreateUser", struct{ Name string }{strings.Repeat("a", 1<<20)}, "RequestTooLarge", "The request is longer than 1048576 bytes."},
		"the service's own": {"identity/DescribeUser", identity.EntityInput{Account: "111122223333", Name: "x"}, "NoSuchEntity", ""},
		"key service's own": {"kms/Explain", adminapi.Explain{Principal: "arn:aws:iam::111122223333:user/x"}, "NoSuchEntity", "There is no principal arn:aws:iam::111122223333:user/x: "},
	} {
		var e *adminapi.Error
		if err := f.client.Call(t.Context(), c.op, c.in, nil); !errors.As(err, &e) || e.Code != c.code || !strings.HasPrefix(e.Message, c.text) {
			t.Errorf("%s: got %v, want %s %q", name, err, c.code, c.text)
		}
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", f.path)
	}}}
	resp, err := client.Get("http://admin/identity/ListAccounts")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET is answered %s", resp.Status)
	}
}

func TestSocketIsForThisUserOnlyAndForOneServer(t *testing.T) {
	t.Parallel()
	f := start(t)
	info, err := os.Stat(f.path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	_, err = adminapi.Listen(adminapi.Options{Path: f.path, Logger: slog.New(slog.DiscardHandler)})
	if want := "admin socket: another process answers on " + f.path; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	long := "/tmp/" + strings.Repeat("x", 120)
	if _, err := adminapi.Listen(adminapi.Options{Path: long}); err == nil || !strings.Contains(err.Error(), "set a shorter key_service.admin_socket") {
		t.Errorf("got %v", err)
	}
}

func TestASocketLeftBehindIsReplaced(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "cardea")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "a")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	ln.Close()
	if err := adminapi.NewClient(path).Call(t.Context(), "kms/Status", struct{}{}, nil); !errors.Is(err, adminapi.ErrNotRunning) {
		t.Errorf("nobody answers: %v", err)
	}
	s, err := adminapi.Listen(adminapi.Options{Path: path, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := adminapi.NewClient(path).Call(t.Context(), "kms/Status", struct{}{}, nil); !errors.Is(err, adminapi.ErrNotRunning) {
		t.Errorf("no socket: %v", err)
	}
}
