package cli

import (
	"io"
	"path/filepath"
	"time"

	"cardea/internal/approval"
	"cardea/internal/config"
)

// ledgerOf is the ledger of approvals of an installation.
func ledgerOf(p *Process, cfg config.Config) *approval.Ledger {
	return &approval.Ledger{Dir: filepath.Join(cfg.Node.DataDir, "approvals"), Now: p.Now}
}

type approvalHistoryCommand struct {
	keyServiceFlags
	output
}

// Help implements kong.HelpProvider.
func (approvalHistoryCommand) Help() string {
	return "Examples:\n  cardea approval history --config cardea.toml\n\n" +
		"Each record of the ledger is bound to the one before: one that was changed or removed is an error. Exit status 3 if a request was begun and is not finished."
}

// executionView is a record of the ledger.
type executionView struct {
	N       int       `json:"n"`
	At      time.Time `json:"at,omitzero"`
	Event   string    `json:"event"`
	Request string    `json:"request"`
	Result  string    `json:"result,omitempty"`
}

func (c approvalHistoryCommand) Run(p *Process) error {
	cfg, err := installation(p, c.Config, c.DataDir)
	if err != nil {
		return err
	}
	records, err := ledgerOf(p, cfg).Records()
	if err != nil {
		return err
	}
	open := map[string]bool{}
	views, rows := []executionView{}, [][]string{}
	for _, r := range records {
		open[r.Request] = true
		if r.Event == approval.EventFinished {
			delete(open, r.Request)
		}
		views = append(views, executionView{r.N, r.At, string(r.Event), r.Request, r.Result})
		rows = append(rows, []string{day(r.At), r.Request, string(r.Event), r.Result})
	}
	err = c.print(p.Stdout, views, func(w io.Writer) error {
		return table(w, "no request was executed", []string{"TIME", "REQUEST", "EVENT", "RESULT"}, rows)
	})
	if err == nil && len(open) > 0 {
		err = errFindings
	}
	return err
}
