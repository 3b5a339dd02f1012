package detect

import (
	"fmt"

	"cardea/internal/cloudtrail"
)

// digest is R20 for what verification of CloudTrail's digests found. The same
// outcome at the same trail within the same hour of the log is told once: whoever
// removes a thousand files makes one alert.
func (d *Detector) digest(e *cloudtrail.Event) {
	set := &d.set[r20]
	if set.Disabled {
		return
	}
	lower := Severity(0)
	switch cloudtrail.Outcome(e.Name) {
	case cloudtrail.OutcomeLateDigest, cloudtrail.OutcomeUnlistedLog:
		lower = 1 // delivery may be slow; a file that nobody vouches for takes nothing away
	case cloudtrail.OutcomeNoKey, cloudtrail.OutcomeNoSignature:
		lower = 2 // it could not be verified
	}
	slot := floorDiv(e.Time.Unix(), 3600)
	cool := coolName{Rule: r20, Who: e.Principal, What: e.Name, Slot: slot}
	if c, there := d.state.Cool[cool]; there {
		c.Held++
		d.state.Cool[cool] = c
		return
	}
	d.state.Cool[cool] = cooling{Until: max(slot, d.closed/60)*60 + 3*60}
	d.emit(Alert{
		ID: idOf(set.rule.ID, e.Principal, e.Name, fmt.Sprint(slot)), Rule: set.rule.ID, Title: set.rule.Title, Severity: max(set.severity-lower, Info),
		Time: e.Time, Start: e.Time, Principal: e.Principal, Region: e.Region, Account: e.Account, Count: 1,
		Reason:   "the digests of the log tell that it is not whole (" + e.Name + "): " + e.SourceName + " " + e.ErrorMessage,
		Evidence: []Evidence{{EventID: e.ID, Time: e.Time, Name: e.Name, Detail: e.SourceName}},
	})
}
