package cli

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A handout of the vectors in package custodian; it opens nothing.
const (
	testShare = "cardea-share-1-cag0q0f4-1-1-pzf4k-9q4q6-067gd-85va9-zgtf9-acazk-vznjj-0tug2-v7nks-0zkpn-0yssn-6pz8p"
	testToken = "cardea-custodian-LqR1cHa1Kyt4RKDb6hggrqPIYJxwdweHrY13jRyA7tqFtzMh"
)

func testHandout(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "acme-alice.handout")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const wholeHandout = "Cardea custodian handout.\ntenant: acme\npart:  " + testShare + "\ntoken: " + testToken + "\n"

// fakeNode answers the custodian's calls as it is told, in turn.
func fakeNode(t *testing.T, answers ...func(http.ResponseWriter, *http.Request)) (url string, calls *atomic.Int32) {
	t.Helper()
	calls = new(atomic.Int32)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := int(calls.Add(1))
		if got := r.Header.Get("Authorization"); got != "Bearer "+testToken || r.Header.Get("X-Tenant-Id") != "acme" {
			t.Error("the token or the tenant did not arrive")
		}
		answers[min(n, len(answers))-1](w, r)
	}))
	t.Cleanup(srv.Close)
	return srv.URL, calls
}

func answering(status int, body string, header ...string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		w.Write([]byte(body))
	}
}

const (
	sealless       = `{"tenant_id":"acme","unlocked":false,"form":"shares","threshold":0,"shares":0,"submitted":0,"generation":0}`
	lockedStatus   = `{"tenant_id":"acme","unlocked":false,"form":"shares","threshold":2,"shares":3,"submitted":1,"generation":1}`
	fullStatus     = `{"tenant_id":"acme","unlocked":false,"form":"shares","threshold":2,"shares":3,"submitted":2,"generation":1}`
	unlockedStatus = `{"tenant_id":"acme","unlocked":true,"form":"shares","threshold":2,"shares":3,"submitted":0,"generation":1}`
)

func TestUnlock(t *testing.T) {
	t.Parallel()
	accepted := answering(200, `{"message":"Received Share"}`)
	already := answering(400, `{"code":"TE_03","message":"Custodian is already unlocked","data":null}`)
	for name, tc := range map[string]struct {
		answers        []func(http.ResponseWriter, *http.Request)
		code           int
		stdout, stderr string
	}{
		"first of two":                       {[]func(http.ResponseWriter, *http.Request){accepted, answering(423, lockedStatus)}, 0, "taken: 1 of 2; the next custodian's turn", ""},
		"last one":                           {[]func(http.ResponseWriter, *http.Request){accepted, answering(423, fullStatus), accepted}, 0, "tenant acme is unlocked", ""},
		"open before":                        {[]func(http.ResponseWriter, *http.Request){already}, 0, "tenant acme is unlocked", ""},
		"open meanwhile":                     {[]func(http.ResponseWriter, *http.Request){accepted, answering(200, unlockedStatus)}, 0, "tenant acme is unlocked", ""},
		"opened by another at the same time": {[]func(http.ResponseWriter, *http.Request){accepted, answering(423, fullStatus), already}, 0, "tenant acme is unlocked", ""},
		"parts that do not fit": {
			[]func(http.ResponseWriter, *http.Request){
				accepted, answering(423, fullStatus),
				answering(401, `{"code":"TE_00","message":"Failed while decrypting two custodian keys: AES decryption failed","data":null}`),
			},
			1, "",
			"AES decryption failed: the parts do not fit together and are all forgotten; every custodian begins again",
		},
		"asked to wait":   {[]func(http.ResponseWriter, *http.Request){answering(429, `{"message":"Too many attempts"}`, "Retry-After", "10"), already}, 0, "unlocked", "waiting 10s"},
		"locked out":      {[]func(http.ResponseWriter, *http.Request){answering(429, `{"message":"Too many attempts"}`, "Retry-After", "1800")}, 1, "", "answers 429: Too many attempts; try again in 30m0s"},
		"no Cardea there": {[]func(http.ResponseWriter, *http.Request){answering(404, "<html>")}, 1, "", "answers 404: Not Found"},
		"no seal there": {
			[]func(http.ResponseWriter, *http.Request){answering(500, `{"message":"Something went wrong"}`), answering(423, sealless), answering(423, sealless)},
			1, "",
			"has no master key of tenant acme: make one with 'cardea custodian init --tenant acme', on the database that the node uses",
		},
		"a seal a moment later": {
			[]func(http.ResponseWriter, *http.Request){answering(500, `{"message":"Something went wrong"}`), answering(423, sealless), answering(423, lockedStatus), accepted, answering(423, lockedStatus)},
			0,
			"taken: 1 of 2", "the node does not know the tenant's master key yet: waiting 6s",
		},
		"no JSON": {[]func(http.ResponseWriter, *http.Request){accepted, answering(200, "<html>")}, 1, "", "invalid character"},
		"a message that steers the terminal": {
			[]func(http.ResponseWriter, *http.Request){answering(500, `{"message":"x\u001b[2J\ny"}`), answering(423, lockedStatus)},
			1, "",
			"answers 500: x\uFFFD[2J\uFFFDy",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, calls := fakeNode(t, tc.answers...)
			var waited time.Duration
			p := Process{sleep: func(_ context.Context, d time.Duration) error { waited += d; return nil }}
			code, stdout, stderr := run(t, p, "custodian", "unlock", "--url", url, "--tenant", "acme", "--handout", testHandout(t, wholeHandout))
			if said := strings.Contains(stderr, "waiting "+waited.String()); said != (waited > 0) {
				t.Errorf("it waited %s and said %q", waited, stderr)
			}
			if code != tc.code || !strings.Contains(stdout, tc.stdout) || !strings.Contains(stderr, tc.stderr) {
				t.Errorf("exit %d, want %d\nstdout %q, want %q\nstderr %q, want %q", code, tc.code, stdout, tc.stdout, stderr, tc.stderr)
			}
			if strings.Contains(stdout+stderr, testShare) || strings.Contains(stdout+stderr, testToken) {
				t.Error("a custodian's secret is on the screen")
			}
			if int(calls.Load()) != len(tc.answers) {
				t.Errorf("%d calls, want %d", calls.Load(), len(tc.answers))
			}
		})
	}
}

