package cloudtrail

import (
	"bytes"
	"strings"
	"sync"
	"time"
)

// Bounds of what Names learns. Beyond them nothing new is learned.
const (
	maxAliases = 100_000
	maxRoles   = 100_000
)

// Names knows which key an alias stands for and which path a role has, so that a
// key or a principal has one name however a record calls it. It learns from the
// records that are read: from CreateAlias, UpdateAlias and DeleteAlias, by the
// time of the record and not by the order of reading; and the path of a role from
// sessions that tell it. It is safe for use by several goroutines.
type Names struct {
	mu      sync.RWMutex // guards what follows
	aliases map[string]alias
	roles   map[string]string // "ACCOUNT/NAME": ARN
}

type alias struct {
	key string // "" after DeleteAlias
	at  time.Time
}

// NewNames gives one that knows nothing yet.
func NewNames() *Names {
	return &Names{aliases: map[string]alias{}, roles: map[string]string{}}
}

// SetAlias tells that an alias has stood for a key since a time; both are ARNs.
// What is known of a later time stays.
func (n *Names) SetAlias(aliasARN, keyARN string, since time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	was, there := n.aliases[aliasARN]
	if there && was.at.After(since) || !there && len(n.aliases) >= maxAliases {
		return
	}
	n.aliases[aliasARN] = alias{key: keyARN, at: since}
}

// Aliases gives what each alias stands for, by their ARNs.
func (n *Names) Aliases() map[string]string {
	n.mu.RLock()
	defer n.mu.RUnlock()
	m := make(map[string]string, len(n.aliases))
	for name, a := range n.aliases {
		if a.key != "" {
			m[name] = a.key
		}
	}
	return m
}

func (n *Names) key(aliasARN string) string {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.aliases[aliasARN].key
}

// role gives the ARN of a role of which only the name is known.
func (n *Names) role(account, name string) string {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.roles[account+"/"+name]
}

// setRole learns the path of a role.
func (n *Names) setRole(account, name, arn string) {
	at := account + "/" + name
	n.mu.RLock()
	was, full := n.roles[at], len(n.roles) >= maxRoles
	n.mu.RUnlock()
	if was == arn || full {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.roles[at] = arn
}

// arnParts are partition, service, region, account and the rest of an ARN.
func arnParts(arn []byte) (part [5][]byte, ok bool) {
	if !bytes.HasPrefix(arn, []byte("arn:")) {
		return part, false
	}
	rest := arn[len("arn:"):]
	for i := range 4 {
		at := bytes.IndexByte(rest, ':')
		if at < 0 {
			return part, false
		}
		part[i], rest = rest[:at], rest[at+1:]
	}
	part[4] = rest
	return part, true
}

// partition is the partition that a region is in.
func partition(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	}
	return "aws"
}

// isKey and isAlias tell what an ARN is of.
func isKey(arn []byte) bool {
	p, ok := arnParts(arn)
	return ok && string(p[1]) == "kms" && bytes.HasPrefix(p[4], []byte("key/"))
}

func isAlias(arn []byte) bool {
	p, ok := arnParts(arn)
	return ok && string(p[1]) == "kms" && bytes.HasPrefix(p[4], []byte("alias/"))
}

// keys finds the keys that a record is about, each by its ARN, and learns from
// the operations on aliases. What resources says goes before what was asked for:
// it is what KMS made of it.
func (p *parser) keys(e *Event) {
	if e.Source == SourceKMS && p.alias != nil {
		p.learnAlias(e)
	}
	var list [len(p.resources) + len(p.keyIDs) + 1]string
	n := 0
	add := func(key string) {
		for _, have := range list[:n] {
			if have == key {
				return
			}
		}
		if key != "" {
			list[n] = key
			n++
		}
	}
	for _, arn := range p.resources[:p.resourceCount] {
		if isKey(arn) {
			add(p.texts.of(arn))
		}
	}
	if n == 0 {
		for _, arn := range p.resources[:p.resourceCount] {
			if isAlias(arn) {
				add(p.resolve(arn))
			}
		}
	}
	if n == 0 && e.Source == SourceKMS {
		for _, id := range p.keyIDs[:p.keyIDCount] {
			add(p.canonical(e, id))
		}
		add(p.canonical(e, p.detailKey))
		if n == 0 && p.alias != nil {
			add(p.canonical(e, p.alias))
		}
	}
	switch n {
	case 0:
	case 1:
		e.Keys = p.texts.one(list[0])
	default:
		e.Keys = append([]string(nil), list[:n]...)
	}
}

// canonical is the ARN of a key that is named by its id, its ARN or an alias, as
// its caller's account and the record's region read it.
func (p *parser) canonical(e *Event, id []byte) string {
	switch {
	case len(id) == 0:
		return ""
	case bytes.HasPrefix(id, []byte("arn:")):
		if isAlias(id) {
			return p.resolve(id)
		}
		return p.texts.of(id)
	case bytes.HasPrefix(id, []byte("alias/")):
		return p.resolve(p.arn(e, "", id))
	}
	return p.texts.of(p.arn(e, "key/", id))
}

// arn makes the ARN of a key or alias.
func (p *parser) arn(e *Event, kind string, id []byte) []byte {
	account := e.CallerAccount
	if account == "" {
		account = e.Account
	}
	b := append(p.scr[:0], "arn:"...)
	b = append(b, partition(e.Region)...)
	b = append(b, ":kms:"...)
	b = append(b, e.Region...)
	b = append(b, ':')
	b = append(b, account...)
	b = append(b, ':')
	b = append(b, kind...)
	b = append(b, id...)
	p.scr = b
	return b
}

