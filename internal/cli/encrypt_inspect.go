package cli

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"cardea/internal/fileenc"
)

type inspectCommand struct {
	output
	File    string `arg:"" optional:"" placeholder:"FILE" help:"File to look at; standard input if not given, or -."`
	In      string `placeholder:"FILE" help:"The same, as other commands on files have it; standard input if not given."`
	MaxKeys int    `default:"100" placeholder:"100" help:"Encrypted data keys that the file may have."`
}

// Help implements kong.HelpProvider.
func (inspectCommand) Help() string {
	return "Examples:\n  cardea inspect backup.tar.encrypted\n  cardea inspect --in backup.tar.encrypted --output json\n\n" +
		"It asks no key, so it shows what the file claims: only 'cardea decrypt' finds out whether that is true."
}

// inspection is what a header says.
type inspection struct {
	File        string        `json:"file"`
	Version     byte          `json:"version"`
	Suite       string        `json:"suite"`
	Algorithms  string        `json:"algorithms"`
	Committing  bool          `json:"key_commitment"`
	Signed      bool          `json:"signed"`
	MessageID   string        `json:"message_id"`
	Context     []inspectPair `json:"encryption_context"`
	Keys        []inspectKey  `json:"keys"`
	FrameLength uint32        `json:"frame_length"` // 0: one piece
	Size        int64         `json:"size,omitzero"`
}

type inspectPair struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

type inspectKey struct {
	Provider string `json:"provider"`
	Key      string `json:"key"`
}

func (c inspectCommand) Run(_ context.Context, p *Process) error {
	if c.File != "" && c.In != "" {
		return usageError{errors.New("name the file once: as the argument, or by --in")}
	}
	in, err := openInput(p, cmp.Or(c.File, c.In, "-"))
	if err != nil {
		return err
	}
	defer in.close() //nolint:errcheck // only read from
	h, err := fileenc.ReadHeader(in, c.MaxKeys)
	if err != nil {
		return advised(fmt.Errorf("%s: %w", in.name, err), false)
	}
	x := inspection{
		File: in.name, Version: h.Version, Suite: h.Suite.String(), Algorithms: h.Suite.Describe(), Committing: h.Suite.Committing(), Signed: h.Suite.Signed(),
		MessageID: hex.EncodeToString(h.MessageID), FrameLength: h.FrameLength, Size: in.size, Context: []inspectPair{},
	}
	for _, pair := range h.Context {
		x.Context = append(x.Context, inspectPair{pair.Key, pair.Value})
	}
	for i, name := range h.KeyNames() {
		x.Keys = append(x.Keys, inspectKey{h.Keys[i].Provider, name})
	}
	return c.print(p.Stdout, x, func(w io.Writer) error {
		frames := fmt.Sprintf("%d bytes", x.FrameLength)
		if x.FrameLength == 0 {
			frames = "none, the body is one piece"
		}
		rows := [][]string{
			{"file", x.File},
			{"format", fmt.Sprintf("AWS Encryption SDK, version %d", x.Version)},
			{"suite", x.Suite + " " + x.Algorithms},
			{"key commitment", yesNo(x.Committing)},
			{"signed", yesNo(x.Signed)},
			{"message id", x.MessageID},
			{"frames", frames},
		}
		for _, pair := range x.Context {
			rows = append(rows, []string{"context", pair.Key + "=" + pair.Value})
		}
		for _, k := range x.Keys {
			rows = append(rows, []string{"key", k.Key})
		}
		return fields(w, rows...)
	})
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
