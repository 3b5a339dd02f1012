package collect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"cardea/internal/cloudtrail"
)

// Kind is what a Place is.
type Kind string

// Kinds of places.
const (
	KindFolder Kind = "folder" // of files, also one file
	KindS3     Kind = "s3"     // a bucket
	KindQueue  Kind = "sqs"    // a queue that tells of new objects
	KindLookup Kind = "lookup" // the LookupEvents operation
)

// Place is where records of CloudTrail are. Files, in folders and buckets, may be
// CloudTrail's own, one record a line, EventBridge's envelopes, what LookupEvents
// printed, or exports of CloudWatch Logs, each compressed or not.
type Place struct {
	Kind Kind
	AWS  AWS

	Path           string   // KindFolder
	Bucket, Prefix string   // KindS3
	Queue          string   // KindQueue: its URL
	Buckets        []string // KindQueue: those that messages may name
	EventSource    string   // KindLookup: default kms.amazonaws.com; "*" is all

	Since time.Time // KindS3 and KindLookup: where reading begins, the first time
}

// ParsePlace reads a place as people write it: a path, s3://BUCKET/PREFIX, sqs:URL,
// lookup: or lookup:EVENTSOURCE.
func ParsePlace(text string) (Place, error) {
	if rest, ok := strings.CutPrefix(text, "s3://"); ok {
		bucket, prefix, _ := strings.Cut(rest, "/")
		if bucket == "" {
			return Place{}, fmt.Errorf("%q names no bucket: want s3://BUCKET/PREFIX", text)
		}
		return Place{Kind: KindS3, Bucket: bucket, Prefix: prefix}, nil
	}
	if rest, ok := strings.CutPrefix(text, "sqs:"); ok {
		u, err := url.Parse(rest)
		if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			return Place{}, fmt.Errorf("%q is no queue: want sqs: and its URL, such as sqs:https://sqs.eu-central-1.amazonaws.com/111122223333/trail", text)
		}
		return Place{Kind: KindQueue, Queue: rest}, nil
	}
	if rest, ok := strings.CutPrefix(text, "lookup:"); ok {
		return Place{Kind: KindLookup, EventSource: rest}, nil
	}
	if text == "" {
		return Place{}, errors.New("no place")
	}
	return Place{Kind: KindFolder, Path: text}, nil
}

// String is the place as ParsePlace reads it.
func (p Place) String() string {
	switch p.Kind {
	case KindS3:
		return "s3://" + p.Bucket + "/" + p.Prefix
	case KindQueue:
		return "sqs:" + p.Queue
	case KindLookup:
		return "lookup:" + p.EventSource
	}
	return p.Path
}

// SourceCloser is a Source that holds something open.
type SourceCloser interface {
	Source
	io.Closer
}

type closing struct {
	Source
	close func() error
}

func (c closing) Close() error { return c.close() }

// Open opens a place as a source that gives each event once (see Unique). It
// remembers in folders of its own below o.State.
func (p Place) Open(ctx context.Context, o Options) (SourceCloser, error) {
	seen, err := OpenSeen(filepath.Join(o.State, "seen"), 0)
	if err != nil {
		return nil, err
	}
	o.State = filepath.Join(o.State, "source")
	var s Source
	switch p.Kind {
	case KindFolder:
		s, err = OpenFolder(p.Path, o)
	case KindS3:
		s, err = OpenBucket(ctx, BucketOptions{Options: o, AWS: p.AWS, Bucket: p.Bucket, Prefix: p.Prefix, Since: p.Since})
	case KindQueue:
		s, err = OpenQueue(ctx, QueueOptions{Options: o, AWS: p.AWS, URL: p.Queue, Buckets: p.Buckets})
	case KindLookup:
		s, err = OpenLookup(ctx, LookupOptions{Options: o, AWS: p.AWS, Source: p.EventSource, Since: p.Since})
	default:
		err = fmt.Errorf("no kind of place %q", p.Kind)
	}
	if err != nil {
		return nil, errors.Join(err, seen.Close())
	}
	return closing{Unique(s, seen), func() error {
		var err error
		if c, ok := s.(io.Closer); ok {
			err = c.Close()
		}
		return errors.Join(err, seen.Close())
	}}, nil
}

