package config

import (
	"strings"
	"unicode/utf8"
)

// DualControl is which changes of keys the key service makes only with the approval of
// people (docs/spec/approval.md).
type DualControl struct {
	Register   string   `toml:"register" path:"true"` // who may ask and approve; "" asks for no approvals
	Operations []string `toml:"operations"`           // of the KMS API
	Tag        string   `toml:"tag"`                  // key of the tag of the keys under it; "" for all keys
	Approvals  int      `toml:"approvals"`            // people besides the one who asks
}

// controllable are the operations that can need approval, as package kms has them.
var controllable = []string{"DisableKey", "ScheduleKeyDeletion", "PutKeyPolicy", "ImportKeyMaterial", "DeleteImportedKeyMaterial", "ReplicateKey"}

func defaultDualControl() DualControl {
	return DualControl{Operations: append([]string{}, controllable...), Approvals: 2}
}

func (d DualControl) validate(v *validation, key string) {
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
	if d.Tag != "" && d.Register == "" {
		v.add(key+".tag", "has no effect without %s.register; name the register of people, or remove it", key)
	}
}