// resolve is the key of an alias, or the alias if that is not known.
func (p *parser) resolve(aliasARN []byte) string {
	name := p.texts.of(aliasARN)
	if key := p.names.key(name); key != "" {
		return key
	}
	return name
}

func (p *parser) learnAlias(e *Event) {
	if e.Failed() {
		return
	}
	name := p.texts.of(p.arn(e, "", p.alias))
	switch e.Name {
	case "CreateAlias", "UpdateAlias":
		key := ""
		for _, arn := range p.resources[:p.resourceCount] {
			if isKey(arn) {
				key = p.texts.of(arn)
			}
		}
		if len(p.target) > 0 && !bytes.HasPrefix(p.target, []byte("alias/")) {
			key = p.canonical(e, p.target)
		}
		if key != "" {
			p.names.SetAlias(name, key, e.Time)
		}
	case "DeleteAlias":
		p.names.SetAlias(name, "", e.Time)
	}
}

// principal finds who is behind a record (CloudTrail user guide, "userIdentity
// element").
func (p *parser) principal(e *Event) {
	w := &p.who
	arn, isARN := arnParts(w.arn)
	e.PrincipalType = p.texts.of(w.typ)
	e.CallerAccount = p.texts.of(w.account)
	if e.CallerAccount == "" && isARN {
		e.CallerAccount = p.texts.of(arn[3])
	}
	if e.Account == "" {
		e.Account = e.CallerAccount
	}
	switch string(w.mfa) {
	case "true":
		e.MFA = MFAPresent
	case "false":
		e.MFA = MFAAbsent
	}
	switch e.PrincipalType {
	case "Root":
		e.Principal = p.root(e)
	case "IAMUser", "Role":
		e.Principal = p.texts.of(w.arn)
		if !isARN && len(w.user) > 0 {
			e.Principal = p.joined("arn:", []byte(partition(e.Region)), ":iam::", []byte(e.CallerAccount), ":user/", w.user)
		}
	case "AssumedRole", "FederatedUser":
		p.session(e, arn, isARN)
	case "SAMLUser", "WebIdentityUser":
		e.Principal = p.texts.of(w.principalID)
		if len(w.provider) > 0 && len(w.user) > 0 {
			e.Principal = p.joined("", w.provider, "/", w.user)
		}
	case "IdentityCenterUser":
		e.Principal = p.joined("", w.centreStore, "/user/", w.centreUser)
	case "AWSAccount":
		e.Principal = p.texts.of(w.arn)
		if len(w.arn) == 0 {
			id, session, _ := bytes.Cut(w.principalID, []byte(":"))
			e.Session = p.texts.of(session)
			e.Principal = p.joined("", w.account, "/", id)
		}
	case "AWSService":
		e.Principal = e.InvokedBy
	case "", "Unknown":
		if e.ServiceEvent || e.InvokedBy == "AWS Internal" {
			e.PrincipalType, e.Principal = "AWSService", e.Source
		}
	default:
		e.Principal = p.texts.of(w.arn)
	}
	if e.Principal == "" {
		e.Principal = p.texts.of(w.principalID)
	}
	if e.Principal == "" && e.PrincipalType == "AWSService" {
		e.Principal = e.Source
	}
}

func (p *parser) root(e *Event) string {
	return p.joined("arn:", []byte(partition(e.Region)), ":iam::", []byte(e.CallerAccount), ":root", nil)
}

// session is the role, user or root behind temporary credentials.
func (p *parser) session(e *Event, arn [5][]byte, isARN bool) {
	w := &p.who
	_, session, _ := bytes.Cut(w.principalID, []byte(":"))
	var role []byte
	if isARN {
		if rest, ok := bytes.CutPrefix(arn[4], []byte("assumed-role/")); ok {
			if at := bytes.LastIndexByte(rest, '/'); at >= 0 {
				role, session = rest[:at], rest[at+1:]
			}
		} else if name, ok := bytes.CutPrefix(arn[4], []byte("federated-user/")); ok {
			session = name
		}
	}
	e.Session = p.texts.of(session)
	switch {
	case len(w.issuerARN) > 0:
		e.Principal = p.texts.of(w.issuerARN)
		if issuer, ok := arnParts(w.issuerARN); ok && string(w.issuerType) == "Root" {
			e.Principal = p.texts.of(w.issuerARN)
		} else if at := bytes.LastIndexByte(issuer[4], '/'); ok && e.Principal != p.lastRole && at > len("role/")-1 && bytes.HasPrefix(issuer[4], []byte("role/")) {
			p.lastRole = e.Principal
			p.names.setRole(p.texts.of(issuer[3]), p.texts.of(issuer[4][at+1:]), e.Principal)
		}
	case role != nil:
		account := p.texts.of(arn[3])
		if e.Principal = p.names.role(account, p.texts.of(role)); e.Principal == "" {
			e.Principal = p.joined("arn:", arn[0], ":iam::", arn[3], ":role/", role)
		}
	default:
		e.Principal = p.texts.of(w.arn)
	}
}

// joined puts a text together from texts and parts in turn.
func (p *parser) joined(t1 string, b1 []byte, t2 string, b2 []byte, rest ...any) string {
	b := append(append(append(append(p.scr[:0], t1...), b1...), t2...), b2...)
	for _, r := range rest {
		switch r := r.(type) {
		case string:
			b = append(b, r...)
		case []byte:
			b = append(b, r...)
		}
	}
	p.scr = b
	return p.texts.of(b)
}
