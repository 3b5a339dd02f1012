package cli

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"cardea/internal/app"
	"cardea/internal/approval"
	"cardea/internal/audit"
	"cardea/internal/cloudtrail"
	"cardea/internal/lifecycle"
)

// unneededFlags say how it is found out whether anything needs a key.
type unneededFlags struct {
	touchFlags
	Files      []string `sep:"none" type:"path" placeholder:"DIR" help:"Folder with encrypted files to look through for those that the key opens; repeat."`
	UnusedFor  int      `default:"30" placeholder:"DAYS" help:"For how many days it must not have been used (default 30)."`
	UseChecked bool     `help:"You have looked into CloudTrail, since the key service does not tell when the key was last used."`
}

// unneeded gathers what tells of a key's use.
func (f unneededFlags) unneeded(ctx context.Context, p *Process, j journal, u *lifecycle.Unneeded, k *lifecycle.Key) error {
	cfg, err := installation(p, j.Config, j.DataDir)
	if err != nil {
		return err
	}
	u.Now, u.Unused, u.Checked, u.Files = p.Now, time.Duration(f.UnusedFor)*24*time.Hour, f.UseChecked, openableFiles(f.Files)
	u.Covered = len(f.Log) > 0
	if u.Data, err = dataOf(ctx, p, j, cfg); err != nil {
		return err
	}
	u.Touched, err = f.look(ctx, p, j, nil, lifecycle.KeyName{ID: k.ID, Aliases: k.Aliases}.Of)
	return err
}

// kmsRetireFlags are those of 'cardea keys retire' on a key of a key service in place of
// a version of a tenant's.
type kmsRetireFlags struct {
	keyAccess
	approvedWork
	unneededFlags
	output
	KeyID  string `name:"key-id" placeholder:"KEY" help:"Retire this key of AWS KMS or a key service in place of a tenant's: its id or ARN."`
	Signer string `name:"key" type:"path" placeholder:"FILE" help:"With --key-id: your key, as 'cardea approval keygen' made it; you sign the record."`
	Window int    `placeholder:"DAYS" help:"With --key-id: days until it is destroyed, 7 to 30 (default: as the policy file says, else 30)."`
}

// retireKMS retires a key of a key service.
func (c keysRetireCommand) retireKMS(ctx context.Context, p *Process) error {
	j := journal{Config: c.Config, DataDir: c.DataDir}
	switch {
	case c.Tenant != "" || c.Key != "" || c.Version != 0:
		return usageError{errors.New("--key-id: is of a key service; --tenant, --version and an id are of a vault's key: give one of them")}
	case c.Signer == "" && !c.DryRun:
		return usageError{errors.New("--key: name your key: the record is signed by who has the key destroyed")}
	case c.UnusedFor < 7:
		return usageError{fmt.Errorf("--unused-for: %d must be 7 days or more", c.UnusedFor)}
	}
	policy, err := c.policy()
	if err != nil {
		return err
	}
	client, err := c.administer(ctx, c.KeyID)
	if err != nil {
		return err
	}
	cfg, err := installation(p, c.Config, c.DataDir)
	if err != nil {
		return err
	}
	if !c.DryRun {
		held, err := workAlone(cfg, "key "+keyIDOf(c.KeyID))
		if err != nil {
			return err
		}
		defer held.release()
	}
	if c.Report == "" {
		c.Report = filepath.Join(cfg.Node.DataDir, "retire-"+keyIDOf(c.KeyID))
	}
	x, err := readState[lifecycle.Retirement](c.Report, "cardea keys retire")
	if err != nil {
		return err
	}
	r := &lifecycle.Retirer{KMS: client, Now: p.Now, Save: func(x *lifecycle.Retirement) error { return saveState(c.Report, x) }}
	if x != nil && x.Closed {
		return c.retired(ctx, p, r, x)
	}
	var k *lifecycle.Key
	name := lifecycle.KeyName{}
	if x == nil {
		if k, err = lifecycle.Look(ctx, client, c.KeyID); err != nil {
			return err
		}
		window, err := policy.Window(k.Class, c.Window)
		if err != nil {
			return usageError{fmt.Errorf("--window: %w", err)}
		}
		x = &lifecycle.Retirement{Destruction: lifecycle.DestructionOf(k, &lifecycle.Approved{}, "", window, p.Now()), Started: p.Now().UTC(), Steps: []lifecycle.DoneStep{}, Open: []string{}}
	}
	if name.ID = keyIDOf(x.Destruction.Key); keyIDOf(c.KeyID) != name.ID {
		return fmt.Errorf("--report: %s is of key %s: name another folder", c.Report, x.Destruction.Key)
	}
	n := policy.DeletionApproval(approval.KeyRetire, x.Destruction.Key, lifecycle.Days(x.WindowDays))
	if c.DryRun {
		return c.dryRun(ctx, p, j, &lifecycle.Unneeded{KMS: client, Policy: policy}, k, x, n)
	}
	s, err := personKey{c.Signer}.signer()
	if err != nil {
		return err
	}
	defer s.Destroy()
	r.Record = func(d *lifecycle.Destruction) error {
		note, err := d.Sign(s)
		if err == nil {
			err = replaceFile(filepath.Join(c.Report, "destruction.note"), note)
		}
		return err
	}
	r.Trail = func(ctx context.Context) ([]lifecycle.TrailFile, error) { return c.trail(ctx, p, j, c.Report, name) }
	err = j.performLong(ctx, p, app.OpLifecycleRetire, x.Destruction.Key, fmt.Sprintf("window %d days", x.WindowDays), func() (string, string, error) {
		if k != nil { // it was not begun yet
			u := &lifecycle.Unneeded{KMS: client, Policy: policy}
			if err := c.unneeded(ctx, p, j, u, k); err != nil {
				return "", "", err
			}
			if x.Evidence, err = u.Prove(ctx, k); err != nil {
				return "", "", err
			}
			x.LastUseText = x.Evidence[len(x.Evidence)-1]
		}
		st, ledger, err := c.check(p, j, &x.Approval, n)
		if err = executed(err, x.Finished); err != nil {
			return "", "", err
		}
		x.Reason, x.Request, x.Requester, x.Approvers, x.Register = st.Request.Reason, x.Approval.ID, x.Approval.Requester, x.Approval.Approvers, x.Approval.Register
		detail := fmt.Sprintf("window %d days, %s: %s", x.WindowDays, x.Approval.String(), x.Reason)
		if err := r.Retire(ctx, x); err != nil {
			return "", detail, hinted(err, "(the same command goes on: %s tells how far it is)", filepath.Join(c.Report, stateFile))
		}
		x.Closed = true
		return "retired", detail, errors.Join(finish(ledger, st, "to be destroyed on "+x.Deletion.Format(time.RFC3339)), r.Save(x), writeReport(c.Report, x.Report()))
	})
	if err != nil {
		return err
	}
	return c.print(p.Stdout, x, reportText(x.Report()))
}

