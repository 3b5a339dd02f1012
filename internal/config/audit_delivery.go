package config

import (
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"cardea/internal/secret"
)

// Delivery is a receiver of audit entries and alerts: a SIEM, a file for its agent,
// an archive. Start from DefaultDelivery. Which keys a type has, deliveryKeys says.
type Delivery struct {
	Name   string `toml:"name"`
	Type   string `toml:"type"`   // DeliveryFile …
	Format string `toml:"format"` // ndjson, rfc5424, cef, leef, ocsf
	Filter string `toml:"filter"` // all, security, alerts
	Logs   string `toml:"logs"`   // DeliveryLogsOwn, DeliveryLogsAll
	Start  string `toml:"start"`  // DeliveryStartBeginning, DeliveryStartNow

	BatchEntries int      `toml:"batch_entries"`
	BatchWait    Duration `toml:"batch_wait"`
	Timeout      Duration `toml:"timeout"`
	StallAfter   Duration `toml:"stall_after"`

	OCSFRecordIntegrity bool `toml:"ocsf_record_integrity"`

	Path        string   `toml:"path" path:"true"`
	RotateBytes int64    `toml:"rotate_bytes"`
	RotateAfter Duration `toml:"rotate_after"`
	RotateKeep  int      `toml:"rotate_keep"`
	NoSync      bool     `toml:"no_sync"`

	Address                     string `toml:"address"` // host:port
	Framing                     string `toml:"framing"` // FramingOctets, FramingNewlines
	Unconfirmed                 bool   `toml:"unconfirmed"`
	EnterpriseNumber            int    `toml:"enterprise_number"`
	PlainTCP                    bool   `toml:"plain_tcp"`                       // without TLS, to this machine
	InsecurePlainTCPOffLoopback bool   `toml:"insecure_plain_tcp_off_loopback"` // whoever is on the path reads and changes it

	URL     string `toml:"url"`
	KeyFile string `toml:"key_file" path:"true"` // signs requests

	Bucket   string `toml:"bucket"`
	Prefix   string `toml:"prefix"`
	Region   string `toml:"region"`
	Endpoint string `toml:"endpoint"`
	Profile  string `toml:"profile"`

	CAFile          string `toml:"ca_file" path:"true"`
	CertificateFile string `toml:"certificate_file" path:"true"`
	PrivateKeyFile  string `toml:"private_key_file" path:"true"`

	Key secret.Bytes `toml:"-"` // content of KeyFile, without its line end
}

// Values of the fields of Delivery.
const (
	DeliveryFile    = "file"
	DeliverySyslog  = "syslog"
	DeliveryWebhook = "webhook"
	DeliveryS3      = "s3"

	DeliveryLogsOwn = "own" // of this process and of its command line
	DeliveryLogsAll = "all" // all that are in its databases

	DeliveryStartBeginning = "beginning"
	DeliveryStartNow       = "now"

	FramingOctets   = "octet-counting"
	FramingNewlines = "newline"
)

// DefaultDelivery is a delivery of which nothing is said.
func DefaultDelivery() Delivery {
	return Delivery{
		Filter: "all", Logs: DeliveryLogsOwn, Start: DeliveryStartBeginning,
		BatchEntries: 500, Timeout: Duration{time.Minute}, StallAfter: Duration{15 * time.Minute},
		RotateBytes: 64 << 20, RotateAfter: Duration{24 * time.Hour}, RotateKeep: 14,
		Framing: FramingOctets, EnterpriseNumber: 32473,
	}
}

// Publish is where signed checkpoints of the audit logs are published.
type Publish struct {
	Interval Duration `toml:"interval"`

	Dir        string `toml:"dir" path:"true"`
	Deliveries bool   `toml:"deliveries"` // all deliveries get them too

	WitnessURL     string `toml:"witness_url"`
	WitnessKeyFile string `toml:"witness_key_file" path:"true"`
	WitnessCAFile  string `toml:"witness_ca_file" path:"true"`

	Bucket         string `toml:"bucket"`
	Prefix         string `toml:"prefix"`
	Region         string `toml:"region"`
	Endpoint       string `toml:"endpoint"`
	Profile        string `toml:"profile"`
	CAFile         string `toml:"ca_file" path:"true"`
	ObjectLock     string `toml:"object_lock"` // "", governance, compliance
	ObjectLockDays int    `toml:"object_lock_days"`

	WitnessKey secret.Bytes `toml:"-"` // content of WitnessKeyFile
}

