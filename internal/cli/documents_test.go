package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// documents are the texts that show how cardea is called.
func documents(t *testing.T) map[string]string {
	t.Helper()
	root := filepath.Join("..", "..")
	texts := map[string]string{}
	for _, name := range []string{".", "docs", "deploy", ".ci", "Makefile"} {
		err := filepath.WalkDir(filepath.Join(root, name), func(path string, e os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if e.IsDir() {
				if name == "." && path != root {
					return filepath.SkipDir
				}
				return nil
			}
			if name == "." && filepath.Ext(path) != ".md" {
				return nil
			}
			b, err := os.ReadFile(path)
			texts[strings.TrimPrefix(path, root+string(filepath.Separator))] = string(b)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return texts
}

var (
	fence  = regexp.MustCompile("(?ms)^```[^\n]*\n(.*?)^```")
	inline = regexp.MustCompile("`(cardea [^`]+)`")
	label  = regexp.MustCompile(`^cardea [a-z ]+ v?[0-9]+$`) // that separates the uses of keys
	named  = regexp.MustCompile(`'(cardea [a-z][^']*)'`)
)

// TestDocumentsShowOnlyCommandsThatExist looks at every call of cardea that a
// document or file of ours shows, in blocks, between backticks, in comments.
func TestDocumentsShowOnlyCommandsThatExist(t *testing.T) {
	t.Parallel()
	root := model(t).Model.Node
	found := 0
	for name, text := range documents(t) {
		var calls [][]string
		if filepath.Ext(name) == ".md" {
			for _, block := range fence.FindAllStringSubmatch(text, -1) {
				calls = append(calls, shellCalls(block[1])...)
			}
			if strings.HasPrefix(name, filepath.Join("docs", "spec")) {
				text = "" // its words in backticks are labels of formats
			}
			for _, span := range inline.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
				if !label.MatchString(span[1]) {
					calls = append(calls, shellCalls(strings.ReplaceAll(span[1], "\n", " "))...)
				}
			}
		} else {
			for line := range strings.Lines(text) {
				line = strings.TrimLeft(strings.TrimSpace(line), "# ")
				for _, prefix := range []string{"ExecStartPre=", "ExecStart=", "$(GO) run ./cmd/"} {
					line = strings.TrimPrefix(line, prefix)
				}
				calls = append(calls, shellCalls(line)...)
			}
		}
		for _, args := range calls {
			found++
			if err := exists(root, args); err != nil {
				t.Errorf("%s shows 'cardea %s': %v", name, strings.Join(args, " "), err)
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d calls of cardea in all documents: are they looked for in the right places?", found)
	}
}

// TestMessagesNameOnlyCommandsThatExist does the same for what the program itself
// tells people to run.
func TestMessagesNameOnlyCommandsThatExist(t *testing.T) {
	t.Parallel()
	root := model(t).Model.Node
	found := 0
	err := filepath.WalkDir("..", func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		b, err := os.ReadFile(path)
		for _, m := range named.FindAllStringSubmatch(string(b), -1) {
			if strings.ContainsAny(m[1], "%\\+") {
				continue // not the text as it is shown
			}
			found++
			if err := exists(root, strings.Fields(m[1])[1:]); err != nil {
				t.Errorf("%s: %q: %v", path, m[1], err)
			}
		}
		return err
	})
	if err != nil || found < 10 {
		t.Errorf("%d messages, %v", found, err)
	}
}

// exists says what of a call there is not: a subcommand or a flag. That a flag
// is missing is no error: text shows parts of calls.
func exists(n *kong.Node, args []string) error {
	for i := 0; i < len(args); i++ {
		a := args[i]
		if strings.HasPrefix(a, "<") || a == "…" || a == "..." {
			return nil // left to the reader
		}
		if strings.HasPrefix(a, "-") && len(a) > 1 {
			name, _, given := strings.Cut(a, "=")
			f := flagOf(n, name)
			if f == nil {
				return fmt.Errorf("no flag %s", name)
			}
			if !given && !f.IsBool() {
				i++
			}
			continue
		}
		if len(n.Children) == 0 {
			if len(n.Positional) == 0 {
				return fmt.Errorf("no argument %q", a)
			}
			continue
		}
		next := n
		for _, child := range n.Children {
			if child.Name == a {
				next = child
			}
		}
		if next == n {
			return fmt.Errorf("no command %q", a)
		}
		n = next
	}
	return nil
}

func flagOf(n *kong.Node, name string) *kong.Flag {
	for _, group := range n.AllFlags(false) {
		for _, f := range group {
			for _, s := range spellings(f) {
				if s == name {
					return f
				}
			}
		}
	}
	return nil
}

func TestExistsRefusesWhatThereIsNot(t *testing.T) {
	t.Parallel()
	root := model(t).Model.Node
	for call, want := range map[string]string{
		"audit verify --config cardea.toml": "",
		"audit":                             "",
		"custodian init -c x --tenant acme": "",
		"<command> --help":                  "",
		"audit notarise":                    `no command "notarise"`,
		"audit verify --key x":              "no flag --key",
		"serve now":                         `no argument "now"`,
		"--version":                         "no flag --version",
	} {
		if err := exists(root, strings.Fields(call)); (err == nil) != (want == "") || err != nil && err.Error() != want {
			t.Errorf("%q: got %v, want %q", call, err, want)
		}
	}
}
