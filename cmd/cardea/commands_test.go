package main

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"cardea/internal/testlog"
)

// patience is how long a script waits for something that must happen, on a machine
// that may be busy with all the other tests.
const patience = 2 * time.Minute

type serversKey struct{}

// servers are the processes that a script has started, by name.
type servers map[string]*server

// server is a running 'cardea dev' or 'cardea serve'.
type server struct {
	name           string
	cmd            *exec.Cmd
	vault, ops     string         // addresses; vault is empty where none is served
	keys           string         // address of the key service, likewise
	stdout, stderr testlog.Buffer // read by the script while the process writes
	told           [2]int         // how much of them was written before the last signal
	exited         chan struct{}  // closed when err is set
	err            error
}

var (
	servingLine = regexp.MustCompile(`(?m)^\{.*"msg":"serving".*$`)
	greeting    = regexp.MustCompile(`(?m)^vault +(\S+)\nkey service +(\S+) .*\nmetrics +(\S+)/metrics`)
)

// addresses looks into what the process has written so far for where it listens.
func (s *server) addresses() bool {
	if m := greeting.FindStringSubmatch(s.stdout.String()); m != nil {
		s.vault, s.keys, s.ops = m[1], m[2], m[3]
	}
	var line struct{ Vault, Keys, Ops string }
	if m := servingLine.FindString(s.stderr.String()); m != "" && json.Unmarshal([]byte(m), &line) == nil {
		s.vault, s.keys, s.ops = line.Vault, line.Keys, line.Ops
	}
	return s.ops != ""
}

// begin starts cardea and waits until it says where it listens.
func (s *server) begin(dir string, env []string, args ...string) error {
	s.exited = make(chan struct{})
	s.cmd = exec.Command("cardea", args...)
	s.cmd.Dir, s.cmd.Env = dir, env
	s.cmd.Stdout, s.cmd.Stderr = &s.stdout, &s.stderr
	if err := s.cmd.Start(); err != nil {
		return err
	}
	go func() {
		s.err = s.cmd.Wait()
		close(s.exited)
	}()
	return s.await(s.addresses)
}

// await waits until condition holds for what the process has written.
func (s *server) await(condition func() bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-s.exited:
			if condition() {
				return nil
			}
			return fmt.Errorf("%s has ended: %w\n%s%s", s.name, s.err, s.stdout.String(), s.stderr.String())
		case <-ctx.Done():
			return fmt.Errorf("%s: nothing of the kind within %s\n%s%s", s.name, patience, s.stdout.String(), s.stderr.String())
		case <-tick.C:
		}
	}
	return nil
}

// end signals the process and waits for it.
func (s *server) end(sig os.Signal) error {
	if err := s.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-s.exited:
		return s.err
	case <-time.After(patience):
		s.cmd.Process.Kill()
		return fmt.Errorf("%s did not end within %s of %s", s.name, patience, sig)
	}
}

// kill ends the process if it has not ended.
func (s *server) kill() {
	s.cmd.Process.Kill()
	<-s.exited
}

func of(ts *testscript.TestScript) servers { return ts.Value(serversKey{}).(servers) }

func named(ts *testscript.TestScript, name string) *server {
	s := of(ts)[name]
	if s == nil {
		ts.Fatalf("no server %q was started", name)
	}
	return s
}

// environment is that of the script as it is now.
func environment(ts *testscript.TestScript) []string {
	ts.Check(ts.Exec("env"))
	return strings.Split(strings.TrimSpace(ts.ReadFile("stdout")), "\n")
}

// launch NAME ARG...: runs 'cardea ARG...' in the background and sets $NAME_url,
// $NAME_keys and $NAME_ops. It ends with the script.
func cmdLaunch(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: launch NAME ARG...")
	}
	s := &server{name: args[0]}
	err := s.begin(ts.MkAbs("."), environment(ts), args[1:]...)
	if s.cmd != nil && s.cmd.Process != nil {
		ts.Defer(s.kill)
	}
	ts.Check(err)
	of(ts)[s.name] = s
	ts.Setenv(s.name+"_url", s.vault)
	ts.Setenv(s.name+"_keys", s.keys)
	ts.Setenv(s.name+"_ops", s.ops)
}

var signals = map[string]os.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP, "KILL": syscall.SIGKILL}

func signalOf(ts *testscript.TestScript, name string) os.Signal {
	sig, ok := signals[name]
	if !ok {
		ts.Fatalf("no signal %q", name)
	}
	return sig
}

