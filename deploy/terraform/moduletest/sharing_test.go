package moduletest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zclconf/go-cty/cty"

	"cardea/internal/iam"
)

// shared is the policy of a key of RDS that is shared as the module says.
func shared(t *testing.T, shares string) *iam.Policy {
	t.Helper()
	sharing := plan(t, "cross-account", "account_id = \"111122223333\"\nregions = [\"us-east-1\"]\norganization_id = \"o-a1b2c3d4e5\"\n"+shares)
	m, err := Load(modules + "/key-policy")
	if err != nil {
		t.Fatal(err)
	}
	values := inputs(t, common+"users = [\""+app+"\"]\nvia_services = [\"rds\"]")
	values["additional_statements_json"], values["shared_account_ids"] = sharing.Outputs["statements_json"], sharing.Outputs["account_ids"]
	p, err := m.Evaluate(values)
	if err != nil {
		t.Fatal(err)
	}
	return p.output(t, iam.KeyPolicy, "json")
}

func TestOnlyListedRolesOfListedAccountsUseASharedKey(t *testing.T) {
	t.Parallel()
	const backup = "arn:aws:iam::777788889999:role/backup"
	policy := shared(t, `shares = {
  recovery = { account_id = "444455556666", principals = ["`+restore+`"], purpose = "restore", via_services = ["rds"], expires = "2027-01-31T00:00:00Z" }
  vaulting = { account_id = "777788889999", principals = ["`+backup+`"], purpose = "backup", via_services = ["backup", "rds"], encryption_context = { plan = ["daily"] } }
}`)
	member := map[string]iam.Value{"aws:PrincipalOrgID": iam.String("o-a1b2c3d4e5")}
	other := map[string]iam.Value{"aws:PrincipalOrgID": iam.String("o-zzzzzzzzzz")}
	daily := map[string]string{"plan": "daily"}
	resource := map[string]iam.Value{"kms:GrantIsForAWSResource": iam.Bool(true)}
	for what, c := range map[string]struct {
		call call
		want bool
	}{
		"restores":                             {call{who: session(restore, without), action: "Decrypt", via: "rds", with: member}, true},
		"restores too late":                    {call{who: session(restore, without), action: "Decrypt", via: "rds", with: member, at: time.Date(2027, 2, 1, 0, 0, 0, 0, time.UTC)}, false},
		"restores through another service":     {call{who: session(restore, without), action: "Decrypt", via: "ec2", with: member}, false},
		"restores without a service":           {call{who: session(restore, without), action: "Decrypt", with: member}, false},
		"restores, account has left":           {call{who: session(restore, without), action: "Decrypt", via: "rds", with: other}, false},
		"restores, no organisation":            {call{who: session(restore, without), action: "Decrypt", via: "rds"}, false},
		"who restores encrypts":                {call{who: session(restore, without), action: "GenerateDataKey", via: "rds", with: member}, false},
		"who restores grants":                  {call{who: session(restore, without), action: "CreateGrant", via: "rds", with: resource}, false},
		"who restores administers":             {call{who: session(restore, 0), action: "PutKeyPolicy"}, false},
		"who restores describes":               {call{who: session(restore, without), action: "DescribeKey"}, true},
		"another role of the account":          {call{who: session("arn:aws:iam::444455556666:role/x", 0), action: "Decrypt", via: "rds", with: member}, false},
		"its root user":                        {call{who: rootUser("444455556666", true), action: "Decrypt", via: "rds", with: member}, false},
		"an account that is not listed":        {call{who: session("arn:aws:iam::000011112222:role/restore", 0), action: "Decrypt", via: "rds", with: member}, false},
		"backs up":                             {call{who: session(backup, without), action: "GenerateDataKey", via: "backup", context: daily, with: member}, true},
		"backs up, another plan":               {call{who: session(backup, without), action: "GenerateDataKey", via: "backup", context: map[string]string{"plan": "x"}, with: member}, false},
		"grants to a resource":                 {call{who: session(backup, without), action: "CreateGrant", via: "rds", with: resource}, true},
		"grants to somebody":                   {call{who: session(backup, without), action: "CreateGrant", via: "rds"}, false},
		"the owner's application, as before":   {call{who: session(app, without), action: "Decrypt", via: "rds"}, true},
		"the owner's administrators, likewise": {call{who: session(keyAdmin, 0), action: "PutKeyPolicy"}, true},
	} {
		if got := c.call.may(policy, anybody(t)); got != c.want {
			t.Errorf("%s: %v, want %v", what, got, c.want)
		}
		if c.want && c.call.who.Account != Account && c.call.may(policy) {
			t.Errorf("%s: without an identity policy of its own account", what)
		}
	}
	if shared(t, "shares = {}").Document().Statements == nil {
		t.Error("no statements without shares")
	}
}

