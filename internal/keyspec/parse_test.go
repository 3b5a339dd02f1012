package keyspec

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"math/big"
	"strings"
	"testing"

	"cardea/internal/secret"
)

// refuseKey checks that material is no key of the spec, and why.
func refuseKey(t *testing.T, what string, s Spec, material []byte, why string) {
	t.Helper()
	want := "invalid key material of spec " + string(s) + ": " + why
	if _, err := ParsePrivate(s, secret.Copy(material)); !errors.Is(err, ErrInvalidKey) || err.Error() != want {
		t.Errorf("%s: got %v, want %q", what, err, want)
	}
}

func TestMaterialOfAnotherLengthIsRefused(t *testing.T) {
	t.Parallel()
	for s, want := range map[Spec]string{
		SymmetricDefault: "33 bytes, want 32", HMAC224: "33 bytes, want 28", HMAC256: "33 bytes, want 32",
		HMAC384: "33 bytes, want 48", HMAC512: "33 bytes, want 64",
	} {
		refuseKey(t, "another length", s, make([]byte, 33), want)
		refuseKey(t, "nothing", s, nil, strings.Replace(want, "33", "0", 1))
	}
	for _, s := range allSpecs {
		refuseKey(t, "far too much", s, make([]byte, maxKey+1), "too long")
	}
}

// TestKeyOfAnotherSpecIsRefused tries the key of each asymmetric spec as each other.
func TestKeyOfAnotherSpecIsRefused(t *testing.T) {
	t.Parallel()
	for _, s := range allSpecs {
		for _, as := range allSpecs {
			if s == as || !s.Asymmetric() || !as.Asymmetric() {
				continue
			}
			material, spki := generated(t, s)
			if _, err := ParsePrivate(as, material); !errors.Is(err, ErrInvalidKey) {
				t.Errorf("private key of %s as %s: got %v", s, as, err)
			}
			if _, err := ParsePublic(as, spki); !errors.Is(err, ErrInvalidKey) {
				t.Errorf("public key of %s as %s: got %v", s, as, err)
			}
		}
	}
}

// TestKeysHaveOneEncoding adds a byte at each place where a lenient parser would
// pass over it.
func TestKeysHaveOneEncoding(t *testing.T) {
	t.Parallel()
	for _, s := range allSpecs {
		if !s.Asymmetric() {
			continue
		}
		material, spki := generated(t, s)
		for what, der := range map[string][]byte{
			"a byte after": append(bytes.Clone(material.Expose()), 0), "a byte before": append([]byte{0}, material.Expose()...),
			"an element more": inside(t, material.Expose(), []byte{5, 0}), "attributes": inside(t, material.Expose(), []byte{0xa0, 0}),
			"cut": material.Expose()[:material.Len()-1], "half": material.Expose()[:material.Len()/2], "long form": longForm(material.Expose()),
		} {
			if _, err := ParsePrivate(s, secret.Copy(der)); !errors.Is(err, ErrInvalidKey) {
				t.Errorf("%s with %s: got %v", s, what, err)
			}
		}
		for what, der := range map[string][]byte{
			"a byte after": append(bytes.Clone(spki), 0), "an element more": inside(t, spki, []byte{5, 0}),
			"cut": spki[:len(spki)-1], "nothing": nil, "long form": longForm(spki), "far too long": make([]byte, maxKey+1),
		} {
			if _, err := ParsePublic(s, der); !errors.Is(err, ErrInvalidKey) {
				t.Errorf("public key of %s with %s: got %v", s, what, err)
			}
		}
	}
}

