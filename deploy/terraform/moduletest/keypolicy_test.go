package moduletest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"cardea/internal/iam"
)

// common are the inputs of most tests of the module.
const common = `
account_id     = "111122223333"
regions        = ["us-east-1"]
administrators = ["` + keyAdmin + `"]
provisioners   = ["` + terraform + `"]
`

func TestServiceKeyIsUsedOnlyThroughItsServices(t *testing.T) {
	t.Parallel()
	policy := plan(t, "key-policy", common+`
users                    = ["`+app+`"]
via_services             = ["rds"]
grants_for_aws_resources = true
`).output(t, iam.KeyPolicy, "json")
	user := session(app, without)
	for _, c := range []struct {
		what string
		call call
		want bool
	}{
		{"through RDS", call{who: user, action: "Decrypt", via: "rds"}, true},
		{"through S3", call{who: user, action: "Decrypt", via: "s3"}, false},
		{"directly", call{who: user, action: "Decrypt"}, false},
		{"describe, directly", call{who: user, action: "DescribeKey"}, true},
		{"a grant for a resource of RDS", call{who: user, action: "CreateGrant", via: "rds", with: map[string]iam.Value{"kms:GrantIsForAWSResource": iam.Bool(true)}}, true},
		{"a grant for a person, through RDS", call{who: user, action: "CreateGrant", via: "rds", with: map[string]iam.Value{"kms:GrantIsForAWSResource": iam.Bool(false)}}, false},
		{"a grant, directly", call{who: user, action: "CreateGrant", with: map[string]iam.Value{"kms:GrantIsForAWSResource": iam.Bool(true)}}, false},
		{"without TLS", call{who: user, action: "Decrypt", via: "rds", with: map[string]iam.Value{"aws:SecureTransport": iam.Bool(false)}}, false},
		{"somebody else", call{who: session(stranger, 0), action: "Decrypt", via: "rds"}, false},
		{"a role of that name in another account", call{who: session("arn:aws:iam::444455556666:role/app", 0), action: "Decrypt", via: "rds"}, false},
		{"the service for itself", call{who: service("rds.amazonaws.com"), action: "Decrypt"}, false},
	} {
		// Identity policies that allow everything change nothing.
		for _, own := range [][]*iam.Policy{nil, {anybody(t)}} {
			if got := c.call.may(policy, own...); got != c.want {
				t.Errorf("%s, with %d policies of his own: %v, want %v", c.what, len(own), got, c.want)
			}
		}
	}
}