func TestSharingRefuses(t *testing.T) {
	t.Parallel()
	m, err := Load(modules + "/cross-account")
	if err != nil {
		t.Fatal(err)
	}
	share := func(change string) string {
		s := `shares = { a = { account_id = "444455556666", principals = ["` + restore + `"], purpose = "restore", via_services = ["rds"], expires = "2027-01-31T00:00:00Z" } }`
		from, to, _ := strings.Cut(change, "→")
		if changed := strings.Replace(s, from, to, 1); changed != s || from == to {
			return changed
		}
		t.Fatalf("%q changes nothing", change)
		return ""
	}
	for change, want := range map[string]string{
		"444455556666→111122223333":                     "account_id of a share must be the 12 digits of another account.",
		"444455556666→*":                                "account_id of a share must be the 12 digits of another account.",
		"role/restore→role/*":                           "principals of a share must be ARNs of roles of its account, without wildcards: never a whole account.",
		"iam::444455556666:role→iam::777788889999:role": "principals of a share must be ARNs of roles of its account, without wildcards: never a whole account.",
		":role/restore→:root":                           "principals of a share must be ARNs of roles of its account, without wildcards: never a whole account.",
		`"restore", via→"all", via`:                     "purpose of a share must be backup or restore.",
		`["rds"]→[]`:                                    "via_services of a share must name at least one service, such as backup or rds.",
		"2027-01-31T00:00:00Z→in a year":                "expires of a share must be a moment in UTC such as 2027-01-31T00:00:00Z.",
	} {
		_, err := m.Evaluate(inputs(t, "account_id = \"111122223333\"\nregions = [\"us-east-1\"]\n"+share(change)))
		refused(t, change, err, want)
	}
	_, err = m.Evaluate(inputs(t, "account_id = \"111122223333\"\nregions = []\nshares = {}"))
	refused(t, "no Region", err, "regions must not be empty.")
	_, err = m.Evaluate(inputs(t, "account_id = \"111122223333\"\nregions = [\"us-east-1\"]\nshares = {}\norganization_id = \"ours\""))
	refused(t, "an organisation", err, "organization_id must be as o-abcdefghij.")
}

// vaultOf is what the vault of the example may do with a tenant's keys: both the key's
// policy and the role's own must allow it, and the role's is its boundary too.
func (p *Plan) vaultMay(t *testing.T, key string, c call) bool {
	t.Helper()
	own := p.policy(t, iam.IdentityPolicy, "module.vault_role[0].aws_iam_policy.vault", "policy")
	c.on = p.attr(t, key, "arn").AsString()
	return iam.Decide(c.query(), &iam.Policies{
		Resource: p.policy(t, iam.KeyPolicy, key, "policy"), Identity: []iam.NamedPolicy{{Name: "vault", Policy: own}}, Boundary: own,
	}).Allowed
}

func keyAddress(name string) string { return `module.service_keys.aws_kms_key.this["` + name + `"]` }

