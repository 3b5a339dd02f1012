package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"

	"golang.org/x/term"

	"cardea/internal/app"
	"cardea/internal/custodian"
	"cardea/internal/secret"
	"cardea/internal/vault"
)

type custodianCommands struct {
	Init   custodianInitCommand   `cmd:"" help:"Make a tenant's master key and divide it among custodians."`
	Rekey  custodianRekeyCommand  `cmd:"" help:"Divide a tenant's master key anew; the old shares are of no use afterwards."`
	Unlock custodianUnlockCommand `cmd:"" help:"Give a custodian's share to a running node; with the last one needed, unlock the tenant."`
	Status custodianStatusCommand `cmd:"" help:"Tell whether a running node has a tenant unlocked, and how many shares it has."`
}

// termsFlags say among whom a key is divided.
type termsFlags struct {
	Custodian []string `required:"" placeholder:"NAME" help:"A custodian, one part each; repeat."`
	Threshold int      `default:"2" help:"How many custodians must agree."`
	Form      string   `enum:"shares,halves" default:"shares" help:"shares (Shamir) or halves (the Hyperswitch locker's two-halves form, 2 custodians)."`
	OutDir    string   `type:"path" required:"" placeholder:"DIR" help:"Where the handouts go, one file a custodian; give each to its custodian and shred it here."`
}

func (t termsFlags) terms() vault.Terms {
	return vault.Terms{Form: custodian.Form(t.Form), Threshold: t.Threshold, Custodians: t.Custodian}
}

type custodianInitCommand struct {
	configFlag
	termsFlags
	Tenant string `required:"" help:"Tenant of the configuration."`
}

// Help implements kong.HelpProvider.
func (custodianInitCommand) Help() string {
	return "Examples:\n  cardea custodian init --config cardea.toml --tenant acme --threshold 2 \\\n" +
		"    --custodian alice --custodian bob --custodian carol --out-dir ./handouts"
}

func (c custodianInitCommand) Run(ctx context.Context, p *Process) (err error) {
	return c.hold(ctx, p, c.configFlag, c.Tenant, func(t *app.Tool) ([]vault.Handout, error) {
		return t.Ceremonies.Init(ctx, operator(p), c.Tenant, c.terms())
	})
}

type custodianRekeyCommand struct {
	configFlag
	termsFlags
	Tenant    string   `required:"" help:"Tenant of the configuration."`
	ShareFile []string `type:"path" placeholder:"FILE" help:"File with a share or half of the old custodians; repeat. Without it they are asked for."`
}

// Help implements kong.HelpProvider.
func (custodianRekeyCommand) Help() string {
	return "Examples:\n  cardea custodian rekey --config cardea.toml --tenant acme --threshold 3 \\\n" +
		"    --custodian alice --custodian bob --custodian dave --custodian erin --out-dir ./handouts\n\n" +
		"The master key stays, so nothing is encrypted anew, and running nodes stay unlocked."
}

func (c custodianRekeyCommand) Run(ctx context.Context, p *Process) error {
	return c.hold(ctx, p, c.configFlag, c.Tenant, func(t *app.Tool) ([]vault.Handout, error) {
		seal, err := t.Ceremonies.Seal(ctx, c.Tenant)
		if err != nil {
			return nil, err
		}
		parts, err := c.parts(p, seal.Info())
		defer func() {
			for _, part := range parts {
				part.Destroy()
			}
		}()
		if err != nil {
			return nil, err
		}
		return t.Ceremonies.Rekey(ctx, operator(p), c.Tenant, parts, c.terms())
	})
}

// parts reads a quorum of the old parts.
func (c custodianRekeyCommand) parts(p *Process, info custodian.Info) ([]custodian.Part, error) {
	var parts []custodian.Part
	n := len(c.ShareFile)
	if n == 0 {
		n = info.Threshold
	}
	for i := range n {
		path := ""
		if len(c.ShareFile) > 0 {
			path = c.ShareFile[i]
		}
		text, err := readSecret(p, path, fmt.Sprintf("Part %d of %d: ", i+1, n), handoutPart)
		if err != nil {
			return parts, err
		}
		part, err := parsePart(text, info.Form, i+1)
		text.Destroy()
		if err != nil {
			return parts, err
		}
		parts = append(parts, part)
	}
	return parts, nil
}

