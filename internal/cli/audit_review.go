package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"cardea/internal/app"
	"cardea/internal/audit"
	"cardea/internal/config"
	"cardea/internal/detect"
	"cardea/internal/retention"
	"cardea/internal/vault"
)

type auditReviewCommands struct {
	Start   auditReviewStartCommand   `cmd:"" help:"Begin the review of a day: verify the logs, count what was done, and record that."`
	Finding auditReviewFindingCommand `cmd:"" help:"Record what was found, and who sees to it."`
	Settle  auditReviewSettleCommand  `cmd:"" help:"Record what became of a finding."`
	Close   auditReviewCloseCommand   `cmd:"" help:"End the review of a day."`
	List    auditReviewListCommand    `cmd:"" help:"List the days and their reviews, and those without one."`
}

// reviewed is the installation whose logs are reviewed. Its own log has the journal.
type reviewed struct {
	Config  []string `short:"c" type:"path" placeholder:"FILE" xor:"source" help:"Configuration that names the database."`
	DataDir string   `type:"path" placeholder:"DIR" xor:"source" help:"Data folder of 'cardea dev' (default ./cardea-data)."`
}

// record has a review's step recorded. entry gives, by the journal as it is, what;
// nobody else can write to the journal meanwhile.
func (c reviewed) record(ctx context.Context, p *Process, op *vault.Operation, entry func(*retention.Journal) (reference, result, detail string, err error)) (err error) {
	cfg, err := c.config(p)
	if err != nil {
		return err
	}
	tool, err := openTool(ctx, p, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tool.Close()) }()
	if err := tool.Gate.Record(ctx, operator(p), vault.OpLogRead, vault.Target{}, "read", "review"); err != nil {
		return err
	}
	j, err := retention.ReadJournal(ctx, tool.Store)
	if err != nil {
		return err
	}
	reference, result, detail, err := entry(j)
	if err != nil {
		return err
	}
	return tool.Gate.Record(ctx, operator(p), op, vault.Target{Reference: reference}, result, detail)
}

func (c reviewed) config(p *Process) (config.Config, error) {
	return logSource{Config: c.Config, DataDir: c.DataDir}.config(p)
}

// reviewDay is the day that is reviewed.
type reviewDay struct {
	Day string `placeholder:"DAY" help:"The day (UTC), such as 2026-01-31; yesterday if missing."`
}

func (d reviewDay) parse(now time.Time) (retention.Day, error) {
	if d.Day == "" {
		return retention.DayOf(now.AddDate(0, 0, -1)), nil
	}
	day, err := retention.ParseDay(d.Day)
	if err != nil {
		return "", usageError{fmt.Errorf("--day: %w", err)}
	}
	return day, nil
}

type auditReviewStartCommand struct {
	reviewed
	reviewDay
	output
	PublicKey []string `placeholder:"KEY" help:"Public key that signs the checkpoints, or a file of such keys. Without it the ones beside the node's signing key are used, which proves less."`
	Alerts    string   `type:"path" placeholder:"FILE" help:"What 'cardea audit detect --output json' found for the day."`
}

// Help implements kong.HelpProvider.
func (auditReviewStartCommand) Help() string {
	return "Examples:\n  cardea audit review start --config cardea.toml --public-key audit.pub\n" +
		"  cardea audit review start --config cardea.toml --public-key audit.pub --day 2026-01-31 --alerts alerts.json\n\n" +
		"What is recorded is an entry of the audit log, as are the findings and the end (PCI DSS 10.4.1.1, 10.4.3). " +
		"Exit status 3 means that a log is not intact; the review is begun all the same."
}

// reviewStart is the JSON of 'cardea audit review start'. Its names are stable.
type reviewStart struct {
	Day       retention.Day     `json:"day"`
	Integrity string            `json:"integrity"` // intact, not_intact
	Summary   string            `json:"summary"`   // as it is recorded
	Logs      []audit.LogReport `json:"logs"`
	Usage     retention.Report  `json:"usage"`
}

func (c auditReviewStartCommand) Run(ctx context.Context, p *Process) error {
	day, err := c.parse(p.Now())
	if err != nil {
		return err
	}
	if p.Now().Before(day.End()) {
		return usageError{fmt.Errorf("--day: review of %s: %w before %s", day, retention.ErrDayNotOver, day.End().Format(time.RFC3339))}
	}
	alerts, err := c.alerts(day)
	if err != nil {
		return err
	}
	r := reviewStart{Day: day}
	if err := c.look(ctx, p, &r); err != nil {
		return err
	}
	r.Summary += ", " + alerts
	err = c.record(ctx, p, app.OpReviewStart, func(j *retention.Journal) (string, string, string, error) {
		return string(day), r.Integrity, r.Summary, j.MayStart(day, p.Now())
	})
	if err != nil {
		return err
	}
	err = c.print(p.Stdout, r, func(w io.Writer) error {
		if err := printReport(w, audit.Report{Logs: r.Logs}); err != nil {
			return err
		}
		_, err := fmt.Fprintf(w, "review of %s begun: %s\n", day, r.Summary)
		return err
	})
	if err != nil {
		return err
	}
	if r.Integrity != "intact" {
		return errFindings
	}
	return nil
}