// Of all actions of KMS the vault may those that its mode needs, on its tenant's key,
// for its tenant, through the endpoint; on all other keys nothing.
func TestVaultCanDoExactlyWhatItNeeds(t *testing.T) {
	t.Parallel()
	p := examplePlan(t)
	endpoint := p.attr(t, "module.vpc_endpoint[0].aws_vpc_endpoint.kms", "id").AsString()
	through := map[string]iam.Value{"aws:SourceVpce": iam.String(endpoint), "kms:MacAlgorithm": iam.String("HMAC_SHA_256")}
	vault := session(vaultRole, without)
	for _, c := range []struct {
		key     string
		context map[string]string
		with    map[string]iam.Value
		may     string
	}{
		{"vault-shop", map[string]string{"tenant": "shop", "purpose": "card-key"}, through, "Decrypt DescribeKey GenerateDataKey"},
		{"vault-market", map[string]string{"tenant": "market", "purpose": "record"}, through, "Decrypt DescribeKey Encrypt"},
		{"vault-market-mac", nil, through, "DescribeKey GenerateMac"},
		{"vault-shop", map[string]string{"tenant": "market", "purpose": "card-key"}, through, "DescribeKey"},
		{"vault-shop", map[string]string{"tenant": "shop"}, through, "DescribeKey"},
		{"vault-shop", nil, through, "DescribeKey"},
		{"vault-market", map[string]string{"tenant": "shop", "purpose": "record"}, through, "DescribeKey"},
		{"vault-shop", map[string]string{"tenant": "shop", "purpose": "card-key"}, from("10.0.0.1"), "DescribeKey"},
		{"vault-market-mac", nil, from("10.0.0.1"), "DescribeKey"},
		{"vault-market-mac", nil, map[string]iam.Value{"aws:SourceVpce": iam.String(endpoint), "kms:MacAlgorithm": iam.String("HMAC_SHA_512")}, "DescribeKey"},
		{"rds", map[string]string{"tenant": "shop", "purpose": "card-key"}, through, ""},
		{"files", map[string]string{"tenant": "shop", "purpose": "card-key"}, through, ""},
		{"secrets", nil, through, ""},
	} {
		var may []string
		for _, action := range keyActions() {
			if p.vaultMay(t, keyAddress(c.key), call{who: vault, action: action, context: c.context, with: c.with}) {
				may = append(may, action)
			}
		}
		if got := strings.Join(may, " "); got != c.may {
			t.Errorf("%s, context %v: the vault may %q, want %q", c.key, c.context, got, c.may)
		}
	}
}

// The key's policy alone, or the role's alone, is not enough, and nobody else gets in.
func TestNobodyButTheVaultOpensItsKeys(t *testing.T) {
	t.Parallel()
	p := examplePlan(t)
	key := p.policy(t, iam.KeyPolicy, keyAddress("vault-shop"), "policy")
	endpoint := p.attr(t, "module.vpc_endpoint[0].aws_vpc_endpoint.kms", "id").AsString()
	c := call{action: "Decrypt", context: map[string]string{"tenant": "shop", "purpose": "card-key"}, with: map[string]iam.Value{"aws:SourceVpce": iam.String(endpoint)}}
	if c.who = session(vaultRole, without); c.may(key) {
		t.Error("the vault, without an identity policy")
	}
	if !c.may(key, anybody(t)) {
		t.Error("the vault is denied")
	}
	// Even if its own policy said otherwise.
	for _, context := range []map[string]string{{"tenant": "market", "purpose": "card-key"}, {"tenant": "shop"}, nil} {
		if (call{who: c.who, action: "Decrypt", context: context, with: c.with}).may(key, anybody(t)) {
			t.Errorf("the vault, with the context %v", context)
		}
	}
	for _, who := range []iam.Caller{
		session(keyAdmin, 0), session(terraform, 0), session(app, 0), session(exporter, 0), session(stranger, 0), session(restore, 0), rootUser(Account, true),
		session("arn:aws:iam::444455556666:role/cardea-vault-cde", 0), service("rds.amazonaws.com"),
	} {
		if c.who = who; c.may(key, anybody(t)) {
			t.Errorf("%s opens what the vault sealed", who.Name())
		}
	}
}