// Enabled says whether checkpoints are published anywhere.
func (p Publish) Enabled() bool {
	return p.Dir != "" || p.Deliveries || p.WitnessURL != "" || p.Bucket != ""
}

// deliveryKeys are the keys that only some types have.
func deliveryKeys(kind string) []string {
	switch kind {
	case DeliveryFile:
		return []string{"path", "rotate_bytes", "rotate_after", "rotate_keep", "no_sync"}
	case DeliverySyslog:
		return []string{
			"address", "framing", "unconfirmed", "enterprise_number", "plain_tcp", "insecure_plain_tcp_off_loopback",
			"ca_file", "certificate_file", "private_key_file",
		}
	case DeliveryWebhook:
		return []string{"url", "key_file", "ca_file", "certificate_file", "private_key_file"}
	case DeliveryS3:
		return []string{"bucket", "prefix", "region", "endpoint", "profile", "ca_file"}
	}
	return nil
}

// commonDeliveryKeys are those of all types.
func commonDeliveryKeys() []string {
	return []string{"name", "type", "format", "filter", "logs", "start", "batch_entries", "batch_wait", "timeout", "stall_after", "ocsf_record_integrity"}
}

// derive fills in what a delivery of its type has by default.
func (d *Delivery) derive() {
	def := reflect.ValueOf(DefaultDelivery())
	v := reflect.ValueOf(d).Elem()
	mine := append(deliveryKeys(d.Type), commonDeliveryKeys()...)
	for f, fv := range v.Fields() {
		if slices.Contains(mine, key(f)) && fv.IsZero() {
			fv.Set(def.FieldByIndex(f.Index))
		}
	}
	if d.Format == "" {
		d.Format = "ndjson"
		if d.Type == DeliverySyslog {
			d.Format = "rfc5424"
		}
	}
	if d.Type == DeliveryS3 && d.BatchWait.Duration == 0 {
		d.BatchWait.Duration = time.Minute // an object costs
	}
}

func (c *Config) readDeliveryFiles() {
	for i := range c.Audit.Delivery {
		d, key := &c.Audit.Delivery[i], fmt.Sprintf("audit.delivery[%d]", i)
		d.Key = c.readLine(key+".key_file", d.KeyFile, "key")
		c.checkFile(key+".ca_file", d.CAFile, false)
		c.checkFile(key+".certificate_file", d.CertificateFile, false)
		c.checkFile(key+".private_key_file", d.PrivateKeyFile, true)
		if d.InsecurePlainTCPOffLoopback {
			c.Warnings = append(c.Warnings, key+".insecure_plain_tcp_off_loopback is set: not for cardholder data in production")
		}
	}
	p := &c.Audit.Publish
	p.WitnessKey = c.readLine("audit.publish.witness_key_file", p.WitnessKeyFile, "key")
	c.checkFile("audit.publish.witness_ca_file", p.WitnessCAFile, false)
	c.checkFile("audit.publish.ca_file", p.CAFile, false)
	c.checkFile("audit.retention.ca_file", c.Audit.Retention.CAFile, false)
}

var (
	deliveryNamePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)
	bucketPattern       = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	prefixPattern       = regexp.MustCompile(`^[A-Za-z0-9!_.*'()-]+(/[A-Za-z0-9!_.*'()-]+)*/?$`)
)

// minSigningKey is the least of a key that signs requests, in bytes: as long as
// what HMAC-SHA-256 gives (RFC 2104 section 3).
const minSigningKey = 32

