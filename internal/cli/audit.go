package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"cardea/internal/app"
	"cardea/internal/audit"
	"cardea/internal/config"
	"cardea/internal/iam"
	"cardea/internal/vault"
)

type auditCommands struct {
	Verify auditVerifyCommand `cmd:"" help:"Prove that nobody changed the audit log."`
	Show   auditShowCommand   `cmd:"" help:"Read the audit log."`
	Export auditExportCommand `cmd:"" help:"Write the logs with all that verifies them into one file, to take away."`
}

// logSource is where an audit command reads: a database, beside a running node or
// not, or an exported file.
type logSource struct {
	Config  []string `short:"c" type:"path" placeholder:"FILE" xor:"source" help:"Configuration that names the database."`
	DataDir string   `type:"path" placeholder:"DIR" xor:"source" help:"Data folder of 'cardea dev' (default ./cardea-data)."`
	Bundle  string   `type:"path" placeholder:"FILE" xor:"source" help:"File that 'cardea audit export' wrote; nothing else is needed."`
	Origin  []string `placeholder:"NAME" help:"Only these logs, such as cardea/vault-1."`
}

// opened is a log source in use.
type opened struct {
	audit.Source
	pub   string // file with the public key beside the node's, if there is one
	close func() error
}

// open opens the source. Reading the log in a database is itself an entry of the
// log (PCI DSS 10.2.1.3), in the log of the command line.
func (s logSource) open(ctx context.Context, p *Process, what string) (*opened, error) {
	if s.Bundle != "" {
		return s.openBundle()
	}
	cfg, err := s.config(p)
	if err != nil {
		return nil, err
	}
	if path := cfg.SQLitePath(); path != "" {
		if _, err := os.Stat(path); err != nil {
			return nil, fmt.Errorf("no database to read the audit log of: %w", err)
		}
	}
	tool, err := app.OpenTool(ctx, cfg, app.Options{Logger: discard(), Now: p.Now})
	if err != nil {
		return nil, err
	}
	if err := tool.Gate.Record(ctx, operator(p), vault.OpLogRead, vault.Target{}, "read", what); err != nil {
		return nil, errors.Join(err, tool.Close())
	}
	return &opened{Source: tool.Store, pub: cfg.Audit.SigningKeyFile + ".pub", close: tool.Close}, nil
}

func (s logSource) openBundle() (*opened, error) {
	f, err := os.Open(s.Bundle)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	b, err := audit.OpenBundle(f, st.Size())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", s.Bundle, err), f.Close())
	}
	return &opened{Source: b, close: f.Close}, nil
}

func (s logSource) config(p *Process) (config.Config, error) {
	if len(s.Config) > 0 {
		return configFlag{s.Config}.load(p)
	}
	dir := s.DataDir
	if dir == "" {
		dir = "./cardea-data"
	}
	return devConfig(devOptions{DataDir: dir, Listen: "127.0.0.1:0", Ops: "127.0.0.1:0", Level: "error"})
}

// origins are the logs asked for, or all.
func (s logSource) origins(ctx context.Context, src audit.Source) ([]string, error) {
	if len(s.Origin) > 0 {
		return s.Origin, nil
	}
	return src.Logs(ctx)
}

type auditVerifyCommand struct {
	logSource
	output
	PublicKey     []string `placeholder:"KEY" help:"Public key that signs the checkpoints, or a file of such keys, one a line. Without it the ones beside the node's signing key are used, which proves less."`
	Checkpoint    []string `type:"path" placeholder:"FILE" help:"Signed checkpoint that was kept elsewhere: the log must continue it."`
	AllowUnsigned bool     `help:"Verify consistency only, without knowing who signs."`
}

// Help implements kong.HelpProvider.
func (auditVerifyCommand) Help() string {
	return "Examples:\n  cardea audit verify --config cardea.toml --public-key audit.pub\n" +
		"  cardea audit verify --bundle audit.cardea --public-key audit.pub --checkpoint kept.note\n\n" +
		"Exit status 3 means that something is wrong with a log."
}

