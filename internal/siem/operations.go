package siem

import (
	"strings"

	"cardea/internal/audit"
	"cardea/internal/detect"
)

// Activity is an activity of OCSF's class API Activity.
type Activity int

// The activities.
const (
	ActivityUnknown Activity = 0
	ActivityCreate  Activity = 1
	ActivityRead    Activity = 2
	ActivityUpdate  Activity = 3
	ActivityDelete  Activity = 4
	ActivityOther   Activity = 99
)

// String is OCSF's caption.
func (a Activity) String() string {
	switch a {
	case ActivityCreate:
		return "Create"
	case ActivityRead:
		return "Read"
	case ActivityUpdate:
		return "Update"
	case ActivityDelete:
		return "Delete"
	case ActivityOther:
		return "Other"
	}
	return "Unknown"
}

// weight is how much an operation matters when it succeeds.
type weight uint8

const (
	routine   weight = iota // happens all day
	admin                   // somebody changed something
	sensitive               // protection was lessened, or keys or logs may be lost
)

// operation is what delivery knows of an operation of the audit log.
type operation struct {
	activity Activity
	weight   weight
}

// ActivityOf is the activity of an operation of the audit log; ActivityUnknown for
// one that delivery has not been told of.
func ActivityOf(op string) Activity { return lookup(op).activity }

// lookup gives an operation by its name in the log. An operation that the table
// does not know is told as one: unknown, and worth a look.
func lookup(op string) operation {
	known := func(activity Activity, w weight) operation { return operation{activity, w} }
	if verb, ok := strings.CutPrefix(op, "identity."); ok {
		return identityOperation(verb)
	}
	// Cryptographic use neither makes nor changes an object of the key service: it
	// reads what only the key opens, or makes a value that is not kept. AWS's own
	// events call all of them read only.
	switch op {
	case "kms.encrypt", "kms.decrypt", "kms.re_encrypt", "kms.re_encrypt_from", "kms.re_encrypt_to",
		"kms.generate_data_key", "kms.generate_data_key_without_plaintext",
		"kms.generate_data_key_pair", "kms.generate_data_key_pair_without_plaintext", "kms.generate_random",
		"kms.sign", "kms.verify", "kms.generate_mac", "kms.verify_mac", "kms.derive_shared_secret", "kms.get_public_key",
		"kms.describe_key", "kms.list_keys", "kms.get_key_last_usage", "kms.list_aliases", "kms.list_resource_tags",
		"kms.get_key_policy", "kms.list_key_policies", "kms.list_grants", "kms.list_retirable_grants",
		"kms.get_key_rotation_status", "kms.list_key_rotations", "kms.describe_custom_key_stores",
		"sts.get_caller_identity":
		return known(ActivityRead, routine)
	case "kms.get_parameters_for_import", "kms.list_approvals", "log.read", "key.verify":
		return known(ActivityRead, admin)
	case "kms.create_key", "kms.create_alias", "kms.replicate_key", "kms.create_custom_key_store", "key.create",
		"custodian.init", "sts.assume_role", "sts.get_session_token":
		return known(ActivityCreate, admin)
	case "kms.create_grant", "kms.import_key_material", "ceremony.generate", "ceremony.import":
		return known(ActivityCreate, sensitive)
	case "kms.enable_key", "kms.cancel_key_deletion", "kms.update_key_description", "kms.update_alias", "kms.tag_resource",
		"kms.untag_resource", "kms.enable_key_rotation", "kms.rotate_key_on_demand", "kms.update_primary_region",
		"kms.update_custom_key_store", "kms.connect_custom_key_store", "kms.finish_connecting_custom_key_store",
		"kms.rotate_key", "kms.synchronize_multi_region_key", "custodian.part", "custodian.unlock", "custodian.lock", "tenants.load",
		"key.job", "key.reencrypt", "key.rewrap", "key.rotate", "tenant.resume", "kms.deposit_approval", "kms.withdraw_approval", "approval.ask", "approval.approve":
		return known(ActivityUpdate, admin)
	case "kms.disable_key", "kms.put_key_policy", "kms.disable_key_rotation", "kms.disconnect_custom_key_store", "custodian.rekey", "tenant.suspend", "audit.disable", "log.rollback":
		return known(ActivityUpdate, sensitive)
	case "kms.retire_grant", "kms.revoke_grant", "kms.delete_alias":
		return known(ActivityDelete, admin)
	case "kms.schedule_key_deletion", "kms.delete_key", "kms.delete_imported_key_material", "kms.delete_expired_key_material",
		"kms.delete_custom_key_store", "key.retire", "key.shred", "log.prune":
		return known(ActivityDelete, sensitive)
	case "lifecycle.compromise", "lifecycle.leaver":
		return known(ActivityUpdate, sensitive)
	case "lifecycle.retire", "lifecycle.deletion":
		return known(ActivityDelete, sensitive)
	case "card.store", "data.store", "holder.create":
		return known(ActivityCreate, routine)
	case "record.import":
		return known(ActivityCreate, admin)
	case "card.retrieve", "data.retrieve", "fingerprint.get", "custodian.status", "health.diagnose", "key.list":
		return known(ActivityRead, routine)
	case "card.delete", "data.delete", "record.expire":
		return known(ActivityDelete, routine)
	case "log.open", "log.close":
		return known(ActivityOther, admin)
	case "sts.unknown":
		return known(ActivityUnknown, admin)
	}
	return known(ActivityUnknown, admin)
}

