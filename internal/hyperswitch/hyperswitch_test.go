package hyperswitch

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"cardea/internal/secret"
)

// seal is the peer's encryption.
func seal(tb testing.TB, key []byte, plaintext string) []byte {
	tb.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		tb.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		tb.Fatal(err)
	}
	return aead.Seal(nil, nil, []byte(plaintext), nil)
}

func TestOpensWhatThePeerSealed(t *testing.T) {
	t.Parallel()
	master, dek := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	m, err := ParseMasterKey(secret.New([]byte(hex.EncodeToString(master))))
	if err != nil {
		t.Fatal(err)
	}
	key, err := UnwrapKey(m, seal(t, master, string(dek)))
	if err != nil || !key.Equal(secret.Copy(dek)) {
		t.Fatalf("unwrap: %v, or another key", err)
	}
	text, err := Open(key, seal(t, dek, `{"CardData":{"card_number":"4111 1111 1111 1111","name_on_card":null,"card_exp_month":"03","card_exp_year":"2030","card_brand":null,"card_isin":"411111","nick_name":"","later":1}}`))
	if err != nil {
		t.Fatal(err)
	}
	p, err := ParsePayload(text)
	if err != nil {
		t.Fatal(err)
	}
	if c := p.Card; c == nil || c.Number.Len() != 19 || c.Name.Present() || !c.Nick.Present() || c.Nick.Len() != 0 || string(c.ExpMonth.Expose()) != "03" {
		t.Error("the card is another")
	}
	p.Destroy()
	if p.Card.Number.Len() != 0 {
		t.Error("a destroyed payload still has its number")
	}
	p, err = ParsePayload(secret.New([]byte(`{"EncData":"0a0b"}`)))
	if err != nil || string(p.Data.Expose()) != "0a0b" || p.Card != nil {
		t.Errorf("data: %v, or others", err)
	}
}

const vector = "6465666768696a6b6c6d6e6f33399b081aad37ea5f4065cab904189927a324772beb86fe8b434cfe3fdcba789078835f"

// A vector made with another implementation (Python's cryptography, AESGCM).
func TestOpensAVectorFromOutside(t *testing.T) {
	t.Parallel()
	key, _ := hex.DecodeString("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")
	blob, _ := hex.DecodeString(vector)
	got, err := Open(secret.New(key), blob)
	if err != nil || string(got.Expose()) != `{"EncData":"cardea"}` {
		t.Errorf("%v, or another text", err)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	key := secret.Random(32)
	good := seal(t, key.Expose(), "x")
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	for name, blob := range map[string][]byte{
		"empty": {}, "short": good[:27], "cut": good[:28], "flipped": flipped, "other key": seal(t, secret.Random(32).Expose(), "x"), "huge": make([]byte, maxBlob+1),
	} {
		if _, err := Open(key, blob); !errors.Is(err, ErrDoesNotOpen) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := UnwrapKey(key, good); err == nil || err.Error() != "key has 1 bytes, want 32" {
		t.Errorf("short key: got %v", err)
	}
	for text, want := range map[string]string{
		"ab":                          "master key has 2 characters, want 64 hexadecimal digits (120 are one that custodians unlock: give their halves, too)",
		"x" + strings.Repeat("0", 63): "master key has a character that is not a hexadecimal digit",
	} {
		if _, err := ParseMasterKey(secret.New([]byte(text))); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	for _, text := range []string{
		``, `null`, `{}`, `[]`, `{"CardData":null}`, `{"CardData":{}}`, `{"EncData":null}`, `{"EncData":1}`, `{"CardData":{"card_number":1}}`,
		`{"CardData":{"card_number":"1"},"EncData":"1"}`, `{"EncData":"1"}x`, `{"EncData":"1","EncData":"2"}`,
	} {
		if _, err := ParsePayload(secret.New([]byte(text))); !errors.Is(err, ErrNotPayload) || err.Error() != ErrNotPayload.Error() {
			t.Errorf("%s: got %v", text, err)
		}
	}
	if err := CheckValue(secret.New([]byte(`{"a":`))); err == nil || err.Error() != "plaintext is not a JSON value" {
		t.Errorf("value: got %v", err)
	}
	if CheckValue(secret.New([]byte(` {"b":1,"a":[null]}`))) != nil {
		t.Error("a JSON value is refused")
	}
}

func TestTellsCiphertextOfAnExternalKeyManager(t *testing.T) {
	t.Parallel()
	for blob, want := range map[string]bool{
		"v1:AAAA": true, "v2:AAAA": true, "v1:" + base64.StdEncoding.EncodeToString([]byte("\xfb\xff\x00sealed")): true,
		"v1:": false, "x1:AAAA": false, "vv:AAAA": false, "": false,
		"v1:a nonce by chance, and what it sealed": false, "v1:AAAA\x80": false, "v1:AAAA\x00": false,
	} {
		if Elsewhere([]byte(blob)) != want {
			t.Errorf("%q: want %v", blob, want)
		}
	}
}

func FuzzParsePayload(f *testing.F) {
	f.Add([]byte(`{"EncData":"x"}`))
	f.Add([]byte(`{"CardData":{"card_number":"4111111111111111"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePayload(secret.Copy(b))
		if (p == nil) == (err == nil) {
			t.Errorf("neither a payload nor an error")
		}
		p.Destroy()
	})
}