func (c auditVerifyCommand) Run(ctx context.Context, p *Process) (err error) {
	src, err := c.open(ctx, p, "verify")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.close()) }()
	o := audit.VerifyOptions{Origins: c.Origin, AllowUnsigned: c.AllowUnsigned}
	if o.Verifiers, err = c.keys(src); err != nil {
		return err
	}
	for _, path := range c.Checkpoint {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		o.Kept = append(o.Kept, b)
	}
	bar := newProgress(p, "verify", "entries")
	o.Progress = bar.set
	report, err := audit.Verify(ctx, src, o)
	bar.finish()
	if err != nil {
		return err
	}
	if err := c.print(p.Stdout, report, func(w io.Writer) error { return printReport(w, report) }); err != nil {
		return err
	}
	if !report.OK() {
		return errFindings
	}
	return nil
}

// keys are the public keys to trust.
func (c auditVerifyCommand) keys(src *opened) ([]string, error) {
	given := c.PublicKey
	if len(given) == 0 && src.pub != "" {
		matches, err := filepath.Glob(strings.TrimSuffix(src.pub, ".key.pub") + "*.pub")
		if err != nil {
			return nil, err
		}
		given = matches
	}
	var keys []string
	for _, k := range given {
		if strings.HasPrefix(k, "cardea/") {
			keys = append(keys, k)
			continue
		}
		b, err := os.ReadFile(k)
		if err != nil {
			return nil, fmt.Errorf("public key: %w", err)
		}
		keys = append(keys, strings.Fields(string(b))...)
	}
	return keys, nil
}

func printReport(w io.Writer, r audit.Report) error {
	for _, l := range r.Logs {
		verdict := "intact"
		if len(l.Findings) > 0 {
			verdict = "NOT INTACT"
		}
		fmt.Fprintf(w, "%s: %s, %d entries, %d checkpoints, %d entries after the last one\n", l.Origin, verdict, l.Entries, l.Checkpoints, l.UnsignedTail)
		if l.Entries > 0 {
			fmt.Fprintf(w, "  from %s to %s, root %s\n", l.First.Format(time.RFC3339), l.Last.Format(time.RFC3339), l.Root)
		}
		for _, f := range l.Findings {
			fmt.Fprintf(w, "  FINDING %s at entry %d: %s\n", f.Kind, f.Seq, f.Message)
		}
		for _, f := range l.Notes {
			fmt.Fprintf(w, "  note: %s at entry %d: %s\n", f.Kind, f.Seq, f.Message)
		}
		if l.Omitted > 0 {
			fmt.Fprintf(w, "  and %d more\n", l.Omitted)
		}
	}
	if len(r.Logs) == 0 {
		fmt.Fprintln(w, "no audit log found")
	}
	return nil
}

type auditShowCommand struct {
	logSource
	output
	Since     string `placeholder:"TIME" help:"Entries at or after this time (RFC 3339), or in the last duration (24h)."`
	Until     string `placeholder:"TIME" help:"Entries before this time."`
	Tenant    string `help:"Only this tenant."`
	Op        string `placeholder:"NAME" help:"Only this operation, such as card.retrieve."`
	Outcome   string `enum:",allowed,denied,failed" default:"" help:"allowed, denied or failed."`
	Reference string `help:"Only this record."`
	RequestID string `help:"Only this request."`
	Who       string `help:"Only this actor."`
	Limit     int    `short:"n" default:"0" help:"Only the last N entries of each log; 0 is all."`
}

// Help implements kong.HelpProvider.
func (auditShowCommand) Help() string {
	return "Examples:\n  cardea audit show --data-dir ./cardea-data --since 24h --outcome denied\n" +
		"  cardea audit show --config cardea.toml --op card.retrieve --output json\n\nJSON output is one entry a line."
}

func (c auditShowCommand) Run(ctx context.Context, p *Process) (err error) {
	filter := audit.Filter{Tenant: c.Tenant, Op: c.Op, Outcome: audit.Outcome(c.Outcome), Reference: c.Reference, RequestID: c.RequestID, Who: c.Who}
	if filter.Since, err = moment("--since", c.Since, p.Now()); err != nil {
		return err
	}
	if filter.Until, err = moment("--until", c.Until, p.Now()); err != nil {
		return err
	}
	src, err := c.open(ctx, p, "show")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.close()) }()
	origins, err := c.origins(ctx, src)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(p.Stdout)
	for _, origin := range origins {
		if err := c.show(ctx, out, src, origin, filter); err != nil {
			return err
		}
	}
	return out.Flush()
}