// identityOperation is the operation of identities with the name behind
// "identity.".
func identityOperation(verb string) operation {
	switch verb {
	case "list_accounts", "get_user", "list_users", "get_group", "list_groups", "get_role", "list_roles",
		"get_user_policy", "get_role_policy", "get_group_policy", "list_access_keys", "list_mfa_devices":
		return operation{ActivityRead, routine}
	case "bootstrap", "create_access_key":
		return operation{ActivityCreate, sensitive}
	case "create_account", "create_user", "create_group", "create_role", "enable_mfa_device":
		return operation{ActivityCreate, admin}
	case "tag_user", "untag_user", "update_role", "tag_role", "untag_role", "update_access_key", "revoke_sessions":
		return operation{ActivityUpdate, admin}
	case "add_user_to_group", "remove_user_from_group", "update_assume_role_policy", "put_user_policy", "put_role_policy", "put_group_policy",
		"put_user_permissions_boundary", "put_role_permissions_boundary", "unlock_access_key", "lockout":
		return operation{ActivityUpdate, sensitive}
	case "delete_user", "delete_group", "delete_role", "delete_user_policy", "delete_role_policy", "delete_group_policy", "delete_access_key":
		return operation{ActivityDelete, admin}
	case "delete_user_permissions_boundary", "delete_role_permissions_boundary", "deactivate_mfa_device":
		return operation{ActivityDelete, sensitive}
	}
	return operation{ActivityUnknown, admin}
}

// entrySeverity is how soon somebody should look at an entry.
func entrySeverity(e *audit.Entry) detect.Severity {
	w := lookup(e.Op).weight
	switch {
	case e.Outcome == audit.Denied && w == sensitive:
		return detect.High
	case e.Outcome == audit.Denied, w == sensitive:
		return detect.Medium
	case e.Outcome == audit.Failed, w == admin:
		return detect.Low
	}
	return detect.Info
}

// Filter chooses what a delivery gets.
type Filter string

// Filters.
const (
	FilterAll      Filter = "all"
	FilterSecurity Filter = "security" // all but routine use of cards and keys that was allowed and succeeded
	// FilterAlerts is alerts, findings and checkpoints: no entries, and no alerts that
	// an approved change explains, for it is what wakes people.
	FilterAlerts Filter = "alerts"
)

// Match reports whether the event is to be delivered.
func (f Filter) Match(ev *Event) bool {
	switch f {
	case FilterAlerts:
		return ev.Kind != KindEntry && (ev.Alert == nil || ev.Alert.SuppressedBy == "")
	case FilterSecurity:
		return ev.Kind != KindEntry || ev.Severity > detect.Info
	}
	return true
}
