package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// TenantKMS are a tenant's keys in AWS KMS, or in a key service that speaks its API.
type TenantKMS struct {
	KeyID          string       `toml:"key_id"`     // key ARN or key id
	MACKeyID       string       `toml:"mac_key_id"` // the same, of an HMAC_256 key; ModeKMS only
	PreviousKeyIDs []string     `toml:"previous_key_ids"`
	Region         string       `toml:"region"` // after Load also if an ARN names it
	Endpoint       string       `toml:"endpoint"`
	FIPS           bool         `toml:"fips"`
	Profile        string       `toml:"profile"`
	Oversize       string       `toml:"oversize"` // OversizeRefuse, OversizeEnvelope; ModeKMS only
	Replicas       []KMSReplica `toml:"replicas"`
}

// KMSReplica is a Region that has a replica of a multi-Region key.
type KMSReplica struct {
	Region   string `toml:"region"`
	Endpoint string `toml:"endpoint"`
}

// Values of TenantKMS.Oversize.
const (
	OversizeRefuse   = "refuse"
	OversizeEnvelope = "envelope"
)

// Enabled says whether the tenant has keys in a KMS.
func (k TenantKMS) Enabled() bool { return k.KeyID != "" }

var (
	keyARNPattern  = regexp.MustCompile(`^arn:aws[a-z-]*:kms:([a-z0-9-]{1,32}):[0-9]{12}:key/([A-Za-z0-9-]{1,128})$`)
	keyIDPattern   = regexp.MustCompile(`^[A-Za-z0-9-]{1,128}$`)
	regionsPattern = regexp.MustCompile(`^[a-z]{2}[a-z0-9-]{1,30}$`)
)

// regionOfKey is the Region that a key ARN names, empty for a key id.
func regionOfKey(id string) string {
	if m := keyARNPattern.FindStringSubmatch(id); m != nil {
		return m[1]
	}
	return ""
}

func (k *TenantKMS) derive() {
	if k.Oversize == "" {
		k.Oversize = OversizeRefuse
	}
	if k.Region == "" {
		k.Region = regionOfKey(k.KeyID)
	}
}

func (t Tenant) validateKMS(v *validation, key string) {
	k, inKMS := t.KMS, t.Mode == ModeKMS || t.Mode == ModeKMSEnvelope
	key += ".kms"
	if !k.Enabled() {
		if inKMS {
			v.add(key+".key_id", "is missing; mode %q needs a key in AWS KMS", t.Mode)
		} else if k.set() {
			v.add(key, "has no effect without key_id; set that or remove the rest")
		}
		return
	}
	k.validateKey(v, key+".key_id", k.KeyID)
	if k.MACKeyID != "" {
		k.validateKey(v, key+".mac_key_id", k.MACKeyID)
		if k.MACKeyID == k.KeyID {
			v.add(key+".mac_key_id", "is the same key as key_id; a KMS key either encrypts or makes MACs, expected one of spec HMAC_256")
		}
	}
	for _, p := range k.PreviousKeyIDs {
		if regionOfKey(p) == "" {
			v.add(key+".previous_key_ids", "%q is not a key's ARN, expected arn:aws:kms:REGION:ACCOUNT:key/ID", p)
		}
	}
	if k.Region == "" {
		v.add(key+".region", "is missing; name the Region of key_id, or give its ARN in key_id")
	} else if !regionsPattern.MatchString(k.Region) {
		v.add(key+".region", "%q is not a Region, expected a name such as eu-central-1", k.Region)
	}
	validateKMSEndpoint(v, key+".endpoint", k.Endpoint)
	if k.FIPS && k.Endpoint != "" {
		v.add(key+".fips", "and endpoint exclude each other; name the FIPS endpoint itself in endpoint")
	}
	if t.Mode == ModeKMS {
		v.oneOf(key+".oversize", k.Oversize, OversizeRefuse, OversizeEnvelope)
	} else if k.Oversize != OversizeRefuse {
		v.add(key+".oversize", "has no effect but in mode %q; remove it", ModeKMS)
	}
	k.validateReplicas(v, key+".replicas")
}

// set says whether anything is said of a tenant's KMS.
func (k TenantKMS) set() bool {
	return k.MACKeyID != "" || len(k.PreviousKeyIDs) > 0 || k.Region != "" || k.Endpoint != "" || k.FIPS || k.Profile != "" ||
		k.Oversize == OversizeEnvelope || len(k.Replicas) > 0
}

