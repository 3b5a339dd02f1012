package keyspec

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/fips140"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"

	"cardea/internal/secret"
)

func TestEverySpecGeneratesAKeyThatParses(t *testing.T) {
	t.Parallel()
	sizes := map[Spec]int{SymmetricDefault: 32, HMAC224: 28, HMAC256: 32, HMAC384: 48, HMAC512: 64}
	for _, s := range allSpecs {
		t.Run(string(s), func(t *testing.T) {
			t.Parallel()
			material, spki := generated(t, s)
			k := private(t, s)
			if k.Spec() != s {
				t.Errorf("spec is %s", k.Spec())
			}
			if !bytes.Equal(k.Public(), spki) {
				t.Error("the parsed key has another public half than the generated one")
			}
			if s.Asymmetric() {
				if p := public(t, s); p.Spec() != s {
					t.Errorf("spec of the public half is %s", p.Spec())
				}
			} else if spki != nil || material.Len() != sizes[s] {
				t.Errorf("%d bytes and public half %x, want %d bytes and none", material.Len(), spki, sizes[s])
			}
			if got := k.Symmetric(); got.Present() != (s == SymmetricDefault) || got.Present() && !got.Equal(material) {
				t.Error("Symmetric is not what it should be")
			}
		})
	}
	if len(allSpecs) != len(specs) {
		t.Errorf("%d specs tested, there are %d", len(allSpecs), len(specs))
	}
}

func TestGeneratedKeysDiffer(t *testing.T) {
	t.Parallel()
	for _, s := range []Spec{SymmetricDefault, HMAC224, ECCNISTP256, ECCSECGP256K1, ECCEdwards25519, MLDSA44} {
		a, _ := generated(t, s)
		b, _, err := Generate(s)
		if err != nil || a.Equal(b) {
			t.Errorf("%s: %v, or the same key twice", s, err)
		}
	}
}

func TestUnknownSpecIsUnsupported(t *testing.T) {
	t.Parallel()
	for _, s := range []Spec{"", SM2, "RSA_1024", "rsa_2048"} {
		_, _, gerr := Generate(s)
		_, perr := ParsePrivate(s, secret.Random(32))
		_, uerr := ParsePublic(s, make([]byte, 32))
		for _, err := range []error{gerr, perr, uerr} {
			if !errors.Is(err, ErrUnsupported) {
				t.Errorf("%q: got %v", s, err)
			}
		}
	}
	for _, s := range []Spec{SymmetricDefault, HMAC256} {
		if _, err := ParsePublic(s, make([]byte, 32)); !errors.Is(err, ErrUnsupported) {
			t.Errorf("public key of %s: got %v", s, err)
		}
	}
}

// typesOf are the message types that an algorithm takes, with a message of each.
func typesOf(a SigningAlgorithm) map[MessageType][]byte {
	switch a {
	case SignEd25519:
		return map[MessageType][]byte{"": someMessage, MessageRaw: someMessage}
	case SignEd25519ph:
		return map[MessageType][]byte{MessageDigest: bytes.Repeat([]byte{7}, 64)}
	case SignMLDSA:
		return map[MessageType][]byte{"": someMessage, MessageRaw: someMessage, MessageExternalMu: bytes.Repeat([]byte{7}, 64)}
	}
	return map[MessageType][]byte{"": someMessage, MessageRaw: someMessage, MessageDigest: bytes.Repeat([]byte{7}, a.hash().Size())}
}