// look verifies the logs and counts what was done on the day.
func (c auditReviewStartCommand) look(ctx context.Context, p *Process, r *reviewStart) (err error) {
	verify := auditVerifyCommand{logSource: logSource{Config: c.Config, DataDir: c.DataDir}, PublicKey: c.PublicKey}
	src, err := verify.open(ctx, p, "review")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.close()) }()
	keys, err := verify.keys(p, src)
	if err != nil {
		return err
	}
	if err := awaitSigned(ctx, p, src); err != nil {
		return err
	}
	report, err := audit.Verify(ctx, src, audit.VerifyOptions{Verifiers: keys})
	if err != nil {
		return err
	}
	r.Logs, r.Integrity = report.Logs, "intact"
	if !report.OK() {
		r.Integrity = "not_intact"
	}
	usage, err := retention.NewUsage(r.Day.Start(), r.Day.End())
	if err != nil {
		return err
	}
	var origins []string
	for _, l := range report.Logs {
		origins = append(origins, l.Origin)
	}
	if _, err := tellAbsent(ctx, p.Stderr, src, origins, r.Day.Start()); err != nil { // verification judges what is missing
		return err
	}
	if err := countEntries(ctx, src, origins, usage, r.Day.Start(), r.Day.End()); err != nil {
		return err
	}
	r.Usage = usage.Report(20, p.Now(), origins)
	r.Summary = fmt.Sprintf("%d logs, %d operations, %d failed, %d records in clear", len(origins), r.Usage.Calls, r.Usage.Failed, r.Usage.Records)
	if r.Usage.Problems > 0 {
		r.Integrity = "not_intact"
	}
	return nil
}

// alerts tells how many alerts the report of a detection has for the day.
func (c auditReviewStartCommand) alerts(day retention.Day) (string, error) {
	if c.Alerts == "" {
		return "no detection given", nil
	}
	b, err := readBounded(c.Alerts, maxAlertsFile)
	if err != nil {
		return "", fmt.Errorf("--alerts: %w", err)
	}
	var r detectReport
	if err := json.Unmarshal(b, &r); err != nil {
		return "", usageError{fmt.Errorf("--alerts: %s is not what 'cardea audit detect --output json' prints: %w", c.Alerts, err)}
	}
	if r.Since.IsZero() || r.Since.After(day.Start()) || r.Until.Before(day.End()) {
		return "", usageError{hinted(fmt.Errorf("--alerts: %s is not of all of %s", c.Alerts, day),
			"make it by 'cardea audit detect --since %s --until %s --output json'", day.Start().Format(time.RFC3339), day.End().Format(time.RFC3339))}
	}
	count := func(list []detect.Alert) (n int) {
		for i := range list {
			if retention.DayOf(list[i].Time) == day {
				n++
			}
		}
		return n
	}
	return fmt.Sprintf("%d alerts, %d suppressed", count(r.Alerts), count(r.Suppressed)), nil
}

// maxAlertsFile bounds the report of a detection, in bytes.
const maxAlertsFile = 64 << 20

type auditReviewFindingCommand struct {
	reviewed
	reviewDay
	Owner string `required:"" placeholder:"NAME" help:"Who sees to it."`
	Text  string `arg:"" placeholder:"TEXT" help:"What was found, on one line of at most 400 bytes."`
}

// Help implements kong.HelpProvider.
func (auditReviewFindingCommand) Help() string {
	return "Examples:\n  cardea audit review finding --config cardea.toml --owner alice 'three refused custodian parts at 03:10'\n\n" +
		"The number that is printed names the finding in 'cardea audit review settle'."
}

func (c auditReviewFindingCommand) Run(ctx context.Context, p *Process) error {
	day, err := c.parse(p.Now())
	if err != nil {
		return err
	}
	var reference string
	err = c.record(ctx, p, app.OpReviewFinding, func(j *retention.Journal) (_, _, detail string, err error) {
		reference, detail, err = j.NewFinding(day, c.Owner, c.Text)
		return reference, "found", detail, err
	})
	if err != nil {
		return beginFirst(err)
	}
	_, number, _ := strings.Cut(reference, "/")
	_, err = fmt.Fprintf(p.Stdout, "finding %s of %s, for %s\n", number, day, c.Owner)
	return err
}

// beginFirst adds what to do about a review that was not begun.
func beginFirst(err error) error {
	if errors.Is(err, retention.ErrNotBegun) {
		return hinted(err, "begin it by 'cardea audit review start'")
	}
	return err
}

type auditReviewSettleCommand struct {
	reviewed
	reviewDay
	Number  int    `arg:"" placeholder:"NUMBER" help:"Number of the finding."`
	Outcome string `arg:"" placeholder:"OUTCOME" help:"What became of it, on one line of at most 400 bytes."`
}

