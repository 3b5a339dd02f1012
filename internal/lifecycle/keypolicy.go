package lifecycle

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"cardea/internal/iam"
)

// administration is what administrators may do. CreateGrant is not in it: by a grant
// an administrator could give himself the key's use.
func administration() []string {
	return []string{
		"kms:CancelKeyDeletion", "kms:CreateAlias", "kms:DeleteAlias", "kms:DeleteImportedKeyMaterial", "kms:DescribeKey",
		"kms:DisableKey", "kms:DisableKeyRotation", "kms:EnableKey", "kms:EnableKeyRotation", "kms:GetKeyLastUsage", "kms:GetKeyPolicy",
		"kms:GetKeyRotationStatus", "kms:GetParametersForImport", "kms:ImportKeyMaterial", "kms:ListGrants", "kms:ListKeyPolicies",
		"kms:ListKeyRotations", "kms:ListResourceTags", "kms:PutKeyPolicy", "kms:ReplicateKey", "kms:RevokeGrant", "kms:RotateKeyOnDemand",
		"kms:ScheduleKeyDeletion", "kms:TagResource", "kms:UntagResource", "kms:UpdateAlias", "kms:UpdateKeyDescription", "kms:UpdatePrimaryRegion",
	}
}

// looking is the part of administration that changes nothing and that users may do.
func looking() []string { return []string{"kms:DescribeKey"} }

// use is what users of a key may do.
func use(usage string) []string {
	switch usage {
	case "SIGN_VERIFY":
		return []string{"kms:DescribeKey", "kms:GetPublicKey", "kms:Sign", "kms:Verify"}
	case "GENERATE_VERIFY_MAC":
		return []string{"kms:DescribeKey", "kms:GenerateMac", "kms:VerifyMac"}
	case "KEY_AGREEMENT":
		return []string{"kms:DeriveSharedSecret", "kms:DescribeKey", "kms:GetPublicKey"}
	}
	return []string{
		"kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey", "kms:GenerateDataKeyPair", "kms:GenerateDataKeyPairWithoutPlaintext",
		"kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo",
	}
}

type document struct {
	Version   string
	ID        string `json:"Id"`
	Statement []statement
}

type statement struct {
	Sid       string
	Effect    string
	Principal map[string][]string
	Action    []string
	Resource  string
	Condition map[string]map[string][]string `json:",omitempty"`
}

// KeyPolicy is the policy of the class's keys, in canonical form, with whom it lets
// in kept apart: administrators cannot use, users cannot administer. Only the root
// user itself of the account may administer besides, so that the key is not lost
// with its administrators; the account's identity policies decide nothing. It is
// checked by package iam's evaluator before it is returned.
func (c *Class) KeyPolicy() ([]byte, error) {
	partition := "aws"
	if arn, err := iam.ParseARN(c.Administrators[0]); err == nil {
		partition = arn.Partition
	}
	d := document{Version: "2012-10-17", ID: "cardea-" + c.Name, Statement: []statement{
		{
			Sid: "RootUserAdministers", Effect: "Allow", Action: administration(), Resource: "*",
			Principal: map[string][]string{"AWS": {"arn:" + partition + ":iam::" + c.Account() + ":root"}},
			Condition: map[string]map[string][]string{"StringEquals": {"aws:PrincipalType": {"Account"}}},
		},
		{Sid: "AdministratorsDoNotUse", Effect: "Allow", Principal: principals(c.Administrators), Action: administration(), Resource: "*"},
		{Sid: "UsersDoNotAdminister", Effect: "Allow", Principal: principals(c.Users), Action: use(c.Usage), Resource: "*"},
	}}
	if c.Conditions.AdministratorsMFA {
		d.Statement[1].Condition = map[string]map[string][]string{"Bool": {"aws:MultiFactorAuthPresent": {"true"}}}
	}
	users := map[string]map[string][]string{}
	if len(c.Conditions.ViaService) > 0 {
		users["StringEquals"] = map[string][]string{"kms:ViaService": c.Conditions.ViaService}
	}
	if len(c.Conditions.SourceIP) > 0 {
		users["IpAddress"] = map[string][]string{"aws:SourceIp": c.Conditions.SourceIP}
	}
	if len(users) > 0 {
		d.Statement[2].Condition = users
	}
	text, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("key policy of %s: %w", c.Name, err)
	}
	p, err := iam.ParsePolicy(iam.KeyPolicy, text)
	if err != nil {
		return nil, fmt.Errorf("key policy of %s: %w", c.Name, err)
	}
	if err := c.separated(p); err != nil {
		return nil, fmt.Errorf("key policy of %s: %w", c.Name, err)
	}
	return p.Encode(), nil
}

