package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// fileFlags say what is read and written.
type fileFlags struct {
	In        string `default:"-" placeholder:"FILE" help:"What to read; standard input if not given, or -."`
	Out       string `default:"-" placeholder:"FILE" help:"Where to write; standard output if not given, or -."`
	Force     bool   `help:"Replace a file that exists."`
	Recursive bool   `short:"r" help:"In is a folder: work on each file below it, into the folder that --out names. Files that are there already are left alone, so a second run goes on where the first ended; so are files that are removed meanwhile."`
	Sync      bool   `help:"Wait until the disk has the file, as is always done for a file that replaces another."`
}

// sink is what is written. Nothing is under its name before commit.
type sink interface {
	io.Writer
	// commit gives the output its name; abort forgets it. One of them ends it.
	commit() error
	abort() error
	// stream says that what is written is gone: no commit can hold it back.
	stream() bool
}

// errExists says that a file is in the way.
var errExists = errors.New("exists already")

// openOutput is the output of a name. A pipe or a device is written at once, a file
// goes into a file without a name beside it until it is complete.
func openOutput(p *Process, name string, force, sync bool) (sink, error) {
	if name == "-" {
		return streamOutput{p.Stdout, nil}, nil
	}
	info, err := os.Stat(name)
	switch {
	case err == nil && info.IsDir():
		return nil, usageError{fmt.Errorf("%s is a folder: name a file in it", name)}
	case err == nil && !info.Mode().IsRegular():
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return nil, err
		}
		return streamOutput{f, f}, nil
	case err == nil && !force:
		return nil, taken(name)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	replace := err == nil
	if replace { // what a link points to, not the link
		if name, err = filepath.EvalSymlinks(name); err != nil {
			return nil, err
		}
	}
	f, nameless, err := hiddenFile(filepath.Dir(name))
	if err != nil {
		return nil, err
	}
	o := &fileOutput{File: f, nameless: nameless, name: name, force: force, sync: sync || replace}
	if replace {
		if err := errors.Join(keepOwner(f, info), f.Chmod(info.Mode().Perm())); err != nil {
			return nil, errors.Join(err, o.abort())
		}
	}
	return o, nil
}

func taken(name string) error {
	return fmt.Errorf("%s %w: choose another name, or replace it by --force", name, errExists)
}

type streamOutput struct {
	io.Writer
	file *os.File // to close, or nil
}

func (o streamOutput) stream() bool { return true }
func (o streamOutput) abort() error { return o.commit() }

func (o streamOutput) commit() error {
	if o.file == nil {
		return nil
	}
	return o.file.Close()
}

// fileOutput is a file that gets its name at the end, in one step.
type fileOutput struct {
	*os.File
	nameless bool // it has no name at all yet, and is gone with the process
	name     string
	force    bool
	sync     bool
}

func (o *fileOutput) stream() bool { return false }

func (o *fileOutput) abort() error {
	err := o.Close()
	if !o.nameless {
		err = errors.Join(err, os.Remove(o.Name()))
	}
	return err
}

func (o *fileOutput) commit() (err error) {
	if o.sync {
		if err := o.Sync(); err != nil {
			return errors.Join(err, o.abort())
		}
	}
	// A link fails if the name was taken meanwhile, a rename replaces it.
	from, to := o.Name(), o.name
	if o.nameless && o.force {
		// Not of the process id: in a container it is always the same.
		to = filepath.Join(filepath.Dir(o.name), ".cardea-"+rand.Text()+".partial")
	}
	switch {
	case o.nameless:
		if err = link(o.File, to); err == nil && o.force {
			if err = os.Rename(to, o.name); err != nil {
				err = errors.Join(err, os.Remove(to))
			}
		}
	case o.force:
		err = os.Rename(from, o.name)
	default:
		err = os.Link(from, o.name)
	}
	if errors.Is(err, fs.ErrExist) {
		err = taken(o.name)
	}
	if err != nil {
		return errors.Join(err, o.abort())
	}
	if !o.nameless && !o.force {
		err = os.Remove(from)
	}
	if err := errors.Join(err, o.Close()); err != nil || !o.sync {
		return err
	}
	dir, err := os.Open(filepath.Dir(o.name))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// partFile is a file with a name that is not the final one, where there is no other
// way.
func partFile(dir string) (*os.File, bool, error) {
	f, err := os.CreateTemp(dir, ".cardea-*.partial")
	return f, false, err
}

// each does the work on the one input, or on each file of a folder, and prints what
// became of it where standard output is not the output itself. Rename gives the name
// of a file's output, or says that the file is none to work on.
func (c fileFlags) each(ctx context.Context, p *Process, done string, rename func(string) (string, bool), work func(*input, sink) (string, error)) error {
	if !c.Recursive {
		return c.one(p, done, c.In, c.Out, work)
	}
	if c.In == "-" || c.Out == "-" {
		return usageError{errors.New("--recursive: name a folder by --in, and one by --out")}
	}
	names, err := filesBelow(c.In)
	if err != nil {
		return err
	}
	left := 0
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		target, ok := rename(name)
		if !ok {
			left++
			continue
		}
		target = filepath.Join(c.Out, target)
		if _, err := os.Stat(target); err == nil && !c.Force {
			left++
			continue
		}
		if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
			return err
		}
		c.Sync = true // a file that is there is taken for complete by the next run
		from := filepath.Join(c.In, name)
		err := c.one(p, done, from, target, work)
		if _, gone := os.Lstat(from); errors.Is(err, fs.ErrNotExist) && errors.Is(gone, fs.ErrNotExist) || errors.Is(err, errExists) {
			left++ // removed since the folder was looked at, or another run was first
			continue
		}
		if err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(p.Stdout, "%d files %s, %d left alone\n", len(names)-left, done, left)
	return err
}

func (c fileFlags) one(p *Process, done, from, to string, work func(*input, sink) (string, error)) error {
	in, err := openInput(p, from)
	if err != nil {
		return err
	}
	defer in.close() //nolint:errcheck // only read from
	out, err := openOutput(p, to, c.Force, c.Sync)
	if err != nil {
		return err
	}
	what, err := work(in, out)
	if err != nil {
		if aerr := out.abort(); aerr != nil && !errors.Is(aerr, os.ErrClosed) {
			err = errors.Join(err, aerr)
		}
		if c.Recursive {
			err = fmt.Errorf("%s: %w", from, err)
		}
		return err
	}
	if err := out.commit(); err != nil || out.stream() {
		return err
	}
	_, err = fmt.Fprintf(p.Stdout, "%s: %s, %s\n", printable(to), done, printable(what))
	return err
}

// filesBelow are the regular files below a folder, by their names in it, sorted.
func filesBelow(dir string) ([]string, error) {
	var names []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || strings.HasPrefix(e.Name(), ".cardea-") {
			return err
		}
		name, err := filepath.Rel(dir, path)
		names = append(names, name)
		return err
	})
	slices.Sort(names)
	return names, err
}
