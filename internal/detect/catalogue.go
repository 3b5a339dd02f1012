package detect

// Rule is what is to be known of a rule or behaviour besides its thresholds.
type Rule struct {
	ID        string   `json:"id"`
	Title     string   `json:"title"`
	Sees      string   `json:"sees"` // what it fires on
	Why       string   `json:"why"`
	Next      string   `json:"next"` // what to do when it fires
	PCI       []string `json:"pci"`  // PCI DSS v4.0.1
	Severity  Severity `json:"severity"`
	Behaviour bool     `json:"behaviour"` // compares with what is usual, instead of matching an event
}

// Catalogue is every rule in the order of its number, and D1, by which the
// detector reports itself.
func Catalogue() []Rule {
	return []Rule{
		{
			ID: "R1", Title: "Key deletion scheduled", Severity: Medium, PCI: []string{"3.7.5", "10.4.1.1"},
			Sees: "ScheduleKeyDeletion, tried or done. More severe if it waits less than 30 days, more again if the key protects live data.",
			Why:  "What a deleted key encrypted is lost for good; destruction for ransom needs one call.",
			Next: "Ask who approved it; if nobody did, cancel the deletion at once (CancelKeyDeletion, then EnableKey) and withdraw the principal's access.",
		},
		{
			ID: "R2", Title: "Key disabled or enabled", Severity: Medium, PCI: []string{"3.7.5", "10.7.2"},
			Sees: "DisableKey, EnableKey, CancelKeyDeletion.",
			Why:  "A disabled key stops payments; one that is enabled again lets old ciphertext be read.",
			Next: "Compare with the change record of the key; set the state back if there is none.",
		},
		{
			ID: "R3", Title: "Key policy opened", Severity: High, PCI: []string{"7.2.1", "7.2.5", "3.6.1.3"},
			Sees: "PutKeyPolicy or CreateKey that adds a principal, an account or '*', drops a deny, or bypasses the lockout check; a policy that the log does not show counts as a change.",
			Why:  "The policy decides who decrypts; opening it is the quiet step before the theft.",
			Next: "Read the policy as it is now, put the reviewed one back, and look for uses of the key since.",
		},
		{
			ID: "R4", Title: "Risky grant", Severity: High, PCI: []string{"7.2.1", "7.2.5"},
			Sees: "CreateGrant to a grantee of an unknown account or outside the registered principals, without constraints on a vault key, or with the right to make more grants.",
			Why:  "A grant gives use of a key without a change of policy, and survives the credentials that made it.",
			Next: "Revoke the grant (RevokeGrant) unless its owner is known; look for uses under its grantId.",
		},
		{
			ID: "R5", Title: "Imported key material changed", Severity: High, PCI: []string{"3.7.1", "3.7.7"},
			Sees: "ImportKeyMaterial, DeleteImportedKeyMaterial, GetParametersForImport, any result.",
			Why:  "Who imports material knows the key; who deletes it takes the data hostage.",
			Next: "Check that it was part of a key ceremony with two custodians; else treat the key as known to others.",
		},
		{
			ID: "R6", Title: "Key rotation weakened", Severity: Medium, PCI: []string{"3.7.4"},
			Sees: "DisableKeyRotation, or EnableKeyRotation with a longer period than allowed.",
			Why:  "Keys must change at the end of their cryptoperiod.",
			Next: "Enable rotation again with the period of your key policy.",
		},
		{
			ID: "R7", Title: "Pinned alias moved", Severity: High, PCI: []string{"3.7.7"},
			Sees: "UpdateAlias or DeleteAlias on an alias that the rules pin, or CreateAlias that makes it anew.",
			Why:  "Moving the alias makes the vault encrypt under a key of the mover's choice.",
			Next: "Point the alias back to the registered key; find what was encrypted meanwhile and re-encrypt it.",
		},
		{
			ID: "R8", Title: "Key replicated or primary moved", Severity: High, PCI: []string{"3.6.1.4", "3.7.3"},
			Sees: "ReplicateKey, UpdatePrimaryRegion.",
			Why:  "A replica is the same key where nobody watches.",
			Next: "Confirm the Region with the key's owner; delete the replica if it was not planned.",
		},
		{
			ID: "R9", Title: "Key store disconnected", Severity: High, PCI: []string{"10.7.2", "3.7.3"},
			Sees: "DisconnectCustomKeyStore, DeleteCustomKeyStore, UpdateCustomKeyStore.",
			Why:  "Without its store a key serves nobody; an altered store may send key requests elsewhere.",
			Next: "Reconnect the store; check its address and certificate if it was updated.",
		},
		{
			ID: "R10", Title: "Vault key used without its context", Severity: Medium, PCI: []string{"3.5.1", "3.6.1"},
			Sees: "A cryptographic call on a vault key without encryption context or without the registered context keys.",
			Why:  "The vault always names tenant and merchant; a call that does not is not the vault.",
			Next: "Find the caller; if it is not the vault, withdraw its access to the key.",
		},
		{
			ID: "R11", Title: "Principal in another tenant's context", Severity: High, PCI: []string{"7.2.5", "3.5.1"},
			Sees: "A cryptographic call whose context names another tenant than the principal is registered for.",
			Why:  "Tenants are kept apart by that name.",
			Next: "Stop the principal; list what it decrypted of the other tenant.",
		},
		{
			ID: "R12", Title: "Person decrypts with a vault key", Severity: High, PCI: []string{"3.6.1.3", "7.2.6", "8.6.1"},
			Sees: "Decrypt or ReEncrypt on a vault key by a person or with console credentials.",
			Why:  "Only programs decrypt card data; a person with the console is outside every control of the vault.",
			Next: "Ask the person; end the sessions; review what was decrypted.",
		},
		{
			ID: "R13", Title: "Key used from an unknown account", Severity: Medium, PCI: []string{"7.2.1", "7.2.5"},
			Sees: "A call from an account other than the log's which the rules do not know.",
			Why:  "A policy or grant lets a foreign account use the key.",
			Next: "Name the account in the rules if it is yours; else remove it from policy and grants.",
		},
		{
			ID: "R14", Title: "Root was used", Severity: High, PCI: []string{"8.2.2", "7.2.2"},
			Sees: "Any call to a watched service by an account's root.",
			Why:  "Root passes by every restriction and belongs to no person.",
			Next: "Confirm the emergency with the holders of the root credentials; else rotate them now.",
		},
		{
			ID: "R15", Title: "Administration without second factor", Severity: Medium, PCI: []string{"8.4.1"},
			Sees: "A change of keys, grants or trails by a person without MFA, known or provable.",
			Why:  "Stolen passwords and access keys are enough without it.",
			Next: "Require MFA in the person's policy; confirm the change with the person.",
		},
		{
			ID: "R16", Title: "Administers and uses the same key", Severity: Medium, PCI: []string{"7.2.2", "3.6.1.3"},
			Sees: "The same principal changed a vault key and encrypted or decrypted with it within some days.",
			Why:  "Administration and use of keys are separate duties; together one principal can do the whole theft.",
			Next: "Split the role; review both the change and the use.",
		},
		{
			ID: "R17", Title: "Weak TLS or unknown host name", Severity: Medium, PCI: []string{"4.2.1"},
			Sees: "A call over TLS older than 1.2, or with a host header that the rules do not expect.",
			Why:  "Old TLS is forbidden for card data; a strange host name shows an interceptor or a wrong proxy.",
			Next: "Find the client by IP and user agent and update or remove it.",
		},
		{
			ID: "R18", Title: "Not through the registered endpoint", Severity: Medium, PCI: []string{"1.4.1", "7.2.5"},
			Sees: "A cryptographic call on a vault key from an address, but not through a registered VPC endpoint.",
			Why:  "Workloads reach the key service by the private endpoint; stolen credentials are used from elsewhere.",
			Next: "Treat the credentials as stolen unless the caller is known: end the sessions, rotate.",
		},
		{
			ID: "R19", Title: "Retired key or material used to encrypt", Severity: Medium, PCI: []string{"3.7.4", "3.7.5"},
			Sees: "Encrypt, GenerateDataKey or ReEncrypt to a retired key, or under key material registered as retired.",
			Why:  "Retired keys only decrypt; new data under them prolongs a cryptoperiod that has ended.",
			Next: "Update the client that still encrypts with it; re-encrypt what it wrote.",
		},
		{
			ID: "R20", Title: "Logging weakened", Severity: Critical, PCI: []string{"10.2.1.6", "10.3.2", "10.7.2"},
			Sees: "StopLogging, DeleteTrail, UpdateTrail, event selectors without KMS, a gap of the digests, policy or lifecycle changes of a log bucket, a closed audit log.",
			Why:  "The first act of a careful thief is to switch off the camera.",
			Next: "Start logging again, keep what there is, and treat the time in between as unknown.",
		},
		{
			ID: "B1", Title: "Unusual volume", Severity: High, Behaviour: true, PCI: []string{"10.4.1.1", "11.5.1"},
			Sees: "More calls of one operation by one principal on one key than its baseline of that hour explains, in 1 min, 5 min or 1 h, or a little more hour after hour.",
			Why:  "Decrypt is how card data leaves; neither the burst nor the slow drain matches a rule.",
			Next: "Compare with deployments and batches; if unexplained, stop the principal and list what it decrypted.",
		},
		{
			ID: "B2", Title: "Burst of failures", Severity: Medium, Behaviour: true, PCI: []string{"10.2.1.4", "10.4.1.1"},
			Sees: "More refused or failed calls of one class (denied, wrong context or ciphertext, state, not found) than usual, in 5 min, 1 h or over days.",
			Why:  "Someone tries keys, contexts or ciphertexts that are not theirs.",
			Next: "Read the error messages; a misconfigured deployment stops with its fix, an attacker goes on to another key.",
		},
		{
			ID: "B3", Title: "New principal on a key", Severity: Medium, Behaviour: true, PCI: []string{"7.2.5", "10.4.1.1"},
			Sees: "The first use of a vault key by a principal, once the key has a history.",
			Why:  "The set of programs that use a vault key changes seldom, and by a reviewed change.",
			Next: "Match it with a change record; approve it in the file of changes, or withdraw its access.",
		},
		{
			ID: "B4", Title: "New place or program", Severity: Medium, Behaviour: true, PCI: []string{"10.4.1.1", "11.5.1"},
			Sees: "A principal from networks, Regions, endpoints or with programs that it never used lately, in sum rarer than its history explains.",
			Why:  "Stolen credentials work from somewhere else and with another tool.",
			Next: "Find whose address it is; rotate the credentials if nobody knows it.",
		},
		{
			ID: "B5", Title: "Person at an unusual hour", Severity: Low, Behaviour: true, PCI: []string{"10.4.1.1"},
			Sees: "A person outside the working hours, and rarely active at that hour before.",
			Why:  "Who uses a stolen account often sits in another time zone.",
			Next: "Ask the person whether it was them.",
		},
		{
			ID: "B6", Title: "Many merchants or records touched", Severity: High, Behaviour: true, PCI: []string{"10.4.1.1", "7.2.5"},
			Sees: "More distinct tenants and merchants, or distinct contexts, decrypted by one principal than usual in 5 min or 1 h or over hours.",
			Why:  "A scraper touches everything once; a service touches what its customers ask for.",
			Next: "List the merchants; stop the principal if no batch explains it.",
		},
		{
			ID: "B7", Title: "Many keys touched", Severity: High, Behaviour: true, PCI: []string{"10.4.1.1", "7.2.5"},
			Sees: "One principal on more distinct keys than usual, refused calls included.",
			Why:  "Workloads use few keys; whoever tries them all looks for one that opens.",
			Next: "See which keys answered; withdraw what the principal does not need.",
		},
		{
			ID: "B8", Title: "Decrypts and encrypts out of proportion", Severity: Medium, Behaviour: true, PCI: []string{"10.4.1.1"},
			Sees: "The share of decrypts among a principal's calls on a key moved further than it usually does in an hour.",
			Why:  "Reading out a vault changes the proportion even where the volume stays.",
			Next: "Compare with releases and batches of the service.",
		},
		{
			ID: "B9", Title: "Silence", Severity: High, Behaviour: true, PCI: []string{"10.7.2", "10.7.3"},
			Sees: "No event of a log, or of a vault key, for so long that its baseline makes it next to impossible.",
			Why:  "A log that stops is a failed control, and how an intruder hides.",
			Next: "Check trail, delivery and service; if the service runs, the log was stopped.",
		},
		{
			ID: "B10", Title: "Enumeration of keys", Severity: Medium, Behaviour: true, PCI: []string{"10.4.1.1", "11.5.1"},
			Sees: "A sweep of ListKeys, DescribeKey, GetKeyPolicy and the like over many keys by one principal that does not usually do that.",
			Why:  "It is how an intruder learns which keys exist and what the policies allow.",
			Next: "Find the tool behind it; an unknown one means that the credentials are in other hands.",
		},
		{
			ID: "D1", Title: "Detector at its limit", Severity: High, PCI: []string{"10.7.2"},
			Sees: "More principals, keys or pairs than the limits allow to keep apart.",
			Why:  "Beyond its limits the detector sees less; a flood of made-up names must not pass as quiet.",
			Next: "See which account the names come from; raise the limits if they are real.",
		},
	}
}
