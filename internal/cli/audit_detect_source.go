package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"cardea/internal/audit"
	"cardea/internal/cloudtrail"
	"cardea/internal/collect"
)

// each gives the events of a time, about in their order, and how many parts of the
// source were none.
func (f detectFlags) each(ctx context.Context, p *Process, from, until time.Time, see func(*cloudtrail.Event)) (problems int, err error) {
	within := func(e *cloudtrail.Event) {
		if !e.Time.Before(from) && e.Time.Before(until) {
			see(e)
		}
	}
	if len(f.From) == 0 {
		return f.eachEntry(ctx, p, within)
	}
	var timed, others []trailFile
	for _, place := range f.From {
		files, err := trailFiles(ctx, place)
		if err != nil {
			return 0, fmt.Errorf("--from %s: %w", place, err)
		}
		for _, x := range files {
			switch {
			case x.time.IsZero():
				others = append(others, x)
			case !x.time.Before(from) && x.time.Before(until.Add(deliveryLag)):
				timed = append(timed, x)
			}
		}
	}
	slices.SortFunc(timed, func(a, b trailFile) int { return cmp.Or(a.time.Compare(b.time), strings.Compare(a.name, b.name)) })
	return readFiles(ctx, timed, others, within)
}

// deliveryLag is how long after its events a file of CloudTrail may be named.
const deliveryLag = 30 * time.Minute

// trailFile is a file with records.
type trailFile struct {
	objects cloudtrail.Objects
	name    string
	time    time.Time // in the name, if it is CloudTrail's own; zero otherwise
}

var fileTime = regexp.MustCompile(`_CloudTrail_[a-z0-9-]+_(\d{8}T\d{4})Z_`)

func trailFiles(ctx context.Context, place string) ([]trailFile, error) {
	objects, prefix, err := trailPlace(ctx, place)
	if err != nil {
		return nil, err
	}
	var files []trailFile
	for name, err := range objects.List(ctx, prefix) {
		if err != nil {
			return nil, err
		}
		base := name[strings.LastIndexByte(name, '/')+1:]
		if strings.Contains(name, "CloudTrail-Digest/") || strings.Contains(name, "CloudTrail-Insight/") || strings.HasPrefix(base, ".") || strings.HasSuffix(base, ".metadata.json") {
			continue
		}
		x := trailFile{objects: objects, name: name}
		if m := fileTime.FindStringSubmatch(base); m != nil {
			if t, err := time.Parse("20060102T1504", m[1]); err == nil {
				x.time = t
			}
		}
		files = append(files, x)
	}
	if len(files) == 0 {
		return nil, errors.New("no files there")
	}
	return files, nil
}

// trailPlace finds what a place names: a bucket, a folder, or one file of one.
func trailPlace(ctx context.Context, place string) (cloudtrail.Objects, string, error) {
	if rest, ok := strings.CutPrefix(place, "s3://"); ok {
		bucket, prefix, _ := strings.Cut(rest, "/")
		o, err := collect.Objects(ctx, collect.AWS{}, bucket)
		return o, prefix, err
	}
	st, err := os.Stat(place)
	if err != nil {
		return nil, "", err
	}
	if st.IsDir() {
		return collect.Dir(place), "", nil
	}
	return onlyFile{place}, "", nil
}

// onlyFile is one file as objects.
type onlyFile struct{ path string }

// List implements cloudtrail.Objects.
func (f onlyFile) List(context.Context, string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) { yield(filepath.Base(f.path), nil) }
}

// Open implements cloudtrail.Objects.
func (f onlyFile) Open(context.Context, string) (cloudtrail.Object, error) {
	file, err := os.Open(f.path)
	return cloudtrail.Object{Body: file}, err
}

// maxUnsorted is how many events of files that do not tell their time are sorted
// in memory.
const maxUnsorted = 1_000_000

