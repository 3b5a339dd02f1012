package cli

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// Several people add their line to a file, such as a signature to a request.
func TestWhatSeveralAddToAFileAtOnceIsKept(t *testing.T) {
	t.Parallel()
	path := write(t, filepath.Join(t.TempDir(), "request"), []byte("text\n"))
	add := func() error {
		text, release, err := readToReplace(path)
		if err != nil {
			return err
		}
		defer release()
		return replaceFile(path, append(text, "— signature\n"...))
	}
	var added, told atomic.Int64
	var people sync.WaitGroup
	for range 8 {
		people.Go(func() {
			for range 25 {
				switch err := add(); {
				case err == nil:
					added.Add(1)
				case strings.Contains(err.Error(), "request: somebody else is writing it at this moment: run this again"):
					told.Add(1)
				default:
					t.Error(err)
				}
			}
		})
	}
	people.Wait()
	text, err := os.ReadFile(path)
	if n := bytes.Count(text, []byte("signature")); err != nil || int64(n) != added.Load() || n == 0 {
		t.Errorf("%d are in the file, %d were told that theirs is, %d to come again; %v", n, added.Load(), told.Load(), err)
	}
	_, release, err := readToReplace(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := add(); err == nil {
		t.Error("it was written while another had it")
	}
	release()
	if err := add(); err != nil {
		t.Error(err)
	}
	if _, _, err := readToReplace(path + "2"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
