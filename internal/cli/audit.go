package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strings"
	"time"

	"cardea/internal/app"
	"cardea/internal/audit"
	"cardea/internal/config"
	"cardea/internal/iam"
	"cardea/internal/retention"
	"cardea/internal/store"
	"cardea/internal/vault"
)

type auditCommands struct {
	Verify     auditVerifyCommand     `cmd:"" help:"Prove that nobody changed the audit log."`
	Show       auditShowCommand       `cmd:"" help:"Read the audit log."`
	Export     auditExportCommand     `cmd:"" help:"Write the logs with all that verifies them into one file, to take away."`
	Detect     auditDetectCommand     `cmd:"" help:"Find in the logs, ours or CloudTrail's, what should not be and what is not as usual."`
	Watch      auditWatchCommand      `cmd:"" help:"The same, live: print alerts as they come."`
	Rules      auditRulesCommands     `cmd:"" help:"Look at the rules of detection, and test them."`
	Report     auditReportCommand     `cmd:"" help:"Tell who used which keys and saw which card data, for a review."`
	Review     auditReviewCommands    `cmd:"" help:"Keep the journal of daily reviews of the logs."`
	Archive    auditArchiveCommand    `cmd:"" help:"Keep closed periods of the logs in an archive, which is read like a log."`
	Prove      auditProveCommand      `cmd:"" help:"Write a proof that an entry is in a log, which is verified without the log."`
	Checkpoint auditCheckpointCommand `cmd:"" help:"Print the newest signed checkpoint of each log, to keep elsewhere."`
	Deliver    auditDeliverCommand    `cmd:"" help:"Deliver the audit logs to SIEMs and archives, and publish their checkpoints."`
	Delivery   auditDeliveryCommand   `cmd:"" help:"Tell how the deliveries to SIEMs and archives are."`

	VerifyCloudtrail auditVerifyCloudTrailCommand `cmd:"" help:"Prove that nobody changed or removed log files of AWS CloudTrail."`
}

// logSource is where an audit command reads: a database, beside a running node or
// not, or an exported file.
type logSource struct {
	Config     []string `short:"c" type:"path" placeholder:"FILE" xor:"source" help:"Configuration that names the database."`
	DataDir    string   `type:"path" placeholder:"DIR" xor:"source" help:"Data folder of 'cardea dev' (default ./cardea-data)."`
	Bundle     string   `type:"path" placeholder:"FILE" xor:"source,archive" help:"File that 'cardea audit export' wrote; nothing else is needed."`
	Archive    string   `placeholder:"PLACE" xor:"archive" help:"Archive that 'cardea audit archive' wrote, a folder or s3://BUCKET/PREFIX: alone, or with a database for what was pruned there."`
	KeyService bool     `help:"The log of the key service instead of the vault's."`
	Origin     []string `placeholder:"NAME" help:"Only these logs, such as cardea/vault-1."`
	bucketAccess
}

// opened is a log source in use.
type opened struct {
	audit.Source
	key   string // file of the node's signing key, if there is one
	close func() error

	stored  audit.Source        // with an archive: the logs without it
	archive *retention.Restored // nil if none was named
}

// open opens the source. Reading the log in a database is itself an entry of the
// log (PCI DSS 10.2.1.3), in the log of the command line. That entry is signed
// before anything is read, so that a log never ends in it unsigned; what follows
// is read-only and stands in nobody's way.
func (s logSource) open(ctx context.Context, p *Process, what string) (*opened, error) {
	if s.Bundle != "" {
		return s.openBundle()
	}
	if s.Archive == "" {
		return s.openDatabase(ctx, p, what)
	}
	archive, err := s.openArchive(ctx)
	if err != nil {
		return nil, err
	}
	if len(s.Config) == 0 && s.DataDir == "" {
		return &opened{Source: archive, close: archive.Close}, nil
	}
	o, err := s.openDatabase(ctx, p, what)
	if err != nil {
		return nil, errors.Join(err, archive.Close())
	}
	o.join(archive)
	return o, nil
}

