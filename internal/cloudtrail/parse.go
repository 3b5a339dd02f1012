package cloudtrail

import "strings"

// found is what an object turned out to be.
type found uint8

const (
	foundNothing   found = iota // JSON, but no record: a member that every record has is missing
	foundRecord                 // the event is filled in
	foundOther                  // no record, and none that is broken: a digest, an Insight, a log event of something else
	foundVersion                // a record of another major version
	foundContainer              // its list of records begins at the scanner's place
)

// maxWrapped is how often a record may be wrapped in something else: a
// notification in a log event in an export.
const maxWrapped = 3

// parser reads one record at a time. What it remembers of a record until it is
// complete are parts of the buffer.
type parser struct {
	scanner
	texts *texts
	names *Names
	scr   []byte // for texts that are put together

	lastRole string // that was told to names last

	seen     uint64 // the members that were there
	version  []byte
	who      identityParts
	time     []byte
	ip       []byte
	readOnly []byte
	category []byte

	params, response, details []byte // raw
	keyIDs                    [4][]byte
	keyIDCount                int
	alias, target             []byte // of the operations on aliases
	context, source, dest     []byte // raw encryption contexts
	resources                 [8][]byte
	resourceCount             int
	detailKey                 []byte
	wrappedObject             []byte // "detail" of EventBridge
	wrappedText               []byte // "CloudTrailEvent" of LookupEvents, "message" of CloudWatch Logs
	digest                    bool
}

// identityParts is userIdentity, as far as the principal depends on it.
type identityParts struct {
	typ, principalID, arn, account, user, provider []byte
	issuerType, issuerARN                          []byte
	centreUser, centreStore                        []byte
	mfa                                            []byte
}

func (p *parser) clear() {
	*p = parser{scanner: p.scanner, texts: p.texts, names: p.names, scr: p.scr, lastRole: p.lastRole}
}

// object reads the object that is next. At the top it may be a container of
// records; wrapped counts what it is in already.
func (p *parser) object(e *Event, top bool, wrapped int) found {
	p.clear()
	*e = Event{}
	if !p.scanner.object() {
		if p.fault == faultNone {
			p.fail(faultBad)
		}
		return foundNothing
	}
	for first := true; ; first = false {
		name, more := p.member(first)
		if !more {
			break
		}
		if top && p.b[p.i] == '[' && isContainer(name) {
			return foundContainer
		}
		p.recordMember(e, name)
	}
	if p.fault != faultNone {
		return foundNothing
	}
	return p.finish(e, wrapped)
}

func isContainer(name []byte) bool {
	switch string(name) {
	case "Records", "Events", "logEvents", "events":
		return true
	}
	return false
}

// finish makes the event of a record's members.
func (p *parser) finish(e *Event, wrapped int) found {
	if e.Name == "" || e.Source == "" || p.time == nil {
		switch {
		case wrapped < maxWrapped && p.wrappedObject != nil:
			return p.within(e, p.wrappedObject, wrapped)
		case wrapped < maxWrapped && p.wrappedText != nil:
			return p.within(e, p.wrappedText, wrapped)
		case p.digest || string(p.category) == "Insight":
			return foundOther
		}
		return foundNothing
	}
	if p.version != nil && !strings.HasPrefix(string(p.version), "1.") {
		return foundVersion
	}
	var ok bool
	if e.Time, ok = parseTime(p.time); !ok {
		return foundNothing
	}
	p.complete(e)
	return foundRecord
}

// within reads what is wrapped in a member. A text that is no object is a log
// line of something else.
func (p *parser) within(e *Event, json []byte, wrapped int) found {
	outer := p.scanner
	defer func() { p.scanner = scanner{b: outer.b, i: outer.i, scratch: p.scratch} }()
	p.scanner = scanner{b: json, scratch: outer.scratch}
	if p.peek() != '{' {
		return foundOther
	}
	got := p.object(e, false, wrapped+1)
	switch {
	case p.fault != faultNone: // what it is in is sound all the same
		return foundNothing
	case got == foundNothing && p.seen == 0:
		return foundOther // JSON of another kind
	}
	return got
}

// Members of a record, as bits of seen.
const (
	inVersion = 1 << iota
	inIdentity
	inTime
	inSource
	inName
	inRegion
	inIP
	inAgent
	inErrorCode
	inErrorMessage
	inParams
	inResponse
	inAdditional
	inID
	inReadOnly
	inResources
	inType
	inRecipient
	inShared
	inEndpoint
	inDetails
	inConsole
	inTLS
	inCategory
)

// once notes that a member is there, for the first time.
func (p *parser) once(bit uint64) {
	if p.seen&bit != 0 {
		p.fail(faultTwice)
	}
	p.seen |= bit
}

// textOf reads a member that is a text.
func (p *parser) textOf(bit uint64) string {
	p.once(bit)
	return p.texts.of(p.word())
}

// recordMember reads a member of a record, of an envelope, or of neither.
func (p *parser) recordMember(e *Event, name []byte) {
	switch string(name) {
	case "eventVersion":
		p.once(inVersion)
		p.version = p.word()
	case "userIdentity":
		p.once(inIdentity)
		p.identity(e)
	case "eventTime":
		p.once(inTime)
		p.time = p.word()
	case "eventSource":
		e.Source = p.textOf(inSource)
	case "eventName":
		e.Name = p.textOf(inName)
	case "awsRegion":
		e.Region = p.textOf(inRegion)
	case "sourceIPAddress":
		p.once(inIP)
		p.ip = p.word()
	case "userAgent":
		e.UserAgent = p.textOf(inAgent)
	case "errorCode":
		e.ErrorCode = p.textOf(inErrorCode)
	case "errorMessage":
		e.ErrorMessage = p.textOf(inErrorMessage)
	case "requestParameters":
		p.once(inParams)
		p.requestParameters()
	case "responseElements":
		p.once(inResponse)
		p.response = p.skip()
	case "additionalEventData":
		p.once(inAdditional)
		p.additional(e)
	case "eventID":
		p.once(inID)
		e.ID = cut(p.word())
	case "readOnly":
		p.once(inReadOnly)
		p.readOnly = p.word()
	case "resources":
		p.once(inResources)
		p.resourceList()
	case "eventType":
		p.once(inType)
		e.ServiceEvent = string(p.word()) == "AwsServiceEvent"
	case "recipientAccountId":
		e.Account = p.textOf(inRecipient)
	case "sharedEventID":
		p.once(inShared)
		e.SharedEventID = cut(p.word())
	case "vpcEndpointId":
		e.VPCEndpoint = p.textOf(inEndpoint)
	case "serviceEventDetails":
		p.once(inDetails)
		p.serviceDetails()
	case "sessionCredentialFromConsole":
		p.once(inConsole)
		e.Console = string(p.word()) == "true"
	case "tlsDetails":
		p.once(inTLS)
		p.tls(e)
	case "eventCategory":
		p.once(inCategory)
		p.category = p.word()
	case "detail":
		if raw := p.skip(); len(raw) > 0 && raw[0] == '{' {
			p.wrappedObject = raw
		}
	case "CloudTrailEvent", "message":
		p.wrappedText = p.word()
	case "digestS3Object":
		p.digest = true
		p.skip()
	default:
		p.skip()
	}
}
