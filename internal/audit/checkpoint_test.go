package audit

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"cardea/internal/notekey"
	"cardea/internal/secret"
)

// The key of the vectors is the seed 00 01 … 1f.
func vectorKey() secret.Bytes {
	return secret.Copy([]byte("PRIVATE+KEY+cardea/node-1+c4d287ab+AQABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"))
}

const vectorVerifier = "cardea/node-1+c4d287ab+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"

const vectorCheckpoint = "cardea/node-1\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\ntime 2026-11-22T08:30:00.000001Z\n\n" +
	"— cardea/node-1 xNKHq4ZZ6qyfdFxyzUweIdHjnant1oMi1sgzPYQ4jj1/GKnfPD7af4N6wV+5RIOeBkWq8p4aeTsIjCqUbQGckg1MzgQ=\n"

func newSigner(t testing.TB, key secret.Bytes) *Signer {
	t.Helper()
	s, err := NewSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// newKey makes a key of the node's log.
func newKey(t testing.TB, node string) *Signer {
	t.Helper()
	origin, err := Origin(node)
	if err != nil {
		t.Fatal(err)
	}
	key, verifier, err := GenerateSigningKey(origin)
	if err != nil {
		t.Fatal(err)
	}
	s := newSigner(t, key)
	if s.Verifier() != verifier || s.Origin() != origin {
		t.Fatalf("got %s of %s, want %s of %s", s.Verifier(), s.Origin(), verifier, origin)
	}
	return s
}

func vectorOf(t testing.TB) Checkpoint {
	t.Helper()
	root, err := tlog.ParseHash("CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=")
	if err != nil {
		t.Fatal(err)
	}
	return Checkpoint{Origin: "cardea/node-1", Size: 20852163, Root: root, Time: testTime}
}

func TestCheckpointVector(t *testing.T) {
	t.Parallel()
	s := newSigner(t, vectorKey())
	if s.Verifier() != vectorVerifier {
		t.Errorf("got the verifier %s, want %s", s.Verifier(), vectorVerifier)
	}
	signed, err := s.Sign(vectorOf(t))
	if err != nil {
		t.Fatal(err)
	}
	if string(signed) != vectorCheckpoint {
		t.Errorf("got\n%s\nwant\n%s", signed, vectorCheckpoint)
	}
}

// TestSignerIsThatOfNote: note, which takes the key as a string, signs alike.
func TestSignerIsThatOfNote(t *testing.T) {
	t.Parallel()
	key, verifier, err := GenerateSigningKey("cardea/n")
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := note.NewSigner(string(key.Expose())) // only in a test
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []time.Time{{}, testTime} {
		c := Checkpoint{Origin: "cardea/n", Size: 7, Root: tlog.Hash{7}, Time: at}
		text, err := c.text()
		if err != nil {
			t.Fatal(err)
		}
		want, err := note.Sign(&note.Note{Text: text}, theirs)
		if err != nil {
			t.Fatal(err)
		}
		got, err := newSigner(t, key).Sign(c)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
		back, err := OpenCheckpoint(got, verifier, verifier)
		if err != nil || back != c {
			t.Errorf("got %+v, %v, want %+v", back, err, c)
		}
	}
}

func TestSignerKeyFileMayEndInANewline(t *testing.T) {
	t.Parallel()
	s := newSigner(t, secret.Copy(append(vectorKey().Expose(), '\n')))
	if s.Verifier() != vectorVerifier {
		t.Errorf("got %s", s.Verifier())
	}
}

func TestNewSignerRefuses(t *testing.T) {
	t.Parallel()
	good := string(vectorKey().Expose())
	for name, text := range map[string]string{
		"empty":            "",
		"a verifier":       vectorVerifier,
		"no prefix":        strings.TrimPrefix(good, "PRIVATE+"),
		"another name":     strings.Replace(good, "node-1", "node-2", 1),
		"not an origin":    strings.Replace(good, "cardea/", "", 1),
		"another hash":     strings.Replace(good, "+c4d287ab", "+00000000", 1),
		"capital hash":     strings.Replace(good, "+c4d287ab", "+C4D287AB", 1),
		"short key":        good[:len(good)-4],
		"long key":         good + "AAAA",
		"two newlines":     good + "\n\n",
		"not base64":       good[:len(good)-1] + "!",
		"another key type": strings.Replace(good, "+AQAB", "+AgAB", 1),
	} {
		if _, err := NewSigner(secret.Copy([]byte(text))); !errors.Is(err, notekey.ErrMalformed) || strings.Contains(err.Error(), "AgMEBQYHCAkKCwwNDg8") {
			t.Errorf("%s: got %v, want a refusal without the key", name, err)
		}
	}
}

func TestGenerateSigningKeyRefusesOtherNames(t *testing.T) {
	t.Parallel()
	for _, origin := range []string{"", "node", "cardea/", "cardea/a+b", "cardea/A", "other/node"} {
		if _, _, err := GenerateSigningKey(origin); err == nil || !strings.Contains(err.Error(), "want cardea/ and the name of a node") {
			t.Errorf("%q: got %v", origin, err)
		}
	}
	if _, err := Origin("Node 1"); err == nil || !strings.Contains(err.Error(), "1 to 64 of a-z") {
		t.Errorf("Origin: got %v", err)
	}
}

func TestSignRefuses(t *testing.T) {
	t.Parallel()
	s := newSigner(t, vectorKey())
	for want, c := range map[string]Checkpoint{
		"the key is that of cardea/node-1": {Origin: "cardea/node-2"},
		"size -1":                          {Size: -1},
		"size 4611686018427387904":         {Size: maxSize},
		"time":                             {Time: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		if _, err := s.Sign(c); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	s.Destroy()
	if _, err := s.Sign(Checkpoint{}); err == nil || !strings.Contains(err.Error(), "destroyed") {
		t.Errorf("destroyed: got %v", err)
	}
}

func TestSignerDoesNotPrintItsKey(t *testing.T) {
	t.Parallel()
	s := newSigner(t, vectorKey())
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		out := fmt.Sprintf(verb, s) + fmt.Sprintf(verb, *s)
		for _, leak := range []string{"AQABAgME", "0001020304", "0 1 2 3 4", "\x00\x01\x02"} {
			if strings.Contains(out, leak) {
				t.Errorf("%s shows the key", verb)
			}
		}
	}
}

func TestOpenCheckpointRefuses(t *testing.T) {
	t.Parallel()
	s, other, stranger := newKey(t, "node-1"), newKey(t, "node-2"), newKey(t, "node-1")
	signed, err := s.Sign(vectorOf(t))
	if err != nil {
		t.Fatal(err)
	}
	text, sigs, _ := strings.Cut(string(signed), "\n\n")
	spoiled := bytes.Clone(signed)
	spoilSignature(spoiled)
	// sign signs any text, as one who has the key could.
	sign := func(text string, by *Signer) string {
		b, err := note.Sign(&note.Note{Text: text}, by.key.(localKey))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	body := text + "\n"
	replace := func(old, by string) string { return sign(strings.Replace(body, old, by, 1), s) }
	for name, c := range map[string]struct {
		note string
		want error
	}{
		"edited size":            {strings.Replace(string(signed), "20852163", "20852164", 1), ErrBadSignature},
		"edited time":            {strings.Replace(string(signed), "T08", "T09", 1), ErrBadSignature},
		"edited signature":       {string(spoiled), ErrBadSignature},
		"signature's spare bits": {string(signed[:len(signed)-3]) + string(signed[len(signed)-3]+1) + "=\n", ErrMalformedCheckpoint},
		"a stranger's key":       {sign(body, stranger), ErrUnknownKey},
		"another log's key":      {sign(body, other), ErrUnknownKey},
		"no signature":           {text + "\n\n", ErrMalformedCheckpoint},
		"no text":                {sigs, ErrMalformedCheckpoint},
		"empty":                  {"", ErrMalformedCheckpoint},
		"not UTF-8":              {"\xff" + string(signed), ErrMalformedCheckpoint},
		"too long":               {string(signed) + strings.Repeat("x", MaxCheckpoint), ErrMalformedCheckpoint},
		"leading zero":           {replace("20852163", "020852163"), ErrMalformedCheckpoint},
		"negative size":          {replace("20852163", "-1"), ErrMalformedCheckpoint},
		"huge size":              {replace("20852163", "4611686018427387904"), ErrMalformedCheckpoint},
		"short root":             {replace("CsUY", ""), ErrMalformedCheckpoint},
		"root of other bits":     {replace("q2I=", "q2J="), ErrMalformedCheckpoint},
		"no origin":              {replace("cardea/node-1", "node-1"), ErrMalformedCheckpoint},
		"another extension":      {replace("time 2026", "date 2026"), ErrMalformedCheckpoint},
		"a second extension":     {sign(body+"more\n", s), ErrMalformedCheckpoint},
		"time without decimals":  {replace(".000001Z", "Z"), ErrMalformedCheckpoint},
		"time of year 1":         {replace("2026-11-22T08:30:00.000001Z", "0001-01-01T00:00:00.000000Z"), ErrMalformedCheckpoint},
		"two lines":              {sign("cardea/node-1\n1\n", s), ErrMalformedCheckpoint},
	} {
		if got, err := OpenCheckpoint([]byte(c.note), s.Verifier(), other.Verifier()); !errors.Is(err, c.want) {
			t.Errorf("%s: got %+v, %v, want %v", name, got, err, c.want)
		}
	}
	if _, err := OpenCheckpoint(signed, "rubbish"); err == nil || !strings.Contains(err.Error(), `verifier "rubbish"`) {
		t.Errorf("unusable verifier: got %v", err)
	}
	foreign, err := note.NewEd25519VerifierKey("example.com", make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenCheckpoint(signed, foreign); err == nil || !strings.Contains(err.Error(), "not the origin of a log") {
		t.Errorf("verifier of something else: got %v", err)
	}
}

func TestWitnessSignaturesAreIgnored(t *testing.T) {
	t.Parallel()
	s, witness := newKey(t, "node-1"), newKey(t, "node-2")
	signed, err := s.Sign(vectorOf(t))
	if err != nil {
		t.Fatal(err)
	}
	n, err := note.Open(signed, note.VerifierList())
	u := new(note.UnverifiedNoteError)
	if !errors.As(err, &u) {
		t.Fatal(n, err)
	}
	both, err := note.Sign(u.Note, witness.key.(localKey))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenCheckpoint(both, s.Verifier()); err != nil {
		t.Errorf("with an unknown witness: %v", err)
	}
	if _, err := OpenCheckpoint(both, witness.Verifier()); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("only the witness is trusted: got %v, want ErrUnknownKey", err)
	}
}

func FuzzOpenCheckpoint(f *testing.F) {
	s, err := NewSigner(vectorKey())
	if err != nil {
		f.Fatal(err)
	}
	f.Add("cardea/node-1\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n")
	f.Add("cardea/node-1\n0\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\ntime 2026-11-22T08:30:00.000001Z\n")
	f.Add("x\n\n— cardea/node-1 " + base64.StdEncoding.EncodeToString(make([]byte, 68)) + "\n")
	f.Fuzz(func(t *testing.T, text string) {
		// As it is: nothing but a panic can go wrong, for nobody can sign.
		if c, err := OpenCheckpoint([]byte(text), vectorVerifier); err == nil {
			t.Errorf("opened %+v", c)
		}
		// Signed: what opens is what was signed.
		signed, err := note.Sign(&note.Note{Text: text}, s.key.(localKey))
		if err != nil {
			return
		}
		c, err := OpenCheckpoint(signed, vectorVerifier)
		if err != nil {
			return
		}
		if again, err := s.Sign(c); err != nil || !bytes.Equal(again, signed) {
			t.Errorf("opened and signed: got %q, %v, want %q", again, err, signed)
		}
	})
}
