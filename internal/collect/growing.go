package collect

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"strings"
)

// headSize is how much of a file's start tells it from others: some records with
// their ids.
const headSize = 8 << 10

// leastHead is how much of it a file must have had to be known again under another
// name.
const leastHead = 2 << 10

// rotated stands in the name of what was read under a name that is another file's
// now, which no file has.
const rotated = "\x00"

// resume goes to where a file that grows was read to. A file that became shorter,
// or begins otherwise, is another one and read from its start; one that is known
// under another name was rotated, and is read on. It reports what to read.
func (f *files) resume(r *reading) (io.Reader, error) {
	body, ok := r.body.(io.ReadSeeker)
	if !ok {
		return nil, errors.New("a file that grows must be seekable")
	}
	head := make([]byte, headSize)
	n, err := io.ReadFull(body, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, err
	}
	head = head[:n]
	if bytes.HasPrefix(head, []byte{0x1f, 0x8b}) { // compressed, whatever its name
		r.grows = false
		_, err := body.Seek(0, io.SeekStart)
		return body, err
	}
	size, err := body.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	sums := map[int]string{}
	sum := func(n int) string {
		if _, there := sums[n]; !there {
			h := sha256.Sum256(head[:n])
			sums[n] = hex.EncodeToString(h[:16])
		}
		return sums[n]
	}
	continues := func(g growing) bool {
		return g.HeadLen > 0 && g.HeadLen <= len(head) && g.Offset <= size && sum(g.HeadLen) == g.Head
	}
	r.head, r.headLen = sum(len(head)), len(head)
	if g, there := f.growing[r.name]; there {
		if continues(g) {
			r.from = g.Offset
		} else if g.HeadLen >= leastHead { // it may be found under another name
			moved := r.name + rotated + g.Head[:8]
			f.growing[moved] = g
			f.step(step{file: file{name: moved}, growing: &g})
		}
	} else {
		for name, g := range f.growing {
			if g.HeadLen < leastHead || !continues(g) {
				continue
			}
			r.from = max(r.from, g.Offset)
			if strings.Contains(name, rotated) {
				delete(f.growing, name)
				f.step(step{file: file{name: name}, forget: true})
			}
		}
	}
	_, err = body.Seek(r.from, io.SeekStart)
	return body, err
}

// grown notes how far a file that grows was read: to its end for now, or not.
// What of its end is incomplete is read again when there is more.
func (f *files) grown(r *reading, ended, incomplete bool) {
	was, there := f.growing[r.name]
	read := f.read.Stats().Bytes
	g := growing{Offset: r.from + f.read.Whole(), Size: r.from + read, Head: r.head, HeadLen: r.headLen, Since: f.now().UTC()}
	if ended {
		g.Version = r.version
		if !incomplete {
			g.Offset = g.Size
		}
	}
	if there && was.Offset == g.Offset && was.Size == g.Size {
		g.Since = was.Since
	}
	f.growing[r.name] = g
	delete(f.bad, r.name)
	f.step(step{file: r.file, growing: &g})
	if len(f.growing) > maxGrowing {
		f.forget(r.name)
	}
	f.findings()
}

// forget takes the file that has not grown for longest as one that will not any
// more. If it does, it is read from its start.
func (f *files) forget(but string) {
	oldest := ""
	for name, g := range f.growing {
		if name != but && g.Offset == g.Size && g.Version != "" && (oldest == "" || g.Since.Before(f.growing[oldest].Since)) {
			oldest = name
		}
	}
	if oldest == "" {
		return
	}
	x := file{name: oldest, version: f.growing[oldest].Version}
	delete(f.growing, oldest)
	f.step(step{file: x, done: true})
}

func makeFolder(dir string) error {
	if dir == "" {
		return errors.New("no folder for what is remembered")
	}
	return os.MkdirAll(dir, 0o700)
}
