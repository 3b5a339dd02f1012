package app

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"cardea/internal/audit"
	"cardea/internal/config"
	"cardea/internal/httpd"
	"cardea/internal/kmsclient"
	"cardea/internal/siem"
	"cardea/internal/store"
)

// kmsSigningKey is the key in a KMS that signs checkpoints.
type kmsSigningKey struct {
	client *kmsclient.Client
	key    kmsclient.Key
}

// Public implements audit.RemoteKey.
func (k kmsSigningKey) Public(ctx context.Context) (ed25519.PublicKey, error) {
	return k.client.PublicEd25519(ctx, k.key)
}

// Sign implements audit.RemoteKey.
func (k kmsSigningKey) Sign(ctx context.Context, message []byte) ([]byte, error) {
	return k.client.SignEd25519(ctx, k.key, message)
}

// openSigner gives the signer of the node's log: a key in a file, or in a KMS.
func (n *Node) openSigner(ctx context.Context, cfg config.Config, o Options) (err error) {
	if !cfg.Audit.Signer.Enabled() {
		n.signer, err = LoadOrMakeSigningKey(cfg, n.log)
		return err
	}
	if n.signer, n.closeSigner, err = openKMSSigner(ctx, cfg, o); err != nil {
		return fmt.Errorf("audit.signer: %w", err)
	}
	return nil
}

// openKMSSigner gives a signer whose key is in a KMS. The first time it asks for the
// key, so that a wrong one shows at the start. A KMS that does not answer stops
// nothing: the log is signed when it does.
func openKMSSigner(ctx context.Context, cfg config.Config, o Options) (s *audit.Signer, closeClient func(), err error) {
	c := cfg.Audit.Signer
	k := kmsSigningKey{key: kmsclient.Key{ID: c.KeyID, Region: c.Region, Endpoint: c.Endpoint, FIPS: c.FIPS, Profile: c.Profile}}
	if err := k.key.Validate(); err != nil {
		return nil, nil, fmt.Errorf("kms_key_id: %w", err)
	}
	origin, err := audit.Origin(cfg.Node.Name)
	if err != nil {
		return nil, nil, fmt.Errorf("node.name: %w", err)
	}
	recorded, err := os.ReadFile(c.PublicKeyFile)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, nil, fmt.Errorf("public_key_file: %w", err)
	}
	// Its metrics would be those of the keys that protect data.
	k.client, err = kmsclient.New(kmsclient.Options{RootCAFile: cfg.Keys.KMSCAFile, CredentialsFile: o.KMSCredentialsFile, Now: o.Now, Logger: o.Logger})
	if err != nil {
		return nil, nil, fmt.Errorf("keys.kms_ca_file: %w", err)
	}
	s, err = audit.NewRemoteSigner(audit.RemoteOptions{
		Origin: origin, Key: k, Verifier: strings.TrimSpace(string(recorded)),
		Record: func(verifier string) error { return recordVerifier(c.PublicKeyFile, verifier, o.Logger) },
	})
	if err != nil {
		k.client.Close()
		return nil, nil, fmt.Errorf("public_key_file: %s: %w", c.PublicKeyFile, err)
	}
	if len(recorded) > 0 {
		return s, k.client.Close, nil
	}
	switch err := s.Identify(ctx); {
	case errors.Is(err, kmsclient.ErrUnreachable), errors.Is(err, kmsclient.ErrThrottled), errors.Is(err, kmsclient.ErrDisabled):
		o.Logger.WarnContext(ctx, "the key that signs the audit log does not answer yet, the log is signed when it does", slog.Any("error", err))
	case err != nil:
		k.client.Close()
		return nil, nil, err
	}
	return s, k.client.Close, nil
}

// recordVerifier writes the public key of a key that was used for the first time, unless
// another process has just written the same.
func recordVerifier(path, verifier string, log *slog.Logger) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	err := createWhole(path, []byte(verifier+"\n"), 0o644)
	if errors.Is(err, fs.ErrExist) {
		if there, rerr := os.ReadFile(path); rerr != nil || strings.TrimSpace(string(there)) != verifier {
			return errors.Join(err, rerr)
		}
		return nil
	}
	if err != nil {
		return err
	}
	log.Info("audit signing key in KMS recorded: give the public one to whoever verifies the log",
		slog.String("file", path), slog.String("verifier", verifier))
	return nil
}

// signingReadiness tells of a signing key that does not answer. That is no reason to
// be unready: entries are durable without it.
func (n *Node) signingReadiness(prefix string) []httpd.Check {
	if !n.signer.Remote() {
		return nil
	}
	c := httpd.Check{Name: prefix + "audit_signing", State: httpd.Working}
	if t := n.store.SigningTrouble(); t != nil {
		c.Detail = notSigned(t)
	}
	return []httpd.Check{c}
}

func notSigned(t *store.SigningTrouble) string {
	return fmt.Sprintf("not signed since %s: %v", t.Since.UTC().Format(time.RFC3339), t.Err)
}

const (
	// signingPatience is for how long a log may be unsigned before receivers are told.
	signingPatience = time.Minute
	signingLook     = 5 * time.Second
)

// watchSigning tells receivers of logs that are not being signed, until ctx ends.
func (a *App) watchSigning(ctx context.Context) {
	if a.delivery == nil {
		return
	}
	tick := time.NewTicker(signingLook)
	defer tick.Stop()
	for {
		for _, n := range a.nodes() {
			n.judgeSigning(ctx, a.delivery.pumps)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// judgeSigning raises and resolves the finding of a log that is not being signed.
func (n *Node) judgeSigning(ctx context.Context, to findings) {
	origin := n.signer.Origin()
	t := n.store.SigningTrouble()
	switch {
	case t == nil:
		to.Resolve(ctx, siem.CheckSigning, origin, origin+" is signed again")
	case n.now().Sub(t.Since) >= signingPatience:
		to.Raise(ctx, siem.Finding{
			Check: siem.CheckSigning, Subject: origin, Since: t.Since, Message: fmt.Sprintf("%s is %s", origin, notSigned(t)),
			Next: "see whether the signing key can be used, and that it is the one that was recorded; entries are kept meanwhile, and the next checkpoint covers them",
		})
	}
}

// findings is where failures of logging are told: siem.Delivery.
type findings interface {
	Raise(ctx context.Context, f siem.Finding)
	Resolve(ctx context.Context, check, subject, message string)
}
