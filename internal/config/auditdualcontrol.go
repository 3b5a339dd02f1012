package config

// AuditDualControl is who must approve that deliveries of the audit log are turned off,
// or go elsewhere.
type AuditDualControl struct {
	Register  string `toml:"register" path:"true"` // who may ask and approve; "" asks for no approval
	Approvals int    `toml:"approvals"`            // people besides the one who asks; 2 if not set
	Approval  string `toml:"approval" path:"true"` // the approved request, at the start that needs it
}

// derive is as that of DualControl.
func (d *AuditDualControl) derive() {
	if d.Register != "" && d.Approvals == 0 {
		d.Approvals = defaultApprovals
	}
}

func (d AuditDualControl) validate(v *validation) {
	const key = "audit.dual_control"
	if d.Register == "" {
		v.needsRegister(key, map[string]bool{"approvals": d.Approvals != 0, "approval": d.Approval != ""})
		return
	}
	v.between(key+".approvals", int64(d.Approvals), 1, 10)
}
