package notekey

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"cardea/internal/secret"
)

func TestSignsAsNoteItselfDoes(t *testing.T) {
	t.Parallel()
	key, verifier, err := Generate("alice")
	if err != nil {
		t.Fatal(err)
	}
	ours, err := Parse(key)
	if err != nil {
		t.Fatal(err)
	}
	if ours.Name() != "alice" || ours.Verifier() != verifier {
		t.Errorf("it is the key %s of %s", ours.Verifier(), ours.Name())
	}
	theirs, err := note.NewSigner(string(key.Expose()))
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(verifier)
	if err != nil {
		t.Fatal(err)
	}
	a, err1 := note.Sign(&note.Note{Text: "x\n"}, ours)
	b, err2 := note.Sign(&note.Note{Text: "x\n"}, theirs)
	if err1 != nil || err2 != nil || string(a) != string(b) {
		t.Errorf("two signatures: %v, %v", err1, err2)
	}
	if _, err := note.Open(a, note.VerifierList(v)); err != nil {
		t.Error(err)
	}
	ours.Destroy()
	if _, err := note.Sign(&note.Note{Text: "x\n"}, ours); err == nil || err.Error() != "the signing key was destroyed" {
		t.Errorf("after Destroy: %v", err)
	}
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	key, _, err := Generate("alice")
	if err != nil {
		t.Fatal(err)
	}
	good := string(key.Expose())
	for i, text := range []string{
		"", "PRIVATE+KEY+", good[:len(good)-4], good + "\n\n", good + "A", strings.TrimPrefix(good, "PRIVATE+KEY+"),
		strings.Replace(good, "alice", "bob", 1), strings.Replace(good, "alice", "", 1), strings.Replace(good, "alice", "al ice", 1), good[:40] + "\n" + good[40:],
	} {
		_, err := Parse(secret.New([]byte(text)))
		if !errors.Is(err, ErrMalformed) || strings.Contains(err.Error(), good[len(good)-20:]) {
			t.Errorf("%d: got %v", i, err)
		}
	}
	for _, name := range []string{"", "a b", "a+b", "a\nb"} {
		if _, _, err := Generate(name); err == nil {
			t.Errorf("name %q is accepted", name)
		}
	}
}
