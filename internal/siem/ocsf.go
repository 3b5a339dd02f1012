package siem

import (
	"encoding/json"
	"strings"
	"time"

	"cardea/internal/audit"
	"cardea/internal/detect"
)

// Versions of OCSF that events are written in. The profile record_integrity is in
// no numbered release yet.
const (
	ocsfVersion          = "1.3.0"
	ocsfIntegrityVersion = "1.9.0-dev"
)

// Classes of OCSF.
const (
	classBase              = 0 // what has no class of its own: signed heads of a log
	classComplianceFinding = 2003
	classDetectionFinding  = 2004
	classAPIActivity       = 6003
)

// object is an OCSF object; members that are empty are left out by set.
type object map[string]any

func (o object) set(name string, value any) object {
	switch v := value.(type) {
	case string:
		if v == "" {
			return o
		}
	case object:
		if len(v) == 0 {
			return o
		}
	case []object:
		if len(v) == 0 {
			return o
		}
	case []string:
		if len(v) == 0 {
			return o
		}
	case int64: // times: there is none at the epoch
		if v == 0 {
			return o
		}
	}
	o[name] = value
	return o
}

// appendOCSF appends the event as one line of OCSF.
func (e *Encoder) appendOCSF(b []byte, ev *Event) ([]byte, error) {
	var o object
	var err error
	switch ev.Kind {
	case KindEntry:
		o = e.apiActivity(ev)
	case KindAlert:
		o, err = e.detectionFinding(ev)
	case KindFinding:
		o, err = e.complianceFinding(ev)
	default:
		o = e.checkpointEvent(ev)
	}
	if err != nil {
		return b, err
	}
	return appendJSON(b, o)
}

// base are the attributes that every class has.
func (e *Encoder) base(ev *Event, category, class, activity int, names ...string) object {
	version := ocsfVersion
	profiles := []string{}
	if ev.Kind == KindEntry && ev.Entry.Call != nil {
		profiles = append(profiles, "cloud")
	}
	o := object{
		"activity_id": activity, "activity_name": names[2],
		"category_uid": category, "category_name": names[0],
		"class_uid": class, "class_name": names[1],
		"type_uid": class*100 + activity, "type_name": names[1] + ": " + names[2],
		"time": millis(ev.Time), "severity_id": int(ev.Severity), "severity": severityCaption(ev.Severity),
		"message": oneLine(ev.message()),
	}
	if e.RecordIntegrity && ev.Kind == KindEntry {
		version, profiles = ocsfIntegrityVersion, append(profiles, "record_integrity")
		o["attestation_list"] = []object{e.attestation(ev)}
	}
	meta := object{
		"version": version, "uid": ev.ID,
		"product": object{"name": product, "vendor_name": vendor}.set("version", e.Product),
	}
	meta.set("profiles", profiles).set("log_name", ev.Origin).set("logged_time", millis(ev.Time))
	if ev.Kind == KindEntry {
		meta.set("log_provider", ev.Entry.Node).set("correlation_uid", ev.Entry.RequestID)
		meta["sequence"] = ev.Seq
	}
	return o.set("metadata", meta)
}

func severityCaption(s detect.Severity) string {
	if s == detect.Info {
		return "Informational"
	}
	name := s.String()
	return strings.ToUpper(name[:1]) + name[1:]
}

// attestation says where in which tamper-evident log the entry is.
func (e *Encoder) attestation(ev *Event) object {
	return object{
		"uid": ev.ID, "chain_uid": ev.Origin, "authority_uid": ev.Entry.Node,
		"fingerprint": object{"algorithm_id": 3, "algorithm": "SHA-256", "value": ev.hash()}, // RFC 6962 leaf hash
	}
}

// apiActivity is class 6003: what somebody asked the vault or the key service for.
func (e *Encoder) apiActivity(ev *Event) object {
	n := ev.Entry
	op := lookup(n.Op)
	o := e.base(ev, 6, classAPIActivity, int(op.activity), "Application Activity", "API Activity", op.activity.String())
	status, caption := 1, "Success"
	if n.Outcome != audit.Allowed {
		status, caption = 2, "Failure"
	}
	o.set("status_id", status).set("status", caption).set("status_code", n.Result).set("status_detail", n.Detail)

	api := object{"operation": n.Op, "service": object{"name": service(n)}}
	if n.RequestID != "" {
		api.set("request", object{"uid": n.RequestID})
	}
	if n.Outcome != audit.Allowed {
		failure := n.Result
		if n.Call != nil && n.Call.Error != "" {
			failure = n.Call.Error
		}
		api.set("response", object{"error": failure}.set("error_message", n.Detail))
	}
	if n.Call != nil {
		api["operation"] = n.Call.Event
	}
	o.set("api", api).set("actor", object{"user": user(n)})

	source := object{}
	if a := ev.ip(); a.IsValid() {
		source.set("ip", a.String())
	} else {
		source.set("name", n.Node) // what the node did by itself
	}
	o.set("src_endpoint", source).set("resources", resources(n)).set("raw_data", string(ev.Line))
	if c := n.Call; c != nil {
		o.set("cloud", object{"provider": "Cardea"}.set("region", c.Region).set("account", object{}.set("uid", c.Account)))
		o.set("http_request", object{}.set("user_agent", c.Agent))
	}
	return o.set("unmapped", unmapped(ev))
}

// service is what was asked.
func service(n *audit.Entry) string {
	if n.Call != nil {
		return n.Call.Source
	}
	return "vault.cardea"
}

