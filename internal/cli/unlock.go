package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"text/tabwriter"
	"time"

	"cardea/internal/config"
	"cardea/internal/custodian"
)

// nodeFlags say which running node to talk to, and as whom.
type nodeFlags struct {
	URL       string `placeholder:"URL" help:"The node's listener (default http://127.0.0.1:8080, of the key service http://127.0.0.1:4599)."`
	CAFile    string `type:"path" placeholder:"FILE" help:"Certificate authority of the node, if the system does not know it."`
	CertFile  string `type:"path" placeholder:"FILE" help:"Client certificate, if the node wants one from everybody."`
	KeyFile   string `type:"path" placeholder:"FILE" help:"Its private key."`
	Tenant    string `placeholder:"NAME" help:"The tenant; key-service for the key service's root key (default: the handout's)."`
	TokenFile string `type:"path" placeholder:"FILE" help:"File with the custodian's token, or his handout; asked for if missing."`
}

// settle fills in what is not said: the tenant, if its custodian's handout names it, and
// where the tenant's custodians are heard.
func (f *nodeFlags) settle(h handout) error {
	switch {
	case f.Tenant == "" && h.tenant == "":
		return errNoTenant
	case f.Tenant == "":
		f.Tenant = h.tenant
	}
	switch {
	case f.URL != "":
	case f.Tenant == config.KeyServiceTenant:
		f.URL = "http://127.0.0.1:4599"
	default:
		f.URL = "http://127.0.0.1:8080"
	}
	return nil
}

// errNoTenant says that neither a flag nor a handout names the tenant.
var errNoTenant = usageError{errors.New("missing flags: --tenant=NAME (a whole handout names its tenant)")}

type custodianUnlockCommand struct {
	nodeFlags
	ShareFile string `type:"path" placeholder:"FILE" help:"File with the custodian's share or half, or his handout; asked for if missing."`
	Handout   string `type:"path" placeholder:"FILE" help:"The custodian's handout, in place of both; - is standard input."`
	Half      int    `placeholder:"1|2" help:"Which half it is, in the two-halves form; a handout says it by itself."`
}

// Help implements kong.HelpProvider.
func (custodianUnlockCommand) Help() string {
	return "Examples:\n  cardea custodian unlock --handout acme-alice.handout\n" +
		"  cardea custodian unlock --url https://vault-1:8080 --tenant acme\n" +
		"  cardea custodian unlock --url https://keys-1:4599 --tenant key-service\n\n" +
		"Each custodian runs it once a node. The share is sent to that node only, and never shown."
}

func (c custodianUnlockCommand) Run(ctx context.Context, p *Process) error {
	if c.Tenant == "" && c.Handout+c.TokenFile+c.ShareFile == "" { // before anything secret is typed
		return errNoTenant
	}
	h, err := c.read(p)
	if err != nil {
		return err
	}
	defer h.destroy()
	if err := c.settle(h); err != nil {
		return err
	}
	part, err := h.parse()
	if err != nil {
		if _, herr := custodian.ParseHalf(1, h.part); h.half == 0 && herr == nil {
			return usageError{errors.New("this is a half: say which one by --half 1 or --half 2")}
		}
		return err
	}
	part.Destroy() // only to find typing errors before anything is sent
	n, err := newNodeClient(p, c.nodeFlags, h.token)
	if err != nil {
		return err
	}
	done, err := c.submit(ctx, n, h)
	if err == nil && done {
		_, err = fmt.Fprintf(p.Stdout, "tenant %s is unlocked on %s\n", c.Tenant, c.URL)
	}
	return err
}

// read gets token and part from wherever the flags say.
func (c custodianUnlockCommand) read(p *Process) (handout, error) {
	if c.Half < 0 || c.Half > 2 {
		return handout{}, usageError{fmt.Errorf("--half: %d, expected 1 or 2", c.Half)}
	}
	if c.Handout != "" && (c.TokenFile != "" || c.ShareFile != "") {
		return handout{}, usageError{errors.New("--handout takes the place of --token-file and --share-file; give it alone")}
	}
	if c.Handout != "" {
		c.TokenFile, c.ShareFile = c.Handout, c.Handout
	}
	token, err := readHandout(p, c.TokenFile, "Token: ", labelToken)
	if err != nil {
		return handout{}, err
	}
	h := token
	if c.ShareFile == "" || c.ShareFile != c.TokenFile || !token.part.Present() {
		token.part.Destroy()
		h, err = readHandout(p, c.ShareFile, "Share: ", labelPart)
		if err != nil {
			token.destroy()
			return handout{}, err
		}
		if c.Tenant == "" && h.tenant != "" && token.tenant != "" && h.tenant != token.tenant {
			h.destroy()
			token.destroy()
			return handout{}, usageError{fmt.Errorf("--token-file is of tenant %q, --share-file of tenant %q: say which by --tenant", token.tenant, h.tenant)}
		}
		h.token.Destroy()
		h.token, h.tenant = token.token, cmp.Or(h.tenant, token.tenant)
	}
	if c.Half != 0 {
		h.half = c.Half
	}
	return h, nil
}

