package keyspec

import (
	"bytes"
	"crypto/fips140"
	"crypto/sha3"
	"encoding/json"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"filippo.io/mldsa"
	"github.com/c2sp/wycheproof"

	"cardea/internal/secret"
)

// wycheproofGroups reads one file of Project Wycheproof, which attacks the
// primitives with edge cases.
func wycheproofGroups[G any](t *testing.T, file string) []G {
	t.Helper()
	data, err := fs.ReadFile(wycheproof.TestVectors, file+"_test.json")
	if err != nil {
		t.Fatal(err)
	}
	var f struct {
		TestGroups []G `json:"testGroups"`
	}
	if err := json.Unmarshal(data, &f); err != nil {
		t.Fatal(err)
	}
	return f.TestGroups
}

// atLeast fails if fewer vectors than there were when the test was written have run:
// none may be passed over in silence.
func atLeast(t *testing.T, what string, ran, least int) {
	t.Helper()
	if ran < least {
		t.Errorf("%s: %d vectors ran, want at least %d", what, ran, least)
	}
	t.Logf("%s: %d vectors", what, ran)
}

type signatureVector struct {
	TCID          int `json:"tcId"`
	Comment       string
	Msg, Sig, Ctx hexBytes
	Mu            hexBytes
	Result        string
	Flags         []string
}

type signatureGroup struct {
	PublicKeyDER    hexBytes `json:"publicKeyDer"`
	PrivateKeyPKCS8 hexBytes `json:"privateKeyPkcs8"`
	PrivateSeed     hexBytes
	SHA             string
	Tests           []signatureVector
}

// verifyVectors checks each signature as one of the message and, where the
// algorithm takes it, of the message's digest.
func verifyVectors(t *testing.T, p *Public, a SigningAlgorithm, g signatureGroup, valid func(signatureVector) bool) int {
	t.Helper()
	for _, v := range g.Tests {
		want := error(nil)
		if !valid(v) {
			want = ErrInvalidSignature
		}
		if err := p.Verify(a, MessageRaw, v.Msg, v.Sig); !errors.Is(err, want) {
			t.Errorf("%s %d (%s): got %v, want %v", a, v.TCID, v.Comment, err, want)
		}
		if h := a.hash(); h != 0 {
			d := h.New()
			d.Write(v.Msg)
			if err := p.Verify(a, MessageDigest, d.Sum(nil), v.Sig); !errors.Is(err, want) {
				t.Errorf("%s %d (%s), digest: got %v, want %v", a, v.TCID, v.Comment, err, want)
			}
		}
	}
	return len(g.Tests)
}

func isValid(v signatureVector) bool { return v.Result == "valid" }

