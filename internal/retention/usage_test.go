package retention_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"cardea/internal/cloudtrail"
	"cardea/internal/retention"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newUsage(t *testing.T) *retention.Usage {
	t.Helper()
	u, err := retention.NewUsage(noon.Add(-24*time.Hour), noon)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestUsageCountsByKeyPrincipalOperationErrorAndTenant(t *testing.T) {
	t.Parallel()
	u := newUsage(t)
	for i := range 5 {
		u.Add(&cloudtrail.Event{Time: noon.Add(-time.Hour), Source: cloudtrail.SourceVault, Name: "card.retrieve", Principal: "tenant/jws", Tenant: "acme", Keys: []string{"k1"}, Records: 1})
		if i < 2 {
			u.Add(&cloudtrail.Event{Time: noon.Add(-2 * time.Hour), Source: cloudtrail.SourceKMS, Name: "Decrypt", Principal: "arn:aws:iam::1:role/app", Account: "111122223333", Keys: []string{"k2"}, ErrorCode: "AccessDenied"})
		}
	}
	u.Add(&cloudtrail.Event{Time: noon}) // the end is not of the time
	u.Add(&cloudtrail.Event{Time: noon.Add(-25 * time.Hour)})
	r := u.Report(10, noon, []string{"log"})
	if r.Calls != 7 || r.Failed != 2 || r.Records != 5 {
		t.Errorf("%d calls, %d failed, %d records, want 7, 2 and 5", r.Calls, r.Failed, r.Records)
	}
	for name, got := range map[string]struct {
		table retention.Table
		want  string
	}{
		"keys":       {r.Keys, "k1=5/0 k2=2/2"},
		"principals": {r.Principals, "tenant/jws=5/0 arn:aws:iam::1:role/app=2/2"},
		"operations": {r.Operations, "card.retrieve=5/0 kms.amazonaws.com:Decrypt=2/2"},
		"errors":     {r.Errors, "AccessDenied kms.amazonaws.com:Decrypt=2/2"},
		"tenants":    {r.Tenants, "acme=5/0 111122223333=2/2"},
		"released":   {r.Released, "tenant/jws acme=5/0"},
	} {
		var all []string
		for _, c := range got.table.Top {
			all = append(all, fmt.Sprintf("%s=%d/%d", c.Name, c.Calls, c.Failed))
		}
		if text := strings.Join(all, " "); text != got.want || !got.table.Exact {
			t.Errorf("%s: %s (exact %t), want %s", name, text, got.table.Exact, got.want)
		}
	}
	if h := r.Hours[23]; len(r.Hours) != 24 || h.Calls != 5 || h.Records != 5 || r.Hours[22].Failed != 2 {
		t.Errorf("hours: %+v", r.Hours)
	}
}

func TestUsageRefusesTimesItCannotReport(t *testing.T) {
	t.Parallel()
	for want, since := range map[string]time.Time{
		"a report's time ends before it begins": noon,
		"a report is of at most 366 days":       noon.Add(-8785 * time.Hour),
	} {
		if _, err := retention.NewUsage(since, noon); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// TestTopKeepsWhatIsFrequent holds the counts of few places against exact ones.
func TestTopKeepsWhatIsFrequent(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 20).Draw(t, "limit")
		names := rapid.SliceOfN(rapid.IntRange(0, 60), 0, 400).Draw(t, "names")
		exact := map[string]int64{}
		for _, n := range names {
			exact[fmt.Sprint(n)]++
		}
		got, merged := retention.CountNames(limit, names)
		if merged != (len(exact) > limit) || len(got) != min(limit, len(exact)) {
			t.Fatalf("%d names in %d places: %d kept, merged %t", len(exact), limit, len(got), merged)
		}
		kept := map[string]bool{}
		for _, c := range got {
			kept[c.Name] = true
			if have := exact[c.Name]; c.Calls < have || c.Calls-c.Over > have {
				t.Fatalf("%s came %d times, counted %d, over by at most %d", c.Name, have, c.Calls, c.Over)
			}
		}
		for name, n := range exact {
			if n > int64(len(names)/limit) && !kept[name] {
				t.Fatalf("%s, %d of %d, is not among %d kept", name, n, len(names), limit)
			}
		}
	})
}

func TestPageShowsWhatLogsSayAsText(t *testing.T) {
	t.Parallel()
	u := newUsage(t)
	evil := `</script><script>alert(1)</script><img src=x onerror="alert(1)">`
	u.Add(&cloudtrail.Event{Time: noon.Add(-time.Hour), Source: "x", Name: evil, Principal: evil, Tenant: evil, Keys: []string{evil}, ErrorCode: evil, Records: 1})
	var b bytes.Buffer
	if err := u.Report(10, noon, []string{evil}).WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	if n := strings.Count(page, "<script"); n != 2 {
		t.Errorf("%d scripts in the page, want the data and the chart's", n)
	}
	if strings.Contains(page, "<img") || !strings.Contains(page, "&lt;img src=x") {
		t.Error("a name in the log is markup in the page")
	}
	for _, outside := range []string{"src=\"http", "href=", "url(", "@import", "fetch(", "XMLHttpRequest"} {
		if strings.Contains(page, outside) {
			t.Errorf("the page loads something: %s", outside)
		}
	}
}

// TestPageMayRunOnlyItsOwnScript computes the hashes as a browser does.
func TestPageMayRunOnlyItsOwnScript(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	if err := newUsage(t).Report(10, noon, nil).WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	between := func(from, to string) string {
		_, rest, ok := strings.Cut(page, from)
		text, _, ok2 := strings.Cut(rest, to)
		if !ok || !ok2 {
			t.Fatalf("no %s in the page", from)
		}
		return text
	}
	policy := between(`http-equiv="Content-Security-Policy" content="`, `"`)
	policy = strings.NewReplacer("&#39;", "'", "&#43;", "+").Replace(policy)
	want := "default-src 'none'; base-uri 'none'; form-action 'none'; script-src '" + retention.SourceHash(between("<script>", "</script>")) +
		"'; style-src '" + retention.SourceHash(between("<style>", "</style>")) + "'"
	if policy != want {
		t.Errorf("policy %s\n  want %s", policy, want)
	}
	if !strings.Contains(page, "uPlot (v1.6.32)") || !strings.Contains(page, "The MIT License") {
		t.Error("the page does not name what it has from others, and its licence")
	}
}