// [!] halt NAME SIGNAL: ends the server, which must [not] exit with status 0. What
// it wrote is then in stdout and stderr.
func cmdHalt(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: [!] halt NAME SIGNAL")
	}
	s := named(ts, args[0])
	err := s.end(signalOf(ts, args[1]))
	fmt.Fprint(ts.Stdout(), s.stdout.String())
	fmt.Fprint(ts.Stderr(), s.stderr.String())
	if neg == (err == nil) {
		ts.Fatalf("%s ended: %v\n%s", s.name, err, s.stderr.String())
	}
}

// signal NAME SIGNAL: sends a signal.
func cmdSignal(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: signal NAME SIGNAL")
	}
	s := named(ts, args[0])
	s.told = [2]int{len(s.stdout.String()), len(s.stderr.String())}
	ts.Check(s.cmd.Process.Signal(signalOf(ts, args[1])))
}

// awaitlog NAME REGEXP: waits until the server has written a line that matches, after
// the last signal that it was sent: what it did at an earlier one says nothing of this.
func cmdAwaitLog(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: awaitlog NAME REGEXP")
	}
	re, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	s := named(ts, args[0])
	ts.Check(s.await(func() bool { return re.MatchString(s.stdout.String()[s.told[0]:] + s.stderr.String()[s.told[1]:]) }))
}

// http STATUS METHOD URL [-H 'Name: value']... [-d BODY]: the answer, which must
// have the status, is in stdout, its headers in stderr. BODY and HEADER may be
// @FILE.
func cmdHTTP(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: http STATUS METHOD URL [-H HEADER]... [-d BODY]")
	}
	r, err := parseCurl(append([]string{args[2], "-X", args[1]}, args[3:]...), ts.MkAbs("."))
	ts.Check(err)
	res, body, err := r.do()
	ts.Check(err)
	ts.Stdout().Write(body)
	res.Header.Write(ts.Stderr())
	if strconv.Itoa(res.StatusCode) != args[0] {
		ts.Fatalf("status %d: %s", res.StatusCode, body)
	}
}

// curl is what this package understands of curl's command line, for machines
// without it: -s, -f, -X, -H and -d, combined like curl does.
type curl struct {
	url, method string
	header      http.Header
	body        string
	fail        bool
}

func parseCurl(args []string, dir string) (curl, error) {
	c := curl{header: http.Header{}}
	for i := 0; i < len(args); i++ {
		switch a := args[i]; a {
		case "-s", "-sS":
		case "-f", "-sf", "-fsS":
			c.fail = true
		case "-X", "-H", "-d":
			if i++; i == len(args) {
				return c, fmt.Errorf("%s needs a value", a)
			}
			switch v := args[i]; a {
			case "-X":
				c.method = v
			case "-H":
				if path, ok := strings.CutPrefix(v, "@"); ok {
					b, err := os.ReadFile(filepath.Join(dir, path))
					if err != nil {
						return c, err
					}
					v = string(b)
				}
				name, value, ok := strings.Cut(v, ":")
				if !ok {
					return c, fmt.Errorf("-H %q: not a header", v)
				}
				c.header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
			case "-d":
				if path, ok := strings.CutPrefix(v, "@"); ok {
					b, err := os.ReadFile(filepath.Join(dir, path))
					if err != nil {
						return c, err
					}
					v = string(b)
				}
				c.body = v
				if c.method == "" {
					c.method = http.MethodPost
				}
			}
		default:
			if c.url != "" || strings.HasPrefix(a, "-") {
				return c, fmt.Errorf("%q is not understood", a)
			}
			c.url = a
		}
	}
	if c.method == "" {
		c.method = http.MethodGet
	}
	return c, nil
}

func (c curl) do() (*http.Response, []byte, error) {
	req, err := http.NewRequest(c.method, c.url, strings.NewReader(c.body))
	if err != nil {
		return nil, nil, err
	}
	req.Header = c.header
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	res, err := client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res, body, err
}

// curlMain is the program cardea-curl.
func curlMain() {
	c, err := parseCurl(os.Args[1:], "")
	var res *http.Response
	var body []byte
	if err == nil {
		res, body, err = c.do()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "curl:", err)
		os.Exit(2)
	}
	if c.fail && res.StatusCode >= 400 {
		fmt.Fprintln(os.Stderr, "curl: status", res.StatusCode)
		os.Exit(22)
	}
	os.Stdout.Write(body)
}

