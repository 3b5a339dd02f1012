package cli

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// vaultSocket is a configuration of a vault on whose admin socket h answers.
func vaultSocket(t *testing.T, h http.HandlerFunc) (config string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "cardea") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ln, err := net.Listen("unix", filepath.Join(dir, "vault.sock"))
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	t.Cleanup(func() {
		s.Shutdown(context.Background())
		<-done
	})
	config = filepath.Join(dir, "cardea.toml")
	if err := os.WriteFile(config, fmt.Appendf(nil, "[node]\nname = \"n\"\ndata_dir = %q\n[tenants.acme]\n", dir), 0o600); err != nil {
		t.Fatal(err)
	}
	return config
}

const vaultStatusAnswer = `{"node":"n","tenants":["acme"],"suspended":{}}`

func runKeys(t *testing.T, args ...string) (code int, out, problems string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = Main(t.Context(), Process{
		Args: append([]string{"keys"}, args...), Stdout: &stdout, Stderr: &stderr, Now: time.Now,
		sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
	})
	return code, stdout.String(), stderr.String()
}

func TestRefusalsOfTheVaultSayWhatToDo(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]string{
		"Locked":             "cardea: No.: its custodians unlock it by 'cardea custodian unlock'\n",
		"Suspended":          "cardea: No.: 'cardea keys resume' ends that\n",
		"ServiceUnavailable": "cardea: No.: the vault's log says why\n",
		"Refused":            "cardea: No.\n",
	} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			config := vaultSocket(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/vault/Status" {
					fmt.Fprint(w, vaultStatusAnswer)
					return
				}
				w.WriteHeader(http.StatusBadRequest)
				fmt.Fprintf(w, `{"code":%q,"message":"No."}`, code)
			})
			if status, _, problems := runKeys(t, "rotate", "--config", config); status != exitFailed || problems != want {
				t.Errorf("exit %d, %q, want %q", status, problems, want)
			}
		})
	}
}

// A command follows its job to the end: it tells what stands in the way, once each,
// and how it ended.
func TestCommandWatchesItsJob(t *testing.T) {
	t.Parallel()
	job := func(state, more string) string {
		return `{"job":"j","kind":"reencrypt","tenant":"acme","state":"` + state + `","reason":"operator","by":"root","verify":false,"retire":true,` +
			`"total":2,"moved":1,"verified":0,"skipped":0,"bad":0,"created":"2026-03-01T12:00:00Z","updated":"2026-03-01T12:00:00Z"` + more + `}`
	}
	answers := []string{
		job("running", `,"step":"records"`), job("running", `,"step":"records","error":"key is unavailable"`), job("running", `,"step":"records","error":"key is unavailable"`),
		job("paused", ""), job("waiting", `,"wait_until":"2026-03-01T12:01:00Z"`),
	}
	for end, c := range map[string]struct {
		answer string
		code   int
		out    string
		tells  string
	}{
		"done":   {job("done", `,"done":"2026-03-01T12:01:01Z"`), exitDone, "took      1m1s\n", ""},
		"failed": {job("failed", `,"done":"2026-03-01T12:01:01Z","error":"2 records do not open"`), exitFailed, "state     failed\n", "cardea: 2 records do not open\n"},
	} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			asked := 0
			config := vaultSocket(t, func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/vault/Status":
					fmt.Fprint(w, vaultStatusAnswer)
				case "/vault/Rotate":
					fmt.Fprint(w, job("running", ""))
				case "/vault/Job":
					if asked < len(answers) {
						fmt.Fprint(w, answers[asked])
					} else {
						fmt.Fprint(w, c.answer)
					}
					asked++
				}
			})
			code, out, problems := runKeys(t, "rotate", "--config", config)
			want := "cannot go on just now: key is unavailable\npaused; 'cardea keys continue j' carries it on\n" +
				"waits until 2026-03-01T12:01:00Z, when every node knows of the change\n" + c.tells
			if code != c.code || !strings.Contains(out, c.out) || problems != want {
				t.Errorf("exit %d\n%s\n%s\nwant\n%s", code, out, problems, want)
			}
			if code, out, _ := runKeys(t, "rotate", "--config", config, "--no-wait"); code != exitDone || out != "job j has begun: watch it by 'cardea keys wait j'\n" {
				t.Errorf("without waiting: exit %d, %q", code, out)
			}
		})
	}
}

func TestUsageFindsKeysThatAreOverdue(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		key  string
		code int
	}{
		"young":             {`"state":"active","current":true,"due":"2999-01-01T00:00:00Z","sealed":5,"message_limit":10`, exitDone},
		"old":               {`"state":"active","current":true,"due":"2020-01-01T00:00:00Z","sealed":5`, exitFindings},
		"much used":         {`"state":"active","current":true,"sealed":10,"message_limit":10`, exitFindings},
		"not as configured": {`"state":"decrypt-only","current":false,"records":3,"sealed":10`, exitFindings},
		"replaced, empty":   {`"state":"retired","current":false,"records":0,"sealed":10`, exitDone},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := vaultSocket(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/vault/Status" {
					fmt.Fprint(w, vaultStatusAnswer)
					return
				}
				fmt.Fprint(w, `{"items":[{"key":"k","version":1,"tenant":"acme","holder":"m1","purpose":"record","spec":"AES_256","mode":"local","created":"2019-01-01T00:00:00Z",`+c.key+`}]}`)
			})
			if code, out, problems := runKeys(t, "usage", "--config", config); code != c.code {
				t.Errorf("exit %d, want %d\n%s%s", code, c.code, out, problems)
			}
		})
	}
}
