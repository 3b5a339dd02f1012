package detect

import (
	"strings"

	"cardea/internal/cloudtrail"
)

// The rules by their place in the catalogue.
const (
	r1 uint8 = iota
	r2
	r3
	r4
	r5
	r6
	r7
	r8
	r9
	r10
	r11
	r12
	r13
	r14
	r15
	r16
	r17
	r18
	r19
	r20
	b1
	b2
	b3
	b4
	b5
	b6
	b7
	b8
	b9
	b10
	d1
	ruleCount
)

// hit notes that an event fulfils a rule that looks at ordinary use. Such events
// come by the thousand: a minute's are one finding.
func (d *Detector) hit(m *minute, rule uint8, e *cloudtrail.Event, at int64, w *who, k *keyRef, detail string) {
	if d.set[rule].Disabled {
		return
	}
	ref := hitRef{rule: rule, w: w, k: k, detail: detail}
	h := m.hits[ref]
	if h == nil {
		if len(m.hits) >= d.rules.Engine.MaxPairs {
			d.over = true
			return
		}
		h = &hit{ref: ref}
		m.hits[ref] = h
	}
	h.add(e, at)
	if h.Traces[0].At == at && h.Traces[0].ID == e.ID {
		h.first = *e
		h.first.Params, h.first.Response, h.first.Details, h.first.Context = nil, nil, nil, nil
	}
}

// useOfVaultKey is what use of a registered key must look like (R10, R11, R12, R18, R19).
func (d *Detector) useOfVaultKey(m *minute, e *cloudtrail.Event, at int64, w *who, k *keyRef, op operation) {
	if e.Source != cloudtrail.SourceKMS {
		return
	}
	if !k.reg.ContextOptional && op <= opReEncrypt {
		if missing := missingContext(k.reg, e); missing != "" {
			d.hit(m, r10, e, at, w, k, missing)
		}
	}
	if w.tenant != "" && e.Tenant != "" && w.tenant != e.Tenant {
		d.hit(m, r11, e, at, w, k, e.Tenant)
	}
	if op.reads() && (w.person || e.Console) {
		d.hit(m, r12, e, at, w, k, "")
	}
	if len(d.rules.VPCEndpoints) > 0 && e.IP != "" && !contains(d.rules.VPCEndpoints, e.VPCEndpoint) {
		d.hit(m, r18, e, at, w, k, e.VPCEndpoint)
	}
	if op.encrypts() && e.ErrorCode == "" {
		switch {
		case k.reg.Retired && (op != opReEncrypt || e.Keys[len(e.Keys)-1] == k.name): // ReEncrypt's last key is where it goes
			d.hit(m, r19, e, at, w, k, "")
		case e.MaterialID != "" && k.retired[e.MaterialID]:
			d.hit(m, r19, e, at, w, k, e.MaterialID)
		}
	}
}

// missingContext names what a vault key's context lacks, "" if nothing.
func missingContext(k *Key, e *cloudtrail.Event) string {
	if len(e.Context) == 0 {
		return "encryption context"
	}
	for _, name := range k.RequiredContext {
		if _, there := e.Context[name]; !there {
			return name
		}
	}
	return ""
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// anyUse is what any call must look like (R13, R14, R15, R17).
func (d *Detector) anyUse(m *minute, e *cloudtrail.Event, at int64, w *who, op operation) {
	if e.ServiceEvent {
		return
	}
	var k *keyRef
	if len(e.Keys) > 0 {
		k, _ = d.names.key(e.Keys[0], d.rules.Engine.MaxKeys)
	}
	if e.Source == cloudtrail.SourceKMS && e.PrincipalType != "AWSService" && e.CallerAccount != "" && e.CallerAccount != e.Account && !d.names.known[e.CallerAccount] {
		d.hit(m, r13, e, at, w, k, e.CallerAccount)
	}
	if e.PrincipalType == "Root" && op != opOther {
		d.hit(m, r14, e, at, w, nil, e.Name)
	}
	if op == opAdmin && w.person && e.MFA != cloudtrail.MFAPresent && e.Source != cloudtrail.SourceVault && e.PrincipalType != "Root" {
		d.hit(m, r15, e, at, w, k, e.Name)
	}
	if e.TLSVersion != "" && weakTLS(e.TLSVersion) {
		d.hit(m, r17, e, at, w, nil, e.TLSVersion)
	}
	if e.Host != "" && len(d.rules.Hosts) > 0 && e.InvokedBy == "" && !d.names.hostExpected(e.Host) {
		d.hit(m, r17, e, at, w, nil, e.Host)
	}
}

func weakTLS(v string) bool {
	switch v {
	case "TLSv1.2", "TLSv1.3":
		return false
	}
	return strings.HasPrefix(v, "TLSv1") || strings.HasPrefix(v, "SSL")
}

// useReason says what a hit is about.
func useReason(h *hit) string {
	e, who, on := &h.first, h.ref.w.name, ""
	if h.ref.k != nil {
		on = " on " + h.ref.k.name
	}
	switch h.ref.rule {
	case r10:
		return who + " called " + e.Name + on + " without " + quotedContext(h.ref.detail) + ", which every use of that key must name"
	case r11:
		return who + " is registered for tenant " + h.ref.w.tenant + " and called " + e.Name + " in the context of tenant " + h.ref.detail
	case r12:
		how := "is a person"
		if e.Console {
			how = "used credentials of the console"
		}
		return who + " " + how + " and called " + e.Name + on + ", a key for programs"
	case r13:
		return who + " of account " + h.ref.detail + ", which is not registered, called " + e.Name + on + " in account " + e.Account
	case r14:
		return "the root of account " + e.CallerAccount + " called " + e.Name
	case r15:
		proof := "with credentials that say nothing of a second factor"
		if e.MFA == cloudtrail.MFAAbsent {
			proof = "without a second factor"
		}
		return who + " called " + e.Name + on + " " + proof
	case r17:
		if weakTLS(h.ref.detail) {
			return who + " called " + e.Name + " over " + h.ref.detail + ", which is older than TLS 1.2"
		}
		return who + " called " + e.Name + " by the host name " + h.ref.detail + ", which is not expected"
	case r18:
		way := "by no VPC endpoint"
		if h.ref.detail != "" {
			way = "by VPC endpoint " + h.ref.detail
		}
		return who + " called " + e.Name + on + " from " + e.IP + " " + way + ", not by a registered one"
	case r19:
		if h.ref.detail != "" {
			return who + " called " + e.Name + on + " under key material " + h.ref.detail + ", which is retired"
		}
		return who + " called " + e.Name + on + ", a key that is retired"
	}
	return who + " called " + e.Name + on
}

func quotedContext(name string) string {
	if name == "encryption context" {
		return "an encryption context"
	}
	return "the context key " + name
}
