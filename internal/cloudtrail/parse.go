package cloudtrail

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

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

// members reads an object member by member, whatever comes instead it skips.
func (p *parser) members(each func(p *parser, name []byte)) {
	if p.fault != faultNone {
		return
	}
	if p.peek() != '{' {
		p.skip()
		return
	}
	if !p.scanner.object() {
		return
	}
	for first := true; ; first = false {
		name, more := p.member(first)
		if !more {
			return
		}
		each(p, name)
	}
}

func (p *parser) identity(e *Event) {
	p.members(func(p *parser, name []byte) {
		switch string(name) {
		case "type":
			p.who.typ = p.word()
		case "principalId":
			p.who.principalID = p.word()
		case "arn":
			p.who.arn = p.word()
		case "accountId":
			p.who.account = p.word()
		case "accessKeyId":
			e.AccessKey = p.texts.of(p.word())
		case "userName":
			p.who.user = p.word()
		case "invokedBy":
			e.InvokedBy = p.texts.of(p.word())
		case "identityProvider":
			p.who.provider = p.word()
		case "sessionContext":
			p.members(sessionMember)
		case "onBehalfOf":
			p.members(func(p *parser, name []byte) {
				switch string(name) {
				case "userId":
					p.who.centreUser = p.word()
				case "identityStoreArn":
					p.who.centreStore = p.word()
				default:
					p.skip()
				}
			})
		default:
			p.skip()
		}
	})
}

func sessionMember(p *parser, name []byte) {
	switch string(name) {
	case "sessionIssuer":
		p.members(func(p *parser, name []byte) {
			switch string(name) {
			case "type":
				p.who.issuerType = p.word()
			case "arn":
				p.who.issuerARN = p.word()
			default:
				p.skip()
			}
		})
	case "attributes":
		p.members(func(p *parser, name []byte) {
			if string(name) == "mfaAuthenticated" {
				p.who.mfa = p.word()
				return
			}
			p.skip()
		})
	default:
		p.skip()
	}
}

// requestParameters takes the keys and contexts out of the parameters.
func (p *parser) requestParameters() {
	p.peek()
	from := p.i
	p.members(func(p *parser, name []byte) {
		switch string(name) {
		case "keyId", "destinationKeyId", "sourceKeyId":
			p.keyID(p.word())
		case "targetKeyId":
			p.target = p.word()
			p.keyID(p.target)
		case "aliasName":
			p.alias = p.word()
		case "encryptionContext":
			p.context = p.skip()
		case "sourceEncryptionContext":
			p.source = p.skip()
		case "destinationEncryptionContext":
			p.dest = p.skip()
		default:
			p.skip()
		}
	})
	p.params = p.span(from)
}

// span is what was read since from.
func (p *parser) span(from int) []byte {
	if p.fault != faultNone {
		return nil
	}
	return p.b[from:p.i]
}

func (p *parser) keyID(id []byte) {
	if len(id) > 0 && p.keyIDCount < len(p.keyIDs) {
		p.keyIDs[p.keyIDCount] = id
		p.keyIDCount++
	}
}

func (p *parser) additional(e *Event) {
	p.members(func(p *parser, name []byte) {
		switch string(name) {
		case "keyMaterialId":
			e.MaterialID = p.texts.of(p.word())
		case "MFAUsed": // of ConsoleLogin
			switch string(p.word()) {
			case "Yes":
				e.MFA = MFAPresent
			case "No":
				e.MFA = MFAAbsent
			}
		default:
			p.skip()
		}
	})
}

func (p *parser) serviceDetails() {
	p.peek()
	from := p.i
	p.members(func(p *parser, name []byte) {
		if string(name) == "keyId" {
			p.detailKey = p.word()
			return
		}
		p.skip()
	})
	p.details = p.span(from)
}

func (p *parser) resourceList() {
	if p.fault != faultNone {
		return
	}
	if p.peek() != '[' {
		p.skip()
		return
	}
	if !p.array() {
		return
	}
	for first := true; p.element(first); first = false {
		p.members(func(p *parser, name []byte) {
			if string(name) != "ARN" {
				p.skip()
				return
			}
			if arn := p.word(); len(arn) > 0 && p.resourceCount < len(p.resources) {
				p.resources[p.resourceCount] = arn
				p.resourceCount++
			}
		})
	}
}

func (p *parser) tls(e *Event) {
	p.members(func(p *parser, name []byte) {
		switch string(name) {
		case "tlsVersion":
			e.TLSVersion = p.texts.of(p.word())
		case "clientProvidedHostHeader":
			e.Host = p.texts.of(p.word())
		default:
			p.skip()
		}
	})
}

