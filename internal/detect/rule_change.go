package detect

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"cardea/internal/cloudtrail"
)

// parameters are what the rules read of requestParameters. Members of another
// type than expected stay empty: a rule then says less, but still fires.
type parameters map[string]json.RawMessage

func parametersOf(raw json.RawMessage) parameters {
	var p parameters
	if json.Unmarshal(raw, &p) != nil {
		return nil
	}
	return p
}

func (p parameters) text(name string) string {
	var s string
	if json.Unmarshal(p[name], &s) != nil {
		return ""
	}
	return s
}

// number reads numbers and texts that are one.
func (p parameters) number(name string) (int, bool) {
	n, err := strconv.Atoi(strings.Trim(string(p[name]), `"`))
	return n, err == nil
}

func (p parameters) yes(name string) bool { return strings.Trim(string(p[name]), `"`) == "true" }

func (p parameters) list(name string) []string {
	var l []string
	if json.Unmarshal(p[name], &l) != nil {
		return nil
	}
	return l
}

// change looks at one event that changes something (R1 to R9, R20). These are
// rare, and each is a finding at once.
func (d *Detector) change(m *minute, e *cloudtrail.Event, w *who) {
	switch e.Source {
	case cloudtrail.SourceKMS:
		d.keyChange(m, e, w)
	case cloudtrail.SourceTrail, cloudtrail.SourceS3:
		d.logChange(e, w)
	case cloudtrail.SourceVault:
		if e.Name == "log.close" && w.name != "" && e.PrincipalType != "system" && !e.Failed() {
			d.at(r20, e, w, 0, "the vault's audit log was closed")
		}
	}
}

