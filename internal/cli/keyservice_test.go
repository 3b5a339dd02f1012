package cli

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// socket is a data folder of 'cardea dev' on whose admin socket h answers.
func socket(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cardea") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ln, err := net.Listen("unix", filepath.Join(dir, "admin.sock"))
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
	return dir
}

const statusAnswer = `{"node":"n","url":"http://127.0.0.1:4599","regions":["eu-central-1"],"accounts":["111122223333"],"unsealed":%t}`

func TestRefusalsOfTheKeyServiceSayWhatToDo(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sealed bool
		status int
		code   string
		want   string
	}{
		"sealed":         {true, 400, "ServiceUnavailable", "No.: its custodians unseal it by 'cardea custodian unlock --tenant key-service'"},
		"unavailable":    {false, 400, "ServiceUnavailable", "cardea: No.\n"},
		"failure inside": {false, 500, "ServiceFailure", "cardea: No.: its log says why\n"},
		"refused":        {false, 400, "NoSuchEntity", "cardea: No.\n"},
		"other release":  {false, 404, "UnknownOperation", "cardea: No.\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := socket(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/kms/Status" {
					fmt.Fprintf(w, statusAnswer, !c.sealed)
					return
				}
				w.WriteHeader(c.status)
				fmt.Fprintf(w, `{"code":%q,"message":"No."}`, c.code)
			})
			code, stdout, stderr := run(t, Process{}, "identity", "user", "show", "alice", "--data-dir", dir)
			if code != exitFailed || stdout != "" || !strings.Contains(stderr, c.want) {
				t.Errorf("exit %d, %q, %q; want %q", code, stdout, stderr, c.want)
			}
		})
	}
}

// TestAccessKeyGoesIntoAFileThatIsThereFirst: a secret that cannot be written would
// be lost.
func TestAccessKeyGoesIntoAFileThatIsThereFirst(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "alice.credentials")
	dir := socket(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/kms/Status" {
			fmt.Fprintf(w, statusAnswer, true)
			return
		}
		if _, err := os.Stat(out); err != nil {
			t.Errorf("the file is not made first: %v", err)
		}
		fmt.Fprint(w, `{"ID":"AKIAIOSFODNN7EXAMPLE","Account":"111122223333","User":"alice","Active":true,"Secret":"canary"}`)
	})
	code, stdout, stderr := run(t, Process{}, "identity", "key", "create", "--user", "alice", "--out-file", out, "--data-dir", dir)
	if code != exitDone || strings.Contains(stdout+stderr, "canary") || !strings.Contains(stdout, "access key AKIAIOSFODNN7EXAMPLE of user alice is in "+out) {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
	text, err := os.ReadFile(out)
	want := "[default]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = canary\nregion = eu-central-1\n"
	if err != nil || string(text) != want {
		t.Errorf("got %q, %v", text, err)
	}
	if info, err := os.Stat(out); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info, err)
	}
	code, stdout, _ = run(t, Process{}, "identity", "key", "create", "--user", "alice", "--show-secret", "--data-dir", dir)
	if code != exitDone || stdout != want {
		t.Errorf("exit %d, %q", code, stdout)
	}
}

func TestReadDocument(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct{ path, text, err string }{
		{write("good", "{}\n"), "{}\n", ""},
		{write("blank", " \n"), "", "blank: is empty; a policy document is wanted"},
		{write("long", strings.Repeat(" ", maxDocument+1)), "", "long: is longer than 262144 bytes, no policy document"},
		{filepath.Join(dir, "none"), "", "none: no such file or directory"},
		{dir, "", "is a directory"},
	} {
		got, err := readDocument(&Process{}, c.path)
		if got != c.text || (err == nil) != (c.err == "") || err != nil && !strings.HasSuffix(err.Error(), c.err) {
			t.Errorf("%s: %q, %v, want %q %q", c.path, got, err, c.text, c.err)
		}
	}
	in, err := os.Open(write("stdin", "[]"))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if got, err := readDocument(&Process{Stdin: in}, "-"); got != "[]" || err != nil {
		t.Errorf("standard input: %q, %v", got, err)
	}
}

func TestParsePairs(t *testing.T) {
	t.Parallel()
	pairs, err := parsePairs("--tag", []string{"a=b", "c=", "d=e=f,g"})
	if err != nil || fmt.Sprint(pairs) != "[[a b] [c ] [d e=f,g]]" {
		t.Errorf("%q, %v", pairs, err)
	}
	for _, text := range []string{"a", "", "=b"} {
		if _, err := parsePairs("--tag", []string{text}); err == nil || err.Error() != fmt.Sprintf("--tag: %q is not KEY=VALUE", text) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