// readFiles reads files in the order of the times that their names tell. Files of
// other names may have any order (LookupEvents gives the newest first): their
// events are sorted.
func readFiles(ctx context.Context, timed, others []trailFile, see func(*cloudtrail.Event)) (problems int, err error) {
	names := cloudtrail.NewNames()
	var sorted []cloudtrail.Event
	read := func(x trailFile, each func(*cloudtrail.Event) error) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		o, err := x.objects.Open(ctx, x.name)
		if err != nil {
			return fmt.Errorf("%s: %w", x.name, err)
		}
		defer o.Body.Close()
		s, err := cloudtrail.Parse(o.Body, cloudtrail.Options{Names: names}, each)
		problems += int(s.Skipped)
		if err != nil {
			return fmt.Errorf("%s: %w", x.name, err)
		}
		return nil
	}
	for _, x := range others {
		err := read(x, func(e *cloudtrail.Event) error {
			if len(sorted) >= maxUnsorted {
				return fmt.Errorf("more than %d events in files whose names do not tell their time: name fewer of them, or a folder as CloudTrail writes it", maxUnsorted)
			}
			sorted = append(sorted, *e)
			return nil
		})
		if err != nil {
			return problems, err
		}
	}
	slices.SortStableFunc(sorted, func(a, b cloudtrail.Event) int { return a.Time.Compare(b.Time) })
	for _, x := range timed {
		for len(sorted) > 0 && sorted[0].Time.Before(x.time.Add(-deliveryLag)) {
			see(&sorted[0])
			sorted = sorted[1:]
		}
		err := read(x, func(e *cloudtrail.Event) error {
			see(e)
			return nil
		})
		if err != nil {
			return problems, err
		}
	}
	for i := range sorted {
		see(&sorted[i])
	}
	return problems, nil
}

// eachEntry gives the entries of our own logs, in the order of time.
func (f detectFlags) eachEntry(ctx context.Context, p *Process, see func(*cloudtrail.Event)) (problems int, err error) {
	src, err := f.open(ctx, p, "detect")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, src.close()) }()
	origins, err := f.origins(ctx, src)
	if err != nil {
		return 0, err
	}
	type log struct {
		event cloudtrail.Event
		next  func() (audit.Numbered, error, bool)
	}
	var logs []*log
	more := func(l *log) (bool, error) {
		for {
			n, err, ok := l.next()
			switch {
			case !ok:
				return false, nil
			case errors.Is(err, audit.ErrMalformedEntry) || errors.Is(err, audit.ErrMalformedSegment):
				problems++
				continue
			case err != nil:
				return false, err
			}
			if e, ok := cloudtrail.EventOf(&n.Entry); ok {
				l.event = e
				return true, nil
			}
		}
	}
	for _, origin := range origins {
		next, stop := iter.Pull2(audit.Entries(ctx, src, origin, 0))
		defer stop()
		l := &log{next: next}
		if ok, err := more(l); err != nil {
			return problems, err
		} else if ok {
			logs = append(logs, l)
		}
	}
	for len(logs) > 0 {
		first := slices.MinFunc(logs, func(a, b *log) int { return a.event.Time.Compare(b.event.Time) })
		see(&first.event)
		ok, err := more(first)
		if err != nil {
			return problems, err
		}
		if !ok {
			logs = slices.DeleteFunc(logs, func(l *log) bool { return l == first })
		}
	}
	return problems, nil
}

// recent remembers ids of the last events: CloudTrail delivers some twice.
type recent struct {
	seed     maphash.Seed
	now, was map[uint64]struct{}
}

const recentIDs = 200_000

func newRecent() *recent {
	return &recent{seed: maphash.MakeSeed(), now: map[uint64]struct{}{}}
}

// again reports whether the id came before.
func (r *recent) again(id string) bool {
	h := maphash.String(r.seed, id)
	if _, ok := r.now[h]; ok {
		return true
	}
	if _, ok := r.was[h]; ok {
		return true
	}
	if len(r.now) >= recentIDs {
		r.was, r.now = r.now, make(map[uint64]struct{}, recentIDs)
	}
	r.now[h] = struct{}{}
	return false
}
