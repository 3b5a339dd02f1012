package retention

import (
	"errors"
	"time"

	"cardea/internal/cloudtrail"
)

// MaxHours is the longest time of a report, in hours: 366 days.
const MaxHours = 366 * 24

// Hour is what was done in an hour.
type Hour struct {
	Start   time.Time `json:"start"`
	Calls   int64     `json:"calls"`
	Failed  int64     `json:"failed"`
	Records int64     `json:"records"`
}

// Table is the usage by one thing, the most frequent first.
type Table struct {
	Names int     `json:"names"` // how many different ones there are, or were kept
	Exact bool    `json:"exact"` // there were no more than MaxNames
	Top   []Count `json:"top"`
}

// Report is the usage of keys and card data in a time. Its JSON names are stable.
type Report struct {
	Since    time.Time `json:"since"`
	Until    time.Time `json:"until"`
	Made     time.Time `json:"made"`
	Sources  []string  `json:"sources"`  // logs or places that were read
	Calls    int64     `json:"calls"`    // events in the time
	Failed   int64     `json:"failed"`   // of them, refused or without success
	Records  int64     `json:"records"`  // cardholder records given out in clear
	Repeated int64     `json:"repeated"` // delivered once more, and counted once
	Problems int64     `json:"problems"` // parts of the sources that are no events

	Keys       Table  `json:"keys"`
	Principals Table  `json:"principals"`
	Operations Table  `json:"operations"`
	Errors     Table  `json:"errors"` // by error code and operation
	Tenants    Table  `json:"tenants"`
	Released   Table  `json:"released"` // records in clear, by principal and tenant
	Hours      []Hour `json:"hours"`
}

// Usage makes a report of events, in any order. It is not safe for concurrent use.
type Usage struct {
	report Report
	hours  []Hour

	keys, principals, operations, errors, tenants, released *top
}

// NewUsage makes a report of the time from since to before until, which is at most
// MaxHours.
func NewUsage(since, until time.Time) (*Usage, error) {
	since, until = since.UTC(), until.UTC()
	if !since.Before(until) {
		return nil, errors.New("a report's time ends before it begins")
	}
	if until.Sub(since) > MaxHours*time.Hour {
		return nil, errors.New("a report is of at most 366 days")
	}
	u := &Usage{
		report: Report{Since: since, Until: until},
		keys:   newTop(MaxNames), principals: newTop(MaxNames), operations: newTop(MaxNames),
		errors: newTop(MaxNames), tenants: newTop(MaxNames), released: newTop(MaxNames),
	}
	for h := since.Truncate(time.Hour); h.Before(until); h = h.Add(time.Hour) {
		u.hours = append(u.hours, Hour{Start: h})
	}
	return u, nil
}

// Add counts an event, if it is of the report's time.
func (u *Usage) Add(e *cloudtrail.Event) {
	if e.Time.Before(u.report.Since) || !e.Time.Before(u.report.Until) {
		return
	}
	at, failed, records := e.Time.UTC(), e.Failed(), int64(e.Records)
	h := &u.hours[int(at.Sub(u.hours[0].Start)/time.Hour)]
	h.Calls++
	h.Records += records
	u.report.Calls++
	u.report.Records += records
	if failed {
		h.Failed++
		u.report.Failed++
	}
	for _, key := range e.Keys {
		u.keys.add(key, at, failed, records)
	}
	u.principals.add(named(e.Principal), at, failed, records)
	operation := named(e.Name)
	if e.Source != cloudtrail.SourceVault {
		operation = named(e.Source) + ":" + operation
	}
	u.operations.add(operation, at, failed, records)
	if failed {
		u.errors.add(e.ErrorCode+" "+operation, at, true, 0)
	}
	if e.Tenant != "" {
		u.tenants.add(e.Tenant, at, failed, records)
	} else {
		u.tenants.add(named(e.Account), at, failed, records)
	}
	if records > 0 {
		u.released.add(named(e.Principal)+" "+named(e.Tenant), at, failed, records)
	}
}

// named is a name, or what stands for one that is not told.
func named(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// Repeat counts an event that came before and is therefore not added.
func (u *Usage) Repeat() { u.report.Repeated++ }

// Problem counts parts of a source that are no events.
func (u *Usage) Problem(n int64) { u.report.Problems += n }

// Report gives the report, with at most n names a table.
func (u *Usage) Report(n int, made time.Time, sources []string) Report {
	r := u.report
	r.Made, r.Sources, r.Hours = made.UTC().Truncate(time.Second), sources, u.hours
	for to, from := range map[*Table]*top{
		&r.Keys: u.keys, &r.Principals: u.principals, &r.Operations: u.operations,
		&r.Errors: u.errors, &r.Tenants: u.tenants, &r.Released: u.released,
	} {
		*to = Table{Names: len(from.names), Exact: from.merged == 0, Top: from.list(n)}
	}
	return r
}
