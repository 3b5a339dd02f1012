package retention

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"cardea/internal/audit"
)

// The operations of the journal of daily reviews, as entries of the audit log have
// them. Each is about a day, or a finding of a day, "2026-03-01/2".
const (
	OpReviewStart   = "review.start"
	OpReviewFinding = "review.finding"
	OpReviewSettle  = "review.settle"
	OpReviewClose   = "review.close"
)

// MaxText is the longest text of the journal, in bytes of JSON without its quotes:
// an entry keeps that much whole.
const MaxText = 400

// Day is a day in UTC, "2026-03-01".
type Day string

// ParseDay reads a day.
func ParseDay(s string) (Day, error) {
	if t, err := time.Parse(time.DateOnly, s); err != nil || t.Format(time.DateOnly) != s {
		return "", fmt.Errorf("%q is not a day such as 2026-03-01", s)
	}
	return Day(s), nil
}

// DayOf is the day that holds t.
func DayOf(t time.Time) Day { return Day(t.UTC().Format(time.DateOnly)) }

// Start is when the day begins. Of what ParseDay did not give it is the zero time.
func (d Day) Start() time.Time {
	t, err := time.Parse(time.DateOnly, string(d))
	if err != nil {
		return time.Time{}
	}
	return t
}

// End is when the next day begins.
func (d Day) End() time.Time { return d.Start().AddDate(0, 0, 1) }

// Due is when the day must have been reviewed: at the end of the next one (PCI DSS
// 10.4.1.1, "at least once daily").
func (d Day) Due() time.Time { return d.Start().AddDate(0, 0, 2) }

// ReviewFinding is what a reviewer found.
type ReviewFinding struct {
	Number  int       `json:"number"` // from 1 on
	Owner   string    `json:"owner"`  // who sees to it
	Text    string    `json:"text"`
	Opened  time.Time `json:"opened"`
	Outcome string    `json:"outcome,omitempty"` // empty as long as it is open
	Settled time.Time `json:"settled,omitzero"`
}

// Review is the review of a day.
type Review struct {
	Day        Day             `json:"day"`
	Started    time.Time       `json:"started"`
	Reviewer   string          `json:"reviewer"`
	Integrity  string          `json:"integrity"` // intact, not_intact
	Summary    string          `json:"summary"`
	Findings   []ReviewFinding `json:"findings"`
	Closed     time.Time       `json:"closed,omitzero"`
	ClosedBy   string          `json:"closed_by,omitempty"`
	Conclusion string          `json:"conclusion,omitempty"`
}

// Open gives the findings without an outcome.
func (r *Review) Open() []int {
	var open []int
	for _, f := range r.Findings {
		if f.Outcome == "" {
			open = append(open, f.Number)
		}
	}
	return open
}

// Journal is the journal of reviews.
type Journal struct {
	Problems int // entries that could not be read

	reviews  map[Day]*Review
	archived time.Time // reviews of days that ended before may be in an archive only
}

// ReadJournal reads the journal from the logs of the command line, those whose name
// ends in -cli. It does not verify them.
func ReadJournal(ctx context.Context, src audit.Source) (*Journal, error) {
	origins, err := src.Logs(ctx)
	if err != nil {
		return nil, fmt.Errorf("list audit logs: %w", err)
	}
	j := &Journal{reviews: map[Day]*Review{}}
	var entries []audit.Entry
	for _, origin := range origins {
		if !strings.HasSuffix(origin, "-cli") {
			continue
		}
		absent, err := audit.AbsentOf(ctx, src, origin)
		if err != nil {
			return nil, err
		}
		if p := absent.Pruning; p != nil && p.Last.After(j.archived) {
			j.archived = p.Last
		}
		for n, err := range audit.Entries(ctx, src, origin, 0) {
			switch {
			case errors.Is(err, audit.ErrMalformedEntry) || errors.Is(err, audit.ErrMalformedSegment):
				j.Problems++
			case err != nil:
				return nil, err
			case strings.HasPrefix(n.Entry.Op, "review.") && n.Entry.Outcome == audit.Allowed:
				entries = append(entries, n.Entry)
			}
		}
	}
	slices.SortStableFunc(entries, func(a, b audit.Entry) int { return a.Time.Compare(b.Time) })
	for i := range entries {
		if !j.take(&entries[i]) {
			j.Problems++
		}
	}
	return j, nil
}

