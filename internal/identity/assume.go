package identity

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"cardea/internal/iam"
	"cardea/internal/sigv4"
)

// maxSessionPolicy is how long session policies and tags may be together, in bytes.
// AWS packs them in a way it does not tell into a space that it does not tell, and
// takes no policy longer than this.
const maxSessionPolicy = 2048

// AssumeRoleInput asks for a session of a role.
type AssumeRoleInput struct {
	RoleARN           string
	SessionName       string   // 2 to 64 characters
	Duration          int      // seconds, 900 to the role's longest; default 3600, which is also the most for a role's session
	Policy            string   // session policy, a document of at most 2048 characters; none if empty
	PolicyARNs        []string // managed policies, which do not exist here: refused if given
	Tags              []Tag
	TransitiveTagKeys []string // of Tags that go on to roles that the session assumes
	ExternalID        string
	SerialNumber      string // of the calling user's second factor; with TokenCode, or neither
	TokenCode         string // its 6 digits
	SourceIdentity    string
}

func (in *AssumeRoleInput) check(v *violations) {
	if v.required("roleArn", in.RoleARN != "") {
		v.length("roleArn", "", utf8.RuneCountInString(in.RoleARN), 20, 2048)
	}
	v.nameOf("roleSessionName", in.SessionName, 2, 64)
	v.number("durationSeconds", in.Duration, minSession, mostSession)
	v.tags(in.Tags)
	if v.length("transitiveTagKeys", "", len(in.TransitiveTagKeys), 0, maxTags) {
		for _, k := range in.TransitiveTagKeys {
			if findTag(in.Tags, k) < 0 {
				v.add("transitiveTagKeys", k, "be a key of tags")
			}
		}
	}
	if in.ExternalID != "" && v.length("externalId", "", len(in.ExternalID), 2, 1224) && !isName(strings.NewReplacer(":", "", "/", "").Replace(in.ExternalID)+"_") {
		v.add("externalId", "", `satisfy regular expression pattern: [\w+=,.@:\/-]*`)
	}
	v.secondFactor(in.SerialNumber, in.TokenCode)
	if in.SourceIdentity != "" {
		v.nameOf("sourceIdentity", in.SourceIdentity, 2, 64)
	}
}

// AssumedRole is a session of a role.
type AssumedRole struct {
	Credentials
	ARN              string // arn:aws:sts::ACCOUNT:assumed-role/role/session
	ID               string // AROA…:session
	SourceIdentity   string
	PackedPolicySize int // per cent of what session policy and tags may take; 0 if there are none
}

// AssumeRole gives the caller a session of a role, whose trust policy must let it,
// and also, unless that names the very caller, its own policies. Errors:
// AccessDenied, MalformedPolicyDocument, PackedPolicyTooLarge, ValidationError,
// ServiceUnavailable. Who may not assume a role does not learn whether it exists.
// The caller destroys the answer.
func (s *Service) AssumeRole(ctx context.Context, who Caller, in *AssumeRoleInput) (*AssumedRole, error) {
	return perform(ctx, s, who, OpAssumeRole, in, func(c *call, out *AssumedRole) error {
		c.param("roleArn", in.RoleARN)
		c.param("roleSessionName", in.SessionName)
		c.param("externalId", in.ExternalID)
		c.param("serialNumber", in.SerialNumber)
		c.param("sourceIdentity", in.SourceIdentity)
		if in.Duration != 0 {
			c.param("durationSeconds", strconv.Itoa(in.Duration))
		}
		factor, err := c.secondFactor(ctx, in.SerialNumber, in.TokenCode)
		if err != nil {
			return err
		}
		row, refusal := c.assume(ctx, in, factor != nil, out)
		if refusal != nil && factor == nil || errors.Is(refusal, errStale) {
			return refusal
		}
		// The code is used up even if the role is refused.
		return c.updateAs(ctx, own(refusal), func(ctx context.Context, tx Tx) error {
			if factor != nil {
				if err := put(ctx, tx, factor); err != nil {
					return err
				}
			}
			if refusal != nil {
				return nil
			}
			return put(ctx, tx, row)
		})
	})
}

