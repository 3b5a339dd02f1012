package kms

import (
	"context"

	"cardea/internal/keyspec"
)

func (in *DescribeKeyInput) check(v *violations) {
	v.keyID("keyId", in.KeyID)
	v.grantTokens(in.GrantTokens)
}

// DescribeKey tells everything about a key but its policy, tags and aliases.
func (s *Service) DescribeKey(ctx context.Context, who Caller, in *DescribeKeyInput) (*DescribeKeyOutput, error) {
	return perform(ctx, s, who, OpDescribeKey, in, func(c *call, out *DescribeKeyOutput) error {
		c.param("keyId", in.KeyID)
		k, err := c.key(ctx, in.KeyID, ask{tokens: in.GrantTokens})
		if err != nil {
			return err
		}
		out.KeyMetadata = k.metadata(s)
		return nil
	})
}

// metadata is the key as DescribeKey and CreateKey tell it.
func (k *Key) metadata(s *Service) *KeyMetadata {
	m := &KeyMetadata{
		KeyID: k.ID, AccountID: k.Account, ARN: k.ARN(), CreationDate: k.CreatedAt, Description: k.Description,
		Enabled: k.State == StateEnabled, KeyState: k.State, KeySpec: k.Spec, CustomerMasterKeySpec: k.Spec,
		KeyUsage: k.Usage, KeyManager: "CUSTOMER", Origin: k.Origin, CustomKeyStoreID: k.KeyStoreID, CloudHSMClusterID: s.clusterOf(k), MultiRegion: k.Regions != nil,
	}
	switch k.Usage {
	case keyspec.EncryptDecrypt:
		m.EncryptionAlgorithms = k.Spec.EncryptionAlgorithms()
	case keyspec.SignVerify:
		m.SigningAlgorithms = k.Spec.SigningAlgorithms()
	case keyspec.GenerateVerifyMAC:
		m.MACAlgorithms = k.Spec.MACAlgorithms()
	case keyspec.KeyAgreement:
		m.KeyAgreementAlgorithms = k.Spec.AgreementAlgorithms()
	}
	current := k.Current()
	if k.Spec == keyspec.SymmetricDefault && k.KeyStoreID == "" && current != nil {
		m.CurrentKeyMaterialID = current.ID
	}
	if k.Origin == OriginExternal && current != nil && current.Import == Imported {
		m.ExpirationModel, m.ValidTo = current.Expiration, current.ValidTo
	}
	switch k.State {
	case StatePendingDeletion:
		m.DeletionDate = k.Deletion.At
	case StatePendingReplicaDeletion:
		m.PendingDeletionWindowInDays = &k.Deletion.WindowDays
	}
	if r := k.Regions; r != nil {
		at := func(region string) MultiRegionKey {
			return MultiRegionKey{ARN: KeyRef{k.Account, region, k.ID}.ARN(), Region: region}
		}
		primary := at(r.Primary)
		m.MultiRegionConfiguration = &MultiRegionConfiguration{MultiRegionKeyType: r.Type, PrimaryKey: &primary, ReplicaKeys: []MultiRegionKey{}}
		for _, region := range r.Replicas {
			m.MultiRegionConfiguration.ReplicaKeys = append(m.MultiRegionConfiguration.ReplicaKeys, at(region))
		}
	}
	return m
}
