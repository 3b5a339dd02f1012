package audit

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// agree holds what the scanner says of a line against decode.
func agree(t interface {
	Helper()
	Fatalf(string, ...any)
}, s *scanner, line []byte,
) (recognised bool) {
	t.Helper()
	at, ok := s.scan(line)
	if !ok {
		return false
	}
	e, err := Decode(line)
	switch {
	case err != nil:
		t.Fatalf("the scanner takes %q, decode does not: %v", line, err)
	case e.Node+`"` != s.node:
		t.Fatalf("the scanner for %s takes %q", s.node, line)
	case !e.Time.Equal(at):
		t.Fatalf("%q: the scanner reads the time %s, decode %s", line, at, e.Time)
	}
	return true
}

func TestScannerRecognisesUsualEntries(t *testing.T) {
	t.Parallel()
	later := testEntry()
	later.Time = later.Time.Add(17*time.Second + 123456*time.Microsecond)
	long := callEntry()
	long.Call.Agent = strings.Repeat("a", maxName)
	empty := callEntry()
	empty.Call.Resources = []string{"", testKeyARN}
	for _, e := range []Entry{testEntry(), later, minimalEntry(), callEntry(), long, empty} {
		s := newScanner(e.Node)
		line := mustSeal(t, e).Line
		for _, minute := range []string{"new", "known"} {
			if !agree(t, s, line) {
				t.Errorf("not recognised, its minute is %s: %s", minute, line)
			}
		}
		if agree(t, newScanner("other"), line) {
			t.Errorf("recognised as one of another node: %s", line)
		}
	}
}

// TestScannerRecognisesEntriesAfterOthers: what it keeps of one entry, to pass over the
// same in the next, does not keep it from recognising one that goes on differently.
func TestScannerRecognisesEntriesAfterOthers(t *testing.T) {
	t.Parallel()
	var lines [][]byte
	for i := range 16 {
		e := callEntry()
		if i&1 != 0 {
			e.Call.TLS = ""
		}
		if i&2 != 0 {
			e.Call.Agent = ""
		}
		if i&4 != 0 {
			e.Who.IP = ""
		}
		if i&8 != 0 {
			e.Tenant = "public"
		}
		lines = append(lines, mustSeal(t, e).Line)
	}
	s := newScanner("n")
	for _, before := range lines {
		for _, line := range lines {
			if _, ok := s.scan(before); !ok {
				t.Fatalf("not recognised: %s", before)
			}
			if !agree(t, s, line) {
				t.Fatalf("not recognised: %s\nafter %s", line, before)
			}
		}
	}
}

// TestScannerAgreesWithDecode: one byte of an entry is another, missing or twice,
// each of them, each in turn another value.
func TestScannerAgreesWithDecode(t *testing.T) {
	t.Parallel()
	taken := 0
	for _, e := range []Entry{testEntry(), minimalEntry(), callEntry()} {
		line := mustSeal(t, e).Line
		s := newScanner(e.Node)
		agree(t, s, line)
		try := func(changed []byte) {
			if agree(t, s, changed) {
				taken++
			}
		}
		for i := range line {
			for c := range 256 {
				changed := bytes.Clone(line)
				changed[i] = byte(c)
				try(changed)
			}
			try(append(bytes.Clone(line[:i]), line[i+1:]...))
			try(append(bytes.Clone(line[:i+1]), line[i:]...))
			try(line[:i])
		}
		for _, after := range []string{" ", "}", "\n", `"`, "\x00"} {
			try(append(bytes.Clone(line), after...))
		}
	}
	if taken == 0 {
		t.Error("no changed line was an entry: nothing was compared")
	}
}

