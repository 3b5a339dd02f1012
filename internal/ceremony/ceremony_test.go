package ceremony

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"pgregory.net/rapid"

	"cardea/internal/custodian"
	"cardea/internal/keyspec"
	"cardea/internal/notekey"
	"cardea/internal/secret"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Vectors of SP 800-38B, D.3 (AES-256) and D.1, RFC 4493 (AES-128).
func TestCMACVectors(t *testing.T) {
	t.Parallel()
	const (
		key256  = "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4"
		key128  = "2b7e151628aed2a6abf7158809cf4f3c"
		message = "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
	)
	for _, c := range []struct {
		key  string
		n    int
		want string
	}{
		{key256, 0, "028962f61b7bf89efc6b551f4667d983"},
		{key256, 16, "28a7023f452e8f82bd4bf28d8c37c35c"},
		{key256, 40, "aaf3d8f1de5640c232f5b169b9c911e6"},
		{key256, 64, "e1992190549f6ed5696a2c056c315410"},
		{key128, 0, "bb1d6929e95937287fa37d129b756746"},
		{key128, 16, "070a16b46b4d4144f79bdd9dd04a287c"},
		{key128, 40, "dfa66747de9ae63030ca32611497c827"},
		{key128, 64, "51f0bebf7e3b9d92fc49741779363cfe"},
	} {
		got, err := cmac(unhex(t, c.key), unhex(t, message)[:c.n])
		if err != nil || hex.EncodeToString(got[:]) != c.want {
			t.Errorf("%d bytes: %x, %v, want %s", c.n, got, err, c.want)
		}
	}
}

func TestComponentsMakeTheKeyInAnyOrder(t *testing.T) {
	t.Parallel()
	for _, a := range []Algorithm{AES256, HMAC256, HMAC384, HMAC512} {
		for _, n := range []int{2, 3, 16} {
			cs, kcv, err := Generate(a, n)
			if err != nil {
				t.Fatal(err)
			}
			var back []Component
			for i := range cs {
				c, err := ParseComponent(cs[n-1-i].Text())
				if err != nil {
					t.Fatal(err)
				}
				back = append(back, c)
			}
			m, err := Combine(back)
			if err != nil || m.KCV != kcv || m.value.Len() != a.Size() {
				t.Fatalf("%s of %d: %v, want %s", a, n, err, kcv)
			}
			sum := make([]byte, a.Size())
			for _, c := range cs {
				xor(sum, c.value.Expose())
			}
			if !m.value.Equal(secret.New(sum)) {
				t.Errorf("%s of %d: another key", a, n)
			}
			if _, err := Combine(back[1:]); !errors.Is(err, ErrMismatch) {
				t.Errorf("%s: one of %d missing: %v", a, n, err)
			}
		}
	}
}

func TestTextIsNotWhatPrints(t *testing.T) {
	t.Parallel()
	cs, _, err := Generate(AES256, 2)
	if err != nil {
		t.Fatal(err)
	}
	text := string(cs[0].Text().Expose())
	if !strings.HasPrefix(text, "cardea key component v1\nset: ") || !strings.Contains(text, "\ncomponent: 1 of 2\nalgorithm: SYMMETRIC_DEFAULT\nvalue: ") {
		t.Errorf("the text's form is another")
	}
}

// parseLines reads a component of a text of its own, of which only these lines differ.
func parseLines(a Algorithm, index, count int, digits, kcv string) (Component, error) {
	return ParseComponent(secret.New(fmt.Appendf(nil, "%s\nset: 0100000000000000\ncomponent: %d of %d\nalgorithm: %s\nvalue: %s\nkcv: %s\n",
		textHeader, index, count, a, digits, kcv)))
}