// take takes an entry into the journal; false if it does not fit.
func (j *Journal) take(e *audit.Entry) bool {
	text, numbered, _ := strings.Cut(e.Resource.Reference, "/")
	day, err := ParseDay(text)
	if err != nil {
		return false
	}
	if !day.End().After(j.archived) {
		return true // what came before it may be missing
	}
	r := j.reviews[day]
	if e.Op == OpReviewStart {
		if r != nil {
			return false
		}
		j.reviews[day] = &Review{Day: day, Started: e.Time, Reviewer: e.Who.Name, Integrity: e.Result, Summary: e.Detail, Findings: []ReviewFinding{}}
		return true
	}
	if r == nil || !r.Closed.IsZero() {
		return false
	}
	switch e.Op {
	case OpReviewFinding:
		owner, text, ok := strings.Cut(e.Detail, ": ")
		if !ok || numbered != strconv.Itoa(len(r.Findings)+1) {
			return false
		}
		r.Findings = append(r.Findings, ReviewFinding{Number: len(r.Findings) + 1, Owner: owner, Text: text, Opened: e.Time})
	case OpReviewSettle:
		f := r.finding(numbered)
		if f == nil || f.Outcome != "" {
			return false
		}
		f.Outcome, f.Settled = e.Detail, e.Time
	case OpReviewClose:
		r.Closed, r.ClosedBy, r.Conclusion = e.Time, e.Who.Name, e.Detail
	default:
		return false
	}
	return true
}

func (r *Review) finding(number string) *ReviewFinding {
	for i := range r.Findings {
		if strconv.Itoa(r.Findings[i].Number) == number {
			return &r.Findings[i]
		}
	}
	return nil
}

// Review gives the review of a day, or nil.
func (j *Journal) Review(d Day) *Review { return j.reviews[d] }

// Why something cannot be entered in the journal.
var (
	ErrDayNotOver  = errors.New("the day is not over")
	ErrArchived    = errors.New("the journal of that time was archived")
	ErrNotBegun    = errors.New("no review of the day was begun")
	ErrBegun       = errors.New("the day's review was begun already")
	ErrClosed      = errors.New("the day's review is closed")
	ErrOpen        = errors.New("findings have no outcome")
	ErrNoFinding   = errors.New("there is no such finding")
	ErrSettled     = errors.New("the finding has an outcome already")
	ErrInvalidText = fmt.Errorf("want 1 to %d bytes of text on one line", MaxText)
	ErrOwner       = errors.New("want a name of letters, digits and .-_@ of at most 64 bytes")
)

// MayStart reports, as ErrDayNotOver or ErrBegun, why a review cannot begin now.
func (j *Journal) MayStart(d Day, now time.Time) error {
	switch {
	case now.Before(d.End()):
		return fmt.Errorf("review of %s: %w before %s", d, ErrDayNotOver, d.End().Format(time.RFC3339))
	case !d.End().After(j.archived):
		return fmt.Errorf("review of %s: %w", d, ErrArchived)
	case j.reviews[d] != nil:
		return fmt.Errorf("review of %s: %w", d, ErrBegun)
	}
	return nil
}

// under gives the review of a day that is under way.
func (j *Journal) under(d Day) (*Review, error) {
	r := j.reviews[d]
	switch {
	case !d.End().After(j.archived):
		return nil, fmt.Errorf("review of %s: %w", d, ErrArchived)
	case r == nil:
		return nil, fmt.Errorf("review of %s: %w", d, ErrNotBegun)
	case !r.Closed.IsZero():
		return nil, fmt.Errorf("review of %s: %w", d, ErrClosed)
	}
	return r, nil
}

