package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"cardea/internal/identity"
	"cardea/internal/kms"
	"cardea/internal/vault"
)

// HasMasterKey says whether custodians of the tenant have been made, so that some of
// what is stored may be under its master key.
func (n *Node) HasMasterKey(ctx context.Context, tenant string) (bool, error) {
	_, err := n.ceremonies.Seal(ctx, tenant)
	if errors.Is(err, vault.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// VaultAccess says for which tenant of a vault a key is made, and for whom.
type VaultAccess struct {
	Account, Region string // of the key service
	Admin           string // user of the account who may make keys
	Tenant          string
	User            string // of the account, by whom the vault asks
}

// alias names the key to people. The vault is told its ARN: an alias may come to mean
// another key.
func (a VaultAccess) alias() string { return "alias/cardea-vault-" + a.Tenant }

// MakeVaultKey returns the ARN of the KMS key of a vault's tenant, which it makes if
// there is none. The key service must be unsealed.
func (k *KeyService) MakeVaultKey(ctx context.Context, a VaultAccess) (arn string, err error) {
	admin, err := k.identities.SubjectOf(ctx, "arn:aws:iam::"+a.Account+":user/"+a.Admin)
	if err != nil {
		return "", err
	}
	who := kms.Caller{Subject: admin, Auth: "internal", Region: a.Region}
	found, err := k.kms.DescribeKey(ctx, who, &kms.DescribeKeyInput{KeyID: a.alias()})
	if err == nil {
		return found.KeyMetadata.ARN, nil
	}
	if e, is := errors.AsType[*kms.Error](err); !is || e.Code != kms.CodeNotFound {
		return "", err
	}
	made, err := k.kms.CreateKey(ctx, who, &kms.CreateKeyInput{Description: "Wraps the keys of the vault's tenant " + a.Tenant})
	if err != nil {
		return "", err
	}
	return made.KeyMetadata.ARN, k.kms.CreateAlias(ctx, who, &kms.CreateAliasInput{AliasName: a.alias(), TargetKeyID: made.KeyMetadata.ARN})
}

// MakeVaultUser makes the user by whom the vault asks for its keys, if there is none,
// lets it do what a vault does with the KMS key and no more, and makes an access key
// for it. The caller destroys that.
func (k *KeyService) MakeVaultUser(ctx context.Context, who identity.Caller, a VaultAccess, arn string) (*identity.NewAccessKey, error) {
	_, err := k.identities.CreateUser(ctx, who, &identity.CreateUserInput{Account: a.Account, Name: a.User})
	if e, is := errors.AsType[*identity.Error](err); err != nil && (!is || e.Code != identity.CodeEntityAlreadyExists) {
		return nil, err
	}
	policy, err := vaultPolicy(a.Tenant, arn)
	if err != nil {
		return nil, err
	}
	if err := k.identities.PutUserPolicy(ctx, who, &identity.PolicyInput{Account: a.Account, Entity: a.User, Name: "tenant-" + a.Tenant, Document: policy}); err != nil {
		return nil, err
	}
	return k.identities.CreateAccessKey(ctx, who, &identity.EntityInput{Account: a.Account, Name: a.User})
}

// vaultPolicy lets a vault use a key for one tenant. It encrypts only when it is
// migrated from another mode, since the keys of keyed hashes then stay as they are.
func vaultPolicy(tenant, arn string) (string, error) {
	type statement struct {
		Sid       string
		Effect    string
		Action    []string
		Resource  string
		Condition map[string]map[string]string `json:",omitempty"`
	}
	b, err := json.Marshal(struct {
		Version   string
		Statement []statement
	}{"2012-10-17", []statement{
		{
			"UseForTheTenant", "Allow",
			[]string{"kms:GenerateDataKey", "kms:Decrypt", "kms:Encrypt", "kms:ReEncrypt*"},
			arn,
			map[string]map[string]string{"StringEquals": {"kms:EncryptionContext:tenant": tenant}},
		},
		{"SeeWhetherItWorks", "Allow", []string{"kms:DescribeKey"}, arn, nil},
	}})
	if err != nil {
		return "", fmt.Errorf("policy of the vault: %w", err)
	}
	return string(b), nil
}