// retired tells what became of a key that waits for its destruction.
func (c keysRetireCommand) retired(ctx context.Context, p *Process, r *lifecycle.Retirer, x *lifecycle.Retirement) error {
	if keyIDOf(c.KeyID) != keyIDOf(x.Destruction.Key) {
		return fmt.Errorf("--report: %s is of key %s: name another folder", c.Report, x.Destruction.Key)
	}
	if err := r.Retire(ctx, x); err != nil {
		return err
	}
	if err := writeReport(c.Report, x.Report()); err != nil {
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

// dryRun tells what would be done, or what speaks against it.
func (c keysRetireCommand) dryRun(ctx context.Context, p *Process, j journal, u *lifecycle.Unneeded, k *lifecycle.Key, x *lifecycle.Retirement, n *lifecycle.Needed) error {
	if k != nil {
		if err := c.unneeded(ctx, p, j, u, k); err != nil {
			return err
		}
		var err error
		if x.Evidence, err = u.Prove(ctx, k); err != nil {
			return err
		}
	}
	fmt.Fprintf(p.Stderr, "cardea: nothing was done; it needs approval: %s --reason WHY\n", n.Command())
	return c.print(p.Stdout, x, reportText(x.Report()))
}

// keyIDOf is the id of a key that is named by id or ARN.
func keyIDOf(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }

// trail writes what the logs have of a key into a folder: of our own logs the entries
// that name it and the logs whole, which prove them; of CloudTrail the records.
func (f touchFlags) trail(ctx context.Context, p *Process, j journal, dir string, name lifecycle.KeyName) (files []lifecycle.TrailFile, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	logs, err := f.own(ctx, p, j)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeLogs(logs)) }()
	for _, l := range logs {
		entries := lifecycle.TrailFile{Name: "trail-" + l.name + ".ndjson", What: "entries that name the key"}
		if entries.SHA256, err = writeHashed(dir, entries.Name, func(w io.Writer) (err error) {
			problems := 0
			entries.Entries, problems, err = lifecycle.WriteTrail(ctx, w, l, l.origins, name.InEntry)
			if err == nil && problems > 0 {
				entries.What += fmt.Sprintf("; %d could not be read", problems)
			}
			return err
		}); err != nil {
			return nil, err
		}
		whole := lifecycle.TrailFile{Name: "log-" + l.name + ".cardea", What: "the logs, for 'cardea audit verify --bundle'"}
		if whole.SHA256, err = writeHashed(dir, whole.Name, func(w io.Writer) error { return audit.WriteBundle(ctx, w, l, l.origins) }); err != nil {
			return nil, err
		}
		files = append(files, entries, whole)
	}
	records := lifecycle.TrailFile{Name: "trail-cloudtrail.ndjson", What: "CloudTrail's records that name the key, in short; 'cardea audit verify-cloudtrail' verifies its files"}
	if records.SHA256, err = writeHashed(dir, records.Name, func(w io.Writer) error {
		enc := json.NewEncoder(w)
		var wrote error
		_, err := f.eachRecord(ctx, func(e *cloudtrail.Event) {
			if name.Of(e) && wrote == nil {
				records.Entries++
				wrote = enc.Encode(map[string]any{"id": e.ID, "time": e.Time, "source": e.Source, "name": e.Name, "principal": e.Principal, "ip": e.IP, "error": e.ErrorCode, "keys": e.Keys})
			}
		})
		return errors.Join(err, wrote)
	}); err != nil {
		return nil, err
	}
	if len(f.Log) > 0 {
		files = append(files, records)
	}
	return files, nil
}

// writeHashed writes a file, in place of one from before, and gives its SHA-256.
func writeHashed(dir, name string, write func(io.Writer) error) (string, error) {
	f, err := os.Create(filepath.Join(dir, name))
	if err != nil {
		return "", err
	}
	h := sha256.New()
	out := bufio.NewWriter(io.MultiWriter(f, h))
	if err := errors.Join(write(out), out.Flush(), f.Sync(), f.Close()); err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
