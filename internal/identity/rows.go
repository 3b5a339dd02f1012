package identity

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	json "github.com/go-json-experiment/json"

	"cardea/internal/iam"
)

// The kinds of rows. Names of users, roles, groups and devices are stored in lower
// case, so that two that differ only in case exclude each other, as in AWS.
const (
	kindAccount   Kind = "account"    // no account; name = id
	kindAlias     Kind = "alias"      // no account; name = alias
	kindUser      Kind = "user"       // name
	kindRole      Kind = "role"       // name
	kindGroup     Kind = "group"      // name
	kindMember    Kind = "member"     // name = group/user
	kindDevice    Kind = "mfa"        // name = device
	kindAccessKey Kind = "access_key" // no account; name = AKIA…
	kindSession   Kind = "session"    // no account; name = ASIA…
)

// Kinds are all kinds of rows.
func Kinds() []Kind {
	return []Kind{kindAccount, kindAlias, kindUser, kindRole, kindGroup, kindMember, kindDevice, kindAccessKey, kindSession}
}

// rowVersion is the version of all bodies. A body is a JSON object, strictly
// read: unknown and repeated members are errors.
const rowVersion = 1

// maxBody is the longest body, in bytes.
const maxBody = 256 << 10

// Tag is a tag of a user, role or session.
type Tag = iam.Tag

// accountBody is also the body of an alias.
type accountBody struct {
	V       int       `json:"v"`
	ID      string    `json:"id"`
	Alias   string    `json:"alias,omitzero"`
	Created time.Time `json:"created,omitzero"`
}

// entity is the body of a user, role or group.
type entity struct {
	V        int          `json:"v"`
	Name     string       `json:"name"`
	ID       string       `json:"id"`
	Path     string       `json:"path"`
	Created  time.Time    `json:"created"`
	Tags     []tagBody    `json:"tags,omitzero"`
	Policies []policyBody `json:"policies,omitzero"` // sorted by name
	Boundary string       `json:"boundary,omitzero"`

	// Issued before this, sessions of it are refused (RevokeSessions).
	NotBefore time.Time `json:"not_before,omitzero"`

	// Of users. All sorted.
	Groups  []string `json:"groups,omitzero"`
	Keys    []string `json:"keys,omitzero"`
	Devices []string `json:"devices,omitzero"`

	// Of roles.
	Trust       string        `json:"trust,omitzero"`
	MaxSession  int           `json:"max_session,omitzero"` // seconds
	Description string        `json:"description,omitzero"`
	Trusted     []trustedBody `json:"trusted,omitzero"` // sorted by ARN
}

type tagBody struct {
	Key   string `json:"k"`
	Value string `json:"v"`
}

type policyBody struct {
	Name     string `json:"name"`
	Document string `json:"document"`
}

// trustedBody is the id that a principal of the trust policy had when the policy
// was put: another of the same name later is not meant.
type trustedBody struct {
	ARN string `json:"arn"`
	ID  string `json:"id"`
}

// memberBody says only that there is a membership: its names, as written.
type memberBody struct {
	V     int    `json:"v"`
	Group string `json:"group"`
	User  string `json:"user"`
}

// deviceBody is a second factor of a user.
type deviceBody struct {
	V       int       `json:"v"`
	Name    string    `json:"name"`
	User    string    `json:"user"`
	Secret  []byte    `json:"secret"` // sealed
	Created time.Time `json:"created"`
	Used    uint64    `json:"used,omitzero"` // counter of the last code accepted; none at or before it is accepted again
}

// keyBody is a long-term access key.
type keyBody struct {
	V       int       `json:"v"`
	Account string    `json:"account"`
	User    string    `json:"user"`
	UserID  string    `json:"user_id"`
	Secret  []byte    `json:"secret"` // sealed
	Active  bool      `json:"active"`
	Created time.Time `json:"created"`
	Locked  time.Time `json:"locked_until,omitzero"`
}

// sessionBody is a set of temporary credentials; when they end stands in the row.
type sessionBody struct {
	V          int       `json:"v"`
	Account    string    `json:"account"`
	Kind       Kind      `json:"kind"` // of whom: user or role
	Of         string    `json:"of"`
	OfID       string    `json:"of_id"`
	Key        string    `json:"key,omitzero"`  // access key of the user that asked for it, whose end ends it
	Name       string    `json:"name,omitzero"` // of a role's session
	Token      []byte    `json:"token"`         // SHA-256
	Secret     []byte    `json:"secret"`        // sealed
	Issued     time.Time `json:"issued"`
	MFA        time.Time `json:"mfa,omitzero"`
	Policies   []string  `json:"policies,omitzero"`
	Tags       []tagBody `json:"tags,omitzero"`
	Transitive []string  `json:"transitive,omitzero"` // keys of tags that go on to the next role
	Source     string    `json:"source_identity,omitzero"`
	Locked     time.Time `json:"locked_until,omitzero"`
}

// body is what a row holds. check refuses what the code never writes.
type body interface{ check(kind Kind) error }

