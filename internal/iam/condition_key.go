package iam

import (
	"errors"
	"slices"
	"strings"
)

// maxKeyName is the longest name of a condition key, in bytes.
const maxKeyName = 512

// condKey is the name of a condition key as a policy writes it. Names are not
// case-sensitive (A-Z, a-z).
type condKey struct {
	name    string // as written
	lower   string
	derived derivedKey
	suffix  string // of aws:PrincipalTag/ and the like, lower case
	multi   bool   // may have several values in a request
	source  keySource
}

// keySource says where in a Context the values of a key are.
type keySource uint8

const (
	fromPairs keySource = iota
	fromEncryptionContext
	fromEncryptionContextKeys
)

// derivedKey is a key whose value follows from the caller, the resource and the
// time, and so is never taken from a Context.
type derivedKey uint8

const (
	notDerived derivedKey = iota
	keyPrincipalArn
	keyPrincipalAccount
	keyPrincipalType
	keyPrincipalTag
	keyPrincipalIsAWSService
	keyPrincipalServiceName
	keyPrincipalServiceNamesList
	keyUserID
	keyUserName
	keySourceIdentity
	keyTokenIssueTime
	keyMFAPresent
	keyMFAAge
	keyCurrentTime
	keyEpochTime
	keyResourceAccount
	keyCallerAccount
)

var errKeyName = errors.New("a condition key has the form prefix:name, without wildcards or variables")

// compileKey compiles the name of a condition key.
func compileKey(name string) (condKey, error) {
	prefix, rest, ok := strings.Cut(name, ":")
	host, path, provider := strings.Cut(prefix, "/") // of a provider's URL: oidc.eks.us-east-1.amazonaws.com/id/EXAMPLE:sub
	if !ok || prefix == "" || rest == "" || len(name) > maxKeyName || strings.ContainsAny(prefix, " *?${}") ||
		provider && (path == "" || !strings.Contains(host, ".")) ||
		strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return condKey{}, errKeyName
	}
	k := condKey{name: name, lower: lowered(name)}
	if info, ok := LookupConditionKey(name); ok {
		k.multi, k.derived = info.Multivalued, info.derived
		k.suffix = k.lower[len(info.Name):]
		switch info.Name {
		case "kms:EncryptionContext:":
			k.source = fromEncryptionContext
		case "kms:EncryptionContextKeys":
			k.source = fromEncryptionContextKeys
		}
	}
	return k, nil
}

// ConditionType is what the values of a condition key are.
type ConditionType string

// The types of condition keys.
const (
	ConditionString  ConditionType = "String"
	ConditionNumeric ConditionType = "Numeric"
	ConditionDate    ConditionType = "Date"
	ConditionBool    ConditionType = "Bool"
	ConditionIP      ConditionType = "IPAddress"
	ConditionARN     ConditionType = "ARN"
)

// ConditionKey describes a condition key that Cardea knows.
type ConditionKey struct {
	Name        string // as AWS writes it; one that ends in ":" or "/" stands for all names that begin so
	Type        ConditionType
	Multivalued bool // needs ForAllValues or ForAnyValue
	Derived     bool // follows from caller, resource and time: never taken from a Context

	derived derivedKey
}

