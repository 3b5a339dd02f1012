package app

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/go-json-experiment/json"

	"cardea/internal/store/lockerdb"
	"cardea/internal/vault"
)

// ImportReport is what an import found and did.
type ImportReport struct {
	Rows         lockerdb.Counts `json:"rows"`
	Cards        ImportCounts    `json:"cards"`
	Values       ImportCounts    `json:"values"`
	Fingerprints ImportCounts    `json:"fingerprints"`
	Problems     []ImportProblem `json:"problems"` // the first hundred
	Resumed      bool            `json:"resumed"`
}

// ImportCounts counts what became of the rows of a table.
type ImportCounts struct {
	Imported int64 `json:"imported"`
	Present  int64 `json:"present"` // the same, from an earlier run
	Absent   int64 `json:"absent"`  // with Check
	Expired  int64 `json:"expired"` // left out
	Failed   int64 `json:"failed"`
}

// ImportProblem is a row that was not imported. It names the row, never what is in it.
type ImportProblem struct {
	Table  string `json:"table"`
	Row    string `json:"row"`
	Reason string `json:"reason"`
}

// maxProblems bounds what a report lists; all are counted, and each is in the audit
// log or was not opened.
const maxProblems = 100

// importState is how far an import is, in its file.
type importState struct {
	Tenant      string            `json:"tenant"`
	Check       bool              `json:"check,omitempty"` // nothing was imported
	Cards       lockerdb.CardKey  `json:"cards"`
	Values      lockerdb.ValueKey `json:"values"`
	Fingerprint string            `json:"fingerprint"` // hex
	Step        int               `json:"step"`        // 0 cards, 1 values, 2 fingerprints, 3 done
	Report      ImportReport      `json:"report"`
}

// Failed counts the rows that are not as they should be: those that failed, and with
// Check after an import those that are not there.
func (r *ImportReport) Failed() int64 {
	return r.Cards.Failed + r.Values.Failed + r.Fingerprints.Failed
}

func (c *ImportCounts) all() int64 { return c.Imported + c.Present + c.Absent + c.Expired + c.Failed }

func (c *ImportCounts) add(i vault.Imported) {
	switch i {
	case vault.ImportDone:
		c.Imported++
	case vault.ImportPresent:
		c.Present++
	case vault.ImportAbsent:
		c.Absent++
	case vault.ImportExpired:
		c.Expired++
	}
}

// load reads how far an earlier run came, unless that one was done.
func (h *HyperswitchImport) load() error {
	h.state = importState{Tenant: h.Tenant, Check: h.Check}
	if h.StateFile == "" {
		return nil
	}
	text, err := os.ReadFile(h.StateFile)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	var s importState
	if err := json.Unmarshal(text, &s); err != nil {
		return fmt.Errorf("state: %s is not of an import (%w): remove it to begin at the beginning, which does no harm", h.StateFile, err)
	}
	if s.Tenant != h.Tenant {
		return fmt.Errorf("state: %s is of an import for tenant %q: name another file", h.StateFile, s.Tenant)
	}
	if s.Step >= 0 && s.Step < 3 {
		if s.Check != h.Check { // an import that went on there would leave out what was only looked at
			return fmt.Errorf("state: %s is of %s that was cut off, not of %s: name another file", h.StateFile, runName(s.Check), runName(h.Check))
		}
		h.state = s
		h.state.Report.Resumed = true
	}
	return nil
}

func runName(check bool) string {
	if check {
		return "a run that changes nothing"
	}
	return "an import"
}

// save replaces the state file whole.
func (h *HyperswitchImport) save() error {
	if h.StateFile == "" {
		return nil
	}
	text, err := json.Marshal(h.state)
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(h.StateFile), filepath.Base(h.StateFile)+".*")
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), h.StateFile)
	}
	if err != nil {
		return fmt.Errorf("state: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}

// problem notes a row that was not imported.
func (h *HyperswitchImport) problem(c *ImportCounts, table, row string, err error) {
	c.Failed++
	if len(h.state.Report.Problems) < maxProblems {
		h.state.Report.Problems = append(h.state.Report.Problems, ImportProblem{table, row, err.Error()})
	}
}
