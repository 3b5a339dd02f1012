package collect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// DefaultLookBack is how late a file may come in the order of names.
const DefaultLookBack = 24 * time.Hour

// BucketOptions say what of a bucket is read.
type BucketOptions struct {
	Options
	AWS      AWS
	Bucket   string
	Prefix   string        // of names: before AWSLogs/, or of one account or region
	LookBack time.Duration // default DefaultLookBack
	Since    time.Time     // of a trail's files only those since; for the first round
}

// Bucket is a source of the objects in an S3 bucket. Of CloudTrail's layout each
// account and region is listed from where reading was less the time looked back;
// what stands beside AWSLogs/ is then left out. Of any other layout all is listed
// each time. Objects are read once, again if their ETag changes.
type Bucket struct{ *files }

// OpenBucket opens a bucket as a source. It does not reach for it yet.
func OpenBucket(ctx context.Context, o BucketOptions) (*Bucket, error) {
	if o.Bucket == "" {
		return nil, errors.New("no bucket")
	}
	if o.LookBack <= 0 {
		o.LookBack = DefaultLookBack
	}
	client, err := o.AWS.s3(ctx)
	if err != nil {
		return nil, err
	}
	f, err := newFiles("s3://"+o.Bucket+"/"+o.Prefix, &bucketLister{o: o, s3: client, last: map[string]string{}}, o.Options)
	if err != nil {
		return nil, err
	}
	return &Bucket{f}, nil
}

type bucketLister struct {
	o  BucketOptions
	s3 *s3.Client

	prefixes []string // of this round
	at       int
	token    *string
	after    string
	listed   map[uint64]struct{}

	mu   sync.Mutex        // guards last
	last map[string]string // the last name that was read, by the prefix of its region
}

// trailPrefix is of the names of one account and region; wayThere of what leads to one.
var (
	trailPrefix = regexp.MustCompile(`(?:^|/)AWSLogs/(?:o-[a-z0-9]+/)?([0-9]{12})/CloudTrail/([a-z0-9-]+)/$`)
	wayThere    = regexp.MustCompile(`(?:^|/)AWSLogs/(?:o-[a-z0-9]+/)?(?:[0-9]{12}/(?:CloudTrail/(?:[a-z0-9-]+/)?)?)?$`)
	trailFile   = regexp.MustCompile(`^(.*/CloudTrail/[a-z0-9-]+/)[0-9]{4}/[0-9]{2}/[0-9]{2}/[0-9]{12}_CloudTrail_[a-z0-9-]+_([0-9]{8}T[0-9]{4}Z)_[^/]*$`)
)

const minute = "20060102T1504Z"

func (l *bucketLister) more(ctx context.Context, done func(file) bool) ([]file, error) {
	if l.prefixes == nil {
		found, err := walkFolders(ctx, l.s3, l.o.Bucket, l.o.Prefix, trailPrefix, wayThere)
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			found = []string{l.o.Prefix}
		}
		l.prefixes, l.at, l.token, l.listed = found, 0, nil, map[uint64]struct{}{}
		l.after = l.start(found[0])
	}
	in := &s3.ListObjectsV2Input{Bucket: &l.o.Bucket, Prefix: &l.prefixes[l.at], ContinuationToken: l.token}
	if l.after != "" {
		in.StartAfter = &l.after
	}
	page, err := l.s3.ListObjectsV2(ctx, in)
	if err != nil {
		l.prefixes = nil // what the token was for may have ended
		return nil, fmt.Errorf("list s3://%s/%s: %w", l.o.Bucket, *in.Prefix, err)
	}
	var list []file
	for _, o := range page.Contents {
		x := file{name: aws.ToString(o.Key), version: aws.ToString(o.ETag), size: aws.ToInt64(o.Size)}
		if strings.HasSuffix(x.name, "/") || leftOut(x.name[strings.LastIndexByte(x.name, '/')+1:]) || strings.Contains(x.name, "/CloudTrail-Digest/") || strings.Contains(x.name, "/CloudTrail-Insight/") {
			continue
		}
		l.listed[x.mark()] = struct{}{}
		if !done(x) {
			list = append(list, x)
		}
	}
	if l.token = page.NextContinuationToken; aws.ToBool(page.IsTruncated) && l.token != nil {
		return list, nil
	}
	l.token = nil
	if l.at++; l.at < len(l.prefixes) {
		l.after = l.start(l.prefixes[l.at])
		return list, nil
	}
	l.prefixes = nil
	return list, io.EOF
}

