package detect

import (
	"fmt"
	"slices"
	"strings"
)

// strangers is the part of B6 that sees a principal serve merchants that it never
// served before, among all that it serves. How many of them are new is a share
// that falls as the principal's circle becomes known (Good and Turing).
type strangers struct {
	Last       map[uint64]int64 // merchants, and the day they were last served; nil once there are too many
	Met        []uint64         // this hour, for the first time
	Crowded    bool             // there were too many
	New, All   float64          // learned, decayed
	Five, Hour meetings
	Flagged    int64 // hour

	listed bool
}

type meetings struct {
	New, Served uint32
	T           tally
}

func (m *meetings) merge(o *meetings) {
	m.New += o.New
	m.Served += o.Served
	m.T.merge(&o.T)
}

// maxServed are remembered of a principal. One that serves more is watched only
// by how many they are.
const maxServed = 1024

// meet takes a principal's merchants of a minute.
func (d *Detector) meet(n int64, x *subject, wm *whoMinute) {
	s := &x.Strange
	if s.Crowded || wm.merchants.Regs != nil {
		return
	}
	if s.Last == nil {
		s.Last = map[uint64]int64{}
	}
	if !s.listed {
		s.listed = true
		d.meeting = append(d.meeting, x)
	}
	day := n / (24 * 60)
	for _, h := range wm.merchants.Few {
		if was, there := s.Last[h]; !there || day-was > 30 {
			s.Five.New++
			s.Met = append(s.Met, h)
		}
		s.Last[h] = day
	}
	s.Five.Served += uint32(len(wm.merchants.Few))
	s.Five.T.merge(&wm.decrypts)
	if len(s.Last) > maxServed {
		*s = strangers{Crowded: true, listed: true}
	}
}

// judgeStrangers judges five minutes, or the hour that they complete.
func (d *Detector) judgeStrangers(n int64, hour bool) {
	slices.SortFunc(d.meeting, func(a, b *subject) int { return strings.Compare(a.Name, b.Name) })
	for _, x := range d.meeting {
		s := &x.Strange
		if !hour {
			d.judgeMeetings(n, x, &s.Five, fiveMinutes)
			s.Hour.merge(&s.Five)
			s.Five = meetings{}
			continue
		}
		d.judgeMeetings(n, x, &s.Hour, oneHour)
		if s.Flagged == n/60 {
			for _, h := range s.Met { // they are as new as before
				delete(s.Last, h)
			}
		} else {
			s.New, s.All = s.New+float64(s.Hour.New), s.All+float64(s.Hour.Served)
			if s.All > 2000 {
				s.New, s.All = s.New/2, s.All/2
			}
		}
		s.Met, s.Hour, s.listed = s.Met[:0], meetings{}, false
	}
	if hour {
		clear(d.meeting)
		d.meeting = d.meeting[:0]
	}
}

func (d *Detector) judgeMeetings(n int64, x *subject, m *meetings, sc scale) {
	set := &d.set[b6]
	s := &x.Strange
	if set.Disabled || m.New < uint32(set.Minimum) || s.All < 100 {
		return
	}
	usual := 1.3 * (s.New + 1) / (s.All + 2) * float64(m.Served)
	score := tailScore(float64(m.New), usual, 0.3, d.rules.Engine.ScoreCap)
	if score < 1.5 {
		return
	}
	alone := score >= set.Score
	if alone && !d.changes.learns(set.rule.ID, x.Name, "", n) {
		s.Flagged = n / 60
	}
	d.signal(signal{
		Rule: b6, Who: x.Name, Minute: n, Score: score, Alone: alone, Expected: usual, Observed: float64(m.New), Window: sc.String(),
		Learned: fmt.Sprintf("%.0f merchants served, %.0f of them new", s.All, s.New), T: m.T,
		What: fmt.Sprintf("%s decrypted for %d merchants that it never served before in %s, where %s are usual", x.Name, m.New,
			map[scale]string{fiveMinutes: "five minutes", oneHour: "an hour"}[sc], amount(usual)),
	})
}