// assume decides and makes the session's row.
func (c *call) assume(ctx context.Context, in *AssumeRoleInput, factor bool, out *AssumedRole) (*stored[sessionBody], error) {
	role, err := iam.ParseARN(in.RoleARN)
	if err != nil || role.Service != "iam" || !strings.HasPrefix(role.Resource, "role/") {
		return nil, refuse(CodeValidation, cut(in.RoleARN)+" is invalid")
	}
	c.resource("role", in.RoleARN, role.Account)
	b := &sessionBody{Account: role.Account, Kind: kindRole, Name: in.SessionName, MFA: since(c.at, factor)}
	if err := c.sessionPolicy(in, b, out); err != nil {
		return nil, err
	}
	if err := c.inherit(ctx, in, b); err != nil {
		return nil, err
	}
	p, err := c.roleFor(ctx, in.RoleARN, role)
	if err != nil {
		return nil, err
	}
	if err := c.mayAssume(in, b, p); err != nil {
		return nil, err
	}
	seconds := in.Duration
	switch {
	case seconds == 0:
		seconds = defaultSession
	case c.who.subject().Caller.Type == iam.CallerRole && seconds > defaultSession:
		return nil, refuse(CodeValidation, "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.")
	case seconds > p.row.MaxSession:
		return nil, refuse(CodeValidation, "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
	}
	b.Of, b.OfID = p.row.Name, p.row.ID
	out.ARN, out.ID, out.SourceIdentity = sessionARN(b.Account, b.Of, b.Name), b.OfID+":"+b.Name, b.Source
	row, err := c.newSession(ctx, b, seconds, &out.Credentials)
	if err != nil {
		return nil, err
	}
	c.result("assumedRoleArn", out.ARN)
	c.result("assumedRoleId", out.ID)
	return row, nil
}

// roleFor finds the role, or nil if there is none, as it is now: a session lasts for
// hours and is not given by what other nodes have changed a moment ago.
func (c *call) roleFor(ctx context.Context, arn string, a iam.ARN) (*principal, error) {
	if !c.s.HasAccount(ctx, a.Account) {
		return nil, nil
	}
	p, err := c.s.readPrincipal(ctx, kindRole, a.Account, lastName(a.Resource))
	if errors.Is(err, ErrNoRow) || err == nil && p.arn != arn {
		return nil, nil
	}
	return p, err
}

// sessionPolicy checks the session policy and bounds it with the tags.
func (c *call) sessionPolicy(in *AssumeRoleInput, b *sessionBody, out *AssumedRole) error {
	if len(in.PolicyARNs) > 0 {
		return refuse(CodeValidation, "There are no managed policies: give the session policy as Policy.")
	}
	size := len(in.Policy)
	for _, t := range in.Tags {
		size += len(t.Key) + len(t.Value)
	}
	out.PackedPolicySize = (size*100 + maxSessionPolicy - 1) / maxSessionPolicy
	if size > maxSessionPolicy {
		return refuse(CodePackedPolicyTooLarge, "Packed size of session tags consumes "+strconv.Itoa(out.PackedPolicySize)+"% of allotted space.")
	}
	if in.Policy == "" {
		return nil
	}
	if _, err := parsePolicy(iam.IdentityPolicy, in.Policy); err != nil {
		return err
	}
	b.Policies = []string{in.Policy}
	return nil
}

// inherit puts tags and source identity together: those of the request, and those
// that a session of a role hands on.
func (c *call) inherit(ctx context.Context, in *AssumeRoleInput, b *sessionBody) error {
	tags := in.Tags
	b.Transitive = append(b.Transitive, in.TransitiveTagKeys...)
	b.Source = in.SourceIdentity
	sub := c.who.subject()
	if sub.Caller.Type == iam.CallerRole {
		l, err := c.s.live(ctx, sub.AccessKeyID)
		if errors.Is(err, sigv4.ErrUnknownKey) { // since it signed the request
			return refuse(CodeInvalidClientTokenID, "The security token included in the request is invalid.")
		}
		if err != nil {
			return err
		}
		for _, key := range l.transitive {
			i := findTag(sub.Caller.Tags, key)
			if i < 0 {
				continue
			}
			if findTag(in.Tags, key) >= 0 {
				return refuse(CodeValidation, "The tag key "+key+" is transitive in the calling session and cannot be set again.")
			}
			tags = append(slices.Clip(tags), sub.Caller.Tags[i])
			b.Transitive = append(b.Transitive, key)
		}
		if inherited := sub.Caller.SourceIdentity; inherited != "" {
			if b.Source != "" && b.Source != inherited {
				return refuse(CodeAccessDenied, "The source identity of a session cannot be changed.")
			}
			b.Source = inherited
		}
	}
	if len(tags) > maxTags {
		return refuse(CodeValidation, "The session would have more than 50 tags.")
	}
	b.Tags = tagBodies(tags)
	return nil
}

// mayAssume asks the role's trust policy and the caller's own policies. p is nil if
// there is no such role, which is refused in the same words.
func (c *call) mayAssume(in *AssumeRoleInput, b *sessionBody, p *principal) error {
	sub := c.who.subject()
	q := iam.Query{Caller: sub.Caller, Resource: in.RoleARN, Time: c.at, Context: new(iam.Context)}
	if !b.MFA.IsZero() { // for this request, whatever the credentials had
		q.Caller.MFA = b.MFA
		if q.Caller.Issued.IsZero() {
			q.Caller.Issued = b.MFA
		}
	}
	policies := sub.Policies()
	if p != nil {
		policies.Resource = p.trust
	}
	c.assumeContext(q.Context, in, b, p)
	actions := []string{c.op.Action}
	if len(b.Tags) > 0 {
		actions = append(actions, "sts:TagSession")
	}
	if b.Source != "" {
		actions = append(actions, "sts:SetSourceIdentity")
	}
	for _, action := range actions {
		q.Action = action
		denied := func(reason string) error {
			return &Error{
				Code:    CodeAccessDenied,
				Message: "User: " + sub.Caller.Name() + " is not authorized to perform: " + action + " on resource: " + in.RoleARN,
				Reason:  reason,
			}
		}
		v := iam.Decide(&q, &policies)
		switch {
		case sub.Caller.Type == iam.CallerRoot:
			return denied("denied: roles may not be assumed by root accounts")
		case !v.Allowed && p == nil && v.Reason != iam.DeniedExplicitly && v.Reason != iam.DeniedAnonymous:
			return denied("denied: there is no such role")
		case !v.Allowed:
			return denied(v.String())
		case !c.stillTrusted(p):
			return denied("denied: the trust policy was put for another principal of the same name, which has been deleted")
		}
		c.entry.Detail = v.String()
	}
	c.asked = true
	return nil
}

// stillTrusted reports whether the caller is not merely a namesake of a principal
// that the trust policy names.
func (c *call) stillTrusted(p *principal) bool {
	who := &c.who.subject().Caller
	id, _, _ := strings.Cut(who.ID, ":")
	for _, t := range p.row.Trusted {
		if (t.ARN == who.ARN || t.ARN == who.Session) && t.ID != id {
			return false
		}
	}
	return true
}

// assumeContext puts the request into the condition keys.
func (c *call) assumeContext(keys *iam.Context, in *AssumeRoleInput, b *sessionBody, p *principal) {
	c.common(keys)
	add := func(key, value string) {
		if value != "" {
			keys.Add(key, iam.String(value))
		}
	}
	add("sts:RoleSessionName", in.SessionName)
	add("sts:ExternalId", in.ExternalID)
	add("sts:SourceIdentity", b.Source)
	for _, t := range b.Tags {
		keys.Add("aws:RequestTag/"+t.Key, iam.String(t.Value))
		keys.Add("aws:TagKeys", iam.String(t.Key))
	}
	for _, k := range b.Transitive {
		keys.Add("sts:TransitiveTagKeys", iam.String(k))
	}
	if p == nil {
		return
	}
	for _, t := range p.tags {
		keys.Add("aws:ResourceTag/"+t.Key, iam.String(t.Value))
		keys.Add("iam:ResourceTag/"+t.Key, iam.String(t.Value))
	}
}
