// Package detect finds, in events of the audit logs and of AWS CloudTrail, what an
// operator must look at: events that should not be (rules R1 to R20), and use of
// keys and cards that is not as usual (behaviours B1 to B10).
//
// It promises that every alert explains itself; that the same events in any order
// within the lateness allowed give the same alerts; that nothing is learned from
// what it flagged; and that its memory is bounded by entities, not by events.
package detect

import "time"

// Severity of an alert.
type Severity uint8

// The severities, as OCSF numbers them.
const (
	Info     Severity = 1
	Low      Severity = 2
	Medium   Severity = 3
	High     Severity = 4
	Critical Severity = 5
)

// String is the name in lower case.
func (s Severity) String() string {
	switch s {
	case Info:
		return "info"
	case Low:
		return "low"
	case Medium:
		return "medium"
	case High:
		return "high"
	case Critical:
		return "critical"
	}
	return "unknown"
}

// Alert is a finding that explains itself. Its JSON form is stable: it is what
// SIEMs get.
type Alert struct {
	ID       string    `json:"id"`   // the same for the same finding, however often it is found: deduplicates
	Rule     string    `json:"rule"` // "R1", "B2"
	Title    string    `json:"title"`
	Severity Severity  `json:"severity"`
	Time     time.Time `json:"time"`  // of the event that completed the finding
	Start    time.Time `json:"start"` // of the first event that counts
	PCI      []string  `json:"pci"`   // PCI DSS v4.0.1 requirements: "10.4.1.1"

	Principal string   `json:"principal,omitempty"`
	Keys      []string `json:"keys,omitempty"`
	Tenant    string   `json:"tenant,omitempty"`
	Merchant  string   `json:"merchant,omitempty"`
	IP        string   `json:"ip,omitempty"`
	Region    string   `json:"region,omitempty"`
	Account   string   `json:"account,omitempty"`

	Reason   string     `json:"reason"`             // a sentence: what, and against which usual
	Score    float64    `json:"score,omitempty"`    // −log10 p, capped; 0 for rules
	Baseline *Baseline  `json:"baseline,omitempty"` // of behaviours
	Count    int        `json:"count"`              // events that count
	Evidence []Evidence `json:"evidence"`           // some of them, at most 10
	Next     string     `json:"next"`               // what to do now

	SuppressedBy string `json:"suppressed_by,omitempty"` // ticket of the approved change that explains it
	Rules        string `json:"rules"`                   // Rules.Hash: which version of the rules found it
}

// Baseline is what was usual.
type Baseline struct {
	Expected float64 `json:"expected"`
	Observed float64 `json:"observed"`
	Window   string  `json:"window"`  // "5m"
	Learned  string  `json:"learned"` // from what: "14 days, hour of week"
}

// Evidence is one event behind an alert.
type Evidence struct {
	EventID string    `json:"event_id"`
	Time    time.Time `json:"time"`
	Name    string    `json:"name"`
	Detail  string    `json:"detail,omitempty"`
}