// Of all actions that KMS has, administrators may those that administer, with a second
// factor, and none that uses the key; users the reverse.
func TestAdministratorsCannotUseAndUsersCannotAdminister(t *testing.T) {
	t.Parallel()
	policy := plan(t, "key-policy", common+`
users         = ["`+app+`"]
allowed_cidrs = ["10.0.0.0/8"]
`).output(t, iam.KeyPolicy, "json")
	everything := anybody(t)
	administers := []string{
		"CancelKeyDeletion", "CreateAlias", "DeleteAlias", "DeleteImportedKeyMaterial", "DescribeKey", "DisableKey", "DisableKeyRotation", "EnableKey", "EnableKeyRotation",
		"GetKeyPolicy", "GetKeyRotationStatus", "GetParametersForImport", "ImportKeyMaterial", "ListGrants", "ListKeyPolicies", "ListKeyRotations", "ListResourceTags",
		"PutKeyPolicy", "ReplicateKey", "RevokeGrant", "RotateKeyOnDemand", "ScheduleKeyDeletion", "TagResource", "UntagResource", "UpdateAlias", "UpdateKeyDescription",
		"UpdatePrimaryRegion",
	}
	provisions := []string{
		"CreateAlias", "DeleteAlias", "DescribeKey", "EnableKey", "EnableKeyRotation", "GetKeyPolicy", "GetKeyRotationStatus", "ListGrants", "ListKeyPolicies",
		"ListKeyRotations", "ListResourceTags", "PutKeyPolicy", "ReplicateKey", "TagResource", "UntagResource", "UpdateAlias", "UpdateKeyDescription",
	}
	uses := []string{"Decrypt", "DescribeKey", "Encrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "ReEncryptFrom", "ReEncryptTo"}
	recovers := []string{"CancelKeyDeletion", "DescribeKey", "EnableKey", "GetKeyPolicy", "PutKeyPolicy"}
	for who, want := range map[string]struct {
		caller iam.Caller
		may    []string
	}{
		"administrator":                         {session(keyAdmin, time.Minute), administers},
		"administrator without a second factor": {session(keyAdmin, without), nil},
		"administrator whose factor is old":     {session(keyAdmin, 2*time.Hour), nil},
		"Terraform":                             {session(terraform, without), provisions},
		"Terraform with a second factor":        {session(terraform, 0), provisions},
		"user":                                  {session(app, without), uses},
		"user with a second factor":             {session(app, 0), uses},
		"stranger":                              {session(stranger, 0), nil},
		"root user":                             {rootUser(Account, false), nil},
		"root user with a second factor":        {rootUser(Account, true), recovers},
		"root user of another account":          {rootUser("444455556666", true), nil},
		"nobody":                                {iam.Caller{}, nil},
	} {
		var may []string
		for _, action := range keyActions() {
			c := call{who: want.caller, action: action, with: from("10.1.2.3")}
			if c.may(policy, everything) {
				may = append(may, action)
			}
		}
		slices.Sort(want.may)
		if !slices.Equal(may, want.may) {
			t.Errorf("%s may %v, want %v", who, may, want.may)
		}
	}
}

func TestUseIsDeniedFromOutside(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		inputs string
		where  map[string]iam.Value
		want   bool
	}{
		{`vpc_endpoint_ids = ["` + endpoint + `"]`, nil, true},
		{`vpc_endpoint_ids = ["` + endpoint + `"]`, map[string]iam.Value{"aws:SourceVpce": iam.String("vpce-ffffffffffffffff0")}, false},
		{`vpc_endpoint_ids = ["` + endpoint + `"]`, from("10.1.2.3"), false},
		{`allowed_cidrs = ["10.0.0.0/8"]`, from("10.1.2.3"), true},
		{`allowed_cidrs = ["10.0.0.0/8"]`, from("203.0.113.9"), false},
		{`allowed_cidrs = ["10.0.0.0/8"]`, nil, false}, // through an endpoint that is not listed
		{"vpc_endpoint_ids = [\"" + endpoint + "\"]\nallowed_cidrs = [\"10.0.0.0/8\"]", from("10.1.2.3"), true},
		{"vpc_endpoint_ids = [\"" + endpoint + "\"]\nallowed_cidrs = [\"10.0.0.0/8\"]", nil, true},
		{"vpc_endpoint_ids = [\"" + endpoint + "\"]\nallowed_cidrs = [\"10.0.0.0/8\"]", from("203.0.113.9"), false},
	} {
		policy := plan(t, "key-policy", common+"users = [\""+app+"\"]\n"+c.inputs).output(t, iam.KeyPolicy, "json")
		for _, own := range [][]*iam.Policy{nil, {anybody(t)}} {
			if got := (call{who: session(app, 0), action: "Decrypt", with: c.where}).may(policy, own...); got != c.want {
				t.Errorf("%s from %v: %v, want %v", c.inputs, c.where, got, c.want)
			}
		}
	}
}

func TestAdministrationIsDeniedFromOutside(t *testing.T) {
	t.Parallel()
	policy := plan(t, "key-policy", common+`administrator_cidrs = ["192.0.2.0/24"]`).output(t, iam.KeyPolicy, "json")
	for address, want := range map[string]bool{"192.0.2.7": true, "198.51.100.7": false} {
		for _, who := range []iam.Caller{session(keyAdmin, 0), session(terraform, without)} {
			if got := (call{who: who, action: "PutKeyPolicy", with: from(address)}).may(policy); got != want {
				t.Errorf("%s from %s: %v, want %v", who.ARN, address, got, want)
			}
		}
	}
}

