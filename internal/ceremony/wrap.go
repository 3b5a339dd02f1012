package ceremony

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"golang.org/x/mod/sumdb/note"

	"cardea/internal/keyspec"
	"cardea/internal/notekey"
)

// maxParameters bounds the files that travel between machines, in bytes.
const maxParameters = 64 << 10

// Parameters are what wraps material for one key, from GetParametersForImport. They
// are not secret, but must not be exchanged: see Digest.
type Parameters struct {
	KeyID       string                    `json:"key_id"` // ARN
	KeySpec     Algorithm                 `json:"key_spec"`
	Algorithm   keyspec.WrappingAlgorithm `json:"wrapping_algorithm"`
	PublicKey   []byte                    `json:"public_key"` // DER, SubjectPublicKeyInfo
	ImportToken []byte                    `json:"import_token"`
	ValidTo     time.Time                 `json:"valid_to"`
}

// ParseParameters reads what Encode wrote.
func ParseParameters(text []byte) (*Parameters, error) {
	p := &Parameters{}
	if err := parse("parameters", text, p); err != nil {
		return nil, err
	}
	return p, p.check()
}

// Encode writes them for another machine.
func (p *Parameters) Encode() ([]byte, error) { return encode(p) }

func (p *Parameters) check() error {
	if err := p.KeySpec.check(); err != nil {
		return fmt.Errorf("parameters: key_spec: %w", err)
	}
	switch p.Algorithm {
	case keyspec.WrapOAEPSHA256, keyspec.WrapRSAAESKW256:
		return nil
	}
	return fmt.Errorf("parameters: wrapping_algorithm: %q is refused, want %s or %s", p.Algorithm, keyspec.WrapRSAAESKW256, keyspec.WrapOAEPSHA256)
}

// Digest tells these parameters apart: custodians read it on both machines, so that
// nobody can have the material wrapped under a key of his own.
func (p *Parameters) Digest() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "cardea import parameters v1\n%s\n%s\n%s\n%x\n%x\n", p.KeyID, p.KeySpec, p.Algorithm, p.PublicKey, p.ImportToken))
	return strings.ToUpper(hex.EncodeToString(sum[:10]))
}

// Wrapped is wrapped material on its way to ImportKeyMaterial. It is not secret.
type Wrapped struct {
	KeyID       string    `json:"key_id"`
	KCV         string    `json:"kcv"`
	Material    []byte    `json:"encrypted_key_material"`
	ImportToken []byte    `json:"import_token"`
	ValidTo     time.Time `json:"valid_to"`
	Transcript  string    `json:"transcript"` // signed note
}

// ParseWrapped reads what Encode wrote.
func ParseWrapped(text []byte) (*Wrapped, error) {
	w := &Wrapped{}
	if err := parse("wrapped material", text, w); err != nil {
		return nil, err
	}
	if w.KeyID == "" || len(w.Material) == 0 || len(w.ImportToken) == 0 {
		return nil, errors.New("wrapped material: key_id, encrypted_key_material and import_token must be there")
	}
	return w, nil
}

// digest tells wrapped material apart, with the token that it is imported with.
func (w *Wrapped) digest() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "cardea wrapped material v1\n%x\n%x\n", w.Material, w.ImportToken))
	return hex.EncodeToString(sum[:])
}

// Encode writes it for another machine.
func (w *Wrapped) Encode() ([]byte, error) { return encode(w) }

