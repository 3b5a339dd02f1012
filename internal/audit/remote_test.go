package audit

import (
	"context"
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"
)

// farKey is a key that is elsewhere.
type farKey struct {
	private ed25519.PrivateKey
	fail    error
	asked   int // for the public key
	flip    bool
}

func newFarKey(t *testing.T) *farKey {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &farKey{private: private}
}

func (k *farKey) Public(context.Context) (ed25519.PublicKey, error) {
	k.asked++
	if k.fail != nil {
		return nil, k.fail
	}
	return k.private.Public().(ed25519.PublicKey), nil
}

func (k *farKey) Sign(_ context.Context, message []byte) ([]byte, error) {
	if k.fail != nil {
		return nil, k.fail
	}
	signature := ed25519.Sign(k.private, message)
	if k.flip {
		signature[0] ^= 1
	}
	return signature, nil
}

// remote is a signer of node-1 with the key, and where it records the public one.
func remote(t *testing.T, key RemoteKey, recorded string) (*Signer, *string) {
	t.Helper()
	s, err := NewRemoteSigner(RemoteOptions{
		Origin: "cardea/node-1", Key: key, Verifier: recorded,
		Record: func(v string) error { recorded = v; return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, &recorded
}

func TestRemoteSignatureVerifiesAsAnyOther(t *testing.T) {
	t.Parallel()
	key := newFarKey(t)
	s, recorded := remote(t, key, "")
	if s.Verifier() != "" || key.asked != 0 {
		t.Errorf("verifier %q before the key was asked for, asked %d times", s.Verifier(), key.asked)
	}
	want := Checkpoint{Size: 7, Root: NewTree().Root(), Time: testTime}
	for range 2 {
		signed, err := s.Sign(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := OpenCheckpoint(signed, *recorded)
		if err != nil || got.Size != 7 || got.Origin != "cardea/node-1" {
			t.Errorf("got %+v, %v", got, err)
		}
		if _, err := OpenCheckpoint(signed, newKey(t, "node-1").Verifier()); !errors.Is(err, ErrUnknownKey) {
			t.Errorf("under another key: %v", err)
		}
	}
	if *recorded != s.Verifier() || key.asked != 1 {
		t.Errorf("recorded %q, verifier %q, asked %d times, want once", *recorded, s.Verifier(), key.asked)
	}
	again, _ := remote(t, key, *recorded)
	if _, err := again.Sign(want); err != nil || key.asked != 1 {
		t.Errorf("with a recorded key: %v, asked %d times", err, key.asked)
	}
	again.Destroy()
}

func TestRemoteSignerRefuses(t *testing.T) {
	t.Parallel()
	down := errors.New("no route to host")
	key, other := newFarKey(t), newFarKey(t)
	s, recorded := remote(t, key, "")
	if _, err := s.Sign(Checkpoint{}); err != nil {
		t.Fatal(err)
	}
	replaced, _ := remote(t, other, *recorded)
	flipped := newFarKey(t)
	flipped.flip = true
	wrong, _ := remote(t, flipped, "")
	away := newFarKey(t)
	away.fail = down
	unknown, unrecorded := remote(t, away, "")
	known, _ := remote(t, away, *recorded)
	full, err := NewRemoteSigner(RemoteOptions{Origin: "cardea/node-1", Key: key, Record: func(string) error { return errDisk }})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		s    *Signer
		want error
		text string
	}{
		"a replaced key":               {replaced, ErrReplacedKey, "sign checkpoint: it is not the signing key that was recorded"},
		"a signature that is wrong":    {wrong, ErrReplacedKey, "sign checkpoint: "},
		"a key that cannot be asked":   {unknown, down, "sign checkpoint: get the public key: no route"},
		"a recorded key, not to reach": {known, down, "sign checkpoint: no route"},
		"a key that is not recorded":   {full, errDisk, "sign checkpoint: record the public key: disk"},
	} {
		if signed, err := c.s.Sign(Checkpoint{Size: 1}); !errors.Is(err, c.want) || !strings.HasPrefix(err.Error(), c.text) || signed != nil {
			t.Errorf("%s: got %q, %v, want %q", name, signed, err, c.text)
		}
	}
	if *unrecorded != "" || full.Verifier() != "" {
		t.Errorf("recorded without success: %q, %q", *unrecorded, full.Verifier())
	}
	away.fail = nil
	if _, err := unknown.Sign(Checkpoint{Size: 1}); err != nil || *unrecorded == "" {
		t.Errorf("when the key is back: %v, recorded %q", err, *unrecorded)
	}
	if _, err := s.Sign(Checkpoint{Origin: "cardea/other"}); err == nil || !strings.Contains(err.Error(), "the key is that of cardea/node-1") {
		t.Errorf("for another log: %v", err)
	}

	for name, o := range map[string]RemoteOptions{
		"origin": {Origin: "node-1"},
		"of":     {Origin: "cardea/other", Verifier: *recorded},
		"record": {Origin: "cardea/node-1", Verifier: "cardea/node-1+00000000+AAAA"},
	} {
		if _, err := NewRemoteSigner(o); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