func (s logSource) openDatabase(ctx context.Context, p *Process, what string) (*opened, error) {
	cfg, err := s.config(p)
	if err != nil {
		return nil, err
	}
	if path := cfg.SQLitePath(); path != "" {
		if _, err := os.Stat(path); err != nil {
			return nil, hinted(fmt.Errorf("no database to read the audit log of: %w", err), "name it by --config, --data-dir, --bundle or --archive")
		}
	}
	tool, err := openTool(ctx, p, cfg)
	if err != nil {
		return nil, err
	}
	err = tool.Gate.Record(ctx, operator(p), vault.OpLogRead, vault.Target{}, "read", what)
	if err := errors.Join(err, tool.Close()); err != nil {
		return nil, err
	}
	db, err := app.OpenStore(ctx, cfg, app.StoreOptions{Logger: discard(), Now: p.Now, ReadOnly: true})
	if err != nil {
		return nil, explained(err)
	}
	return &opened{Source: db, key: cfg.Audit.SigningKeyFile, close: db.Close}, nil
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

// config is the configuration of what the log belongs to.
func (s logSource) config(p *Process) (config.Config, error) {
	cfg, err := installation(p, s.Config, s.DataDir)
	if err == nil && s.KeyService {
		if !cfg.KeyService.Enabled() {
			return cfg, errNoKeyService
		}
		cfg = cfg.ForKeyService()
	}
	return cfg, err
}

// origins are the logs asked for, or all. One that is not there is an error: to
// find nothing in it would mean something else.
func (s logSource) origins(ctx context.Context, src audit.Source) ([]string, error) {
	there, err := src.Logs(ctx)
	if err != nil {
		return nil, err
	}
	if len(s.Origin) == 0 {
		return there, nil
	}
	known := map[string]bool{}
	for _, name := range there {
		known[name] = true
	}
	for _, name := range s.Origin {
		if !known[name] {
			return nil, usageError{fmt.Errorf("--origin: no log %q, there are %s", name, orNone(strings.Join(there, ", ")))}
		}
	}
	return s.Origin, nil
}

// toolWait is how long a command waits for others to finish with the log that commands
// share. Most have it for less than a tenth of a second, but several may be waiting and a
// disk may be slow.
const toolWait = 15 * time.Second

// openTool opens the store under the log of the command line.
func openTool(ctx context.Context, p *Process, cfg config.Config) (*app.Tool, error) {
	if err := checkOwner(cfg.Node.DataDir); err != nil {
		return nil, err
	}
	for start := p.Now(); ; {
		tool, err := app.OpenTool(ctx, cfg, app.Options{Logger: discard(), Now: p.Now})
		if !errors.Is(err, store.ErrLogTaken) {
			return tool, explained(err)
		}
		if p.Now().Sub(start) > toolWait {
			return nil, hinted(err, "another cardea command is at work on this database; try again when it has ended")
		}
		if err := p.sleep(ctx, 50*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// explained adds to the errors of opening a database what to do about them.
func explained(err error) error {
	switch {
	case errors.Is(err, store.ErrSchemaTooNew):
		return hinted(err, "install the release that changed it, or restore the backup from before")
	case errors.Is(err, audit.ErrDamaged):
		return hinted(err, "keep the database as it is, and see what 'cardea audit verify' finds")
	}
	return err
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

// operator is the person at the command line (PCI DSS 10.2.2): the user that the
// process runs as and, under sudo, the one behind him.
func operator(p *Process) iam.Principal {
	name := fmt.Sprintf("uid-%d", os.Getuid())
	if u, err := user.Current(); err == nil && u.Username != "" {
		name = u.Username
	}
	for _, kv := range p.Env {
		if behind, ok := strings.CutPrefix(kv, "SUDO_USER="); ok && behind != "" {
			name = behind + " as " + name
		}
	}
	return iam.Principal{Type: iam.TypeOperator, Name: name, Auth: "internal", Actions: []string{"*"}, Merchants: []string{"*"}}
}
