package lifecycle

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"
)

func example(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile("../../deploy/key-lifecycle.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func publishedSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	f, err := os.Open("../../docs/spec/key-lifecycle.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	doc, err := jsonschema.UnmarshalJSON(f)
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("key-lifecycle.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("key-lifecycle.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// conforms asks the published schema.
func conforms(t *testing.T, s *jsonschema.Schema, text string) error {
	t.Helper()
	var v any
	if err := yaml.Load([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(doc)
}

func TestExampleIsThePublishedSchemasAndSeparatesDuties(t *testing.T) {
	t.Parallel()
	text := example(t)
	p, err := ParsePolicy([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := conforms(t, publishedSchema(t), text); err != nil {
		t.Error(err)
	}
	if len(p.Keys) != 9 || p.Keys["rds-cde"].Rotation != 90 || p.Keys["dev"].Cryptoperiod.Recipient != 3*365 || p.Keys["dev"].Spec != "SYMMETRIC_DEFAULT" {
		t.Errorf("%+v", p.Keys["dev"])
	}
	for name, c := range p.Keys {
		if _, err := c.KeyPolicy(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

const one = `version: 1
required_tags: [Environment]
approvals: {key.put-policy: 1}
keys:
  rds-prod:
    service: rds
    environment: prod
    cryptoperiod: {originator: 365d, recipient: 2y}
    rotation: 90d
    aliases: [alias/rds-prod]
    tags: {Environment: prod}
    administrators: ["arn:aws:iam::111122223333:role/admin"]
    users: ["arn:aws:iam::111122223333:user/app"]
`

func TestPolicyRefusesWhatCannotBeMeant(t *testing.T) {
	t.Parallel()
	s := publishedSchema(t)
	if _, err := ParsePolicy([]byte(one)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		old, new, want string
		schema         bool // the schema refuses it, too
	}{
		{"version: 1", "version: 2", "version: is 2: this program reads version 1", true},
		{"rotation: 90d", "rotatoin: 90d", "keys.rds-prod.rotatoin: is no member here (line 9): want one of administrators, aliases,", true},
		{"recipient: 2y}", "recipient: 2y, x: 1d}", "keys.rds-prod.cryptoperiod.x: is no member here (line 8): want one of originator, recipient", true},
		{"rotation: 90d", "rotation: 30d", "keys.rds-prod.rotation: 30d must be 90d to 2560d", false},
		{"rotation: 90d", "rotation: 2y", "keys.rds-prod.rotation: 730d is longer than the originator's cryptoperiod of 365d", false},
		{"rotation: 90d", "rotation: 90", `"90" is not a time such as 90d or 2y`, true},
		{"rotation: 90d", "rotation: 090d", `"090d" is not a time such as 90d or 2y`, true},
		{"rotation: 90d", "rotation: 90d\n    origin: EXTERNAL", "keys.rds-prod.rotation: KMS rotates only symmetric keys of origin AWS_KMS by itself: leave it out, and rotate within the cryptoperiod by 'cardea keys rotate --key-id'", false},
		{"rotation: 90d", "origin: AWS_CLOUDHSM", "keys.rds-prod.custom_key_store: must name the store of a key of origin AWS_CLOUDHSM", false},
		{"rotation: 90d", "custom_key_store: cks-1", "keys.rds-prod.custom_key_store: is for origin AWS_CLOUDHSM: leave it out, or change origin", false},
		{"rotation: 90d", "spec: RSA_1024", `keys.rds-prod.spec: "RSA_1024" is no key spec that is made here`, true},
		{"rotation: 90d", "spec: HMAC_256", `keys.rds-prod.usage: "ENCRYPT_DECRYPT" is not for a key of HMAC_256: want GENERATE_VERIFY_MAC`, false},
		{"rotation: 90d", "deletion_window: 6d", "keys.rds-prod.deletion_window: 6d must be 7d to 30d", false},
		{"rotation: 90d", "deletion_window: 31d", "keys.rds-prod.deletion_window: 31d must be 7d to 30d", false},
		{"{originator: 365d, recipient: 2y}", "{originator: 0d, recipient: 2y}", "keys.rds-prod.cryptoperiod.originator: must be given: PCI DSS 3.7.4", false},
		{"recipient: 2y", "recipient: 90d", "keys.rds-prod.cryptoperiod.recipient: 90d is shorter than the originator's 365d", false},
		{"recipient: 2y", "recipient: 5y", "keys.rds-prod.cryptoperiod.recipient: 1825d is more than 3 years above the originator's 365d", false},
		{"[alias/rds-prod]", "[alias/aws/rds]", `keys.rds-prod.aliases: "alias/aws/rds" must be alias/ and a name`, false},
		{"[alias/rds-prod]", "[]", "keys.rds-prod.aliases: name at least one", true},
		{"{Environment: prod}", "{Service: rds}", "keys.rds-prod.tags: tag Environment is required: give it a value", false},
		{"{Environment: prod}", "{Environment: prod, \"cardea:class\": x}", `keys.rds-prod.tags: "cardea:class": tags begin with neither cardea: nor aws:`, false},
		{":user/app", ":role/admin", "keys.rds-prod.users: arn:aws:iam::111122223333:role/admin is an administrator, too: who administers a key does not use it", false},
		{":user/app", ":role/*", `keys.rds-prod.users: "arn:aws:iam::111122223333:role/*" must be the ARN of one user or role, without * and ?`, true},
		{":user/app", ":root", `must be the ARN of one user or role`, true},
		{":role/admin", ":role/", `keys.rds-prod.administrators: "arn:aws:iam::111122223333:role/" must be the ARN of one user or role`, false},
		{"::111122223333:user/app", ":eu-west-1:111122223333:user/app", `keys.rds-prod.users: "arn:aws:iam:eu-west-1:111122223333:user/app" must be the ARN of one user or role`, false},
		{"    users:", "    conditions: {via_service: [RDS]}\n    users:", `keys.rds-prod.conditions.via_service: "RDS" is no service such as rds.eu-west-1.amazonaws.com`, false},
		{"    users:", "    conditions: {source_ip: [10.0.0.0]}\n    users:", `keys.rds-prod.conditions.source_ip: "10.0.0.0" is no network such as 10.0.0.0/8`, false},
		{"    users:", "    replicas: [Ireland]\n    users:", `keys.rds-prod.replicas: "Ireland" is no Region such as eu-west-1`, true},
		{"key.put-policy: 1", "key.put-policy: 0", "approvals.key.put-policy: is 0: must be 1 to 10 people besides the one who asks", true},
		{"key.put-policy: 1", "key.putpolicy: 1", "approvals.key.putpolicy: is none of key.put-policy, key.schedule-deletion, key.retire, key.compromise", true},
		{"service: rds", "service: rds\n    service: ebs", "already defined", false},
		{"service: rds", "service: &x rds", "keys.rds-prod.service: anchors and aliases are not read: write it out", false},
		{"  rds-prod:", "  RDS:", "keys.RDS: a key's name is 1 to 64 of a-z", true},
	} {
		text := strings.Replace(one, c.old, c.new, 1)
		if text == one {
			t.Fatalf("%q is not in it", c.old)
		}
		_, err := ParsePolicy([]byte(text))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", c.new, err, c.want)
		}
		if c.schema && conforms(t, s, text) == nil {
			t.Errorf("%s: the published schema lets it pass", c.new)
		}
	}
}

func FuzzParsePolicy(f *testing.F) {
	f.Add(one)
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePolicy([]byte(text))
		if err != nil {
			return
		}
		for name, c := range p.Keys { // whatever is valid separates duties
			if _, err := c.KeyPolicy(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}