// hold performs a ceremony and writes the handouts. The folder is tried first: a
// key whose handouts cannot be written would be lost.
func (t termsFlags) hold(ctx context.Context, p *Process, cf configFlag, tenant string, ceremony func(*app.Tool) ([]vault.Handout, error)) (err error) {
	cfg, err := cf.load(p)
	if err != nil {
		return err
	}
	if _, ok := cfg.Tenants[tenant]; !ok {
		return usageError{fmt.Errorf("tenant %q is not in the configuration", tenant)}
	}
	if err := prepareHandouts(t.OutDir, tenant, t.Custodian); err != nil {
		return err
	}
	tool, err := app.OpenTool(ctx, cfg, app.Options{Logger: discard(), Now: p.Now})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tool.Close()) }()
	handouts, err := ceremony(tool)
	if err != nil {
		return err
	}
	for _, h := range handouts {
		werr := writeHandout(p, t.OutDir, tenant, h)
		err = errors.Join(err, werr)
		h.Destroy()
	}
	if err != nil {
		return fmt.Errorf("a handout was not written: rekey with the others, or, if too few are left, start again: %w", err)
	}
	fmt.Fprintf(p.Stdout, "\nGive each file to its custodian and shred it here. Nobody can make them again.\n"+
		"%d of %d custodians unlock tenant %s on each node after each start, with 'cardea custodian unlock'.\n", t.Threshold, len(t.Custodian), tenant)
	return nil
}

func handoutPath(dir, tenant, name string) string {
	return filepath.Join(dir, tenant+"-"+name+".handout")
}

func prepareHandouts(dir, tenant string, names []string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("--out-dir: %w", err)
	}
	for _, name := range names {
		if name == "" || name != filepath.Base(name) {
			return usageError{fmt.Errorf("--custodian: %q cannot be part of a file name", name)}
		}
		if _, err := os.Lstat(handoutPath(dir, tenant, name)); err == nil {
			return usageError{fmt.Errorf("%s exists: choose another --out-dir", handoutPath(dir, tenant, name))}
		}
	}
	probe, err := os.CreateTemp(dir, "probe")
	if err != nil {
		return fmt.Errorf("--out-dir: %w", err)
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}

// The labels of a handout file's lines.
const (
	handoutPart  = "part:  "
	handoutToken = "token: "
)

func writeHandout(p *Process, dir, tenant string, h vault.Handout) error {
	path := handoutPath(dir, tenant, h.Custodian)
	text := h.Part.Text()
	defer text.Destroy()
	var b []byte
	b = fmt.Appendf(b, "Cardea custodian handout. Secret: for %s only.\ntenant: %s\ncustodian: %s, %s\n", h.Custodian, tenant, h.Custodian, h.Part.Name())
	b = append(append(append(b, handoutPart...), text.Expose()...), '\n')
	b = append(append(append(b, handoutToken...), h.Token.Expose()...), '\n')
	defer secret.Wipe(b)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	fmt.Fprintf(p.Stdout, "%s  %s for %s\n", path, h.Part.Name(), h.Custodian)
	return nil
}

// readSecret reads a secret from a file, from standard input ("-"), or from the
// terminal without echo. From a handout it takes the line with the label.
func readSecret(p *Process, path, prompt, label string) (secret.Bytes, error) {
	var b []byte
	var err error
	switch {
	case path == "-":
		b, err = io.ReadAll(io.LimitReader(p.Stdin, 1<<16))
	case path != "":
		b, err = os.ReadFile(path)
	case term.IsTerminal(int(p.Stdin.Fd())):
		fmt.Fprint(p.Stderr, prompt)
		b, err = term.ReadPassword(int(p.Stdin.Fd()))
		fmt.Fprintln(p.Stderr)
	default:
		return secret.Bytes{}, usageError{errors.New("no terminal to ask on: give the secret by file, or - for standard input")}
	}
	if err != nil {
		return secret.Bytes{}, err
	}
	defer secret.Wipe(b)
	for line := range bytes.Lines(b) {
		if rest, ok := bytes.CutPrefix(line, []byte(label)); ok {
			return secret.Copy(bytes.TrimSpace(rest)), nil
		}
	}
	return secret.Copy(bytes.TrimSpace(b)), nil
}

