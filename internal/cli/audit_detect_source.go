package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"cardea/internal/cloudtrail"
	"cardea/internal/collect"
)

// trailFlags say where records of AWS CloudTrail are.
type trailFlags struct {
	From        []string `aliases:"source" placeholder:"PLACE" xor:"source" help:"Records of AWS CloudTrail: a file, a folder, s3://BUCKET/PREFIX, sqs:URL or lookup:. May be given more than once."`
	QueueBucket []string `placeholder:"NAME" help:"With sqs: a bucket that messages may name; none unless given."`
	Digests     bool     `help:"Verify CloudTrail's digests too; what is wrong is an alert of R20."`
	PublicKeys  []string `type:"path" placeholder:"FILE" help:"With --digests: what 'aws cloudtrail list-public-keys' printed, one file for each region. Without it AWS is asked."`
	EndpointURL string   `name:"endpoint-url" placeholder:"URL" help:"Instead of AWS's own."`
	Region      string   `placeholder:"NAME" help:"Region of the bucket, queue or lookup, if the environment does not tell."`
	Profile     string   `placeholder:"NAME" help:"Profile of AWS's shared configuration."`
}

// placesHelp is what the commands say of places.
const placesHelp = "Files may be CloudTrail's own, one record a line, EventBridge's envelopes, what 'aws cloudtrail lookup-events' printed, or exports of CloudWatch Logs, " +
	"each compressed or not. sqs: is followed by the URL of a queue that tells of new objects; lookup: asks AWS for the events of KMS, lookup:* for all, " +
	"of the last 90 days at most. "

// places are those of --from.
func (f trailFlags) places() ([]collect.Place, error) {
	var list []collect.Place
	for _, text := range f.From {
		p, err := collect.ParsePlace(text)
		if err != nil {
			return nil, usageError{fmt.Errorf("--from: %w", err)}
		}
		p.AWS, p.Buckets = collect.AWS{Region: f.Region, Profile: f.Profile, Endpoint: f.EndpointURL}, f.QueueBucket
		if p.Kind == collect.KindQueue && len(p.Buckets) == 0 {
			return nil, usageError{errors.New("--queue-bucket is missing: name the buckets that messages may name, for whoever can write to the queue must not choose")}
		}
		list = append(list, p)
	}
	if !f.Digests && len(f.PublicKeys) > 0 {
		return nil, usageError{errors.New("--public-keys has no effect without --digests")}
	}
	if f.Digests && len(list) == 0 {
		return nil, usageError{errors.New("--digests: name a trail by --from; our own logs are verified by 'cardea audit verify'")}
	}
	return list, nil
}

// keys are the public keys of digests, nil for those that AWS gives.
func (f trailFlags) keys(p *Process) (cloudtrail.Keys, error) {
	if !f.Digests {
		return nil, nil
	}
	if len(f.PublicKeys) == 0 {
		fmt.Fprintln(p.Stderr, "asking AWS for the public keys; give them by --public-keys to verify offline")
		return nil, nil
	}
	return trailKeys(f.PublicKeys)
}

