package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Help implements kong.HelpProvider.
func (completionCommand) Help() string {
	return "Examples:\n  source <(cardea completion bash)\n  cardea completion zsh > \"${fpath[1]}/_cardea\"\n  cardea completion fish > ~/.config/fish/completions/cardea.fish"
}

func (c completionCommand) Run(p *Process, parser *kong.Kong) error {
	places := walkCommands(parser.Model.Node, "")
	var text string
	switch c.Shell {
	case "fish":
		text = fishCompletion(places)
	case "zsh":
		text = zshCompletion(places)
	default:
		text = bashCompletion(places)
	}
	_, err := io.WriteString(p.Stdout, text)
	return err
}

// place is a command with what may follow it.
type place struct {
	path     string // "custodian init"; empty is cardea itself
	help     string
	children []string
	flags    []*kong.Flag
	args     []*kong.Positional
}

// walkCommands lists a command and all below it, in the order of the help.
func walkCommands(n *kong.Node, path string) []place {
	p := place{path: path, help: n.Help, args: n.Positional}
	for _, group := range n.AllFlags(true) {
		p.flags = append(p.flags, group...)
	}
	all := []place{p}
	for _, child := range n.Children {
		all[0].children = append(all[0].children, child.Name)
		all = append(all, walkCommands(child, strings.TrimSpace(path+" "+child.Name))...)
	}
	return all
}

// words may stand where a value of the flag or argument is not.
func (p place) words() []string {
	words := slices.Clone(p.children)
	for _, a := range p.args {
		words = append(words, a.EnumSlice()...)
	}
	for _, f := range p.flags {
		words = append(words, "--"+f.Name)
	}
	return words
}

// takesFiles says whether an argument is the name of a file.
func (p place) takesFiles() bool {
	return slices.ContainsFunc(p.args, func(a *kong.Positional) bool { return a.Tag.Type == "path" })
}

// value is what completes a flag's value.
type value struct {
	none  bool     // it has no value
	files bool     // names of files
	words []string // one of these; nil is free text
}

func valueOf(f *kong.Flag) value {
	words := slices.DeleteFunc(f.EnumSlice(), func(w string) bool { return w == "" })
	return value{none: f.IsBool() || f.IsCounter(), files: f.Tag.Type == "path", words: words}
}

// spellings are how a flag is written.
func spellings(f *kong.Flag) []string {
	all := []string{"--" + f.Name}
	if f.Short != 0 {
		all = append(all, "-"+string(f.Short))
	}
	if f.Tag.Negatable != "" {
		all = append(all, "--no-"+f.Name)
	}
	return all
}

// caseTable writes the two tables that bash and zsh share: which words are
// commands, and what completes what. emit writes a choice of words, or of files
// if there are none.
func caseTable(b *strings.Builder, places []place, files string, emit func([]string) string) {
	b.WriteString("  for w in \"${before[@]}\"; do\n    case \"$cmd $w\" in\n")
	for _, p := range places {
		for _, child := range p.children {
			fmt.Fprintf(b, "      %q) cmd=%q ;;\n", p.path+" "+child, strings.TrimSpace(p.path+" "+child))
		}
	}
	b.WriteString("    esac\n  done\n  case \"$cmd $prev\" in\n")
	for _, p := range places {
		for _, f := range p.flags {
			v := valueOf(f)
			if v.none {
				continue
			}
			for _, s := range spellings(f) {
				action := ":"
				if v.files {
					action = files
				} else if len(v.words) > 0 {
					action = emit(v.words)
				}
				fmt.Fprintf(b, "    %q) %s; return ;;\n", p.path+" "+s, action)
			}
		}
	}
	b.WriteString("  esac\n  case \"$cmd\" in\n")
	for _, p := range places {
		action := emit(p.words())
		if p.takesFiles() {
			action += "; " + files
		}
		fmt.Fprintf(b, "    %q) %s ;;\n", p.path, action)
	}
	b.WriteString("  esac\n")
}

func bashCompletion(places []place) string {
	var b strings.Builder
	b.WriteString("# bash completion for cardea\n_cardea() {\n" +
		"  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} cmd=\"\" w\n" +
		"  local before=(\"${COMP_WORDS[@]:1:COMP_CWORD-1}\")\n  COMPREPLY=()\n")
	caseTable(&b, places, `COMPREPLY+=($(compgen -f -- "$cur"))`, func(words []string) string {
		return fmt.Sprintf(`COMPREPLY=($(compgen -W %q -- "$cur"))`, strings.Join(words, " "))
	})
	b.WriteString("}\ncomplete -o default -F _cardea cardea\n")
	return b.String()
}

func zshCompletion(places []place) string {
	var b strings.Builder
	b.WriteString("#compdef cardea\n_cardea() {\n" +
		"  local prev=$words[CURRENT-1] cmd=\"\" w\n  local -a before=(\"${(@)words[2,CURRENT-1]}\")\n")
	caseTable(&b, places, "_files", func(words []string) string { return "compadd -- " + strings.Join(words, " ") })
	b.WriteString("}\nif [[ ${funcstack[1]} == _cardea ]]; then _cardea \"$@\"; else compdef _cardea cardea; fi\n")
	return b.String()
}

func fishCompletion(places []place) string {
	var b strings.Builder
	b.WriteString("# fish completion for cardea\ncomplete -c cardea -f\n")
	help := map[string]string{}
	for _, p := range places {
		help[p.path] = p.help
	}
	for _, p := range places {
		// In p: every word of its path was typed, and no word of a command below it.
		var conditions []string
		for w := range strings.FieldsSeq(p.path) {
			conditions = append(conditions, "__fish_seen_subcommand_from "+w)
		}
		if len(p.children) > 0 {
			conditions = append(conditions, "not __fish_seen_subcommand_from "+strings.Join(p.children, " "))
		}
		in := strings.Join(conditions, "; and ")
		for _, child := range p.children {
			fmt.Fprintf(&b, "complete -c cardea -n %s -a %s -d %s\n", fishQuoted(in), child, fishQuoted(help[strings.TrimSpace(p.path+" "+child)]))
		}
		for _, a := range p.args {
			if words := a.EnumSlice(); len(words) > 0 {
				fmt.Fprintf(&b, "complete -c cardea -n %s -a %s\n", fishQuoted(in), fishQuoted(strings.Join(words, " ")))
			}
		}
		if p.takesFiles() {
			fmt.Fprintf(&b, "complete -c cardea -n %s -F\n", fishQuoted(in))
		}
		for _, f := range p.flags {
			fmt.Fprintf(&b, "complete -c cardea -n %s -l %s", fishQuoted(in), f.Name)
			if f.Short != 0 {
				fmt.Fprintf(&b, " -s %c", f.Short)
			}
			switch v := valueOf(f); {
			case v.files:
				b.WriteString(" -r -F")
			case len(v.words) > 0:
				fmt.Fprintf(&b, " -x -a %s", fishQuoted(strings.Join(v.words, " ")))
			case !v.none:
				b.WriteString(" -x")
			}
			fmt.Fprintf(&b, " -d %s\n", fishQuoted(f.Help))
		}
	}
	return b.String()
}

func fishQuoted(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}