// takeUp is longer than a node takes to notice a master key that was just made.
const takeUp = 6 * time.Second

// submit gives the part and, with the last one needed, unlocks.
func (c custodianUnlockCommand) submit(ctx context.Context, n *nodeClient, h handout) (unlocked bool, err error) {
	err = n.submit(ctx, h.part, h.half)
	if refused, ok := errors.AsType[*refusal](err); ok && refused.status == http.StatusInternalServerError {
		if err = c.awaitSeal(ctx, n, err); err == nil {
			err = n.submit(ctx, h.part, h.half)
		}
	}
	if err != nil {
		return errors.Is(err, errAlreadyUnlocked), ignore(err, errAlreadyUnlocked)
	}
	st, err := n.status(ctx)
	if err != nil || st.Unlocked {
		return st.Unlocked, err
	}
	if st.Submitted < st.Threshold {
		_, err := fmt.Fprintf(n.p.Stdout, "taken: %d of %d; the next custodian's turn, within a quarter of an hour\n", st.Submitted, st.Threshold)
		return false, err
	}
	// Another custodian's command may have been quicker.
	return true, ignore(n.unlock(ctx), errAlreadyUnlocked)
}

// awaitSeal finds out whether a node refuses a part because it does not know the
// tenant's master key yet, and waits until it should; otherwise it returns cause.
func (c custodianUnlockCommand) awaitSeal(ctx context.Context, n *nodeClient, cause error) error {
	st, err := n.status(ctx)
	if err != nil || st.Shares != 0 {
		return cause
	}
	fmt.Fprintln(n.p.Stderr, "the node does not know the tenant's master key yet: waiting", takeUp)
	if err := n.p.sleep(ctx, takeUp); err != nil {
		return err
	}
	if st, err = n.status(ctx); err == nil && st.Shares == 0 {
		return fmt.Errorf("%s has no master key of tenant %s: make one with 'cardea custodian init --tenant %s', on the database that the node uses", c.URL, c.Tenant, c.Tenant)
	}
	return err
}

func ignore(err, harmless error) error {
	if errors.Is(err, harmless) {
		return nil
	}
	return err
}

type custodianStatusCommand struct {
	nodeFlags
	output
}

// Help implements kong.HelpProvider.
func (custodianStatusCommand) Help() string {
	return "Examples:\n  cardea custodian status --token-file acme-alice.handout\n" +
		"  cardea custodian status --tenant acme --token-file acme-alice.token --output json\n\n" +
		"Exit status 3 while the tenant is locked. Without a token, the node's /readyz tells the same."
}

func (c custodianStatusCommand) Run(ctx context.Context, p *Process) error {
	if c.Tenant == "" && c.TokenFile == "" {
		return errNoTenant
	}
	h, err := readHandout(p, c.TokenFile, "Token: ", labelToken)
	if err != nil {
		return err
	}
	defer h.destroy()
	if err := c.settle(h); err != nil {
		return err
	}
	n, err := newNodeClient(p, c.nodeFlags, h.token)
	if err != nil {
		return err
	}
	st, err := n.status(ctx)
	if err != nil {
		return err
	}
	err = c.print(p.Stdout, st, func(w io.Writer) error {
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintf(tw, "tenant\t%s\nunlocked\t%t\n", c.Tenant, st.Unlocked)
		if st.Shares == 0 {
			fmt.Fprintf(tw, "custodians\tnone yet, see 'cardea custodian init --tenant %s'\n", c.Tenant)
		} else {
			fmt.Fprintf(tw, "custodians\t%d of %d, %s, generation %d\n", st.Threshold, st.Shares, printable(st.Form), st.Generation)
		}
		if !st.Unlocked {
			fmt.Fprintf(tw, "parts given\t%d of %d\n", st.Submitted, st.Threshold)
		}
		return tw.Flush()
	})
	if err == nil && !st.Unlocked {
		err = errFindings
	}
	return err
}
