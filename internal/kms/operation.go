package kms

import (
	"strings"

	"cardea/internal/keyspec"
)

// Operation is a row of the operation table: all that the gate needs to know.
type Operation struct {
	Name   string // of the API, and in CloudTrail
	Action string // in policies
	Code   string // in the audit log
	PCI    string // PCI DSS v4.0.1 requirement 10.2.1.x that asks for the entry

	States       class // which key states it can work in
	Usage        keyspec.Usage
	CrossAccount bool           // may be asked for a key of another account
	Grant        GrantOperation // that permits it; "" if no grant can
	ReadOnly     bool           // as CloudTrail's readOnly
	Uses         bool           // a success is a use of the key (GetKeyLastUsage)
	TakesAlias   bool           // KeyId may be an alias
	Approval     string         // what people approve under dual control; "" if it never needs approval
}

// class is a row of the table of key states.
type class uint8

// The classes, docs of AWS: "Key states of KMS keys". states.go has the table.
const (
	classAny class = iota
	classUse
	classPublicKey
	classCreateGrant
	classRotationSetting
	classRotateNow
	classEnable
	classAnnotate
	classAliasTarget
	classSchedule
	classCancel
	classImport
	classReplicate
)

// PCI DSS v4.0.1 requirements that ask for entries.
const (
	pciUse   = "10.2.1.1" // access to cardholder data: keys open it
	pciAdmin = "10.2.1.2" // administrative actions
	pciIdent = "10.2.1.5" // changes of credentials and privileges
	pciObj   = "10.2.1.7" // creation and deletion of system-level objects
)

func op(name, pci string, states class, more ...func(*Operation)) *Operation {
	o := &Operation{Name: name, Action: "kms:" + name, Code: "kms." + snake(name), PCI: pci, States: states}
	for _, m := range more {
		m(o)
	}
	return o
}

// crypto is an operation on a key's material: usable from other accounts, by
// grants and by alias, and a use of the key.
func crypto(usage keyspec.Usage) func(*Operation) {
	return func(o *Operation) {
		o.Usage, o.CrossAccount, o.Grant, o.Uses, o.TakesAlias, o.ReadOnly = usage, true, GrantOperation(o.Name), true, true, true
	}
}

func readOnly(o *Operation)     { o.ReadOnly = true }
func crossAccount(o *Operation) { o.CrossAccount = true }
func byAlias(o *Operation)      { o.TakesAlias = true }
func granted(o *Operation)      { o.Grant = GrantOperation(o.Name) }

func approved(as string) func(*Operation) { return func(o *Operation) { o.Approval = as } }

