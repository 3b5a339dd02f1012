package detect_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cardea/internal/detect"
)

// TestExampleFileIsWhatItSays parses the example of the documents and compares the
// thresholds that it calls those that ship.
func TestExampleFileIsWhatItSays(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(filepath.Join("..", "..", "deploy", "detection.example.toml"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := detect.ParseRules(b)
	if err != nil {
		t.Fatal(err)
	}
	base, err := detect.ParseRules(nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.Settings["B1"] != base.Settings["B1"] || r.Engine != base.Engine || r.Settings["R6"] != base.Settings["R6"] {
		t.Errorf("the example has %+v and %+v, what ships is %+v and %+v", r.Settings["B1"], r.Engine, base.Settings["B1"], base.Engine)
	}
}

// TestDocumentHasEveryRule looks for each rule and its requirements in docs/detection.md.
func TestDocumentHasEveryRule(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", "detection.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range detect.Catalogue() {
		row := ""
		for line := range strings.Lines(string(b)) {
			if strings.HasPrefix(line, "| "+c.ID+" | **") {
				row = line
			}
		}
		for _, want := range append([]string{c.Title}, c.PCI...) {
			if !strings.Contains(row, want) {
				t.Errorf("docs/detection.md: the row of %s has no %q: %s", c.ID, want, row)
			}
		}
	}
}