func TestWycheproofRSAVerify(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		file  string
		spec  Spec
		a     SigningAlgorithm
		valid func(signatureVector) bool
		least int
	}{
		{"rsa_signature_2048_sha256", RSA2048, SignPKCS1SHA256, isValid, 257},
		{"rsa_signature_2048_sha384", RSA2048, SignPKCS1SHA384, isValid, 257},
		{"rsa_signature_2048_sha512", RSA2048, SignPKCS1SHA512, isValid, 257},
		{"rsa_signature_3072_sha256", RSA3072, SignPKCS1SHA256, isValid, 257},
		{"rsa_signature_3072_sha384", RSA3072, SignPKCS1SHA384, isValid, 257},
		{"rsa_signature_3072_sha512", RSA3072, SignPKCS1SHA512, isValid, 257},
		{"rsa_signature_4096_sha256", RSA4096, SignPKCS1SHA256, isValid, 257},
		{"rsa_signature_4096_sha384", RSA4096, SignPKCS1SHA384, isValid, 257},
		{"rsa_signature_4096_sha512", RSA4096, SignPKCS1SHA512, isValid, 257},
		{"rsa_pss_2048_sha256_mgf1_32", RSA2048, SignPSSSHA256, isValid, 108},
		{"rsa_pss_2048_sha384_mgf1_48", RSA2048, SignPSSSHA384, isValid, 141},
		{"rsa_pss_3072_sha256_mgf1_32", RSA3072, SignPSSSHA256, isValid, 108},
		{"rsa_pss_4096_sha256_mgf1_32", RSA4096, SignPSSSHA256, isValid, 108},
		{"rsa_pss_4096_sha384_mgf1_48", RSA4096, SignPSSSHA384, isValid, 141},
		{"rsa_pss_4096_sha512_mgf1_64", RSA4096, SignPSSSHA512, isValid, 179},
		// Salt of another length, mask by another hash: right elsewhere, wrong here.
		{"rsa_pss_2048_sha256_mgf1_0", RSA2048, SignPSSSHA256, func(v signatureVector) bool { return v.Comment == "s_len changed to 32" }, 103},
		{"rsa_pss_4096_sha512_mgf1_32", RSA4096, SignPSSSHA512, func(signatureVector) bool { return false }, 177},
		{"rsa_pss_2048_sha256_mgf1sha1_20", RSA2048, SignPSSSHA256, func(signatureVector) bool { return false }, 108},
	} {
		t.Run(c.file, func(t *testing.T) {
			t.Parallel()
			ran := 0
			for _, g := range wycheproofGroups[signatureGroup](t, c.file) {
				p, err := ParsePublic(c.spec, g.PublicKeyDER)
				if err != nil { // one key has the exponent 3
					if !errors.Is(err, ErrInvalidKey) || err.Error() != "invalid key material of spec "+string(c.spec)+": public exponent below 65537" {
						t.Errorf("public key: %v", err)
					}
					continue
				}
				ran += verifyVectors(t, p, c.a, g, c.valid)
			}
			atLeast(t, c.file, ran, c.least)
		})
	}
}

func TestWycheproofRSASign(t *testing.T) {
	t.Parallel()
	algorithms := map[string]SigningAlgorithm{"SHA-256": SignPKCS1SHA256, "SHA-384": SignPKCS1SHA384, "SHA-512": SignPKCS1SHA512}
	ran := 0
	for file, s := range map[string]Spec{"rsa_pkcs1_2048_sig_gen": RSA2048, "rsa_pkcs1_3072_sig_gen": RSA3072, "rsa_pkcs1_4096_sig_gen": RSA4096} {
		for _, g := range wycheproofGroups[signatureGroup](t, file) {
			a, ours := algorithms[g.SHA]
			if !ours {
				continue
			}
			k, err := ParsePrivate(s, secret.Copy(g.PrivateKeyPKCS8))
			if errors.Is(err, ErrInvalidKey) && strings.HasSuffix(err.Error(), "public exponent below 65537") {
				continue
			}
			if err != nil {
				t.Errorf("%s: %v", file, err)
				continue
			}
			for _, v := range g.Tests {
				ran++
				if sig, err := k.Sign(a, MessageRaw, v.Msg); err != nil || !bytes.Equal(sig, v.Sig) {
					t.Errorf("%s %d: %v, or another signature", file, v.TCID, err)
				}
			}
		}
	}
	atLeast(t, "PKCS #1 signatures", ran, 72)
}