// each gives the events of a time, about in their order, and how many parts of the
// source were none.
func (f detectFlags) each(ctx context.Context, p *Process, from, until time.Time, see func(*cloudtrail.Event)) (problems int, err error) {
	within := func(e *cloudtrail.Event) {
		if !e.Time.Before(from) && e.Time.Before(until) {
			see(e)
		}
	}
	places, err := f.places()
	if err != nil {
		return 0, err
	}
	if len(places) == 0 {
		return f.eachEntry(ctx, p, from, within)
	}
	names := cloudtrail.NewNames()
	var timed, others []trailFile
	var early unsorted
	for _, place := range places {
		switch place.Kind {
		case collect.KindQueue:
			return 0, usageError{hinted(fmt.Errorf("--from %s: a queue has no past to look at", place), "read it with 'cardea audit watch'")}
		case collect.KindLookup:
			n, err := early.lookUp(ctx, p, place, from, names)
			problems += n
			if err != nil {
				return problems, err
			}
			continue
		}
		files, err := filesOf(ctx, place)
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
	n, err := early.readFiles(ctx, names, timed, others, within)
	return problems + n, err
}

// eachDigest gives what is wrong with the digests of a time.
func (f detectFlags) eachDigest(ctx context.Context, p *Process, since, until time.Time, see func(*cloudtrail.Event)) error {
	places, err := f.places()
	if err != nil {
		return err
	}
	keys, err := f.keys(p)
	if err != nil {
		return err
	}
	for _, place := range places {
		events, err := place.VerifyDigests(ctx, keys, cloudtrail.DigestOptions{Now: p.Now, Since: since, Until: until})
		if err != nil {
			return hinted(fmt.Errorf("--digests: %s: %w", place, err), "name the place that AWSLogs is in, and see that the trail has log file validation")
		}
		for i := range events {
			see(&events[i])
		}
	}
	return nil
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

// trailFiles are the files of a place as people write it, of the AWS that the
// environment tells.
func trailFiles(ctx context.Context, text string) ([]trailFile, error) {
	place, err := collect.ParsePlace(text)
	if err != nil {
		return nil, err
	}
	return filesOf(ctx, place)
}

func filesOf(ctx context.Context, place collect.Place) ([]trailFile, error) {
	objects, prefix, err := place.Objects(ctx)
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

// maxUnsorted is how many events of files that do not tell their time are sorted
// in memory.
const maxUnsorted = 1_000_000

// unsorted are events that may have come in any order.
type unsorted []cloudtrail.Event

func (u *unsorted) add(e *cloudtrail.Event) error {
	if len(*u) >= maxUnsorted {
		return fmt.Errorf("more than %d events in files whose names do not tell their time: name fewer of them, or a folder as CloudTrail writes it", maxUnsorted)
	}
	*u = append(*u, *e)
	return nil
}

// lookUp adds what LookupEvents gives, which is the newest first.
func (u *unsorted) lookUp(ctx context.Context, p *Process, place collect.Place, from time.Time, names *cloudtrail.Names) (problems int, err error) {
	state, err := os.MkdirTemp("", "cardea-lookup-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(state)) }()
	place.Since = from
	s, err := place.Open(ctx, collect.Options{State: state, Now: p.Now, Names: names})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	for {
		b, err := s.Next(ctx)
		if errors.Is(err, io.EOF) {
			return problems, nil
		}
		if err != nil {
			return problems, hinted(fmt.Errorf("--from %s: %w", place, err), "see that AWS's credentials are there, and name the region by --region")
		}
		problems += len(b.Problems)
		for i := range b.Events {
			if err := u.add(&b.Events[i]); err != nil {
				return problems, err
			}
		}
	}
}

// readFiles reads files as unsorted.readFiles does.
func readFiles(ctx context.Context, timed, others []trailFile, see func(*cloudtrail.Event)) (problems int, err error) {
	var none unsorted
	return none.readFiles(ctx, cloudtrail.NewNames(), timed, others, see)
}

// readFiles reads files in the order of the times that their names tell. Files of
// other names may have any order: their events are sorted.
func (u *unsorted) readFiles(ctx context.Context, names *cloudtrail.Names, timed, others []trailFile, see func(*cloudtrail.Event)) (problems int, err error) {
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
		if err := read(x, u.add); err != nil {
			return problems, err
		}
	}
	sorted := *u
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
func (f detectFlags) eachEntry(ctx context.Context, p *Process, since time.Time, see func(*cloudtrail.Event)) (problems int, err error) {
	src, err := f.open(ctx, p, "detect")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, src.close()) }()
	origins, err := f.origins(ctx, src)
	if err != nil {
		return 0, err
	}
	missing, err := tellAbsent(ctx, p.Stderr, src, origins, since)
	if err != nil {
		return 0, err
	}
	if missing {
		problems++
	}
	_, n, err := collect.EachEntry(ctx, src, origins, nil, func(e *cloudtrail.Event) bool {
		see(e)
		return true
	})
	return problems + n, err
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