// inside puts an element at the end of the outer sequence.
func inside(t *testing.T, der, element []byte) []byte {
	t.Helper()
	var v asn1.RawValue
	if _, err := asn1.Unmarshal(der, &v); err != nil {
		t.Fatal(err)
	}
	out, err := asn1.Marshal(asn1.RawValue{Class: v.Class, Tag: v.Tag, IsCompound: true, Bytes: append(bytes.Clone(v.Bytes), element...)})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// longForm gives the outer length a byte more than it needs, which is BER.
func longForm(der []byte) []byte {
	switch {
	case der[1] < 0x80:
		return append([]byte{der[0], 0x81, der[1]}, der[2:]...)
	case der[1] == 0x81:
		return append([]byte{der[0], 0x82, 0, der[2]}, der[3:]...)
	}
	return append([]byte{der[0], 0x83, 0, der[2], der[3]}, der[4:]...)
}

var ecSpecs = []Spec{ECCNISTP256, ECCNISTP384, ECCNISTP521, ECCSECGP256K1}

func TestECCKeysComeInTheFormsOfCommonTools(t *testing.T) {
	t.Parallel()
	for _, s := range ecSpecs {
		k := private(t, s)
		ec := k.key.(ecKey)
		d, err := ec.scalar()
		if err != nil {
			t.Fatal(err)
		}
		p, err := ec.point()
		if err != nil {
			t.Fatal(err)
		}
		c := curveOf(s)
		for what, inner := range map[string]ecPrivateKey{
			"public half":            {Scalar: d, PublicKey: bitString(p)},
			"neither":                {Scalar: d},
			"curve":                  {Scalar: d, Curve: c.oid},
			"curve and public half ": {Scalar: d, Curve: c.oid, PublicKey: bitString(p)},
		} {
			der, err := c.encode(inner)
			if err != nil {
				t.Fatal(err)
			}
			got, err := ParsePrivate(s, secret.Copy(der))
			if err != nil || !bytes.Equal(got.Public(), k.Public()) {
				t.Errorf("%s with %s: %v, or another public half", s, what, err)
			}
		}
	}
}

func TestECCKeysThatAreNoneAreRefused(t *testing.T) {
	t.Parallel()
	for _, s := range ecSpecs {
		c := curveOf(s)
		d, p := endsInZeroBits(t, s)
		other, err := generateEC(s)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := other.point()
		if err != nil {
			t.Fatal(err)
		}
		encode := func(inner ecPrivateKey) []byte {
			t.Helper()
			der, err := c.encode(inner)
			if err != nil {
				t.Fatal(err)
			}
			return der
		}
		outer := func(version int, a ecAlgorithm, inner any) []byte {
			t.Helper()
			b, err := asn1.Marshal(inner)
			if err != nil {
				t.Fatal(err)
			}
			der, err := asn1.Marshal(ecPKCS8{version, a, b})
			if err != nil {
				t.Fatal(err)
			}
			return der
		}
		n := orderOf(s).FillBytes(make([]byte, len(d)))
		const canonical, scalar = "not the DER encoding of its content", "scalar out of range"
		short := scalar // of another length
		if s == ECCSECGP256K1 {
			short = "scalar of another length"
		}
		unused := bitString(p)
		unused.BitLength -= 3
		good := ecPrivateKey{Version: 1, Scalar: d, PublicKey: bitString(p)}
		version2 := good
		version2.Version = 2
		wrongCurve := curveOf(ECCNISTP256).oid
		if s == ECCNISTP256 {
			wrongCurve = curveOf(ECCNISTP384).oid
		}
		unusedInner := good
		unusedInner.PublicKey = unused
		for what, c := range map[string]struct {
			der []byte
			why string
		}{
			"scalar 0":              {encode(ecPrivateKey{Scalar: make([]byte, len(d))}), scalar},
			"scalar n":              {encode(ecPrivateKey{Scalar: n}), scalar},
			"all ones":              {encode(ecPrivateKey{Scalar: bytes.Repeat([]byte{255}, len(d))}), scalar},
			"short scalar":          {encode(ecPrivateKey{Scalar: d[1:]}), short},
			"long scalar":           {encode(ecPrivateKey{Scalar: append([]byte{0}, d...)}), short},
			"no scalar":             {encode(ecPrivateKey{}), short},
			"another's public half": {encode(ecPrivateKey{Scalar: d, PublicKey: bitString(theirs)}), "the public half is that of another key"},
			"unused bits":           {outer(0, c.algorithm(), unusedInner), canonical},
			"another curve inside":  {encode(ecPrivateKey{Scalar: d, Curve: wrongCurve}), "another curve inside"},
			"another curve":         {outer(0, ecAlgorithm{c.algorithm().Algorithm, wrongCurve}, good), "another algorithm or curve"},
			"another algorithm":     {outer(0, ecAlgorithm{c.oid, c.oid}, good), "another algorithm or curve"},
			"outer version 1":       {outer(1, c.algorithm(), good), canonical},
			"inner version 2":       {outer(0, c.algorithm(), version2), canonical},
			"no key inside":         {outer(0, c.algorithm(), 5), "not an ECPrivateKey"},
			"no PKCS #8":            {d, "not a PKCS #8 elliptic curve key"},
		} {
			refuseKey(t, string(s)+" with "+what, s, c.der, c.why)
		}
		for what, c := range map[string]struct {
			point []byte
			why   string
		}{
			"compressed": {append([]byte{2 + p[len(p)-1]&1}, p[1:1+len(d)]...), ""},
			"hybrid":     {append([]byte{6 + p[len(p)-1]&1}, p[1:]...), ""},
			"infinity":   {[]byte{0}, ""},
			"no point":   {nil, ""},
			"off curve":  {flipLast(p), ""},
			"x too big":  {append(append([]byte{4}, bytes.Repeat([]byte{255}, len(d))...), p[1+len(d):]...), ""},
		} {
			spki, err := ecPublicDER(s, c.point)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ParsePublic(s, spki); !errors.Is(err, ErrInvalidKey) {
				t.Errorf("%s, %s: got %v", s, what, err)
			}
		}
		spki, err := asn1.Marshal(ecSPKI{c.algorithm(), unused})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParsePublic(s, spki); !errors.Is(err, ErrInvalidKey) {
			t.Errorf("%s, unused bits: got %v", s, err)
		}
	}
}

// endsInZeroBits makes a key whose point's last three bits are zero, so that they
// can be declared unused.
func endsInZeroBits(t *testing.T, s Spec) (scalar, point []byte) {
	t.Helper()
	for {
		k, err := generateEC(s)
		if err != nil {
			t.Fatal(err)
		}
		if point, err = k.point(); err != nil {
			t.Fatal(err)
		}
		if point[len(point)-1]&7 != 0 {
			continue
		}
		if scalar, err = k.scalar(); err != nil {
			t.Fatal(err)
		}
		return scalar, point
	}
}

func flipLast(b []byte) []byte {
	c := bytes.Clone(b)
	c[len(c)-1] ^= 1
	return c
}

func orderOf(s Spec) *big.Int {
	if c := curveOf(s).nist; c != nil {
		return c.Params().N
	}
	n, _ := new(big.Int).SetString("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141", 16) // SEC 2, 2.4.1
	return n
}

// TestECCEncodingsAreThoseOfTheStandardLibrary compares what is written by hand.
func TestECCEncodingsAreThoseOfTheStandardLibrary(t *testing.T) {
	t.Parallel()
	for s, c := range map[Spec]elliptic.Curve{ECCNISTP256: elliptic.P256(), ECCNISTP384: elliptic.P384(), ECCNISTP521: elliptic.P521()} {
		theirs, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(theirs)
		if err != nil {
			t.Fatal(err)
		}
		spki, err := x509.MarshalPKIXPublicKey(&theirs.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		ours := &nistKey{s, theirs}
		if b, err := ours.pkcs8(); err != nil || !bytes.Equal(b, der) {
			t.Errorf("%s: private key: %v, or other bytes", s, err)
		}
		if b, err := ours.spki(); err != nil || !bytes.Equal(b, spki) {
			t.Errorf("%s: public key: %v, or other bytes", s, err)
		}
	}
}

func TestRSAKeysThatAreTooWeakOrOddAreRefused(t *testing.T) {
	t.Parallel()
	small, err := rsa.GenerateKey(rand.Reader, 1536)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(small)
	if err != nil {
		t.Fatal(err)
	}
	refuseKey(t, "1536 bits", RSA2048, der, "modulus of 1536 bits, want 2048")
	material, _ := generated(t, RSA2048)
	refuseKey(t, "2048 bits", RSA3072, material.Expose(), "modulus of 2048 bits, want 3072")
	key := private(t, RSA2048).key.(*rsaKey).key
	refuseKey(t, "PKCS #1", RSA2048, x509.MarshalPKCS1PrivateKey(key), "not a valid PKCS #8 private key")

	broken := bytes.Clone(material.Expose())
	broken[len(broken)-1] ^= 1 // in the coefficient
	refuseKey(t, "a wrong coefficient", RSA2048, broken, "not a valid PKCS #8 private key")

	weak := key.PublicKey
	weak.E = 3
	spki, err := x509.MarshalPKIXPublicKey(&weak)
	if err != nil {
		t.Fatal(err)
	}
	_, err = ParsePublic(RSA2048, spki)
	if want := "invalid key material of spec RSA_2048: public exponent below 65537"; err == nil || err.Error() != want {
		t.Errorf("exponent 3: got %v", err)
	}
}

func TestMLDSAKeysWithoutOnlyASeedAreRefused(t *testing.T) {
	t.Parallel()
	for _, inside := range [][]byte{
		append([]byte{4, 32}, make([]byte, 32)...), // as if expanded
		append([]byte{0x80, 31}, make([]byte, 31)...),
		append([]byte{0x80, 33}, make([]byte, 33)...),
		make([]byte, 32),
		nil,
	} {
		der, err := asn1.Marshal(struct {
			Version   int
			Algorithm struct{ OID asn1.ObjectIdentifier }
			Key       []byte
		}{0, struct{ OID asn1.ObjectIdentifier }{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3, 18}}, inside})
		if err != nil {
			t.Fatal(err)
		}
		refuseKey(t, "another form", MLDSA65, der, "not a valid PKCS #8 private key with a seed")
	}
	material, _ := generated(t, MLDSA44)
	refuseKey(t, "other parameters", MLDSA65, material.Expose(), "another kind of private key")
}
