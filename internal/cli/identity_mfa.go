package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"cardea/internal/identity"
	"cardea/internal/secret"
)

type identityMFACommands struct {
	Enable  identityMFAEnableCommand  `cmd:"" help:"Make a second factor for a user, for his authenticator app."`
	List    identityMFAListCommand    `cmd:"" help:"List a user's second factors."`
	Disable identityMFADisableCommand `cmd:"" help:"Remove a second factor."`
}

// deviceFlags name a second factor.
type deviceFlags struct {
	userFlag
	Device string `placeholder:"NAME" help:"Name of the second factor; the user's if it is not given."`
}

type identityMFAEnableCommand struct {
	identityFlags
	output
	deviceFlags
}

// Help implements kong.HelpProvider.
func (identityMFAEnableCommand) Help() string {
	return "Examples:\n  cardea identity mfa enable --user alice\n" +
		"  cardea identity mfa enable --user alice --device alice-phone --output json\n\n" +
		"What it prints goes into the authenticator app, typed or as a QR code, and nowhere else: it is the secret, and is told this once."
}

func (c identityMFAEnableCommand) Run(ctx context.Context, p *Process) error {
	k, err := c.open(ctx, p)
	if err != nil {
		return err
	}
	var d identity.NewMFADevice
	if err := k.call(ctx, "identity/EnableMFA", &identity.MFAInput{Account: c.Account, User: c.User, Device: c.Device}, &d); err != nil {
		return err
	}
	defer d.Destroy()
	// Percent-encoded, so a JSON string as it is.
	uri := fmt.Appendf(nil, `"%s"`, d.URI.Expose())
	defer secret.Wipe(uri)
	return c.print(p.Stdout, struct {
		deviceView
		URI json.RawMessage `json:"uri"`
	}{deviceOf(d.MFADevice), uri}, func(w io.Writer) error {
		if _, err := w.Write(append(uri[1:len(uri)-1:len(uri)-1], '\n')); err != nil {
			return err
		}
		_, err := fmt.Fprintf(p.Stderr, "That is the secret of second factor %s; it cannot be told again.\n"+
			"Policies ask for it by aws:MultiFactorAuthPresent, and it is used by 'aws sts get-session-token --serial-number %s --token-code …'.\n", d.Serial, d.Serial)
		return err
	})
}

type identityMFAListCommand struct {
	identityFlags
	output
	userFlag
}

// Help implements kong.HelpProvider.
func (identityMFAListCommand) Help() string {
	return "Examples:\n  cardea identity mfa list --user alice"
}

func (c identityMFAListCommand) Run(ctx context.Context, p *Process) error {
	k, err := c.open(ctx, p)
	if err != nil {
		return err
	}
	var devices identity.List[identity.MFADevice]
	if err := k.call(ctx, "identity/ListMFADevices", &identity.EntityInput{Account: c.Account, Name: c.User}, &devices); err != nil {
		return err
	}
	return c.print(p.Stdout, views(devices.Items, deviceOf), func(w io.Writer) error {
		var rows [][]string
		for _, d := range devices.Items {
			rows = append(rows, []string{d.Serial, day(d.CreatedAt), day(d.LastUsed)})
		}
		return table(w, "no second factor", []string{"SERIAL NUMBER", "CREATED", "LAST USED"}, rows)
	})
}

type identityMFADisableCommand struct {
	identityFlags
	deviceFlags
}

// Help implements kong.HelpProvider.
func (identityMFADisableCommand) Help() string {
	return "Examples:\n  cardea identity mfa disable --user alice\n\nSessions that were begun with it go on."
}

func (c identityMFADisableCommand) Run(ctx context.Context, p *Process) error {
	name := c.Device
	if name == "" {
		name = c.User
	}
	return c.do(ctx, p, "identity/DisableMFA", func() any {
		return &identity.MFAInput{Account: c.Account, User: c.User, Device: c.Device}
	}, "second factor %s is removed", name)
}
