package config

import (
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// DualControl is which changes of keys the key service makes only with the approval of
// people (docs/spec/approval.md).
type DualControl struct {
	Register   string   `toml:"register" path:"true"` // who may ask and approve; "" asks for no approvals
	Operations []string `toml:"operations"`           // of the KMS API; all that can, if not set
	Tag        string   `toml:"tag"`                  // key of the tag of the keys under it; "" for all keys
	Approvals  int      `toml:"approvals"`            // people besides the one who asks; 2 if not set
}

// controllable are the operations that can need approval, as package kms has them.
var controllable = []string{"DisableKey", "ScheduleKeyDeletion", "PutKeyPolicy", "ImportKeyMaterial", "DeleteImportedKeyMaterial", "ReplicateKey"}

// defaultApprovals is how many people approve if nothing else is said.
const defaultApprovals = 2

// derive fills in what was not set. Without a register it fills in nothing, so that
// validate sees what somebody has set and believes to be in force.
func (d *DualControl) derive() {
	if d.Register == "" {
		return
	}
	if d.Operations == nil {
		d.Operations = slices.Clone(controllable)
	}
	if d.Approvals == 0 {
		d.Approvals = defaultApprovals
	}
}

func (d DualControl) validate(v *validation, key string) {
	if d.Register == "" {
		v.needsRegister(key, map[string]bool{"operations": d.Operations != nil, "tag": d.Tag != "", "approvals": d.Approvals != 0})
		return
	}
	v.between(key+".approvals", int64(d.Approvals), 1, 10)
	if len(d.Operations) == 0 {
		v.add(key+".operations", "is empty; name the operations that need approval, such as [\"ScheduleKeyDeletion\"], or leave it out for all that can")
	}
	for _, name := range d.Operations {
		v.oneOf(key+".operations", name, controllable...)
	}
	if utf8.RuneCountInString(d.Tag) > 128 || strings.HasPrefix(strings.ToLower(d.Tag), "aws:") {
		v.add(key+".tag", "%q cannot be the key of a tag, expected 1 to 128 characters that do not begin with aws:", d.Tag)
	}
}

// needsRegister refuses settings of dual control that nobody could fulfil: whoever set
// them believes that approvals are asked for.
func (v *validation) needsRegister(key string, set map[string]bool) {
	for _, name := range slices.Sorted(maps.Keys(set)) {
		if set[name] {
			v.add(key+"."+name, "has no effect without %s.register; name the register of people, or remove it", key)
		}
	}
}
