package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"golang.org/x/term"

	"cardea/internal/fileenc"
	"cardea/internal/iam"
	"cardea/internal/kmsclient"
)

// encryptedSuffix ends the names of encrypted files when a folder is worked on.
const encryptedSuffix = ".encrypted"

// keyAccess says how keys of AWS KMS, or of a key service that speaks its API, are
// reached.
type keyAccess struct {
	Region      string `placeholder:"REGION" help:"Region of keys that are named by id or alias; that of AWS's configuration if not given. ARNs have their own."`
	Profile     string `placeholder:"NAME" help:"Profile of AWS's shared configuration; the standard chain of credentials if not given."`
	EndpointURL string `name:"endpoint-url" placeholder:"URL" help:"Address of the key service; AWS's if not given, or what AWS's configuration says."`
	CAFile      string `name:"ca-file" type:"path" placeholder:"FILE" help:"Certificates (PEM) of authorities to trust besides the system's."`

	asked *ownCalls // of commands that tell who used a key
}

func (a keyAccess) client(p *Process) (*kmsclient.Client, error) {
	return kmsclient.New(kmsclient.Options{
		RootCAFile: a.CAFile, Now: p.Now, Attempts: 4, ConnectTimeout: 5 * time.Second, AttemptTimeout: 10 * time.Second, Deadline: 30 * time.Second,
	})
}