func TestVaultRoleByMode(t *testing.T) {
	t.Parallel()
	const key, mac, old = testKey, "arn:aws:kms:us-east-1:111122223333:key/mac", "arn:aws:kms:us-east-1:111122223333:key/old"
	for tenant, want := range map[string]map[string]string{
		`key_arn = "` + key + `"`:                                                                          {key: "Decrypt DescribeKey GenerateDataKey"},
		`key_arn = "` + key + `", previous_key_arns = ["` + old + `"]`:                                     {key: "Decrypt DescribeKey GenerateDataKey", old: "Decrypt"},
		`key_arn = "` + key + `", previous_key_arns = ["` + old + `"], reencrypt = true`:                   {key: "Decrypt DescribeKey GenerateDataKey ReEncryptFrom ReEncryptTo", old: "Decrypt ReEncryptFrom"},
		`mode = "aws_kms", key_arn = "` + key + `"`:                                                        {key: "Decrypt DescribeKey Encrypt GenerateDataKey"},
		`mode = "aws_kms", key_arn = "` + key + `", mac_key_arn = "` + mac + `"`:                           {key: "Decrypt DescribeKey Encrypt", mac: "DescribeKey GenerateMac"},
		`mode = "aws_kms", key_arn = "` + key + `", mac_key_arn = "` + mac + `", oversize_envelope = true`: {key: "Decrypt DescribeKey Encrypt GenerateDataKey", mac: "DescribeKey GenerateMac"},
	} {
		own := plan(t, "vault-role", "account_id = \"111122223333\"\ntrusted_services = [\"ec2.amazonaws.com\"]\ntenants = { shop = { "+tenant+" } }").output(t, iam.IdentityPolicy, "policy_json")
		open := parse(t, iam.KeyPolicy, `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"`+Account+`"},"Action":"kms:*","Resource":"*"}}`)
		for _, on := range []string{key, mac, old} {
			var may []string
			for _, action := range keyActions() {
				c := call{
					who: session(vaultRole, without), action: action, on: on, context: map[string]string{"tenant": "shop", "purpose": "record"},
					with: map[string]iam.Value{"kms:MacAlgorithm": iam.String("HMAC_SHA_256")},
				}
				if c.may(open, own) {
					may = append(may, action)
				}
			}
			if got := strings.Join(may, " "); got != want[on] {
				t.Errorf("%s: on %s %q, want %q", tenant, on, got, want[on])
			}
		}
	}
}

func TestOnlyItsMachinesTakeTheVaultRole(t *testing.T) {
	t.Parallel()
	trust := plan(t, "vault-role", `
account_id       = "111122223333"
trusted_services = ["ec2.amazonaws.com", "ecs-tasks.amazonaws.com"]
oidc             = { provider_arn = "arn:aws:iam::111122223333:oidc-provider/oidc.example.com", issuer = "oidc.example.com", subject = "system:serviceaccount:cde:vault" }
tenants          = { shop = { key_arn = "`+testKey+`" } }
`).output(t, iam.TrustPolicy, "trust_json")
	const provider = "arn:aws:iam::111122223333:oidc-provider/oidc.example.com"
	token := func(sub string) map[string]iam.Value {
		return map[string]iam.Value{"oidc.example.com:sub": iam.String(sub), "oidc.example.com:aud": iam.String("sts.amazonaws.com")}
	}
	account := func(id string) map[string]iam.Value { return map[string]iam.Value{"aws:SourceAccount": iam.String(id)} }
	for what, c := range map[string]struct {
		call call
		want bool
	}{
		"EC2":                     {call{who: service("ec2.amazonaws.com"), action: "sts:AssumeRole"}, true},
		"ECS for us":              {call{who: service("ecs-tasks.amazonaws.com"), action: "sts:AssumeRole", with: account(Account)}, true},
		"ECS for others":          {call{who: service("ecs-tasks.amazonaws.com"), action: "sts:AssumeRole", with: account("444455556666")}, false},
		"Lambda":                  {call{who: service("lambda.amazonaws.com"), action: "sts:AssumeRole", with: account(Account)}, false},
		"the vault's pod":         {call{who: iam.Caller{Type: iam.CallerProvider, Provider: provider}, action: "sts:AssumeRoleWithWebIdentity", with: token("system:serviceaccount:cde:vault")}, true},
		"another pod":             {call{who: iam.Caller{Type: iam.CallerProvider, Provider: provider}, action: "sts:AssumeRoleWithWebIdentity", with: token("system:serviceaccount:cde:web")}, false},
		"a person of the account": {call{who: session(keyAdmin, 0), action: "sts:AssumeRole"}, false},
		"the root user":           {call{who: rootUser(Account, true), action: "sts:AssumeRole"}, false},
	} {
		c.call.on = vaultRole
		if got := c.call.may(trust, anybody(t)); got != c.want {
			t.Errorf("%s: %v, want %v", what, got, c.want)
		}
	}
}