func TestWycheproofOAEP(t *testing.T) {
	t.Parallel()
	type group struct {
		PrivateKeyPKCS8 hexBytes `json:"privateKeyPkcs8"`
		Tests           []struct {
			TCID           int `json:"tcId"`
			Comment        string
			Msg, CT, Label hexBytes
			Result         string
		}
	}
	for _, c := range []struct {
		file  string
		spec  Spec
		a     EncryptionAlgorithm
		same  bool // the mask is made with the same hash
		valid int
	}{
		{"rsa_oaep_2048_sha1_mgf1sha1", RSA2048, EncryptOAEPSHA1, true, 10},
		{"rsa_oaep_2048_sha256_mgf1sha256", RSA2048, EncryptOAEPSHA256, true, 10},
		{"rsa_oaep_3072_sha256_mgf1sha256", RSA3072, EncryptOAEPSHA256, true, 10},
		{"rsa_oaep_4096_sha256_mgf1sha256", RSA4096, EncryptOAEPSHA256, true, 10},
		{"rsa_oaep_2048_sha256_mgf1sha1", RSA2048, EncryptOAEPSHA256, false, 0},
	} {
		if c.a == EncryptOAEPSHA1 && fips140.Enforced() {
			continue
		}
		ran, valid := 0, 0
		for _, g := range wycheproofGroups[group](t, c.file) {
			k, err := ParsePrivate(c.spec, secret.Copy(g.PrivateKeyPKCS8))
			if err != nil {
				t.Fatalf("%s: %v", c.file, err)
			}
			for _, v := range g.Tests {
				ran++
				p, err := k.Decrypt(c.a, v.CT)
				// Nothing here has a label.
				if v.Result == "valid" && len(v.Label) == 0 && c.same {
					valid++
					if err != nil || !bytes.Equal(p.Expose(), v.Msg) {
						t.Errorf("%s %d (%s): %v, or another plaintext", c.file, v.TCID, v.Comment, err)
					}
				} else if !errors.Is(err, ErrInvalidCiphertext) {
					t.Errorf("%s %d (%s): got %v", c.file, v.TCID, v.Comment, err)
				}
			}
		}
		atLeast(t, c.file, ran, 31)
		atLeast(t, c.file+", valid", valid, c.valid)
	}
	for file, s := range map[string]Spec{"rsa_three_primes_oaep_2048_sha1_mgf1sha1": RSA2048, "rsa_three_primes_oaep_4096_sha256_mgf1sha256": RSA4096} {
		for _, g := range wycheproofGroups[group](t, file) {
			if _, err := ParsePrivate(s, secret.Copy(g.PrivateKeyPKCS8)); !errors.Is(err, ErrInvalidKey) {
				t.Errorf("a key of three primes: got %v", err)
			}
		}
	}
}

func TestWycheproofECDSA(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		file  string
		spec  Spec
		least int
	}{
		{"ecdsa_secp256r1_sha256", ECCNISTP256, 484},
		{"ecdsa_secp384r1_sha384", ECCNISTP384, 504},
		{"ecdsa_secp521r1_sha512", ECCNISTP521, 542},
		{"ecdsa_secp256k1_sha256", ECCSECGP256K1, 476},
	} {
		t.Run(c.file, func(t *testing.T) {
			t.Parallel()
			ran := 0
			for _, g := range wycheproofGroups[signatureGroup](t, c.file) {
				p, err := ParsePublic(c.spec, g.PublicKeyDER)
				if err != nil {
					t.Errorf("public key: %v", err)
					continue
				}
				ran += verifyVectors(t, p, c.spec.SigningAlgorithms()[0], g, isValid)
			}
			atLeast(t, c.file, ran, c.least)
		})
	}
}

func TestWycheproofEd25519(t *testing.T) {
	t.Parallel()
	ran := 0
	for _, g := range wycheproofGroups[signatureGroup](t, "ed25519") {
		p, err := ParsePublic(ECCEdwards25519, g.PublicKeyDER)
		if err != nil {
			t.Errorf("public key: %v", err)
			continue
		}
		ran += verifyVectors(t, p, SignEd25519, g, isValid)
	}
	atLeast(t, "Ed25519", ran, 151)
}