func (d *Detector) keyChange(m *minute, e *cloudtrail.Event, w *who) {
	p := parametersOf(e.Params)
	switch e.Name {
	case "ScheduleKeyDeletion":
		d.deletion(e, w, p)
	case "DisableKey":
		raise := 0
		if d.registered(e) {
			raise = 1
		}
		d.at(r2, e, w, raise, "the key was disabled")
	case "EnableKey":
		d.at(r2, e, w, 0, "the key was enabled")
	case "CancelKeyDeletion":
		d.at(r2, e, w, -1, "the key's deletion was cancelled")
	case "PutKeyPolicy", "CreateKey":
		if len(m.put) < 256 {
			m.put = append(m.put, *e)
			return
		}
		d.at(r3, e, w, 0, "one of more than 256 changes of key policies in a minute: it was not read")
	case "CreateGrant":
		d.grant(e, w, p)
	case "ImportKeyMaterial":
		d.at(r5, e, w, 0, "key material was imported")
	case "DeleteImportedKeyMaterial":
		d.at(r5, e, w, 1, "imported key material was deleted")
	case "GetParametersForImport":
		d.at(r5, e, w, -1, "an import of key material was prepared")
	case "DisableKeyRotation":
		d.at(r6, e, w, 0, "rotation of the key was switched off")
	case "EnableKeyRotation":
		if days, ok := p.number("rotationPeriodInDays"); ok && days > d.set[r6].Days {
			d.at(r6, e, w, 0, fmt.Sprintf("the key is rotated every %d days; the rules allow %d at most", days, d.set[r6].Days))
		}
	case "UpdateAlias", "DeleteAlias", "CreateAlias":
		alias := aliasName(p.text("aliasName"))
		if slices.Contains(d.rules.PinnedAliases, alias) {
			if to := p.text("targetKeyId"); to != "" {
				d.at(r7, e, w, 0, alias+" was pointed to "+to)
			} else {
				d.at(r7, e, w, 0, alias+" was deleted")
			}
		}
	case "ReplicateKey":
		d.at(r8, e, w, 0, "the key was replicated to Region "+or(p.text("replicaRegion"), "unknown"))
	case "UpdatePrimaryRegion":
		d.at(r8, e, w, 0, "the key's primary was moved to Region "+or(p.text("primaryRegion"), "unknown"))
	case "DisconnectCustomKeyStore", "DeleteCustomKeyStore":
		d.at(r9, e, w, 0, "custom key store "+or(p.text("customKeyStoreId"), "of unknown id")+" was disconnected or deleted")
	case "UpdateCustomKeyStore":
		d.at(r9, e, w, -1, "custom key store "+or(p.text("customKeyStoreId"), "of unknown id")+" was altered")
	}
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func aliasName(s string) string {
	if i := strings.Index(s, ":alias/"); i >= 0 {
		return s[i+1:]
	}
	return s
}

func (d *Detector) registered(e *cloudtrail.Event) bool {
	return slices.ContainsFunc(e.Keys, func(name string) bool { return d.names.byID[bareKey(name)] != nil })
}

// deletion is R1. A key protects live data if it is registered, or was used for
// some time and until lately.
func (d *Detector) deletion(e *cloudtrail.Event, w *who, p parameters) {
	days, ok := p.number("pendingWindowInDays")
	if !ok {
		days = 30 // what KMS takes if nothing is said
	}
	raise, reason := 0, fmt.Sprintf("the key will be deleted in %d days", days)
	if days < d.set[r1].Days {
		raise++
		reason += fmt.Sprintf(", sooner than the usual %d", d.set[r1].Days)
	}
	now := e.Time.Unix() / 60
	for _, name := range e.Keys {
		k := d.state.Keys[name]
		if d.names.byID[bareKey(name)] != nil || k != nil && k.First < now-3*60 && k.Last > now-30*24*60 {
			raise++
			reason += "; live data is encrypted under it"
			break
		}
	}
	d.at(r1, e, w, raise, reason)
}

// grant is R4.
func (d *Detector) grant(e *cloudtrail.Event, w *who, p parameters) {
	if e.InvokedBy != "" && strings.HasSuffix(p.text("granteePrincipal"), ".amazonaws.com") {
		return // a service's own, for its resource
	}
	grantee := p.text("granteePrincipal")
	var why []string
	raise := 0
	if a := accountOf(grantee); a != "" && a != e.Account && !d.names.known[a] {
		why, raise = append(why, "the grantee's account "+a+" is not registered"), 1
	}
	if k := d.firstRegistered(e); k != nil {
		if len(k.Principals) > 0 && !matchAny(k.Principals, grantee) {
			why = append(why, "the grantee is not a registered user of key "+k.Name)
		}
		if c := strings.TrimSpace(string(p["constraints"])); c == "" || c == "null" || c == "{}" {
			why = append(why, "it is not constrained to a context")
		}
	}
	if slices.Contains(p.list("operations"), "CreateGrant") {
		why = append(why, "the grantee can grant on")
	}
	if p == nil || grantee == "" {
		why = append(why, "the log does not show its terms")
	}
	if len(why) > 0 {
		d.at(r4, e, w, raise, "a grant was given to "+or(grantee, "an unknown grantee")+": "+strings.Join(why, ", "))
	}
}

func (d *Detector) firstRegistered(e *cloudtrail.Event) *Key {
	for _, name := range e.Keys {
		if k := d.names.byID[bareKey(name)]; k != nil {
			return k
		}
	}
	return nil
}

// accountOf is the account of an ARN, or of a bare account number.
func accountOf(principal string) string {
	if len(principal) == 12 && strings.Trim(principal, "0123456789") == "" {
		return principal
	}
	f := strings.SplitN(principal, ":", 6)
	if len(f) < 6 || f[0] != "arn" {
		return ""
	}
	return f[4]
}

// logChange is R20.
func (d *Detector) logChange(e *cloudtrail.Event, w *who) {
	p := parametersOf(e.Params)
	if e.Source == cloudtrail.SourceS3 {
		bucket := p.text("bucketName")
		if !slices.Contains(d.rules.LogBuckets, bucket) {
			return
		}
		switch e.Name {
		case "PutBucketPolicy", "DeleteBucketPolicy", "PutBucketLifecycle", "PutBucketLifecycleConfiguration", "DeleteBucketLifecycle", "PutBucketAcl", "PutBucketVersioning",
			"PutObjectLockConfiguration", "PutBucketObjectLockConfiguration", "DeleteBucketEncryption", "DeleteBucket", "PutBucketReplication", "DeleteBucketReplication",
			"DeleteObject", "DeleteObjects", "PutBucketLogging", "DeletePublicAccessBlock":
			d.at(r20, e, w, 0, e.Name+" on the log bucket "+bucket)
		}
		return
	}
	trail := or(p.text("name"), or(p.text("trailName"), "a trail"))
	switch e.Name {
	case "StopLogging":
		d.at(r20, e, w, 0, "logging of "+trail+" was stopped")
	case "DeleteTrail", "DeleteEventDataStore", "StopEventDataStoreIngestion":
		d.at(r20, e, w, 0, or(p.text("name"), or(p.text("eventDataStore"), "a trail"))+" was deleted or stopped")
	case "UpdateTrail", "UpdateEventDataStore":
		d.at(r20, e, w, -1, trail+" was altered")
	case "PutEventSelectors":
		text := string(e.Params)
		if strings.Contains(text, "kms.amazonaws.com") || strings.Contains(text, `"includeManagementEvents":false`) || strings.Contains(text, `"readWriteType":"WriteOnly"`) ||
			len(e.Params) == 0 || strings.Contains(text, "advancedEventSelectors") && !strings.Contains(text, "Management") {
			d.at(r20, e, w, 0, "the event selectors of "+trail+" leave out calls to KMS")
		}
	}
}
