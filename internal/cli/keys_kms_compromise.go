package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"cardea/internal/app"
	"cardea/internal/approval"
	"cardea/internal/config"
	"cardea/internal/iam"
	"cardea/internal/lifecycle"
)

// approvedWork are the flags of work that needs one approved request, and goes on with
// it after a stop.
type approvedWork struct {
	File     string `type:"path" placeholder:"FILE" help:"Policy of keys, such as key-lifecycle.yaml: how many must approve, and for how long a key waits for its destruction (default: two others, 30 days)."`
	Register string `type:"path" placeholder:"FILE" help:"Register of people: who may ask and approve."`
	Approval string `type:"path" placeholder:"FILE" help:"Approved request. To go on after a stop it is not needed again."`
	Report   string `type:"path" placeholder:"DIR" help:"Folder for the report, which also tells how far it is (default: one named after the key in the data folder)."`
	DryRun   bool   `help:"Only tell what was found and would be done, and which approval it needs."`
}

// policy reads the policy file; nil if none is named.
func (w approvedWork) policy() (*lifecycle.Policy, error) {
	if w.File == "" {
		return nil, nil //nolint:nilnil // there need be none
	}
	text, err := readSmall(w.File)
	if err != nil {
		return nil, fmt.Errorf("--file: %w", err)
	}
	p, err := lifecycle.ParsePolicy(text)
	if err != nil {
		return nil, fmt.Errorf("--file: %s:\n%w", w.File, err)
	}
	return p, nil
}

// check checks the approval, or the one that the work was begun with, and marks it as
// being executed.
func (w approvedWork) check(p *Process, j journal, a *lifecycle.Approved, n *lifecycle.Needed) (*approval.State, *approval.Ledger, error) {
	cfg, err := installation(p, j.Config, j.DataDir)
	if err != nil {
		return nil, nil, err
	}
	ledger := ledgerOf(p, cfg)
	var signed []byte
	if w.Approval != "" {
		if signed, err = readSmall(w.Approval); err != nil {
			return nil, ledger, fmt.Errorf("--approval: %w", err)
		}
	}
	reg := &approval.Register{}
	if a.Given() || w.Approval != "" {
		if w.Register == "" {
			return nil, ledger, usageError{errors.New("--register: name the register of people, by which approvals are checked")}
		}
		if reg, err = (registerFile{w.Register}).read(); err != nil {
			return nil, ledger, err
		}
	}
	st, err := a.Check(n, signed, reg, p.Now())
	if err != nil {
		return nil, ledger, fmt.Errorf("--approval: %w", err)
	}
	_, err = ledger.Begin(st.Request, []byte(a.Request))
	if err != nil {
		err = fmt.Errorf("--approval: %w", err)
	}
	return st, ledger, err
}

// executed takes it for granted that an approval was marked as executed if that was
// noted after all was done, and nothing else.
func executed(err error, finished time.Time) error {
	if errors.Is(err, approval.ErrExecuted) && !finished.IsZero() {
		return nil
	}
	return err
}

// finish marks a request as executed, once.
func finish(l *approval.Ledger, st *approval.State, result string) error {
	if err := l.Finish(st.Request, result); !errors.Is(err, approval.ErrExecuted) {
		return err
	}
	return nil
}

// stateFile is the file of a report that tells how far the work is.
const stateFile = "state.json"

// readState reads how far work is, nil if it was not begun.
func readState[T any](dir, command string) (*T, error) {
	path := filepath.Join(dir, stateFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil //nolint:nilnil // none is no error
	}
	if err != nil {
		return nil, fmt.Errorf("--report: %w", err)
	}
	x := new(T)
	if err := json.Unmarshal(text, x); err != nil {
		return nil, fmt.Errorf("--report: %s: is not what '%s' wrote: %w", path, command, err)
	}
	return x, nil
}

