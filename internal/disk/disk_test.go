package disk_test

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"cardea/internal/disk"
)

// childEnv makes a test binary the process that holds a lock until its input ends.
const childEnv = "CARDEA_DISK_CHILD"

func TestChildHoldsALock(t *testing.T) {
	path := os.Getenv(childEnv)
	if path == "" {
		t.Skip("only run by TestALockEndsWithItsProcess")
	}
	l, err := disk.TryLock(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release() // a lock that nothing refers to any more ends with the next garbage collection
	os.Stdout.WriteString("locked\n")
	io.Copy(io.Discard, os.Stdin)
}

func TestALockEndsWithItsProcess(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	c := exec.Command(os.Args[0], "-test.run=^TestChildHoldsALock$")
	c.Env = append(os.Environ(), childEnv+"="+path)
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "locked\n" {
		t.Fatalf("the other process says %q, %v", line, err)
	}
	if _, err := disk.TryLock(path); !errors.Is(err, disk.ErrHeld) || err.Error() != "another process has the lock" {
		t.Errorf("while the other has it: %v", err)
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	c.Wait()
	l, err := disk.TryLock(path)
	if err != nil {
		t.Fatalf("after the other was killed: %v", err)
	}
	if _, err := disk.TryLock(path); !errors.Is(err, disk.ErrHeld) {
		t.Errorf("a second lock in one process: %v", err)
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	if l, err = disk.WaitLock(path); err != nil {
		t.Fatalf("after it was released: %v", err)
	}
	if err := l.Release(); err != nil {
		t.Error(err)
	}
}

func TestAFolderThatIsNotThereCannotBeLocked(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "none")
	if _, err := disk.TryLock(filepath.Join(dir, "lock")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if err := disk.SyncDir(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestAFileIsReplacedWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	for _, text := range []string{"the first", "another"} {
		if err := disk.Replace(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != text {
			t.Errorf("%q, %v, want %q", got, err, text)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("others may read it: %v, %v", info.Mode(), err)
	}
	// What cannot be replaced stays as it is, and nothing lies about.
	folder := filepath.Join(dir, "folder")
	if err := os.MkdirAll(filepath.Join(folder, "in use"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := disk.Replace(folder, []byte("x")); err == nil {
		t.Error("a folder was replaced by a file")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 2 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if err := disk.Replace(filepath.Join(dir, "nowhere", "state"), []byte("x")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("in a folder that is not there: %v", err)
	}
}
