//go:build unix

package cli

import (
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestFolderOfAnotherUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 { // who may look everywhere
		asNobody(t)
		return
	}
	dir := socket(t, func(http.ResponseWriter, *http.Request) {})
	if err := os.Chmod(dir, 0); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(dir, 0o700)
	code, _, stderr := run(t, Process{}, "kms", "status", "--data-dir", dir)
	if code != exitFailed || !strings.Contains(stderr, "permission denied: run this as the user that the key service runs as, such as by sudo -u cardea") {
		t.Errorf("exit %d, %q", code, stderr)
	}
}

// asNobody runs the test that calls it again, as a user without rights.
func asNobody(t *testing.T) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// Where nobody can run it and has room, which go test's own folder is not.
	dir, err := os.MkdirTemp("/tmp", "cardea-nobody")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	const nobody = 65534
	program := filepath.Join(dir, "test")
	b, err := os.ReadFile(self)
	// While it is open to be written, no other test may start a process, which would
	// have it open too, and it could not be run: "text file busy".
	syscall.ForkLock.RLock()
	err = errors.Join(err, os.WriteFile(program, b, 0o755))
	syscall.ForkLock.RUnlock()
	if err = errors.Join(err, os.Chown(dir, nobody, nobody)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-test.run", "^"+t.Name()+"$", "-test.v")
	cmd.Dir, cmd.Env = dir, []string{"TMPDIR=" + dir, "HOME=" + dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("as nobody: %v\n%s", err, out)
	}
}
