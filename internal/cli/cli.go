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
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

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

	sleep func(context.Context, time.Duration) error // for tests
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// errFindings ends a command whose check found something; it was printed already.
var errFindings = errors.New("findings")

// usageError is a command line that cannot be meant.
type usageError struct{ error }

// commands is the whole command line.
type commands struct {
	Dev        devCommand        `cmd:"" help:"Start a vault to try, and a key service, with data in a folder and keys that unseal themselves. Not for real cards."`
	Demo       demoCommand       `cmd:"" help:"Run the whole story on a throw-away folder and exit non-zero if any step is not as it should be."`
	Serve      serveCommand      `cmd:"" help:"Serve the vault, the key service, or both, as the configuration says."`
	Config     configCommands    `cmd:"" help:"Look at the configuration."`
	Custodian  custodianCommands `cmd:"" help:"Make, use and replace the custodians' shares of a tenant's master key."`
	Audit      auditCommands     `cmd:"" help:"Verify, read and export the audit log."`
	Keys       keysCommands      `cmd:"" help:"See, replace, move and destroy the keys that protect a vault's records; suspend a tenant."`
	KMS        kmsCommands       `cmd:"" name:"kms" help:"Ask a running key service how it is, and why it allows or denies."`
	Identity   identityCommands  `cmd:"" help:"Administer who may use a running key service: accounts, users, roles, policies, access keys."`
	Encrypt    encryptCommand    `cmd:"" help:"Encrypt a file or stream under keys of AWS KMS or of a key service, as the AWS Encryption SDK does."`
	Decrypt    decryptCommand    `cmd:"" help:"Decrypt a file or stream that 'cardea encrypt' or an AWS Encryption SDK made."`
	Rewrap     rewrapCommand     `cmd:"" help:"Put an encrypted file under other keys."`
	Inspect    inspectCommand    `cmd:"" help:"Show what an encrypted file says of itself: keys, context, algorithms."`
	Migrate    migrateCommands   `cmd:"" help:"Import what another vault has."`
	Ceremony   ceremonyCommands  `cmd:"" help:"Key material under split knowledge: components, wrapping on a machine without a network, import."`
	Lifecycle  lifecycleCommands `cmd:"" help:"Keys of AWS KMS or of a key service under a written policy: plan, apply, status, drift."`
	Approval   approvalCommands  `cmd:"" help:"Dual control: ask for and approve what no one person may do alone; the register of key custodians."`
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
	if p.sleep == nil {
		p.sleep = sleep
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
	if len(args) == 1 && args[0] == "--version" {
		args = []string{"version"}
	}
	kctx, err := parser.Parse(args)
	if err != nil {
		text := strings.Replace(err.Error(), `must be one of "",`, "must be one of ", 1) // "" stands for the flag left out
		fmt.Fprintf(p.Stderr, "cardea: %s\nSee 'cardea %s'.\n", text, strings.TrimSpace(commandPath(err)+" --help"))
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
	pe, ok := errors.AsType[*kong.ParseError](err)
	if !ok || pe.Context == nil {
		return ""
	}
	var names []string
	for _, step := range pe.Context.Path {
		if step.Command != nil {
			names = append(names, step.Command.Name)
		}
	}
	return strings.Join(names, " ")
}

func report(p Process, err error) int {
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errFindings):
		return exitFindings
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(p.Stderr, "cardea: stopped before it was done")
		return exitFailed
	}
	// PostgreSQL's client lists what it tried in indented lines.
	fmt.Fprintln(p.Stderr, "cardea:", strings.ReplaceAll(err.Error(), "\n\t", " "))
	if _, ok := errors.AsType[usageError](err); ok {
		return exitWrongUse
	}
	return exitFailed
}

// hinted adds to an error what to do about it.
func hinted(err error, format string, args ...any) error {
	return fmt.Errorf("%w: %s", err, fmt.Sprintf(format, args...))
}

// printable shows text that others wrote on a terminal: one line that cannot
// steer it.
func printable(s string) string {
	clean := func(r rune) bool { return r == utf8.RuneError || !strconv.IsPrint(r) }
	if !strings.ContainsFunc(s, clean) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if clean(r) {
			return '\uFFFD'
		}
		return r
	}, s)
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
	enc.SetEscapeHTML(false) // for shells, not for web pages
	return enc.Encode(v)
}