// user is who asked.
func user(n *audit.Entry) object {
	u := object{"type": n.Who.Type}
	switch n.Who.Type {
	case "operator", "custodian":
		u["type_id"] = 2 // admin
	case "system":
		u["type_id"] = 3
	case "anonymous":
		u["type_id"] = 0
	default:
		u["type_id"] = 1
	}
	name := n.Who.Name
	if c := n.Call; c != nil {
		u.set("uid", c.ARN).set("uid_alt", c.ID).set("credential_uid", c.Key)
		u.set("account", object{}.set("uid", c.Caller))
	}
	if name == "" {
		name = n.Who.Type
	}
	return u.set("name", name)
}

func resources(n *audit.Entry) []object {
	var list []object
	if r := n.Resource; r != (audit.Resource{}) {
		uid := r.Reference
		if uid == "" {
			uid = r.Key
		}
		o := object{"type": r.Kind}
		o.set("uid", uid).set("namespace", r.Merchant)
		list = append(list, o)
	}
	if n.Call != nil {
		for _, arn := range n.Call.Resources {
			list = append(list, object{"uid": arn, "type": "AWS::KMS::Key"})
		}
	}
	return list
}

// unmapped is what OCSF has no attribute for.
func unmapped(ev *Event) object {
	n := ev.Entry
	o := object{"cardea_weight": lookup(n.Op).weight.String(), "outcome": string(n.Outcome), "auth": n.Who.Auth, "entry": n.ID}
	o.set("tenant", n.Tenant).set("pci_dss", ev.PCI()).set("customer", n.Resource.Customer).set("masked_pan", n.Resource.MaskedPAN)
	if n.Resource.KeyVersion > 0 {
		o["key_version"] = n.Resource.KeyVersion
	}
	if c := n.Call; c != nil {
		o.set("request", pairs(c.Request)).set("response", pairs(c.Response)).set("encryption_context", pairs(c.Context)).set("tls", c.TLS)
		o["mfa"], o["read_only"] = c.MFA, c.ReadOnly
	}
	return o
}

// detectionFinding is class 2004.
func (e *Encoder) detectionFinding(ev *Event) (object, error) {
	a := ev.Alert
	o := e.base(ev, 2, classDetectionFinding, 1, "Findings", "Detection Finding", "Create")
	info := object{
		"uid": a.ID, "title": a.Title, "desc": a.Reason, "types": []string{a.Rule},
		"analytic": object{"uid": a.Rule, "name": a.Title, "type_id": 1, "type": "Rule"},
	}
	if a.Baseline != nil {
		info["analytic"] = object{"uid": a.Rule, "name": a.Title, "type_id": 2, "type": "Behavioral"}
	}
	info.set("first_seen_time", millis(a.Start)).set("last_seen_time", millis(a.Time)).set("created_time", millis(a.Time))
	o.set("finding_info", info).set("status_id", 1).set("status", "New")
	if a.SuppressedBy != "" {
		o.set("status_id", 3).set("status", "Suppressed").set("status_detail", "explained by "+a.SuppressedBy)
	}
	if a.Next != "" {
		o.set("remediation", object{"desc": a.Next})
	}
	var evidence, about []object
	for _, v := range a.Evidence {
		evidence = append(evidence, object{"data": object{"event_id": v.EventID, "name": v.Name}.set("time", timeText(v.Time)).set("detail", v.Detail)})
	}
	for _, k := range a.Keys {
		about = append(about, object{"uid": k, "type": "key"})
	}
	if a.Principal != "" {
		about = append(about, object{"uid": a.Principal, "type": "principal"})
	}
	o.set("evidences", evidence).set("resources", about).set("count", a.Count)
	extra := object{"score": a.Score}
	extra.set("suppressed_by", a.SuppressedBy).set("rules", a.Rules)
	extra.set("pci_dss", a.PCI).set("tenant", a.Tenant).set("merchant", a.Merchant).set("ip", a.IP).set("region", a.Region).set("account", a.Account)
	if a.Baseline != nil {
		extra["baseline"] = a.Baseline
	}
	raw, err := json.Marshal(a)
	if err != nil {
		return nil, err
	}
	return o.set("unmapped", extra).set("raw_data", string(raw)), nil
}

func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(timeForm)
}

// complianceFinding is class 2003.
func (e *Encoder) complianceFinding(ev *Event) (object, error) {
	f := ev.Finding
	activity, name, status, caption := 1, "Create", 3, "Fail"
	if !f.Failing {
		activity, name, status, caption = 3, "Close", 1, "Pass"
	}
	o := e.base(ev, 2, classComplianceFinding, activity, "Findings", "Compliance Finding", name)
	o.set("finding_info", object{
		"uid": f.Check + "/" + f.Subject, "title": ev.title(), "desc": f.Message, "types": []string{f.Check},
	}.set("first_seen_time", millis(f.Since)).set("last_seen_time", millis(ev.Time)))
	o.set("compliance", object{
		"standards": []string{"PCI DSS v4.0.1"}, "requirements": requirements(f.Check), "control": "cardea " + f.Check,
		"status_id": status, "status": caption,
	}.set("status_detail", f.Message))
	o.set("resources", []object{object{"type": f.Check}.set("uid", f.Subject)})
	if f.Next != "" {
		o.set("remediation", object{"desc": f.Next})
	}
	raw, err := json.Marshal(f)
	if err != nil {
		return nil, err
	}
	return o.set("raw_data", string(raw)), nil
}

// checkpointEvent is a base event: OCSF has no class for the signed head of a log.
func (e *Encoder) checkpointEvent(ev *Event) object {
	o := e.base(ev, 0, classBase, 99, "Uncategorized", "Base Event", "Other")
	o["activity_name"] = "Checkpoint"
	return o.set("raw_data", ev.Checkpoint.Signed).set("unmapped", object{"origin": ev.Origin, "size": ev.Seq, "root": ev.Checkpoint.Root})
}
