package fileenc_test

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"cardea/internal/fileenc"
	"cardea/internal/secret"
)

type vector struct {
	Comment, Suite string
	Ciphertext     []byte
	DataKey        []byte `json:"data-key"`
	DecryptedDEK   []byte `json:"decrypted-dek"`
	Plaintext      string
	Refused        string
}

func vectors(t testing.TB, file string, want int) []vector {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all struct{ Tests []vector }
	if err := json.Unmarshal(text, &all); err != nil || len(all.Tests) != want {
		t.Fatalf("%s: %d vectors, want %d, %v", file, len(all.Tests), want, err)
	}
	return all.Tests
}

// open opens a message by its data key.
func open(t testing.TB, message, dataKey []byte, o fileenc.DecryptOptions) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := fileenc.OpenWith(t.Context(), &out, bytes.NewReader(message), secret.Copy(dataKey), o)
	return out.String(), err
}

// intact fails the test if a message opens that was changed or cut off anywhere, or
// has more at its end. With frames what comes before the change may be released.
func intact(t testing.TB, name, plain string, message, dataKey []byte, o fileenc.DecryptOptions) {
	t.Helper()
	for i := range message {
		if got, err := open(t, flipped(message, i), dataKey, o); err == nil || !strings.HasPrefix(plain, got) || got == plain {
			t.Errorf("%s: with byte %d changed: %q, %v", name, i, got, err)
		}
		if got, err := open(t, message[:i], dataKey, o); err == nil || !strings.HasPrefix(plain, got) || got == plain {
			t.Errorf("%s: cut off at %d: %q, %v", name, i, got, err)
		}
	}
	_, err := open(t, append(bytes.Clone(message), 0), dataKey, o)
	refused(t, err, fileenc.ErrTrailing, "")
}

// TestVectorsOfAWS opens messages that AWS published to check key commitment by.
func TestVectorsOfAWS(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t, "testdata/commitment.json", 5) {
		got, err := open(t, v.Ciphertext, v.DecryptedDEK, fileenc.DecryptOptions{})
		if v.Refused != "" {
			refused(t, err, fileenc.ErrForged, v.Refused)
			continue
		}
		if err != nil || got != v.Plaintext {
			t.Errorf("%s: got %q, %v", v.Comment, got, err)
		}
		intact(t, v.Comment, v.Plaintext, v.Ciphertext, v.DecryptedDEK, fileenc.DecryptOptions{})
	}
}

// TestEverySuiteOfTheEncryptionSDK opens what AWS's own library made in each of its
// algorithm suites. Those without commitment are refused unless the reader says
// otherwise.
func TestEverySuiteOfTheEncryptionSDK(t *testing.T) {
	t.Parallel()
	const plain = "twenty bytes of text"
	uncommitted := 0
	for _, v := range vectors(t, "testdata/esdk-go.json", 11) {
		o := fileenc.DecryptOptions{Context: map[string]string{"tenant": "shop", "purpose": "é"}}
		if _, err := open(t, v.Ciphertext, v.DataKey, o); err != nil {
			refused(t, err, fileenc.ErrUncommitted, "(suite 0x0")
			uncommitted++
			o.AllowUncommitted = true
		}
		if got, err := open(t, v.Ciphertext, v.DataKey, o); err != nil || got != plain {
			t.Errorf("%s: got %q, %v", v.Suite, got, err)
		}
		intact(t, v.Suite, plain, v.Ciphertext, v.DataKey, o)
		h, err := fileenc.ReadHeader(bytes.NewReader(v.Ciphertext), 1)
		if err != nil || h.Suite.Describe() == "" || h.Suite.Committing() == (h.Version == 1) {
			t.Errorf("%s: %v, %q", v.Suite, err, h.Suite.Describe())
		}
	}
	if uncommitted != 9 {
		t.Errorf("%d suites without commitment, want 9", uncommitted)
	}
}

func TestBodyInOnePiece(t *testing.T) {
	t.Parallel()
	const plain = "in one piece"
	dataKey := random(32)
	message := fileenc.OnePiece(secret.Copy(dataKey), []byte(plain))
	if got, err := open(t, message, dataKey, fileenc.DecryptOptions{}); err != nil || got != plain {
		t.Errorf("got %q, %v", got, err)
	}
	intact(t, "one piece", plain, message, dataKey, fileenc.DecryptOptions{})
	_, err := open(t, message, dataKey, fileenc.DecryptOptions{MaxFrame: len(plain) - 1})
	refused(t, err, fileenc.ErrLimit, "its body is one piece of 12 bytes, at most 11 are read")
}
