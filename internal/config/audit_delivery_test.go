package config_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"cardea/internal/config"
)

const fourDeliveries = `
[[audit.delivery]]
name = "wazuh"
type = "file"
path = "log/cardea.ndjson"
[[audit.delivery]]
name = "siem"
type = "syslog"
address = "siem.example.com:6514"
ca_file = "ca.pem"
[[audit.delivery]]
name = "hook"
type = "webhook"
format = "ocsf"
url = "https://hooks.example.com/cardea"
key_file = "hook.key"
[[audit.delivery]]
name = "archive"
type = "s3"
bucket = "cardea-logs"
region = "eu-central-1"
[audit.publish]
dir = "published"
bucket = "cardea-checkpoints"
region = "eu-central-1"
object_lock = "compliance"
object_lock_days = 1095
witness_url = "https://witness.example.com/"
witness_key_file = "hook.key"
deliveries = true
`

func deliveryFolder(t *testing.T, text string) folder {
	t.Helper()
	return newFolder(t, map[string]string{"cardea.toml": text, "ca.pem": "x", "hook.key": strings.Repeat("k", 32) + "\n", "short.key": "k"})
}

func TestDeliveriesAreCompletedByTheirType(t *testing.T) {
	f := deliveryFolder(t, fourDeliveries)
	c := mustLoad(t, f)
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	d := c.Audit.Delivery
	if d[0].Path != f.path("log/cardea.ndjson") || d[0].Format != "ndjson" || d[0].RotateKeep != 14 || d[0].Framing != "" || d[0].Filter != "all" {
		t.Errorf("file: %+v", d[0])
	}
	if d[1].Format != "rfc5424" || d[1].Framing != config.FramingOctets || d[1].EnterpriseNumber != 32473 || d[1].RotateKeep != 0 || d[1].CAFile != f.path("ca.pem") {
		t.Errorf("syslog: %+v", d[1])
	}
	if string(d[2].Key.Expose()) != strings.Repeat("k", 32) {
		t.Errorf("webhook: key of %d bytes", d[2].Key.Len())
	}
	if d[3].BatchWait.Duration != time.Minute || d[3].BatchEntries != 500 {
		t.Errorf("S3: %+v", d[3])
	}
	if p := c.Audit.Publish; !p.Enabled() || p.Dir != f.path("published") || p.Interval.Duration != 5*time.Minute || p.WitnessKey.Len() != 32 {
		t.Errorf("publish: %+v", p)
	}
	printed, err := c.Redacted()
	if err != nil || strings.Contains(printed, strings.Repeat("k", 32)) {
		t.Fatalf("the key is printed, or %v", err)
	}
	f.write(t, "again/cardea.toml", printed)
	again, err := config.Load([]string{f.path("again/cardea.toml")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if changed := config.Changed(c, again); len(changed) > 0 {
		t.Errorf("changed: %q", changed)
	}
}

func TestDeliveriesThatCannotWorkAreRefused(t *testing.T) {
	for text, want := range map[string][]string{
		"type = \"file\"": {
			`audit.delivery[0].name: "" cannot name a delivery, expected 1 to 63 of a-z, 0-9 and hyphen`, `audit.delivery[0].path: is missing; name the file to write`,
		},
		"type = \"kafka\"\nname = \"a\"": {
			`audit.delivery[0].type: "kafka" is not known, expected one of file, syslog, webhook, s3`,
		},
		"name = \"a\"\ntype = \"file\"\npath = \"x\"\nbucket = \"b\"": {
			`audit.delivery[0].bucket: has no effect on type "file"; remove it`,
		},
		"name = \"a\"\ntype = \"file\"\npath = \"x\"\nformat = \"rfc5424\"": {
			`audit.delivery[0].format: "rfc5424" is not known, expected one of ndjson, cef, leef, ocsf`,
		},
		"name = \"a\"\ntype = \"file\"\npath = \"x\"\nfilter = \"some\"\nlogs = \"x\"\nstart = \"y\"": {
			`audit.delivery[0].filter: "some" is not known, expected one of all, security, alerts`, `audit.delivery[0].logs: "x" is not known, expected one of own, all`,
			`audit.delivery[0].start: "y" is not known, expected one of beginning, now`,
		},
		"name = \"a\"\ntype = \"file\"\npath = \"x\"\nbatch_entries = -1\nstall_after = \"1s\"\nrotate_bytes = 1\nocsf_record_integrity = true": {
			`audit.delivery[0].batch_entries: -1 is out of range, expected 1 to 10000`, `audit.delivery[0].stall_after: 1s is out of range, expected 1m to 24h`,
			`audit.delivery[0].ocsf_record_integrity: has no effect on format "ndjson"; remove it`, `audit.delivery[0].rotate_bytes: 1 is out of range, expected 1048576 to 1099511627776`,
		},
		"name = \"a\"\ntype = \"syslog\"\naddress = \"siem\"": {`audit.delivery[0].address: "siem" is not an address, expected host:port such as siem.example.com:6514`},
		"name = \"a\"\ntype = \"syslog\"\naddress = \"siem.example.com:514\"\nplain_tcp = true": {
			`audit.delivery[0].plain_tcp: is for receivers on this machine, and siem.example.com:514 is another: remove it, so that TLS is used, ` +
				`or accept the danger with insecure_plain_tcp_off_loopback = true: whoever is on the path reads and changes the log`,
		},
		"name = \"a\"\ntype = \"syslog\"\naddress = \"127.0.0.1:514\"\nplain_tcp = true\nca_file = \"ca.pem\"": {
			`audit.delivery[0].ca_file: and certificate_file have no effect without TLS; remove them or the setting of plain TCP`,
		},
		"name = \"a\"\ntype = \"syslog\"\naddress = \"127.0.0.1:514\"\ncertificate_file = \"ca.pem\"": {
			`audit.delivery[0].certificate_file: and private_key_file belong together; set both or none`,
		},
		"name = \"a\"\ntype = \"webhook\"\nurl = \"http://siem.example.com/\"": {`audit.delivery[0].url: is plain HTTP to another machine: whoever is on the path reads and changes the log; use https`},
		"name = \"a\"\ntype = \"webhook\"\nurl = \"https://u:p@siem.example.com/\"\nkey_file = \"short.key\"": {
			`audit.delivery[0].url: is not a URL of a receiver, expected https://host/path without a password`,
			`audit.delivery[0].key_file: holds a key of 1 characters; make one of at least 32, such as 'openssl rand -hex 32' gives`,
		},
		"name = \"a\"\ntype = \"s3\"\nbucket = \"B\"\nprefix = \"/x\"": {
			`audit.delivery[0].bucket: "B" is not a bucket, expected 3 to 63 of a-z, 0-9, dot and hyphen`,
			`audit.delivery[0].prefix: "/x" is not a prefix, expected names of letters, digits and -_.!*'() with single slashes between them`,
			`audit.delivery[0].region: is missing; name the Region of the bucket`,
		},
		"name = \"a\"\ntype = \"file\"\npath = \"x\"\n[[audit.delivery]]\nname = \"a\"\ntype = \"file\"\npath = \"y\"": {
			`audit.delivery[1].name: "a" is taken by another delivery; each needs a name of its own`,
		},
		"name = \"a\"\ntype = \"file\"\npath = \"/x/y\"\n[[audit.delivery]]\nname = \"b\"\ntype = \"file\"\npath = \"/x/./y\"": {
			`audit.delivery[1].path: /x/./y is what delivery "a" writes to; each needs a file of its own`,
		},
	} {
		c := mustLoad(t, deliveryFolder(t, "[[audit.delivery]]\n"+text))
		wantErrors(t, c.Validate(), want...)
	}
}

func TestPublicationsThatCannotWorkAreRefused(t *testing.T) {
	for text, want := range map[string][]string{
		"interval = \"1s\"\ndeliveries = true":                                       {`audit.publish.interval: 1s is out of range, expected 10s to 24h`, `audit.publish.deliveries: has no effect: there is no [[audit.delivery]]`},
		"region = \"eu-central-1\"":                                                  {`audit.publish.bucket: is missing; prefix, region, endpoint, profile, ca_file and object_lock have no effect without it`},
		"witness_key_file = \"hook.key\"":                                            {`audit.publish.witness_url: is missing; witness_key_file and witness_ca_file have no effect without it`},
		"bucket = \"logs\"\nregion = \"eu-central-1\"\nobject_lock = \"forever\"":    {`audit.publish.object_lock: "forever" is not known, expected one of governance, compliance`},
		"bucket = \"logs\"\nregion = \"eu-central-1\"\nobject_lock = \"compliance\"": {`audit.publish.object_lock_days: 0 is out of range, expected 1 to 36500`},
		"bucket = \"logs\"\nregion = \"eu-central-1\"\nobject_lock_days = 1":         {`audit.publish.object_lock_days: has no effect without object_lock; set that or remove this`},
	} {
		c := mustLoad(t, deliveryFolder(t, "[audit.publish]\n"+text))
		wantErrors(t, c.Validate(), want...)
	}
}

func TestMissingDeliveryFilesAreTold(t *testing.T) {
	c := mustLoad(t, deliveryFolder(t, "[[audit.delivery]]\nname = \"a\"\ntype = \"webhook\"\nurl = \"https://x/\"\nkey_file = \"none\"\nca_file = \"none2\""))
	got := each(c.Validate())
	if len(got) != 2 || !strings.HasPrefix(got[0], "audit.delivery[0].key_file: ") || !strings.HasPrefix(got[1], "audit.delivery[0].ca_file: ") {
		t.Errorf("got %q", got)
	}
	if _, err := loadText(t, "[[audit.delivery]]\nnane = \"a\""); err == nil || !strings.Contains(err.Error(), "audit.delivery[0].nane: unknown key; did you mean name?") {
		t.Errorf("got %v", err)
	}
	if _, err := loadText(t, "", "CARDEA__AUDIT__DELIVERY=x"); err == nil || !strings.Contains(err.Error(), "cannot be set by the environment; set it in a file") {
		t.Errorf("got %v", err)
	}
}

func TestPlainSyslogToOthersIsWarnedOf(t *testing.T) {
	c := mustLoad(t, deliveryFolder(t, "[[audit.delivery]]\nname = \"a\"\ntype = \"syslog\"\naddress = \"siem.example.com:514\"\ninsecure_plain_tcp_off_loopback = true"))
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	if all := strings.Join(c.Warnings, "\n"); !strings.Contains(all, "audit.delivery[0].insecure_plain_tcp_off_loopback is set") {
		t.Errorf("warnings %q", all)
	}
}

// TestExampleOfDeliveriesIsValid holds the file that operators start from.
func TestExampleOfDeliveriesIsValid(t *testing.T) {
	example, err := os.ReadFile("../../deploy/siem/delivery.example.toml")
	if err != nil {
		t.Fatal(err)
	}
	f := newFolder(t, map[string]string{"siem/ca.pem": "x", "siem/node.pem": "x", "siem/node.key": "x", "siem/webhook.key": strings.Repeat("k", 64)})
	f.write(t, "cardea.toml", strings.ReplaceAll(string(example), "/etc/cardea/", f.path("")+"/"))
	c := mustLoad(t, f)
	if err := c.Validate(); err != nil || len(c.Audit.Delivery) != 4 || !c.Audit.Publish.Enabled() {
		t.Errorf("%d deliveries, %v", len(c.Audit.Delivery), err)
	}
}
