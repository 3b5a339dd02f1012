package cli

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestOutputHasItsNameOnlyWhenItIsComplete goes through both ways to make a file, the
// one for file systems that have no files without a name included.
func TestOutputHasItsNameOnlyWhenItIsComplete(t *testing.T) {
	t.Parallel()
	ways := map[string]func(string) (*os.File, bool, error){"without a name": hiddenFile, "under another name": partFile}
	for way, make := range ways {
		for _, force := range []bool{false, true} {
			t.Run(way, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				name := filepath.Join(dir, "f")
				begin := func() *fileOutput {
					f, nameless, err := make(dir)
					if err != nil {
						t.Fatal(err)
					}
					o := &fileOutput{File: f, nameless: nameless, name: name, force: force, sync: force}
					if _, err := io.WriteString(o, "new"); err != nil {
						t.Fatal(err)
					}
					if _, err := os.Stat(name); err == nil {
						t.Error("the name is there before the end")
					}
					return o
				}
				if err := begin().abort(); err != nil {
					t.Error(err)
				}
				only(t, dir)
				if err := begin().commit(); err != nil {
					t.Error(err)
				}
				same(t, name, []byte("new"))
				only(t, dir, "f")

				os.Remove(name)
				late := begin()
				write(t, name, []byte("meanwhile"))
				err := late.commit()
				want := "meanwhile"
				if force {
					want = "new"
				}
				if same(t, name, []byte(want)); (err == nil) != force || err != nil && (!errors.Is(err, errExists) || !strings.Contains(err.Error(), "replace it by --force")) {
					t.Errorf("force %v: %v", force, err)
				}
				only(t, dir, "f")
			})
		}
	}
}

func TestOutputReplacesWhatALinkPointsTo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	target, link := write(t, filepath.Join(dir, "target"), []byte("old")), filepath.Join(dir, "link")
	if err := os.Symlink("target", link); err != nil {
		t.Fatal(err)
	}
	if _, err := openOutput(&Process{}, link, false, false); !errors.Is(err, errExists) {
		t.Errorf("got %v", err)
	}
	o, err := openOutput(&Process{}, link, true, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(o, "new"); err != nil {
		t.Fatal(err)
	}
	if err := o.commit(); err != nil {
		t.Fatal(err)
	}
	same(t, target, []byte("new"))
	if to, err := os.Readlink(link); err != nil || to != "target" {
		t.Errorf("the link is now %q, %v", to, err)
	}
	only(t, dir, "link", "target")
}

// A device or a pipe is written, never replaced or removed.
func TestOutputIntoADevice(t *testing.T) {
	t.Parallel()
	for _, end := range []func(sink) error{sink.commit, sink.abort} {
		o, err := openOutput(&Process{}, os.DevNull, true, true)
		if err != nil || !o.stream() {
			t.Fatalf("stream %v, %v", o.stream(), err)
		}
		if _, err := io.WriteString(o, "x"); err != nil {
			t.Error(err)
		}
		if err := end(o); err != nil {
			t.Error(err)
		}
		if info, err := os.Stat(os.DevNull); err != nil || info.Mode()&os.ModeDevice == 0 {
			t.Fatalf("%s is no device any more: %v", os.DevNull, err)
		}
	}
}

// Files come and go in a folder while it is worked on, and another run may work on it.
func TestFolderThatChangesMeanwhile(t *testing.T) {
	t.Parallel()
	from, to := t.TempDir(), t.TempDir()
	for _, name := range []string{"a", "b", "c", "d"} {
		write(t, filepath.Join(from, name), []byte("text"))
	}
	var said strings.Builder
	f := fileFlags{In: from, Out: to, Recursive: true}
	err := f.each(t.Context(), &Process{Stdout: &said}, "copied", func(name string) (string, bool) { return name, true }, func(in *input, out sink) (string, error) {
		switch filepath.Base(in.name) {
		case "a":
			if err := os.Remove(filepath.Join(from, "b")); err != nil {
				return "", err
			}
		case "c":
			write(t, filepath.Join(to, "c"), []byte("of another run"))
		}
		_, err := io.Copy(out, in)
		return "text", err
	})
	if err != nil || !strings.HasSuffix(said.String(), "\n2 files copied, 2 left alone\n") {
		t.Errorf("%v\n%s", err, &said)
	}
	only(t, to, "a", "c", "d")
	same(t, filepath.Join(to, "c"), []byte("of another run"))
}

func TestFileThatIsWrittenToWhileItIsReadIsRefused(t *testing.T) {
	t.Parallel()
	name := write(t, filepath.Join(t.TempDir(), "f"), []byte("text"))
	for what, change := range map[string]func() error{
		"longer":   func() error { return os.WriteFile(name, []byte("text, and more"), 0o600) },
		"as long":  func() error { return os.Chtimes(name, time.Time{}, time.Unix(1, 0)) },
		"replaced": nil,
	} {
		in, err := openInput(&Process{}, name)
		if err != nil {
			t.Fatal(err)
		}
		if err := in.unchanged(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if change == nil {
			if err := os.Rename(write(t, name+".new", []byte("another")), name); err != nil {
				t.Fatal(err)
			}
		} else if err := change(); err != nil {
			t.Fatal(err)
		}
		err = in.unchanged()
		if (err != nil) != (change != nil) || err != nil && !strings.Contains(err.Error(), name+" was changed while it was read: run this again when nobody writes to it") {
			t.Errorf("%s: %v", what, err)
		}
		if err := in.close(); err != nil {
			t.Error(err)
		}
	}
}
