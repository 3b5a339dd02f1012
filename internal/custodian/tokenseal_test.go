package custodian

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"cardea/internal/ciphertext"
	"cardea/internal/secret"
)

// device is a Device in memory, with faults on request.
type device struct {
	keys map[string]secret.Bytes
	fail error
	pad  int // what it appends to what it wraps
}

var errDevice = errors.New("the device refuses")

func newDevice() *device { return &device{keys: map[string]secret.Bytes{}} }

func (d *device) Wrap(_ context.Context, name string, aad []byte, master secret.Bytes) ([]byte, error) {
	if d.fail != nil {
		return nil, d.fail
	}
	d.keys[name] = secret.Random(32)
	b, err := ciphertext.SealBox(d.keys[name], aad, master.Expose())
	return append(b, make([]byte, d.pad)...), err
}

func (d *device) Unwrap(_ context.Context, name string, aad, wrapped []byte) (secret.Bytes, error) {
	key, ok := d.keys[name]
	if !ok || d.fail != nil {
		return secret.Bytes{}, errDevice
	}
	return ciphertext.OpenBox(key, aad, wrapped)
}

func (d *device) Discard(_ context.Context, name string) error {
	delete(d.keys, name)
	return nil
}

func newTokenSeal(t testing.TB, d *device) (TokenSeal, []byte) {
	t.Helper()
	s, err := NewTokenSeal(t.Context(), "key-service", d)
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return s, b
}

func TestTokenSealIsUnsealedByItsDevice(t *testing.T) {
	t.Parallel()
	d := newDevice()
	s, b := newTokenSeal(t, d)
	var read TokenSeal
	if err := read.UnmarshalBinary(b); err != nil {
		t.Fatal(err)
	}
	if read.Info() != s.Info() || read.Info().Tenant != "key-service" || read.Info().Form != FormToken || read.Info().MasterID == uuid.Nil {
		t.Errorf("%+v is read as %+v", s.Info(), read.Info())
	}
	one, err := s.Unseal(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	two, err := read.Unseal(t.Context(), d)
	if err != nil || one.Len() != 32 || !one.Equal(two) {
		t.Errorf("%d bytes, then %v, or another key", one.Len(), err)
	}
	if bytes.Contains(b, one.Expose()) {
		t.Error("the seal holds the master key")
	}
	if _, other := newTokenSeal(t, d); bytes.Equal(other, b) {
		t.Error("two seals are the same")
	}
	if err := s.Discard(t.Context(), d); err != nil || len(d.keys) != 1 {
		t.Errorf("%v, %d keys are left of two", err, len(d.keys))
	}
	if _, err := s.Unseal(t.Context(), d); !errors.Is(err, errDevice) || !strings.HasPrefix(err.Error(), `unwrap master key of tenant "key-service": `) {
		t.Errorf("after it was discarded: %v", err)
	}
}

func TestTokenSealThatWasChangedDoesNotOpen(t *testing.T) {
	t.Parallel()
	d := newDevice()
	_, b := newTokenSeal(t, d)
	for i := range b {
		changed := bytes.Clone(b)
		changed[i] ^= 1
		var s TokenSeal
		if err := s.UnmarshalBinary(changed); err != nil {
			continue
		}
		if _, err := s.Unseal(t.Context(), d); err == nil {
			t.Errorf("it opens with byte %d changed", i)
		}
	}
}

func TestTokenSealThatCannotBeMade(t *testing.T) {
	t.Parallel()
	for want, tc := range map[string]struct {
		tenant string
		d      *device
	}{
		"tenant name has 0 bytes, want 1 to 255":            {"", newDevice()},
		"tenant name has 256 bytes, want 1 to 255":          {strings.Repeat("x", 256), newDevice()},
		`wrap master key of tenant "k": the device refuses`: {"k", &device{fail: errDevice}},
		"wrapped master key has 1225 bytes, want 1 to 1024": {"k", &device{keys: map[string]secret.Bytes{}, pad: 1225 - boxSize}},
	} {
		_, err := NewTokenSeal(t.Context(), tc.tenant, tc.d)
		if err == nil || err.Error() != want {
			t.Errorf("got %v, want %q", err, want)
		}
		if len(tc.d.keys) > 0 {
			t.Errorf("%s: a key is left in the device", want)
		}
	}
}

// shortDevice unwraps to a key of another size.
type shortDevice struct{ *device }

func (shortDevice) Unwrap(context.Context, string, []byte, []byte) (secret.Bytes, error) {
	return secret.Random(31), nil
}

func TestUnwrappedKeyOfAnotherSizeIsRefused(t *testing.T) {
	t.Parallel()
	d := newDevice()
	s, _ := newTokenSeal(t, d)
	_, err := s.Unseal(t.Context(), shortDevice{d})
	if err == nil || err.Error() != `unwrapped master key of tenant "key-service" has 31 bytes, want 32` {
		t.Errorf("got %v", err)
	}
}

// TestTokenSealFormat is the example of docs/hsm.md.
func TestTokenSealFormat(t *testing.T) {
	t.Parallel()
	const example = "01f0" + "1234abcd12ab44cd96ef1234567890ab" + "0b" + "6b65792d73657276696365" + "00010203"
	raw, err := hex.DecodeString(example)
	if err != nil {
		t.Fatal(err)
	}
	var s TokenSeal
	if err := s.UnmarshalBinary(raw); err != nil {
		t.Fatal(err)
	}
	if s.keyName() != "key-service 1234abcd-12ab-44cd-96ef-1234567890ab" || hex.EncodeToString(s.wrapped) != "00010203" {
		t.Errorf("key %q wraps %x", s.keyName(), s.wrapped)
	}
	const context = "00000014" + "636172646561" + "20746f6b656e" + "207365616c" + "207631" + "0000001e" + "01f0" + "1234abcd12ab44cd96ef1234567890ab" + "0b" + "6b65792d73657276696365"
	if got := hex.EncodeToString(s.context()); got != context {
		t.Errorf("the context is %s, want %s", got, context)
	}
	for what, tc := range map[string]struct {
		b    []byte
		want error
		text string
	}{
		"nothing":           {nil, ErrCorruptSeal, "has 0 bytes"},
		"cut in its header": {raw[:18], ErrCorruptSeal, "has 18 bytes"},
		"another version":   {replaced(raw, 0, 2), ErrCorruptSeal, "version 2 is not known"},
		"another form":      {replaced(raw, 1, 4), ErrCorruptSeal, "form 4 is not known"},
		"shares":            {replaced(raw, 1, 1), ErrCustodianSeal, "sealed by custodians"},
		"halves":            {replaced(raw, 1, 2), ErrCustodianSeal, "sealed by custodians"},
		"no tenant":         {replaced(raw, 18, 0), ErrCorruptSeal, "no master key id or no tenant"},
		"no id":             {append(append(bytes.Clone(raw[:2]), make([]byte, 16)...), raw[18:]...), ErrCorruptSeal, "no master key id or no tenant"},
		"nothing wrapped":   {raw[:30], ErrCorruptSeal, "wrapped key has 0 bytes"},
		"too much wrapped":  {append(bytes.Clone(raw), make([]byte, 1021)...), ErrCorruptSeal, "wrapped key has 1025 bytes"},
	} {
		var s TokenSeal
		if err := s.UnmarshalBinary(tc.b); !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: got %v, want %q", what, err, tc.text)
		}
	}
	if err := new(Seal).UnmarshalBinary(append(raw, make([]byte, 100)...)); !errors.Is(err, ErrTokenSeal) {
		t.Errorf("as a seal of custodians: %v", err)
	}
}