// The operations.
var (
	OpEncrypt                             = op("Encrypt", pciUse, classUse, crypto(keyspec.EncryptDecrypt))
	OpDecrypt                             = op("Decrypt", pciUse, classUse, crypto(keyspec.EncryptDecrypt))
	OpReEncrypt                           = op("ReEncrypt", pciUse, classUse, crypto(keyspec.EncryptDecrypt)) // asks for the two below
	OpReEncryptFrom                       = op("ReEncryptFrom", pciUse, classUse, crypto(keyspec.EncryptDecrypt))
	OpReEncryptTo                         = op("ReEncryptTo", pciUse, classUse, crypto(keyspec.EncryptDecrypt))
	OpGenerateDataKey                     = op("GenerateDataKey", pciUse, classUse, crypto(keyspec.EncryptDecrypt))
	OpGenerateDataKeyWithoutPlaintext     = op("GenerateDataKeyWithoutPlaintext", pciUse, classUse, crypto(keyspec.EncryptDecrypt))
	OpGenerateDataKeyPair                 = op("GenerateDataKeyPair", pciUse, classUse, crypto(keyspec.EncryptDecrypt))
	OpGenerateDataKeyPairWithoutPlaintext = op("GenerateDataKeyPairWithoutPlaintext", pciUse, classUse, crypto(keyspec.EncryptDecrypt))
	OpGenerateRandom                      = op("GenerateRandom", pciUse, classAny, readOnly)

	OpSign               = op("Sign", pciUse, classUse, crypto(keyspec.SignVerify))
	OpVerify             = op("Verify", pciUse, classUse, crypto(keyspec.SignVerify))
	OpGenerateMAC        = op("GenerateMac", pciUse, classUse, crypto(keyspec.GenerateVerifyMAC))
	OpVerifyMAC          = op("VerifyMac", pciUse, classUse, crypto(keyspec.GenerateVerifyMAC))
	OpDeriveSharedSecret = op("DeriveSharedSecret", pciUse, classUse, crypto(keyspec.KeyAgreement))
	OpGetPublicKey       = op("GetPublicKey", pciUse, classPublicKey, granted, crossAccount, byAlias, readOnly)

	OpCreateKey            = op("CreateKey", pciObj, classAny)
	OpDescribeKey          = op("DescribeKey", pciAdmin, classAny, granted, crossAccount, byAlias, readOnly)
	OpListKeys             = op("ListKeys", pciAdmin, classAny, readOnly)
	OpEnableKey            = op("EnableKey", pciAdmin, classEnable)
	OpDisableKey           = op("DisableKey", pciAdmin, classEnable, approved("key.disable"))
	OpScheduleKeyDeletion  = op("ScheduleKeyDeletion", pciObj, classSchedule, approved("key.schedule-deletion"))
	OpCancelKeyDeletion    = op("CancelKeyDeletion", pciObj, classCancel)
	OpUpdateKeyDescription = op("UpdateKeyDescription", pciAdmin, classAnnotate)
	OpGetKeyLastUsage      = op("GetKeyLastUsage", pciAdmin, classAny, readOnly)

	OpCreateAlias = op("CreateAlias", pciAdmin, classAnnotate)
	OpUpdateAlias = op("UpdateAlias", pciAdmin, classAliasTarget)
	OpDeleteAlias = op("DeleteAlias", pciAdmin, classAny)
	OpListAliases = op("ListAliases", pciAdmin, classAny, readOnly)

	OpTagResource      = op("TagResource", pciAdmin, classAnnotate)
	OpUntagResource    = op("UntagResource", pciAdmin, classAnnotate)
	OpListResourceTags = op("ListResourceTags", pciAdmin, classAny, readOnly)

	OpGetKeyPolicy    = op("GetKeyPolicy", pciAdmin, classAny, readOnly)
	OpPutKeyPolicy    = op("PutKeyPolicy", pciIdent, classAny, approved("key.put-policy"))
	OpListKeyPolicies = op("ListKeyPolicies", pciAdmin, classAny, readOnly)

	OpCreateGrant         = op("CreateGrant", pciIdent, classCreateGrant, granted, crossAccount)
	OpListGrants          = op("ListGrants", pciAdmin, classAny, crossAccount, readOnly)
	OpListRetirableGrants = op("ListRetirableGrants", pciAdmin, classAny, readOnly)
	OpRetireGrant         = op("RetireGrant", pciIdent, classAny, granted, crossAccount)
	OpRevokeGrant         = op("RevokeGrant", pciIdent, classAny, crossAccount)

	OpEnableKeyRotation    = op("EnableKeyRotation", pciAdmin, classRotationSetting)
	OpDisableKeyRotation   = op("DisableKeyRotation", pciAdmin, classRotationSetting)
	OpGetKeyRotationStatus = op("GetKeyRotationStatus", pciAdmin, classAny, crossAccount, readOnly)
	OpRotateKeyOnDemand    = op("RotateKeyOnDemand", pciObj, classRotateNow)
	OpListKeyRotations     = op("ListKeyRotations", pciAdmin, classAny, readOnly)

	OpGetParametersForImport    = op("GetParametersForImport", pciAdmin, classImport, readOnly)
	OpImportKeyMaterial         = op("ImportKeyMaterial", pciObj, classImport, approved("key.import-material"))
	OpDeleteImportedKeyMaterial = op("DeleteImportedKeyMaterial", pciObj, classAny, approved("key.delete-material"))

	OpReplicateKey        = op("ReplicateKey", pciObj, classReplicate, approved("key.replicate"))
	OpUpdatePrimaryRegion = op("UpdatePrimaryRegion", pciAdmin, classReplicate)

	OpCreateCustomKeyStore     = op("CreateCustomKeyStore", pciObj, classAny)
	OpUpdateCustomKeyStore     = op("UpdateCustomKeyStore", pciAdmin, classAny)
	OpDeleteCustomKeyStore     = op("DeleteCustomKeyStore", pciObj, classAny)
	OpDescribeCustomKeyStores  = op("DescribeCustomKeyStores", pciAdmin, classAny, readOnly)
	OpConnectCustomKeyStore    = op("ConnectCustomKeyStore", pciAdmin, classAny)
	OpDisconnectCustomKeyStore = op("DisconnectCustomKeyStore", pciAdmin, classAny)

	// What the service does by itself.
	OpRotateKey         = op("RotateKey", pciObj, classAny)
	OpDeleteKey         = op("DeleteKey", pciObj, classAny)
	OpDeleteKeyMaterial = op("DeleteExpiredKeyMaterial", pciObj, classAny)
	OpSynchronizeKey    = op("SynchronizeMultiRegionKey", pciObj, classAny)
	OpFinishConnection  = op("FinishConnectingCustomKeyStore", pciAdmin, classAny)
)