func (b *accountBody) check(Kind) error {
	if !isAccount(b.ID) {
		return errors.New("no account id")
	}
	return nil
}

func (b *entity) check(kind Kind) error {
	switch {
	case !isName(b.Name) || b.ID == "" || !strings.HasPrefix(b.Path, "/") || !strings.HasSuffix(b.Path, "/"):
		return errors.New("no name, id or path")
	case kind != kindUser && len(b.Groups)+len(b.Keys)+len(b.Devices) > 0:
		return errors.New("it has members of a user")
	case (kind == kindRole) != (b.Trust != "") || (kind == kindRole) != (b.MaxSession > 0) ||
		kind != kindRole && (b.Description != "" || b.Trusted != nil):
		return errors.New("trust policy and session duration are those of roles")
	case kind == kindGroup && (b.Boundary != "" || b.Tags != nil):
		return errors.New("a group has neither tags nor a boundary")
	case !slices.IsSortedFunc(b.Policies, func(p, q policyBody) int { return strings.Compare(p.Name, q.Name) }):
		return errors.New("its policies are not sorted")
	}
	return nil
}

func (b *memberBody) check(Kind) error {
	if !isName(b.Group) || !isName(b.User) {
		return errors.New("no group or user")
	}
	return nil
}

func (b *deviceBody) check(Kind) error {
	if !isName(b.Name) || !isName(b.User) || len(b.Secret) == 0 {
		return errors.New("no name, user or secret")
	}
	return nil
}

func (b *keyBody) check(Kind) error {
	if !isAccount(b.Account) || !isName(b.User) || b.UserID == "" || len(b.Secret) == 0 {
		return errors.New("no account, user or secret")
	}
	return nil
}

func (b *sessionBody) check(Kind) error {
	switch {
	case !isAccount(b.Account) || !isName(b.Of) || b.OfID == "" || len(b.Secret) == 0 || len(b.Token) != 32:
		return errors.New("no account, identity, secret or token")
	case b.Kind == kindRole && isName(b.Name) && b.Key == "":
	case b.Kind == kindUser && b.Name == "" && b.Key != "":
	default:
		return errors.New("neither of a role nor of a user")
	}
	return nil
}

// stored is a row with its body decoded. To change one that was read, change what
// Body points to and put it.
type stored[T any] struct {
	Name
	Version   int64
	ExpiresAt time.Time
	Body      *T
}

// encodeBody is the one encoding of a body.
func encodeBody(b body) ([]byte, error) {
	return json.Marshal(b)
}

// decodeBody reads a body of the kind into b.
func decodeBody(kind Kind, data []byte, b body) error {
	if len(data) > maxBody {
		return fmt.Errorf("longer than %d bytes", maxBody)
	}
	var v struct {
		V int `json:"v"`
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return err
	}
	if v.V != rowVersion {
		return fmt.Errorf("version %d is unknown", v.V)
	}
	if err := json.Unmarshal(data, b, json.RejectUnknownMembers(true)); err != nil {
		return err
	}
	return b.check(kind)
}

// load reads a row; one that is not there is ErrNoRow.
func load[T any, P interface {
	*T
	body
}](ctx context.Context, r Reader, kind Kind, account, name string,
) (*stored[T], error) {
	row, err := r.Get(ctx, kind, account, name)
	if err != nil {
		return nil, err
	}
	return decodeRow[T, P](row)
}

func decodeRow[T any, P interface {
	*T
	body
}](row *Row,
) (*stored[T], error) {
	s := &stored[T]{Name: Name{row.Kind, row.Account, row.Name}, Version: row.Version, ExpiresAt: row.ExpiresAt, Body: new(T)}
	if err := decodeBody(row.Kind, row.Body, P(s.Body)); err != nil {
		return nil, fmt.Errorf("row %s %s/%s: %w", row.Kind, row.Account, row.Name, err)
	}
	return s, nil
}

// put writes a row.
func put[T any, P interface {
	*T
	body
}](ctx context.Context, tx Tx, s *stored[T],
) error {
	data, err := encodeBody(P(s.Body))
	if err == nil && len(data) > maxBody {
		return refuse(CodeLimitExceeded, "The entity has more policies, tags or keys than can be stored.")
	}
	if err != nil {
		return fmt.Errorf("encode %s: %w", s.Kind, err)
	}
	return tx.Put(ctx, &Row{Kind: s.Kind, Account: s.Account, Name: s.Name.Name, Version: s.Version, Body: data, ExpiresAt: s.ExpiresAt})
}

// fold is the name of a row for a name that is not case-sensitive, of ASCII.
func fold(name string) string { return strings.ToLower(name) }

// moment is a time as rows hold it: whole seconds, as AWS's are.
func moment(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

func tagsOf(bs []tagBody) []Tag {
	var ts []Tag
	for _, b := range bs {
		ts = append(ts, Tag(b))
	}
	return ts
}

func tagBodies(ts []Tag) []tagBody {
	var bs []tagBody
	for _, t := range ts {
		bs = append(bs, tagBody(t))
	}
	return bs
}
