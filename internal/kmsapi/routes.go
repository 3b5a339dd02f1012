package kmsapi

import (
	"context"

	"cardea/internal/kms"
)

// route is a row of the route table: an operation of KMS.
type route struct {
	name string
	// run decodes x.in, performs the operation and appends the body of the answer to
	// x.out.
	run func(s *kms.Service, x *exchange) error
}

// op is the row of an operation that has a response.
func op[I, O any](name string, perform func(*kms.Service, context.Context, kms.Caller, *I) (*O, error)) *route {
	return &route{name: name, run: func(s *kms.Service, x *exchange) error {
		in := new(I)
		defer wipe(in)
		if err := decode(x.in.b, in); err != nil {
			return err
		}
		out, err := perform(s, x.ctx, x.who, in)
		if err != nil {
			return err
		}
		defer wipe(out)
		return encode(x.out, out)
	}}
}

// done is the row of an operation that answers with nothing but success.
func done[I any](name string, perform func(*kms.Service, context.Context, kms.Caller, *I) error) *route {
	return &route{name: name, run: func(s *kms.Service, x *exchange) error {
		in := new(I)
		defer wipe(in)
		if err := decode(x.in.b, in); err != nil {
			return err
		}
		return perform(s, x.ctx, x.who, in)
	}}
}

// routes is the route table.
func routes() []*route {
	return []*route{
		op("Encrypt", (*kms.Service).Encrypt),
		op("Decrypt", (*kms.Service).Decrypt),
		op("ReEncrypt", (*kms.Service).ReEncrypt),
		op("GenerateDataKey", (*kms.Service).GenerateDataKey),
		op("GenerateDataKeyWithoutPlaintext", (*kms.Service).GenerateDataKeyWithoutPlaintext),
		op("GenerateDataKeyPair", (*kms.Service).GenerateDataKeyPair),
		op("GenerateDataKeyPairWithoutPlaintext", (*kms.Service).GenerateDataKeyPairWithoutPlaintext),
		op("GenerateRandom", (*kms.Service).GenerateRandom),
		op("Sign", (*kms.Service).Sign),
		op("Verify", (*kms.Service).Verify),
		op("GenerateMac", (*kms.Service).GenerateMAC),
		op("VerifyMac", (*kms.Service).VerifyMAC),
		op("DeriveSharedSecret", (*kms.Service).DeriveSharedSecret),
		op("GetPublicKey", (*kms.Service).GetPublicKey),
		op("CreateKey", (*kms.Service).CreateKey),
		op("DescribeKey", (*kms.Service).DescribeKey),
		op("ListKeys", (*kms.Service).ListKeys),
		done("EnableKey", (*kms.Service).EnableKey),
		done("DisableKey", (*kms.Service).DisableKey),
		op("ScheduleKeyDeletion", (*kms.Service).ScheduleKeyDeletion),
		op("CancelKeyDeletion", (*kms.Service).CancelKeyDeletion),
		done("UpdateKeyDescription", (*kms.Service).UpdateKeyDescription),
		op("GetKeyLastUsage", (*kms.Service).GetKeyLastUsage),
		done("CreateAlias", (*kms.Service).CreateAlias),
		done("UpdateAlias", (*kms.Service).UpdateAlias),
		done("DeleteAlias", (*kms.Service).DeleteAlias),
		op("ListAliases", (*kms.Service).ListAliases),
		done("TagResource", (*kms.Service).TagResource),
		done("UntagResource", (*kms.Service).UntagResource),
		op("ListResourceTags", (*kms.Service).ListResourceTags),
		op("GetKeyPolicy", (*kms.Service).GetKeyPolicy),
		done("PutKeyPolicy", (*kms.Service).PutKeyPolicy),
		op("ListKeyPolicies", (*kms.Service).ListKeyPolicies),
		op("CreateGrant", (*kms.Service).CreateGrant),
		op("ListGrants", (*kms.Service).ListGrants),
		op("ListRetirableGrants", (*kms.Service).ListRetirableGrants),
		done("RetireGrant", (*kms.Service).RetireGrant),
		done("RevokeGrant", (*kms.Service).RevokeGrant),
		done("EnableKeyRotation", (*kms.Service).EnableKeyRotation),
		done("DisableKeyRotation", (*kms.Service).DisableKeyRotation),
		op("GetKeyRotationStatus", (*kms.Service).GetKeyRotationStatus),
		op("RotateKeyOnDemand", (*kms.Service).RotateKeyOnDemand),
		op("ListKeyRotations", (*kms.Service).ListKeyRotations),
		op("GetParametersForImport", (*kms.Service).GetParametersForImport),
		op("ImportKeyMaterial", (*kms.Service).ImportKeyMaterial),
		op("DeleteImportedKeyMaterial", (*kms.Service).DeleteImportedKeyMaterial),
		op("ReplicateKey", (*kms.Service).ReplicateKey),
		done("UpdatePrimaryRegion", (*kms.Service).UpdatePrimaryRegion),
		op("CreateCustomKeyStore", (*kms.Service).CreateCustomKeyStore),
		done("UpdateCustomKeyStore", (*kms.Service).UpdateCustomKeyStore),
		done("DeleteCustomKeyStore", (*kms.Service).DeleteCustomKeyStore),
		op("DescribeCustomKeyStores", (*kms.Service).DescribeCustomKeyStores),
		done("ConnectCustomKeyStore", (*kms.Service).ConnectCustomKeyStore),
		done("DisconnectCustomKeyStore", (*kms.Service).DisconnectCustomKeyStore),
	}
}

func routeTable() map[string]*route {
	m := map[string]*route{}
	for _, r := range routes() {
		m[r.name] = r
	}
	return m
}