func principals(arns []string) map[string][]string {
	return map[string][]string{"AWS": slices.Sorted(slices.Values(arns))}
}

// separated asks the evaluator who may do what under the policy, with every
// condition fulfilled.
func (c *Class) separated(p *iam.Policy) error {
	admin := slices.DeleteFunc(administration(), func(a string) bool { return slices.Contains(looking(), a) })
	using := slices.DeleteFunc(use(c.Usage), func(a string) bool { return slices.Contains(looking(), a) })
	forbidden := append(slices.Clone(using), "kms:CreateGrant", "kms:Decrypt", "kms:Sign", "kms:GenerateMac", "kms:DeriveSharedSecret")
	for _, arn := range c.Administrators {
		if err := c.may(p, arn, admin, forbidden); err != nil {
			return err
		}
	}
	for _, arn := range c.Users {
		if err := c.may(p, arn, using, append(admin, "kms:CreateGrant")); err != nil {
			return err
		}
	}
	return nil
}

// may checks what a principal is allowed and denied.
func (c *Class) may(p *iam.Policy, principal string, allowed, denied []string) error {
	arn, err := iam.ParseARN(principal)
	if err != nil {
		return err
	}
	now := time.Unix(1<<30, 0)
	who := callerOf(arn, now)
	var x iam.Context
	if len(c.Conditions.ViaService) > 0 {
		x.Add("kms:ViaService", iam.String(c.Conditions.ViaService[0]))
	}
	if len(c.Conditions.SourceIP) > 0 {
		if n, err := netip.ParsePrefix(c.Conditions.SourceIP[0]); err == nil {
			x.Add("aws:SourceIp", iam.IP(n.Addr()))
		}
	}
	key := "arn:" + arn.Partition + ":kms:us-east-1:" + c.Account() + ":key/00000000-0000-0000-0000-000000000000"
	everything, err := allowsEverything()
	if err != nil {
		return err
	}
	for want, actions := range map[bool][]string{true: allowed, false: denied} {
		for _, a := range actions {
			// The principal's own policies allow everything: only the key's decides.
			v := iam.Decide(&iam.Query{Caller: who, Action: a, Resource: key, Time: now, Context: &x}, &iam.Policies{Resource: p, Identity: []iam.NamedPolicy{{Name: "all", Policy: everything}}})
			if v.Allowed != want {
				return fmt.Errorf("%s: %s is %v, must be %v: duties would not be separated", principal, a, v, want)
			}
		}
	}
	return nil
}

// callerOf is a user or role as the evaluator asks about one, with a second factor.
func callerOf(arn iam.ARN, now time.Time) iam.Caller {
	who := iam.Caller{Type: iam.CallerUser, ARN: arn.String(), Account: arn.Account, ID: "AIDAEXAMPLE", Issued: now, MFA: now}
	if name, role := strings.CutPrefix(arn.Resource, "role/"); role {
		name = name[strings.LastIndexByte(name, '/')+1:]
		who.Type, who.ID = iam.CallerRole, "AROAEXAMPLE:session"
		who.Session = "arn:" + arn.Partition + ":sts::" + arn.Account + ":assumed-role/" + name + "/session"
	}
	return who
}

// allowsEverything is an identity policy that leaves it to the key's to decide.
func allowsEverything() (*iam.Policy, error) {
	return iam.ParsePolicy(iam.IdentityPolicy, []byte(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`))
}
