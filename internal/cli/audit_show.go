package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"cardea/internal/audit"
	"cardea/internal/kms"
	"cardea/internal/vault"
)

type auditShowCommand struct {
	logSource
	output
	Since     string `placeholder:"TIME" help:"Entries at or after this time (RFC 3339), or in the last duration (24h)."`
	Until     string `placeholder:"TIME" help:"Entries before this time."`
	Tenant    string `placeholder:"NAME" help:"Only this tenant."`
	Op        string `placeholder:"NAME" help:"Only this operation, such as card.retrieve."`
	Outcome   string `enum:",allowed,denied,failed" default:"" placeholder:"OUTCOME" help:"Only allowed, denied or failed."`
	Reference string `placeholder:"ID" help:"Only this record."`
	RequestID string `placeholder:"ID" help:"Only this request."`
	Who       string `placeholder:"NAME" help:"Only this actor."`
	Limit     int    `short:"n" default:"0" placeholder:"N" help:"Only the last N entries of each log; 0 is all."`
}

// Help implements kong.HelpProvider.
func (auditShowCommand) Help() string {
	return "Examples:\n  cardea audit show --data-dir ./cardea-data --since 24h --outcome denied\n" +
		"  cardea audit show --config cardea.toml --op card.retrieve --output json\n\n" +
		"JSON output is one entry a line, as it is logged. Exit status 3 means that an entry could not be read."
}

func (c auditShowCommand) Run(ctx context.Context, p *Process) (err error) {
	filter := audit.Filter{Tenant: c.Tenant, Op: c.Op, Outcome: audit.Outcome(c.Outcome), Reference: c.Reference, RequestID: c.RequestID, Who: c.Who}
	if filter.Since, err = moment("--since", c.Since, p.Now()); err != nil {
		return err
	}
	if filter.Until, err = moment("--until", c.Until, p.Now()); err != nil {
		return err
	}
	if c.Limit < 0 {
		return usageError{fmt.Errorf("--limit: %d, expected 0 or more", c.Limit)}
	}
	if c.Op != "" && !knownOperation(c.Op) {
		fmt.Fprintf(p.Stderr, "--op: this release has no operation %q\n", c.Op)
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
	damaged, err := tellAbsent(ctx, p.Stderr, src, origins, filter.Since)
	if err != nil {
		return err
	}
	out := newEntryWriter(p, c.Output == "json")
	for _, origin := range origins {
		bad, err := c.show(ctx, p, out, src, origin, filter)
		if err != nil {
			return errors.Join(err, out.flush())
		}
		damaged = damaged || bad
	}
	if err := out.flush(); err != nil {
		return err
	}
	if out.rows == 0 {
		fmt.Fprintln(p.Stderr, "no entry matches")
	}
	if damaged {
		fmt.Fprintln(p.Stderr, "cardea: the log is damaged: see 'cardea audit verify'")
		return errFindings
	}
	return nil
}

func (c auditShowCommand) show(ctx context.Context, p *Process, out *entryWriter, src audit.Source, origin string, filter audit.Filter) (damaged bool, err error) {
	var last []audit.Numbered
	for n, err := range audit.Entries(ctx, src, origin, 0) {
		if errors.Is(err, audit.ErrMalformedEntry) || errors.Is(err, audit.ErrMalformedSegment) {
			fmt.Fprintf(p.Stderr, "%s: %s\n", printable(origin), printable(err.Error()))
			damaged = true
			continue
		}
		if err != nil {
			return damaged, err
		}
		if !filter.Match(n.Entry) {
			continue
		}
		if c.Limit == 0 {
			if err := out.write(origin, n); err != nil {
				return damaged, err
			}
			continue
		}
		n.Line = bytes.Clone(n.Line)
		if last = append(last, n); len(last) > 2*c.Limit {
			last = append(last[:0], last[len(last)-c.Limit:]...)
		}
	}
	for _, n := range last[max(0, len(last)-c.Limit):] {
		if err := out.write(origin, n); err != nil {
			return damaged, err
		}
	}
	return damaged, nil
}

// knownOperation reports whether some operation has the name in the log.
func knownOperation(name string) bool {
	return slices.ContainsFunc(vault.Operations(), func(op *vault.Operation) bool { return op.Name == name }) ||
		slices.ContainsFunc(kms.Operations(), func(op *kms.Operation) bool { return op.Code == name }) ||
		slices.Contains([]string{kms.OpExplain.Code, kms.OpDepositApproval.Code, kms.OpListApprovals.Code, kms.OpWithdrawApproval.Code}, name) ||
		strings.HasPrefix(name, "approval.") || strings.HasPrefix(name, "ceremony.") || strings.HasPrefix(name, "lifecycle.") || strings.HasPrefix(name, "sts.") || strings.HasPrefix(name, "iam.") || strings.HasPrefix(name, "identity.") || strings.HasPrefix(name, "review.") || strings.HasPrefix(name, "log.")
}

// entryWriter prints entries as a table or as lines of JSON.
type entryWriter struct {
	out   *bufio.Writer
	table *tabwriter.Writer // nil for JSON
	rows  int
}

// alignEvery is how many rows are aligned with each other: the table of a long
// log must not be kept in memory until its last row is known.
const alignEvery = 256

func newEntryWriter(p *Process, asJSON bool) *entryWriter {
	w := &entryWriter{out: bufio.NewWriter(p.Stdout)}
	if !asJSON {
		w.table = tabwriter.NewWriter(w.out, 0, 0, 2, ' ', 0)
	}
	return w
}

func (w *entryWriter) write(origin string, n audit.Numbered) error {
	if w.table == nil {
		w.rows++
		name, err := json.Marshal(origin)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w.out, `{"log":%s,"seq":%d,"entry":%s}`+"\n", name, n.Seq, bytes.TrimSpace(n.Line))
		return err
	}
	if w.rows == 0 {
		fmt.Fprintln(w.table, "LOG\tENTRY\tTIME\tTENANT\tWHO\tFROM\tOPERATION\tOUTCOME\tRESULT\tMERCHANT\tCUSTOMER\tREFERENCE\tPAN\tKEY\tDETAIL")
	}
	e, r := n.Entry, n.Entry.Resource
	cells := []string{
		origin, fmt.Sprint(n.Seq), e.Time.Format("2006-01-02T15:04:05.000Z"), e.Tenant, e.Who.Type + ":" + e.Who.Name, e.Who.IP,
		e.Op, string(e.Outcome), e.Result, r.Merchant, r.Customer, r.Reference, r.MaskedPAN, r.Key, e.Detail,
	}
	for i, cell := range cells {
		if cells[i] = printable(cell); cell == "" {
			cells[i] = "-"
		}
	}
	if _, err := fmt.Fprintln(w.table, strings.Join(cells, "\t")); err != nil {
		return err
	}
	if w.rows++; w.rows%alignEvery == 0 {
		return w.table.Flush()
	}
	return nil
}

func (w *entryWriter) flush() error {
	if w.table != nil {
		if err := w.table.Flush(); err != nil {
			return err
		}
	}
	return w.out.Flush()
}
