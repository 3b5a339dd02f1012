package fileenc_test

import (
	"errors"
	"strings"
	"testing"
)

// refused fails the test unless err is of the kind and has the words.
func refused(t testing.TB, err, kind error, words string) {
	t.Helper()
	if !errors.Is(err, kind) || !strings.Contains(err.Error(), words) {
		t.Errorf("got error %v, want %v: %s", err, kind, words)
	}
}
