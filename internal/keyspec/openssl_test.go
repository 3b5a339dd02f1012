package keyspec

import (
	"bytes"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"cardea/internal/secret"
)

// openssl runs the tool in a directory of its own.
type openssl struct {
	t   *testing.T
	dir string
}

// newOpenSSL skips the test where the tool is not.
func newOpenSSL(t *testing.T) openssl {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed")
	}
	return openssl{t, t.TempDir()}
}

func (o openssl) run(args ...string) {
	o.t.Helper()
	c := exec.Command("openssl", args...)
	c.Dir = o.dir
	if out, err := c.CombinedOutput(); err != nil {
		o.t.Fatalf("openssl %s: %v\n%s", args[0], err, out)
	}
}

func (o openssl) write(name string, b []byte) {
	o.t.Helper()
	if err := os.WriteFile(filepath.Join(o.dir, name), b, 0o600); err != nil {
		o.t.Fatal(err)
	}
}

func (o openssl) read(name string) []byte {
	o.t.Helper()
	b, err := os.ReadFile(filepath.Join(o.dir, name))
	if err != nil {
		o.t.Fatal(err)
	}
	return b
}

// TestKeysOfOpenSSL parses keys that openssl makes, and lets it verify what they sign.
func TestKeysOfOpenSSL(t *testing.T) {
	t.Parallel()
	for s, genpkey := range map[Spec]string{
		RSA2048: "RSA -pkeyopt rsa_keygen_bits:2048", RSA3072: "RSA -pkeyopt rsa_keygen_bits:3072",
		ECCNISTP256:   "EC -pkeyopt ec_paramgen_curve:P-256 -pkeyopt ec_param_enc:named_curve",
		ECCNISTP384:   "EC -pkeyopt ec_paramgen_curve:P-384 -pkeyopt ec_param_enc:named_curve",
		ECCNISTP521:   "EC -pkeyopt ec_paramgen_curve:P-521 -pkeyopt ec_param_enc:named_curve",
		ECCSECGP256K1: "EC -pkeyopt ec_paramgen_curve:secp256k1 -pkeyopt ec_param_enc:named_curve", ECCEdwards25519: "ED25519",
	} {
		t.Run(string(s), func(t *testing.T) {
			t.Parallel()
			o := newOpenSSL(t)
			o.run(append(strings.Fields("genpkey -out key.pem -algorithm"), strings.Fields(genpkey)...)...)
			o.run(strings.Fields("pkcs8 -topk8 -nocrypt -in key.pem -outform DER -out key.der")...)
			o.run(strings.Fields("pkey -in key.der -inform DER -pubout -outform DER -out pub.der")...)
			k, err := ParsePrivate(s, secret.Copy(o.read("key.der")))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(k.Public(), o.read("pub.der")) {
				t.Error("another public half than openssl's")
			}
			o.write("message", someMessage)
			for _, a := range s.SigningAlgorithms() {
				if a == SignEd25519ph { // openssl 3.0 has it not
					continue
				}
				sig, err := k.Sign(a, MessageRaw, someMessage)
				if err != nil {
					t.Fatal(err)
				}
				o.write("sig", sig)
				args := "pkeyutl -verify -pubin -inkey pub.der -keyform DER -rawin -in message -sigfile sig"
				if h := a.hash(); h != 0 {
					args += " -digest sha" + strings.TrimPrefix(h.String(), "SHA-")
				}
				if a.pss() {
					args += " -pkeyopt rsa_padding_mode:pss -pkeyopt rsa_pss_saltlen:digest"
				}
				o.run(strings.Fields(args)...)
			}
			for _, a := range s.EncryptionAlgorithms() {
				hash := map[EncryptionAlgorithm]string{EncryptOAEPSHA1: "sha1", EncryptOAEPSHA256: "sha256"}[a]
				o.run(strings.Fields("pkeyutl -encrypt -pubin -inkey pub.der -keyform DER -in message -out ct -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:" + hash + " -pkeyopt rsa_mgf1_md:" + hash)...)
				if p, err := k.Decrypt(a, o.read("ct")); err != nil || !bytes.Equal(p.Expose(), someMessage) {
					t.Errorf("%s: %v, or another plaintext", a, err)
				}
			}
		})
	}
}

// TestMaterialWrappedByOpenSSL uses the commands that AWS's guide gives for import.
func TestMaterialWrappedByOpenSSL(t *testing.T) {
	t.Parallel()
	o := newOpenSSL(t)
	k := private(t, RSA2048)
	o.write("wrapping.der", k.Public())
	kek := secret.Random(32)
	o.write("kek", kek.Expose())
	for _, s := range []Spec{SymmetricDefault, ECCSECGP256K1, RSA3072} {
		material, _ := generated(t, s)
		o.write("material", material.Expose())
		o.run("enc", "-id-aes256-wrap-pad", "-K", hex.EncodeToString(kek.Expose()), "-iv", "A65959A6", "-in", "material", "-out", "wrapped-material")
		o.run(strings.Fields("pkeyutl -encrypt -in kek -out wrapped-kek -inkey wrapping.der -keyform DER -pubin -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256 -pkeyopt rsa_mgf1_md:sha256")...)
		got, err := Unwrap(WrapRSAAESKW256, k, append(o.read("wrapped-kek"), o.read("wrapped-material")...))
		if err != nil || !got.Equal(material) {
			t.Errorf("%s: %v, or other material", s, err)
		}
	}
}
