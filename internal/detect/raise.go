package detect

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"cardea/internal/cloudtrail"
)

// idOf makes the same id of the same finding.
func idOf(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:16])
}

// at tells of one event at once. The same finding within the same hour is told once.
func (d *Detector) at(rule uint8, e *cloudtrail.Event, w *who, raise int, what string) {
	set := &d.set[rule]
	if set.Disabled || e.ServiceEvent {
		return
	}
	severity := set.severity + Severity(raise)
	tried := ""
	if e.Failed() {
		severity, tried = severity-1, "tried, and refused ("+e.ErrorCode+"): "
	}
	slot := floorDiv(e.Time.Unix(), 3600)
	cool := coolName{Rule: rule, Who: w.name, What: strings.Join(e.Keys, " ") + "|" + tried + what, Slot: slot}
	if c, there := d.state.Cool[cool]; there {
		c.Held++
		d.state.Cool[cool] = c
		return
	}
	d.state.Cool[cool] = cooling{Until: (slot + 3) * 60}
	d.emit(Alert{
		ID: idOf(set.rule.ID, w.name, cool.What, fmt.Sprint(slot)), Rule: set.rule.ID, Title: set.rule.Title,
		Severity: min(max(severity, Info), Critical), Time: e.Time, Start: e.Time,
		Principal: w.name, Keys: slices.Clone(e.Keys), Tenant: or(e.Tenant, w.tenant), Merchant: e.Merchant, IP: e.IP, Region: e.Region, Account: e.Account,
		Reason: w.name + " called " + e.Name + ": " + tried + what, Count: 1,
		Evidence: []Evidence{{EventID: e.ID, Time: e.Time, Name: e.Name, Detail: detailOf(e.ErrorCode, e.IP)}},
	})
}

func detailOf(code, ip string) string {
	var parts []string
	if code != "" {
		parts = append(parts, code)
	}
	if ip != "" {
		parts = append(parts, "from "+ip)
	}
	return strings.Join(parts, " ")
}

// tellHit tells of the hits of a minute, unless the same was told lately.
func (d *Detector) tellHit(n int64, h *hit) {
	set := &d.set[h.ref.rule]
	key := ""
	if h.ref.k != nil {
		key = h.ref.k.name
	}
	cool := coolName{Rule: h.ref.rule, Who: h.ref.w.name, What: key + "|" + h.ref.detail}
	c := d.state.Cool[cool]
	if n < c.Until {
		c.Held += h.N
		d.state.Cool[cool] = c
		return
	}
	d.state.Cool[cool] = cooling{Until: n + set.cooldown}
	reason := useReason(h)
	if c.Held > 0 {
		reason += fmt.Sprintf(" (%d times since this was last told)", c.Held)
	}
	severity := set.severity
	if h.first.Failed() {
		severity--
		reason += ", which was refused (" + h.first.ErrorCode + ")"
	}
	e := &h.first
	a := Alert{
		ID: idOf(set.rule.ID, h.ref.w.name, cool.What, fmt.Sprint(h.First)), Rule: set.rule.ID, Title: set.rule.Title, Severity: min(max(severity, Info), Critical),
		Time: time.Unix(0, h.Last).UTC(), Start: time.Unix(0, h.First).UTC(), Principal: h.ref.w.name, Tenant: or(e.Tenant, h.ref.w.tenant), Merchant: e.Merchant,
		IP: e.IP, Region: e.Region, Account: e.Account, Reason: reason, Count: int(h.N), Evidence: evidenceOf(&h.tally),
	}
	if key != "" {
		a.Keys = []string{key}
	}
	d.emit(a)
}

func evidenceOf(ts ...*tally) []Evidence {
	var all tally
	out := []Evidence{}
	seen := map[string]bool{}
	for _, t := range ts {
		for _, x := range t.Traces[:t.Kept] {
			if !seen[x.ID] && len(out) < 10 {
				seen[x.ID] = true
				out = append(out, Evidence{EventID: x.ID, Time: time.Unix(0, x.At).UTC(), Name: x.Name, Detail: detailOf(x.Code, x.IP)})
			}
		}
		all.merge(t)
	}
	return out
}