// TestWycheproofMLDSA runs each vector as a message, if it has no context, which
// KMS does not have, and each as its mu, which our own code verifies.
func TestWycheproofMLDSA(t *testing.T) {
	t.Parallel()
	files := map[string]Spec{
		"mldsa_44_verify": MLDSA44, "mldsa_65_verify": MLDSA65, "mldsa_87_verify": MLDSA87,
		"mldsa_44_sign_seed": MLDSA44, "mldsa_65_sign_seed": MLDSA65, "mldsa_87_sign_seed": MLDSA87,
	}
	ran, asMu := 0, 0
	for file, s := range files {
		for _, g := range wycheproofGroups[signatureGroup](t, file) {
			spki := []byte(g.PublicKeyDER)
			if strings.HasSuffix(file, "_seed") {
				if len(g.PrivateSeed) != mldsa.PrivateKeySize {
					ran += len(g.Tests)
					if _, err := ParsePrivate(s, secret.Copy(g.PrivateKeyPKCS8)); !errors.Is(err, ErrInvalidKey) || isValid(g.Tests[0]) {
						t.Errorf("%s: seed of %d bytes: got %v", file, len(g.PrivateSeed), err)
					}
					continue
				}
				spki = mldsaFromSeed(t, s, g).Public()
			}
			p, err := ParsePublic(s, spki)
			if err != nil {
				for _, v := range g.Tests { // a key of a wrong length
					ran++
					if isValid(v) || !errors.Is(err, ErrInvalidKey) {
						t.Errorf("%s %d (%s): public key: %v", file, v.TCID, v.Comment, err)
					}
				}
				continue
			}
			key := p.key.(*mldsaPublic).key.Bytes()
			for _, v := range g.Tests {
				ran++
				if len(v.Sig) == 0 || len(v.Ctx) > 255 { // signing is to fail
					continue
				}
				want := error(nil)
				if !isValid(v) {
					want = ErrInvalidSignature
				}
				if len(v.Ctx) == 0 && len(v.Mu) == 0 {
					if err := p.Verify(SignMLDSA, MessageRaw, v.Msg, v.Sig); !errors.Is(err, want) {
						t.Errorf("%s %d (%s): got %v, want %v", file, v.TCID, v.Comment, err, want)
					}
				}
				mu := []byte(v.Mu)
				if len(mu) == 0 {
					mu = messageMu(key, v.Ctx, v.Msg)
				}
				asMu++
				if err := p.Verify(SignMLDSA, MessageExternalMu, mu, v.Sig); !errors.Is(err, want) {
					t.Errorf("%s %d (%s), mu: got %v, want %v", file, v.TCID, v.Comment, err, want)
				}
			}
		}
	}
	atLeast(t, "ML-DSA", ran, 918)
	atLeast(t, "ML-DSA by mu", asMu, 879)
}