// Operations is the API's part of the table: its 54 operations.
func Operations() []*Operation {
	return []*Operation{
		OpEncrypt, OpDecrypt, OpReEncrypt, OpGenerateDataKey, OpGenerateDataKeyWithoutPlaintext,
		OpGenerateDataKeyPair, OpGenerateDataKeyPairWithoutPlaintext, OpGenerateRandom,
		OpSign, OpVerify, OpGenerateMAC, OpVerifyMAC, OpDeriveSharedSecret, OpGetPublicKey,
		OpCreateKey, OpDescribeKey, OpListKeys, OpEnableKey, OpDisableKey, OpScheduleKeyDeletion, OpCancelKeyDeletion,
		OpUpdateKeyDescription, OpGetKeyLastUsage,
		OpCreateAlias, OpUpdateAlias, OpDeleteAlias, OpListAliases,
		OpTagResource, OpUntagResource, OpListResourceTags,
		OpGetKeyPolicy, OpPutKeyPolicy, OpListKeyPolicies,
		OpCreateGrant, OpListGrants, OpListRetirableGrants, OpRetireGrant, OpRevokeGrant,
		OpEnableKeyRotation, OpDisableKeyRotation, OpGetKeyRotationStatus, OpRotateKeyOnDemand, OpListKeyRotations,
		OpGetParametersForImport, OpImportKeyMaterial, OpDeleteImportedKeyMaterial,
		OpReplicateKey, OpUpdatePrimaryRegion,
		OpCreateCustomKeyStore, OpUpdateCustomKeyStore, OpDeleteCustomKeyStore, OpDescribeCustomKeyStores,
		OpConnectCustomKeyStore, OpDisconnectCustomKeyStore,
	}
}

// snake is GenerateDataKey as generate_data_key, and KMSInvalidMac as kms_invalid_mac.
func snake(name string) string {
	upper := func(i int) bool { return name[i] >= 'A' && name[i] <= 'Z' }
	var b strings.Builder
	for i := range len(name) {
		if !upper(i) {
			b.WriteByte(name[i])
			continue
		}
		if i > 0 && (!upper(i-1) || i+1 < len(name) && !upper(i+1)) {
			b.WriteByte('_')
		}
		b.WriteByte(name[i] + 'a' - 'A')
	}
	return b.String()
}
