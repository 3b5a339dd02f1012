package kms

// answer is what a key state makes of an operation.
type answer uint8

const (
	passes answer = iota
	saysDisabled
	saysInvalid
	saysUnsupported
)

// states is AWS's table of key states (developer guide, "Key states of KMS keys"),
// in the order Disabled, PendingImport, PendingDeletion and PendingReplicaDeletion,
// Unavailable, Creating, Updating. Enabled is always ok, but for classCancel.
var states = [...][6]answer{
	classAny:             {passes, passes, passes, passes, passes, passes},
	classUse:             {saysDisabled, saysInvalid, saysInvalid, saysInvalid, saysInvalid, passes},
	classPublicKey:       {saysDisabled, saysInvalid, saysInvalid, saysInvalid, saysInvalid, passes},
	classCreateGrant:     {saysDisabled, saysInvalid, saysInvalid, passes, saysInvalid, passes},
	classRotationSetting: {saysDisabled, saysUnsupported, saysInvalid, saysUnsupported, saysInvalid, saysInvalid},
	classRotateNow:       {saysDisabled, saysInvalid, saysInvalid, saysUnsupported, saysInvalid, saysInvalid},
	classEnable:          {passes, saysInvalid, saysInvalid, passes, saysInvalid, saysInvalid},
	classAnnotate:        {passes, passes, saysInvalid, passes, saysInvalid, passes},
	classAliasTarget:     {passes, passes, saysInvalid, passes, passes, passes},
	classSchedule:        {passes, passes, saysInvalid, passes, saysInvalid, saysInvalid},
	classCancel:          {saysInvalid, saysInvalid, passes, saysInvalid, saysInvalid, saysInvalid},
	classImport:          {passes, passes, saysInvalid, saysUnsupported, saysInvalid, saysInvalid},
	classReplicate:       {passes, passes, saysInvalid, saysInvalid, saysInvalid, saysInvalid},
}

// stateTexts are AWS's words for a key that is not enabled.
var stateTexts = map[KeyState]string{
	StateEnabled:                " is enabled.",
	StateDisabled:               " is disabled.",
	StatePendingImport:          " is pending import.",
	StatePendingDeletion:        " is pending deletion.",
	StatePendingReplicaDeletion: " is pending replica deletion.",
	StateUnavailable:            " is unavailable.",
	StateCreating:               " is creating.",
	StateUpdating:               " is updating.",
}

// checkState refuses an operation that the key's state does not let through.
func (k *Key) checkState(c class) error {
	if k.State == StateEnabled {
		if c == classCancel {
			return refuse(CodeInvalidState, k.ARN()+" is not pending deletion.")
		}
		return nil
	}
	column := map[KeyState]int{
		StateDisabled: 0, StatePendingImport: 1, StatePendingDeletion: 2, StatePendingReplicaDeletion: 2,
		StateUnavailable: 3, StateCreating: 4, StateUpdating: 5,
	}
	i, known := column[k.State]
	if !known {
		return refuse(CodeInternal, "key "+k.ARN()+" is in no known state")
	}
	text := k.ARN() + stateTexts[k.State]
	switch states[c][i] {
	case passes:
		return nil
	case saysDisabled:
		return refuse(CodeDisabled, text)
	case saysUnsupported:
		return refuse(CodeUnsupported, k.ARN()+" origin is "+string(k.Origin)+" which is not valid for this operation.")
	default:
		if c == classCancel {
			text = k.ARN() + " is not pending deletion."
		}
		return refuse(CodeInvalidState, text)
	}
}
