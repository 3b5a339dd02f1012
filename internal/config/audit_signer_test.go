package config_test

import (
	"strings"
	"testing"

	"cardea/internal/config"
)

func signerInKMS(t *testing.T, change func(*config.Config, *config.AuditSigner)) config.Config {
	t.Helper()
	c := valid(t)
	c.Audit.Signer.KeyID = kmsKey
	if change != nil {
		change(&c, &c.Audit.Signer)
	}
	c.Derive("host")
	return c
}

func TestSignerInKMSIsAccepted(t *testing.T) {
	t.Parallel()
	const alias = "arn:aws:kms:eu-central-1:111122223333:alias/audit/node-1"
	for name, change := range map[string]func(*config.Config, *config.AuditSigner){
		"by ARN":       nil,
		"by alias ARN": func(_ *config.Config, s *config.AuditSigner) { s.KeyID = alias },
		"by alias":     func(_ *config.Config, s *config.AuditSigner) { s.KeyID, s.Region = "alias/audit", "eu-central-1" },
		"by id": func(_ *config.Config, s *config.AuditSigner) {
			s.KeyID, s.Region = "1234abcd-12ab-34cd-56ef-1234567890ab", "eu-central-1"
		},
		"elsewhere": func(_ *config.Config, s *config.AuditSigner) {
			s.Endpoint, s.Profile = "https://kms.example:8443", "audit"
		},
		"on loopback":   func(_ *config.Config, s *config.AuditSigner) { s.Endpoint = "http://127.0.0.1:4599" },
		"FIPS":          func(_ *config.Config, s *config.AuditSigner) { s.FIPS = true },
		"file of yours": func(_ *config.Config, s *config.AuditSigner) { s.PublicKeyFile = "/etc/cardea/audit.pub" },
	} {
		c := signerInKMS(t, change)
		if err := c.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if c.Audit.Signer.Region != "eu-central-1" {
			t.Errorf("%s: Region %q", name, c.Audit.Signer.Region)
		}
		if c.ForKeyService().Audit.Signer.Enabled() {
			t.Errorf("%s: the key service's own log is to be signed in a KMS", name)
		}
	}
	c := signerInKMS(t, func(c *config.Config, _ *config.AuditSigner) {
		c.Audit.SigningKeyFile = "/var/lib/cardea/audit-signing.key"
	})
	if got, want := c.Audit.Signer.PublicKeyFile, "/var/lib/cardea/audit-signing-kms.pub"; got != want {
		t.Errorf("public key file %q, want %q", got, want)
	}
}

func TestSignerInKMSIsRefused(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*config.Config, *config.AuditSigner){
		"audit.signer: has no effect without kms_key_id; set that or remove the rest": func(_ *config.Config, s *config.AuditSigner) {
			s.KeyID, s.Profile = "", "audit"
		},
		"audit.signer: signs the vault's log, and no vault is served": func(c *config.Config, _ *config.AuditSigner) { c.Vault.Listen = "" },
		`audit.signer.kms_key_id: "alias/a b" is neither a key's ARN or id nor an alias, expected`: func(_ *config.Config, s *config.AuditSigner) {
			s.KeyID, s.Region = "alias/a b", "eu-central-1"
		},
		`audit.signer.kms_key_id: "arn:aws:iam::1:role/x" is neither`: func(_ *config.Config, s *config.AuditSigner) {
			s.KeyID, s.Region = "arn:aws:iam::1:role/x", "eu-central-1"
		},
		`audit.signer.kms_key_id: is of Region eu-central-1, but region is "eu-west-1"; keep one of the two`: func(_ *config.Config, s *config.AuditSigner) { s.Region = "eu-west-1" },
		"audit.signer.region: is missing; name the Region of kms_key_id":                                     func(_ *config.Config, s *config.AuditSigner) { s.KeyID = "alias/audit" },
		`audit.signer.region: "Frankfurt" is not a Region`: func(_ *config.Config, s *config.AuditSigner) {
			s.KeyID, s.Region = "alias/audit", "Frankfurt"
		},
		"audit.signer.endpoint: http://kms.example is plain HTTP to another machine, where what is signed can be changed": func(_ *config.Config, s *config.AuditSigner) {
			s.Endpoint = "http://kms.example"
		},
		"audit.signer.endpoint: is not an endpoint, expected https://host": func(_ *config.Config, s *config.AuditSigner) { s.Endpoint = "kms.example" },
		"audit.signer.fips: and endpoint exclude each other":               func(_ *config.Config, s *config.AuditSigner) { s.FIPS, s.Endpoint = true, "https://kms.example" },
	} {
		if err := signerInKMS(t, change).Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
