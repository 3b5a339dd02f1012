package cli

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"cardea/internal/app"
	"cardea/internal/ceremony"
	"cardea/internal/secret"
	"cardea/internal/vault"
)

type ceremonyGenerateCommand struct {
	journal
	output
	KeySpec    string `default:"SYMMETRIC_DEFAULT" placeholder:"SPEC" help:"SYMMETRIC_DEFAULT (default), HMAC_256, HMAC_384 or HMAC_512."`
	Components int    `default:"3" placeholder:"N" help:"How many, each for another custodian; all are needed (default 3)."`
	Threshold  int    `placeholder:"K" help:"Make Shamir shares in place of components, of which K are needed, and a seal that they open."`
	OutDir     string `required:"" type:"path" placeholder:"DIR" help:"Folder for the components, one file each. It must not have any yet."`
}

// generatedView is what was made, without it.
type generatedView struct {
	Set   string     `json:"set,omitempty"`
	KCV   string     `json:"kcv"` // of the combined key
	Files []partView `json:"files"`
	Seal  string     `json:"seal,omitempty"`
}

type partView struct {
	File string `json:"file"`
	KCV  string `json:"kcv"`
}

func (v *generatedView) text(w io.Writer) error {
	var rows [][]string
	for _, f := range v.Files {
		rows = append(rows, []string{f.File, "check value " + f.KCV})
	}
	if v.Seal != "" {
		rows = append(rows, []string{v.Seal, "the seal, for whoever imports the key"})
	}
	if err := fields(w, rows...); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "check value of the combined key %s\n", v.KCV)
	return err
}

// Help implements kong.HelpProvider.
func (ceremonyGenerateCommand) Help() string {
	return "Examples:\n  cardea ceremony generate --components 3 --out-dir /media/safe\n\nDo this on a machine without a network, with all custodians there. Each takes one file, the only copy, and keeps it apart from the others. " +
		"Write down the check value of the combined key, which is printed: it is not secret."
}

func (c ceremonyGenerateCommand) Run(ctx context.Context, p *Process) error {
	if c.Threshold != 0 {
		return c.shares(ctx, p)
	}
	cs, kcv, err := ceremony.Generate(ceremony.Algorithm(c.KeySpec), c.Components)
	if err != nil {
		return usageError{err}
	}
	defer ceremony.Destroy(cs)
	if err := os.MkdirAll(c.OutDir, 0o700); err != nil {
		return fmt.Errorf("--out-dir: %w", err)
	}
	set := cs[0].Set.String()
	v := generatedView{Set: set, KCV: kcv}
	err = c.perform(ctx, p, false, app.OpCeremonyGenerate, vault.Target{Reference: set}, "", func() (string, string, error) {
		for _, x := range cs {
			path := filepath.Join(c.OutDir, fmt.Sprintf("component-%d-of-%d.txt", x.Index, x.Count))
			text := x.Text()
			err := writeNew("--out-dir", path, text.Expose(), 0o600)
			text.Destroy()
			if err != nil {
				return "", "", err
			}
			v.Files = append(v.Files, partView{path, x.KCV()})
		}
		return "generated", fmt.Sprintf("set %s of %d components, %s, kcv %s", set, len(cs), c.KeySpec, kcv), nil
	})
	if err != nil {
		return err
	}
	return c.print(p.Stdout, v, v.text)
}

// shares makes shares and their seal.
func (c ceremonyGenerateCommand) shares(ctx context.Context, p *Process) error {
	seal, parts, kcv, err := ceremony.GenerateShares(ceremony.Algorithm(c.KeySpec), c.Components, c.Threshold)
	if err != nil {
		return usageError{err}
	}
	defer func() {
		for _, x := range parts {
			x.Destroy()
		}
	}()
	if err := os.MkdirAll(c.OutDir, 0o700); err != nil {
		return fmt.Errorf("--out-dir: %w", err)
	}
	v := generatedView{KCV: kcv, Seal: filepath.Join(c.OutDir, "seal.b64")}
	err = c.perform(ctx, p, false, app.OpCeremonyGenerate, vault.Target{}, "", func() (string, string, error) {
		path := v.Seal
		if err := writeNew("--out-dir", path, []byte(base64.StdEncoding.EncodeToString(seal)+"\n"), 0o600); err != nil {
			return "", "", err
		}
		for _, x := range parts {
			path := filepath.Join(c.OutDir, fmt.Sprintf("share-%d-of-%d.txt", x.Index(), len(parts)))
			text := x.Text()
			line := append(slices.Clone(text.Expose()), '\n')
			err := writeNew("--out-dir", path, line, 0o600)
			secret.Wipe(line)
			text.Destroy()
			if err != nil {
				return "", "", err
			}
			v.Files = append(v.Files, partView{path, ceremony.ShareKCV(x)})
		}
		return "generated", fmt.Sprintf("%d of %d shares, %s, kcv %s", c.Threshold, len(parts), c.KeySpec, kcv), nil
	})
	if err != nil {
		return err
	}
	return c.print(p.Stdout, v, v.text)
}