// shown is an entry as show prints it in JSON.
func (c auditShowCommand) show(ctx context.Context, out *bufio.Writer, src audit.Source, origin string, filter audit.Filter) error {
	var last []audit.Numbered
	tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if c.Output != "json" {
		fmt.Fprintln(tw, "LOG\tENTRY\tTIME\tWHO\tFROM\tOPERATION\tOUTCOME\tRESULT\tMERCHANT\tREFERENCE\tPAN")
	}
	write := func(n audit.Numbered) {
		if c.Output == "json" {
			fmt.Fprintf(out, `{"log":%q,"seq":%d,"entry":%s}`+"\n", origin, n.Seq, bytes.TrimSpace(n.Line))
			return
		}
		e := n.Entry
		fmt.Fprintf(tw, "%s\t%d\t%s\t%s:%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", origin, n.Seq, e.Time.Format("2006-01-02T15:04:05.000Z"),
			e.Who.Type, e.Who.Name, e.Who.IP, e.Op, e.Outcome, e.Result, e.Resource.Merchant, e.Resource.Reference, e.Resource.MaskedPAN)
	}
	for n, err := range audit.Entries(ctx, src, origin, 0) {
		if errors.Is(err, audit.ErrMalformedEntry) || errors.Is(err, audit.ErrMalformedSegment) {
			fmt.Fprintf(out, "entry %d is damaged: %v (see 'cardea audit verify')\n", n.Seq, err)
			continue
		}
		if err != nil {
			return err
		}
		if !filter.Match(n.Entry) {
			continue
		}
		if c.Limit <= 0 {
			write(n)
			continue
		}
		n.Line = bytes.Clone(n.Line)
		if last = append(last, n); len(last) > 2*c.Limit {
			last = append(last[:0], last[len(last)-c.Limit:]...)
		}
	}
	for _, n := range last[max(0, len(last)-c.Limit):] {
		write(n)
	}
	return tw.Flush()
}

type auditExportCommand struct {
	logSource
	Out string `arg:"" optional:"" type:"path" placeholder:"FILE" help:"Where to; standard output if missing."`
}

// Help implements kong.HelpProvider.
func (auditExportCommand) Help() string {
	return "Examples:\n  cardea audit export --config cardea.toml audit.cardea\n  cardea audit verify --bundle audit.cardea --public-key audit.pub"
}

func (c auditExportCommand) Run(ctx context.Context, p *Process) (err error) {
	src, err := c.open(ctx, p, "export")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.close()) }()
	origins, err := c.origins(ctx, src)
	if err != nil {
		return err
	}
	if c.Out == "" {
		return audit.WriteBundle(ctx, p.Stdout, src, origins)
	}
	f, err := os.OpenFile(c.Out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(audit.WriteBundle(ctx, f, src, origins), f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(c.Out)) // nothing half done stays
	}
	return nil
}

// moment reads a time, or a duration before now.
func moment(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, usageError{fmt.Errorf("%s: %q is neither a time such as 2026-01-31T15:04:05Z nor a duration such as 24h", flag, text)}
	}
	return t, nil
}

// operator is the person at the command line, by the name of the login.
func operator(p *Process) iam.Principal {
	name := "unknown"
	for _, key := range []string{"SUDO_USER=", "USER=", "LOGNAME="} {
		for _, kv := range p.Env {
			if v, ok := strings.CutPrefix(kv, key); ok && v != "" {
				return iam.Principal{Type: iam.TypeOperator, Name: v, Auth: "internal", Actions: []string{"*"}, Merchants: []string{"*"}}
			}
		}
	}
	return iam.Principal{Type: iam.TypeOperator, Name: name, Auth: "internal", Actions: []string{"*"}, Merchants: []string{"*"}}
}