func parsed(t *testing.T, a Algorithm, index, count int, digits string) Component {
	t.Helper()
	value := secret.New(unhex(t, digits))
	kcv, err := KCV(a, value)
	if err != nil {
		t.Fatal(err)
	}
	c, err := parseLines(a, index, count, digits, strings.ToLower(kcv))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const (
	one = "0001020304050607 08090a0b0c0d0e0f 1011121314151617 18191a1b1c1d1e1f"
	two = "f0e1d2c3b4a59687 78695a4b3c2d1e0f 00112233445566f7 8899aabbccddeeff"
)

func TestRefusesMistypedAndWeakComponents(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ digits, kcv, want string }{
		{one, "0000000000", "component 1 of 2: check value does not match: a digit is mistyped, or it is of another component"},
		{strings.Replace(one, "0001", "0002", 1), "0000000000", "component 1 of 2: check value does not match: a digit is mistyped, or it is of another component"},
		{one[:8], "0000000000", "not a key component: component 1 of 2: value has 8 digits, want 64"},
		{"x" + one[1:], "0000000000", "not a key component: component 1 of 2: value has a character that is not a hexadecimal digit"},
		{strings.Repeat("0", 64), "own", "component 1 of 2: component is weak: its bytes are a pattern: make a new one from random bytes"},
		{strings.Repeat("ab", 32), "own", "component 1 of 2: component is weak: its bytes are a pattern: make a new one from random bytes"},
		{strings.Repeat("000102030405060708090a0b0c0d0e0f", 2), "own", "component 1 of 2: component is weak: its bytes are a pattern: make a new one from random bytes"},
	} {
		kcv := c.kcv
		if kcv == "own" {
			var err error
			if kcv, err = KCV(AES256, secret.New(unhex(t, c.digits))); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := parseLines(AES256, 1, 2, c.digits, kcv); err == nil || err.Error() != c.want {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
	// A check value of six digits is the older kind, of AES keys (FIPS 197, C.3, key).
	block, err := legacyKCV(secret.New(unhex(t, one)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseLines(AES256, 1, 2, one, block); err != nil {
		t.Errorf("older check value: %v", err)
	}
	if _, err := parseLines(HMAC256, 1, 2, one, block); !errors.Is(err, ErrCheck) {
		t.Errorf("older check value of an HMAC key: %v", err)
	}
}

func TestCombineRefuses(t *testing.T) {
	t.Parallel()
	a, b := parsed(t, AES256, 1, 2, one), parsed(t, AES256, 2, 2, two)
	other := b
	other.Set = Set{2}
	hmac := b
	hmac.Algorithm = HMAC256
	equal := parsed(t, AES256, 2, 2, one)
	inverse := make([]byte, 32)
	copy(inverse, unhex(t, one))
	for i := range inverse {
		inverse[i] ^= 0xff
	}
	for _, c := range []struct {
		name string
		cs   []Component
		want string
	}{
		{"none", nil, "components do not belong together: there are none"},
		{"one", []Component{a}, "components do not belong together: 1 of 2 are given"},
		{"twice", []Component{a, a}, "components do not belong together: component 1 of 2 is given twice"},
		{"sets", []Component{a, other}, "components do not belong together: component 1 of 2 is of set 0100000000000000 for SYMMETRIC_DEFAULT, component 2 of 2 of set 0200000000000000 for SYMMETRIC_DEFAULT"},
		{"algorithms", []Component{a, hmac}, "components do not belong together: component 1 of 2 is of set 0100000000000000 for SYMMETRIC_DEFAULT, component 2 of 2 of set 0100000000000000 for HMAC_256"},
		{"equal", []Component{a, equal}, "component 1 of 2 and component 2 of 2 are equal: component is weak: together they are nothing"},
		{"inverse", []Component{a, parsed(t, AES256, 2, 2, hex.EncodeToString(inverse))}, "the combined key: component is weak: its bytes are a pattern: make a new one from random bytes"},
	} {
		if _, err := Combine(c.cs); err == nil || err.Error() != c.want {
			t.Errorf("%s: got %v, want %s", c.name, err, c.want)
		}
	}
	for want, f := range map[string]func() error{
		"components: 1, want 2 to 16":  func() error { _, _, err := Generate(AES256, 1); return err },
		"components: 17, want 2 to 16": func() error { _, _, err := Generate(AES256, 17); return err },
		`algorithm "RSA_2048": is none of SYMMETRIC_DEFAULT, HMAC_256, HMAC_384, HMAC_512`: func() error { _, _, err := Generate("RSA_2048", 2); return err },
	} {
		if err := f(); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func combined(t *testing.T, cs []Component) *Material {
	t.Helper()
	m, err := Combine(cs)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestSharesOpenWithAQuorum(t *testing.T) {
	t.Parallel()
	seal, parts, kcv, err := GenerateShares(AES256, 3, 2)
	if err != nil {
		t.Fatal(err)
	}
	var read []custodian.Part
	for _, p := range parts {
		q, err := custodian.ParseShare(p.Text())
		if err != nil || ShareKCV(q) != ShareKCV(p) || len(ShareKCV(p)) != 10 {
			t.Fatal(err)
		}
		read = append(read, q)
	}
	for _, quorum := range [][]custodian.Part{read[:2], read[1:], {read[2], read[0]}} {
		m, err := OpenShares(AES256, seal, quorum)
		if err != nil || m.KCV != kcv {
			t.Errorf("%v, or another key", err)
		}
	}
	if _, err := OpenShares(AES256, seal, read[:1]); !errors.Is(err, custodian.ErrNotEnough) {
		t.Errorf("one share: %v", err)
	}
	if _, err := OpenShares(HMAC256, seal, read); err == nil || err.Error() != `components do not belong together: the seal is of "ceremony.SYMMETRIC_DEFAULT", not of material for HMAC_256` {
		t.Errorf("other algorithm: %v", err)
	}
	if _, _, _, err := GenerateShares(HMAC512, 3, 2); err == nil || err.Error() != "algorithm HMAC_512: only material of 32 bytes is divided into shares; make components" {
		t.Errorf("long: %v", err)
	}
	other, _, _, err := GenerateShares(AES256, 3, 2)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenShares(AES256, other, read); err == nil {
		t.Error("shares open another seal")
	}
}

// wrapping is a wrapping key as KMS makes it.
func wrapping(t *testing.T, a keyspec.WrappingAlgorithm) (*rsa.PrivateKey, *Parameters) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return key, &Parameters{KeyID: "arn:aws:kms:eu-central-1:111122223333:key/k", KeySpec: AES256, Algorithm: a, PublicKey: der, ImportToken: []byte("token"), ValidTo: now.Add(time.Hour)}
}

func TestWrapsForKMSAlone(t *testing.T) {
	t.Parallel()
	cs, kcv, err := Generate(AES256, 3)
	if err != nil {
		t.Fatal(err)
	}
	want := combined(t, cs)
	for _, a := range []keyspec.WrappingAlgorithm{keyspec.WrapOAEPSHA256, keyspec.WrapRSAAESKW256} {
		key, p := wrapping(t, a)
		text, err := p.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if p, err = ParseParameters(text); err != nil {
			t.Fatal(err)
		}
		w, err := Wrap(p, want, strings.ToLower(kcv), now)
		if err != nil {
			t.Fatal(err)
		}
		pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		private, err := keyspec.ParsePrivate(keyspec.RSA2048, secret.New(pkcs8))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := keyspec.Unwrap(a, private, w.Material); err != nil || !got.Equal(want.value) {
			t.Errorf("%s: %v, or another key", a, err)
		}
		back, err := w.Encode()
		if err != nil || strings.Contains(string(back), hex.EncodeToString(want.value.Expose())) {
			t.Errorf("%s: %v, or the key is in clear", a, err)
		}
		if w2, err := ParseWrapped(back); err != nil || w2.KCV != kcv || string(w2.ImportToken) != "token" {
			t.Errorf("%s: %v", a, err)
		}
	}
}

func TestWrapRefuses(t *testing.T) {
	t.Parallel()
	cs, kcv, err := Generate(AES256, 2)
	if err != nil {
		t.Fatal(err)
	}
	_, good := wrapping(t, keyspec.WrapRSAAESKW256)
	for want, change := range map[string]func(*Parameters){
		`parameters: wrapping_algorithm: "RSAES_OAEP_SHA_1" is refused, want RSA_AES_KEY_WRAP_SHA_256 or RSAES_OAEP_SHA_256`:       func(p *Parameters) { p.Algorithm = keyspec.WrapOAEPSHA1 },
		`parameters: wrapping_algorithm: "RSA_AES_KEY_WRAP_SHA_1" is refused, want RSA_AES_KEY_WRAP_SHA_256 or RSAES_OAEP_SHA_256`: func(p *Parameters) { p.Algorithm = keyspec.WrapRSAAESKWSHA1 },
		"parameters: were valid until 2026-03-01T12:00:00Z: get new ones":                                                          func(p *Parameters) { p.ValidTo = now },
		`components do not belong together: they are for SYMMETRIC_DEFAULT, and the key is HMAC_256`:                               func(p *Parameters) { p.KeySpec = HMAC256 },
		`parameters: key_spec: algorithm "ECC_NIST_P256": is none of SYMMETRIC_DEFAULT, HMAC_256, HMAC_384, HMAC_512`:              func(p *Parameters) { p.KeySpec = "ECC_NIST_P256" },
	} {
		p := *good
		change(&p)
		if _, err := Wrap(&p, combined(t, cs), kcv, now); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	p := *good
	p.PublicKey = []byte("x")
	if _, err := Wrap(&p, combined(t, cs), kcv, now); err == nil || !strings.HasPrefix(err.Error(), "parameters: public_key: ") {
		t.Errorf("public key: %v", err)
	}
	if _, err := Wrap(good, combined(t, cs), "0000000000", now); !errors.Is(err, ErrCheck) || !strings.HasPrefix(err.Error(), "the combined key: check value does not match: it is "+kcv) {
		t.Errorf("other check value: %v", err)
	}
	if _, err := ParseParameters([]byte(`{"key_id":"k","private_key":""}`)); err == nil || !strings.HasPrefix(err.Error(), "parameters: ") {
		t.Errorf("unknown member: %v", err)
	}
	if _, err := ParseWrapped([]byte(`{}`)); err == nil || err.Error() != "wrapped material: key_id, encrypted_key_material and import_token must be there" {
		t.Errorf("empty: %v", err)
	}
	other := *good
	other.ImportToken = []byte("other")
	if len(good.Digest()) != 20 || good.Digest() == other.Digest() {
		t.Errorf("digests %s and %s", good.Digest(), other.Digest())
	}
}

func TestTranscriptIsSignedByEachCustodian(t *testing.T) {
	t.Parallel()
	cs, _, err := Generate(AES256, 2)
	if err != nil {
		t.Fatal(err)
	}
	_, p := wrapping(t, keyspec.WrapRSAAESKW256)
	w, err := Wrap(p, combined(t, cs), "", now)
	if err != nil {
		t.Fatal(err)
	}
	var (
		known     []note.Verifier
		witnesses []Witness
	)
	for i, name := range []string{"alice", "bob"} {
		key, verifier, err := notekey.Generate(name)
		if err != nil {
			t.Fatal(err)
		}
		s, err := notekey.Parse(key)
		if err != nil {
			t.Fatal(err)
		}
		v, err := note.NewVerifier(verifier)
		if err != nil {
			t.Fatal(err)
		}
		known, witnesses = append(known, v), append(witnesses, Witness{s, cs[i].Name(), cs[i].KCV()})
	}
	signed, err := Transcript(p, w, witnesses, now)
	if err != nil {
		t.Fatal(err)
	}
	w.Transcript = string(signed)
	text, signers, err := OpenTranscript(w, note.VerifierList(known...))
	if err != nil || strings.Join(signers, " ") != "alice bob" || !strings.Contains(text, "custodian: bob, component 2 of 2, kcv "+cs[1].KCV()+"\n") {
		t.Errorf("%s, %v, %v", text, signers, err)
	}
	// As it is, and as its custodian has it; half of it, since the transcript's own hashes
	// could have a few of its digits.
	value, _, _ := strings.Cut(strings.SplitAfter(string(cs[0].Text().Expose()), "value: ")[1], "\n")
	for _, digits := range []string{hex.EncodeToString(cs[0].value.Expose()), value} {
		if strings.Contains(text, digits[:len(digits)/2]) {
			t.Error("a component is in the transcript")
		}
	}
	if _, _, err := OpenTranscript(w, note.VerifierList(known[0])); err == nil || err.Error() != "transcript: signed by 1 known custodians, want at least 2" {
		t.Errorf("one known: %v", err)
	}
	other := *w
	other.KCV = "0000000000"
	if _, _, err := OpenTranscript(&other, note.VerifierList(known...)); err == nil || err.Error() != "transcript: is of another key" {
		t.Errorf("other key: %v", err)
	}
	for name, change := range map[string]func(*Wrapped){
		"material": func(x *Wrapped) { x.Material = append([]byte{x.Material[0] ^ 1}, x.Material[1:]...) },
		"token":    func(x *Wrapped) { x.ImportToken = []byte("another") },
	} {
		exchanged := *w
		change(&exchanged)
		if _, _, err := OpenTranscript(&exchanged, note.VerifierList(known...)); err == nil ||
			err.Error() != "transcript: is of other material: what was wrapped, or its import token, was exchanged since the custodians signed" {
			t.Errorf("exchanged %s: %v", name, err)
		}
	}
	witnesses[1].Signer = witnesses[0].Signer
	if _, err := Transcript(p, w, witnesses, now); err == nil || err.Error() != `components do not belong together: custodian "alice" has two components: split knowledge needs different people` {
		t.Errorf("one person: %v", err)
	}
}

func TestParseComponentRefusesOtherTexts(t *testing.T) {
	t.Parallel()
	cs, _, err := Generate(AES256, 2)
	if err != nil {
		t.Fatal(err)
	}
	good := string(cs[0].Text().Expose())
	for what, text := range map[string]string{
		"empty": "", "header": strings.Replace(good, "v1", "v2", 1), "set": strings.Replace(good, "set: ", "set: 0", 1), "index": strings.Replace(good, "1 of 2", "3 of 2", 1),
		"zeros": strings.Replace(good, "1 of 2", "01 of 2", 1), "count": strings.Replace(good, "1 of 2", "1 of 1", 1), "algorithm": strings.Replace(good, "SYMMETRIC_DEFAULT", "AES", 1),
		"more": good + "x: y\n", "less": good[:strings.Index(good, "kcv")], "long": good + strings.Repeat(" ", 2000),
	} {
		if _, err := ParseComponent(secret.New([]byte(text))); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	// Any digit changed is noticed.
	at := strings.Index(good, "value: ") + len("value: ")
	for i := at; i < at+79; i++ {
		if good[i] == '-' {
			continue
		}
		b := []byte(good)
		b[i] = "0123456789abcdef0"[strings.IndexByte("0123456789abcdef", b[i])+1]
		if _, err := ParseComponent(secret.New(b)); !errors.Is(err, ErrCheck) {
			t.Fatalf("digit %d changed: %v", i-at, err)
		}
	}
}

func TestParseIsTheInverseOfText(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.SampledFrom([]Algorithm{AES256, HMAC256, HMAC384, HMAC512}).Draw(t, "algorithm")
		n := rapid.IntRange(MinComponents, MaxComponents).Draw(t, "n")
		cs, _, err := Generate(a, n)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range cs {
			back, err := ParseComponent(c.Text())
			if err != nil || back.Set != c.Set || back.Index != c.Index || back.Count != c.Count || back.Algorithm != a || !back.value.Equal(c.value) {
				t.Errorf("another component: %v", err)
			}
		}
	})
}

func FuzzParseComponent(f *testing.F) {
	cs, _, err := Generate(AES256, 2)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(cs[0].Text().Expose())
	f.Add([]byte(textHeader + "\nset: 0000000000000000\ncomponent: 1 of 2\nalgorithm: HMAC_256\nvalue: 00\nkcv: 0\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseComponent(secret.Copy(b))
		if err != nil {
			return
		}
		if again, err := ParseComponent(c.Text()); err != nil || !again.value.Equal(c.value) {
			t.Errorf("its own text is refused: %v", err)
		}
	})
}
