package iam_test

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"cardea/internal/iam"
)

func tenantClient() iam.Principal {
	return iam.Principal{Type: iam.TypeTenant, Name: "c", Tenant: "acme", Merchants: []string{"m-*"}, Actions: []string{"card:*"}}
}

func TestEvaluate(t *testing.T) {
	t.Parallel()
	ask := iam.Request{Action: "card:Store", Tenant: "acme", Merchant: "m-1"}
	for name, c := range map[string]struct {
		who    func(*iam.Principal)
		ask    func(*iam.Request)
		reason string
	}{
		"own merchant":     {nil, nil, "allowed"},
		"no merchant":      {nil, func(r *iam.Request) { r.Merchant = "" }, "allowed"},
		"other merchant":   {nil, func(r *iam.Request) { r.Merchant = "x-1" }, "merchant is not among the principal's merchants"},
		"other action":     {nil, func(r *iam.Request) { r.Action = "custodian:Submit" }, "action is not among the principal's actions"},
		"other tenant":     {nil, func(r *iam.Request) { r.Tenant = "evil" }, "principal belongs to another tenant"},
		"no tenant at all": {func(p *iam.Principal) { p.Tenant = "" }, func(r *iam.Request) { r.Tenant = "" }, "principal belongs to another tenant"},
		"no actions":       {func(p *iam.Principal) { p.Actions = nil }, nil, "action is not among the principal's actions"},
		"no merchants":     {func(p *iam.Principal) { p.Merchants = nil }, nil, "merchant is not among the principal's merchants"},
		"anonymous":        {func(p *iam.Principal) { *p = iam.Anonymous(netip.Addr{}) }, nil, "not authenticated"},
		"zero":             {func(p *iam.Principal) { *p = iam.Principal{} }, nil, "unknown principal type"},
		"system":           {func(p *iam.Principal) { *p = iam.System("sweeper") }, func(r *iam.Request) { r.Tenant = "other" }, "allowed"},
	} {
		who, r := tenantClient(), ask
		if c.who != nil {
			c.who(&who)
		}
		if c.ask != nil {
			c.ask(&r)
		}
		got := iam.Evaluate(who, r)
		if got.Reason != c.reason || got.Allowed != (c.reason == "allowed") {
			t.Errorf("%s: got %+v, want reason %q", name, got, c.reason)
		}
	}
}

// Match agrees with the obvious regular expression.
func TestMatchIsAGlob(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.StringMatching(`[ab*]{0,8}`).Draw(t, "pattern")
		s := rapid.StringMatching(`[ab]{0,8}`).Draw(t, "s")
		re := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, ".*") + "$")
		if got, want := iam.Match(pattern, s), re.MatchString(s); got != want {
			t.Fatalf("Match(%q, %q) = %v, want %v", pattern, s, got, want)
		}
	})
}
