package config

import (
	"net/url"
	"regexp"
	"strings"
)

// AuditSigner is a key in AWS KMS, or in a key service that speaks its API, that signs
// checkpoints in place of the file of Audit.SigningKeyFile.
type AuditSigner struct {
	KeyID    string `toml:"kms_key_id"` // ARN or id of a key, or ARN or name of an alias
	Region   string `toml:"region"`     // after Load also if an ARN names it
	Endpoint string `toml:"endpoint"`
	FIPS     bool   `toml:"fips"`
	Profile  string `toml:"profile"`
	// PublicKeyFile keeps the public key from the first signature on: one that is
	// another later does not sign.
	PublicKeyFile string `toml:"public_key_file" path:"true"`
}

// Enabled says whether a KMS signs.
func (s AuditSigner) Enabled() bool { return s.KeyID != "" }

var (
	aliasPattern    = regexp.MustCompile(`^alias/[A-Za-z0-9/_-]{1,250}$`)
	aliasARNPattern = regexp.MustCompile(`^arn:aws[a-z-]*:kms:([a-z0-9-]{1,32}):[0-9]{12}:alias/[A-Za-z0-9/_-]{1,250}$`)
)

// region is the one that the ARN names, empty for an id or an alias.
func (s AuditSigner) region() string {
	if m := aliasARNPattern.FindStringSubmatch(s.KeyID); m != nil {
		return m[1]
	}
	return regionOfKey(s.KeyID)
}

func (s *AuditSigner) derive(signingKeyFile string) {
	if !s.Enabled() {
		return
	}
	if s.Region == "" {
		s.Region = s.region()
	}
	if s.PublicKeyFile == "" {
		s.PublicKeyFile = strings.TrimSuffix(signingKeyFile, ".key") + "-kms.pub"
	}
}

func (s AuditSigner) validate(v *validation, vault bool) {
	const key = "audit.signer"
	switch {
	case !s.Enabled() && s != (AuditSigner{}):
		v.add(key, "has no effect without kms_key_id; set that or remove the rest")
		return
	case !s.Enabled():
		return
	case !vault:
		v.add(key, "signs the vault's log, and no vault is served; the key service's own log is signed by key_service.signing_key_file")
	}
	region := s.region()
	switch {
	case region == "" && !keyIDPattern.MatchString(s.KeyID) && !aliasPattern.MatchString(s.KeyID):
		v.add(key+".kms_key_id", "%q is neither a key's ARN or id nor an alias, expected arn:aws:kms:REGION:ACCOUNT:key/ID or alias/NAME", s.KeyID)
	case region != "" && region != s.Region:
		v.add(key+".kms_key_id", "is of Region %s, but region is %q; keep one of the two", region, s.Region)
	}
	if s.Region == "" {
		v.add(key+".region", "is missing; name the Region of kms_key_id, or give its ARN there")
	} else if !regionsPattern.MatchString(s.Region) {
		v.add(key+".region", "%q is not a Region, expected a name such as eu-central-1", s.Region)
	}
	if u, err := url.Parse(s.Endpoint); err == nil && u.Scheme == "http" && u.Host != "" && !isLoopback(u.Hostname()) {
		v.add(key+".endpoint", "%s is plain HTTP to another machine, where what is signed can be changed on the way; use https", s.Endpoint)
	} else {
		validateKMSEndpoint(v, key+".endpoint", s.Endpoint)
	}
	if s.FIPS && s.Endpoint != "" {
		v.add(key+".fips", "and endpoint exclude each other; name the FIPS endpoint itself in endpoint")
	}
}
