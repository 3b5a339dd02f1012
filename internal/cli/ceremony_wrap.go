package cli

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"

	"cardea/internal/app"
	"cardea/internal/approval"
	"cardea/internal/ceremony"
	"cardea/internal/custodian"
	"cardea/internal/vault"
)

type ceremonyWrapCommand struct {
	registerFile
	journal
	Parameters string   `required:"" type:"path" placeholder:"FILE" help:"What 'cardea ceremony parameters' wrote."`
	Digest     string   `required:"" placeholder:"DIGEST" help:"The parameters' digest, as it was read on the other machine."`
	Custodian  []string `required:"" sep:"none" placeholder:"COMPONENT,KEY" help:"A custodian's component or share file, and own key file (see 'cardea approval keygen'); repeat for each."`
	Seal       string   `type:"path" placeholder:"FILE" help:"The seal that shares open, if there are shares in place of components."`
	KCV        string   `name:"kcv" placeholder:"DIGITS" help:"Check value that the combined key must have."`
	Out        string   `required:"" type:"path" placeholder:"FILE" help:"File for the wrapped material, which must not exist; it is not secret."`
}

// Help implements kong.HelpProvider.
func (ceremonyWrapCommand) Help() string {
	return "Examples:\n  cardea ceremony wrap --register people.toml --parameters parameters.json --digest 0123456789ABCDEF0123 " +
		"--custodian component-1-of-2.txt,alice.key --custodian component-2-of-2.txt,bob.key --out wrapped.json\n\n" +
		"Each custodian must be in the register with an acknowledgement in force, and signs the transcript. Components are combined in memory only."
}

func (c ceremonyWrapCommand) Run(ctx context.Context, p *Process) error {
	reg, err := c.read()
	if err != nil {
		return err
	}
	text, err := readSmall(c.Parameters)
	if err != nil {
		return fmt.Errorf("--parameters: %w", err)
	}
	ps, err := ceremony.ParseParameters(text)
	if err != nil {
		return fmt.Errorf("--parameters: %w", err)
	}
	if !strings.EqualFold(c.Digest, ps.Digest()) {
		return fmt.Errorf("--digest: the parameters' is %s: these are not the ones that were got on the other machine", ps.Digest())
	}
	m, witnesses, err := c.material(p, reg, ps.KeySpec)
	defer func() {
		for _, w := range witnesses {
			w.Signer.Destroy()
		}
	}()
	if err != nil {
		return err
	}
	defer m.Destroy()
	return c.perform(ctx, p, false, app.OpCeremonyImport, vault.Target{}, ps.KeyID, func() (string, string, error) {
		w, err := ceremony.Wrap(ps, m, c.KCV, p.Now())
		if err != nil {
			return "", "", err
		}
		transcript, err := ceremony.Transcript(ps, w, witnesses, p.Now())
		if err != nil {
			return "", "", err
		}
		w.Transcript = string(transcript)
		out, err := w.Encode()
		if err == nil {
			err = writeNew("--out", c.Out, out, 0o600)
		}
		if err == nil {
			_, err = fmt.Fprintf(p.Stdout, "%s\ncheck value of the combined key %s: compare it with what was written down when it was made\n", strings.TrimSpace(string(transcript)), w.KCV)
		}
		return "wrapped", fmt.Sprintf("kcv %s, parameters %s, custodians %s", w.KCV, ps.Digest(), witnessNames(witnesses)), err
	})
}

// material combines what the custodians bring. The caller destroys the signers, also
// with an error.
func (c ceremonyWrapCommand) material(p *Process, reg *approval.Register, a ceremony.Algorithm) (*ceremony.Material, []ceremony.Witness, error) {
	var (
		cs        []ceremony.Component
		shares    []custodian.Part
		witnesses []ceremony.Witness
	)
	defer func() {
		ceremony.Destroy(cs)
		for _, x := range shares {
			x.Destroy()
		}
	}()
	for _, text := range c.Custodian {
		file, key, ok := strings.Cut(text, ",")
		if !ok {
			return nil, witnesses, usageError{fmt.Errorf("--custodian: %q is not COMPONENT,KEY", text)}
		}
		s, err := personKey{key}.signer()
		if err != nil {
			return nil, witnesses, fmt.Errorf("--custodian: %w", err)
		}
		w := ceremony.Witness{Signer: s}
		witnesses = append(witnesses, w)
		if err := custodianSigns(reg, s, p.Now()); err != nil {
			return nil, witnesses, fmt.Errorf("--custodian: %w", err)
		}
		if c.Seal != "" {
			x, err := readShare(file)
			if err != nil {
				return nil, witnesses, fmt.Errorf("--custodian: %w", err)
			}
			shares = append(shares, x)
			w.Component, w.KCV = x.Name(), ceremony.ShareKCV(x)
		} else {
			x, err := readComponent(file)
			if err != nil {
				return nil, witnesses, fmt.Errorf("--custodian: %w", err)
			}
			cs = append(cs, x)
			w.Component, w.KCV = x.Name(), x.KCV()
		}
		witnesses[len(witnesses)-1] = w
	}
	if c.Seal == "" {
		m, err := ceremony.Combine(cs)
		return m, witnesses, err
	}
	text, err := readSmall(c.Seal)
	if err != nil {
		return nil, witnesses, fmt.Errorf("--seal: %w", err)
	}
	seal, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, witnesses, fmt.Errorf("--seal: %s is not one that 'cardea ceremony generate' wrote", c.Seal)
	}
	m, err := ceremony.OpenShares(a, seal, shares)
	return m, witnesses, err
}

func witnessNames(ws []ceremony.Witness) string {
	var all []string
	for _, w := range ws {
		all = append(all, w.Signer.Name())
	}
	return strings.Join(all, ", ")
}
