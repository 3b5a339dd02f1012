package adminapi

import (
	"context"
	"io"
	"net/netip"
	"time"

	"cardea/internal/custodian"
	"cardea/internal/kms"
)

// Status is how a key service is.
type Status struct {
	Node     string    `json:"node"`
	URL      string    `json:"url"`
	Regions  []string  `json:"regions"`
	Accounts []string  `json:"accounts"`
	Unsealed bool      `json:"unsealed"`
	Since    time.Time `json:"unsealed_since,omitzero"`
	// Form, Threshold, Shares, Submitted and Generation are of the custodians who
	// hold the root key.
	Form       custodian.Form `json:"form"`
	Threshold  int            `json:"threshold"`
	Shares     int            `json:"shares"`
	Submitted  int            `json:"submitted"`
	Generation int            `json:"generation"`
	// MemoryLocked says that the root key can be neither swapped nor dumped.
	MemoryLocked bool   `json:"memory_locked"`
	Database     string `json:"database"` // working, or what is wrong
	LogVerifier  string `json:"log_verifier"`
	Version      string `json:"version"`
}

// Explain is a question why a request would be allowed or denied.
type Explain struct {
	Principal         string              `json:"principal"` // ARN
	Action            string              `json:"action"`
	Region            string              `json:"region"`
	KeyID             string              `json:"key,omitempty"`
	EncryptionContext map[string]string   `json:"encryption_context,omitempty"`
	GrantTokens       []string            `json:"grant_tokens,omitempty"`
	IP                netip.Addr          `json:"ip,omitzero"`
	UserAgent         string              `json:"user_agent,omitempty"`
	TLS               bool                `json:"tls,omitempty"`
	MFA               bool                `json:"mfa,omitempty"`
	At                time.Time           `json:"at,omitzero"`
	Values            map[string][]string `json:"values,omitempty"`
}

func status(ctx context.Context, x *exchange, _ io.Reader) (any, error) {
	return x.server.o.Status(ctx), nil
}

func explain(ctx context.Context, x *exchange, body io.Reader) (any, error) {
	var in Explain
	if err := decode(body, &in); err != nil {
		return nil, err
	}
	sub, err := x.server.o.Identities.SubjectOf(ctx, in.Principal)
	if err != nil {
		return nil, err
	}
	who := kms.Operator(x.operator, in.Region, sub.Caller.Account)
	who.RequestID = x.id
	return x.server.o.Keys.Explain(ctx, who, &kms.ExplainInput{
		Subject: sub, Action: in.Action, KeyID: in.KeyID, EncryptionContext: in.EncryptionContext, GrantTokens: in.GrantTokens,
		IP: in.IP, UserAgent: in.UserAgent, TLS: in.TLS, MFA: in.MFA, At: in.At, Values: in.Values,
	})
}