func TestEverySignatureVerifiesAndNoOtherDoes(t *testing.T) {
	t.Parallel()
	combinations := 0
	for _, s := range allSpecs {
		for _, a := range s.SigningAlgorithms() {
			for mt, message := range typesOf(a) {
				combinations++
				t.Run(strings.Join([]string{string(s), string(a), string(mt)}, "/"), func(t *testing.T) {
					t.Parallel()
					k, p := private(t, s), public(t, s)
					sig, err := k.Sign(a, mt, message)
					if err != nil {
						t.Fatal(err)
					}
					if err := p.Verify(a, mt, message, sig); err != nil {
						t.Fatal(err)
					}
					refuse := func(what string, a SigningAlgorithm, message, sig []byte) {
						t.Helper()
						if err := p.Verify(a, mt, message, sig); !errors.Is(err, ErrInvalidSignature) {
							t.Errorf("%s: got %v", what, err)
						}
					}
					other := bytes.Clone(message)
					other[len(other)-1] ^= 1
					refuse("another message", a, other, sig)
					flipped := bytes.Clone(sig)
					flipped[len(flipped)-1] ^= 1
					refuse("a flipped bit", a, message, flipped)
					refuse("no signature", a, message, nil)
					refuse("a byte too few", a, message, sig[:len(sig)-1])
					refuse("a byte too many", a, message, append(bytes.Clone(sig), 0))
					for _, b := range s.SigningAlgorithms() {
						if b != a && mt != MessageDigest && b != SignEd25519ph {
							refuse("as "+string(b), b, message, sig)
						}
					}
				})
			}
		}
	}
	if combinations != 3*18+4*3+3+3*3 {
		t.Errorf("%d combinations of spec, algorithm and message type", combinations)
	}
}

func TestDigestIsSignedAsItIs(t *testing.T) {
	t.Parallel()
	sum256, sum384, sum512 := sha256.Sum256(someMessage), sha512.Sum384(someMessage), sha512.Sum512(someMessage)
	for _, s := range []Spec{RSA2048, ECCNISTP256, ECCNISTP384, ECCNISTP521, ECCSECGP256K1} {
		for _, a := range s.SigningAlgorithms() {
			sum := map[crypto.Hash][]byte{crypto.SHA256: sum256[:], crypto.SHA384: sum384[:], crypto.SHA512: sum512[:]}[a.hash()]
			ofDigest, err := private(t, s).Sign(a, MessageDigest, sum)
			if err != nil {
				t.Fatalf("%s %s: %v", s, a, err)
			}
			ofMessage, err := private(t, s).Sign(a, MessageRaw, someMessage)
			if err != nil {
				t.Fatalf("%s %s: %v", s, a, err)
			}
			if err := public(t, s).Verify(a, MessageRaw, someMessage, ofDigest); err != nil {
				t.Errorf("%s %s: signature of the digest for the message: %v", s, a, err)
			}
			if err := public(t, s).Verify(a, MessageDigest, sum, ofMessage); err != nil {
				t.Errorf("%s %s: signature of the message for the digest: %v", s, a, err)
			}
		}
	}
}

func TestSignaturesAreThoseOfTheStandardLibrary(t *testing.T) {
	t.Parallel()
	sig, err := private(t, ECCNISTP256).Sign(SignECDSASHA256, MessageRaw, someMessage)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParsePKIXPublicKey(private(t, ECCNISTP256).Public())
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(someMessage)
	if !ecdsa.VerifyASN1(parsed.(*ecdsa.PublicKey), sum[:], sig) {
		t.Error("ECDSA signature does not verify")
	}

	// Ed25519ph of what the API calls a digest: hashed once more.
	digest := sha512.Sum512(someMessage)
	if sig, err = private(t, ECCEdwards25519).Sign(SignEd25519ph, MessageDigest, digest[:]); err != nil {
		t.Fatal(err)
	}
	if parsed, err = x509.ParsePKIXPublicKey(private(t, ECCEdwards25519).Public()); err != nil {
		t.Fatal(err)
	}
	twice := sha512.Sum512(digest[:])
	if err := ed25519.VerifyWithOptions(parsed.(ed25519.PublicKey), twice[:], sig, &ed25519.Options{Hash: crypto.SHA512}); err != nil {
		t.Errorf("Ed25519ph signature: %v", err)
	}
}