// conditionKeys are the known keys, sorted by name without regard to case.
// docs/spec/policy.md lists the same ones.
var conditionKeys = [...]ConditionKey{
	{Name: "aws:CalledVia", Type: ConditionString, Multivalued: true},
	{Name: "aws:CurrentTime", Type: ConditionDate, derived: keyCurrentTime},
	{Name: "aws:EpochTime", Type: ConditionDate, derived: keyEpochTime},
	{Name: "aws:MultiFactorAuthAge", Type: ConditionNumeric, derived: keyMFAAge},
	{Name: "aws:MultiFactorAuthPresent", Type: ConditionBool, derived: keyMFAPresent},
	{Name: "aws:PrincipalAccount", Type: ConditionString, derived: keyPrincipalAccount},
	{Name: "aws:PrincipalArn", Type: ConditionARN, derived: keyPrincipalArn},
	{Name: "aws:PrincipalIsAWSService", Type: ConditionBool, derived: keyPrincipalIsAWSService},
	{Name: "aws:PrincipalOrgID", Type: ConditionString},
	{Name: "aws:PrincipalOrgPaths", Type: ConditionString, Multivalued: true},
	{Name: "aws:PrincipalServiceName", Type: ConditionString, derived: keyPrincipalServiceName},
	{Name: "aws:PrincipalServiceNamesList", Type: ConditionString, Multivalued: true, derived: keyPrincipalServiceNamesList},
	{Name: "aws:PrincipalTag/", Type: ConditionString, derived: keyPrincipalTag},
	{Name: "aws:PrincipalType", Type: ConditionString, derived: keyPrincipalType},
	{Name: "aws:Referer", Type: ConditionString},
	{Name: "aws:RequestedRegion", Type: ConditionString},
	{Name: "aws:RequestTag/", Type: ConditionString},
	{Name: "aws:ResourceAccount", Type: ConditionString, derived: keyResourceAccount},
	{Name: "aws:ResourceOrgID", Type: ConditionString},
	{Name: "aws:ResourceTag/", Type: ConditionString},
	{Name: "aws:SecureTransport", Type: ConditionBool},
	{Name: "aws:SourceAccount", Type: ConditionString},
	{Name: "aws:SourceArn", Type: ConditionARN},
	{Name: "aws:SourceIdentity", Type: ConditionString, derived: keySourceIdentity},
	{Name: "aws:SourceIp", Type: ConditionIP},
	{Name: "aws:SourceVpc", Type: ConditionString},
	{Name: "aws:SourceVpce", Type: ConditionString},
	{Name: "aws:TagKeys", Type: ConditionString, Multivalued: true},
	{Name: "aws:TokenIssueTime", Type: ConditionDate, derived: keyTokenIssueTime},
	{Name: "aws:UserAgent", Type: ConditionString},
	{Name: "aws:userid", Type: ConditionString, derived: keyUserID},
	{Name: "aws:username", Type: ConditionString, derived: keyUserName},
	{Name: "aws:ViaAWSService", Type: ConditionBool},
	{Name: "aws:VpcSourceIp", Type: ConditionIP},
	{Name: "kms:BypassPolicyLockoutSafetyCheck", Type: ConditionBool},
	{Name: "kms:CallerAccount", Type: ConditionString, derived: keyCallerAccount},
	{Name: "kms:CustomerMasterKeySpec", Type: ConditionString},
	{Name: "kms:CustomerMasterKeyUsage", Type: ConditionString},
	{Name: "kms:DataKeyPairSpec", Type: ConditionString},
	{Name: "kms:EncryptionAlgorithm", Type: ConditionString},
	{Name: "kms:EncryptionContext:", Type: ConditionString},
	{Name: "kms:EncryptionContextKeys", Type: ConditionString, Multivalued: true},
	{Name: "kms:ExpirationModel", Type: ConditionString},
	{Name: "kms:GrantConstraintSourceArn", Type: ConditionARN},
	{Name: "kms:GrantConstraintType", Type: ConditionString},
	{Name: "kms:GranteePrincipal", Type: ConditionString},
	{Name: "kms:GranteeServicePrincipal", Type: ConditionString},
	{Name: "kms:GrantIsForAWSResource", Type: ConditionBool},
	{Name: "kms:GrantOperations", Type: ConditionString, Multivalued: true},
	{Name: "kms:KeyAgreementAlgorithm", Type: ConditionString},
	{Name: "kms:KeyOrigin", Type: ConditionString},
	{Name: "kms:KeySpec", Type: ConditionString},
	{Name: "kms:KeyUsage", Type: ConditionString},
	{Name: "kms:MacAlgorithm", Type: ConditionString},
	{Name: "kms:MessageType", Type: ConditionString},
	{Name: "kms:MultiRegion", Type: ConditionBool},
	{Name: "kms:MultiRegionKeyType", Type: ConditionString},
	{Name: "kms:PrimaryRegion", Type: ConditionString},
	{Name: "kms:RecipientAttestation:", Type: ConditionString},
	{Name: "kms:ReEncryptOnSameKey", Type: ConditionBool},
	{Name: "kms:ReplicaRegion", Type: ConditionString},
	{Name: "kms:RequestAlias", Type: ConditionString},
	{Name: "kms:ResourceAliases", Type: ConditionString, Multivalued: true},
	{Name: "kms:RetiringPrincipal", Type: ConditionString},
	{Name: "kms:RetiringServicePrincipal", Type: ConditionString},
	{Name: "kms:RotationPeriodInDays", Type: ConditionNumeric},
	{Name: "kms:ScheduleKeyDeletionPendingWindowInDays", Type: ConditionNumeric},
	{Name: "kms:SigningAlgorithm", Type: ConditionString},
	{Name: "kms:ValidTo", Type: ConditionDate},
	{Name: "kms:ViaService", Type: ConditionString},
	{Name: "kms:WrappingAlgorithm", Type: ConditionString},
	{Name: "kms:WrappingKeySpec", Type: ConditionString},
}

// ConditionKeys lists the condition keys that Cardea knows, sorted. A key that is
// not among them may stand in a policy and is as if absent from every request,
// unless the caller of Decide puts it into the Context.
func ConditionKeys() []ConditionKey {
	out := slices.Clone(conditionKeys[:])
	for i := range out {
		out[i].Derived = out[i].derived != notDerived
	}
	return out
}

// LookupConditionKey finds the description of a key by its name, in any case of letters.
func LookupConditionKey(name string) (ConditionKey, bool) {
	for i := range conditionKeys {
		k := &conditionKeys[i]
		open := strings.HasSuffix(k.Name, "/") || strings.HasSuffix(k.Name, ":")
		if len(name) == len(k.Name) && !open && equal(name, k.Name, ignoreCase) ||
			open && len(name) > len(k.Name) && equal(name[:len(k.Name)], k.Name, ignoreCase) {
			out := *k
			out.Derived = out.derived != notDerived
			return out, true
		}
	}
	return ConditionKey{}, false
}