// parsePart reads a share, which names its own number, or the half with number i.
func parsePart(text secret.Bytes, form custodian.Form, i int) (custodian.Part, error) {
	if form == custodian.FormHalves {
		return custodian.ParseHalf(i, text)
	}
	return custodian.ParseShare(text)
}

// nodeFlags say which running node to talk to.
type nodeFlags struct {
	URL       string `default:"http://127.0.0.1:8080" help:"The node's vault listener."`
	CAFile    string `type:"path" placeholder:"FILE" help:"Certificate authority of the node, if the system does not know it."`
	Tenant    string `required:"" help:"The tenant."`
	TokenFile string `type:"path" placeholder:"FILE" help:"File with the custodian's token, or his handout; asked for if missing."`
}

type custodianUnlockCommand struct {
	nodeFlags
	ShareFile string `type:"path" placeholder:"FILE" help:"File with the custodian's share or half, or his handout; asked for if missing."`
	Half      int    `placeholder:"1|2" help:"Which half it is, in the two-halves form."`
}

// Help implements kong.HelpProvider.
func (custodianUnlockCommand) Help() string {
	return "Examples:\n  cardea custodian unlock --tenant acme --share-file alice.handout --token-file alice.handout\n" +
		"  cardea custodian unlock --url https://vault-1:8080 --tenant acme\n\n" +
		"Each custodian runs it once a node. The share is sent to that node only, and never shown."
}

func (c custodianUnlockCommand) Run(ctx context.Context, p *Process) error {
	token, err := readSecret(p, c.TokenFile, "Token: ", handoutToken)
	if err != nil {
		return err
	}
	defer token.Destroy()
	part, err := readSecret(p, c.ShareFile, "Share: ", handoutPart)
	if err != nil {
		return err
	}
	defer part.Destroy()
	n, err := newNodeClient(c.nodeFlags, token)
	if err != nil {
		return err
	}
	if err := n.submit(ctx, part, c.Half); err != nil {
		return err
	}
	st, err := n.status(ctx)
	if err != nil {
		return err
	}
	if st.Submitted >= st.Threshold && !st.Unlocked {
		if err := n.unlock(ctx); err != nil {
			return err
		}
		st.Unlocked = true
	}
	if st.Unlocked {
		_, err = fmt.Fprintf(p.Stdout, "tenant %s is unlocked on %s\n", c.Tenant, c.URL)
		return err
	}
	_, err = fmt.Fprintf(p.Stdout, "taken: %d of %d; the next custodian's turn\n", st.Submitted, st.Threshold)
	return err
}

type custodianStatusCommand struct {
	nodeFlags
	output
}

// Help implements kong.HelpProvider.
func (custodianStatusCommand) Help() string {
	return "Examples:\n  cardea custodian status --tenant acme --token-file alice.handout\n" +
		"  cardea custodian status --tenant acme --token-file alice.handout --output json\n\nExit status 3 while the tenant is locked."
}

func (c custodianStatusCommand) Run(ctx context.Context, p *Process) error {
	token, err := readSecret(p, c.TokenFile, "Token: ", handoutToken)
	if err != nil {
		return err
	}
	defer token.Destroy()
	n, err := newNodeClient(c.nodeFlags, token)
	if err != nil {
		return err
	}
	st, err := n.status(ctx)
	if err != nil {
		return err
	}
	err = c.print(p.Stdout, st, func(w io.Writer) error {
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintf(tw, "tenant\t%s\nunlocked\t%t\nparts given\t%d of %d\n", c.Tenant, st.Unlocked, st.Submitted, st.Threshold)
		return tw.Flush()
	})
	if err == nil && !st.Unlocked {
		err = errFindings
	}
	return err
}
