package apptest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// deadly is a proxy in front of a service which kills a command when the service has
// done the command's n-th change, before the command hears of it: the moment at which
// most can go wrong.
type deadly struct {
	url string

	mu sync.Mutex // guards below
	order
	cmd  *exec.Cmd
	busy int      // requests of it that are under way
	did  []string // operations that change something

	done []string // what everyKill killed at, and an undisturbed run
}

// order says when a command is killed.
type order struct {
	left  int         // changes until the kill; 0 is never
	at    string      // or the operation to kill at
	noted func() bool // or, if it is so, the next request, which is not passed on
}

// reads says whether an operation changes nothing. What a user does with a key changes
// nothing, either, but the state that the command keeps.
func reads(operation string) bool {
	for _, p := range []string{"List", "Get", "Describe", "Status", "Keys", "Plan", "Job"} {
		if strings.HasPrefix(operation, p) {
			return true
		}
	}
	return false
}

// newDeadly stands before the service at a URL.
func newDeadly(t *testing.T, to string) *deadly {
	t.Helper()
	d := &deadly{}
	target, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(d.handler(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host // it is signed
	}}, func(r *http.Request) string {
		_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
		return operation
	}))
	server.Config.ConnContext = d.of
	server.Start()
	t.Cleanup(server.Close)
	d.url = server.URL
	return d
}

// askerKey is the key of the command that a connection is of.
type askerKey struct{}

// of notes which command has made a connection: commands come one after the other.
func (d *deadly) of(ctx context.Context, _ net.Conn) context.Context {
	d.mu.Lock()
	defer d.mu.Unlock()
	return context.WithValue(ctx, askerKey{}, d.cmd)
}

// enter says whether a request is of the command that runs, not of one that died with it
// under way: what that still did while the next one runs would be the work of two.
func (d *deadly) enter(r *http.Request) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r.Context().Value(askerKey{}) != d.cmd {
		return false
	}
	d.busy++
	return true
}

func (d *deadly) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.busy--
}

// handler passes requests on, and kills.
func (d *deadly) handler(to http.Handler, operation func(*http.Request) string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !d.enter(r) {
			panic(http.ErrAbortHandler)
		}
		defer d.leave()
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		// In memory, since the server closes its own body with the first byte of the answer,
		// which the proxy may still be reading: it would break the answer off.
		r.Body = io.NopCloser(bytes.NewReader(body))
		op := operation(r)
		if d.killsBefore() {
			<-r.Context().Done() // it is dead
			panic(http.ErrAbortHandler)
		}
		if reads(op) {
			to.ServeHTTP(w, r)
			return
		}
		answer := &kept{header: http.Header{}}
		to.ServeHTTP(answer, r.WithContext(context.WithoutCancel(r.Context()))) // it is done, or not, when this returns
		if d.killsAfter(op) {
			<-r.Context().Done()
			panic(http.ErrAbortHandler)
		}
		answer.to(w)
	})
}

// killsBefore kills the command if that is due before a request of it is passed on.
func (d *deadly) killsBefore() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.noted != nil && d.noted() && d.cmd.Process.Kill() == nil
}

// kill kills the command, which may have ended.
func (d *deadly) kill() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cmd.Process.Kill()
}

// killsAfter kills the command if that is due after an operation.
func (d *deadly) killsAfter(op string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.did = append(d.did, op)
	d.left--
	return (d.left == 0 || op == d.at) && d.cmd.Process.Kill() == nil
}

// kept is an answer that waits until it may be given.
type kept struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (k *kept) Header() http.Header         { return k.header }
func (k *kept) WriteHeader(status int)      { k.status = status }
func (k *kept) Write(b []byte) (int, error) { return k.body.Write(b) }

func (k *kept) to(w http.ResponseWriter) {
	maps.Copy(w.Header(), k.header)
	if k.status != 0 {
		w.WriteHeader(k.status)
	}
	w.Write(k.body.Bytes())
}

// errWasKilled says that a command was killed.
var errWasKilled = errors.New("killed")

// run runs a command of the binary that is killed at the n-th change, 0 is never. It
// returns what it printed and its exit status.
func (d *deadly) run(t *testing.T, n int, env []string, args ...string) (out string, err error) {
	t.Helper()
	return d.runUntil(t, n, "", env, args...)
}

// runUntil is run with a kill also at an operation.
func (d *deadly) runUntil(t *testing.T, n int, at string, env []string, args ...string) (out string, err error) {
	t.Helper()
	ended := d.start(t, order{left: n, at: at}, env, args...)
	return ended()
}

// start starts a command of the binary that is killed by an order, when all that the one
// before it asked for is done. The function waits for its end.
func (d *deadly) start(t *testing.T, o order, env []string, args ...string) (ended func() (out string, err error)) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	cmd := exec.Command(path, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), env...), &text, &text
	until(t, "nothing of the command before is under way", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.busy == 0
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	d.order, d.cmd, d.did = o, cmd, nil
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return func() (string, error) {
		err := cmd.Wait()
		if s, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && s.Signaled() {
			err = errWasKilled
		}
		return text.String(), err
	}
}

// changes are the operations of the last run.
func (d *deadly) changes() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.did)
}

func credentialsEnv(c aws.Credentials) []string {
	return []string{"AWS_ACCESS_KEY_ID=" + c.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + c.SecretAccessKey, "AWS_REGION=" + keyRegion, "AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null"}
}

// everyKill has a scenario end undisturbed, and then once more for every change that
// it makes, with a kill at that one: the command that was killed is run again, and
// must come to the same state. prepare makes what a scenario works on, by its number;
// look is the state, with what differs from scenario to scenario made equal.
func (d *deadly) everyKill(t *testing.T, env []string, prepare func(i int) (args []string), look func(i int) string) {
	t.Helper()
	args := prepare(0)
	if out, err := d.run(t, 0, env, args...); err != nil {
		t.Fatalf("undisturbed: %v\n%s", err, out)
	}
	all, want := d.changes(), look(0)
	for n := 1; n <= len(all); n++ {
		args = prepare(n)
		if out, err := d.run(t, n, env, args...); !errors.Is(err, errWasKilled) {
			t.Fatalf("it was to be killed at %s, %d of %v: %v\n%s", all[n-1], n, all, err, out)
		}
		if out, err := d.run(t, 0, env, args...); err != nil {
			t.Errorf("after a kill at %s, %d of %v: %v\n%s", all[n-1], n, all, err, out)
		}
		if got := look(n); got != want {
			t.Errorf("after a kill at %s, %d of %v:\n%s\nundisturbed:\n%s", all[n-1], n, all, got, want)
		}
	}
	d.done = append([]string{"undisturbed"}, all...)
	t.Logf("killed at each of %v", all)
}
