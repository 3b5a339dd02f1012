package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"cardea/internal/fileenc"
)

type rewrapCommand struct {
	keyAccess
	fileFlags
	openFlags
	KeyID   []string `name:"key-id" required:"" sep:"none" placeholder:"KEY" help:"Key that can open the file afterwards; repeat. No other can."`
	From    []string `name:"from-key-id" sep:"none" placeholder:"KEY" help:"Key that opens the file now; repeat."`
	InPlace bool     `help:"Replace the file itself, in one step, when the new one is complete."`
	Sign    bool     `help:"Sign the new file. One that is signed stays so in any case."`
}

// Help implements kong.HelpProvider.
func (rewrapCommand) Help() string {
	return "Examples:\n" +
		"  cardea rewrap --from-key-id alias/files-2025 --key-id alias/files-2026 --in backup.tar.encrypted --in-place\n" +
		"  cardea rewrap --account 111122223333 --key-id arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab --recursive --in archive --in-place\n\n" +
		"Content and encryption context stay as they are, the data key becomes a new one: so whoever knew the old one, or may use the old keys, cannot open the new file. " +
		"The old file is authenticated to its end before it is replaced; plaintext passes through memory only. " +
		"With --recursive, files that are under exactly these keys already are left alone if --key-id names ARNs."
}

func (c rewrapCommand) Run(ctx context.Context, p *Process) error {
	switch {
	case c.InPlace && (c.In == "-" || c.Out != "-"):
		return usageError{errors.New("--in-place: name the file by --in, and none by --out")}
	case c.InPlace && !c.Recursive:
		c.Out, c.Force = c.In, true
	case c.InPlace:
		c.Out, c.Force = c.In, true
	}
	from, err := c.options(ctx, c.keyAccess, "--from-key-id", c.From)
	if err != nil {
		return err
	}
	to, err := c.keys(ctx, "--key-id", c.KeyID)
	if err != nil {
		return err
	}
	kms, err := c.client(p)
	if err != nil {
		return err
	}
	defer kms.Close()
	rename := func(name string) (string, bool) {
		return name, strings.HasSuffix(name, encryptedSuffix) && !c.done(filepath.Join(c.In, name))
	}
	return c.each(ctx, p, "rewrapped", rename, func(in *input, out sink) (string, error) {
		o := from
		o.Progress = in.progress(p, "rewrap")
		m, h, err := fileenc.Rewrap(ctx, kms, out, in, fileenc.RewrapOptions{From: o, To: to, Sign: c.Sign})
		if err != nil {
			return "", advised(err, out.stream())
		}
		return fmt.Sprintf("%d bytes, from %s to %s", m.Size, m.Key, strings.Join(h.KeyNames(), ", ")), nil
	})
}

// done reports whether a file is under the wanted keys already. What cannot be read
// is not: the work on it says why.
func (c rewrapCommand) done(name string) bool {
	f, err := os.Open(name)
	if err != nil {
		return false
	}
	defer f.Close() //nolint:errcheck // only read from
	h, err := fileenc.ReadHeader(f, c.MaxKeys)
	if err != nil {
		return false
	}
	have, want := h.KeyNames(), slices.Clone(c.KeyID)
	slices.Sort(have)
	slices.Sort(want)
	return slices.Equal(have, want)
}
