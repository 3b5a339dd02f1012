package vault

import "cardea/internal/audit"

// Operation is a row of the operation table: all that the gate needs to know.
type Operation struct {
	Name     string // in the audit log
	Action   string // in policies
	PCI      string // PCI DSS v4.0.1 requirement 10.2.1.x that asks for the entry
	Kind     string // what the operation touches, in the audit log
	Mutates  bool   // changes stored data
	Releases bool   // answers with cardholder data in clear
	Sealed   bool   // works while the tenant is locked

	Suspended bool // works while the tenant is suspended
}

// The operations.
var (
	OpCardStore    = &Operation{Name: "card.store", Action: "card:Store", PCI: "10.2.1.1", Kind: "card", Mutates: true}
	OpCardRetrieve = &Operation{Name: "card.retrieve", Action: "card:Retrieve", PCI: "10.2.1.1", Kind: "card", Releases: true}
	OpCardDelete   = &Operation{Name: "card.delete", Action: "card:Delete", PCI: "10.2.1.1", Kind: "card", Mutates: true}
	OpFingerprint  = &Operation{Name: "fingerprint.get", Action: "card:Fingerprint", PCI: "10.2.1.1", Kind: "fingerprint", Mutates: true}

	OpDataStore    = &Operation{Name: "data.store", Action: "data:Store", PCI: "10.2.1.1", Kind: "json", Mutates: true}
	OpDataRetrieve = &Operation{Name: "data.retrieve", Action: "data:Retrieve", PCI: "10.2.1.1", Kind: "json", Releases: true}
	OpDataDelete   = &Operation{Name: "data.delete", Action: "data:Delete", PCI: "10.2.1.1", Kind: "json", Mutates: true}

	OpHolderCreate = &Operation{Name: "holder.create", Action: "holder:Create", PCI: "10.2.1.7", Kind: "holder", Mutates: true}
	OpRecordExpire = &Operation{Name: "record.expire", Action: "record:Expire", PCI: "10.2.1.1", Kind: "record", Mutates: true, Sealed: true, Suspended: true}
	OpRecordImport = &Operation{Name: "record.import", Action: "record:Import", PCI: "10.2.1.1", Kind: "record", Mutates: true}
	OpKeyCreate    = &Operation{Name: "key.create", Action: "key:Create", PCI: "10.2.1.7", Kind: "key", Mutates: true}
	OpKeyRotate    = &Operation{Name: "key.rotate", Action: "key:Rotate", PCI: "10.2.1.7", Kind: "key", Mutates: true}
	OpKeyRewrap    = &Operation{Name: "key.rewrap", Action: "key:Rewrap", PCI: "10.2.1.7", Kind: "key", Mutates: true}

	// The operations of an operator on keys, and the steps of the jobs that they begin.
	OpKeyList      = &Operation{Name: "key.list", Action: "key:List", PCI: "10.2.1.2", Kind: "key", Sealed: true, Suspended: true}
	OpKeyJob       = &Operation{Name: "key.job", Action: "key:Job", PCI: "10.2.1.2", Kind: "key", Mutates: true, Sealed: true, Suspended: true}
	OpKeyReencrypt = &Operation{Name: "key.reencrypt", Action: "key:Reencrypt", PCI: "10.2.1.7", Kind: "key", Mutates: true}
	OpKeyVerify    = &Operation{Name: "key.verify", Action: "key:Verify", PCI: "10.2.1.2", Kind: "key"}
	OpKeyRetire    = &Operation{Name: "key.retire", Action: "key:Retire", PCI: "10.2.1.7", Kind: "key", Mutates: true, Sealed: true, Suspended: true}
	OpKeyShred     = &Operation{Name: "key.shred", Action: "key:Shred", PCI: "10.2.1.7", Kind: "key", Mutates: true, Sealed: true, Suspended: true}
	OpSuspend      = &Operation{Name: "tenant.suspend", Action: "tenant:Suspend", PCI: "10.2.1.2", Kind: "tenant", Mutates: true, Sealed: true, Suspended: true}
	OpResume       = &Operation{Name: "tenant.resume", Action: "tenant:Resume", PCI: "10.2.1.2", Kind: "tenant", Mutates: true, Sealed: true, Suspended: true}

	OpCustodianPart   = &Operation{Name: "custodian.part", Action: "custodian:Submit", PCI: "10.2.1.2", Kind: "custodian", Sealed: true}
	OpCustodianUnlock = &Operation{Name: "custodian.unlock", Action: "custodian:Unlock", PCI: "10.2.1.2", Kind: "custodian", Sealed: true}
	OpCustodianLock   = &Operation{Name: "custodian.lock", Action: "custodian:Lock", PCI: "10.2.1.2", Kind: "custodian", Sealed: true, Suspended: true}
	OpCustodianStatus = &Operation{Name: "custodian.status", Action: "custodian:Status", PCI: "10.2.1.2", Kind: "custodian", Sealed: true, Suspended: true}
	OpCustodianInit   = &Operation{Name: "custodian.init", Action: "custodian:Init", PCI: "10.2.1.5", Kind: "custodian", Mutates: true, Sealed: true, Suspended: true}
	OpCustodianRekey  = &Operation{Name: "custodian.rekey", Action: "custodian:Rekey", PCI: "10.2.1.5", Kind: "custodian", Mutates: true, Sealed: true, Suspended: true}

	OpDiagnose  = &Operation{Name: "health.diagnose", Action: "health:Diagnose", PCI: "10.2.1.2", Kind: "system"}
	OpLogOpen   = &Operation{Name: "log.open", Action: "log:Open", PCI: "10.2.1.6", Kind: "log", Sealed: true}
	OpLogClose  = &Operation{Name: "log.close", Action: "log:Close", PCI: "10.2.1.6", Kind: "log", Sealed: true}
	OpLogRead   = &Operation{Name: "log.read", Action: "log:Read", PCI: "10.2.1.3", Kind: "log", Sealed: true}
	OpLogPrune  = &Operation{Name: audit.OpLogPrune, Action: "log:Prune", PCI: "10.2.1.7", Kind: "log", Mutates: true, Sealed: true, Suspended: true}
	OpTenantsLd = &Operation{Name: "tenants.load", Action: "tenants:Load", PCI: "10.2.1.7", Kind: "tenant", Sealed: true}
)

// Operations is the operation table.
func Operations() []*Operation {
	return []*Operation{
		OpCardStore, OpCardRetrieve, OpCardDelete, OpFingerprint,
		OpDataStore, OpDataRetrieve, OpDataDelete,
		OpHolderCreate, OpRecordExpire, OpRecordImport, OpKeyCreate, OpKeyRotate, OpKeyRewrap,
		OpKeyList, OpKeyJob, OpKeyReencrypt, OpKeyVerify, OpKeyRetire, OpKeyShred, OpSuspend, OpResume,
		OpCustodianPart, OpCustodianUnlock, OpCustodianLock, OpCustodianStatus, OpCustodianInit, OpCustodianRekey,
		OpDiagnose, OpLogOpen, OpLogClose, OpLogRead, OpLogPrune, OpTenantsLd,
	}
}