// A grant, or a statement that is added, cannot allow what is denied.
func TestDenialsHoldAgainstGrantsAndAdditionalStatements(t *testing.T) {
	t.Parallel()
	policy := plan(t, "key-policy", common+`
users                      = ["`+app+`"]
vpc_endpoint_ids           = ["`+endpoint+`"]
encryption_context         = { tenant = ["shop"] }
deletion_window_in_days    = 14
additional_statements_json = "[{\"Effect\":\"Allow\",\"Principal\":{\"AWS\":\"*\"},\"Action\":\"kms:*\",\"Resource\":\"*\"}]"
`).output(t, iam.KeyPolicy, "json")
	admin, shop := session(keyAdmin, 0), map[string]string{"tenant": "shop"}
	number := func(key string, n int64) map[string]iam.Value { return map[string]iam.Value{key: iam.Number(n)} }
	for what, c := range map[string]struct {
		call call
		want bool
	}{
		"what the statement allows":        {call{who: session(stranger, 0), action: "Decrypt", context: shop}, true},
		"another account":                  {call{who: session(restore, 0), action: "Decrypt", context: shop}, false},
		"an administrator uses":            {call{who: admin, action: "Decrypt", context: shop}, false},
		"an administrator grants":          {call{who: admin, action: "CreateGrant", with: map[string]iam.Value{"kms:GrantIsForAWSResource": iam.Bool(true)}}, false},
		"anybody grants to anybody":        {call{who: session(stranger, 0), action: "CreateGrant", with: map[string]iam.Value{"kms:GrantIsForAWSResource": iam.Bool(false)}}, false},
		"anybody grants, nothing said":     {call{who: session(stranger, 0), action: "CreateGrant"}, false},
		"a user puts a policy":             {call{who: session(app, 0), action: "PutKeyPolicy"}, false},
		"a user ends the key":              {call{who: session(app, 0), action: "ScheduleKeyDeletion"}, false},
		"lockout check bypassed":           {call{who: admin, action: "PutKeyPolicy", with: map[string]iam.Value{"kms:BypassPolicyLockoutSafetyCheck": iam.Bool(true)}}, false},
		"lockout check made":               {call{who: admin, action: "PutKeyPolicy", with: map[string]iam.Value{"kms:BypassPolicyLockoutSafetyCheck": iam.Bool(false)}}, true},
		"lockout check bypassed, a copy":   {call{who: admin, action: "ReplicateKey", with: map[string]iam.Value{"kms:BypassPolicyLockoutSafetyCheck": iam.Bool(true)}}, false},
		"deletion with a second factor":    {call{who: admin, action: "ScheduleKeyDeletion", with: number("kms:ScheduleKeyDeletionPendingWindowInDays", 14)}, true},
		"deletion, nothing said":           {call{who: admin, action: "ScheduleKeyDeletion"}, true},
		"deletion in haste":                {call{who: admin, action: "ScheduleKeyDeletion", with: number("kms:ScheduleKeyDeletionPendingWindowInDays", 13)}, false},
		"deletion without a second factor": {call{who: session(keyAdmin, without), action: "ScheduleKeyDeletion"}, false},
		"long-term keys have no factor":    {call{who: iam.Caller{Type: iam.CallerUser, ARN: "arn:aws:iam::" + Account + ":user/a", Account: Account, ID: "AIDAEXAMPLE"}, action: "DisableKey"}, false},
		"rotation each year":               {call{who: admin, action: "EnableKeyRotation", with: number("kms:RotationPeriodInDays", 365)}, true},
		"rotation each 366 days":           {call{who: admin, action: "EnableKeyRotation", with: number("kms:RotationPeriodInDays", 366)}, false},
		"another tenant":                   {call{who: session(app, 0), action: "Decrypt", context: map[string]string{"tenant": "market"}}, false},
		"no tenant":                        {call{who: session(app, 0), action: "Decrypt"}, false},
		"through another endpoint":         {call{who: session(app, 0), action: "Decrypt", context: shop, with: map[string]iam.Value{"aws:SourceVpce": iam.String("vpce-f")}}, false},
	} {
		p := iam.Policies{Resource: policy, Grant: &iam.GrantMatch{ID: "g", ToSession: true}, Identity: []iam.NamedPolicy{{Name: "all", Policy: anybody(t)}}}
		if v := iam.Decide(c.call.query(), &p); v.Allowed != c.want {
			t.Errorf("%s: %v, want %v", what, v, c.want)
		}
	}
}