// inflight NAME PATH HEADER BODY: a request is in its handler, with half of its
// body, when the server is told to stop and refuses new connections; then the
// other half follows, and the answer is in stdout. The server must be gone after.
func cmdInflight(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: inflight NAME PATH HEADER BODY")
	}
	s := named(ts, args[0])
	u, err := url.Parse(s.vault)
	ts.Check(err)
	conn, err := net.Dial("tcp", u.Host)
	ts.Check(err)
	defer conn.Close()
	ts.Check(conn.SetDeadline(time.Now().Add(patience)))
	body := args[3]
	_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\n%s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n",
		args[1], u.Host, args[2], len(body))
	ts.Check(err)
	r := bufio.NewReader(conn)
	// The server asks for the body when its handler reads it.
	line, err := r.ReadString('\n')
	ts.Check(err)
	if !strings.Contains(line, "100 Continue") {
		ts.Fatalf("the server does not ask for the body: %s", line)
	}
	_, err = r.ReadString('\n')
	ts.Check(err)
	_, err = io.WriteString(conn, body[:len(body)/2])
	ts.Check(err)
	ts.Check(s.cmd.Process.Signal(syscall.SIGTERM))
	ts.Check(s.await(func() bool {
		c, err := net.Dial("tcp", u.Host)
		if err == nil {
			c.Close()
		}
		return err != nil
	}))
	_, err = io.WriteString(conn, body[len(body)/2:])
	ts.Check(err)
	res, err := http.ReadResponse(r, nil)
	ts.Check(err)
	answer, err := io.ReadAll(res.Body)
	ts.Check(err)
	fmt.Fprintf(ts.Stdout(), "%s\n%s\n", res.Status, answer)
}

// paste NAME [bare]: executes the lines that 'cardea dev' printed to be pasted, in a
// shell. Lines with aws do nothing where it is not installed. A bare machine has
// neither curl, for which there is a stand-in, nor aws.
func cmdPaste(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 1 && args[1] != "bare" {
		ts.Fatalf("usage: paste NAME [bare]")
	}
	var script strings.Builder
	bare := len(args) > 1
	if _, err := exec.LookPath("curl"); bare || err != nil {
		script.WriteString("curl() { cardea-curl \"$@\"; }\n")
	}
	if bare || !hasAWS() {
		ts.Logf("lines with aws are not run: this machine has no AWS command line")
		script.WriteString(noAWS)
	}
	for line := range strings.Lines(named(ts, args[0]).stdout.String()) {
		if rest, ok := strings.CutPrefix(line, "  "); ok {
			script.WriteString(rest)
		}
	}
	cmd := exec.Command("sh", "-eu", "-c", script.String())
	cmd.Dir, cmd.Env = ts.MkAbs("."), environment(ts)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	ts.Stdout().Write(stdout.Bytes())
	ts.Stderr().Write(stderr.Bytes())
	if err != nil {
		ts.Fatalf("%v\n%s\n%s", err, script.String(), stderr.Bytes())
	}
}

// output runs 'cardea ARG...' and returns what it printed, and its exit status.
func output(t *testing.T, dir string, env []string, args ...string) (string, int) {
	t.Helper()
	cmd := exec.Command("cardea", args...)
	cmd.Dir, cmd.Env = dir, env
	out, err := cmd.CombinedOutput()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// status N ARG...: runs 'cardea ARG...', which must exit with status N.
func cmdStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: status N ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec("cardea", args[1:]...)
	got := 0
	if ended, ok := errors.AsType[*exec.ExitError](err); ok {
		got = ended.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

// until REGEXP ARG...: runs 'cardea ARG...' again and again until its output matches.
func cmdUntil(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until REGEXP ARG...")
	}
	re, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	for start := time.Now(); ; time.Sleep(250 * time.Millisecond) {
		err := ts.Exec("cardea", args[1:]...)
		if re.MatchString(ts.ReadFile("stdout") + ts.ReadFile("stderr")) {
			return
		}
		if time.Since(start) > patience {
			ts.Fatalf("no output that matches within %s: %v", patience, err)
		}
	}
}

// sqlite FILE SQL: changes a database behind Cardea's back; it must change a row.
func cmdSQLite(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: sqlite FILE SQL")
	}
	db, err := sql.Open("sqlite", ts.MkAbs(args[0]))
	ts.Check(err)
	defer db.Close()
	res, err := db.Exec(args[1])
	ts.Check(err)
	n, err := res.RowsAffected()
	ts.Check(err)
	if n == 0 {
		ts.Fatalf("no row was changed")
	}
}

// occupy: listens on a port, whose address is then in $occupied.
func cmdOccupy(ts *testscript.TestScript, neg bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { l.Close() })
	ts.Setenv("occupied", l.Addr().String())
}
