package iam

// KeepsControl decides whether the caller could put another policy on the key
// after next has become its policy: the safety check of CreateKey, PutKeyPolicy
// and ReplicateKey. Only next is asked, in the context of the request at hand, for
// kms:PutKeyPolicy on q.Resource. It is enough that next leaves the action to the
// identity policies of the caller's account, for then the account's
// administrators keep control.
func KeepsControl(q *Query, next *Policy) Verdict {
	ask := *q
	ask.Action = "kms:PutKeyPolicy"
	if !ask.Caller.authenticated() {
		return Verdict{Reason: DeniedAnonymous}
	}
	if next == nil || next.kind != KeyPolicy {
		return Verdict{Reason: DeniedMisuse}
	}
	var e env
	e.prepare(&ask, nil)
	var s scan
	next.scan(&e, RoleResource, "", &s)
	if s.deny.Document != "" {
		return Verdict{Reason: DeniedExplicitly, By: s.deny}
	}
	for _, r := range [...]reach{reachSession, reachIdentity, reachAccount} {
		if s.allow[r].Document == "" {
			continue
		}
		if r == reachAccount && ask.Caller.Account != e.account {
			break
		}
		return Verdict{Allowed: true, Reason: AllowedByResource, By: s.allow[r]}
	}
	return Verdict{Reason: DeniedByResource}
}