// With two pairs each must be right: one that is right does not excuse the other.
func TestEachPairOfTheEncryptionContextCounts(t *testing.T) {
	t.Parallel()
	policy := plan(t, "key-policy", common+`
users                   = ["`+app+`"]
vpc_endpoint_ids        = ["`+endpoint+`"]
encryption_context      = { tenant = ["shop", "market"], purpose = ["record"] }
encryption_context_keys = ["holder"]
`).output(t, iam.KeyPolicy, "json")
	for want, contexts := range map[bool][]map[string]string{
		true: {{"tenant": "shop", "purpose": "record", "holder": "h"}, {"tenant": "market", "purpose": "record", "holder": "h", "more": "m"}},
		false: {
			{"tenant": "shop", "purpose": "backup", "holder": "h"},
			{"tenant": "bank", "purpose": "record", "holder": "h"},
			{"tenant": "shop", "purpose": "record"},
			{"tenant": "shop", "holder": "h"},
			{},
		},
	} {
		for _, c := range contexts {
			if got := (call{who: session(app, 0), action: "GenerateDataKey", context: c}).may(policy); got != want {
				t.Errorf("context %v: %v, want %v", c, got, want)
			}
		}
	}
}

func TestUsersWithoutIdentityPolicyGetNothingWhereTheyNeedOne(t *testing.T) {
	t.Parallel()
	policy := plan(t, "key-policy", common+`
users                      = ["`+app+`"]
users_need_identity_policy = true
vpc_endpoint_ids           = ["`+endpoint+`"]
`).output(t, iam.KeyPolicy, "json")
	for _, c := range []struct {
		who  iam.Caller
		own  []*iam.Policy
		want bool
	}{
		{session(app, 0), nil, false},
		{session(app, 0), []*iam.Policy{anybody(t)}, true},
		{session(stranger, 0), []*iam.Policy{anybody(t)}, false},
		{rootUser(Account, true), nil, false},
	} {
		if got := (call{who: c.who, action: "Decrypt"}).may(policy, c.own...); got != c.want {
			t.Errorf("%s with %d policies: %v, want %v", c.who.Name(), len(c.own), got, c.want)
		}
	}
}

// Whoever creates a key with such a policy must keep control of it: KMS checks that.
func TestPolicyPassesTheLockoutCheckOfItsAdministrators(t *testing.T) {
	t.Parallel()
	policy := plan(t, "key-policy", common).output(t, iam.KeyPolicy, "json")
	for _, c := range []struct {
		who  iam.Caller
		want bool
	}{{session(keyAdmin, 0), true}, {session(keyAdmin, without), false}, {session(terraform, without), true}, {session(stranger, 0), false}} {
		q := call{who: c.who, action: "CreateKey"}.query()
		if v := iam.KeepsControl(q, policy); v.Allowed != c.want {
			t.Errorf("%s, second factor %v: %v, want %v", c.who.ARN, c.who.MFA, v, c.want)
		}
	}
}

