package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cardea/internal/audit"
	"cardea/internal/config"
	"cardea/internal/store"
)

// StoreOptions are what OpenStore needs besides the configuration.
type StoreOptions struct {
	Logger   *slog.Logger
	Now      func() time.Time
	Metrics  prometheus.Registerer
	Signer   *audit.Signer
	Signed   func(note []byte) // as store.Options
	ReadOnly bool              // beside a running node
	Node     string            // another audit log than the node's own, for the command line
}

// OpenStore opens the database that cfg names.
func OpenStore(ctx context.Context, cfg config.Config, o StoreOptions) (*store.Store, error) {
	opts := store.Options{
		Node: cfg.Node.Name, Logger: o.Logger, Now: o.Now, Metrics: o.Metrics, Signer: o.Signer, Signed: o.Signed,
		CheckpointInterval: cfg.Audit.CheckpointInterval.Duration, MaxBatch: cfg.Database.MaxBatch, ReadOnly: o.ReadOnly,
	}
	if o.Node != "" {
		opts.Node = o.Node
	}
	if path := cfg.SQLitePath(); path != "" {
		opts.URL = "sqlite:" + path
		return store.Open(ctx, opts)
	}
	var err error
	if opts.TLS, err = databaseTLS(cfg.Database); err != nil {
		return nil, err
	}
	opts.URL = cfg.Database.URL
	opts.ReadConns = max(1, cfg.Database.MaxConnections-1) // one connection writes
	opts.Password, opts.StatementTimeout = cfg.Database.Password, cfg.Database.StatementTimeout.Duration
	return store.Open(ctx, opts)
}

// databaseTLS is nil where nothing leaves the machine or the operator said so.
func databaseTLS(d config.Database) (*tls.Config, error) {
	if d.TLS == config.DatabaseTLSInsecureDisable || d.TLS == "" {
		return nil, nil //nolint:nilnil // no TLS is a configuration, not an error
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12} // the store adds the name of each host
	if d.CAFile != "" {
		pem, err := os.ReadFile(d.CAFile)
		if err != nil {
			return nil, fmt.Errorf("database.ca_file: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("database.ca_file: %s holds no certificate", d.CAFile)
		}
	}
	if d.ClientCertificateFile != "" {
		c, err := tls.LoadX509KeyPair(d.ClientCertificateFile, d.ClientPrivateKeyFile)
		if err != nil {
			return nil, fmt.Errorf("database.client_certificate_file: %w", err)
		}
		t.Certificates = []tls.Certificate{c}
	}
	if d.TLS == config.DatabaseTLSVerifyCA {
		verifyCAOnly(t)
	}
	return t, nil
}

// verifyCAOnly checks the chain but not the host name, which crypto/tls only does
// by own verification.
func verifyCAOnly(t *tls.Config) {
	t.InsecureSkipVerify = true
	t.VerifyConnection = func(cs tls.ConnectionState) error {
		if len(cs.PeerCertificates) == 0 {
			return errors.New("database server has no certificate")
		}
		o := x509.VerifyOptions{Roots: t.RootCAs, Intermediates: x509.NewCertPool()}
		for _, c := range cs.PeerCertificates[1:] {
			o.Intermediates.AddCert(c)
		}
		_, err := cs.PeerCertificates[0].Verify(o)
		return err
	}
}