func parse(what string, text []byte, into any) error {
	if len(text) > maxParameters {
		return fmt.Errorf("%s: longer than %d bytes", what, maxParameters)
	}
	if err := json.Unmarshal(text, into, json.RejectUnknownMembers(true)); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func encode(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return append(b, '\n'), nil
}

// Wrap wraps material for import at a time. kcv, if it is not empty, is what it must
// have. The caller keeps the material.
func Wrap(p *Parameters, m *Material, kcv string, now time.Time) (*Wrapped, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	if !now.Before(p.ValidTo) {
		return nil, fmt.Errorf("parameters: were valid until %s: get new ones", p.ValidTo.UTC().Format(time.RFC3339))
	}
	public, err := keyspec.ParsePublic(wrappingSpec(p.PublicKey), p.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("parameters: public_key: %w", err)
	}
	if m.Algorithm != p.KeySpec {
		return nil, fmt.Errorf("%w: they are for %s, and the key is %s", ErrMismatch, m.Algorithm, p.KeySpec)
	}
	if kcv != "" && !strings.EqualFold(kcv, m.KCV) {
		return nil, fmt.Errorf("the combined key: %w: it is %s, not %s", ErrCheck, m.KCV, kcv)
	}
	wrapped, err := keyspec.Wrap(p.Algorithm, public, m.value)
	if err != nil {
		return nil, fmt.Errorf("wrap: %w", err)
	}
	return &Wrapped{KeyID: p.KeyID, KCV: m.KCV, Material: wrapped, ImportToken: p.ImportToken, ValidTo: p.ValidTo}, nil
}

// Witness is a custodian who took part.
type Witness struct {
	Signer    *notekey.Signer
	Component string // "component 1 of 3"
	KCV       string // of the component
}

// transcriptHeader is the first line of a transcript.
const transcriptHeader = "cardea key ceremony v1"

// Transcript is the record of a ceremony, signed by each custodian: who, when, for
// which key, which components by their check values, under what it was wrapped, and
// what came of that: nobody can put material of his own in its place.
func Transcript(p *Parameters, w *Wrapped, witnesses []Witness, now time.Time) ([]byte, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\nkey: %s\nkey spec: %s\nwrapping: %s\nparameters: %s\nkcv: %s\nmaterial: %s\ntime: %s\n", transcriptHeader, p.KeyID, p.KeySpec, p.Algorithm, p.Digest(), w.KCV, w.digest(), now.UTC().Format(time.RFC3339))
	var signers []note.Signer
	seen := map[string]bool{}
	for _, x := range witnesses {
		if seen[x.Signer.Name()] {
			return nil, fmt.Errorf("%w: custodian %q has two components: split knowledge needs different people", ErrMismatch, x.Signer.Name())
		}
		seen[x.Signer.Name()] = true
		fmt.Fprintf(&b, "custodian: %s, %s, kcv %s\n", x.Signer.Name(), x.Component, x.KCV)
		signers = append(signers, x.Signer)
	}
	signed, err := note.Sign(&note.Note{Text: b.String()}, signers...)
	if err != nil {
		return nil, fmt.Errorf("sign transcript: %w", err)
	}
	return signed, nil
}

// OpenTranscript verifies a transcript: the signatures of at least two known
// custodians, and that it is of this material.
func OpenTranscript(w *Wrapped, known note.Verifiers) (text string, signers []string, err error) {
	n, err := notekey.Open([]byte(w.Transcript), known)
	if err != nil {
		return "", nil, fmt.Errorf("transcript: %w", err)
	}
	for _, s := range n.Sigs {
		signers = append(signers, s.Name)
	}
	switch {
	case !strings.HasPrefix(n.Text, transcriptHeader+"\n"):
		return "", nil, errors.New("transcript: is none of a key ceremony")
	case !strings.Contains(n.Text, "\nkey: "+w.KeyID+"\n") || !strings.Contains(n.Text, "\nkcv: "+w.KCV+"\n"):
		return "", nil, errors.New("transcript: is of another key")
	case !strings.Contains(n.Text, "\nmaterial: "+w.digest()+"\n"):
		return "", nil, errors.New("transcript: is of other material: what was wrapped, or its import token, was exchanged since the custodians signed")
	case len(signers) < 2:
		return "", nil, fmt.Errorf("transcript: signed by %d known custodians, want at least 2", len(signers))
	}
	return n.Text, signers, nil
}

// wrappingSpec is the key spec of an RSA public key, by its length: AWS KMS makes
// RSA_2048, RSA_3072 and RSA_4096 wrapping keys.
func wrappingSpec(der []byte) keyspec.Spec {
	for _, s := range []keyspec.Spec{keyspec.RSA2048, keyspec.RSA3072, keyspec.RSA4096} {
		if k, err := keyspec.ParsePublic(s, der); err == nil && k != nil {
			return s
		}
	}
	return keyspec.RSA4096
}