// complete fills in what depends on several members.
func (p *parser) complete(e *Event) {
	if e.ID == "" { // event version 1.00 had none
		sum := sha256.Sum256(p.b[:p.i])
		e.ID = "sha256-" + hex.EncodeToString(sum[:16])
	}
	p.address(e)
	p.principal(e)
	e.ReadOnly = string(p.readOnly) == "true"
	if p.readOnly == nil {
		e.ReadOnly = readsOnly(e.Name)
	}
	p.keys(e)
	p.contexts(e)
	e.Console = e.Console || fromConsole(e.UserAgent)
	if !e.ReadOnly {
		p.keepDetails(e)
	}
}

// keepDetails copies what is kept of events that change something, in one piece.
func (p *parser) keepDetails(e *Event) {
	all := make([]byte, 0, len(p.params)+len(p.response)+len(p.details))
	for _, part := range []struct {
		raw []byte
		to  *[]byte
	}{{p.params, (*[]byte)(&e.Params)}, {p.response, (*[]byte)(&e.Response)}, {p.details, (*[]byte)(&e.Details)}} {
		if len(part.raw) == 0 || string(part.raw) == "null" {
			continue
		}
		from := len(all)
		all = append(all, part.raw...)
		*part.to = all[from:len(all):len(all)]
	}
}

// readsOnly guesses for records from before there was readOnly.
func readsOnly(name string) bool {
	for _, prefix := range []string{"Get", "List", "Describe", "Lookup", "Head"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

func fromConsole(agent string) bool {
	for _, prefix := range []string{"console.amazonaws.com", "signin.amazonaws.com", "AWS-Console", "[S3Console", "S3Console", "Mozilla/"} {
		if strings.HasPrefix(agent, prefix) {
			return true
		}
	}
	return strings.HasSuffix(agent, ".console.amazonaws.com")
}

// address tells addresses from names.
func (p *parser) address(e *Event) {
	s := p.texts.of(p.ip)
	if s == "" {
		return
	}
	if c := s[len(s)-1]; c >= '0' && c <= '9' || strings.IndexByte(s, ':') >= 0 {
		if _, err := netip.ParseAddr(s); err == nil {
			e.IP = s
			return
		}
	}
	e.SourceName = s
}

func (p *parser) contexts(e *Event) {
	switch {
	case p.context != nil:
		e.Context = p.texts.context(&p.scanner, p.context)
	case p.source != nil || p.dest != nil:
		e.Context = reEncryptContext(p.texts.context(&p.scanner, p.source), p.texts.context(&p.scanner, p.dest))
	}
	if e.Context != nil {
		e.Tenant, e.Merchant = e.Context["tenant"], e.Context["merchant"]
	}
}

// reEncryptContext is the context of what ReEncrypt opened, and under names that
// begin with "destination." what is otherwise in the one of what it made.
func reEncryptContext(source, dest map[string]string) map[string]string {
	m := source
	copied := false
	for k, v := range dest {
		if was, there := source[k]; there && was == v {
			continue
		}
		if !copied {
			m, copied = make(map[string]string, len(source)+len(dest)), true
			for k, v := range source {
				m[k] = v
			}
		}
		m["destination."+k] = v
	}
	return m
}

// parseTime reads a time of RFC 3339, CloudTrail's form quickly.
func parseTime(b []byte) (time.Time, bool) {
	const form = "0000-00-00T00:00:00Z"
	if len(b) != len(form) {
		t, err := time.Parse(time.RFC3339Nano, string(b))
		return t.UTC(), err == nil && sane(t)
	}
	for i := range len(form) {
		if c := b[i]; form[i] == '0' && (c < '0' || c > '9') || form[i] != '0' && c != form[i] {
			return time.Time{}, false
		}
	}
	two := func(i int) int { return int(b[i]-'0')*10 + int(b[i+1]-'0') }
	year, month, day, hour, minute, second := two(0)*100+two(2), two(5), two(8), two(11), two(14), two(17)
	t := time.Date(year, time.Month(month), day, hour, minute, second, 0, time.UTC)
	// A 30th of February or a 61st second comes out as something else.
	return t, month >= 1 && month <= 12 && hour < 24 && minute < 60 && second < 60 && t.Day() == day && day > 0 && sane(t)
}

func sane(t time.Time) bool { return t.Year() >= 1970 && t.Year() <= 9999 }

// prefixed finds the time before a record, as CloudWatch Logs exports write it,
// and gives where the record begins.
func prefixed(line []byte) (int, bool) {
	const most = 40
	for i := range min(len(line), most) {
		if line[i] == ' ' || line[i] == '\t' {
			_, ok := parseTime(line[:i])
			if !ok {
				_, err := strconv.ParseInt(string(line[:i]), 10, 64) // milliseconds
				ok = err == nil
			}
			return i, ok
		}
	}
	return 0, false
}
