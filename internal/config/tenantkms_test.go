package config_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"cardea/internal/config"
)

const (
	kmsKey  = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	kmsHMAC = "arn:aws:kms:eu-central-1:111122223333:key/aaaaaaaa-12ab-34cd-56ef-1234567890ab"
	kmsMRK  = "arn:aws:kms:eu-central-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab"
)

// inKMS is a valid configuration whose tenant jwe is in a mode of KMS.
func inKMS(t *testing.T, change func(*config.Config, *config.Tenant)) config.Config {
	t.Helper()
	c := valid(t)
	x := c.Tenants["jwe"]
	x.Mode, x.KMS.KeyID, x.KMS.MACKeyID = config.ModeKMS, kmsKey, kmsHMAC
	if change != nil {
		change(&c, &x)
	}
	c.Tenants["jwe"] = x
	c.Derive("host")
	return c
}

func TestKeysInKMSAreAccepted(t *testing.T) {
	for name, change := range map[string]func(*config.Config, *config.Tenant){
		"by ARN":   nil,
		"envelope": func(_ *config.Config, t *config.Tenant) { t.Mode, t.KMS.MACKeyID = config.ModeKMSEnvelope, "" },
		"by id": func(_ *config.Config, t *config.Tenant) {
			t.KMS.KeyID, t.KMS.MACKeyID, t.KMS.Region = "1234abcd-12ab-34cd-56ef-1234567890ab", "mrk-1234abcd12ab34cd56ef1234567890ab", "eu-central-1"
		},
		"all of it": func(_ *config.Config, t *config.Tenant) {
			t.KMS = config.TenantKMS{
				KeyID: kmsMRK, MACKeyID: kmsHMAC, PreviousKeyIDs: []string{kmsKey}, Endpoint: "https://kms.example:8443/", Profile: "vault", Oversize: "envelope",
				Replicas: []config.KMSReplica{{Region: "eu-west-1", Endpoint: "http://127.0.0.1:4599"}},
			}
		},
		"other partition": func(_ *config.Config, t *config.Tenant) {
			t.KMS.KeyID, t.KMS.MACKeyID = strings.Replace(kmsKey, "arn:aws:", "arn:aws-us-gov:", 1), ""
		},
		"rows of KMS in local": func(_ *config.Config, t *config.Tenant) { t.Mode = config.ModeLocal },
		"no grace":             func(c *config.Config, _ *config.Tenant) { c.Keys.KMSGrace = config.Duration{} },
	} {
		if err := inKMS(t, change).Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := inKMS(t, nil).Tenants["jwe"].KMS.Region; got != "eu-central-1" {
		t.Errorf("the ARN's Region is %q", got)
	}
}

func TestKeysInKMSAreRefused(t *testing.T) {
	kms := func(f func(*config.TenantKMS)) func(*config.Config, *config.Tenant) {
		return func(_ *config.Config, t *config.Tenant) { f(&t.KMS) }
	}
	for name, tc := range map[string]struct {
		change func(*config.Config, *config.Tenant)
		want   []string
	}{
		"no key":         {func(_ *config.Config, t *config.Tenant) { t.KMS = config.TenantKMS{} }, []string{`tenants.jwe.kms.key_id: is missing; mode "aws_kms" needs a key in AWS KMS`}},
		"the rest alone": {func(_ *config.Config, t *config.Tenant) { t.Mode, t.KMS.KeyID = config.ModeLocal, "" }, []string{"tenants.jwe.kms: has no effect without key_id; set that or remove the rest"}},
		"alias":          {kms(func(k *config.TenantKMS) { k.KeyID, k.Region = "alias/cards", "eu-central-1" }), []string{`tenants.jwe.kms.key_id: "alias/cards" is an alias, which may come to mean another key; name the key by its ARN`}},
		"not a key":      {kms(func(k *config.TenantKMS) { k.KeyID, k.Region = "arn:aws:s3:::cards", "eu-central-1" }), []string{`tenants.jwe.kms.key_id: "arn:aws:s3:::cards" is neither a key's ARN nor its id, expected arn:aws:kms:REGION:ACCOUNT:key/ID`}},
		"other Region":   {kms(func(k *config.TenantKMS) { k.Region, k.MACKeyID = "eu-west-1", "" }), []string{`tenants.jwe.kms.key_id: is of Region eu-central-1, but region is "eu-west-1"; keep one of the two`}},
		"no Region":      {kms(func(k *config.TenantKMS) { k.KeyID, k.MACKeyID = "1234abcd-12ab-34cd-56ef-1234567890ab", "" }), []string{"tenants.jwe.kms.region: is missing; name the Region of key_id, or give its ARN in key_id"}},
		"odd Region": {kms(func(k *config.TenantKMS) {
			k.KeyID, k.MACKeyID, k.Region = "1234abcd-12ab-34cd-56ef-1234567890ab", "", "Frankfurt"
		}), []string{`tenants.jwe.kms.region: "Frankfurt" is not a Region, expected a name such as eu-central-1`}},
		"one key for both":       {kms(func(k *config.TenantKMS) { k.MACKeyID = k.KeyID }), []string{"tenants.jwe.kms.mac_key_id: is the same key as key_id; a KMS key either encrypts or makes MACs, expected one of spec HMAC_256"}},
		"previous by id":         {kms(func(k *config.TenantKMS) { k.PreviousKeyIDs = []string{"1234abcd"} }), []string{`tenants.jwe.kms.previous_key_ids: "1234abcd" is not a key's ARN, expected arn:aws:kms:REGION:ACCOUNT:key/ID`}},
		"endpoint":               {kms(func(k *config.TenantKMS) { k.Endpoint = "kms.example" }), []string{"tenants.jwe.kms.endpoint: is not an endpoint, expected https://host or https://host:port"}},
		"endpoint, secret":       {kms(func(k *config.TenantKMS) { k.Endpoint = "https://u:canary@kms.example" }), []string{"tenants.jwe.kms.endpoint: is not an endpoint, expected https://host or https://host:port"}},
		"plain endpoint":         {kms(func(k *config.TenantKMS) { k.Endpoint = "http://kms.example" }), []string{"tenants.jwe.kms.endpoint: http://kms.example is plain HTTP to another machine, which would see keys and card data in clear; use https"}},
		"FIPS, endpoint":         {kms(func(k *config.TenantKMS) { k.FIPS, k.Endpoint = true, "https://kms.example" }), []string{"tenants.jwe.kms.fips: and endpoint exclude each other; name the FIPS endpoint itself in endpoint"}},
		"oversize":               {kms(func(k *config.TenantKMS) { k.Oversize = "split" }), []string{`tenants.jwe.kms.oversize: "split" is not known, expected one of refuse, envelope`}},
		"oversize in envelope":   {func(_ *config.Config, t *config.Tenant) { t.Mode, t.KMS.Oversize = config.ModeKMSEnvelope, "envelope" }, []string{`tenants.jwe.kms.oversize: has no effect but in mode "aws_kms"; remove it`}},
		"replicas of one Region": {kms(func(k *config.TenantKMS) { k.Replicas = []config.KMSReplica{{Region: "eu-west-1"}} }), []string{`tenants.jwe.kms.replicas: only a multi-Region key has replicas, and the id of one begins with mrk-: "` + kmsKey + `" does not`}},
		"replicas": {kms(func(k *config.TenantKMS) {
			k.KeyID, k.Replicas = kmsMRK, []config.KMSReplica{{Region: "eu-central-1"}, {Region: "x"}, {Region: "eu-west-1", Endpoint: "ftp://x"}}
		}), []string{
			"tenants.jwe.kms.replicas.region: eu-central-1 is named twice", `tenants.jwe.kms.replicas.region: "x" is not a Region, expected a name such as eu-central-1`,
			"tenants.jwe.kms.replicas.endpoint: is not an endpoint, expected https://host or https://host:port",
		}},
		"grace": {func(c *config.Config, _ *config.Tenant) {
			c.Keys.KMSGrace = config.Duration{Duration: 61 * time.Minute}
		}, []string{"keys.kms_grace: 1h1m0s is out of range, expected 0s to 1h"}},
	} {
		t.Run(name, func(t *testing.T) { wantErrors(t, inKMS(t, tc.change).Validate(), tc.want...) })
	}
}

// TestHyperswitchsFormIsTakenAsItIs: the configuration of the proposal that this
// mode comes from.
func TestHyperswitchsFormIsTakenAsItIs(t *testing.T) {
	const proposal = `
[external_key_manager]
mode = "aws_kms"
[tenant_secrets.public.kms_data_key]
key_id = "1234abcd-12ab-34cd-56ef-1234567890ab"
region = "eu-central-1"
`
	c := mustLoad(t, newFolder(t, map[string]string{"cardea.toml": proposal}))
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	p := c.Tenants["public"]
	if p.Mode != config.ModeKMS || p.KMS.KeyID != "1234abcd-12ab-34cd-56ef-1234567890ab" || p.KMS.Region != "eu-central-1" || p.Envelope != config.EnvelopePlain {
		t.Errorf("tenant %+v", p)
	}
	for _, want := range []string{
		`tenant_secrets.public.kms_data_key is Hyperswitch's form: write [tenants.public] mode = "aws_kms" and [tenants.public.kms] key_id, mac_key_id`,
		"tenants.public.kms.mac_key_id is not set: the keys of dedupe values and fingerprints are made and wrapped by KMS but used in this process; with a KMS key of spec HMAC_256 they stay in KMS",
	} {
		if !slices.Contains(c.Warnings, want) {
			t.Errorf("no warning %q in %q", want, c.Warnings)
		}
	}
	c = mustLoad(t, newFolder(t, map[string]string{"cardea.toml": proposal + "[tenants.public]\nlazy_holders = false\nkms.mac_key_id = \"" + kmsHMAC + "\"\n"}))
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	if p := c.Tenants["public"]; p.LazyHolders || p.KMS.MACKeyID != kmsHMAC || p.Mode != config.ModeKMS {
		t.Errorf("tenant %+v", p)
	}
	for text, want := range map[string]string{
		strings.Replace(proposal, `"aws_kms"`, `"enabled"`, 1):                                  `external_key_manager.mode: "enabled" is not known, expected one of disabled, aws_kms`,
		strings.Replace(proposal, `"aws_kms"`, `"disabled"`, 1):                                 `tenant_secrets: has no effect without external_key_manager.mode = "aws_kms"; set that or remove this`,
		"[external_key_manager]\nmode = \"aws_kms\"\n":                                          "external_key_manager.mode: names no keys: add [tenant_secrets.NAME.kms_data_key] with key_id and region, or [tenants.NAME.kms]",
		proposal + "[tenants.public]\nmode = \"aws_kms_envelope\"\n":                            "tenant_secrets.public.kms_data_key: says something else than tenants.public; keep one of the two",
		proposal + "[tenants.public.kms]\nkey_id = \"" + kmsKey + "\"\n":                        "tenant_secrets.public.kms_data_key: says something else than tenants.public; keep one of the two",
		strings.Replace(proposal, "key_id = \"1234abcd-12ab-34cd-56ef-1234567890ab\"\n", "", 1): "tenant_secrets.public.kms_data_key.key_id: is missing; name the tenant's KMS key",
	} {
		c := mustLoad(t, newFolder(t, map[string]string{"cardea.toml": text}))
		if err := c.Validate(); err == nil || !slices.Contains(strings.Split(err.Error(), "\n"), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestWhatHasNamesOfItsOwnIsNotSetByTheEnvironment(t *testing.T) {
	for name, want := range map[string]string{
		"CARDEA__TENANT_SECRETS__ACME__KMS_DATA_KEY__KEY_ID": "tenant_secrets can be set in files only",
		"CARDEA__KEY_SERVICE__CLUSTERS__ONE__LIBRARY":        "clusters can be set in files only",
	} {
		if _, err := config.Load(nil, []string{name + "=x"}); err == nil || err.Error() != name+": "+want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
