package cloudtrail

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"cardea/internal/audit"
)

// secondsForm is CloudTrail's form of a time.
const secondsForm = "2006-01-02T15:04:05Z"

// FromEntry makes the record of an entry of the key service, and reports false for
// entries of anything else, which CloudTrail has no records of.
func FromEntry(e audit.Entry) (Record, bool) {
	c := e.Call
	if c == nil {
		return Record{}, false
	}
	r := Record{
		EventVersion: "1.11", EventTime: e.Time.UTC().Format(secondsForm), EventSource: c.Source, EventName: c.Event,
		AWSRegion: c.Region, SourceIPAddress: e.Who.IP, UserAgent: c.Agent, RequestID: e.RequestID, EventID: e.ID,
		ReadOnly: c.ReadOnly, EventType: "AwsApiCall", ManagementEvent: true, RecipientAccountID: c.Account, EventCategory: "Management",
	}
	r.UserIdentity = identity(c)
	if c.Error != "" {
		r.ErrorCode, r.ErrorMessage = c.Error, e.Detail
		if c.Error == "AccessDeniedException" { // CloudTrail's own name for it
			r.ErrorCode = "AccessDenied"
		}
	}
	r.RequestParameters = parameters(c.Request)
	for name, pairs := range contexts(c) {
		r.RequestParameters = with(r.RequestParameters, name, pairs)
	}
	for _, p := range c.Response {
		if additional[p.Name] && (p.Name != "grantId" || c.Event != "CreateGrant") {
			r.AdditionalEventData = with(r.AdditionalEventData, p.Name, p.Value)
		} else {
			r.ResponseElements = put(r.ResponseElements, p)
		}
	}
	for _, arn := range c.Resources {
		r.Resources = append(r.Resources, resource(arn))
	}
	if version, suite, ok := strings.Cut(c.TLS, " "); ok {
		r.TLSDetails = &TLSDetails{Version: version, CipherSuite: suite}
	}
	if c.Type == "AWSService" {
		asServiceEvent(&r)
	}
	return r, true
}

// asServiceEvent is the form of what the service does by itself.
func asServiceEvent(r *Record) {
	r.EventType, r.SourceIPAddress, r.UserAgent = "AwsServiceEvent", "AWS Internal", "AWS Internal"
	r.UserIdentity = UserIdentity{AccountID: r.UserIdentity.AccountID, InvokedBy: "AWS Internal"}
	for _, x := range r.Resources {
		if x.Type == keyType {
			r.ServiceEventDetails = with(r.ServiceEventDetails, "keyId", x.ARN[strings.LastIndexByte(x.ARN, '/')+1:])
		}
	}
}

func identity(c *audit.Call) UserIdentity {
	u := UserIdentity{Type: c.Type, PrincipalID: c.ID, ARN: c.ARN, AccountID: c.Caller, AccessKeyID: c.Key}
	if !strings.HasPrefix(c.ARN, "arn:") { // what the log calls one without an identity
		u.ARN = ""
	}
	if c.Type == "IAMUser" {
		u.UserName = lastName(c.ARN)
	}
	if c.Issued.IsZero() {
		return u
	}
	u.SessionContext = &SessionContext{Attributes: SessionAttributes{
		CreationDate: c.Issued.UTC().Format(time.RFC3339), MFAAuthenticated: strconv.FormatBool(c.MFA),
	}}
	if c.Issuer != "" {
		id, _, _ := strings.Cut(c.ID, ":")
		u.SessionContext.SessionIssuer = &SessionIssuer{Type: "Role", PrincipalID: id, ARN: c.Issuer, AccountID: c.Caller, UserName: lastName(c.Issuer)}
	}
	return u
}

func lastName(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }

const keyType = "AWS::KMS::Key"

func resource(arn string) Resource {
	r := Resource{ARN: arn}
	f := strings.SplitN(arn, ":", 6)
	if len(f) != 6 {
		return r
	}
	r.AccountID = f[4]
	switch kind, _, _ := strings.Cut(f[5], "/"); f[2] + " " + kind {
	case "kms key":
		r.Type = keyType
	case "kms alias":
		r.Type = "AWS::KMS::Alias"
	case "iam user":
		r.Type = "AWS::IAM::User"
	case "iam role":
		r.Type = "AWS::IAM::Role"
	}
	return r
}

