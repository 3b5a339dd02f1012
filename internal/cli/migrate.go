package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"

	"cardea/internal/adminapi"
	"cardea/internal/app"
	"cardea/internal/custodian"
	"cardea/internal/hyperswitch"
	"cardea/internal/kmsclient"
	"cardea/internal/secret"
	"cardea/internal/store/lockerdb"
)

type migrateCommands struct {
	Hyperswitch migrateHyperswitchCommand `cmd:"" help:"Import a tenant of Hyperswitch's card vault into a running vault, with every reference and fingerprint."`
}

type migrateHyperswitchCommand struct {
	output
	Config  []string `short:"c" type:"path" placeholder:"FILE" xor:"installation" help:"Configuration of the vault, which must be running on this machine."`
	DataDir string   `type:"path" placeholder:"DIR" xor:"installation" help:"Data folder of 'cardea dev' (default ./cardea-data)."`

	DSN         string `name:"dsn" placeholder:"URL" help:"Hyperswitch's PostgreSQL, without a password, which PGPASSWORD or ~/.pgpass have; or --dsn-file."`
	DSNFile     string `type:"path" placeholder:"FILE" help:"File with the URL and its password."`
	Schema      string `default:"public" placeholder:"NAME" help:"The tenant's schema there (default public)."`
	Tenant      string `required:"" placeholder:"NAME" help:"The tenant of this vault that gets the records."`
	MasterKey   string `name:"master-key-file" type:"path" placeholder:"FILE" help:"File with the peer's setting master_key: 64 hexadecimal digits, or 120 that custodians unlock."`
	Key1        string `name:"key1-file" type:"path" placeholder:"FILE" help:"File with the first custodian's half."`
	Key2        string `name:"key2-file" type:"path" placeholder:"FILE" help:"File with the second custodian's half."`
	KMSKeyID    string `name:"kms-key-id" placeholder:"ARN" help:"The key of the peer's mode aws_kms, whose rows AWS KMS opens."`
	KMSEndpoint string `name:"kms-endpoint-url" placeholder:"URL" help:"Where that key is, if not at AWS."`

	DryRun    bool   `help:"Open every row and say what an import would do; change nothing."`
	Verify    bool   `help:"After an import: open every row on both sides and compare. Whatever is not there, or not the same, is a finding."`
	Batch     int    `default:"500" placeholder:"N" help:"Rows at once (default 500)."`
	StateFile string `type:"path" placeholder:"FILE" help:"Where it keeps how far it is, to go on there (default import-TENANT.json in the data folder)."`
}

// Help implements kong.HelpProvider.
func (migrateHyperswitchCommand) Help() string {
	return "Examples:\n" +
		"  cardea migrate hyperswitch --config cardea.toml --tenant acme --dsn-file locker.url --master-key-file master.hex --dry-run\n" +
		"  cardea migrate hyperswitch --config cardea.toml --tenant acme --dsn-file locker.url --schema acme --master-key-file master.hex --key1-file k1 --key2-file k2\n" +
		"  cardea migrate hyperswitch --config cardea.toml --tenant acme --dsn-file locker.url --master-key-file master.hex --verify\n\n" +
		"Hyperswitch's rows stay as they are. Run it while Hyperswitch still writes there, then switch, then run it once more, which takes only the rows\n" +
		"that came meanwhile. It goes on where it was cut off. Drain Redis before the last run.\n\nExit status 3 if there are rows that it could not import, or that differ."
}

func (c migrateHyperswitchCommand) Run(ctx context.Context, p *Process) error {
	cfg, err := installation(p, c.Config, c.DataDir)
	if err != nil {
		return err
	}
	if c.DryRun && c.Verify {
		return usageError{errors.New("--dry-run and --verify: give one of them")}
	}
	h := app.HyperswitchImport{
		To: adminapi.NewClient(cfg.Vault.AdminSocket), Tenant: c.Tenant, Batch: c.Batch, Check: c.DryRun || c.Verify, StateFile: c.StateFile,
	}
	if h.StateFile == "" && !h.Check {
		h.StateFile = filepath.Join(cfg.Node.DataDir, "import-"+c.Tenant+".json")
	}
	if h.Batch < 1 || h.Batch > 10_000 {
		return usageError{errors.New("--batch: must be 1 to 10000")}
	}
	if err := c.keys(&h); err != nil {
		return err
	}
	defer h.Master.Destroy()
	dsn, err := c.source()
	if err != nil {
		return err
	}
	if h.DB, err = lockerdb.Open(ctx, dsn, c.Schema); err != nil {
		return err
	}
	defer h.DB.Close(ctx) //nolint:errcheck // it was only read
	bar := newProgress(p, "import", "rows")
	h.Progress = bar.set
	report, err := h.Run(ctx)
	bar.finish()
	if err != nil {
		if h.StateFile != "" && report != nil {
			return hinted(err, "run the same command again, it goes on where it was")
		}
		return err
	}
	if err := c.print(p.Stdout, report, func(w io.Writer) error { return printImport(w, report) }); err != nil {
		return err
	}
	missing := report.Cards.Absent + report.Values.Absent + report.Fingerprints.Absent
	if report.Failed() > 0 || c.Verify && missing > 0 {
		return errFindings
	}
	return nil
}

