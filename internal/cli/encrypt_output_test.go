package cli

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
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
