package cli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// run is one run of the command line, with what it printed.
func run(t *testing.T, p Process, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	p.Args, p.Stdout, p.Stderr = args, &out, &errs
	code = Main(t.Context(), p)
	return code, out.String(), errs.String()
}

func model(t *testing.T) *kong.Kong {
	t.Helper()
	parser, err := newParser(Process{Stdout: &bytes.Buffer{}, Stderr: &bytes.Buffer{}})
	if err != nil {
		t.Fatal(err)
	}
	return parser
}

// leaves are the commands that do something, by path.
func leaves(n *kong.Node, path string) map[string]*kong.Node {
	if len(n.Children) == 0 {
		return map[string]*kong.Node{path: n}
	}
	all := map[string]*kong.Node{}
	for _, child := range n.Children {
		for p, leaf := range leaves(child, strings.TrimSpace(path+" "+child.Name)) {
			all[p] = leaf
		}
	}
	return all
}

func TestEveryCommandHasHelpWithExamplesThatParse(t *testing.T) {
	t.Parallel()
	for path, leaf := range leaves(model(t).Model.Node, "") {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			code, help, stderr := run(t, Process{}, append(strings.Fields(path), "--help")...)
			if code != exitDone || stderr != "" {
				t.Errorf("--help exits with %d and says %q", code, stderr)
			}
			if !strings.Contains(help, "Usage: cardea "+path) || !strings.HasSuffix(strings.TrimSpace(leaf.Help), ".") {
				t.Errorf("--help has no usage, or the sentence about the command no end:\n%s", help)
			}
			_, examples, ok := strings.Cut(leaf.Detail, "Examples:\n")
			if !ok || !strings.Contains(help, "Examples:") {
				t.Fatalf("no examples:\n%s", help)
			}
			examples, _, _ = strings.Cut(examples, "\n\n")
			calls := shellCalls(examples)
			mine := 0
			for _, args := range calls {
				if _, err := model(t).Parse(args); err != nil {
					t.Errorf("example 'cardea %s': %v", strings.Join(args, " "), err)
				}
				if strings.HasPrefix(strings.Join(args, " ")+" ", path+" ") {
					mine++
				}
			}
			if mine == 0 {
				t.Errorf("none of the examples shows the command itself: %q", calls)
			}
		})
	}
}

func TestEveryFlagIsExplained(t *testing.T) {
	t.Parallel()
	for path, leaf := range leaves(model(t).Model.Node, "") {
		for _, group := range leaf.AllFlags(true) {
			for _, f := range group {
				if !strings.HasSuffix(f.Help, ".") {
					t.Errorf("cardea %s --%s: its help is no sentence: %q", path, f.Name, f.Help)
				}
				if f.HasDefault && !f.IsBool() && f.Enum == "" && f.Default != "0" && !strings.Contains(f.Help, f.Default) && !strings.Contains(f.FormatPlaceHolder(), f.Default) {
					t.Errorf("cardea %s --%s: help does not tell the default %s", path, f.Name, f.Default)
				}
			}
		}
	}
}

func TestHelpOfEverythingNamesEveryCommand(t *testing.T) {
	t.Parallel()
	code, help, _ := run(t, Process{})
	if code != exitDone {
		t.Errorf("cardea alone exits with %d", code)
	}
	for path := range leaves(model(t).Model.Node, "") {
		if !strings.Contains(help, "\n  "+path+" ") {
			t.Errorf("cardea --help does not name %q:\n%s", path, help)
		}
	}
}
