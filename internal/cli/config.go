package cli

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"cardea/internal/app"
	"cardea/internal/config"
)

type configCommands struct {
	Check configCheckCommand `cmd:"" help:"Validate the configuration and tell all that is wrong with it."`
}

type configCheckCommand struct {
	configFlag
	Print bool `help:"Print the effective configuration, without secrets."`
}

// Help implements kong.HelpProvider.
func (configCheckCommand) Help() string {
	return "Examples:\n  cardea config check --config cardea.toml\n  cardea config check --config cardea.toml --print\n\n" +
		"It looks at files, and at no network: that the database answers and addresses are free shows at the start."
}

func (c configCheckCommand) Run(p *Process) error {
	cfg, err := c.load(p)
	if err != nil {
		return err
	}
	warnings := cfg.Warnings
	var errs []error
	for _, l := range []struct {
		key string
		tls config.TLS
	}{{"vault.tls", cfg.Vault.TLS}, {"key_service.tls", cfg.KeyService.TLS}, {"ops.tls", cfg.Ops.TLS}} {
		w, err := checkTLS(l.key, l.tls, p.Now())
		warnings, errs = append(warnings, w...), append(errs, err)
	}
	errs = append(errs, checkDatabaseTLS("database", cfg.Database), checkDatabaseTLS("key_service.database", cfg.KeyService.Database))
	if cfg.Detect.Enabled() {
		_, _, err := app.ReadDetectionFiles(cfg.Detect)
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, w := range warnings {
		fmt.Fprintln(p.Stderr, "warning:", w)
	}
	if c.Print {
		text, err := cfg.Redacted()
		if err != nil {
			return err
		}
		_, err = io.WriteString(p.Stdout, text)
		return err
	}
	names := slices.Sorted(maps.Keys(cfg.Tenants))
	serves := ""
	if cfg.Vault.Listen != "" {
		serves += ", tenants: " + orNone(strings.Join(names, ", "))
	}
	if cfg.KeyService.Enabled() {
		serves += ", key service: " + strings.Join(cfg.KeyService.Regions, ", ")
	}
	_, err = fmt.Fprintf(p.Stdout, "configuration is valid: node %s%s\n", cfg.Node.Name, serves)
	return err
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// soon is how long before its end a certificate is worth a warning.
const soon = 30 * 24 * time.Hour

// checkTLS tells what a listener would refuse at its start.
func checkTLS(key string, t config.TLS, now time.Time) (warnings []string, err error) {
	if !t.Enabled() {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(t.CertificateFile, t.PrivateKeyFile)
	if err != nil {
		return nil, fmt.Errorf("%s.certificate_file: %s with %s: %w", key, t.CertificateFile, t.PrivateKeyFile, err)
	}
	switch leaf := pair.Leaf; {
	case now.After(leaf.NotAfter), now.Before(leaf.NotBefore):
		warnings = append(warnings, fmt.Sprintf("%s.certificate_file: %s is valid from %s to %s, not now: clients will refuse it",
			key, t.CertificateFile, leaf.NotBefore.Format(time.DateOnly), leaf.NotAfter.Format(time.DateOnly)))
	case leaf.NotAfter.Sub(now) < soon:
		warnings = append(warnings, fmt.Sprintf("%s.certificate_file: %s ends on %s", key, t.CertificateFile, leaf.NotAfter.Format(time.DateOnly)))
	}
	if t.ClientCAFile != "" {
		err = checkAuthorities(key+".client_ca_file", t.ClientCAFile)
	}
	return warnings, err
}

func checkDatabaseTLS(key string, d config.Database) error {
	var errs []error
	if d.CAFile != "" {
		errs = append(errs, checkAuthorities(key+".ca_file", d.CAFile))
	}
	if d.ClientCertificateFile != "" {
		if _, err := tls.LoadX509KeyPair(d.ClientCertificateFile, d.ClientPrivateKeyFile); err != nil {
			errs = append(errs, fmt.Errorf("%s.client_certificate_file: %s with %s: %w", key, d.ClientCertificateFile, d.ClientPrivateKeyFile, err))
		}
	}
	return errors.Join(errs...)
}

func checkAuthorities(key, path string) error {
	pem, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	if !x509.NewCertPool().AppendCertsFromPEM(pem) {
		return fmt.Errorf("%s: %s: no certificate in it", key, path)
	}
	return nil
}
