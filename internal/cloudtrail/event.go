package cloudtrail

import (
	"encoding/json"
	"time"
)

// Sources of events that are not AWS services: Cardea's own logs.
const (
	SourceKMS   = "kms.amazonaws.com"
	SourceTrail = "cloudtrail.amazonaws.com"
	SourceS3    = "s3.amazonaws.com"
	SourceVault = "vault.cardea" // Name is the operation of the audit entry: "card.retrieve"

	// SourceDigests is of what was found to be wrong with CloudTrail's digests: Name is
	// the Outcome, Principal the trail, SourceName the object, ErrorMessage a sentence.
	SourceDigests = "digests.cardea"
)

// Event is what reports and detection need of a record, whichever log it is from
// and however that names things. Strings that repeat from event to event may share
// memory; an Event is not changed once it is made.
type Event struct {
	ID      string // eventID, or the entry's id: the same event read twice has one ID
	Time    time.Time
	Source  string // eventSource
	Name    string // eventName
	Region  string
	Account string // recipientAccountId: whose log it is in

	// Principal is who is behind it, without what differs from session to session: the
	// ARN of a user, of the role of a session, the account's root, an AWS service's
	// name, or "tenant/NAME" and the like for the vault.
	Principal     string
	PrincipalType string // IAMUser, AssumedRole, Root, AWSService, AWSAccount; "tenant", "custodian" … for the vault
	CallerAccount string // userIdentity.accountId
	Session       string // role session name, if any
	AccessKey     string
	InvokedBy     string // the AWS service that made the call for the principal
	Console       bool   // sessionCredentialFromConsole, or a console's user agent
	MFA           MFA

	IP          string // empty for what is not an address; then SourceName has it
	SourceName  string // "AWS Internal", a service's DNS name
	UserAgent   string
	VPCEndpoint string
	TLSVersion  string
	Host        string // clientProvidedHostHeader

	ErrorCode    string
	ErrorMessage string

	// Keys are the keys it is about in canonical form: key ARN where the record tells
	// one, else "REGION/ACCOUNT/ID" made one; an alias that cannot be resolved is kept.
	Keys       []string
	MaterialID string            // keyMaterialId
	Context    map[string]string // encryptionContext; nil if there was none

	ReadOnly      bool
	ServiceEvent  bool   // AwsServiceEvent: KMS did it by itself
	SharedEventID string // the same call in another account's log

	// Params, Response and Details are requestParameters, responseElements and
	// serviceEventDetails as they came, only for events that change something; nil
	// otherwise.
	Params, Response, Details json.RawMessage

	// Tenant and Merchant are of the vault's entries, and of contexts that name them.
	Tenant, Merchant string
	Records          int // cardholder records that it gave out in clear
}

// MFA tells whether the principal used a second factor.
type MFA uint8

// What is known of a second factor.
const (
	MFAUnknown MFA = iota // long-lived credentials, or a service
	MFAAbsent
	MFAPresent
)

// Failed reports whether the call was refused or did not succeed.
func (e *Event) Failed() bool { return e.ErrorCode != "" }
