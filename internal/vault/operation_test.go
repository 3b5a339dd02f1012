package vault_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"cardea/internal/audit"
	"cardea/internal/iam"
	"cardea/internal/vault"
)

func TestOperationTableIsWhole(t *testing.T) {
	t.Parallel()
	names, actions := map[string]bool{}, map[string]bool{}
	for _, op := range vault.Operations() {
		if !regexp.MustCompile(`^[a-z]+(\.[a-z]+)?$`).MatchString(op.Name) || names[op.Name] {
			t.Errorf("name %q is not one of its own", op.Name)
		}
		if !regexp.MustCompile(`^[a-z]+:[A-Z][A-Za-z]+$`).MatchString(op.Action) || actions[op.Action] {
			t.Errorf("%s: action %q is not one of its own", op.Name, op.Action)
		}
		if !regexp.MustCompile(`^10\.2\.1\.[1-7]$`).MatchString(op.PCI) {
			t.Errorf("%s: PCI DSS requirement %q", op.Name, op.PCI)
		}
		if op.Releases && op.PCI != "10.2.1.1" {
			t.Errorf("%s gives out cardholder data: its entry is by 10.2.1.1, not %s", op.Name, op.PCI)
		}
		if op.Releases && op.Sealed {
			t.Errorf("%s gives out cardholder data of a locked tenant", op.Name)
		}
		names[op.Name], actions[op.Action] = true, true
		e := audit.Entry{
			ID: "01890000-0000-7000-8000-000000000000", Time: newClock().now(), Node: "n", Who: audit.Actor{Type: "system", Auth: "internal"},
			Op: op.Name, PCI: op.PCI, Resource: audit.Resource{Kind: op.Kind}, Outcome: audit.Allowed, Result: "x",
		}
		if _, err := e.Seal(); err != nil {
			t.Errorf("%s cannot be in the log: %v", op.Name, err)
		}
	}
}

// Nothing is allowed to a principal that has no actions, and everything to one
// with the operation's own.
func TestOperationActionsAreThoseOfPolicies(t *testing.T) {
	t.Parallel()
	for _, op := range vault.Operations() {
		who := client("acme")
		who.Actions = []string{op.Action}
		if !iam.Evaluate(who, iam.Request{Action: op.Action, Tenant: "acme"}).Allowed {
			t.Errorf("%s is not allowed by its own action", op.Name)
		}
		who.Actions = nil
		if iam.Evaluate(who, iam.Request{Action: op.Action, Tenant: "acme"}).Allowed {
			t.Errorf("%s is allowed without any action", op.Name)
		}
	}
}

// Every declared operation is in the table, and somebody performs it.
func TestEveryOperationIsInTheTableAndInUse(t *testing.T) {
	t.Parallel()
	declared := map[string]int{}
	for _, name := range identifiers(t, "operation.go") {
		if strings.HasPrefix(name, "Op") && len(name) > 2 && name != "Operation" && name != "Operations" {
			declared[name]++
		}
	}
	if len(declared) != len(vault.Operations()) {
		t.Errorf("%d operations are declared, %d in the table", len(declared), len(vault.Operations()))
	}
	used := map[string]bool{}
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || filepath.Base(path) == "operation.go" {
			return err
		}
		for _, name := range identifiers(t, path) {
			used[name] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, n := range declared {
		if n < 2 {
			t.Errorf("%s is declared, but not in the table", name)
		}
		if !used[name] {
			t.Errorf("nobody performs %s", name)
		}
	}
}

func identifiers(t *testing.T, path string) []string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	ast.Inspect(f, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok {
			names = append(names, id.Name)
		}
		return true
	})
	return names
}
