package audit

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestSegmentGivesBackItsLines(t *testing.T) {
	t.Parallel()
	var in []Sealed
	for i := range 5 {
		e := testEntry()
		e.Detail = strings.Repeat("d", i)
		in = append(in, mustSeal(t, e))
	}
	lines, err := SplitSegment(EncodeSegment(in), len(in))
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range lines {
		if !bytes.Equal(line, in[i].Line) {
			t.Errorf("line %d: got %q, want %q", i, line, in[i].Line)
		}
	}
}

func TestSplitSegmentRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		body  string
		count int
		want  string
	}{
		{"", 1, "no newline at the end"},
		{"a", 1, "no newline at the end"},
		{"a\nb", 2, "no newline at the end"},
		{"a\n", 0, "0 entries"},
		{"a\n", -1, "-1 entries"},
		{"a\n", MaxSegmentEntries + 1, "65537 entries"},
		{"a\n", 2, "1 lines, want 2"},
		{"a\nb\n", 1, "more than its 1 lines"},
		{"\n", 1, "line 0 has 0 bytes"},
		{"a\n\n", 2, "line 1 has 0 bytes"},
		{strings.Repeat("a", MaxLine+1) + "\n", 1, "line 0 has 8193 bytes"},
		{strings.Repeat("a", MaxSegmentBytes+1), 1, "67108865 bytes"},
	} {
		_, err := SplitSegment([]byte(c.body), c.count)
		if !errors.Is(err, ErrMalformedSegment) || !strings.HasSuffix(err.Error(), c.want) {
			t.Errorf("%.20q, %d: got %v, want ErrMalformedSegment: %s", c.body, c.count, err, c.want)
		}
	}
}

func FuzzSplitSegment(f *testing.F) {
	f.Add([]byte("a\nb\n"), 2)
	f.Add([]byte("a\n\nb"), 2)
	f.Fuzz(func(t *testing.T, body []byte, count int) {
		lines, err := SplitSegment(body, count)
		if err != nil {
			return
		}
		var again []Sealed
		for _, line := range lines {
			again = append(again, Sealed{Line: line})
		}
		if len(lines) != count || !bytes.Equal(EncodeSegment(again), body) {
			t.Errorf("split and joined %q into %d differs from %q", body, len(lines), body)
		}
	})
}