func (k TenantKMS) validateKey(v *validation, key, id string) {
	switch {
	case strings.HasPrefix(id, "alias/") || strings.Contains(id, ":alias/"):
		v.add(key, "%q is an alias, which may come to mean another key; name the key by its ARN", id)
	case regionOfKey(id) == "" && !keyIDPattern.MatchString(id):
		v.add(key, "%q is neither a key's ARN nor its id, expected arn:aws:kms:REGION:ACCOUNT:key/ID", id)
	case regionOfKey(id) != "" && regionOfKey(id) != k.Region:
		v.add(key, "is of Region %s, but region is %q; keep one of the two", regionOfKey(id), k.Region)
	}
}

func (k TenantKMS) validateReplicas(v *validation, key string) {
	if len(k.Replicas) > 0 && !strings.HasPrefix(k.KeyID[strings.LastIndexByte(k.KeyID, '/')+1:], "mrk-") {
		v.add(key, "only a multi-Region key has replicas, and the id of one begins with mrk-: %q does not", k.KeyID)
	}
	seen := []string{k.Region}
	for _, r := range k.Replicas {
		if !regionsPattern.MatchString(r.Region) {
			v.add(key+".region", "%q is not a Region, expected a name such as eu-central-1", r.Region)
		} else if slices.Contains(seen, r.Region) {
			v.add(key+".region", "%s is named twice", r.Region)
		}
		seen = append(seen, r.Region)
		validateKMSEndpoint(v, key+".endpoint", r.Endpoint)
	}
}

// validateKMSEndpoint: what KMS is told and answers are keys and card data in clear.
func validateKMSEndpoint(v *validation, key, endpoint string) {
	if endpoint == "" {
		return
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Path != "" && u.Path != "/" ||
		u.Scheme != "https" && u.Scheme != "http" {
		v.add(key, "is not an endpoint, expected https://host or https://host:port")
		return
	}
	if u.Scheme == "http" && !isLoopback(u.Hostname()) {
		v.add(key, "%s is plain HTTP to another machine, which would see keys and card data in clear; use https", endpoint)
	}
}

func isLoopback(host string) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.IsLoopback()
	}
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

// ExternalKeyManager is Hyperswitch's way to say that all tenants are in mode
// aws_kms: an alias of tenants.<name>.mode.
type ExternalKeyManager struct {
	Mode string `toml:"mode"` // "", "disabled", ModeKMS
}

// TenantSecret is Hyperswitch's way to name a tenant's key: an alias of
// tenants.<name>.kms.
type TenantSecret struct {
	KMSDataKey KMSDataKey `toml:"kms_data_key"`
}

// KMSDataKey is a key by id and Region.
type KMSDataKey struct {
	KeyID  string `toml:"key_id"`
	Region string `toml:"region"`
}

// applyAliases makes tenants of what is said in Hyperswitch's words.
func (c *Config) applyAliases() {
	switch c.ExternalKeyManager.Mode {
	case "", "disabled":
		if len(c.TenantSecrets) > 0 {
			c.problems = append(c.problems, problem("tenant_secrets", `has no effect without external_key_manager.mode = "aws_kms"; set that or remove this`))
		}
		return
	case ModeKMS:
	default:
		c.problems = append(c.problems, problem("external_key_manager.mode", "%q is not known, expected one of disabled, aws_kms", c.ExternalKeyManager.Mode))
		return
	}
	if len(c.TenantSecrets) == 0 {
		c.problems = append(c.problems, problem("external_key_manager.mode", "names no keys: add [tenant_secrets.NAME.kms_data_key] with key_id and region, or [tenants.NAME.kms]"))
	}
	for _, name := range sortedKeys(c.TenantSecrets) {
		if err := c.applyAlias(name, c.TenantSecrets[name].KMSDataKey); err != nil {
			c.problems = append(c.problems, err)
		}
	}
}

func (c *Config) applyAlias(name string, said KMSDataKey) error {
	t, known := c.Tenants[name]
	if !known {
		t = DefaultTenant()
	}
	key := "tenant_secrets." + name + ".kms_data_key"
	if said.KeyID == "" {
		return problem(key+".key_id", "is missing; name the tenant's KMS key")
	}
	if t.KMS.Enabled() && (t.KMS.KeyID != said.KeyID || t.KMS.Region != said.Region && said.Region != "") || t.Mode != ModeLocal && t.Mode != ModeKMS {
		return problem(key, "says something else than tenants.%s; keep one of the two", name)
	}
	t.Mode, t.KMS.KeyID = ModeKMS, said.KeyID
	if said.Region != "" {
		t.KMS.Region = said.Region
	}
	c.Tenants[name] = t
	c.Warnings = append(c.Warnings, fmt.Sprintf("%s is Hyperswitch's form: write [tenants.%s] mode = \"aws_kms\" and [tenants.%s.kms] key_id, mac_key_id", key, name, name))
	return nil
}
