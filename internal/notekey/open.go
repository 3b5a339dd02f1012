package notekey

import (
	"bytes"
	"encoding/base64"
	"errors"

	"golang.org/x/mod/sumdb/note"
)

// ErrEncoding says that a note's signature is in base64 that note.Sign does not write.
var ErrEncoding = errors.New("a signature is not in its one encoding: bits of its base64 that must be zero are set")

// Open is note.Open of notes whose signatures are as note.Sign encodes them. The last
// digit of an Ed25519 signature's base64 has two bits that are not of the signature;
// note.Open does not look at them, so that one signed note would be four texts. Errors:
// those of note.Open, and ErrEncoding.
func Open(signed []byte, known note.Verifiers) (*note.Note, error) {
	at := bytes.LastIndex(signed, []byte("\n\n"))
	for line := range bytes.Lines(signed[at+1:]) { // what is no signature, note.Open refuses
		_, sig, _ := bytes.Cut(bytes.TrimPrefix(bytes.TrimSuffix(line, []byte("\n")), []byte("— ")), []byte(" "))
		if _, err := base64.StdEncoding.DecodeString(string(sig)); err != nil {
			continue
		}
		if _, err := base64.StdEncoding.Strict().DecodeString(string(sig)); err != nil {
			return nil, ErrEncoding
		}
	}
	return note.Open(signed, known)
}
