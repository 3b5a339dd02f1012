package lifecycle

import (
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
	"time"
)

// Report is the story of work in several steps, for people. Its JSON is the state
// itself.
type Report struct {
	Title string
	// Facts are lines of a name and what is known.
	Facts  [][2]string
	Tables []ReportTable
	Steps  []DoneStep
	Open   []string // what people must still do
}

// ReportTable is a table of a report; one without rows is left out.
type ReportTable struct {
	Title  string
	Header []string
	Rows   [][]string
}

// HTML writes the report as one file that needs no other.
func (r *Report) HTML(w io.Writer) error {
	t, err := template.New("report.html.tmpl").Funcs(template.FuncMap{"at": moment}).ParseFS(pages, "report.html.tmpl")
	if err != nil {
		return fmt.Errorf("page: %w", err)
	}
	return t.Execute(w, r)
}

// moment is a time as reports show it.
func moment(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

// uses is a table of uses.
func uses(title, what string, all []Use) ReportTable {
	t := ReportTable{Title: title, Header: []string{what, "CALLS", "FAILED", "FIRST", "LAST"}}
	for _, u := range all {
		t.Rows = append(t.Rows, []string{u.Name, fmt.Sprint(u.Calls), fmt.Sprint(u.Failed), moment(u.First), moment(u.Last)})
	}
	return t
}

// tables are those of what was touched.
func (t *Touched) tables() []ReportTable {
	vault := ReportTable{Title: "Keys of the vault under it", Header: []string{"TENANT", "OF", "PURPOSE", "KEY", "VERSION", "STATE", "RECORDS"}}
	for _, k := range t.VaultKeys {
		vault.Rows = append(vault.Rows, []string{k.Tenant, k.Holder, string(k.Purpose), k.ID, fmt.Sprint(k.Version), string(k.State), fmt.Sprint(k.Records)})
	}
	files := ReportTable{Title: "Files that it opens", Header: []string{"FILE"}}
	for _, f := range t.Files {
		files.Rows = append(files.Rows, []string{f})
	}
	return []ReportTable{uses("Who used it", "PRINCIPAL", t.Principals), uses("What for", "OPERATION", t.Operations), uses("For whom", "TENANT OR ACCOUNT", t.Tenants), uses("Keys used", "KEY", t.Keys), vault, files}
}

// basis tells which logs were read.
func (t *Touched) basis() string {
	if len(t.Sources) == 0 {
		return "no logs were read: who used it is not known"
	}
	text := fmt.Sprintf("%d calls, %d failed, from %s to %s, in %s", t.Calls, t.Failed, moment(t.Since), moment(t.Until), strings.Join(t.Sources, ", "))
	if t.Own > 0 {
		text += fmt.Sprintf("; not counted: %d calls of this run itself", t.Own)
	}
	if t.Problems > 0 {
		text += fmt.Sprintf("; %d parts could not be read", t.Problems)
	}
	return text
}

// grantTable is a table of grants.
func grantTable(title string, places []Place) ReportTable {
	t := ReportTable{Title: title, Header: []string{"KEY", "GRANT", "NAME", "TO", "RETIRED BY", "OPERATIONS", "MADE"}}
	for _, p := range places {
		for _, g := range p.Grants {
			t.Rows = append(t.Rows, []string{p.Key, g.ID, g.Name, g.Grantee, g.Retiring, strings.Join(g.Operations, " "), moment(g.Created)})
		}
	}
	return t
}

// Report is the answer for people.
func (x *Compromise) Report() *Report {
	r := &Report{Title: "Compromise of a key", Steps: allSteps(x.Steps, x.Replacement), Open: x.Open, Facts: [][2]string{
		{"key", x.Key},
		{"class", x.Class},
		{"reason", x.Reason},
		{"begun", moment(x.Started)},
		{"finished", moment(x.Finished)},
		{"approval", x.Approval.String()},
		{"may open it", cmpNone(x.Opener)},
		{"new key", cmpNone(x.Replacement.NewKey)},
		{"used", x.Touched.basis()},
	}}
	places := ReportTable{Title: "Where it is", Header: []string{"KEY", "STATE AS FOUND", "ALIASES"}}
	for _, p := range x.Places {
		places.Rows = append(places.Rows, []string{p.Key, p.State, strings.Join(p.Aliases, ", ")})
	}
	backups := ReportTable{Title: "Backups", Header: []string{"BACKUP", "DONE"}}
	for _, b := range x.Backups {
		backups.Rows = append(backups.Rows, []string{b.Name, moment(b.Done)})
	}
	r.Tables = append([]ReportTable{places, grantTable("Grants as found", x.Places)}, append(x.Touched.tables(), backups)...)
	return r
}

// allSteps are steps and those of rotations that are part of them, in order of time.
func allSteps(steps []DoneStep, of ...*Rotation) []DoneStep {
	all := append([]DoneStep{}, steps...)
	for _, x := range of {
		if x != nil {
			all = append(all, x.Steps...)
		}
	}
	sortSteps(all)
	return all
}

func sortSteps(all []DoneStep) {
	slices.SortStableFunc(all, func(a, b DoneStep) int { return a.At.Compare(b.At) })
}
