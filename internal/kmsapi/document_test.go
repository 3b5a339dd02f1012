package kmsapi_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"cardea/internal/identity"
	"cardea/internal/kms"
	"cardea/internal/kmsapi"
)

// TestTheCompatibilityStatementNamesEverything holds docs/kms-compatibility.md to
// the tables of the code.
func TestTheCompatibilityStatementNamesEverything(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../docs/kms-compatibility.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	_, table, _ := strings.Cut(text, "| operation | state | differences |\n|---|---|---|\n")
	table, _, ok := strings.Cut(table, "\n\n")
	if !ok {
		t.Fatal("the table of operations is not there")
	}
	var rows []string
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) != 5 || strings.TrimSpace(cells[2]) == "" {
			t.Errorf("no row of the table: %s", line)
			continue
		}
		rows = append(rows, strings.TrimSpace(cells[1]))
	}
	var want []string
	for _, op := range kms.Operations() {
		want = append(want, op.Name)
	}
	slices.Sort(want)
	if !slices.Equal(rows, want) {
		t.Errorf("got  %v\nwant %v", rows, want)
	}
	for _, name := range kmsapi.Actions() {
		if !strings.Contains(text, "\n| "+name+" |") {
			t.Errorf("%s is not in the table of STS", name)
		}
	}
	for _, code := range kmsapi.WireCodes() {
		if !strings.Contains(text, "`"+string(code)+"`") {
			t.Errorf("%s is not told", code)
		}
	}
	for code := range kmsapi.QueryStatuses() {
		administrative := []identity.Code{
			identity.CodeConcurrentModification, identity.CodeDeleteConflict, identity.CodeEntityAlreadyExists, identity.CodeLimitExceeded,
			identity.CodeNoSuchEntity, identity.CodeRegionDisabled, "RequestEntityTooLarge",
		}
		if !slices.Contains(administrative, code) && !strings.Contains(text, "`"+string(code)+"`") {
			t.Errorf("%s is not told", code)
		}
	}
}