func TestKeyPolicyRefuses(t *testing.T) {
	t.Parallel()
	m, err := Load(modules + "/key-policy")
	if err != nil {
		t.Fatal(err)
	}
	for input, want := range map[string]string{
		`account_id = "1111"`:    "account_id must be 12 digits.",
		`account_id = null`:      `variable "account_id" is required`,
		`regions = []`:           "regions must be one or more names such as us-east-1.",
		`administrators = []`:    "administrators must be one or more ARNs of roles or users, without wildcards.",
		`administrators = ["*"]`: "administrators must be one or more ARNs of roles or users, without wildcards.",
		`administrators = ["arn:aws:iam::111122223333:root"]`:    "administrators must be one or more ARNs of roles or users, without wildcards.",
		`users = ["arn:aws:iam::111122223333:role/*"]`:           "users must be ARNs of roles or users, without wildcards.",
		`users = ["` + keyAdmin + `"]`:                           "users must not be administrators or provisioners: those who administer a key do not use it (PCI DSS 7.2.2).",
		`users = ["` + terraform + `"]`:                          "users must not be administrators or provisioners: those who administer a key do not use it (PCI DSS 7.2.2).",
		`users = ["` + app + `"]`:                                "users who call KMS themselves need vpc_endpoint_ids or allowed_cidrs: say from where.",
		`use_actions = ["Encrypt*"]`:                             "use_actions must be cryptographic operations of KMS, each by its full name: no wildcards, nothing that administers.",
		`use_actions = ["PutKeyPolicy"]`:                         "use_actions must be cryptographic operations of KMS, each by its full name: no wildcards, nothing that administers.",
		`via_services = ["rds.amazonaws.com"]`:                   "via_services must be names of services such as rds or secretsmanager, without Region and domain.",
		`grants_for_aws_resources = true`:                        "grants_for_aws_resources needs via_services: the services that may make grants.",
		`encryption_context = { tenant = ["*"] }`:                "encryption_context must list at least one value a name, without wildcards or variables.",
		`encryption_context = { tenant = [] }`:                   "encryption_context must list at least one value a name, without wildcards or variables.",
		`allowed_cidrs = ["0.0.0.0/0"]`:                          "allowed_cidrs must be IPv4 networks such as 10.0.0.0/8, and not all of them.",
		`allowed_cidrs = ["10.0.0.0/33"]`:                        "allowed_cidrs must be IPv4 networks such as 10.0.0.0/8, and not all of them.",
		`administrator_cidrs = ["here"]`:                         "administrator_cidrs must be IPv4 networks such as 10.0.0.0/8, and not all of them.",
		`mfa_max_age_seconds = 60`:                               "mfa_max_age_seconds must be 900 to 43200.",
		`deletion_window_in_days = 6`:                            "deletion_window_in_days must be 7 to 30.",
		`deletion_window_in_days = 31`:                           "deletion_window_in_days must be 7 to 30.",
		`max_rotation_period_in_days = 89`:                       "max_rotation_period_in_days must be 90 to 2560.",
		`max_rotation_period_in_days = 2561`:                     "max_rotation_period_in_days must be 90 to 2560.",
		`shared_account_ids = ["*"]`:                             "shared_account_ids must be 12 digits each.",
		`additional_statements_json = "{}x"`:                     "additional_statements_json must be a JSON list of statements.",
		`provisioners = ["terraform"]`:                           "provisioners must be ARNs of roles or users, without wildcards.",
		`partition = "azure"`:                                    "partition must be aws, aws-us-gov or aws-cn.",
		`service_principals = [{ service = "*", actions = [] }]`: "service_principals must be names such as cloudtrail.amazonaws.com, with actions by their full names without kms:.",
		`service_principals = [{ service = "sns.amazonaws.com", actions = ["Decrypt"], source_account = false }]`: "service_principals without source_account need source_arns or encryption_context: else the service could be made to use the key for anybody.",
	} {
		values := inputs(t, common)
		for name, v := range inputs(t, input) {
			values[name] = v
		}
		_, err := m.Evaluate(values)
		refused(t, input, err, want)
	}
	if _, err := m.Evaluate(inputs(t, common)); err != nil {
		t.Errorf("without a fault: %v", err)
	}
	_, err = m.Evaluate(inputs(t, common+fmt.Sprintf("user = %q", app)))
	refused(t, "user", err, `has no variable "user"`)
}
