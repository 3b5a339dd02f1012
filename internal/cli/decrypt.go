package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"cardea/internal/fileenc"
)

// openFlags say which messages are opened.
type openFlags struct {
	Account          []string `name:"account" sep:"none" placeholder:"ID" help:"Ask also keys that the file itself names, if they are of this account; repeat."`
	Partition        string   `default:"aws" placeholder:"aws" help:"Partition of those accounts."`
	Context          []string `sep:"none" placeholder:"KEY=VALUE" help:"Pair that the encryption context must have; repeat. Pairs that are required but not stored are given in the same way."`
	AllowUncommitted bool     `name:"allow-uncommitted" help:"Open files without key commitment, such as version 1 of the format has them: who knows two keys can make one that shows each reader another content."`
	MaxKeys          int      `default:"100" placeholder:"100" help:"Encrypted data keys that a file may have."`
	MaxFrame         int      `default:"8388608" placeholder:"8388608" help:"Bytes that are authenticated at a time, and so held in memory, at most."`
}

func (c openFlags) options(ctx context.Context, a keyAccess, flag string, ids []string) (fileenc.DecryptOptions, error) {
	o := fileenc.DecryptOptions{AllowUncommitted: c.AllowUncommitted, MaxKeys: c.MaxKeys, MaxFrame: c.MaxFrame}
	if c.MaxKeys < 1 || c.MaxFrame < 1 {
		return o, usageError{errors.New("--max-keys and --max-frame are at least 1")}
	}
	if len(ids) == 0 && len(c.Account) == 0 {
		return o, usageError{fmt.Errorf("which key may be asked? name it by %s, or the account of the keys by --account; 'cardea inspect' shows which keys a file names", flag)}
	}
	var err error
	if o.Keys, err = a.keys(ctx, flag, ids); err != nil {
		return o, err
	}
	if o.Context, err = contextOf("--context", c.Context); err != nil {
		return o, err
	}
	for _, id := range c.Account {
		if len(id) != 12 || strings.Trim(id, "0123456789") != "" {
			return o, usageError{fmt.Errorf("--account: %q is no account id of 12 digits", id)}
		}
	}
	if len(c.Account) > 0 {
		o.Discovery = &fileenc.Discovery{Partition: c.Partition, Accounts: c.Account, Endpoint: a.EndpointURL, Profile: a.Profile}
	}
	return o, nil
}

type decryptCommand struct {
	keyAccess
	fileFlags
	openFlags
	KeyID                  []string `name:"key-id" sep:"none" placeholder:"KEY" help:"Key that may be asked to open the file: ARN, alias ARN, id or alias; repeat. No other is, unless --account allows it."`
	ReleaseBeforeSignature bool     `help:"Write a signed file to a pipe as it is read, before its signature is checked. Do not use what came out unless the exit status is 0."`
}

// Help implements kong.HelpProvider.
func (decryptCommand) Help() string {
	return "Examples:\n" +
		"  cardea decrypt --key-id alias/files --context tenant=acme --in backup.tar.encrypted --out backup.tar\n" +
		"  cardea decrypt --key-id alias/files --in cards.sql.encrypted | psql cards\n" +
		"  cardea decrypt --account 111122223333 --recursive --in exports.encrypted --out exports\n\n" +
		"A file appears under its name when all of it is authenticated. Into a pipe goes only what is authenticated, but a file that is cut off is noticed at its end: " +
		"then the exit status is not 0, and what came out must not be used."
}

func (c decryptCommand) Run(ctx context.Context, p *Process) error {
	o, err := c.options(ctx, c.keyAccess, "--key-id", c.KeyID)
	if err != nil {
		return err
	}
	kms, err := c.client(p)
	if err != nil {
		return err
	}
	defer kms.Close()
	return c.each(ctx, p, "decrypted", func(name string) (string, bool) { return strings.CutSuffix(name, encryptedSuffix) }, func(in *input, out sink) (string, error) {
		o := o
		o.Progress = in.progress(p, "decrypt")
		o.RefuseSigned = out.stream() && !c.ReleaseBeforeSignature
		m, err := fileenc.Decrypt(ctx, kms, out, in, o)
		if errors.Is(err, fileenc.ErrSigned) && in.size > 0 {
			// A file can be read twice: once for the signature, once for the content.
			m, err = checkedFirst(ctx, kms, out, in, o)
		}
		if err != nil {
			return "", advised(err, out.stream())
		}
		return fmt.Sprintf("%d bytes, by %s", m.Size, m.Key), nil
	})
}

func checkedFirst(ctx context.Context, kms fileenc.KMS, w io.Writer, in *input, o fileenc.DecryptOptions) (*fileenc.Opened, error) {
	o.RefuseSigned = false
	for _, w := range []io.Writer{io.Discard, w} {
		if _, err := in.file.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
		m, err := fileenc.Decrypt(ctx, kms, w, in, o)
		if err != nil || w != io.Discard {
			return m, err
		}
	}
	return nil, errors.New("standard output is nowhere")
}
