package app

import (
	"cardea/internal/retention"
	"cardea/internal/vault"
)

// The operations of the command line on keys, people and material that are not the
// vault's own. They are recorded in the log of the command line, see Tool.
var (
	OpApprovalAsk     = &vault.Operation{Name: "approval.ask", Action: "approval:Ask", PCI: "10.2.1.2", Kind: "approval", Sealed: true}
	OpApprovalApprove = &vault.Operation{Name: "approval.approve", Action: "approval:Approve", PCI: "10.2.1.2", Kind: "approval", Sealed: true}

	OpCeremonyGenerate = &vault.Operation{Name: "ceremony.generate", Action: "ceremony:Generate", PCI: "10.2.1.2", Kind: "key", Sealed: true}
	OpCeremonyImport   = &vault.Operation{Name: "ceremony.import", Action: "ceremony:Import", PCI: "10.2.1.7", Kind: "key", Sealed: true}

	OpReviewStart   = &vault.Operation{Name: retention.OpReviewStart, Action: "review:Start", PCI: "10.2.1.3", Kind: "review", Sealed: true}
	OpReviewFinding = &vault.Operation{Name: retention.OpReviewFinding, Action: "review:Finding", PCI: "10.2.1.2", Kind: "review", Sealed: true}
	OpReviewSettle  = &vault.Operation{Name: retention.OpReviewSettle, Action: "review:Settle", PCI: "10.2.1.2", Kind: "review", Sealed: true}
	OpReviewClose   = &vault.Operation{Name: retention.OpReviewClose, Action: "review:Close", PCI: "10.2.1.2", Kind: "review", Sealed: true}

	OpLifecycleApply      = &vault.Operation{Name: "lifecycle.apply", Action: "lifecycle:Apply", PCI: "10.2.1.7", Kind: "key", Sealed: true}
	OpLifecycleBaseline   = &vault.Operation{Name: "lifecycle.baseline", Action: "lifecycle:Baseline", PCI: "10.2.1.2", Kind: "key", Sealed: true}
	OpLifecycleRotate     = &vault.Operation{Name: "lifecycle.rotate", Action: "lifecycle:Rotate", PCI: "10.2.1.7", Kind: "key", Sealed: true}
	OpLifecycleCompromise = &vault.Operation{Name: "lifecycle.compromise", Action: "lifecycle:Compromise", PCI: "10.2.1.7", Kind: "key", Sealed: true}
	OpLifecycleLeaver     = &vault.Operation{Name: "lifecycle.leaver", Action: "lifecycle:Leaver", PCI: "10.2.1.5", Kind: "key", Sealed: true}
	OpLifecycleRetire     = &vault.Operation{Name: "lifecycle.retire", Action: "lifecycle:Retire", PCI: "10.2.1.7", Kind: "key", Sealed: true}
	OpLifecycleDeletion   = &vault.Operation{Name: "lifecycle.deletion", Action: "lifecycle:Deletion", PCI: "10.2.1.7", Kind: "key", Sealed: true}
)
