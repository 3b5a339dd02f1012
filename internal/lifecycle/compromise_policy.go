package lifecycle

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"cardea/internal/iam"
)

// The Sids of the statements that restrict a compromised key.
const (
	sidNoProtection = "CompromisedKeyProtectsNothing"
	sidNoOpening    = "CompromisedKeyOpensForNobodyElse"
	sidOpener       = "CompromisedKeyOpensForReencryption"
)

// protecting is what makes something new under a key, or lets somebody else in.
func protecting() []string {
	return []string{
		"kms:Encrypt", "kms:ReEncryptTo", "kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:GenerateDataKeyPair",
		"kms:GenerateDataKeyPairWithoutPlaintext", "kms:GenerateMac", "kms:Sign", "kms:DeriveSharedSecret", "kms:CreateGrant",
	}
}

// opening is what reads or checks what is under a key.
func opening() []string {
	return []string{"kms:Decrypt", "kms:ReEncryptFrom", "kms:Verify", "kms:VerifyMac"}
}

// restricted is a key's policy with everybody denied its use, but for one principal who
// may open what is under it; nobody if it is empty. Administration stays as it was, so
// that the key is not lost. A deny wins over grants and over the account's identity
// policies, too.
func restricted(policy, key, opener string) (string, error) {
	var d map[string]json.RawMessage
	if err := json.Unmarshal([]byte(policy), &d); err != nil {
		return "", fmt.Errorf("key policy: %w", err)
	}
	var statements []json.RawMessage
	if err := json.Unmarshal(d["Statement"], &statements); err != nil { // one alone may stand without a list
		statements = []json.RawMessage{d["Statement"]}
	}
	everybody := map[string][]string{"AWS": {"*"}}
	denied := statement{Sid: sidNoOpening, Effect: "Deny", Principal: everybody, Action: opening(), Resource: "*"}
	add := []statement{{Sid: sidNoProtection, Effect: "Deny", Principal: everybody, Action: protecting(), Resource: "*"}}
	if opener != "" {
		denied.Condition = map[string]map[string][]string{"ArnNotEquals": {"aws:PrincipalArn": {opener}}}
		add = append(add, statement{Sid: sidOpener, Effect: "Allow", Principal: map[string][]string{"AWS": {opener}}, Action: append(opening(), "kms:DescribeKey"), Resource: "*"})
	}
	for _, s := range append(add, denied) {
		text, err := json.Marshal(s)
		if err != nil {
			return "", fmt.Errorf("key policy: %w", err)
		}
		statements = append(statements, text)
	}
	var err error
	if d["Statement"], err = json.Marshal(statements); err != nil {
		return "", fmt.Errorf("key policy: %w", err)
	}
	text, err := json.Marshal(d)
	if err != nil {
		return "", fmt.Errorf("key policy: %w", err)
	}
	return string(text), provesRestricted(text, key, opener)
}

// provesRestricted asks the evaluator whether anybody that a policy names can use the
// key. A policy with what the evaluator does not know is left to the key service.
func provesRestricted(policy []byte, key, opener string) error {
	p, err := iam.ParsePolicy(iam.KeyPolicy, policy)
	if _, unknown := errors.AsType[*iam.MalformedPolicyError](err); unknown {
		return nil
	}
	if err != nil {
		return err
	}
	for _, who := range p.Principals(iam.Allow, false) {
		if who.Kind != iam.PrincipalUser && who.Kind != iam.PrincipalRole {
			continue
		}
		for _, action := range slices.Concat(protecting(), opening()) {
			want := who.Value == opener && slices.Contains(opening(), action)
			got, err := allows(p, key, who.Value, action)
			if err != nil {
				return err
			}
			if got != want {
				return fmt.Errorf("%w: under the restricted policy %s is %v for %s, must be %v", ErrUnproved, action, got, who.Value, want)
			}
		}
	}
	return nil
}

// allows asks what a key's policy lets a user or role do whose own policies allow
// everything.
func allows(p *iam.Policy, key, principal, action string) (bool, error) {
	arn, err := iam.ParseARN(principal)
	if err != nil {
		return false, err
	}
	everything, err := allowsEverything()
	if err != nil {
		return false, err
	}
	now := time.Unix(1<<30, 0)
	v := iam.Decide(&iam.Query{Caller: callerOf(arn, now), Action: action, Resource: key, Time: now, Context: &iam.Context{}},
		&iam.Policies{Resource: p, Identity: []iam.NamedPolicy{{Name: "all", Policy: everything}}})
	return v.Allowed, nil
}
