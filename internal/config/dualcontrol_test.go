package config_test

import (
	"strings"
	"testing"

	"cardea/internal/config"
)

func TestDualControlThatControlsNothingIsRefused(t *testing.T) {
	for want, change := range map[string]func(*config.DualControl, *config.AuditDualControl){
		"key_service.dual_control.approvals: -1 is out of range, expected 1 to 10":              func(d *config.DualControl, _ *config.AuditDualControl) { d.Register, d.Approvals = "p", -1 },
		"key_service.dual_control.operations: is empty; name the operations that need approval": func(d *config.DualControl, _ *config.AuditDualControl) { d.Register, d.Operations = "p", []string{} },
		`key_service.dual_control.operations: "Encrypt" is not known, expected one of DisableKey,`: func(d *config.DualControl, _ *config.AuditDualControl) {
			d.Register, d.Operations = "p", []string{"Encrypt"}
		},
		"key_service.dual_control.operations: has no effect without key_service.dual_control.register":      func(d *config.DualControl, _ *config.AuditDualControl) { d.Operations = []string{"DisableKey"} },
		"key_service.dual_control.approvals: has no effect without key_service.dual_control.register":       func(d *config.DualControl, _ *config.AuditDualControl) { d.Approvals = 2 },
		"audit.dual_control.approvals: has no effect without audit.dual_control.register":                   func(_ *config.DualControl, a *config.AuditDualControl) { a.Approvals = 2 },
		`key_service.dual_control.tag: "aws:x" cannot be the key of a tag`:                                  func(d *config.DualControl, _ *config.AuditDualControl) { d.Register, d.Tag = "p", "aws:x" },
		"key_service.dual_control.tag: has no effect without key_service.dual_control.register":             func(d *config.DualControl, _ *config.AuditDualControl) { d.Tag = "two-people" },
		"audit.dual_control.approvals: 11 is out of range, expected 1 to 10":                                func(_ *config.DualControl, a *config.AuditDualControl) { a.Register, a.Approvals = "p", 11 },
		"audit.dual_control.approval: has no effect without audit.dual_control.register; name the register": func(_ *config.DualControl, a *config.AuditDualControl) { a.Approval = "off.request" },
	} {
		c := valid(t)
		c.KeyService.Listen = "127.0.0.1:4599"
		change(&c.KeyService.DualControl, &c.Audit.DualControl)
		c.Derive("host")
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestDualControlWithARegisterIsWhole(t *testing.T) {
	c := valid(t)
	c.KeyService.Listen = "127.0.0.1:4599"
	c.KeyService.DualControl.Register, c.Audit.DualControl.Register = "p", "p"
	c.Derive("host")
	if d := c.KeyService.DualControl; d.Approvals != 2 || len(d.Operations) != 6 || c.Audit.DualControl.Approvals != 2 {
		t.Errorf("%+v, %+v", d, c.Audit.DualControl)
	}
}