// keys are the keys of a flag.
func (a keyAccess) keys(ctx context.Context, flag string, ids []string) ([]kmsclient.Key, error) {
	region := a.Region
	keys := make([]kmsclient.Key, 0, len(ids))
	for _, id := range ids {
		k := kmsclient.Key{ID: id, Endpoint: a.EndpointURL, Profile: a.Profile}
		if arn, err := iam.ParseARN(id); err == nil {
			k.Region = arn.Region
		} else {
			if region == "" {
				cfg, err := config.LoadDefaultConfig(ctx, config.WithSharedConfigProfile(a.Profile))
				if err != nil {
					return nil, fmt.Errorf("AWS configuration: %w", err)
				}
				if region = cfg.Region; region == "" {
					return nil, usageError{fmt.Errorf("%s %s: in which Region? name it by --region or AWS_REGION, or the key by its ARN", flag, printable(id))}
				}
			}
			k.Region = region
		}
		if err := k.Validate(); err != nil {
			return nil, usageError{fmt.Errorf("%s: %w", flag, err)}
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// contextOf is the encryption context of a flag.
func contextOf(flag string, texts []string) (map[string]string, error) {
	pairs, err := parsePairs(flag, texts)
	if err != nil {
		return nil, err
	}
	context := make(map[string]string, len(pairs))
	for _, p := range pairs {
		if _, twice := context[p[0]]; twice {
			return nil, usageError{fmt.Errorf("%s: %q is given twice", flag, p[0])}
		}
		context[p[0]] = p[1]
	}
	return context, nil
}

type encryptCommand struct {
	keyAccess
	fileFlags
	KeyID           []string `name:"key-id" required:"" sep:"none" placeholder:"KEY" help:"Key that can open the file: ARN, alias ARN, id or alias; repeat for more keys, of other Regions or recipients, each of which opens it alone."`
	Context         []string `sep:"none" placeholder:"KEY=VALUE" help:"Pair of the encryption context, which is stored in the file in clear; repeat. Nothing secret."`
	RequiredContext []string `sep:"none" placeholder:"KEY=VALUE" help:"Pair of the encryption context that is not stored, and which whoever decrypts must give; repeat."`
	Sign            bool     `help:"Sign the file by a key made for it (ECDSA P-384), so that nobody who can decrypt it can change it. Slower."`
	FrameLength     int      `default:"65536" placeholder:"65536" help:"Bytes that are encrypted and authenticated at a time."`
}

// Help implements kong.HelpProvider.
func (encryptCommand) Help() string {
	return "Examples:\n" +
		"  cardea encrypt --key-id alias/files --context tenant=acme --in backup.tar --out backup.tar.encrypted\n" +
		"  pg_dump cards | cardea encrypt --key-id alias/files --context table=cards --out cards.sql.encrypted\n" +
		"  cardea encrypt --key-id arn:aws:kms:eu-central-1:111122223333:alias/files --key-id arn:aws:kms:eu-west-1:111122223333:alias/files --recursive --in exports --out exports.encrypted\n\n" +
		"Files are messages of the AWS Encryption SDK, with key commitment: any AWS Encryption SDK opens them. " +
		"They appear under their name when they are complete. A file that somebody writes to meanwhile is refused. Keys and credentials are AWS's; for a key service of your own give --endpoint-url."
}

func (c encryptCommand) Run(ctx context.Context, p *Process) error {
	context, err := contextOf("--context", c.Context)
	if err != nil {
		return err
	}
	required, err := contextOf("--required-context", c.RequiredContext)
	if err != nil {
		return err
	}
	keys, err := c.keys(ctx, "--key-id", c.KeyID)
	if err != nil {
		return err
	}
	kms, err := c.client(p)
	if err != nil {
		return err
	}
	defer kms.Close()
	if f, ok := p.Stdout.(*os.File); ok && c.Out == "-" && term.IsTerminal(int(f.Fd())) && !c.Force {
		return usageError{errors.New("the terminal is no place for an encrypted file: name a file by --out, or let a program read it")}
	}
	return c.each(ctx, p, "encrypted", func(name string) (string, bool) {
		return name + encryptedSuffix, !strings.HasSuffix(name, encryptedSuffix)
	}, func(in *input, out sink) (string, error) {
		h, n, err := fileenc.Encrypt(ctx, kms, out, in, fileenc.EncryptOptions{
			Keys: keys, Context: context, Required: required, Sign: c.Sign, FrameLength: c.FrameLength, Progress: in.progress(p, "encrypt"),
		})
		if err != nil {
			return "", advised(err, false)
		}
		if err := in.unchanged(); err != nil {
			return "", err
		}
		return fmt.Sprintf("%d bytes, under %s", n, strings.Join(h.KeyNames(), ", ")), nil
	})
}

// advised says what to do about an error of fileenc. Stream says that some of the
// output may have gone out.
func advised(err error, stream bool) error {
	again := "nothing was written"
	if stream {
		again = "what was written is authentic but incomplete, throw it away"
	}
	switch {
	case errors.Is(err, fileenc.ErrInvalid):
		return usageError{err}
	case errors.Is(err, fileenc.ErrNotMessage):
		return hinted(err, "is it a file that 'cardea encrypt' or an AWS Encryption SDK made?")
	case errors.Is(err, fileenc.ErrTruncated):
		return hinted(err, "get the whole file; %s", again)
	case errors.Is(err, fileenc.ErrForged), errors.Is(err, fileenc.ErrTrailing):
		return hinted(err, "do not trust this file, get it again from where it comes; %s", again)
	case errors.Is(err, fileenc.ErrContext):
		return hinted(err, "'cardea inspect' shows the context of a file; if it is not the one you expect, it is another file than you think")
	case errors.Is(err, fileenc.ErrUncommitted):
		return hinted(err, "an old program made it; --allow-uncommitted opens it, if you trust whoever could make it with two keys")
	case errors.Is(err, fileenc.ErrSigned):
		return hinted(err, "its signature stands at the end: read it from a file or write it to one, or let it out unchecked by --release-before-signature")
	case errors.Is(err, fileenc.ErrLimit):
		return hinted(err, "it is unusual; --max-frame and --max-keys allow more")
	case errors.Is(err, kmsclient.ErrUnreachable):
		return hinted(err, "check --endpoint-url, --region, the network and AWS's configuration")
	case errors.Is(err, kmsclient.ErrDenied):
		return hinted(err, "its key policy must allow these credentials kms:GenerateDataKey and kms:Encrypt to encrypt, kms:Decrypt to decrypt")
	case errors.Is(err, kmsclient.ErrDisabled):
		return hinted(err, "enable the key, or name another that can open the file")
	case errors.Is(err, kmsclient.ErrNotFound):
		return hinted(err, "check its name and Region, and whose credentials these are")
	case errors.Is(err, kmsclient.ErrWrongContext):
		return hinted(err, "the file was made under another key or with another context; pairs that are not stored in it are given by --context")
	case errors.Is(err, fileenc.ErrNoKey):
		return hinted(err, "name one of them by --key-id, or their account by --account")
	}
	return err
}

// input is what is read.
type input struct {
	io.Reader
	file *os.File
	name string
	size int64       // of a regular file, else 0
	info os.FileInfo // of when it was opened
	bar  *progress
}

func openInput(p *Process, name string) (*input, error) {
	if name == "-" {
		if p.Stdin == nil {
			return nil, usageError{errors.New("there is no standard input: name a file by --in")}
		}
		return newInput(p.Stdin, "standard input")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	in, err := newInput(f, name)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return in, nil
}

func newInput(f *os.File, name string) (*input, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, usageError{fmt.Errorf("%s is a folder: give --recursive, and a folder as --out", name)}
	}
	in := &input{Reader: f, file: f, name: name, info: info}
	if info.Mode().IsRegular() {
		in.size = info.Size()
	}
	return in, nil
}

// unchanged returns an error if somebody wrote to a file while it was read: what was read
// may be of two states of it. Who replaces a file by another of its name changes nothing.
func (in *input) unchanged() error {
	if !in.info.Mode().IsRegular() {
		return nil
	}
	now, err := in.file.Stat()
	if err == nil && (now.Size() != in.info.Size() || !now.ModTime().Equal(in.info.ModTime())) {
		err = fmt.Errorf("%s was changed while it was read: run this again when nobody writes to it, or read a copy or a snapshot", in.name)
	}
	return err
}

func (in *input) close() error {
	if in.bar != nil {
		in.bar.finish()
	}
	if in.name == "standard input" {
		return nil
	}
	return in.file.Close()
}

// progress shows how much is done, if that can be known and somebody looks.
func (in *input) progress(p *Process, what string) func(int64) {
	in.bar = newProgress(p, what+" "+printable(in.name), "bytes")
	return func(done int64) { in.bar.set(min(done, in.size), in.size) }
}