// NewFinding gives the reference and the detail of the entry of a finding.
func (j *Journal) NewFinding(d Day, owner, text string) (reference, detail string, err error) {
	r, err := j.under(d)
	if err != nil {
		return "", "", err
	}
	if len(owner) == 0 || len(owner) > 64 || strings.Trim(owner, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_@") != "" {
		return "", "", fmt.Errorf("owner: %w", ErrOwner)
	}
	if err := CheckText(text); err != nil {
		return "", "", fmt.Errorf("finding: %w", err)
	}
	return fmt.Sprintf("%s/%d", d, len(r.Findings)+1), owner + ": " + text, nil
}

// Settle gives the reference of the entry with a finding's outcome.
func (j *Journal) Settle(d Day, number int, outcome string) (reference string, err error) {
	r, err := j.under(d)
	if err != nil {
		return "", err
	}
	f := r.finding(strconv.Itoa(number))
	switch {
	case f == nil:
		return "", fmt.Errorf("finding %d of %s: %w", number, d, ErrNoFinding)
	case f.Outcome != "":
		return "", fmt.Errorf("finding %d of %s: %w", number, d, ErrSettled)
	}
	if err := CheckText(outcome); err != nil {
		return "", fmt.Errorf("outcome: %w", err)
	}
	return fmt.Sprintf("%s/%d", d, number), nil
}

// MayClose reports why the review of a day cannot be closed.
func (j *Journal) MayClose(d Day, conclusion string) error {
	r, err := j.under(d)
	if err != nil {
		return err
	}
	if open := r.Open(); len(open) > 0 {
		return fmt.Errorf("review of %s: %w: %s", d, ErrOpen, strings.Trim(fmt.Sprint(open), "[]"))
	}
	if err := CheckText(conclusion); err != nil {
		return fmt.Errorf("conclusion: %w", err)
	}
	return nil
}

// CheckText reports, as ErrInvalidText, a text that an entry would not keep whole.
func CheckText(s string) error {
	encoded, err := json.Marshal(s)
	if err != nil || s == "" || len(encoded)-2 > MaxText || !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return ErrInvalidText
	}
	return nil
}

// How far the review of a day is.
const (
	DayReviewed = "reviewed"
	DayLate     = "late"    // reviewed, but not when it was due
	DayOpen     = "open"    // begun, and not yet due
	DayDue      = "due"     // not begun, and not yet due
	DayMissing  = "missing" // not closed when it was due
)

// DayStatus is how far the review of a day is.
type DayStatus struct {
	Day    Day     `json:"day"`
	Status string  `json:"status"`
	Review *Review `json:"review,omitempty"`
}

// Days tells of each day that is over, from the one that holds since, or from where
// the journal that is not archived begins.
func (j *Journal) Days(since, now time.Time) []DayStatus {
	var days []DayStatus
	if since.Before(j.archived) {
		since = j.archived
	}
	for d := DayOf(since); !d.End().After(now); d = DayOf(d.End()) {
		s := DayStatus{Day: d, Review: j.reviews[d]}
		switch r := s.Review; {
		case r != nil && !r.Closed.IsZero() && r.Closed.Before(d.Due()):
			s.Status = DayReviewed
		case r != nil && !r.Closed.IsZero():
			s.Status = DayLate
		case !now.Before(d.Due()):
			s.Status = DayMissing
		case r != nil:
			s.Status = DayOpen
		default:
			s.Status = DayDue
		}
		days = append(days, s)
	}
	return days
}

// Began gives the time of the first entry in any log, or the zero time.
func Began(ctx context.Context, src audit.Source) (time.Time, error) {
	origins, err := src.Logs(ctx)
	if err != nil {
		return time.Time{}, fmt.Errorf("list audit logs: %w", err)
	}
	var began time.Time
	for _, origin := range origins {
		for n, err := range audit.Entries(ctx, src, origin, 0) {
			if errors.Is(err, audit.ErrMalformedEntry) || errors.Is(err, audit.ErrMalformedSegment) {
				continue
			}
			if err != nil {
				return time.Time{}, err
			}
			if began.IsZero() || n.Entry.Time.Before(began) {
				began = n.Entry.Time
			}
			break
		}
	}
	return began, nil
}
