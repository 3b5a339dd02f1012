package identity

import (
	"context"
	"strconv"
	"time"

	"cardea/internal/iam"
)

// CallerIdentity is who calls.
type CallerIdentity struct {
	Account string
	ARN     string // of the session or identity
	UserID  string // AIDA…, AROA…:session
}

// GetCallerIdentity tells who calls. It needs no permission.
func (s *Service) GetCallerIdentity(ctx context.Context, who Caller) (*CallerIdentity, error) {
	return perform(ctx, s, who, OpGetCallerIdentity, nil, func(c *call, out *CallerIdentity) error {
		if err := c.authenticated(); err != nil {
			return err
		}
		sub := who.subject()
		*out = CallerIdentity{sub.Caller.Account, sub.Caller.Name(), sub.Caller.ID}
		return nil
	})
}

// authenticated lets every authenticated principal of an account do the operation,
// which needs no permission. Operators of the host are none.
func (c *call) authenticated() error {
	switch c.who.subject().Caller.Type {
	case iam.CallerUser, iam.CallerRole, iam.CallerRoot, iam.CallerFederated:
		c.asked = true
		return nil
	case iam.CallerAnonymous, iam.CallerService, iam.CallerProvider:
	}
	return refuse(CodeAccessDenied, "The request must be signed by a user or role of an account.")
}

// GetSessionTokenInput asks for temporary credentials of the user who calls.
type GetSessionTokenInput struct {
	Duration     int    // seconds, 900 to 129600; default 43200
	SerialNumber string // of a second factor; with TokenCode, or neither
	TokenCode    string // its 6 digits
}

// Bounds of GetSessionToken, in seconds.
const (
	defaultTokenSession = 43200
	mostTokenSession    = 129600
)

func (in *GetSessionTokenInput) check(v *violations) {
	v.number("durationSeconds", in.Duration, minSession, mostTokenSession)
	v.secondFactor(in.SerialNumber, in.TokenCode)
}

// GetSessionToken gives a user temporary credentials that may do what the user may;
// with a second factor they have aws:MultiFactorAuthPresent. It needs no
// permission, and must be signed with a long-term access key, with whose end the
// credentials end too. Errors: AccessDenied, ServiceUnavailable. The caller destroys
// the answer.
func (s *Service) GetSessionToken(ctx context.Context, who Caller, in *GetSessionTokenInput) (*Credentials, error) {
	return perform(ctx, s, who, OpGetSessionToken, in, func(c *call, out *Credentials) error {
		seconds := in.Duration
		if seconds == 0 {
			seconds = defaultTokenSession
		}
		c.param("durationSeconds", strconv.Itoa(seconds))
		c.param("serialNumber", in.SerialNumber)
		if err := c.authenticated(); err != nil {
			return err
		}
		sub := who.subject()
		if sub.Caller.Type != iam.CallerUser || !sub.Caller.Issued.IsZero() {
			return refuse(CodeAccessDenied, "Cannot call GetSessionToken with session credentials")
		}
		factor, err := c.secondFactor(ctx, in.SerialNumber, in.TokenCode)
		if err != nil {
			return err
		}
		b := &sessionBody{
			Account: sub.Caller.Account, Kind: kindUser, Of: lastName(sub.Caller.ARN), OfID: sub.Caller.ID, Key: sub.AccessKeyID,
			MFA: since(c.at, factor != nil),
		}
		row, err := c.newSession(ctx, b, seconds, out)
		if err != nil {
			return err
		}
		return c.update(ctx, func(ctx context.Context, tx Tx) error {
			if factor != nil {
				if err := put(ctx, tx, factor); err != nil {
					return err
				}
			}
			return put(ctx, tx, row)
		})
	})
}

// since is when a session was given a second factor, if it was.
func since(at time.Time, given bool) time.Time {
	if !given {
		return time.Time{}
	}
	return moment(at)
}
