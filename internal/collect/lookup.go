package collect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awstrail "github.com/aws/aws-sdk-go-v2/service/cloudtrail"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail/types"
	"golang.org/x/time/rate"

	"cardea/internal/cloudtrail"
)

// Facts of LookupEvents.
const (
	lookupRate    = 2 // requests a second, account and region
	lookupHistory = 90 * 24 * time.Hour
	lookupLate    = 20 * time.Minute // until an event can be looked up
	lookupAgain   = time.Minute
)

// LookupOptions say which events are looked up.
type LookupOptions struct {
	Options
	AWS    AWS
	Source string    // eventSource, default kms.amazonaws.com; "*" is all management events
	Since  time.Time // for the first time; default an hour ago, at most 90 days
}

// Lookup is a source of what the LookupEvents operation gives: management events of
// one account and region, two requests a second of 50 events each at most. It is
// for trying out and for small accounts. Each round looks 20 minutes back, for
// events that came late.
type Lookup struct {
	health
	o     LookupOptions
	api   *awstrail.Client
	limit *rate.Limiter
	read  *cloudtrail.Reader

	token    *string
	from, to time.Time // of this round; zero between rounds
	next     time.Time // the end of the last round
	newest   time.Time // of the events that were given

	mu     sync.Mutex // guards what follows
	number int
	rounds []lookupRound
}

type lookupRound struct {
	number        int // of the last batch of it
	until, newest time.Time
}

type lookupCursor struct {
	Version int       `json:"v"`
	Until   time.Time `json:"until"`
	Newest  time.Time `json:"newest,omitzero"` // event
}

// OpenLookup opens LookupEvents as a source. It does not reach for it yet.
func OpenLookup(ctx context.Context, o LookupOptions) (*Lookup, error) {
	if o.Source == "" {
		o.Source = cloudtrail.SourceKMS
	}
	if o.Names == nil {
		o.Names = cloudtrail.NewNames()
	}
	if err := makeFolder(o.State); err != nil {
		return nil, err
	}
	api, err := o.AWS.cloudtrail(ctx)
	if err != nil {
		return nil, err
	}
	l := &Lookup{
		health: health{now: o.Now, s: Status{Source: "LookupEvents " + api.Options().Region}}, o: o, api: api,
		limit: rate.NewLimiter(lookupRate, 1), read: cloudtrail.NewReader(nil, cloudtrail.Options{Names: o.Names}),
	}
	var c lookupCursor
	if err := loadJSON(l.path(), &c); err != nil {
		return nil, err
	}
	if c.Version > cursorVersion {
		return nil, fmt.Errorf("%s is of a newer release (version %d)", l.path(), c.Version)
	}
	l.next, l.newest = c.Until, c.Newest
	return l, nil
}

func (l *Lookup) path() string { return filepath.Join(l.o.State, "lookup.json") }

// Next implements Source: a batch is a page.
func (l *Lookup) Next(ctx context.Context) (Batch, error) {
	if l.to.IsZero() && !l.begin() {
		return Batch{}, io.EOF
	}
	if err := l.limit.Wait(ctx); err != nil {
		return Batch{}, err
	}
	in := &awstrail.LookupEventsInput{StartTime: &l.from, EndTime: &l.to, NextToken: l.token, MaxResults: aws.Int32(50)}
	if l.o.Source != "*" {
		in.LookupAttributes = []types.LookupAttribute{{AttributeKey: types.LookupAttributeKeyEventSource, AttributeValue: &l.o.Source}}
	}
	page, err := l.api.LookupEvents(ctx, in)
	if err != nil {
		l.token, l.to = nil, time.Time{} // the round begins again
		err = fmt.Errorf("look up events: %w", err)
		l.looked(err)
		return Batch{}, err
	}
	b, err := l.batch(page)
	if err != nil {
		return Batch{}, err
	}
	l.looked(nil)
	l.gave(&b)
	for i := range b.Events {
		if at := b.Events[i].Time; at.After(l.newest) {
			l.newest = at
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.number++
	number := l.number
	if l.token = page.NextToken; l.token == nil {
		l.rounds = append(l.rounds, lookupRound{number, l.to, l.newest})
		l.next, l.to = l.to, time.Time{}
	}
	b.ack = func(context.Context) error { return l.acked(number) }
	return b, nil
}

// begin begins a round, if the last one is long enough ago. If that has yet to come, the
// clock was ahead and is right again: how far was read the events tell, whose times are
// AWS's.
func (l *Lookup) begin() bool {
	now := l.now().UTC().Round(0) // what was kept is compared by the wall's clock
	from := l.next.Add(-lookupLate)
	ahead := l.next.After(now)
	switch {
	case l.next.IsZero() || ahead && l.newest.IsZero():
		if from = l.o.Since; from.IsZero() {
			from = now.Add(-time.Hour)
		}
	case ahead:
		from = l.newest.Add(-lookupLate)
	case now.Sub(l.next) < lookupAgain:
		return false
	}
	if latest := now.Add(-lookupLate); from.After(latest) {
		from = latest
	}
	if oldest := now.Add(-lookupHistory); from.Before(oldest) {
		from = oldest
	}
	l.from, l.to, l.token = from, now, nil
	return true
}

func (l *Lookup) batch(page *awstrail.LookupEventsOutput) (Batch, error) {
	b := Batch{From: l.Status().Source}
	var all strings.Builder
	for _, e := range page.Events {
		all.WriteString(strings.ReplaceAll(aws.ToString(e.CloudTrailEvent), "\n", " "))
		all.WriteByte('\n')
	}
	l.read.Reset(strings.NewReader(all.String()))
	for {
		var e cloudtrail.Event
		err := l.read.Read(&e)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return b, err
		}
		b.Events = append(b.Events, e)
	}
	for _, p := range l.read.Stats().Problems {
		b.Problems = append(b.Problems, Problem{From: b.From, Problem: p})
	}
	return b, nil
}

// acked makes it durable that the rounds up to a batch were processed.
func (l *Lookup) acked(number int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for n < len(l.rounds) && l.rounds[n].number <= number {
		n++
	}
	if n == 0 {
		return nil
	}
	last := l.rounds[n-1]
	if err := saveJSON(l.path(), lookupCursor{Version: cursorVersion, Until: last.until, Newest: last.newest}); err != nil {
		return err
	}
	l.rounds = l.rounds[n:]
	return nil
}
