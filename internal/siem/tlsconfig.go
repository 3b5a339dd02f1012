package siem

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// TLSFiles name what a connection to a receiver is secured with.
type TLSFiles struct {
	CAFile          string // authorities of the receiver; default the system's
	CertificateFile string // of this node, for receivers that ask for one
	PrivateKeyFile  string
	ServerName      string // default: the name in the address
}

// Config allows TLS 1.2 with ephemeral ECDH and AEAD only, and TLS 1.3 (PCI DSS
// 4.2.1; NIST SP 800-52r2 section 3.3.1).
func (t TLSFiles) Config() (*tls.Config, error) {
	c := &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: t.ServerName,
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
			tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
	}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, err
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s: no certificate in it", t.CAFile)
		}
	}
	if t.CertificateFile != "" {
		pair, err := tls.LoadX509KeyPair(t.CertificateFile, t.PrivateKeyFile)
		if err != nil {
			return nil, fmt.Errorf("%s with %s: %w", t.CertificateFile, t.PrivateKeyFile, err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