func TestSignRefusesWhatTheAlgorithmDoesNotTake(t *testing.T) {
	t.Parallel()
	const length = "Digest is invalid length for algorithm "
	const mtype = "MessageType "
	for _, c := range []struct {
		spec    Spec
		a       SigningAlgorithm
		t       MessageType
		message []byte
		want    string
	}{
		{RSA2048, SignPSSSHA256, MessageDigest, make([]byte, 31), length + "RSASSA_PSS_SHA_256."},
		{RSA2048, SignPSSSHA384, MessageDigest, make([]byte, 64), length + "RSASSA_PSS_SHA_384."},
		{RSA2048, SignPKCS1SHA512, MessageDigest, nil, length + "RSASSA_PKCS1_V1_5_SHA_512."},
		{RSA2048, SignPKCS1SHA256, MessageExternalMu, make([]byte, 64), mtype + "EXTERNAL_MU is not valid for algorithm RSASSA_PKCS1_V1_5_SHA_256."},
		{ECCNISTP256, SignECDSASHA256, MessageDigest, make([]byte, 33), length + "ECDSA_SHA_256."},
		{ECCNISTP384, SignECDSASHA384, MessageDigest, make([]byte, 32), length + "ECDSA_SHA_384."},
		{ECCNISTP521, SignECDSASHA512, MessageDigest, make([]byte, 66), length + "ECDSA_SHA_512."},
		{ECCSECGP256K1, SignECDSASHA256, MessageDigest, make([]byte, 20), length + "ECDSA_SHA_256."},
		{ECCSECGP256K1, SignECDSASHA256, "raw", make([]byte, 20), mtype + "raw is not valid for algorithm ECDSA_SHA_256."},
		{ECCEdwards25519, SignEd25519, MessageDigest, make([]byte, 64), mtype + "DIGEST is not valid for algorithm ED25519_SHA_512."},
		{ECCEdwards25519, SignEd25519, MessageExternalMu, make([]byte, 64), mtype + "EXTERNAL_MU is not valid for algorithm ED25519_SHA_512."},
		{ECCEdwards25519, SignEd25519ph, MessageRaw, make([]byte, 64), mtype + "RAW is not valid for algorithm ED25519_PH_SHA_512."},
		{ECCEdwards25519, SignEd25519ph, "", make([]byte, 64), mtype + "RAW is not valid for algorithm ED25519_PH_SHA_512."},
		{ECCEdwards25519, SignEd25519ph, MessageDigest, make([]byte, 63), length + "ED25519_PH_SHA_512."},
		{MLDSA44, SignMLDSA, MessageDigest, make([]byte, 64), mtype + "DIGEST is not valid for algorithm ML_DSA_SHAKE_256."},
		{MLDSA65, SignMLDSA, MessageExternalMu, make([]byte, 63), length + "ML_DSA_SHAKE_256."},
		{MLDSA87, SignMLDSA, MessageExternalMu, nil, length + "ML_DSA_SHAKE_256."},
	} {
		_, serr := private(t, c.spec).Sign(c.a, c.t, c.message)
		verr := public(t, c.spec).Verify(c.a, c.t, c.message, make([]byte, 64))
		for _, err := range []error{serr, verr} {
			if in, is := errors.AsType[*InputError](err); !is || in.Text != c.want {
				t.Errorf("%s %s %s: got %v, want %q", c.spec, c.a, c.t, err, c.want)
			}
		}
	}
}

