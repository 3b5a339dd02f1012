package cli

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"cardea/internal/adminapi"
	"cardea/internal/custodian"
	"cardea/internal/iam"
)

type kmsCommands struct {
	Status  kmsStatusCommand  `cmd:"" help:"Tell how a running key service is: sealed or not, what it serves."`
	Explain kmsExplainCommand `cmd:"" help:"Say why a request to the key service is allowed or denied."`
}

type kmsStatusCommand struct {
	keyServiceFlags
	output
}

// Help implements kong.HelpProvider.
func (kmsStatusCommand) Help() string {
	return "Examples:\n  cardea kms status\n  cardea kms status --config cardea.toml --output json\n\n" +
		"Exit status 3 while it is sealed, or its database does not work."
}

func (c kmsStatusCommand) Run(ctx context.Context, p *Process) error {
	k, err := c.connect(ctx, p)
	if err != nil {
		return err
	}
	s := k.status
	err = c.print(p.Stdout, s, func(w io.Writer) error {
		custodians := "none yet, see 'cardea custodian init --tenant key-service'"
		switch {
		case s.Form == custodian.FormToken:
			custodians = "none: a PKCS #11 token unseals the root key"
		case s.Threshold > 0 && s.Shares > 0:
			custodians = fmt.Sprintf("%d of %d, %s, generation %d", s.Threshold, s.Shares, s.Form, s.Generation)
		case s.Unsealed:
			custodians = "none: the root key is in a file"
		}
		rows := [][]string{
			{"node", s.Node}, {"address", s.URL}, {"unsealed", sealText(s)}, {"custodians", custodians},
		}
		if !s.Unsealed && s.Shares > 0 {
			rows = append(rows, []string{"parts given", fmt.Sprintf("%d of %d", s.Submitted, s.Threshold)})
		}
		rows = append(rows, []string{"regions", strings.Join(s.Regions, ", ")}, []string{"accounts", strings.Join(s.Accounts, ", ")},
			[]string{"database", s.Database}, []string{"log verifier", s.LogVerifier})
		return fields(w, rows...)
	})
	if err == nil && (!s.Unsealed || s.Database != "working") {
		err = errFindings
	}
	return err
}

func sealText(s adminapi.Status) string {
	switch {
	case !s.Unsealed:
		return "false"
	case !s.MemoryLocked:
		return "true, since " + day(s.Since) + "; the root key may be swapped: raise the limit of locked memory"
	}
	return "true, since " + day(s.Since)
}

type kmsExplainCommand struct {
	keyServiceFlags
	output
	Principal  string   `required:"" placeholder:"ARN" help:"Who would make the request: a user, a role, a session of a role, or an account's root."`
	Action     string   `required:"" placeholder:"ACTION" help:"What it would be, such as kms:Decrypt."`
	Key        string   `placeholder:"ID" help:"The key: id, ARN, alias or alias ARN. Without it, an action on no key."`
	Region     string   `placeholder:"REGION" help:"Whose endpoint is asked; that of the key's ARN, or the first one that is served, if not given."`
	Context    []string `sep:"none" placeholder:"KEY=VALUE" help:"A pair of the encryption context; repeat."`
	SourceIP   string   `name:"source-ip" placeholder:"IP" help:"Address of the client (aws:SourceIp)."`
	UserAgent  string   `placeholder:"TEXT" help:"User-Agent of the client (aws:UserAgent)."`
	MFA        bool     `name:"mfa" help:"A second factor was given, just now (aws:MultiFactorAuthPresent)."`
	TLS        bool     `name:"tls" help:"The request comes over TLS (aws:SecureTransport)."`
	At         string   `placeholder:"TIME" help:"When it would be made (RFC 3339), or how long ago (24h); now if not given."`
	GrantToken []string `sep:"none" placeholder:"TOKEN" help:"A grant token; repeat."`
	Value      []string `sep:"none" placeholder:"KEY=VALUE" help:"A value of another condition key, such as kms:ViaService; repeat."`
}

// Help implements kong.HelpProvider.
func (kmsExplainCommand) Help() string {
	return "Examples:\n" +
		"  cardea kms explain --principal arn:aws:iam::111122223333:user/alice --action kms:Decrypt --key alias/cards --context tenant=acme\n" +
		"  cardea kms explain --principal arn:aws:iam::111122223333:role/ops --action kms:ScheduleKeyDeletion --key alias/cards --mfa --output json\n\n" +
		"It looks at permissions only: key policy, policies of the principal, grants. Exit status 3 if the request is denied. " +
		"Why one was denied that was made, the audit log tells: 'cardea audit show --key-service --outcome denied'."
}

func (c kmsExplainCommand) Run(ctx context.Context, p *Process) error {
	in, err := c.question(p)
	if err != nil {
		return err
	}
	k, err := c.connect(ctx, p)
	if err != nil {
		return err
	}
	if in.Region == "" {
		in.Region = k.status.Regions[0]
	}
	var x iam.Explanation
	if err := k.call(ctx, "kms/Explain", in, &x); err != nil {
		return err
	}
	err = c.print(p.Stdout, x, func(w io.Writer) error {
		for line := range strings.Lines(x.String()) {
			if _, err := fmt.Fprintln(w, printable(strings.TrimSuffix(line, "\n"))); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && !x.Allowed {
		err = errFindings
	}
	return err
}

// question is what the flags ask.
func (c kmsExplainCommand) question(p *Process) (*adminapi.Explain, error) {
	in := &adminapi.Explain{
		Principal: c.Principal, Action: c.Action, KeyID: c.Key, Region: c.Region, UserAgent: c.UserAgent, MFA: c.MFA, TLS: c.TLS, GrantTokens: c.GrantToken,
	}
	if arn, err := iam.ParseARN(c.Key); err == nil && in.Region == "" {
		in.Region = arn.Region
	}
	pairs, err := parsePairs("--context", c.Context)
	if err != nil {
		return nil, err
	}
	for _, pair := range pairs {
		if in.EncryptionContext == nil {
			in.EncryptionContext = map[string]string{}
		}
		if _, twice := in.EncryptionContext[pair[0]]; twice {
			return nil, usageError{fmt.Errorf("--context: %q is given twice", pair[0])}
		}
		in.EncryptionContext[pair[0]] = pair[1]
	}
	if pairs, err = parsePairs("--value", c.Value); err != nil {
		return nil, err
	}
	for _, pair := range pairs {
		if in.Values == nil {
			in.Values = map[string][]string{}
		}
		in.Values[pair[0]] = append(in.Values[pair[0]], pair[1])
	}
	if c.SourceIP != "" {
		if in.IP, err = netip.ParseAddr(c.SourceIP); err != nil {
			return nil, usageError{fmt.Errorf("--source-ip: %q is no address", c.SourceIP)}
		}
	}
	in.At, err = moment("--at", c.At, p.Now())
	return in, err
}
