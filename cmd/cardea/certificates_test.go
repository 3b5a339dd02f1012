package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// rsaKey is the one RSA key of these tests, which takes long to make.
var rsaKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// certificates DIR [DAYS]: makes an authority (ca.crt), and from it the certificates of
// a server on 127.0.0.1 (vault.crt, vault.key), valid for DAYS (default 365), and
// of a client (client.crt, client.key) with the common name billing.internal; the
// vault's envelope key (locker.pem) and a tenant's public key (tenant.pub.pem).
func cmdCertificates(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: certificates DIR [DAYS]")
	}
	days := 365
	if len(args) > 1 {
		var err error
		days, err = strconv.Atoi(args[1])
		ts.Check(err)
	}
	ts.Check(makeCertificates(ts.MkAbs(args[0]), days))
}

func makeCertificates(dir string, days int) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0), KeyUsage: x509.KeyUsageCertSign,
	}
	if err := issue(dir, "ca", ca, ca, caKey, caKey); err != nil {
		return err
	}
	for name, cn := range map[string]string{"vault": "vault-1", "client": "billing.internal"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		leaf := &x509.Certificate{
			SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: cn},
			NotBefore: time.Now().AddDate(0, 0, min(-1, days-1)), NotAfter: time.Now().AddDate(0, 0, days),
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		}
		if err := issue(dir, name, leaf, ca, key, caKey); err != nil {
			return err
		}
	}
	key, err := rsaKey()
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	if err := writePEM(filepath.Join(dir, "tenant.pub.pem"), "PUBLIC KEY", public); err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return writePEM(filepath.Join(dir, "locker.pem"), "PRIVATE KEY", private)
}

func issue(dir, name string, cert, by *x509.Certificate, key *ecdsa.PrivateKey, byKey crypto.Signer) error {
	der, err := x509.CreateCertificate(rand.Reader, cert, by, key.Public(), byKey)
	if err != nil {
		return err
	}
	if err := writePEM(filepath.Join(dir, name+".crt"), "CERTIFICATE", der); err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return writePEM(filepath.Join(dir, name+".key"), "PRIVATE KEY", private)
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