func (c Config) validateDelivery(v *validation) {
	names, files := map[string]bool{}, map[string]string{}
	for i, d := range c.Audit.Delivery {
		key := fmt.Sprintf("audit.delivery[%d]", i)
		if !deliveryNamePattern.MatchString(d.Name) {
			v.add(key+".name", "%q cannot name a delivery, expected 1 to 63 of a-z, 0-9 and hyphen", d.Name)
		} else if names[d.Name] {
			v.add(key+".name", "%q is taken by another delivery; each needs a name of its own", d.Name)
		}
		names[d.Name] = true
		if path := filepath.Clean(d.Path); d.Type == DeliveryFile && d.Path != "" {
			if other, taken := files[path]; taken {
				v.add(key+".path", "%s is what delivery %q writes to; each needs a file of its own", d.Path, other)
			}
			files[path] = d.Name
		}
		d.validate(v, key)
	}
	c.Audit.Publish.validate(v, len(c.Audit.Delivery))
}

func (d Delivery) validate(v *validation, key string) {
	types := []string{DeliveryFile, DeliverySyslog, DeliveryWebhook, DeliveryS3}
	v.oneOf(key+".type", d.Type, types...)
	if !slices.Contains(types, d.Type) {
		return
	}
	if d.Type == DeliverySyslog {
		v.oneOf(key+".format", d.Format, "rfc5424", "ndjson", "cef", "leef", "ocsf")
	} else {
		v.oneOf(key+".format", d.Format, "ndjson", "cef", "leef", "ocsf") // rfc5424 is for syslog
	}
	v.oneOf(key+".filter", d.Filter, "all", "security", "alerts")
	v.oneOf(key+".logs", d.Logs, DeliveryLogsOwn, DeliveryLogsAll)
	v.oneOf(key+".start", d.Start, DeliveryStartBeginning, DeliveryStartNow)
	v.between(key+".batch_entries", int64(d.BatchEntries), 1, 10_000)
	v.durationBetween(key+".batch_wait", d.BatchWait, 0, time.Hour)
	v.durationBetween(key+".timeout", d.Timeout, time.Second, 10*time.Minute)
	v.durationBetween(key+".stall_after", d.StallAfter, time.Minute, 24*time.Hour)
	if d.OCSFRecordIntegrity && d.Format != "ocsf" {
		v.add(key+".ocsf_record_integrity", "has no effect on format %q; remove it", d.Format)
	}
	mine := append(deliveryKeys(d.Type), commonDeliveryKeys()...)
	for f, fv := range reflect.ValueOf(d).Fields() {
		if name := keyOf(f); name != "" && !slices.Contains(mine, name) && !fv.IsZero() {
			v.add(key+"."+name, "has no effect on type %q; remove it", d.Type)
		}
	}
	if (d.CertificateFile == "") != (d.PrivateKeyFile == "") {
		v.add(key+".certificate_file", "and private_key_file belong together; set both or none")
	}
	switch d.Type {
	case DeliveryFile:
		if d.Path == "" {
			v.add(key+".path", "is missing; name the file to write")
		}
		v.between(key+".rotate_bytes", d.RotateBytes, 1<<20, 1<<40)
		v.durationBetween(key+".rotate_after", d.RotateAfter, time.Minute, 366*24*time.Hour)
		v.between(key+".rotate_keep", int64(d.RotateKeep), 1, 10_000)
	case DeliverySyslog:
		d.validateSyslog(v, key)
	case DeliveryWebhook:
		validateReceiverURL(v, key+".url", d.URL)
		validateSigningKey(v, key+".key_file", d.Key)
	case DeliveryS3:
		validateBucket(v, key, d.Bucket, d.Prefix, d.Region, d.Endpoint)
	}
}

// keyOf is key, where a variable has its name.
func keyOf(f reflect.StructField) string { return key(f) }