// Help implements kong.HelpProvider.
func (auditReviewSettleCommand) Help() string {
	return "Examples:\n  cardea audit review settle --config cardea.toml 1 'a new custodian mistyped his part; he confirmed it'"
}

func (c auditReviewSettleCommand) Run(ctx context.Context, p *Process) error {
	day, err := c.parse(p.Now())
	if err != nil {
		return err
	}
	err = c.record(ctx, p, app.OpReviewSettle, func(j *retention.Journal) (string, string, string, error) {
		reference, err := j.Settle(day, c.Number, c.Outcome)
		return reference, "settled", c.Outcome, err
	})
	if err != nil {
		return beginFirst(err)
	}
	_, err = fmt.Fprintf(p.Stdout, "finding %d of %s is settled\n", c.Number, day)
	return err
}

type auditReviewCloseCommand struct {
	reviewed
	reviewDay
	Conclusion string `arg:"" placeholder:"CONCLUSION" help:"What the review came to, on one line of at most 400 bytes."`
}

// Help implements kong.HelpProvider.
func (auditReviewCloseCommand) Help() string {
	return "Examples:\n  cardea audit review close --config cardea.toml 'nothing unusual'\n\n" +
		"Every finding must have an outcome; one whose work goes on may say where."
}

func (c auditReviewCloseCommand) Run(ctx context.Context, p *Process) error {
	day, err := c.parse(p.Now())
	if err != nil {
		return err
	}
	err = c.record(ctx, p, app.OpReviewClose, func(j *retention.Journal) (string, string, string, error) {
		return string(day), "closed", c.Conclusion, j.MayClose(day, c.Conclusion)
	})
	if errors.Is(err, retention.ErrOpen) {
		return hinted(err, "say what became of them by 'cardea audit review settle'")
	}
	if err != nil {
		return beginFirst(err)
	}
	_, err = fmt.Fprintf(p.Stdout, "review of %s closed\n", day)
	return err
}

type auditReviewListCommand struct {
	logSource
	output
	Since string `default:"720h" placeholder:"TIME" help:"Days from this time on (RFC 3339), or of the last duration (default 720h, 30 days)."`
}

// Help implements kong.HelpProvider.
func (auditReviewListCommand) Help() string {
	return "Examples:\n  cardea audit review list --config cardea.toml\n  cardea audit review list --config cardea.toml --since 2160h --output json\n\n" +
		"Listed are days from the logs' first entry on. A day's review must be closed by the end of the next day. " +
		"Exit status 3 means that a day has none, or that entries of the journal do not fit."
}

// reviewList is the JSON of 'cardea audit review list'. Its names are stable.
type reviewList struct {
	Days     []retention.DayStatus `json:"days"`
	Missing  int                   `json:"missing"`
	Problems int                   `json:"problems"` // entries of the journal that could not be read or do not fit
}

func (c auditReviewListCommand) Run(ctx context.Context, p *Process) (err error) {
	since, err := moment("--since", c.Since, p.Now())
	if err != nil {
		return err
	}
	src, err := c.open(ctx, p, "review")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.close()) }()
	j, err := retention.ReadJournal(ctx, src)
	if err != nil {
		return err
	}
	origins, err := src.Logs(ctx)
	if err != nil {
		return err
	}
	missing, err := tellAbsent(ctx, p.Stderr, src, origins, since)
	if err != nil {
		return err
	}
	began, err := retention.Began(ctx, src)
	if err != nil {
		return err
	}
	if since.Before(began) {
		since = began
	}
	list := reviewList{Days: j.Days(since, p.Now()), Problems: j.Problems}
	for _, d := range list.Days {
		if d.Status == retention.DayMissing {
			list.Missing++
		}
	}
	if err := c.print(p.Stdout, list, func(w io.Writer) error { return printReviews(w, list) }); err != nil {
		return err
	}
	if list.Missing > 0 || list.Problems > 0 || missing {
		return errFindings
	}
	return nil
}

func printReviews(w io.Writer, list reviewList) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(list.Days) > 0 {
		fmt.Fprintln(t, "DAY\tREVIEW\tBY\tLOGS\tFINDINGS\tOPEN\tSUMMARY\tCONCLUSION")
	}
	for _, d := range list.Days {
		r := d.Review
		if r == nil {
			fmt.Fprintf(t, "%s\t%s\t-\t-\t-\t-\t-\t-\n", d.Day, d.Status)
			continue
		}
		conclusion := "-"
		if r.Conclusion != "" {
			conclusion = printable(r.Conclusion)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\n", d.Day, d.Status, printable(r.Reviewer), r.Integrity, len(r.Findings), len(r.Open()), printable(r.Summary), conclusion)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%d days, %d without a review\n", len(list.Days), list.Missing)
	if err == nil && list.Problems > 0 {
		_, err = fmt.Fprintf(w, "%d entries of the journal could not be read or do not fit: see 'cardea audit verify'\n", list.Problems)
	}
	return err
}
