package app

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"cardea/internal/audit"
	"cardea/internal/config"
	"cardea/internal/disk"
	"cardea/internal/secret"
)

// LoadOrMakeSigningKey reads the key that signs checkpoints, or makes it at the
// first start. Beside it lies the public one, which is written again if it is missing.
func LoadOrMakeSigningKey(cfg config.Config, log *slog.Logger) (*audit.Signer, error) {
	path := cfg.Audit.SigningKeyFile
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeSigningKey(cfg.Node.Name, path, log); err != nil {
			return nil, fmt.Errorf("make audit signing key: %w", err)
		}
		raw, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("audit.signing_key_file: %w", err)
	}
	key := secret.New(raw)
	defer key.Destroy()
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
		log.Warn("audit signing key can be used by others than its owner: chmod 600 it",
			slog.String("file", path), slog.String("mode", fmt.Sprintf("%04o", info.Mode().Perm())))
	}
	s, err := audit.NewSigner(key)
	if err != nil {
		return nil, fmt.Errorf("audit.signing_key_file: %s: %w", path, err)
	}
	if want, err := audit.Origin(cfg.Node.Name); err != nil {
		return nil, fmt.Errorf("node.name: %w", err)
	} else if s.Origin() != want {
		return nil, fmt.Errorf("audit.signing_key_file: %s signs for %s, but this node is %s: each node has a key of its own", path, s.Origin(), want)
	}
	// A process that was killed as it made the key has not written it. Where keys are
	// mounted to be read only, somebody else hands the public one out.
	if err := createWhole(path+".pub", []byte(s.Verifier()+"\n"), 0o644); err != nil && !errors.Is(err, fs.ErrExist) {
		log.Warn("public key of the audit log not written beside the signing key", slog.String("verifier", s.Verifier()), slog.Any("error", err))
	}
	return s, nil
}

// makeSigningKey makes the key, unless another process is faster.
func makeSigningKey(node, path string, log *slog.Logger) error {
	origin, err := audit.Origin(node)
	if err != nil {
		return fmt.Errorf("node.name: %w", err)
	}
	key, verifier, err := audit.GenerateSigningKey(origin)
	if err != nil {
		return err
	}
	defer key.Destroy()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	line := append(key.Expose(), '\n')
	defer clear(line)
	if err := createWhole(path, line, 0o600); errors.Is(err, fs.ErrExist) {
		return nil
	} else if err != nil {
		return err
	}
	log.Info("audit signing key made: give the public one to whoever verifies the log",
		slog.String("file", path), slog.String("verifier", verifier))
	return nil
}

// createWhole makes a file that is durable and whole as soon as it has its name, also
// if the process is killed meanwhile. If there is one of that name it returns
// fs.ErrExist.
func createWhole(path string, content []byte, mode fs.FileMode) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%s: %w", path, fs.ErrExist)
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // it lies about at most
	_, err = f.Write(content)
	if err := errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil { // unlike a rename it replaces nothing
		return err
	}
	return disk.SyncDir(dir)
}
