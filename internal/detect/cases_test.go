package detect

import (
	"strings"
	"testing"
)

// TestShippedCases runs the cases that ship, and asks for one that fires and one
// that is silent of each rule.
func TestShippedCases(t *testing.T) {
	t.Parallel()
	results, err := RunShippedCases(nil)
	if err != nil {
		t.Fatal(err)
	}
	type both struct{ fires, silent bool }
	got := map[string]both{}
	for _, r := range results {
		b := got[r.Rule]
		b.fires, b.silent = b.fires || r.Fires, b.silent || !r.Fires
		got[r.Rule] = b
		if !r.OK {
			t.Errorf("%s %q: fires %v expected; %s", r.Rule, r.Name, r.Fires, r.Said)
		}
	}
	for _, r := range Catalogue() {
		if b := got[r.ID]; !b.fires || !b.silent {
			t.Errorf("%s: a firing case %v, a silent case %v", r.ID, b.fires, b.silent)
		}
	}
}

func TestCasesRefuse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"[[case]]\nrule = \"R99\"\nevents = [{ name = \"Encrypt\" }]":                   "no such rule",
		"[[case]]\nrule = \"R1\"":                                                       "it has no events",
		"[[case]]\nrule = \"R1\"\nevent = 1":                                            `no such setting "case.event"`,
		"[[case]]\nrule = \"R1\"\nevents = [{ params = \"{\" }]":                        "params is not JSON",
		"[[case]]\nrule = \"R1\"\nevents = [{ vary = [\"x\"] }]":                        `vary: "x"`,
		"[[case]]\nrule = \"R1\"\nhistory = [{ name = \"Encrypt\" }]":                   "history needs every",
		"rules = \"x = 1\"\n[[case]]\nrule = \"R1\"\nevents = [{ name = \"Encrypt\" }]": `no such setting "x"`,
		"[[case]]\nrule = \"R1\"\nevents = [{ count = 2000000 }]":                       "at most",
	} {
		if _, err := RunCases([]byte(text), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
