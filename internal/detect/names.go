package detect

import (
	"net/netip"
	"strings"

	"cardea/internal/cloudtrail"
)

// What events name is kept once, with what the rules say of it, so that the way
// of an event asks for each only once.

// who is a principal.
type who struct {
	name    string
	person  bool
	onCall  bool
	tenant  string // the one it is registered for
	account string
}

// keyRef is a key, or what stands for one in the vault's own log.
type keyRef struct {
	name    string
	reg     *Key // nil: not registered
	retired map[string]bool
}

// word is a value of a property of calls.
type word struct{ text string }

// property is what of a call may be new.
type property uint8

const (
	propNetwork property = iota // /24 or /48
	propPlace                   // a named network, private or public
	propRegion
	propAgent // family of programs
	propEndpoint
	properties // how many there are
)

func (p property) String() string {
	return [properties]string{"network", "kind of network", "Region", "program", "VPC endpoint"}[p]
}

// logRef is a log: whose, where, of which service.
type logRef struct{ account, region, source string }

func (l logRef) String() string { return strings.Join([]string{l.source, l.account, l.region}, "/") }

// names interns. Its maps are emptied when they are full, at a moment at which
// nothing open refers to them.
type names struct {
	rules *Rules
	who   map[string]*who
	keys  map[string]*keyRef
	ips   map[string]*[2]*word // network and place
	words [properties]map[string]*word
	agent map[string]*word // by the whole user agent
	known map[string]bool  // accounts
	hosts map[string]bool
	byID  map[string]*Key
}

func newNames(r *Rules) *names {
	n := &names{rules: r, known: map[string]bool{}, byID: map[string]*Key{}}
	for _, a := range r.KnownAccounts {
		n.known[a] = true
	}
	for i := range r.Keys {
		for _, id := range r.Keys[i].IDs {
			n.byID[bareKey(id)] = &r.Keys[i]
		}
	}
	n.reset()
	return n
}

func (n *names) reset() {
	n.who, n.keys, n.ips = map[string]*who{}, map[string]*keyRef{}, map[string]*[2]*word{}
	n.agent, n.hosts = map[string]*word{}, map[string]bool{}
	for i := range n.words {
		n.words[i] = map[string]*word{}
	}
}

// The names of what is beyond the limits.
const (
	otherPrincipals = "(other principals)"
	otherKeys       = "(other keys)"
)

func (n *names) principal(e *cloudtrail.Event, limit int) (w *who, over bool) {
	if w := n.who[e.Principal]; w != nil {
		return w, false
	}
	name := strings.Clone(e.Principal)
	if len(n.who) >= limit {
		if w := n.who[otherPrincipals]; w != nil {
			return w, true
		}
		name, over = otherPrincipals, true
	}
	w = &who{name: name, account: strings.Clone(e.CallerAccount), onCall: matchAny(n.rules.OnCall, name)}
	switch {
	case matchAny(n.rules.Workloads, name):
	case matchAny(n.rules.People, name):
		w.person = true
	default:
		w.person = e.PrincipalType == "IAMUser" || e.PrincipalType == "Root" || e.PrincipalType == "custodian" || e.PrincipalType == "operator" ||
			strings.Contains(name, "AWSReservedSSO_")
	}
	for _, t := range n.rules.Tenants {
		if matchAny(t.Principals, name) {
			w.tenant = t.Name
		}
	}
	n.who[name] = w
	return w, over
}

func (n *names) key(name string, limit int) (k *keyRef, over bool) {
	if k := n.keys[name]; k != nil {
		return k, false
	}
	name = strings.Clone(name)
	if len(n.keys) >= limit && n.byID[bareKey(name)] == nil {
		if k := n.keys[otherKeys]; k != nil {
			return k, true
		}
		name, over = otherKeys, true
	}
	k = &keyRef{name: name, reg: n.byID[bareKey(name)]}
	if k.reg != nil && len(k.reg.RetiredMaterials) > 0 {
		k.retired = map[string]bool{}
		for _, m := range k.reg.RetiredMaterials {
			k.retired[m] = true
		}
	}
	n.keys[name] = k
	return k, over
}

const maxWords = 1 << 16 // addresses, and user agents, kept at a time

func (n *names) word(p property, text string) *word {
	w := n.words[p][text]
	if w == nil {
		w = &word{strings.Clone(text)}
		n.words[p][w.text] = w
	}
	return w
}

// address gives the network and the place of an address.
func (n *names) address(ip string) (network, place *word) {
	if v := n.ips[ip]; v != nil {
		return v[0], v[1]
	}
	v := &[2]*word{n.word(propNetwork, networkOf(ip)), n.word(propPlace, n.rules.placeOf(ip))}
	if len(n.ips) < maxWords {
		n.ips[strings.Clone(ip)] = v
	}
	return v[0], v[1]
}

func (n *names) program(agent string) *word {
	if w := n.agent[agent]; w != nil {
		return w
	}
	w := n.word(propAgent, agentFamily(agent))
	if len(n.agent) < maxWords {
		n.agent[strings.Clone(agent)] = w
	}
	return w
}

func (n *names) hostExpected(host string) bool {
	ok, there := n.hosts[host]
	if !there {
		ok = matchAny(n.rules.Hosts, host)
		if len(n.hosts) < maxWords {
			n.hosts[strings.Clone(host)] = ok
		}
	}
	return ok
}

func networkOf(ip string) string {
	a, err := netip.ParseAddr(ip)
	if err != nil {
		return "?"
	}
	a = a.Unmap()
	n := 24
	if a.Is6() {
		n = 48
	}
	p, err := a.WithZone("").Prefix(n)
	if err != nil {
		return "?"
	}
	return p.String()
}

// placeOf is the name of the network that an address is in, or what kind it is:
// the part of an AS number that can be had without a data base.
func (r *Rules) placeOf(ip string) string {
	a, err := netip.ParseAddr(ip)
	if err != nil {
		return "?"
	}
	a = a.Unmap().WithZone("")
	best, name := -1, "public"
	if a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() {
		name = "private"
	}
	for _, n := range r.Networks {
		for _, p := range n.prefixes {
			if p.Contains(a) && p.Bits() > best {
				best, name = p.Bits(), n.Name
			}
		}
	}
	return name
}

// agentFamily is the program of a user agent without its versions:
// "aws-sdk-go-v2/1.2 os/linux" and "…/1.3 …" are one. A console, the command line
// and libraries differ by their first word.
func agentFamily(agent string) string {
	first, _, _ := strings.Cut(strings.TrimLeft(agent, "["), " ")
	first, _, _ = strings.Cut(first, "/")
	first = strings.TrimRight(first, "],;")
	if len(first) > 64 {
		first = first[:64]
	}
	if first == "" {
		return "?"
	}
	return strings.ToLower(first)
}