// errNoObjects says that a place has no files to look through.
var errNoObjects = errors.New("only a folder or a bucket can be looked through")

// Objects gives the files of a folder or bucket, and what their names begin with.
func (p Place) Objects(ctx context.Context) (cloudtrail.Objects, string, error) {
	switch p.Kind {
	case KindS3:
		o, err := Objects(ctx, p.AWS, p.Bucket)
		return o, p.Prefix, err
	case KindFolder:
		st, err := os.Stat(p.Path)
		if err != nil {
			return nil, "", err
		}
		if st.IsDir() {
			return Dir(p.Path), "", nil
		}
		return onlyFile{p.Path}, "", nil
	}
	return nil, "", fmt.Errorf("%s: %w", p, errNoObjects)
}

// onlyFile is one file as objects.
type onlyFile struct{ path string }

// List implements cloudtrail.Objects.
func (f onlyFile) List(context.Context, string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) { yield(filepath.Base(f.path), nil) }
}

// Open implements cloudtrail.Objects.
func (f onlyFile) Open(_ context.Context, name string) (cloudtrail.Object, error) {
	if name != filepath.Base(f.path) {
		return cloudtrail.Object{}, fs.ErrNotExist
	}
	file, err := os.Open(f.path)
	return cloudtrail.Object{Body: file}, err
}

// OpenDigests opens the digests of the place as a source that gives each finding
// once. keys are nil for those that AWS gives.
func (p Place) OpenDigests(ctx context.Context, state string, keys cloudtrail.Keys, now func() time.Time) (SourceCloser, error) {
	objects, o, err := p.digests(ctx, keys)
	if err != nil {
		return nil, err
	}
	seen, err := OpenSeen(filepath.Join(state, "digests"), digestsWindow)
	if err != nil {
		return nil, err
	}
	d := OpenDigests(DigestsOptions{Name: "digests of " + p.String(), Objects: objects, Verify: o, Now: now})
	return closing{Unique(d, seen), seen.Close}, nil
}

// VerifyDigests gives what is wrong with the digests of the place, as events. Of o
// it uses Now, Since and Until.
func (p Place) VerifyDigests(ctx context.Context, keys cloudtrail.Keys, o cloudtrail.DigestOptions) ([]cloudtrail.Event, error) {
	objects, v, err := p.digests(ctx, keys)
	if err != nil {
		return nil, err
	}
	v.Now, v.Since, v.Until = o.Now, o.Since, o.Until
	return digestEvents(ctx, objects, v)
}

// digests are the objects of the place, and what is known of them.
func (p Place) digests(ctx context.Context, keys cloudtrail.Keys) (cloudtrail.Objects, cloudtrail.DigestOptions, error) {
	objects, prefix, err := p.Objects(ctx)
	if err != nil {
		return nil, cloudtrail.DigestOptions{}, err
	}
	if p.Kind == KindFolder {
		root, below, err := TrailRoot(p.Path)
		if err != nil {
			return nil, cloudtrail.DigestOptions{}, err
		}
		objects, prefix = Dir(root), below
	}
	if keys == nil {
		keys = PublicKeys(p.AWS)
	}
	return objects, cloudtrail.DigestOptions{Keys: keys, Prefix: prefix, Bucket: p.Bucket}, nil
}

// TrailRoot gives the folder that AWSLogs is in, and the rest of the way, for a
// folder in or above it: digests tell names from there on.
func TrailRoot(dir string) (root, prefix string, err error) {
	if root, err = filepath.Abs(dir); err != nil {
		return "", "", err
	}
	parts := strings.Split(filepath.ToSlash(root), "/")
	for i := len(parts) - 1; i > 0; i-- {
		if parts[i] == "AWSLogs" {
			return filepath.FromSlash(strings.Join(parts[:i], "/") + "/"), strings.Join(parts[i:], "/") + "/", nil
		}
	}
	return root, "", nil
}

// digestsWindow is how many findings are remembered at least: so many that a
// verification cannot push out what it finds again the next time.
const digestsWindow = 100_000