// additional are the response parameters that stand in additionalEventData.
var additional = map[string]bool{
	"keyMaterialId": true, "sourceKeyMaterialId": true, "destinationKeyMaterialId": true, "customKeyStoreId": true, "grantId": true, "clusterId": true,
}

// Parameters whose values are no texts.
var (
	numbers = map[string]bool{
		"numberOfBytes": true, "pendingWindowInDays": true, "rotationPeriodInDays": true, "limit": true, "durationSeconds": true, "maxSessionDuration": true,
		"policyLength": true,
	}
	booleans = map[string]bool{
		"multiRegion": true, "dryRun": true, "bypassPolicyLockoutSafetyCheck": true, "truncated": true,
	}
	lists = map[string]bool{"operations": true} // with commas between
)

// repeated are the parameters of which each item is a parameter of its own.
var repeated = map[string]bool{"tagKeys": true}

// maps are the parameters that hold names which clients chose: what comes after one
// of these is such a name as it is, dots and all.
var maps = []string{"constraints.encryptionContextEquals.", "constraints.encryptionContextSubset."}

// tagPrefix is of a tag, which CloudTrail has in a list.
const tagPrefix = "tags."

func parameters(ps []audit.Param) (m map[string]any) {
	for _, p := range ps {
		m = put(m, p)
	}
	return m
}

// put adds a parameter. A name with dots stands for an object in an object.
func put(m map[string]any, p audit.Param) map[string]any {
	if key, ok := strings.CutPrefix(p.Name, tagPrefix); ok {
		return appendTo(m, "tags", map[string]any{"tagKey": key, "tagValue": p.Value})
	}
	if repeated[p.Name] {
		return appendTo(m, p.Name, p.Value)
	}
	for _, prefix := range maps {
		if name, ok := strings.CutPrefix(p.Name, prefix); ok {
			return nest(m, strings.Split(strings.TrimSuffix(prefix, "."), "."), name, p.Value)
		}
	}
	path := strings.Split(p.Name, ".")
	if slices.Contains(path, "") { // no name of ours
		return with(m, p.Name, typed(p.Name, p.Value))
	}
	last := path[len(path)-1]
	return nest(m, path[:len(path)-1], last, typed(last, p.Value))
}

// nest puts a value into an object that is so deep in others.
func nest(m map[string]any, path []string, name string, value any) map[string]any {
	if len(path) == 0 {
		switch was := m[name].(type) {
		case string: // came before: nothing that the entry says is lost
			return with(m, name, []any{was, value})
		case []any:
			return appendTo(m, name, value)
		}
		return with(m, name, value)
	}
	below, _ := m[path[0]].(map[string]any)
	return with(m, path[0], nest(below, path[1:], name, value))
}

// appendTo adds an item to a list.
func appendTo(m map[string]any, name string, item any) map[string]any {
	list, _ := m[name].([]any)
	return with(m, name, append(list, item))
}

func typed(name, value string) any {
	switch {
	case numbers[name]:
		if n, err := strconv.ParseInt(value, 10, 64); err == nil {
			return n
		}
	case booleans[name]:
		if b, err := strconv.ParseBool(value); err == nil {
			return b
		}
	case lists[name]:
		return strings.Split(value, ",")
	}
	return value
}

// contexts are the encryption contexts of a request by the names of their
// parameters: ReEncrypt has two, of which each pair says which it is of.
func contexts(c *audit.Call) map[string]map[string]any {
	out := map[string]map[string]any{}
	for _, p := range c.Context {
		of, name := "encryptionContext", p.Name
		if c.Event == "ReEncrypt" {
			for _, which := range []string{"sourceEncryptionContext", "destinationEncryptionContext"} {
				if rest, ok := strings.CutPrefix(p.Name, which+"."); ok {
					of, name = which, rest
				}
			}
		}
		out[of] = with(out[of], name, p.Value)
	}
	return out
}

func with(m map[string]any, name string, value any) map[string]any {
	if m == nil {
		m = map[string]any{}
	}
	m[name] = value
	return m
}