func TestVaultRoleRefuses(t *testing.T) {
	t.Parallel()
	m, err := Load(modules + "/vault-role")
	if err != nil {
		t.Fatal(err)
	}
	const fine = "account_id = \"111122223333\"\ntrusted_services = [\"ec2.amazonaws.com\"]\ntenants = { shop = { key_arn = \"" + testKey + "\" } }\n"
	for input, want := range map[string]string{
		`tenants = {}`: "tenants must not be empty, and their names have no wildcards or variables.",
		`tenants = { "*" = { key_arn = "` + testKey + `" } }`:                              "tenants must not be empty, and their names have no wildcards or variables.",
		`tenants = { shop = { mode = "local", key_arn = "` + testKey + `" } }`:             "mode of a tenant must be aws_kms or aws_kms_envelope: with the others the vault asks no KMS.",
		`tenants = { shop = { key_arn = "` + testKey + `", oversize_envelope = true } }`:   "mac_key_arn and oversize_envelope are for the mode aws_kms.",
		`tenants = { shop = { key_arn = "arn:aws:kms:us-east-1:111122223333:alias/x" } }`:  "Keys of a tenant must be key ARNs: not aliases, which may come to mean another key, and no wildcards.",
		`tenants = { shop = { key_arn = "*" } }`:                                           "Keys of a tenant must be key ARNs: not aliases, which may come to mean another key, and no wildcards.",
		`trusted_services = ["*"]`:                                                         "trusted_services must be ec2.amazonaws.com, ecs-tasks.amazonaws.com or pods.eks.amazonaws.com.",
		`trusted_services = []`:                                                            "Give trusted_services or oidc: else nobody can take the role.",
		`max_session_seconds = 60`:                                                         "max_session_seconds must be 3600 to 43200.",
		`name = "a b"`:                                                                     "name must be 1 to 64 letters, digits and +=,.@_-.",
		`account_id = "1"`:                                                                 "account_id must be 12 digits.",
		`oidc = { provider_arn = "a", issuer = "i", subject = "system:serviceaccount:*" }`: "oidc needs one subject without wildcards, and the issuer without https://.",
	} {
		values := inputs(t, fine)
		for name, v := range inputs(t, input) {
			values[name] = v
		}
		_, err := m.Evaluate(values)
		refused(t, input, err, want)
	}
}

// Both Regions' services are named, so that a replica's policy is the primary's.
func TestReplicasHaveThePolicyOfTheirPrimaries(t *testing.T) {
	t.Parallel()
	p := examplePlan(t)
	for _, name := range []string{"rds", "vault-shop", "vault-market"} {
		replica := `module.replicas.aws_kms_replica_key.this["` + name + `"]`
		if p.attr(t, replica, "policy").AsString() != p.attr(t, keyAddress(name), "policy").AsString() {
			t.Errorf("%s: the replica's policy differs", name)
		}
		if p.attr(t, replica, "primary_key_arn") != p.attr(t, keyAddress(name), "arn") || !p.attr(t, keyAddress(name), "multi_region").True() {
			t.Errorf("%s: not a replica of its primary", name)
		}
		for _, tag := range []string{"Environment", "PCIScope", "Service"} {
			if !slices.Contains(tagNames(p.attr(t, replica, "tags")), tag) {
				t.Errorf("%s: the replica lacks the tag %s", name, tag)
			}
		}
	}
	policy := p.policy(t, iam.KeyPolicy, keyAddress("rds"), "policy")
	there := call{who: session(app, without), action: "Decrypt", with: map[string]iam.Value{"kms:ViaService": iam.String("rds.eu-west-1.amazonaws.com"), "aws:ViaAWSService": iam.Bool(true), "aws:SourceVpce": {}}}
	if !there.may(policy) {
		t.Error("RDS in the other Region is denied")
	}
	if there.with["kms:ViaService"] = iam.String("rds.ap-south-1.amazonaws.com"); there.may(policy) {
		t.Error("RDS in a third Region is allowed")
	}
}

func tagNames(v cty.Value) (names []string) {
	for name := range v.AsValueMap() {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
