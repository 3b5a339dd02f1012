package httpd_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"cardea/internal/httpd"
)

// refusalLog is an audit log of refusals, with a clock.
type refusalLog struct {
	*httpd.Refusals
	at      time.Time
	err     error
	own     int
	counted []string
}

func newRefusalLog() *refusalLog {
	l := &refusalLog{at: time.Date(2026, 11, 22, 8, 30, 0, 0, time.UTC)}
	l.Refusals = httpd.NewRefusals(httpd.RefusalLimits{}, func() time.Time { return l.at })
	return l
}

func (l *refusalLog) refuse(t *testing.T, ip, kind, result string) {
	t.Helper()
	_, err := l.Refuse(t.Context(), netip.MustParseAddr(ip), kind, result, l.entry)
	if !errors.Is(err, l.err) {
		t.Fatalf("error %v, want %v", err, l.err)
	}
}

func (l *refusalLog) entry(_ context.Context, counted string) error {
	switch {
	case l.err != nil:
		return l.err
	case counted == "":
		l.own++
	default:
		l.counted = append(l.counted, counted)
	}
	return nil
}

func (l *refusalLog) flush(t *testing.T, all bool) {
	t.Helper()
	if err := l.Flush(t.Context(), all); !errors.Is(err, l.err) {
		t.Fatalf("flush: %v, want %v", err, l.err)
	}
}

func TestStrangerWhoIsRefusedAgainAndAgainIsCounted(t *testing.T) {
	l := newRefusalLog()
	for i := range 1000 {
		l.at = l.at.Add(10 * time.Millisecond)
		l.refuse(t, "192.0.2.1", "kms.", []string{"missing", "missing", "incomplete"}[i%3])
	}
	l.refuse(t, "192.0.2.2", "kms.", "missing")
	l.refuse(t, "192.0.2.1", "sts.", "missing")
	if l.own != 22 {
		t.Errorf("%d entries of their own, want 20 of the first source and one each of another source and another kind", l.own)
	}
	l.flush(t, false)
	if len(l.counted) > 0 {
		t.Errorf("written before the minute was over: %q", l.counted)
	}
	l.at = l.at.Add(time.Minute)
	l.flush(t, false)
	if want := []string{"980 more refusals, 08:30:00Z to 08:30:10Z: missing 653 incomplete 327"}; !slices.Equal(l.counted, want) {
		t.Errorf("counted %q\n   want %q", l.counted, want)
	}
	l.refuse(t, "192.0.2.1", "kms.", "missing")
	if l.own != 23 {
		t.Error("the next minute's first refusal had no entry of its own")
	}
	l.flush(t, true)
	if len(l.counted) != 1 {
		t.Errorf("written again, or nothing: %q", l.counted)
	}
}

// A customer of a provider has 2^64 addresses of IPv6.
func TestNetworkOfIPv6IsOneSource(t *testing.T) {
	l := newRefusalLog()
	for i := range 100 {
		l.refuse(t, fmt.Sprintf("2001:db8:1:2::%x", i), "kms.", "missing")
	}
	l.flush(t, true)
	if want := []string{"80 more refusals of 2001:db8:1:2::/64, 08:30:00Z to 08:30:00Z: missing 80"}; l.own != 20 || !slices.Equal(l.counted, want) {
		t.Errorf("%d of their own, counted %q", l.own, l.counted)
	}
}

func TestManySourcesTogetherAreBounded(t *testing.T) {
	l := newRefusalLog()
	const sources, each = 5000, 3
	for i := range sources {
		for range each {
			l.refuse(t, fmt.Sprintf("198.51.%d.%d", i/250, i%250), "kms.", "missing")
		}
	}
	l.flush(t, true)
	if l.own > 300 || len(l.counted) > 257 {
		t.Errorf("%d entries of their own and %d counts in a minute", l.own, len(l.counted))
	}
	total, others := l.own, 0
	for _, c := range l.counted {
		var n int
		if _, err := fmt.Sscanf(c, "%d more refusals", &n); err != nil {
			t.Fatal(err, c)
		}
		total += n
		if strings.Contains(c, "of further sources and requests") {
			others++
		}
	}
	if total != sources*each || others != 1 {
		t.Errorf("%d refusals are in the log, want %d; %d counts of further sources", total, sources*each, others)
	}
}

func TestCountThatCannotBeWrittenIsKept(t *testing.T) {
	l := newRefusalLog()
	for range 21 {
		l.refuse(t, "192.0.2.1", "kms.", "missing")
	}
	l.err = errors.New("no database")
	l.flush(t, true)
	l.at = l.at.Add(time.Hour)
	l.refuse(t, "192.0.2.1", "kms.", "missing") // has an entry of its own again, which fails
	l.flush(t, false)
	l.err = nil
	l.flush(t, false)
	l.flush(t, true)
	if want := []string{"1 more refusals, 08:30:00Z to 08:30:00Z: missing 1"}; !slices.Equal(l.counted, want) {
		t.Errorf("counted %q", l.counted)
	}
}

func TestClockThatGoesBackEndsTheMinute(t *testing.T) {
	l := newRefusalLog()
	for range 30 {
		l.refuse(t, "192.0.2.1", "kms.", "missing")
	}
	l.at = l.at.Add(-time.Hour)
	l.refuse(t, "192.0.2.1", "kms.", "missing")
	l.flush(t, false)
	if l.own != 21 || len(l.counted) != 1 {
		t.Errorf("%d of their own, counted %q", l.own, l.counted)
	}
}
