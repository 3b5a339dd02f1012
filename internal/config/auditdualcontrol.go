package config

// AuditDualControl is who must approve that deliveries of the audit log are turned off,
// or go elsewhere.
type AuditDualControl struct {
	Register  string `toml:"register" path:"true"` // who may ask and approve; "" asks for no approval
	Approvals int    `toml:"approvals"`            // people besides the one who asks
	Approval  string `toml:"approval" path:"true"` // the approved request, at the start that needs it
}

func (d AuditDualControl) validate(v *validation) {
	const key = "audit.dual_control"
	v.between(key+".approvals", int64(d.Approvals), 1, 10)
	if d.Approval != "" && d.Register == "" {
		v.add(key+".approval", "has no effect without %s.register; name the register of people, or remove it", key)
	}
}
