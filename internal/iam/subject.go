package iam

// Subject is an authenticated caller of the key service with the policies that
// speak for and limit it. It does not change and is shared between requests.
type Subject struct {
	Caller      Caller
	AccessKeyID string // of the credentials in use

	Identity []NamedPolicy // of the user or role and its groups
	Boundary *Policy       // permissions boundary; nil if none
	Session  []NamedPolicy // session policies; empty if none
}

// Policies are the subject's own policies, to which the asker adds those of the
// resource.
func (s *Subject) Policies() Policies {
	return Policies{Identity: s.Identity, Boundary: s.Boundary, Session: s.Session}
}
