package notekey

import (
	"bytes"
	"encoding/base64"
	"errors"
	"testing"

	"golang.org/x/mod/sumdb/note"
)

// TestANoteIsOneText: note.Open takes four encodings of a signature.
func TestANoteIsOneText(t *testing.T) {
	t.Parallel()
	key, verifier, err := Generate("alice")
	if err != nil {
		t.Fatal(err)
	}
	s, err := Parse(key)
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(verifier)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := note.Sign(&note.Note{Text: "a text\nof two lines\n"}, s)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := Open(signed, note.VerifierList(v)); err != nil || n.Text != "a text\nof two lines\n" || len(n.Sigs) != 1 {
		t.Errorf("%+v, %v", n, err)
	}
	last := len(signed) - len("=\n") - 1
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	others := 0
	for _, d := range []byte(digits) {
		other := bytes.Clone(signed)
		other[last] = d
		if _, err := note.Open(other, note.VerifierList(v)); err != nil || d == signed[last] {
			continue
		}
		others++
		if n, err := Open(other, note.VerifierList(v)); n != nil || !errors.Is(err, ErrEncoding) ||
			err.Error() != "a signature is not in its one encoding: bits of its base64 that must be zero are set" {
			t.Errorf("%v, %v", n, err)
		}
		// Nor as a signature of somebody else, who need not be known.
		mixed := append(bytes.Clone(signed), bytes.Replace(other[len("a text\nof two lines\n\n"):], []byte("alice"), []byte("bob"), 1)...)
		if _, err := Open(mixed, note.VerifierList(v)); !errors.Is(err, ErrEncoding) {
			t.Errorf("of another: %v", err)
		}
	}
	if others != 3 {
		t.Errorf("note.Open takes %d other encodings, want 3: the test tests something else", others)
	}
}

func TestOpenGivesTheErrorsOfNote(t *testing.T) {
	t.Parallel()
	_, verifier, err := Generate("alice")
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(verifier)
	if err != nil {
		t.Fatal(err)
	}
	sig := base64.StdEncoding.EncodeToString(make([]byte, 68))
	for _, text := range []string{"", "x", "x\n\n", "x\n\n— alice\n", "x\n\n— alice !\n", "x\n\nalice " + sig + "\n", "x\n\n— bob " + sig + "\n"} {
		_, want := note.Open([]byte(text), note.VerifierList(v))
		if _, got := Open([]byte(text), note.VerifierList(v)); want == nil || got == nil || got.Error() != want.Error() {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}
