package ciphertext

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

func TestContextSeparatesFields(t *testing.T) {
	t.Parallel()
	lists := [][]string{
		{"a", "bc"},
		{"ab", "c"},
		{"abc"},
		{"a", "b", "c"},
		{"", "abc"},
		{"abc", ""},
		{"abc", "", ""},
		{},
		{"a\x00\x00\x00\x02bc"},
	}
	seen := map[string][]string{}
	for _, list := range lists {
		fields := make([][]byte, len(list))
		for i, s := range list {
			fields[i] = []byte(s)
		}
		c := string(Context("label", fields...))
		if other, ok := seen[c]; ok {
			t.Errorf("%q and %q have the same context", other, list)
		}
		seen[c] = list
	}
}

func TestContextBytes(t *testing.T) {
	t.Parallel()
	got := Context("ab", []byte("c"), nil)
	want := []byte("\x00\x00\x00\x02ab\x00\x00\x00\x01c\x00\x00\x00\x00")
	if !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
}

func TestDifferentBindingsHaveDifferentContexts(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := genBinding().Draw(t, "a"), genBinding().Draw(t, "b")
		if same := bytes.Equal(a.context(), b.context()); same != (a == b) {
			t.Fatalf("contexts equal: %v, bindings equal: %v", same, a == b)
		}
	})
}

func TestDifferentKeyBindingsHaveDifferentContexts(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := genKeyBinding().Draw(t, "a"), genKeyBinding().Draw(t, "b")
		if same := bytes.Equal(a.context(), b.context()); same != (a == b) {
			t.Fatalf("contexts equal: %v, key bindings equal: %v", same, a == b)
		}
	})
}

// A record and a wrapped key under one key never open as each other, whatever
// their fields are.
func TestRecordAndWrappedKeyContextsDiffer(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		if bytes.Equal(genBinding().Draw(t, "b").context(), genKeyBinding().Draw(t, "kb").context()) {
			t.Fatal("a record and a wrapped key share a context")
		}
	})
}