// mldsaFromSeed parses the seed's PKCS #8, which not every vector brings.
func mldsaFromSeed(t *testing.T, s Spec, g signatureGroup) *Private {
	t.Helper()
	seed, err := mldsa.NewPrivateKey(mldsaParameters(s), g.PrivateSeed)
	if err != nil {
		t.Fatal(err)
	}
	der, err := (&mldsaKey{seed}).pkcs8()
	if err != nil {
		t.Fatal(err)
	}
	if len(g.PrivateKeyPKCS8) > 0 && !bytes.Equal(der, g.PrivateKeyPKCS8) {
		t.Error("another encoding of the seed")
	}
	k, err := ParsePrivate(s, secret.Copy(der))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// messageMu is mu of FIPS 204, algorithms 2 and 7.
func messageMu(key, context, message []byte) []byte {
	h := sha3.SumSHAKE256(key, 64)
	x := sha3.NewSHAKE256()
	x.Write(h)
	x.Write([]byte{0, byte(len(context))})
	x.Write(context)
	x.Write(message)
	mu := make([]byte, muSize)
	x.Read(mu)
	return mu
}

func TestWycheproofECDH(t *testing.T) {
	t.Parallel()
	type group struct {
		Tests []struct {
			TCID                    int `json:"tcId"`
			Comment                 string
			Public, Shared, Private hexBytes
			Result                  string
		}
	}
	for _, c := range []struct {
		file         string
		spec         Spec
		size         int
		least, valid int
	}{
		{"ecdh_secp256r1", ECCNISTP256, 32, 612, 330},
		{"ecdh_secp384r1", ECCNISTP384, 48, 1047, 771},
		{"ecdh_secp521r1", ECCNISTP521, 66, 916, 632},
	} {
		t.Run(c.file, func(t *testing.T) {
			t.Parallel()
			ran, valid := 0, 0
			for _, g := range wycheproofGroups[group](t, c.file) {
				for _, v := range g.Tests {
					ran++
					scalar := bytes.TrimLeft(v.Private, "\x00")
					scalar = append(make([]byte, c.size-len(scalar)), scalar...)
					der, err := curveOf(c.spec).encode(ecPrivateKey{Scalar: scalar})
					if err != nil {
						t.Fatal(err)
					}
					k, err := ParsePrivate(c.spec, secret.Copy(der))
					if err != nil {
						t.Errorf("%s %d (%s): private key: %v", c.file, v.TCID, v.Comment, err)
						continue
					}
					z, err := k.Agree(v.Public)
					if _, refused := errors.AsType[*InputError](err); err != nil && !refused {
						t.Errorf("%s %d (%s): got %v", c.file, v.TCID, v.Comment, err)
					}
					switch {
					case v.Result == "valid":
						valid++
						if err != nil || !bytes.Equal(z.Expose(), v.Shared) {
							t.Errorf("%s %d (%s): %v, or another secret", c.file, v.TCID, v.Comment, err)
						}
					case v.Result == "invalid" && err == nil:
						t.Errorf("%s %d (%s): there is a secret", c.file, v.TCID, v.Comment)
					case err == nil: // acceptable
						t.Errorf("%s %d (%s): a key in another encoding was taken", c.file, v.TCID, v.Comment)
					}
				}
			}
			atLeast(t, c.file, ran, c.least)
			atLeast(t, c.file+", valid", valid, c.valid)
		})
	}
}

func TestWycheproofHMAC(t *testing.T) {
	t.Parallel()
	type group struct {
		KeySize, TagSize int
		Tests            []struct {
			TCID          int `json:"tcId"`
			Comment       string
			Key, Msg, Tag hexBytes
			Result        string
		}
	}
	for file, s := range map[string]Spec{"hmac_sha224": HMAC224, "hmac_sha256": HMAC256, "hmac_sha384": HMAC384, "hmac_sha512": HMAC512} {
		ran := 0
		for _, g := range wycheproofGroups[group](t, file) {
			for _, v := range g.Tests {
				k, err := ParsePrivate(s, secret.Copy(v.Key))
				if len(v.Key) != hmacSize(s) {
					if !errors.Is(err, ErrInvalidKey) {
						t.Errorf("%s: key of %d bytes: got %v", file, len(v.Key), err)
					}
					continue
				}
				if err != nil {
					t.Fatalf("%s: %v", file, err)
				}
				ran++
				got, err := k.MAC(s.MACAlgorithms()[0], v.Msg)
				if valid := v.Result == "valid"; err != nil || bytes.Equal(got[:g.TagSize/8], v.Tag) != valid {
					t.Errorf("%s %d (%s): %v, want valid %v", file, v.TCID, v.Comment, err, valid)
				}
			}
		}
		atLeast(t, file, ran, 160)
	}
}

func TestWycheproofKWP(t *testing.T) {
	t.Parallel()
	type group struct {
		Tests []struct {
			TCID         int `json:"tcId"`
			Comment      string
			Key, Msg, CT hexBytes
			Result       string
		}
	}
	ran := 0
	for _, g := range wycheproofGroups[group](t, "aes_kwp") {
		for _, v := range g.Tests {
			ran++
			p, err := unwrapKWP(v.Key, v.CT)
			if v.Result != "valid" {
				if !errors.Is(err, ErrInvalidCiphertext) {
					t.Errorf("%d (%s): got %v", v.TCID, v.Comment, err)
				}
				continue
			}
			if err != nil || !bytes.Equal(p, v.Msg) {
				t.Errorf("%d (%s): %v, or another plaintext", v.TCID, v.Comment, err)
			}
			if c, err := wrapKWP(v.Key, v.Msg); err != nil || !bytes.Equal(c, v.CT) {
				t.Errorf("%d (%s): wrap: %v, or another ciphertext", v.TCID, v.Comment, err)
			}
		}
	}
	atLeast(t, "AES-KWP", ran, 254)
}
