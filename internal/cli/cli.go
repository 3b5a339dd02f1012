// Package cli is the command line: one file a subcommand. It reads flags, calls
// package app or a domain service, and prints. It decides nothing else.
//
// Exit status: 0 done, 1 failed, 2 wrong use, 3 findings (a check ran and found
// what it looks for).
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// Exit statuses.
const (
	exitDone     = 0
	exitFailed   = 1
	exitWrongUse = 2
	exitFindings = 3
)

// Process is what a command gets of the process it runs in.
type Process struct {
	Args   []string
	Env    []string
	Stdin  *os.File
	Stdout io.Writer
	Stderr io.Writer
	Now    func() time.Time // default time.Now
}

// errFindings ends a command whose check found something; it was printed already.
var errFindings = errors.New("findings")

// usageError is a command line that cannot be meant.
type usageError struct{ error }

// commands is the whole command line.
type commands struct {
	Dev        devCommand        `cmd:"" help:"Start a vault to try, with data in a folder and keys that unseal themselves. Not for real cards."`
	Demo       demoCommand       `cmd:"" help:"Run the whole story on a throw-away folder and exit non-zero if any step is not as it should be."`
	Serve      serveCommand      `cmd:"" help:"Serve the vault as the configuration says."`
	Config     configCommands    `cmd:"" help:"Look at the configuration."`
	Custodian  custodianCommands `cmd:"" help:"Make, use and replace the custodians' shares of a tenant's master key."`
	Audit      auditCommands     `cmd:"" help:"Verify, read and export the audit log."`
	Version    versionCommand    `cmd:"" help:"Print version, build and FIPS 140-3 module."`
	Completion completionCommand `cmd:"" help:"Print a completion script for a shell."`
}

// errExit is how kong's exits (after --help) come back to Main.
type errExit int

func (e errExit) Error() string { return fmt.Sprintf("exit %d", int(e)) }

// Main runs the command line and returns its exit status.
func Main(ctx context.Context, p Process) (code int) {
	if p.Now == nil {
		p.Now = time.Now //nolint:forbidigo // the clock of the process begins here
	}
	defer func() {
		// kong leaves by its exit function in the middle of parsing, after --help.
		if r := recover(); r != nil {
			e, ok := r.(errExit)
			if !ok {
				panic(r)
			}
			code = int(e)
		}
	}()
	parser, err := newParser(p)
	if err != nil {
		fmt.Fprintln(p.Stderr, "cardea:", err)
		return exitFailed
	}
	args := p.Args
	if len(args) == 0 {
		args = []string{"--help"}
	}
	kctx, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(p.Stderr, "cardea: %v\nSee 'cardea %s'.\n", err, strings.TrimSpace(commandPath(err)+" --help"))
		return exitWrongUse
	}
	kctx.BindTo(ctx, (*context.Context)(nil))
	return report(p, kctx.Run(&p, parser))
}

func newParser(p Process) (*kong.Kong, error) {
	return kong.New(&commands{},
		kong.Name("cardea"),
		kong.Description("Card vault and key management for PCI DSS. 'cardea dev' starts one to try, 'cardea demo' shows what it does."),
		kong.Writers(p.Stdout, p.Stderr),
		kong.Exit(func(code int) { panic(errExit(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.UsageOnError(),
	)
}

// commandPath is the subcommand in which a parse error happened.
func commandPath(err error) string {
	var pe *kong.ParseError
	if errors.As(err, &pe) && pe.Context != nil {
		return pe.Context.Command()
	}
	return ""
}

func report(p Process, err error) int {
	var usage usageError
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errFindings):
		return exitFindings
	case errors.As(err, &usage):
		fmt.Fprintln(p.Stderr, "cardea:", err)
		return exitWrongUse
	}
	fmt.Fprintln(p.Stderr, "cardea:", err)
	return exitFailed
}

// output is the flag of every command that prints a table.
type output struct {
	Output string `short:"o" enum:"text,json" default:"text" help:"Print text or json."`
}

// print writes v as JSON, or calls text.
func (o output) print(w io.Writer, v any, text func(io.Writer) error) error {
	if o.Output != "json" {
		return text(w)
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
