package cli

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"cardea/internal/iam"
	"cardea/internal/identity"
)

// What follows is the JSON of identities as commands print it: an interface, which
// stays while the service's own types change.

type accountView struct {
	ID      string    `json:"account"`
	Alias   string    `json:"alias,omitempty"`
	Created time.Time `json:"created"`
}

func accountOf(a identity.Account) accountView { return accountView{a.ID, a.Alias, a.CreatedAt} }

type userView struct {
	Account    string            `json:"account"`
	Name       string            `json:"user"`
	Path       string            `json:"path"`
	ID         string            `json:"id"`
	ARN        string            `json:"arn"`
	Created    time.Time         `json:"created"`
	Tags       map[string]string `json:"tags,omitempty"`
	Groups     []string          `json:"groups"`
	Policies   []string          `json:"policies"`
	Boundary   json.RawMessage   `json:"boundary,omitempty"`
	AccessKeys []string          `json:"access_keys"`
	MFADevices []string          `json:"mfa_devices"`
}

func userOf(u identity.User) userView {
	return userView{
		u.Account, u.Name, u.Path, u.ID, u.ARN, u.CreatedAt, tagMap(u.Tags), list(u.Groups), list(u.Policies),
		document(u.Boundary), list(u.AccessKeys), list(u.MFADevices),
	}
}

type groupView struct {
	Account  string    `json:"account"`
	Name     string    `json:"group"`
	Path     string    `json:"path"`
	ID       string    `json:"id"`
	ARN      string    `json:"arn"`
	Created  time.Time `json:"created"`
	Policies []string  `json:"policies"`
	Members  []string  `json:"members,omitempty"` // not in lists
}

func groupOf(g identity.Group) groupView {
	return groupView{g.Account, g.Name, g.Path, g.ID, g.ARN, g.CreatedAt, list(g.Policies), g.Members}
}

type roleView struct {
	Account     string            `json:"account"`
	Name        string            `json:"role"`
	Path        string            `json:"path"`
	ID          string            `json:"id"`
	ARN         string            `json:"arn"`
	Created     time.Time         `json:"created"`
	Description string            `json:"description,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`
	Trust       json.RawMessage   `json:"trust"`
	Policies    []string          `json:"policies"`
	Boundary    json.RawMessage   `json:"boundary,omitempty"`
	MaxSession  int               `json:"max_session_seconds"`
}

func roleOf(r identity.Role) roleView {
	return roleView{
		r.Account, r.Name, r.Path, r.ID, r.ARN, r.CreatedAt, r.Description, tagMap(r.Tags), document(r.TrustPolicy),
		list(r.Policies), document(r.Boundary), r.MaxSession,
	}
}

type accessKeyView struct {
	Account     string    `json:"account"`
	User        string    `json:"user"`
	ID          string    `json:"access_key_id"`
	Active      bool      `json:"active"`
	Created     time.Time `json:"created"`
	LockedUntil time.Time `json:"locked_until,omitzero"`
}

func accessKeyOf(k identity.AccessKey) accessKeyView {
	return accessKeyView{k.Account, k.User, k.ID, k.Active, k.CreatedAt, k.LockedUntil}
}

type deviceView struct {
	User     string    `json:"user"`
	Serial   string    `json:"serial"`
	Created  time.Time `json:"created"`
	LastUsed time.Time `json:"last_used,omitzero"`
}

func deviceOf(d identity.MFADevice) deviceView {
	return deviceView{d.User, d.Serial, d.CreatedAt, d.LastUsed}
}

// views are what is printed of a list: [] and not null if it is empty.
func views[T, V any](all []T, view func(T) V) []V {
	out := make([]V, 0, len(all))
	for _, x := range all {
		out = append(out, view(x))
	}
	return out
}

func list(names []string) []string {
	if names == nil {
		return []string{}
	}
	return names
}

// document is a policy as part of JSON; nil if there is none.
func document(text string) json.RawMessage {
	if text == "" {
		return nil
	}
	return json.RawMessage(text)
}

func tagMap(tags []identity.Tag) map[string]string {
	m := map[string]string{}
	for _, t := range tags {
		m[t.Key] = t.Value
	}
	return m
}

func tagText(tags []identity.Tag) string {
	m := tagMap(tags)
	var texts []string
	for _, key := range slices.Sorted(maps.Keys(m)) {
		texts = append(texts, key+"="+m[key])
	}
	return strings.Join(texts, ", ")
}

// parseTags reads tags as arguments have them.
func parseTags(flag string, texts []string) ([]identity.Tag, error) {
	pairs, err := parsePairs(flag, texts)
	var tags []identity.Tag
	for _, pair := range pairs {
		tags = append(tags, iam.Tag{Key: pair[0], Value: pair[1]})
	}
	return tags, err
}