// walkFolders gives the prefixes below one that a pattern is of, by way of those
// that lead there.
func walkFolders(ctx context.Context, client *s3.Client, bucket, prefix string, wanted, way *regexp.Regexp) ([]string, error) {
	if wanted.MatchString(prefix) {
		return []string{prefix}, nil
	}
	var found []string
	pages := s3.NewListObjectsV2Paginator(client, &s3.ListObjectsV2Input{Bucket: &bucket, Prefix: &prefix, Delimiter: aws.String("/")})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("list s3://%s/%s: %w", bucket, prefix, err)
		}
		for _, p := range page.CommonPrefixes {
			if below := aws.ToString(p.Prefix); way.MatchString(below) {
				more, err := walkFolders(ctx, client, bucket, below, wanted, way)
				if err != nil {
					return nil, err
				}
				found = append(found, more...)
			}
		}
	}
	return found, nil
}

// start is the name after which a prefix is listed.
func (l *bucketLister) start(prefix string) string {
	m := trailPrefix.FindStringSubmatch(prefix)
	if m == nil {
		return ""
	}
	from := l.o.Since
	l.mu.Lock()
	last := l.last[prefix]
	l.mu.Unlock()
	if at, ok := l.madeAt(last); ok {
		from = at.Add(-l.o.LookBack)
	}
	if from.IsZero() {
		return ""
	}
	from = from.UTC()
	return fmt.Sprintf("%s%s/%s_CloudTrail_%s_%s", prefix, from.Format("2006/01/02"), m[1], m[2], from.Format(minute))
}

func (l *bucketLister) open(ctx context.Context, x file) (io.ReadCloser, error) {
	return getObject(ctx, l.s3, l.o.Bucket, x.name)
}

func getObject(ctx context.Context, client *s3.Client, bucket, name string) (io.ReadCloser, error) {
	o, err := get(ctx, client, bucket, name)
	if err != nil {
		return nil, err
	}
	return o.Body, nil
}

func get(ctx context.Context, client *s3.Client, bucket, name string) (*s3.GetObjectOutput, error) {
	o, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &name})
	if _, gone := errors.AsType[*types.NoSuchKey](err); gone {
		return nil, fmt.Errorf("s3://%s/%s: %w", bucket, name, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("s3://%s/%s: %w", bucket, name, err)
	}
	return o, nil
}

// madeAt is the time in the name of a trail's file. One of a time that has not come
// yet is none: whoever put it there could hide all files that come until then.
func (l *bucketLister) madeAt(name string) (time.Time, bool) {
	m := trailFile.FindStringSubmatch(name)
	if m == nil {
		return time.Time{}, false
	}
	at, err := time.Parse(minute, m[2])
	return at, err == nil && !at.After(l.o.Now().Add(time.Hour))
}

func (l *bucketLister) placed(x file) {
	m := trailFile.FindStringSubmatch(x.name)
	if m == nil || !trailPrefix.MatchString(m[1]) {
		return
	}
	if _, ok := l.madeAt(x.name); !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if x.name > l.last[m[1]] {
		l.last[m[1]] = x.name
	}
}

func (l *bucketLister) progress() map[string]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.last)
}

func (l *bucketLister) restore(m map[string]string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.Copy(l.last, m)
}

func (l *bucketLister) wanted() map[uint64]struct{} { return l.listed }
