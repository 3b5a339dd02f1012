package cloudtrail

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
