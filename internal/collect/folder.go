package collect

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxQueue is how many files are queued at a time.
const maxQueue = 10_000

// Folder is a source of the files in a folder and in those below it. Compressed
// files are read once, again if they change; plain ones are read on as they grow.
// Names that begin with a dot, end with .tmp, .part or .metadata.json, and folders
// of digests and Insights are left out. Symbolic links are not followed.
type Folder struct{ *files }

// OpenFolder opens a folder as a source.
func OpenFolder(dir string, o Options) (*Folder, error) {
	if st, err := os.Stat(dir); err != nil {
		return nil, err
	} else if !st.IsDir() {
		return nil, fmt.Errorf("%s is no folder", dir)
	}
	f, err := newFiles(dir, &folder{root: dir}, o)
	if err != nil {
		return nil, err
	}
	return &Folder{f}, nil
}

type folder struct {
	root string
	all  map[uint64]struct{}
}

func (d *folder) more(ctx context.Context, done func(file) bool) (list []file, err error) {
	d.all = map[uint64]struct{}{}
	var first error
	full := false
	err = filepath.WalkDir(d.root, func(path string, e fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			if first == nil {
				first = err
			}
			return nil
		case e.IsDir():
			if path != d.root && (strings.HasPrefix(e.Name(), ".") || noRecords(e.Name())) {
				return filepath.SkipDir
			}
			return nil
		case !e.Type().IsRegular() || leftOut(e.Name()):
			return nil
		}
		st, err := e.Info()
		if err != nil { // gone meanwhile
			return nil //nolint:nilerr // a file that is not there any more
		}
		name, err := filepath.Rel(d.root, path)
		if err != nil {
			return err
		}
		x := file{name: filepath.ToSlash(name), version: fmt.Sprintf("%d-%d", st.Size(), st.ModTime().UnixNano()), size: st.Size(), grows: !strings.HasSuffix(name, ".gz")}
		d.all[x.mark()] = struct{}{}
		if !done(x) {
			list = append(list, x)
		}
		if len(list) >= maxQueue {
			full = true
			return fs.SkipAll
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case full || first != nil && len(list) > 0:
		d.all = nil
		return list, nil
	case first != nil:
		return nil, first
	}
	return list, io.EOF
}

func noRecords(folder string) bool {
	return folder == "CloudTrail-Digest" || folder == "CloudTrail-Insight" || folder == "CloudTrail-Aggregated"
}

func leftOut(name string) bool {
	if strings.HasPrefix(name, ".") {
		return true
	}
	for _, end := range []string{".tmp", ".part", ".metadata.json"} {
		if strings.HasSuffix(name, end) {
			return true
		}
	}
	return false
}

func (d *folder) open(_ context.Context, x file) (io.ReadCloser, error) {
	f, err := os.OpenInRoot(d.root, filepath.FromSlash(x.name))
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (d *folder) placed(file)                 {}
func (d *folder) progress() map[string]string { return nil }
func (d *folder) restore(map[string]string)   {}
func (d *folder) wanted() map[uint64]struct{} { return d.all }
