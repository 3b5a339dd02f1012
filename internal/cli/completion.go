package cli

import (
	"fmt"
	"io"
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
	words := map[string][]string{}
	collect(parser.Model.Node, "", words)
	switch c.Shell {
	case "fish":
		return fishCompletion(p.Stdout, parser.Model.Node, nil)
	case "zsh":
		fmt.Fprintln(p.Stdout, "#compdef cardea\nautoload -U +X bashcompinit && bashcompinit")
	}
	return bashCompletion(p.Stdout, words)
}

// collect maps the path of each command to the words that may follow it.
func collect(n *kong.Node, path string, words map[string][]string) {
	for _, f := range n.AllFlags(true) {
		for _, flag := range f {
			words[path] = append(words[path], "--"+flag.Name)
		}
	}
	for _, child := range n.Children {
		words[path] = append(words[path], child.Name)
		collect(child, strings.TrimSpace(path+" "+child.Name), words)
	}
	for _, arg := range n.Positional {
		words[path] = append(words[path], arg.EnumSlice()...)
	}
}

func bashCompletion(w io.Writer, words map[string][]string) error {
	var b strings.Builder
	b.WriteString("_cardea() {\n  local path=() w\n  for w in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do [[ $w == -* ]] || path+=(\"$w\"); done\n  case \"${path[*]}\" in\n")
	for path, list := range words {
		fmt.Fprintf(&b, "  %q) COMPREPLY=($(compgen -W %q -- \"${COMP_WORDS[COMP_CWORD]}\")) ;;\n", path, strings.Join(list, " "))
	}
	b.WriteString("  *) COMPREPLY=($(compgen -f -- \"${COMP_WORDS[COMP_CWORD]}\")) ;;\n  esac\n}\ncomplete -o default -F _cardea cardea\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func fishCompletion(w io.Writer, n *kong.Node, path []string) error {
	condition := "__fish_use_subcommand"
	if len(path) > 0 {
		condition = "__fish_seen_subcommand_from " + path[len(path)-1]
	}
	for _, child := range n.Children {
		if _, err := fmt.Fprintf(w, "complete -c cardea -f -n %q -a %s -d %q\n", condition, child.Name, child.Help); err != nil {
			return err
		}
		if err := fishCompletion(w, child, append(path, child.Name)); err != nil {
			return err
		}
	}
	for _, f := range n.Flags {
		if _, err := fmt.Fprintf(w, "complete -c cardea -n %q -l %s -d %q\n", condition, f.Name, f.Help); err != nil {
			return err
		}
	}
	return nil
}