// saveState keeps how far work is.
func saveState(dir string, x any) error {
	text, err := json.MarshalIndent(x, "", "  ")
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err == nil {
		err = replaceFile(filepath.Join(dir, stateFile), append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("--report: %w", err)
	}
	return nil
}

// writeReport writes a report as a web page into its folder.
func writeReport(dir string, r *lifecycle.Report) error {
	var page strings.Builder
	if err := r.HTML(&page); err != nil {
		return err
	}
	if err := replaceFile(filepath.Join(dir, "report.html"), []byte(page.String())); err != nil {
		return fmt.Errorf("--report: %w", err)
	}
	return nil
}

// reportText prints a report.
func reportText(r *lifecycle.Report) func(io.Writer) error {
	return func(w io.Writer) error {
		var rows [][]string
		for _, f := range r.Facts {
			rows = append(rows, []string{f[0], f[1]})
		}
		if err := fields(w, rows...); err != nil {
			return err
		}
		for _, t := range r.Tables {
			if len(t.Rows) == 0 {
				continue
			}
			fmt.Fprintf(w, "\n%s\n", t.Title)
			if err := table(w, "", t.Header, t.Rows); err != nil {
				return err
			}
		}
		if len(r.Steps) > 0 {
			fmt.Fprintln(w, "\nDone")
			rows = nil
			for _, s := range r.Steps {
				rows = append(rows, []string{day(s.At), s.Step, s.Detail})
			}
			if err := fields(w, rows...); err != nil {
				return err
			}
		}
		for _, o := range r.Open {
			fmt.Fprintf(w, "open: %s\n", printable(o))
		}
		return nil
	}
}

type keysCompromiseCommand struct {
	keyAccess
	journal
	output
	approvedWork
	touchFlags
	KeyID       string   `required:"" name:"key-id" placeholder:"KEY" help:"The key of AWS KMS or a key service: its id, ARN or alias."`
	Reason      string   `required:"" placeholder:"TEXT" help:"What happened; the same as in the request."`
	ReencryptBy string   `placeholder:"ARN" help:"User or role that may still open what is under the key, to put it under the new one, such as the vault's; nobody may if it is not given."`
	DisableNow  bool     `help:"Disable the key before what is under it was moved: what is under it cannot be read until it is enabled again."`
	Files       []string `sep:"none" type:"path" placeholder:"DIR" help:"Folder with encrypted files to look through for those that the key opens; repeat."`
	Backups     string   `type:"path" placeholder:"FILE" help:"List of backups that have data under the key, a name a line."`
	BackupDone  []string `sep:"none" placeholder:"NAME" help:"This backup was encrypted anew or destroyed; repeat."`
	Tenant      string   `short:"t" placeholder:"NAME" help:"Not for keys of a vault: tells which command is."`
	Merchant    string   `short:"m" placeholder:"ID" help:"Not for keys of a vault: tells which command is."`
}

// Help implements kong.HelpProvider.
func (keysCompromiseCommand) Help() string {
	return "Examples:\n  cardea keys compromise --key-id alias/rds-prod --reason 'INC-12: credentials of a user leaked' --dry-run\n" +
		"  cardea keys compromise --key-id alias/rds-prod --reason 'INC-12: credentials of a user leaked' --reencrypt-by arn:aws:iam::111122223333:role/vault --register people.toml --approval compromise.request --config cardea.toml\n\n" +
		"Grants are revoked, the key's policy lets nobody use it but --reencrypt-by to open what is under it, a new key takes its aliases, " +
		"the records of the vault that --config names are put under new keys, and when nothing is open the old key is disabled (PCI DSS 3.7.5). " +
		"It may be stopped at any step and run again: it goes on where it was, and tells what is open. Exit status 3 while something is. " +
		notCounted
}

func (c keysCompromiseCommand) Run(ctx context.Context, p *Process) error {
	if err := c.sane(); err != nil {
		return err
	}
	c.asked = newOwnCalls(p.Now())
	policy, err := c.policy()
	if err != nil {
		return err
	}
	r, x, held, err := c.begin(ctx, p)
	if err != nil {
		return err
	}
	defer held.release()
	n := c.needed(x, policy)
	if c.DryRun {
		fmt.Fprintf(p.Stderr, "cardea: nothing was done; it needs approval: %s --reason %s\n", n.Command(), quoted(x.Reason))
		return c.print(p.Stdout, x, reportText(x.Report()))
	}
	if x.Closed {
		if err := writeReport(c.Report, x.Report()); err != nil { // it may have been stopped before it was written
			return err
		}
		return c.print(p.Stdout, x, reportText(x.Report()))
	}
	if x.Opener == "" && !x.DisableNow && len(x.Touched.VaultKeys)+len(x.Touched.Files) > 0 {
		return fmt.Errorf("%d keys of the vault and %d files are under the key: name by --reencrypt-by who may still open them to move them, or say --disable-now", len(x.Touched.VaultKeys), len(x.Touched.Files))
	}
	err = c.performLong(ctx, p, app.OpLifecycleCompromise, x.Key, x.Reason, func() (string, string, error) {
		st, ledger, err := c.check(p, c.journal, &x.Approval, n)
		if err = executed(err, x.Finished); err != nil {
			return "", x.Reason, err
		}
		if st.Request.Reason != x.Reason {
			return "", x.Reason, fmt.Errorf("--reason: the request's is %q: what was approved is what is done", st.Request.Reason)
		}
		if err := r.Respond(ctx, x); err != nil {
			return "", x.Summary(), hinted(err, "(the same command goes on: %s tells how far it is)", filepath.Join(c.Report, stateFile))
		}
		if !x.Finished.IsZero() {
			x.Closed = true
			err = errors.Join(finish(ledger, st, x.Summary()), r.Save(x))
		}
		return "answered", x.Approval.String() + ": " + x.Reason + ": " + x.Summary(), errors.Join(err, writeReport(c.Report, x.Report()))
	})
	if err != nil {
		return err
	}
	if err := c.print(p.Stdout, x, reportText(x.Report())); err != nil {
		return err
	}
	if len(x.Open) > 0 {
		return errFindings
	}
	return nil
}

func (c keysCompromiseCommand) sane() error {
	if c.Tenant != "" || c.Merchant != "" {
		return usageError{errors.New("--tenant, --merchant: keys of a vault are replaced by 'cardea keys rotate --compromised', with all records moved; records that must be gone are destroyed by 'cardea keys shred'")}
	}
	if strings.TrimSpace(c.Reason) == "" {
		return usageError{errors.New("--reason: say what happened: it is recorded")}
	}
	if _, err := iam.ParseAWSPrincipal(c.ReencryptBy); c.ReencryptBy != "" && err != nil {
		return usageError{fmt.Errorf("--reencrypt-by: %q is not the ARN of a user or role", c.ReencryptBy)}
	}
	return nil
}

// begin finds what the key touches, or reads how far the answer is. Unless nothing is to
// be done no other command works on the key until held is released.
func (c *keysCompromiseCommand) begin(ctx context.Context, p *Process) (r *lifecycle.Responder, x *lifecycle.Compromise, held alone, err error) {
	defer func() {
		if err != nil {
			held.release()
		}
	}()
	cfg, err := installation(p, c.Config, c.DataDir)
	if err != nil {
		return nil, nil, nil, err
	}
	client, err := c.administer(ctx, c.KeyID)
	if err != nil {
		return nil, nil, nil, err
	}
	r = &lifecycle.Responder{
		KMS: client, Now: p.Now, Files: openableFiles(c.Files),
		In: func(region string) (*awskms.Client, error) {
			other := c.keyAccess
			other.Region = region
			return other.administer(ctx, "")
		},
	}
	k, err := lifecycle.Look(ctx, client, c.KeyID)
	if err != nil {
		return nil, nil, nil, err
	}
	if !c.DryRun {
		if held, err = workAloneOn(cfg, k); err != nil {
			return nil, nil, nil, err
		}
	}
	if x, err = c.state(cfg, k); err != nil {
		return nil, nil, held, err
	}
	r.Save = func(x *lifecycle.Compromise) error { return saveState(c.Report, x) }
	if r.Data, err = dataOf(ctx, p, c.journal, cfg); err != nil {
		return nil, nil, held, err
	}
	if x == nil {
		if x, err = c.find(ctx, p, r, k); err != nil {
			return nil, nil, held, err
		}
	}
	return r, x, held, c.backups(p, x)
}

// state is how far the answer is, nil if there is none. An alias may name the new key
// already: then the old one is meant.
func (c *keysCompromiseCommand) state(cfg config.Config, k *lifecycle.Key) (*lifecycle.Compromise, error) {
	for _, id := range []string{k.Replaces, k.ID} {
		dir := c.Report
		if dir == "" {
			dir = filepath.Join(cfg.Node.DataDir, "compromise-"+id)
		}
		x, err := readState[lifecycle.Compromise](dir, "cardea keys compromise")
		if err != nil {
			return nil, err
		}
		if id == "" || x == nil || x.Key != k.ARN && x.Replacement.NewKey != k.ARN {
			continue
		}
		if !x.Closed || x.Key == k.ARN || x.Reason == c.Reason { // else it is the new key that is compromised now
			c.Report = dir
			return x, nil
		}
	}
	if c.Report == "" {
		c.Report = filepath.Join(cfg.Node.DataDir, "compromise-"+k.ID)
	} else if fileExists(filepath.Join(c.Report, stateFile)) {
		return nil, fmt.Errorf("--report: %s is of another key: name another folder", c.Report)
	}
	return nil, nil //nolint:nilnil // none is no error
}

func (c *keysCompromiseCommand) find(ctx context.Context, p *Process, r *lifecycle.Responder, k *lifecycle.Key) (*lifecycle.Compromise, error) {
	x, err := r.Begin(ctx, k.ARN)
	if err != nil {
		return nil, err
	}
	x.Reason, x.Opener, x.DisableNow = c.Reason, c.ReencryptBy, c.DisableNow
	name := lifecycle.KeyName{ID: k.ID, Aliases: x.Places[0].Aliases}
	t, err := c.look(ctx, p, c.journal, c.asked, name.Of)
	if err != nil {
		return nil, err
	}
	t.Keys, t.VaultKeys, t.Files = nil, x.Touched.VaultKeys, x.Touched.Files
	x.Touched = t
	return x, nil
}

// backups adds what is listed, and notes what is done.
func (c *keysCompromiseCommand) backups(p *Process, x *lifecycle.Compromise) error {
	if c.Backups != "" {
		text, err := readSmall(c.Backups)
		if err != nil {
			return fmt.Errorf("--backups: %w", err)
		}
		for line := range strings.Lines(string(text)) {
			name := strings.TrimSpace(line)
			known := slices.ContainsFunc(x.Backups, func(b lifecycle.Backup) bool { return b.Name == name })
			if name != "" && !strings.HasPrefix(name, "#") && !known {
				x.Backups = append(x.Backups, lifecycle.Backup{Name: name})
			}
		}
	}
	for _, name := range c.BackupDone {
		i := slices.IndexFunc(x.Backups, func(b lifecycle.Backup) bool { return b.Name == name })
		if i < 0 {
			return usageError{fmt.Errorf("--backup-done: %q is not in the list of backups", name)}
		}
		if x.Backups[i].Done.IsZero() {
			x.Backups[i].Done = p.Now().UTC()
		}
	}
	return nil
}

// needed is the approval that the answer needs: of exactly what is done.
func (c *keysCompromiseCommand) needed(x *lifecycle.Compromise, policy *lifecycle.Policy) *lifecycle.Needed {
	params := map[string]string{}
	if x.Opener != "" {
		params["reencrypt-by"] = x.Opener
	}
	if x.DisableNow {
		params["disable"] = "now"
	}
	return &lifecycle.Needed{Operation: approval.KeyCompromise, Target: x.Key, Params: params, Approvals: policy.Quorum(approval.KeyCompromise, 2)}
}