// TestUnlockFollowsNoRedirect: whoever answers for the node must not get the share
// sent elsewhere.
func TestUnlockFollowsNoRedirect(t *testing.T) {
	t.Parallel()
	other, calls := fakeNode(t, answering(200, `{}`))
	for _, status := range []int{301, 302, 307, 308} {
		url, _ := fakeNode(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other, status) })
		code, _, stderr := run(t, Process{}, "custodian", "unlock", "--url", url, "--tenant", "acme", "--handout", testHandout(t, wholeHandout))
		if code != exitFailed || !strings.Contains(stderr, "answers 30") {
			t.Errorf("status %d: exit %d, %q", status, code, stderr)
		}
	}
	if calls.Load() != 0 {
		t.Error("the share went where a redirect pointed")
	}
}

func TestNodeAddressesThatWouldLeakAreRefused(t *testing.T) {
	t.Parallel()
	handout := testHandout(t, wholeHandout)
	for url, want := range map[string]string{
		"http://10.0.0.1:8080":             "in clear",
		"http://vault-1":                   "in clear",
		"http://127.0.0.1.example:80":      "in clear",
		"https://user:pw@vault-1":          "is not an address",
		"https://vault-1?x=1":              "is not an address",
		"ftp://vault-1":                    "is not an address",
		"https://":                         "is not an address",
		"https://vault-1/custodian/status": "is not an address",
	} {
		code, _, stderr := run(t, Process{}, "custodian", "unlock", "--url", url, "--tenant", "acme", "--handout", handout)
		if code != exitWrongUse || !strings.Contains(stderr, "--url: ") || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit %d, %q, want %q", url, code, stderr, want)
		}
	}
}

func TestStoppedCommandSaysSo(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	url, _ := fakeNode(t, func(w http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() })
	var out, errs strings.Builder
	code := Main(ctx, Process{
		Args:   []string{"custodian", "status", "--url", url, "--tenant", "acme", "--token-file", testHandout(t, wholeHandout)},
		Stdout: &out, Stderr: &errs,
	})
	if code != exitFailed || errs.String() != "cardea: stopped before it was done\n" {
		t.Errorf("exit %d, %q", code, errs.String())
	}
}
