package custodian

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"github.com/google/uuid"

	"cardea/internal/secret"
)

// vectors is testdata/shares.json, which testdata/vectors.py, an implementation
// of its own, has written.
type vectors struct {
	Seals []struct {
		Name, Tenant      string
		Form              Form
		Shares, Threshold int
		Generation        int
		MasterID          uuid.UUID `json:"master_id"`
		Master            string
		Parts             []string
		Seal              string
	}
	Hyperswitch struct{ Key1, Key2, Master, Sealed string }
	Token       struct{ Token, Hash string }
}

func readVectors(t *testing.T) vectors {
	t.Helper()
	data, err := os.ReadFile("testdata/shares.json")
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	var v vectors
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	if len(v.Seals) != 3 {
		t.Fatalf("%d seals", len(v.Seals))
	}
	return v
}

func TestSealVectors(t *testing.T) {
	t.Parallel()
	for _, v := range readVectors(t).Seals {
		var s Seal
		if err := s.UnmarshalBinary(unhex(t, v.Seal)); err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		want := Info{v.Tenant, v.Form, v.Shares, v.Threshold, v.Generation, v.MasterID}
		if s.Info() != want {
			t.Errorf("%s: got %+v, want %+v", v.Name, s.Info(), want)
		}
		if b, err := s.MarshalBinary(); err != nil || hex.EncodeToString(b) != v.Seal {
			t.Errorf("%s: encoded again: %v, or other bytes", v.Name, err)
		}
		var parts []Part
		for i, text := range v.Parts {
			p, err := parse(v.Form, i+1, text)
			if err != nil {
				t.Fatalf("%s: part %d: %v", v.Name, i+1, err)
			}
			if !p.Text().Equal(secret.Copy([]byte(text))) {
				t.Errorf("%s: part %d has another text", v.Name, i+1)
			}
			parts = append(parts, p)
		}
		// The last parts, so that high numbers count too.
		got, err := s.Open(parts[len(parts)-v.Threshold:])
		if err != nil || !got.Equal(secret.New(unhex(t, v.Master))) {
			t.Errorf("%s: open: %v, or another key", v.Name, err)
		}
	}
}

func TestHyperswitchVector(t *testing.T) {
	t.Parallel()
	v := readVectors(t).Hyperswitch
	got, err := OpenHyperswitch(text(v.Sealed), text(v.Key1), text(v.Key2))
	if err != nil || !got.Equal(secret.New(unhex(t, v.Master))) {
		t.Errorf("open: %v, or another key", err)
	}
}

func TestTokenVector(t *testing.T) {
	t.Parallel()
	v := readVectors(t).Token
	got, err := HashToken(text(v.Token))
	if err != nil || hex.EncodeToString(got[:]) != v.Hash {
		t.Errorf("got %x, %v; want %s", got, err, v.Hash)
	}
}

func parse(form Form, index int, s string) (Part, error) {
	if form == FormHalves {
		return ParseHalf(index, text(s))
	}
	return ParseShare(text(s))
}

func text(s string) secret.Bytes { return secret.Copy([]byte(s)) }

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