// tellSignals turns the signals of a principal into alerts: those that are enough
// alone, one for each rule; and the weak ones together, if in sum they are.
func (d *Detector) tellSignals(n int64, x *subject, sigs []signal) {
	x.Signals = slices.DeleteFunc(x.Signals, func(s signal) bool { return s.Minute <= n-60 })
	var alone []signal
	for _, s := range sigs {
		if s.Alone {
			alone = append(alone, s)
		} else if s.Score >= 1.5 {
			x.Signals = append(x.Signals, s)
			if len(x.Signals) > 64 {
				x.Signals = x.Signals[1:]
			}
		}
	}
	slices.SortStableFunc(alone, func(a, b signal) int {
		if a.Rule != b.Rule {
			return int(a.Rule) - int(b.Rule)
		}
		return compareFloat(b.Score, a.Score)
	})
	for len(alone) > 0 {
		same := 1
		for same < len(alone) && alone[same].Rule == alone[0].Rule {
			same++
		}
		d.tellBehaviour(n, x, alone[:same], "")
		alone = alone[same:]
	}
	d.combine(n, x)
}

func compareFloat(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// combine alerts on several behaviours of which none is enough alone.
func (d *Detector) combine(n int64, x *subject) {
	e := d.rules.Engine
	var best [ruleCount]*signal
	for i := range x.Signals {
		s := &x.Signals[i]
		if b := best[s.Rule]; b == nil || s.Score > b.Score {
			best[s.Rule] = s
		}
	}
	sum, which := 0.0, []signal{}
	for _, s := range best {
		if s != nil {
			sum += min(s.Score, e.CombineCap)
			which = append(which, *s)
		}
	}
	if len(which) < 2 || sum < e.Combine {
		return
	}
	slices.SortStableFunc(which, func(a, b signal) int { return compareFloat(b.Score, a.Score) })
	var parts []string
	for _, s := range which {
		parts = append(parts, fmt.Sprintf("%s %.1f", d.set[s.Rule].rule.ID, s.Score))
	}
	together := fmt.Sprintf("; together with others (%s) it is out of the usual", strings.Join(parts, ", "))
	which[0].Score = min(sum, e.ScoreCap)
	d.tellBehaviour(n, x, which, together)
	x.Signals = x.Signals[:0]
}

func (d *Detector) tellBehaviour(n int64, x *subject, sigs []signal, together string) {
	s := &sigs[0]
	set := &d.set[s.Rule]
	cool := coolName{Rule: s.Rule, Who: s.Who, What: s.Detail}
	c := d.state.Cool[cool]
	if n < c.Until {
		c.Held++
		d.state.Cool[cool] = c
		return
	}
	d.state.Cool[cool] = cooling{Until: n + set.cooldown}
	first, last, count := s.T.First, s.T.Last, 0
	var keys []string
	var tallies []*tally
	for i := range sigs {
		t := &sigs[i].T
		tallies = append(tallies, t)
		first, last = min(first, t.First), max(last, t.Last)
		if sigs[i].Rule == s.Rule {
			count += int(t.N)
		}
		for _, k := range sigs[i].Keys {
			if !slices.Contains(keys, k) && len(keys) < 20 {
				keys = append(keys, k)
			}
		}
	}
	slices.Sort(keys)
	reason := s.What + together
	if c.Held > 0 {
		reason += fmt.Sprintf(" (and %d findings since this was last told)", c.Held)
	}
	a := Alert{
		ID: idOf(set.rule.ID, s.Who, s.Detail, s.Window, fmt.Sprint(n)), Rule: set.rule.ID, Title: set.rule.Title, Severity: set.severity,
		Time: time.Unix(0, last).UTC(), Start: time.Unix(0, first).UTC(), Principal: s.Who, Keys: keys,
		Reason: reason, Score: math.Round(s.Score*100) / 100, Count: count, Evidence: evidenceOf(tallies...),
	}
	if x != nil {
		a.Account, a.Tenant = x.Account, x.Tenant
	}
	if s.T.Kept > 0 {
		a.IP = s.T.Traces[0].IP
	}
	if s.Window != "" {
		a.Baseline = &Baseline{Expected: math.Round(s.Expected*100) / 100, Observed: s.Observed, Window: s.Window, Learned: s.Learned}
	}
	d.emit(a)
}

// emit gives an alert out, marked if an approved change explains it.
func (d *Detector) emit(a Alert) {
	for i := range d.set {
		if d.set[i].rule.ID == a.Rule {
			a.PCI, a.Next = d.set[i].rule.PCI, d.set[i].rule.Next
		}
	}
	a.Rules = d.rules.hash
	if a.Evidence == nil {
		a.Evidence = []Evidence{}
	}
	if c := d.changes.covering(&a); c != nil {
		a.SuppressedBy = c.Ticket
		d.stats.Suppressed++
	} else {
		d.stats.Alerts++
	}
	d.out = append(d.out, a)
}