func TestAlgorithmsOfOtherSpecsAreUnsupported(t *testing.T) {
	t.Parallel()
	signing := []SigningAlgorithm{
		"", "SM2DSA", SignPSSSHA256, SignPSSSHA384, SignPSSSHA512, SignPKCS1SHA256, SignPKCS1SHA384, SignPKCS1SHA512,
		SignECDSASHA256, SignECDSASHA384, SignECDSASHA512, SignEd25519, SignEd25519ph, SignMLDSA,
	}
	for _, s := range allSpecs {
		k := private(t, s)
		check := func(what string, err error) {
			t.Helper()
			if !errors.Is(err, ErrUnsupported) {
				t.Errorf("%s with %s: got %v", what, s, err)
			}
		}
		for _, a := range signing {
			if slices.Contains(s.SigningAlgorithms(), a) {
				continue
			}
			_, err := k.Sign(a, MessageDigest, make([]byte, 32))
			check(string(a), err)
			if s.Asymmetric() {
				check("verify "+string(a), public(t, s).Verify(a, MessageDigest, make([]byte, 32), make([]byte, 64)))
			}
		}
		for _, a := range []EncryptionAlgorithm{"", EncryptSymmetric, EncryptOAEPSHA1, EncryptOAEPSHA256, "SM2PKE"} {
			if s != SymmetricDefault && slices.Contains(s.EncryptionAlgorithms(), a) {
				continue
			}
			_, err := k.Decrypt(a, make([]byte, 256))
			check("decrypt "+string(a), err)
			if s.Asymmetric() {
				_, err := public(t, s).Encrypt(a, secret.Random(8))
				check("encrypt "+string(a), err)
			}
		}
		for _, a := range []MACAlgorithm{"", MACHMACSHA224, MACHMACSHA256, MACHMACSHA384, MACHMACSHA512} {
			if !slices.Contains(s.MACAlgorithms(), a) {
				_, err := k.MAC(a, someMessage)
				check(string(a), err)
			}
		}
		if len(s.AgreementAlgorithms()) == 0 {
			_, err := k.Agree(private(t, ECCNISTP256).Public())
			check("ECDH", err)
		}
	}
}

func TestOAEPRoundTripAndLimits(t *testing.T) {
	t.Parallel()
	limits := map[Spec][2]int{RSA2048: {214, 190}, RSA3072: {342, 318}, RSA4096: {470, 446}}
	texts := map[Spec]string{
		RSA2048: "Algorithm RSAES_OAEP_SHA_1 and key spec RSA_2048 cannot encrypt data larger than 214 bytes.",
		RSA3072: "Algorithm RSAES_OAEP_SHA_1 and key spec RSA_3072 cannot encrypt data larger than 342 bytes.",
		RSA4096: "Algorithm RSAES_OAEP_SHA_1 and key spec RSA_4096 cannot encrypt data larger than 470 bytes.",
	}
	for s, most := range limits {
		t.Run(string(s), func(t *testing.T) {
			t.Parallel()
			for i, a := range s.EncryptionAlgorithms() {
				if a == EncryptOAEPSHA1 && fips140.Enforced() {
					if _, err := public(t, s).Encrypt(a, secret.Random(8)); !errors.Is(err, ErrUnsupported) {
						t.Errorf("SHA-1 with fips140=only: got %v", err)
					}
					continue
				}
				for _, n := range []int{0, 1, 32, most[i]} {
					plain := secret.Random(n)
					c, err := public(t, s).Encrypt(a, plain)
					if err != nil {
						t.Fatalf("%s of %d bytes: %v", a, n, err)
					}
					got, err := private(t, s).Decrypt(a, c)
					if err != nil || !got.Equal(plain) {
						t.Errorf("%s of %d bytes: %v, or another plaintext", a, n, err)
					}
					for _, bad := range [][]byte{nil, c[1:], append([]byte{0}, c...), append(c[:len(c)-1:len(c)-1], c[len(c)-1]^1), make([]byte, len(c)), bytes.Repeat([]byte{255}, len(c))} {
						if _, err := private(t, s).Decrypt(a, bad); !errors.Is(err, ErrInvalidCiphertext) {
							t.Errorf("%s of another ciphertext: got %v", a, err)
						}
					}
					if _, err := private(t, s).Decrypt(s.EncryptionAlgorithms()[1-i], c); !errors.Is(err, ErrInvalidCiphertext) && !fips140.Enforced() {
						t.Errorf("%s under the other algorithm: got %v", a, err)
					}
				}
				_, err := public(t, s).Encrypt(a, secret.Random(most[i]+1))
				in, is := errors.AsType[*InputError](err)
				if !is || a == EncryptOAEPSHA1 && in.Text != texts[s] {
					t.Errorf("%s of a byte too many: got %v", a, err)
				}
			}
		})
	}
}