// TestScannerKnowsLimits: at each limit and one over it the scanner and decode agree,
// and at the limit it recognises the entry.
func TestScannerKnowsLimits(t *testing.T) {
	t.Parallel()
	line := string(mustSeal(t, callEntry()).Line)
	full := string(mustSeal(t, testEntry()).Line)
	params := func(n int) string { // an array of n bytes
		const one, most = len(`{"n":"","v":""},`), 200
		var b strings.Builder
		for b.Len()+2*(one+most) <= n {
			b.WriteString(`{"n":"","v":"` + strings.Repeat("v", most) + `"},`)
		}
		left := n - b.Len() - len(`{"n":"","v":""}`)
		return b.String() + `{"n":"` + strings.Repeat("n", left/3) + `","v":"` + strings.Repeat("v", left-left/3) + `"}`
	}
	array := func(name string) string {
		_, rest, _ := strings.Cut(line, `,"`+name+`":[`)
		inner, _, _ := strings.Cut(rest, `]`)
		return inner
	}
	const deep = "12345678-1234-4123-8123-123456789012"
	for name, c := range map[string]struct {
		line, old string
		good, bad string
	}{
		"request":     {full, "019a9b3c-5d2e-7aaa-9a4b-ba9876543210", strings.Repeat("r", maxShort), strings.Repeat("r", maxShort+1)},
		"name":        {full, "hyperswitch", strings.Repeat("n", maxName), strings.Repeat("n", maxName+1)},
		"detail":      {full, "first of its kind", strings.Repeat("d", maxDetail), strings.Repeat("d", maxDetail+1)},
		"code":        {full, "card.store", strings.Repeat("c", maxShort), strings.Repeat("c", maxShort+1)},
		"digits":      {full, "merchant_42", "123456789012", "4111111111111111"},
		"joined":      {full, "merchant_42", "1234-1234-1234x5678", "4111-1111-1111-1111"},
		"slash":       {full, "merchant_42", "1/" + deep, "4111111111111111/" + deep},
		"masked":      {full, "411111******1111", "41111111****1111", "411111111***1111"},
		"few stars":   {full, "411111******1111", "411111***1111", "41111**1111"},
		"two runs":    {full, "411111******1111", "4111********1111", "41**11******1111"},
		"version":     {full, `"key_version":3`, `"key_version":2147483647`, `"key_version":2147483648`},
		"version 0":   {full, `"key_version":3`, `"key_version":1`, `"key_version":0`},
		"leading 0":   {full, `"key_version":3`, `"key_version":10`, `"key_version":010`},
		"year":        {full, `"2026-11-22T08:30:00`, `"1970-01-01T00:00:00`, `"1969-12-31T23:59:59`},
		"issued":      {line, `"issued":"2026-11-22`, `"issued":"9999-12-31`, `"issued":"0001-01-01`},
		"word":        {line, "GenerateDataKey", strings.Repeat("G", maxShort), strings.Repeat("G", maxShort+1)},
		"id":          {line, "AROAEXAMPLE:node-1", strings.Repeat("A", maxPrincipalID), strings.Repeat("A", maxPrincipalID+1)},
		"parameters":  {line, array("context"), params(contextBudget - cutParamLen), params(contextBudget - cutParamLen + 1)},
		"request's":   {line, array("request"), params(requestBudget - cutParamLen), params(requestBudget - cutParamLen + 1)},
		"response's":  {line, array("response"), params(responseBudget - cutParamLen), params(responseBudget - cutParamLen + 1)},
		"no elements": {line, array("context"), `{"n":"","v":""}`, ``},
		"resources":   {line, `["` + testKeyARN + `"]`, `["a","b","","d"]`, `["a","b","c","d","e"]`},
	} {
		if strings.Count(c.line, c.old) == 0 {
			t.Fatalf("%s: nothing to change", name)
		}
		node := "n"
		if c.line == full {
			node = "node-1"
		}
		with := func(value string) []byte { return []byte(strings.Replace(c.line, c.old, value, 1)) }
		s := newScanner(node)
		if !agree(t, s, with(c.good)) {
			_, err := Decode(with(c.good))
			t.Errorf("%s: not recognised: %s (decode: %v)", name, with(c.good), err)
		}
		if _, ok := s.scan(with(c.bad)); ok {
			t.Errorf("%s: recognised: %s", name, with(c.bad))
		}
		if _, err := Decode(with(c.bad)); err == nil {
			t.Errorf("%s: decode takes %s", name, with(c.bad))
		}
	}
}

// TestScannerAgreesOnWhatClientsSupply: whatever is sealed, the scanner is right
// about it, and right about where the entry of another minute begins.
func TestScannerAgreesOnWhatClientsSupply(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		free := hostileString()
		sc := newScanner("node-1")
		for range 3 {
			e := testEntry()
			if rapid.Bool().Draw(t, "call") {
				e.Call = callEntry().Call
				e.Call.Agent, e.Call.Context[0].Value = free.Draw(t, "agent"), free.Draw(t, "context")
				e.Call.Resources = append(e.Call.Resources, free.Draw(t, "resource"))
			}
			e.Time = e.Time.Add(time.Duration(rapid.Int64Range(-1e12, 1e12).Draw(t, "time")))
			e.Resource.Customer, e.Resource.MaskedPAN, e.Detail = free.Draw(t, "customer"), free.Draw(t, "pan"), free.Draw(t, "detail")
			sealed, err := e.Seal()
			if err != nil {
				t.Fatal(err)
			}
			agree(t, sc, sealed.Line)
		}
	})
}

// TestEntriesThatMatterAreDecoded: what verification looks into is never passed over.
func TestEntriesThatMatterAreDecoded(t *testing.T) {
	t.Parallel()
	for op, want := range map[string]bool{OpLogPrune: true, OpLogPrune + "d": false, "card.store": false} {
		e := testEntry()
		e.Op = op
		at, got, err := newEntryReader(e.Node).read(mustSeal(t, e).Line)
		if err != nil || !at.Equal(e.Time) || (got != nil) != want || got != nil && got.Op != op {
			t.Errorf("%s: got %v, %+v, %v, want decoded %v", op, at, got, err, want)
		}
	}
	e := testEntry()
	if _, _, err := newEntryReader("other").read(mustSeal(t, e).Line); !errors.Is(err, ErrMalformedEntry) || !strings.HasSuffix(err.Error(), "it is of node node-1") {
		t.Errorf("of another node: %v", err)
	}
}

func TestScannerTakesNoMemory(t *testing.T) {
	lines := [][]byte{mustSeal(t, testEntry()).Line, mustSeal(t, numberedEntry("node-1", 7)).Line}
	s := newScanner("node-1")
	if n := testing.AllocsPerRun(100, func() {
		for _, line := range lines {
			if _, ok := s.scan(line); !ok {
				t.Error("not recognised")
			}
		}
	}); n > 0 {
		t.Errorf("%v allocations for two entries", n)
	}
}

// FuzzScanner: what the scanner takes decode takes, with the same time; and a scanner
// that has read other lines before says the same.
func FuzzScanner(f *testing.F) {
	full := testEntry()
	full.Detail = "plain"
	for _, e := range []Entry{full, minimalEntry(), callEntry()} {
		s, err := e.Seal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(s.Line, s.Line)
	}
	f.Fuzz(func(t *testing.T, before, line []byte) {
		for _, node := range []string{"n", "node-1"} {
			fresh, used := newScanner(node), newScanner(node)
			used.scan(before)
			if a, b := agree(t, fresh, line), agree(t, used, line); a != b {
				t.Errorf("%q after %q: recognised %v, without %v", line, before, b, a)
			}
		}
	})
}
