package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// source is the text of all Go files of the project, tests or not.
func source(t *testing.T, tests bool) string {
	t.Helper()
	var all strings.Builder
	for _, dir := range []string{"internal", "cmd"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, e os.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") != tests {
				return err
			}
			b, err := os.ReadFile(path)
			all.Write(b)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all.String()
}

func document(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, "docs", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var (
	metricInSource   = regexp.MustCompile(`"(cardea_[a-z_]+[a-z])"`)
	gaugeOfStore     = regexp.MustCompile(`\.gauge\("([a-z_]+)"`)
	metricInDocument = regexp.MustCompile(`cardea_[a-z_]+[a-z]`)
)

// TestOperationsNamesEveryMetric holds the guide and the code to the same names.
func TestOperationsNamesEveryMetric(t *testing.T) {
	t.Parallel()
	code := source(t, false)
	there := map[string]bool{}
	for _, m := range metricInSource.FindAllStringSubmatch(code, -1) {
		there[m[1]] = true
	}
	for _, m := range gaugeOfStore.FindAllStringSubmatch(code, -1) {
		if !strings.HasPrefix(m[1], "cardea_") {
			there["cardea_store_"+m[1]] = true
		}
	}
	if len(there) < 20 {
		t.Fatalf("only %d metrics in the code: are they looked for in the right way?", len(there))
	}
	named := map[string]bool{
		"cardea_owner": true, "cardea_node": true, "cardea_keys_owner": true, "cardea_keys_node": true, "cardea_keys": true, "cardea_keeper": true, // of PostgreSQL
		"cardea_key": true, "cardea_weight": true, // members of what SIEMs get
	}
	for _, name := range metricInDocument.FindAllString(document(t, "operations.md"), -1) {
		if !there[name] && !named[name] {
			t.Errorf("docs/operations.md names %s, which is no metric", name)
		}
		named[name] = true
	}
	for name := range there {
		if !named[name] {
			t.Errorf("docs/operations.md does not name the metric %s", name)
		}
	}
}

// foreign are messages of the operating system, of TLS, of PostgreSQL and of SQLite.
var foreign = []string{
	"address already in use", "connection refused", "no such host", "timeout", "password authentication failed",
	"certificate signed by unknown authority", "certificate is valid for", "permission denied for table", "permission denied",
	"database disk image is malformed", "file is not a database",
}

// TestOperationsMessagesExist looks for each message of the guide's tables of
// errors in the code.
func TestOperationsMessagesExist(t *testing.T) {
	t.Parallel()
	_, errors, ok := strings.Cut(document(t, "operations.md"), "\n## Errors, and what to do\n")
	errors, _, ok2 := strings.Cut(errors, "\n## Upgrades")
	if !ok || !ok2 {
		t.Fatal("docs/operations.md has lost its section on errors")
	}
	code := source(t, false)
	span := regexp.MustCompile("`([^`]+)`")
	found := 0
	for row := range strings.Lines(errors) {
		cells := strings.Split(row, " | ")
		if !strings.HasPrefix(row, "| ") || len(cells) < 3 {
			continue
		}
		for _, m := range span.FindAllStringSubmatch(cells[0], -1) {
			message := m[1]
			if slices.ContainsFunc(foreign, func(f string) bool { return strings.HasPrefix(message, f) }) || strings.HasPrefix(message, "/") {
				continue
			}
			found++
			for part := range strings.SplitSeq(regexp.MustCompile(`<file>:3: vault\.listn: |cardea/[ab]`).ReplaceAllString(message, "…"), "…") {
				if part = strings.Trim(part, " ,"); part != "" && !strings.Contains(code, part) {
					t.Errorf("docs/operations.md: no code says %q of the message %q", part, message)
				}
			}
		}
	}
	if found < 25 {
		t.Errorf("only %d messages: are they looked for in the right place?", found)
	}
}

// TestPCINamesTestsThatExist holds docs/pci.md to its word.
func TestPCINamesTestsThatExist(t *testing.T) {
	t.Parallel()
	code := source(t, true)
	found := 0
	for _, m := range regexp.MustCompile("`(Test[A-Za-z0-9]+)(?:/([a-z]+))?`").FindAllStringSubmatch(document(t, "pci.md"), -1) {
		found++
		if !strings.Contains(code, "\nfunc "+m[1]+"(t *testing.T)") {
			t.Errorf("docs/pci.md names %s, which does not exist", m[1])
		}
		if m[2] != "" {
			if _, err := os.Stat(filepath.Join("testdata", "script", m[2]+".txtar")); m[1] != "TestScripts" || err != nil {
				t.Errorf("docs/pci.md names %s/%s: %v", m[1], m[2], err)
			}
		}
	}
	if found < 40 {
		t.Errorf("only %d tests are named", found)
	}
}
