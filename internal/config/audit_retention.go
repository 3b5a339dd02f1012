package config

import (
	"strings"
	"time"
)

// AuditRetention is where a node archives its audit logs, and whether it removes from
// its database what it has archived. Start from defaultAuditRetention.
type AuditRetention struct {
	Dir string `toml:"dir" path:"true"` // a folder, or else a bucket

	Bucket     string `toml:"bucket"`
	Prefix     string `toml:"prefix"`
	Region     string `toml:"region"`
	Endpoint   string `toml:"endpoint"`
	Profile    string `toml:"profile"`
	CAFile     string `toml:"ca_file" path:"true"`
	KMSKey     string `toml:"kms_key"`     // encrypts objects
	ObjectLock string `toml:"object_lock"` // "", governance, compliance

	ArchiveAfter Duration `toml:"archive_after"` // age of entries
	Interval     Duration `toml:"interval"`
	Prune        bool     `toml:"prune"`
	AtHand       Duration `toml:"at_hand"` // younger entries are not pruned
	Kept         Duration `toml:"kept"`    // how long objects are locked
}

// Enabled says whether the node archives.
func (r AuditRetention) Enabled() bool { return r.Dir != "" || r.Bucket != "" }

const day = 24 * time.Hour

// PCI DSS 10.5.1: audit logs are kept for 12 months, three of them at hand.
const (
	minimumAtHand = 90 * day
	minimumKept   = 366 * day
)

func defaultAuditRetention() AuditRetention {
	return AuditRetention{
		ArchiveAfter: Duration{30 * day}, Interval: Duration{day}, AtHand: Duration{92 * day}, Kept: Duration{1096 * day},
	}
}

func (r AuditRetention) validate(v *validation) {
	const key = "audit.retention"
	v.durationBetween(key+".archive_after", r.ArchiveAfter, time.Hour, minimumKept)
	v.durationBetween(key+".interval", r.Interval, time.Hour, 31*day)
	v.durationBetween(key+".at_hand", r.AtHand, minimumAtHand, 100*minimumKept)
	v.durationBetween(key+".kept", r.Kept, minimumKept, 100*minimumKept)
	if r.Prune && !r.Enabled() {
		v.add(key+".prune", "needs an archive: set dir or bucket")
	}
	if r.Bucket == "" {
		if s := strings.Join([]string{r.Prefix, r.Region, r.Endpoint, r.Profile, r.CAFile, r.KMSKey, r.ObjectLock}, ""); s != "" {
			v.add(key+".bucket", "is missing; prefix, region, endpoint, profile, ca_file, kms_key and object_lock have no effect without it")
		}
		return
	}
	if r.Dir != "" {
		v.add(key+".dir", "and bucket are two archives; set one of them")
	}
	validateBucket(v, key, r.Bucket, r.Prefix, r.Region, r.Endpoint)
	if r.ObjectLock != "" {
		v.oneOf(key+".object_lock", r.ObjectLock, "governance", "compliance")
	}
}
