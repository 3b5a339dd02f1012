package keyspec

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"filippo.io/mldsa"
	"filippo.io/mldsa/mldsacrypto"

	"cardea/internal/secret"
)

// quick are specs whose keys are made at once, for the seeds of fuzzing.
var quick = []Spec{SymmetricDefault, HMAC224, ECCNISTP256, ECCNISTP521, ECCSECGP256K1, ECCEdwards25519, MLDSA44}

// FuzzParsePrivate: whatever is taken as a key has one public half, whose encoding
// parses, and signs what that verifies.
func FuzzParsePrivate(f *testing.F) {
	for i, s := range quick {
		material, _ := generated(f, s)
		f.Add(uint8(i), material.Expose())
	}
	f.Fuzz(func(t *testing.T, which uint8, material []byte) {
		s := allSpecs[int(which)%len(allSpecs)]
		given := bytes.Clone(material)
		k, err := ParsePrivate(s, secret.New(material))
		if !bytes.Equal(given, material) {
			t.Fatal("the material was changed")
		}
		if err != nil {
			if !errors.Is(err, ErrInvalidKey) {
				t.Fatalf("error %v", err)
			}
			return
		}
		defer k.Destroy()
		if !s.Asymmetric() {
			return
		}
		p, err := ParsePublic(s, k.Public())
		if err != nil {
			t.Fatalf("public half: %v", err)
		}
		a := s.SigningAlgorithms()[0]
		sig, err := k.Sign(a, MessageRaw, someMessage)
		if err != nil {
			t.Fatalf("sign: %v", err)
		}
		if err := p.Verify(a, MessageRaw, someMessage, sig); err != nil {
			t.Fatalf("verify: %v", err)
		}
	})
}

// FuzzParsePublic: what is taken has one encoding, and verifies without a panic.
func FuzzParsePublic(f *testing.F) {
	for i, s := range quick {
		_, spki := generated(f, s)
		f.Add(uint8(i), spki, make([]byte, 64))
	}
	f.Fuzz(func(t *testing.T, which uint8, spki, signature []byte) {
		s := allSpecs[int(which)%len(allSpecs)]
		p, err := ParsePublic(s, spki)
		if err != nil {
			if !errors.Is(err, ErrInvalidKey) && s.Asymmetric() {
				t.Fatalf("error %v", err)
			}
			return
		}
		var again []byte
		switch k := p.key.(type) {
		case *nistPublic:
			point, perr := k.key.Bytes()
			if perr != nil {
				t.Fatal(perr)
			}
			again, err = ecPublicDER(s, point)
		case *koblitzPublic:
			again, err = ecPublicDER(s, k.key.SerializeUncompressed())
		default:
			again = spki // compared when it was parsed
		}
		if err != nil || !bytes.Equal(again, spki) {
			t.Fatalf("%v, or another encoding", err)
		}
		for mt, message := range map[MessageType][]byte{MessageRaw: someMessage, MessageExternalMu: make([]byte, 64), MessageDigest: make([]byte, 64)} {
			for _, a := range s.SigningAlgorithms() {
				err := p.Verify(a, mt, message, signature)
				if _, is := errors.AsType[*InputError](err); err != nil && !is && !errors.Is(err, ErrInvalidSignature) {
					t.Fatalf("verify: %v", err)
				}
			}
		}
	})
}

// FuzzUnwrapKWP: what unwraps wraps to the same bytes.
func FuzzUnwrapKWP(f *testing.F) {
	kek := bytes.Repeat([]byte{3}, 32)
	for _, n := range []int{1, 8, 9, 32, 48} {
		c, err := wrapKWP(kek, bytes.Repeat([]byte{9}, n))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(c)
	}
	f.Fuzz(func(t *testing.T, wrapped []byte) {
		p, err := unwrapKWP(kek, wrapped)
		if err != nil {
			if !errors.Is(err, ErrInvalidCiphertext) {
				t.Fatalf("error %v", err)
			}
			return
		}
		if again, err := wrapKWP(kek, p); err != nil || !bytes.Equal(again, wrapped) {
			t.Fatalf("%v, or another encoding", err)
		}
	})
}

// FuzzCheckKWP feeds the check with blocks as they are after decryption, which
// FuzzUnwrapKWP hardly ever reaches.
func FuzzCheckKWP(f *testing.F) {
	f.Add([]byte{0xa6, 0x59, 0x59, 0xa6, 0, 0, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8})
	f.Add([]byte{0xa6, 0x59, 0x59, 0xa6, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, block []byte) {
		if len(block) < 16 || len(block)%8 != 0 {
			return
		}
		size, ok := checkKWP(block)
		// The rules of RFC 5649, section 3, step by step.
		plain := block[8:]
		length := int(block[4])<<24 | int(block[5])<<16 | int(block[6])<<8 | int(block[7])
		want := bytes.Equal(block[:4], []byte{0xa6, 0x59, 0x59, 0xa6}) && length > len(plain)-8 && length <= len(plain) &&
			len(bytes.Trim(plain[min(length, len(plain)):], "\x00")) == 0
		if (ok == 1) != want || want && size != length {
			t.Fatalf("ok %d, size %d; want %v, %d", ok, size, want, length)
		}
	})
}

// FuzzVerifyMu: any bytes are no signature, and end in no panic.
func FuzzVerifyMu(f *testing.F) {
	mu := bytes.Repeat([]byte{7}, muSize)
	specs := []Spec{MLDSA44, MLDSA65, MLDSA87}
	keys, good := map[Spec][]byte{}, map[Spec][]byte{}
	for i, s := range specs {
		k, err := mldsa.NewPrivateKey(mldsaParameters(s), bytes.Repeat([]byte{1}, mldsa.PrivateKeySize))
		if err != nil {
			f.Fatal(err)
		}
		if good[s], err = k.SignDeterministic(mu, mldsacrypto.MLDSAMu); err != nil {
			f.Fatal(err)
		}
		keys[s] = k.PublicKey().Bytes()
		f.Add(uint8(i), uint16(0), uint16(0), []byte(nil))
		f.Add(uint8(i), uint16(len(good[s])-8), uint16(8), bytes.Repeat([]byte{80}, 8)) // the ends of the hints
	}
	// A signature with a part of it replaced gets further than any bytes.
	f.Fuzz(func(t *testing.T, which uint8, at, cut uint16, part []byte) {
		s := specs[int(which)%len(specs)]
		sig := good[s]
		start := min(int(at), len(sig))
		end := min(start+int(cut), len(sig))
		changed := slices.Concat(sig[:start], part, sig[end:])
		if got, want := verifyMu(s, keys[s], mu, changed), bytes.Equal(changed, sig); got != want {
			t.Fatalf("verified %v, want %v", got, want)
		}
	})
}
