package cli

import (
	"slices"
	"strings"
	"testing"
)

// shellCalls finds the calls of cardea in text that a shell would run, each as
// its arguments. It knows as much of a shell as documents use: quotes, line
// continuation, operators, comments.
func shellCalls(text string) [][]string {
	var calls [][]string
	var command []string
	end := func() {
		if args, ok := cardeaArgs(command); ok {
			calls = append(calls, args)
		}
		command = nil
	}
	for _, w := range shellWords(text) {
		if w.operator {
			end()
			continue
		}
		command = append(command, w.text)
	}
	end()
	return calls
}

// cardeaArgs are the arguments of a command that is cardea, however it is called.
func cardeaArgs(command []string) ([]string, bool) {
	for len(command) > 0 && (strings.Contains(command[0], "=") || slices.Contains([]string{"exec", "sudo", "then", "do", "if", "!"}, command[0])) {
		command = command[1:] // variables and what runs another command
	}
	switch {
	case len(command) > 0 && (command[0] == "cardea" || strings.HasSuffix(command[0], "/cardea")):
		return command[1:], true
	case len(command) > 2 && command[0] == "go" && command[1] == "run" && command[2] == "./cmd/cardea":
		return command[3:], true
	}
	return nil, false
}

type shellWord struct {
	text     string
	operator bool // ends a command
}

func shellWords(text string) []shellWord {
	var words []shellWord
	var w strings.Builder
	in := false   // a word has begun
	skip := false // it is a redirection's file
	flush := func() {
		if in && !skip {
			words = append(words, shellWord{text: w.String()})
		}
		skip = skip && !in
		w.Reset()
		in = false
	}
	for i := 0; i < len(text); i++ {
		next := byte(0)
		if i+1 < len(text) {
			next = text[i+1]
		}
		switch c := text[i]; {
		case c == '\\' && next != 0:
			if i++; next != '\n' {
				w.WriteByte(next)
				in = true
			}
		case c == '\'' || c == '"':
			in = true
			for i++; i < len(text) && text[i] != c; i++ {
				w.WriteByte(text[i])
			}
		case c == '#' && !in:
			for i+1 < len(text) && text[i+1] != '\n' {
				i++
			}
		case strings.IndexByte("\n;&|()`", c) >= 0 || c == '$' && next == '(':
			flush()
			words = append(words, shellWord{operator: true})
			skip = false
		case c == '>' && !strings.HasPrefix(w.String(), "<"), c == '<' && (next < 'a' || next > 'z'):
			if w.String() == "2" || w.String() == "1" {
				in = false // the stream
			}
			flush()
			skip = next != '('
		case c == ' ' || c == '\t':
			flush()
		default:
			w.WriteByte(c)
			in = true
		}
	}
	flush()
	return words
}

func TestShellCallsFindsWhatAShellWouldRun(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"cardea demo":                             {"demo"},
		"  cardea demo --keep ./x && cardea dev":  {"demo --keep ./x", "dev"},
		"go run ./cmd/cardea dev # try":           {"dev"},
		"source <(cardea completion bash)":        {"completion bash"},
		"A=1 sudo cardea audit \\\n  show > out":  {"audit show"},
		"X=$(cardea version) | grep cardea":       {"version"},
		"cardea a 'b c' >> f 2> e; echo cardea d": {"a b c"},
		"/usr/local/bin/cardea serve":             {"serve"},
		"cardea <command> --help":                 {"<command> --help"},
		"cardea x >y\ncardea z":                   {"x", "z"},
		"ls ./cmd/cardea":                         {},
	} {
		got := []string{}
		for _, args := range shellCalls(text) {
			got = append(got, strings.Join(args, " "))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}