func (d Delivery) validateSyslog(v *validation, key string) {
	v.oneOf(key+".framing", d.Framing, FramingOctets, FramingNewlines)
	v.between(key+".enterprise_number", int64(d.EnterpriseNumber), 1, 1<<31-1)
	host, port, err := net.SplitHostPort(d.Address)
	if err != nil || host == "" || port == "" || port == "0" {
		v.add(key+".address", "%q is not an address, expected host:port such as siem.example.com:6514", d.Address)
		return
	}
	plain := d.PlainTCP || d.InsecurePlainTCPOffLoopback
	switch {
	case d.PlainTCP && !d.InsecurePlainTCPOffLoopback && !isLoopbackHost(host):
		v.add(key+".plain_tcp", "is for receivers on this machine, and %s is another: remove it, so that TLS is used, "+
			"or accept the danger with insecure_plain_tcp_off_loopback = true: whoever is on the path reads and changes the log", d.Address)
	case plain && (d.CAFile != "" || d.CertificateFile != ""):
		v.add(key+".ca_file", "and certificate_file have no effect without TLS; remove them or the setting of plain TCP")
	}
}

func validateReceiverURL(v *validation, key, text string) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || u.Scheme != "https" && u.Scheme != "http":
		v.add(key, "is not a URL of a receiver, expected https://host/path without a password")
	case u.Scheme == "http" && !isLoopbackHost(u.Hostname()):
		v.add(key, "is plain HTTP to another machine: whoever is on the path reads and changes the log; use https")
	}
}

func validateSigningKey(v *validation, key string, k secret.Bytes) {
	if k.Len() > 0 && k.Len() < minSigningKey {
		v.add(key, "holds a key of %d characters; make one of at least %d, such as 'openssl rand -hex 32' gives", k.Len(), minSigningKey)
	}
}

func validateBucket(v *validation, key, bucket, prefix, region, endpoint string) {
	if !bucketPattern.MatchString(bucket) {
		v.add(key+".bucket", "%q is not a bucket, expected 3 to 63 of a-z, 0-9, dot and hyphen", bucket)
	}
	if prefix != "" && (!prefixPattern.MatchString(prefix) || len(prefix) > 512) {
		v.add(key+".prefix", "%q is not a prefix, expected names of letters, digits and -_.!*'() with single slashes between them", prefix)
	}
	if region == "" {
		v.add(key+".region", "is missing; name the Region of the bucket")
	} else if !regionsPattern.MatchString(region) {
		v.add(key+".region", "%q is not a Region, expected a name such as eu-central-1", region)
	}
	validateKMSEndpoint(v, key+".endpoint", endpoint)
}

func (p Publish) validate(v *validation, deliveries int) {
	const key = "audit.publish"
	v.durationBetween(key+".interval", p.Interval, 10*time.Second, 24*time.Hour)
	if p.Deliveries && deliveries == 0 {
		v.add(key+".deliveries", "has no effect: there is no [[audit.delivery]]")
	}
	switch {
	case p.WitnessURL != "":
		validateReceiverURL(v, key+".witness_url", p.WitnessURL)
		validateSigningKey(v, key+".witness_key_file", p.WitnessKey)
	case p.WitnessKeyFile != "" || p.WitnessCAFile != "":
		v.add(key+".witness_url", "is missing; witness_key_file and witness_ca_file have no effect without it")
	}
	if p.Bucket == "" {
		if s := strings.Join([]string{p.Prefix, p.Region, p.Endpoint, p.Profile, p.CAFile, p.ObjectLock}, ""); s != "" || p.ObjectLockDays != 0 {
			v.add(key+".bucket", "is missing; prefix, region, endpoint, profile, ca_file and object_lock have no effect without it")
		}
		return
	}
	validateBucket(v, key, p.Bucket, p.Prefix, p.Region, p.Endpoint)
	switch p.ObjectLock {
	case "":
		if p.ObjectLockDays != 0 {
			v.add(key+".object_lock_days", "has no effect without object_lock; set that or remove this")
		}
	case "governance", "compliance":
		v.between(key+".object_lock_days", int64(p.ObjectLockDays), 1, 36_500)
	default:
		v.oneOf(key+".object_lock", p.ObjectLock, "governance", "compliance")
	}
}