func replaced(b []byte, i int, with byte) []byte {
	b = bytes.Clone(b)
	b[i] = with
	return b
}

func TestKeeperKeepsAKeyThatATokenHasUnsealed(t *testing.T) {
	t.Parallel()
	d := newDevice()
	s, _ := newTokenSeal(t, d)
	k := NewKeeper(Options{})
	defer k.Close()
	if err := k.SetTenant("key-service", s.Source(secret.Bytes{})); err != nil {
		t.Fatal(err)
	}
	const none = "the master key is unsealed by a token: there are no custodians"
	if err := k.Unlock("key-service"); err == nil || !strings.HasSuffix(err.Error(), none) {
		t.Errorf("unlock without the token: %v", err)
	}
	_, parts, err := SealMaster("key-service", secret.Random(32), FormShares, 3, 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Submit("key-service", "alice", parts[0]); err == nil || err.Error() != none {
		t.Errorf("a part: %v", err)
	}
	master, err := s.Unseal(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(k.SetTenant("key-service", s.Source(master)), k.Unlock("key-service"), k.SetTenant("key-service", s.Source(secret.Bytes{}))); err != nil {
		t.Fatal(err)
	}
	got, err := k.Master("key-service")
	if err != nil || !got.Equal(master) {
		t.Errorf("%v, or another key", err)
	}
	if st, err := k.Status("key-service"); err != nil || !st.Unlocked || st.Form != FormToken || st.Threshold != 0 {
		t.Errorf("%+v, %v", st, err)
	}
}

func FuzzUnmarshalTokenSeal(f *testing.F) {
	s, err := NewTokenSeal(context.Background(), "acme", newDevice())
	if err != nil {
		f.Fatal(err)
	}
	blob, err := s.MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(blob)
	f.Add(blob[:len(blob)-1])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		var got TokenSeal
		if err := got.UnmarshalBinary(b); err != nil {
			if !errors.Is(err, ErrCorruptSeal) && !errors.Is(err, ErrCustodianSeal) {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		again, err := got.MarshalBinary()
		if err != nil || !slices.Equal(again, b) {
			t.Fatalf("parse then encode is not the identity: %v", err)
		}
	})
}
