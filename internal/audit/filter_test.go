package audit

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestFilterMatch(t *testing.T) {
	t.Parallel()
	e := testEntry()
	e.Resource.Reference = "4111 1111 1111 1111 of " + strings.Repeat("x", 300)
	e, err := Decode(mustSeal(t, e).Line)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		f    Filter
		want bool
	}{
		"everything":        {Filter{}, true},
		"all fields":        {Filter{testTime, testTime.Add(1), "public", "card.store", Allowed, e.Resource.Reference, e.RequestID, "hyperswitch"}, true},
		"since":             {Filter{Since: testTime.Add(time.Microsecond)}, false},
		"until":             {Filter{Until: testTime}, false},
		"tenant":            {Filter{Tenant: "other"}, false},
		"op":                {Filter{Op: "card.stor"}, false},
		"outcome":           {Filter{Outcome: Denied}, false},
		"request":           {Filter{RequestID: "other"}, false},
		"who":               {Filter{Who: "other"}, false},
		"reference":         {Filter{Reference: "other"}, false},
		"reference as sent": {Filter{Reference: "4111 1111 1111 1111 of " + strings.Repeat("x", 300)}, true},
	} {
		if got := c.f.Match(e); got != c.want {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

func TestEntriesGoesOnAfterDamage(t *testing.T) {
	t.Parallel()
	w := newLog(t, 300)
	l := w.clone()
	broken, cut := l.segments[3], &l.segments[6]
	copy(l.segments[3].Body, "XXXX")
	cut.Body = cut.Body[:len(cut.Body)-1]
	var wrong []string
	seen := 0
	for n, err := range Entries(t.Context(), sourceOf(l), l.origin, 0) {
		if err != nil {
			wrong = append(wrong, fmt.Sprint(n.Seq, errors.Is(err, ErrMalformedEntry), errors.Is(err, ErrMalformedSegment)))
			continue
		}
		seen++
		if n.Entry.Resource.Reference != fmt.Sprintf("ref-%d", n.Seq) || !strings.Contains(string(n.Line), n.Entry.ID) {
			t.Errorf("entry %d is %s", n.Seq, n.Entry.Resource.Reference)
		}
	}
	if got, want := strings.Join(wrong, ", "), fmt.Sprintf("%d true false, %d false true", broken.First, cut.First); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if want := 300 - 1 - cut.Count; seen != want {
		t.Errorf("got %d entries, want %d", seen, want)
	}
	src := sourceOf(w.memLog)
	src.fail = "segments"
	var last error
	for _, last = range Entries(context.Background(), src, w.origin, 0) {
		continue
	}
	if !errors.Is(last, errDisk) {
		t.Errorf("unreadable: got %v", last)
	}
}
