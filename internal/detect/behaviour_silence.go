package detect

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// quiet watches that something goes on (B9).
type quiet struct {
	Name   string
	Model  model
	Five   tally
	Sum5   float64
	Sq5    float64
	Hour   float64
	Silent float64 // −log10 of the chance of the silence so far
	Last   int64   // minute
	Told   bool
	Latest trace
}

func (q *quiet) count(t *tally) { q.Five.merge(t) }

// maxLogs are told apart; what is beyond is an attempt to fill the memory.
const maxLogs = 4096

func (d *Detector) log(r logRef, n int64) *quiet {
	name := r.String()
	q := d.state.Logs[name]
	if q == nil {
		if len(d.state.Logs) >= maxLogs {
			d.over = true
			return &quiet{}
		}
		q = &quiet{Name: strings.Clone(name)}
		d.state.Logs[q.Name] = q
	}
	q.Last = n
	return q
}

// silence ends the five minutes of what is watched.
func (d *Detector) silence(n int64) {
	from := len(d.out)
	for _, q := range d.state.Logs {
		d.quietFive(n, q, "the log", false)
	}
	allQuiet := false
	for _, q := range d.state.Logs {
		allQuiet = allQuiet || q.Told
	}
	for _, k := range d.state.Keys {
		if k.Quiet != nil {
			d.quietFive(n, k.Quiet, "key", allQuiet) // if the log is silent, so are its keys
		}
	}
	slices.SortFunc(d.out[from:], func(a, b Alert) int { return strings.Compare(a.ID, b.ID) })
}

func (d *Detector) quietFive(n int64, q *quiet, what string, known bool) {
	x := float64(q.Five.N)
	q.Sum5 += x
	q.Sq5 += x * x
	q.Hour += x
	t := q.Five
	q.Five = tally{}
	if x > 0 {
		q.Silent, q.Told = 0, false
		if t.Kept > 0 {
			q.Latest = t.Traces[t.Kept-1]
		}
		return
	}
	mu, phi := q.Model.expect(n/60, fiveMinutes)
	// What stands still does so for longer than by chance: the spread is wide.
	q.Silent += min(2, zeroScore(mu, max(0, phi)+0.3))
	set := &d.set[b9]
	if q.Told || known || set.Disabled || q.Model.Busy.N < 20 || // hours with any: one that spoke a few times owes nothing
		q.Model.Hours < int(time.Duration(d.rules.Engine.Learning)/time.Hour) ||
		q.Silent < set.Score || n-q.Last < int64(set.Minimum) {
		return
	}
	q.Told = true
	one := tally{N: 1, First: q.Latest.At, Last: n*6e10 + 6e10 - 1, Kept: 1}
	one.Traces[0] = q.Latest
	s := signal{
		Rule: b9, Minute: n, Score: min(q.Silent, d.rules.Engine.ScoreCap), Alone: true, Expected: mu * float64(n-q.Last) / 5, Window: fmt.Sprintf("%dm", n-q.Last),
		Learned: q.Model.learned(), T: one, Detail: q.Name,
		What: fmt.Sprintf("no event of %s %s for %d minutes, in which %s are usual", what, q.Name, n-q.Last, amount(mu*float64(n-q.Last)/5)),
	}
	if what == "key" {
		s.Keys = []string{q.Name}
	}
	d.tellBehaviour(n, nil, []signal{s}, "")
}

// learnSilence adds the hour to the baselines of what is watched.
func (d *Detector) learnSilence(hour int64) {
	for _, q := range d.state.Logs {
		q.learn(hour)
	}
	for _, k := range d.state.Keys {
		if k.Quiet != nil {
			k.Quiet.learn(hour)
		}
	}
}

func (q *quiet) learn(hour int64) {
	if q.Told {
		q.Model.skip(hour)
	} else {
		h := hourStats{
			mean: [scales]float32{float32(q.Hour / 60), float32(q.Sum5 / 12), float32(q.Hour)},
			sq:   [scales]float32{float32(q.Hour * q.Hour / 3600), float32(q.Sq5 / 12), float32(q.Hour * q.Hour)},
		}
		q.Model.learn(hour, &h)
	}
	q.Sum5, q.Sq5, q.Hour = 0, 0, 0
}