func TestBothSidesAgree(t *testing.T) {
	t.Parallel()
	sizes := map[Spec]int{ECCNISTP256: 32, ECCNISTP384: 48, ECCNISTP521: 66}
	for s, size := range sizes {
		theirs, spki, err := Generate(s)
		if err != nil {
			t.Fatal(err)
		}
		peer, err := ParsePrivate(s, theirs)
		if err != nil {
			t.Fatal(err)
		}
		a, err := private(t, s).Agree(spki)
		if err != nil {
			t.Fatal(err)
		}
		b, err := peer.Agree(private(t, s).Public())
		if err != nil || !a.Equal(b) || a.Len() != size {
			t.Errorf("%s: %v, or different secrets, or %d bytes", s, err, a.Len())
		}
	}
}

func TestAgreeRefusesOtherCurves(t *testing.T) {
	t.Parallel()
	k := private(t, ECCNISTP256)
	own := k.Public()
	offCurve := bytes.Clone(own)
	offCurve[len(offCurve)-1] ^= 1
	for name, peer := range map[string][]byte{
		"P-384": private(t, ECCNISTP384).Public(), "secp256k1": private(t, ECCSECGP256K1).Public(),
		"Ed25519": private(t, ECCEdwards25519).Public(), "RSA": private(t, RSA2048).Public(),
		"nothing": nil, "trailing byte": append(bytes.Clone(own), 0), "off the curve": offCurve, "huge": make([]byte, 1<<20),
	} {
		_, err := k.Agree(peer)
		const want = "The public key is not a valid public key of key spec ECC_NIST_P256."
		if in, is := errors.AsType[*InputError](err); !is || in.Text != want {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestMACSizes(t *testing.T) {
	t.Parallel()
	for s, want := range map[Spec]int{HMAC224: 28, HMAC256: 32, HMAC384: 48, HMAC512: 64} {
		m, err := private(t, s).MAC(s.MACAlgorithms()[0], someMessage)
		if err != nil || len(m) != want {
			t.Errorf("%s: %d bytes, %v", s, len(m), err)
		}
	}
}

func TestDestroyWipesWhatItCan(t *testing.T) {
	t.Parallel()
	zero := func(b []byte) bool { return !slices.ContainsFunc(b, func(c byte) bool { return c != 0 }) }
	for _, s := range []Spec{SymmetricDefault, HMAC384} {
		k := private(t, s)
		var held []byte
		switch key := k.key.(type) {
		case *symmetricKey:
			held = key.key.Expose()
		case *hmacKey:
			held = key.key.Expose()
		}
		if k.Destroy(); len(held) == 0 || !zero(held) {
			t.Errorf("%s: the key is still there", s)
		}
	}
	k := private(t, ECCEdwards25519)
	if k.Destroy(); !zero(k.key.(*edwardsKey).key) {
		t.Error("the Ed25519 key is still there")
	}
	k = private(t, ECCSECGP256K1)
	if k.Destroy(); !k.key.(*koblitzKey).key.Key.IsZero() {
		t.Error("the secp256k1 key is still there")
	}
	k = private(t, RSA2048)
	r := k.key.(*rsaKey).key
	k.Destroy()
	for _, i := range append(slices.Clone(r.Primes), r.D, r.Precomputed.Dp, r.Precomputed.Dq, r.Precomputed.Qinv) {
		for _, w := range i.Bits() {
			if w != 0 {
				t.Fatal("part of the RSA key is still there")
			}
		}
	}
	material, _ := generated(t, ECCNISTP256)
	if k := private(t, ECCNISTP256); k.Public() != nil {
		k.Destroy()
		if zero(material.Expose()) {
			t.Error("the caller's material was wiped with the key")
		}
	}
}
