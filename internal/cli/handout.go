package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/term"

	"cardea/internal/custodian"
	"cardea/internal/secret"
	"cardea/internal/vault"
)

func handoutPath(dir, tenant, name string) string {
	return filepath.Join(dir, tenant+"-"+name+".handout")
}

func prepareHandouts(dir, tenant string, names []string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("--out-dir: %w", err)
	}
	for _, name := range names {
		if name == "" || name == "." || name == ".." || name != filepath.Base(name) {
			return usageError{fmt.Errorf("--custodian: %q cannot be part of a file name", name)}
		}
		if _, err := os.Lstat(handoutPath(dir, tenant, name)); err == nil {
			return usageError{fmt.Errorf("--out-dir: %s exists; choose another folder", handoutPath(dir, tenant, name))}
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
	labelTenant = "tenant: "
	labelPart   = "part:  "
	labelHalf   = "half:  " // which of the two, in the two-halves form
	labelToken  = "token: "
)

func writeHandout(p *Process, dir, tenant string, h vault.Handout) error {
	path := handoutPath(dir, tenant, h.Custodian)
	text := h.Part.Text()
	defer text.Destroy()
	var b []byte
	b = fmt.Appendf(b, "Cardea custodian handout. Secret: for %s only.\n"+labelTenant+"%s\ncustodian: %s, %s\n", h.Custodian, tenant, h.Custodian, h.Part.Name())
	if h.Part.Form() == custodian.FormHalves {
		b = fmt.Appendf(b, "%s%d\n", labelHalf, h.Part.Index())
	}
	b = append(append(append(b, labelPart...), text.Expose()...), '\n')
	b = append(append(append(b, labelToken...), h.Token.Expose()...), '\n')
	defer secret.Wipe(b)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.Stdout, "%s  %s for %s\n", path, h.Part.Name(), h.Custodian)
	return err
}

// handout is what was read of a handout file, or one secret of it.
type handout struct {
	part  secret.Bytes
	token secret.Bytes
	half  int // 0 if it does not say

	tenant string // "" if it does not say
}

func (h handout) destroy() {
	h.part.Destroy()
	h.token.Destroy()
}

// readHandout reads a handout, or a file that holds nothing but the secret of the
// wanted label, from a file, from standard input ("-"), or that secret from the
// terminal without echo.
func readHandout(p *Process, path, prompt, want string) (handout, error) {
	flag := "--share-file"
	if want == labelToken {
		flag = "--token-file"
	}
	b, err := readSecretText(p, path, prompt, flag)
	if err != nil {
		return handout{}, err
	}
	defer secret.Wipe(b)
	var h handout
	for line := range bytes.Lines(b) {
		if rest, ok := bytes.CutPrefix(line, []byte(labelPart)); ok {
			h.part = secret.Copy(bytes.TrimSpace(rest))
		}
		if rest, ok := bytes.CutPrefix(line, []byte(labelToken)); ok {
			h.token = secret.Copy(bytes.TrimSpace(rest))
		}
		if rest, ok := bytes.CutPrefix(line, []byte(labelTenant)); ok {
			h.tenant = string(bytes.TrimSpace(rest))
		}
		switch rest, _ := bytes.CutPrefix(line, []byte(labelHalf)); string(bytes.TrimSpace(rest)) {
		case "1":
			h.half = 1
		case "2":
			h.half = 2
		}
	}
	from := path
	if path == "" || path == "-" {
		from = "the input"
	}
	one := &h.part
	if want == labelToken {
		one = &h.token
	}
	if one.Present() {
		return h, nil
	}
	alone := bytes.TrimSpace(b)
	switch {
	case len(alone) == 0:
		h.destroy()
		return handout{}, fmt.Errorf("%s is empty", from)
	case h.part.Present(), h.token.Present(), bytes.ContainsAny(alone, " \t\r\n"):
		h.destroy()
		return handout{}, fmt.Errorf("%s is neither a handout nor one line with the secret alone", from)
	}
	*one = secret.Copy(alone)
	return h, nil
}

// maxHandout bounds a file with a secret, in bytes.
const maxHandout = 1 << 16

// readSecretText reads what flag names, or asks for it.
func readSecretText(p *Process, path, prompt, flag string) ([]byte, error) {
	switch {
	case path == "-":
		return io.ReadAll(io.LimitReader(p.Stdin, maxHandout))
	case path != "":
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		b, err := io.ReadAll(io.LimitReader(f, maxHandout))
		return b, errors.Join(err, f.Close())
	case p.Stdin != nil && term.IsTerminal(int(p.Stdin.Fd())):
		fmt.Fprint(p.Stderr, prompt)
		b, err := term.ReadPassword(int(p.Stdin.Fd()))
		fmt.Fprintln(p.Stderr)
		return b, err
	}
	return nil, usageError{fmt.Errorf("no terminal to ask on: give the secret by %s, which is - for standard input", flag)}
}

// parse reads the part: a share names its own number, a half needs h.half.
func (h handout) parse() (custodian.Part, error) {
	if h.half != 0 {
		return custodian.ParseHalf(h.half, h.part)
	}
	return custodian.ParseShare(h.part)
}
