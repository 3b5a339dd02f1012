package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"cardea/internal/audit"
	"cardea/internal/cloudtrail"
	"cardea/internal/fileenc"
	"cardea/internal/lifecycle"
	"cardea/internal/retention"
)

// touchFlags say in which logs to look for the use of keys.
type touchFlags struct {
	Log   []string      `sep:"none" placeholder:"PLACE" help:"Records of who used it: of AWS CloudTrail (a file, a folder, s3://BUCKET/PREFIX), or a file of 'cardea audit export'; repeat. The logs of the installation itself are read in any case."`
	Since time.Duration `default:"8760h" placeholder:"DURATION" help:"How far back the logs are looked at, at most 8784h (default 8760h)."`
}

// ownLog is a log of ours, opened.
type ownLog struct {
	name string // as a file may be named
	*opened
	origins []string
}

// own opens the logs of the installation, and those in bundles.
func (f touchFlags) own(ctx context.Context, p *Process, j journal) (logs []ownLog, err error) {
	cfg, err := installation(p, j.Config, j.DataDir)
	if err != nil {
		return nil, err
	}
	sources := map[string]logSource{}
	if cfg.KeyService.Enabled() {
		sources["key-service"] = logSource{Config: j.Config, DataDir: j.DataDir, KeyService: true}
	}
	if path := cfg.SQLitePath(); path == "" || fileExists(path) {
		sources["installation"] = logSource{Config: j.Config, DataDir: j.DataDir}
	}
	for i, place := range f.Log {
		if isBundle(place) {
			sources[fmt.Sprintf("bundle-%d", i+1)] = logSource{Bundle: place}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(sources)) {
		src, err := sources[name].open(ctx, p, "use of keys")
		if err != nil {
			return nil, errors.Join(fmt.Errorf("log of the %s: %w", name, err), closeLogs(logs))
		}
		logs = append(logs, ownLog{name: name, opened: src})
		if logs[len(logs)-1].origins, err = src.Logs(ctx); err != nil {
			return nil, errors.Join(err, closeLogs(logs))
		}
	}
	return logs, nil
}

func closeLogs(logs []ownLog) (err error) {
	for _, l := range logs {
		err = errors.Join(err, l.close())
	}
	return err
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func isBundle(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close() //nolint:errcheck // only read from
	start, err := io.ReadAll(io.LimitReader(f, 20))
	return err == nil && bytes.HasPrefix(start, []byte("cardea audit bundle"))
}

// clocksDiffer is by how much clocks of machines may differ.
const clocksDiffer = time.Minute

// look reads all logs and counts the events that of says are of interest, but not those
// of this run in our own logs. CloudTrail's have them only when it has ended.
func (f touchFlags) look(ctx context.Context, p *Process, j journal, own *ownCalls, of func(*cloudtrail.Event) bool) (lifecycle.Touched, error) {
	until := p.Now().Add(clocksDiffer)
	usage, err := retention.NewUsage(until.Add(-f.Since), until)
	if err != nil {
		return lifecycle.Touched{}, usageError{fmt.Errorf("--since: %w", err)}
	}
	seen := newRecent()
	see := func(e *cloudtrail.Event) {
		if e.ID != "" && seen.again(e.ID) {
			usage.Repeat()
		} else if of(e) {
			usage.Add(e)
		}
	}
	logs, err := f.own(ctx, p, j)
	if err != nil {
		return lifecycle.Touched{}, err
	}
	defer closeLogs(logs) //nolint:errcheck // only read from
	var sources []string
	asked := int64(0)
	for _, l := range logs {
		// What is in the archive only may be just what is looked for.
		if _, err := tellAbsent(ctx, p.Stderr, l, l.origins, until.Add(-f.Since)); err != nil {
			return lifecycle.Touched{}, err
		}
		if err := eachLogged(ctx, l, usage, until.Add(-f.Since), func(entry *audit.Entry, e *cloudtrail.Event) {
			if of(e) && own.take(entry) {
				asked++
			} else {
				see(e)
			}
		}); err != nil {
			return lifecycle.Touched{}, err
		}
		sources = append(sources, l.origins...)
	}
	n, err := f.eachRecord(ctx, see)
	if err != nil {
		return lifecycle.Touched{}, err
	}
	usage.Problem(int64(n))
	for _, place := range f.Log {
		if !isBundle(place) {
			sources = append(sources, place)
		}
	}
	t := touchedBy(usage.Report(retention.MaxNames, p.Now(), sources))
	t.Own = asked
	return t, nil
}

// eachLogged gives the events of our own logs since a time.
func eachLogged(ctx context.Context, l ownLog, usage *retention.Usage, since time.Time, see func(*audit.Entry, *cloudtrail.Event)) error {
	for _, origin := range l.origins {
		from, err := retention.From(ctx, l, origin, since)
		if err != nil {
			return err
		}
		for n, err := range audit.Entries(ctx, l, origin, from) {
			if errors.Is(err, audit.ErrMalformedEntry) || errors.Is(err, audit.ErrMalformedSegment) {
				usage.Problem(1)
				continue
			}
			if err != nil {
				return err
			}
			if e, ok := cloudtrail.EventOf(&n.Entry); ok {
				see(&n.Entry, &e)
			}
		}
	}
	return nil
}

// eachRecord gives the events of CloudTrail's files.
func (f touchFlags) eachRecord(ctx context.Context, see func(*cloudtrail.Event)) (problems int, err error) {
	for _, place := range f.Log {
		if isBundle(place) {
			continue
		}
		files, err := trailFiles(ctx, place)
		if err != nil {
			return problems, fmt.Errorf("--log %s: %w", place, err)
		}
		n, err := readFiles(ctx, files, nil, see)
		if problems += n; err != nil {
			return problems, fmt.Errorf("--log %s: %w", place, err)
		}
	}
	return problems, nil
}

func touchedBy(r retention.Report) lifecycle.Touched {
	uses := func(t retention.Table) []lifecycle.Use {
		all := []lifecycle.Use{}
		for _, c := range t.Top {
			all = append(all, lifecycle.Use{Name: c.Name, Calls: c.Calls, Failed: c.Failed, First: c.First, Last: c.Last})
		}
		return all
	}
	return lifecycle.Touched{
		Since: r.Since, Until: r.Until, Sources: r.Sources, Calls: r.Calls, Failed: r.Failed, Problems: r.Problems,
		Principals: uses(r.Principals), Operations: uses(r.Operations), Tenants: uses(r.Tenants), Keys: uses(r.Keys), Files: []string{},
	}
}

// openableFiles are the files in folders whose header says that a key opens them.
func openableFiles(folders []string) func(key string) ([]string, error) {
	if len(folders) == 0 {
		return nil
	}
	return func(key string) ([]string, error) {
		id := key[strings.LastIndexByte(key, '/'):]
		found := []string{}
		for _, folder := range folders {
			in, err := filesOpenedBy(folder, id)
			if err != nil {
				return nil, fmt.Errorf("--files: %w", err)
			}
			found = append(found, in...)
		}
		return found, nil
	}
}

// filesOpenedBy are the files in a folder, and in none that a link leads to, whose
// header names a key that ends in id.
func filesOpenedBy(folder, id string) (found []string, err error) {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, err
	}
	defer root.Close() //nolint:errcheck // only read from
	err = fs.WalkDir(root.FS(), ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		f, err := root.Open(path)
		if err != nil {
			return err
		}
		defer f.Close() //nolint:errcheck // only read from
		h, err := fileenc.ReadHeader(f, maxInspectedKeys)
		if err != nil {
			return nil //nolint:nilerr // it is no encrypted file
		}
		if slices.ContainsFunc(h.KeyNames(), func(name string) bool { return strings.HasSuffix(name, id) }) {
			found = append(found, filepath.Join(folder, path))
		}
		return nil
	})
	return found, err
}

// maxInspectedKeys is how many keys an encrypted file may be under and be looked at.
const maxInspectedKeys = 1000
