package config

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"cardea/internal/secret"
)

// maxSecretFile bounds a file with a secret or a key, in bytes.
const maxSecretFile = 64 << 10

const (
	masterKeyBytes       = 32
	sealedMasterKeyBytes = 12 + masterKeyBytes + 16 // nonce, ciphertext, tag
)

// readSecretFiles reads every file that a setting names for its content, and
// looks whether the others can be read. What is wrong is kept for Validate.
func (c *Config) readSecretFiles() {
	c.Database.Password = c.readText("database.password_file", c.Database.PasswordFile)
	c.KeyService.Database.Password = c.readText("key_service.database.password_file", c.KeyService.Database.PasswordFile)
	c.KeyService.RootKey = c.readHex("key_service.root_key_file", c.KeyService.RootKeyFile, masterKeyBytes)
	c.KeyService.RootToken.PIN = c.readLine("key_service.root_token.pin_file", c.KeyService.RootToken.PINFile, "PIN")
	c.readDeliveryFiles()
	c.readDetectFiles()
	c.Locker.PrivateKeyPEM = c.readSecret("locker.private_key_file", c.Locker.PrivateKeyFile)
	for _, name := range sortedKeys(c.Tenants) {
		t, key := c.Tenants[name], join("tenants", name)
		t.PublicKeyPEM = c.readPublic(key+".public_key_file", t.PublicKeyFile)
		t.SealedMasterKey = c.readHex(key+".sealed_master_key_file", t.SealedMasterKeyFile, sealedMasterKeyBytes)
		t.MasterKey = c.readHex(key+".master_key_file", t.MasterKeyFile, masterKeyBytes)
		t.PKCS11.PIN = c.readLine(key+".pkcs11.pin_file", t.PKCS11.PINFile, "PIN")
		c.checkFile(key+".pkcs11.module", t.PKCS11.Module, false)
		t.External.Credentials = c.readHex(key+".external.credentials_file", t.External.CredentialsFile, 32)
		c.checkFile(key+".external.ca_file", t.External.CAFile, false)
		c.checkFile(key+".external.cert_file", t.External.CertFile, false)
		c.checkFile(key+".external.key_file", t.External.KeyFile, true)
		c.Tenants[name] = t
	}
	for _, l := range []struct {
		key string
		tls TLS
	}{{"vault.tls", c.Vault.TLS}, {"ops.tls", c.Ops.TLS}, {"key_service.tls", c.KeyService.TLS}} {
		c.checkFile(l.key+".certificate_file", l.tls.CertificateFile, false)
		c.checkFile(l.key+".private_key_file", l.tls.PrivateKeyFile, true)
		c.checkFile(l.key+".client_ca_file", l.tls.ClientCAFile, false)
	}
	c.checkFile("keys.kms_ca_file", c.Keys.KMSCAFile, false)
	for _, d := range []struct {
		key string
		Database
	}{{"database", c.Database}, {"key_service.database", c.KeyService.Database}} {
		c.checkFile(d.key+".ca_file", d.CAFile, false)
		c.checkFile(d.key+".client_certificate_file", d.ClientCertificateFile, false)
		c.checkFile(d.key+".client_private_key_file", d.ClientPrivateKeyFile, true)
	}
	c.checkFile("audit.dual_control.register", c.Audit.DualControl.Register, false)
	c.checkFile("audit.dual_control.approval", c.Audit.DualControl.Approval, false)
	c.checkFile("key_service.dual_control.register", c.KeyService.DualControl.Register, false)
	c.checkFile("key_service.root_token.library", c.KeyService.RootToken.Library, false)
	for _, id := range sortedKeys(c.KeyService.Clusters) {
		key, cluster := "key_service.clusters."+id, c.KeyService.Clusters[id]
		c.checkFile(key+".library", cluster.Library, false)
		c.checkFile(key+".trust_anchor_file", cluster.TrustAnchorFile, false)
	}
}

// readSecret reads the file of setting key; the empty secret stands for no file
// or one that cannot be read.
func (c *Config) readSecret(key, path string) secret.Bytes {
	if path == "" {
		return secret.Bytes{}
	}
	c.files = append(c.files, path)
	b, err := readBounded(path, maxSecretFile)
	if err != nil {
		c.problems = append(c.problems, problem(key, "%v", err))
		return secret.Bytes{}
	}
	if len(bytes.TrimSpace(b)) == 0 {
		c.problems = append(c.problems, problem(key, "%s is empty", path))
		return secret.Bytes{}
	}
	c.warnOpenFile(key, path)
	return secret.New(b)
}

// readText is a password in a file of one line.
func (c *Config) readText(key, path string) secret.Bytes { return c.readLine(key, path, "password") }

// readLine is a secret of one line: its line end is not part of it.
func (c *Config) readLine(key, path, what string) secret.Bytes {
	s := c.readSecret(key, path)
	b := bytes.TrimSuffix(s.Expose(), []byte("\n"))
	b = bytes.TrimSuffix(b, []byte("\r"))
	if bytes.ContainsAny(b, "\r\n\x00") {
		c.problems = append(c.problems, problem(key, "%s has more than one line, expected the %s alone", path, what))
	}
	if len(b) == s.Len() {
		return s
	}
	defer s.Destroy()
	return secret.Copy(b)
}

// readHex is a secret of n bytes, written as one line of hex digits.
func (c *Config) readHex(key, path string, n int) secret.Bytes {
	s := c.readSecret(key, path)
	if s.Len() == 0 {
		return secret.Bytes{}
	}
	defer s.Destroy()
	text := bytes.TrimSpace(s.Expose())
	if len(text) != 2*n {
		c.problems = append(c.problems, problem(key, "%s: expected %d hex digits (%d bytes), got %d characters", path, 2*n, n, len(text)))
		return secret.Bytes{}
	}
	b := make([]byte, n)
	if _, err := hex.Decode(b, text); err != nil { // the error would quote the digit
		secret.Wipe(b)
		c.problems = append(c.problems, problem(key, "%s: expected hex digits only", path))
		return secret.Bytes{}
	}
	return secret.New(b)
}

func (c *Config) readPublic(key, path string) []byte {
	if path == "" {
		return nil
	}
	c.files = append(c.files, path)
	b, err := readBounded(path, maxSecretFile)
	if err != nil {
		c.problems = append(c.problems, problem(key, "%v", err))
	}
	return b
}

// checkFile tells whether a file that others will read can be read.
func (c *Config) checkFile(key, path string, isSecret bool) {
	if path == "" {
		return
	}
	f, err := os.Open(path)
	if err != nil {
		c.problems = append(c.problems, problem(key, "%v", err))
		return
	}
	f.Close() //nolint:errcheck // only opened to see that it can be
	if isSecret {
		c.warnOpenFile(key, path)
	}
}

// warnOpenFile warns of a secret that more than its owner can read or replace.
// It is no error: container platforms mount secrets so.
func (c *Config) warnOpenFile(key, path string) {
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
		c.Warnings = append(c.Warnings, fmt.Sprintf("%s: %s has mode %04o: not only its owner can use it; chmod 600 %s", key, path, info.Mode().Perm(), path))
	}
}

// readBounded reads a regular file of at most limit bytes into a buffer of the
// right size, so that no copy of a secret is left behind.
func readBounded(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path) // before opening: a pipe would block
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("%s: larger than %d bytes", path, limit)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read from
	b := make([]byte, info.Size())
	n, err := io.ReadFull(f, b)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		secret.Wipe(b)
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return b[:n], nil
}