// source is the database's URL.
func (c migrateHyperswitchCommand) source() (string, error) {
	switch {
	case (c.DSN == "") == (c.DSNFile == ""):
		return "", usageError{errors.New("name Hyperswitch's database by --dsn or --dsn-file")}
	case c.DSN != "":
		// What is on the command line every user of the machine can read.
		if u, err := url.Parse(c.DSN); err == nil && u.User != nil {
			if _, has := u.User.Password(); has {
				return "", usageError{errors.New("--dsn: has a password, which other users of this machine can see: use --dsn-file or PGPASSWORD")}
			}
		}
		return c.DSN, nil
	}
	text, err := readSmall(c.DSNFile)
	if err != nil {
		return "", fmt.Errorf("--dsn-file: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// keys are what opens the peer's rows.
func (c migrateHyperswitchCommand) keys(h *app.HyperswitchImport) error {
	if c.MasterKey == "" && c.KMSKeyID == "" {
		return usageError{errors.New("give the peer's master key by --master-key-file, or the key of its mode aws_kms by --kms-key-id")}
	}
	if c.KMSKeyID != "" {
		h.Key = kmsclient.Key{ID: c.KMSKeyID, Endpoint: c.KMSEndpoint}
		if err := h.Key.Validate(); err != nil {
			return usageError{fmt.Errorf("--kms-key-id: %w", err)}
		}
		client, err := kmsclient.New(kmsclient.Options{})
		if err != nil {
			return err
		}
		h.KMS = client
	}
	if c.MasterKey == "" {
		return nil
	}
	files := map[string]secret.Bytes{}
	defer func() {
		for _, s := range files {
			s.Destroy()
		}
	}()
	for _, f := range []struct{ flag, path string }{{"--master-key-file", c.MasterKey}, {"--key1-file", c.Key1}, {"--key2-file", c.Key2}} {
		if f.path == "" {
			continue
		}
		s, err := secretFile(f.path)
		if err != nil {
			return fmt.Errorf("%s: %w", f.flag, err)
		}
		files[f.flag] = s
	}
	master := files["--master-key-file"]
	var err error
	if c.Key1 != "" && c.Key2 != "" {
		h.Master, err = custodian.OpenHyperswitch(master, files["--key1-file"], files["--key2-file"])
	} else {
		h.Master, err = hyperswitch.ParseMasterKey(master)
	}
	if err != nil {
		return fmt.Errorf("--master-key-file: %w", err)
	}
	return nil
}

// secretFile is a file's content without white space around it.
func secretFile(path string) (secret.Bytes, error) {
	text, err := readSmall(path)
	if err != nil {
		return secret.Bytes{}, err
	}
	defer secret.Wipe(text)
	first, last := 0, len(text)
	for first < last && strings.IndexByte(" \t\r\n", text[first]) >= 0 {
		first++
	}
	for last > first && strings.IndexByte(" \t\r\n", text[last-1]) >= 0 {
		last--
	}
	return secret.Copy(text[first:last]), nil
}

func printImport(w io.Writer, r *app.ImportReport) error {
	n := func(v int64) string { return strconv.FormatInt(v, 10) }
	row := func(what string, there int64, c app.ImportCounts) []string {
		return []string{what, n(there), n(c.Imported), n(c.Present), n(c.Absent), n(c.Expired), n(c.Failed)}
	}
	if err := table(w, "", []string{"ROWS", "THERE", "IMPORTED", "PRESENT", "ABSENT", "EXPIRED", "FAILED"}, [][]string{
		row("cards and data", r.Rows.Cards, r.Cards), row("values", r.Rows.Values, r.Values), row("fingerprints", r.Rows.Fingerprints, r.Fingerprints),
	}); err != nil {
		return err
	}
	for _, x := range r.Problems {
		if _, err := fmt.Fprintf(w, "%s %s: %s\n", x.Table, printable(x.Row), printable(x.Reason)); err != nil {
			return err
		}
	}
	if more := r.Failed() - int64(len(r.Problems)); more > 0 {
		if _, err := fmt.Fprintf(w, "and %d more\n", more); err != nil {
			return err
		}
	}
	return nil
}
