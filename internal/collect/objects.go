package collect

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awstrail "github.com/aws/aws-sdk-go-v2/service/cloudtrail"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"cardea/internal/cloudtrail"
)

// Dir gives the files in a folder as objects. What S3 stores with an object, its
// signature, is read from NAME.metadata.json beside it, if that is there, as
// "aws s3api head-object --query Metadata" prints it.
func Dir(root string) cloudtrail.Objects { return dir(root) }

type dir string

// List implements cloudtrail.Objects.
func (d dir) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		stopped := errors.New("stopped")
		err := filepath.WalkDir(string(d), func(path string, e fs.DirEntry, err error) error {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			name, err := filepath.Rel(string(d), path)
			if err != nil {
				return err
			}
			if name = filepath.ToSlash(name); strings.HasPrefix(name, prefix) && !yield(name, nil) {
				return stopped
			}
			return nil
		})
		if err != nil && !errors.Is(err, stopped) {
			yield("", err)
		}
	}
}

const maxMetadata = 64 << 10

// Open implements cloudtrail.Objects.
func (d dir) Open(_ context.Context, name string) (cloudtrail.Object, error) {
	f, err := os.OpenInRoot(string(d), filepath.FromSlash(name))
	if err != nil {
		return cloudtrail.Object{}, err
	}
	o := cloudtrail.Object{Body: f}
	b, err := d.metadata(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return o, nil
	case err == nil && len(b) > maxMetadata:
		err = errors.New("too long")
	case err == nil:
		err = json.Unmarshal(b, &o.Meta)
	}
	if err != nil {
		return cloudtrail.Object{}, errors.Join(fmt.Errorf("%s.metadata.json: %w", name, err), f.Close())
	}
	return o, nil
}

// metadata reads what is beside an object, one byte more than maxMetadata at most.
func (d dir) metadata(name string) ([]byte, error) {
	f, err := os.OpenInRoot(string(d), filepath.FromSlash(name+".metadata.json"))
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read from
	return io.ReadAll(io.LimitReader(f, maxMetadata+1))
}

// Objects gives the objects of a bucket.
func Objects(ctx context.Context, a AWS, bucket string) (cloudtrail.Objects, error) {
	client, err := a.s3(ctx)
	if err != nil {
		return nil, err
	}
	return bucketObjects{client, bucket}, nil
}

type bucketObjects struct {
	s3     *s3.Client
	bucket string
}

// List implements cloudtrail.Objects.
func (b bucketObjects) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) { b.list(ctx, prefix, "", yield) }
}

// list reports whether there may be more.
func (b bucketObjects) list(ctx context.Context, prefix, after string, yield func(string, error) bool) bool {
	in := &s3.ListObjectsV2Input{Bucket: &b.bucket, Prefix: &prefix}
	if after != "" {
		in.StartAfter = &after
	}
	pages := s3.NewListObjectsV2Paginator(b.s3, in)
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			yield("", fmt.Errorf("list s3://%s/%s: %w", b.bucket, prefix, err))
			return false
		}
		for _, o := range page.Contents {
			if !yield(aws.ToString(o.Key), nil) {
				return false
			}
		}
	}
	return true
}

// trailFolder is what holds the log files, or the digests, of one account and region.
var trailFolder = regexp.MustCompile(`(?:^|/)AWSLogs/(?:o-[a-z0-9]+/)?([0-9]{12})/CloudTrail(?:-Digest)?/([a-z0-9-]+)/$`)

// toTrailFolder is what leads to one.
var toTrailFolder = regexp.MustCompile(`(?:^|/)AWSLogs/(?:o-[a-z0-9]+/)?(?:[0-9]{12}/(?:CloudTrail(?:-Digest)?/(?:[a-z0-9-]+/)?)?)?$`)

// ListSince implements cloudtrail.RecentObjects: of CloudTrail's folders, whose names
// begin with the day, only the days since then are listed. A trail of years is not
// listed again each hour.
func (b bucketObjects) ListSince(ctx context.Context, prefix string, since time.Time) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		folders, err := walkFolders(ctx, b.s3, b.bucket, prefix, trailFolder, toTrailFolder)
		if err != nil {
			yield("", err)
			return
		}
		day := since.UTC().Add(-24 * time.Hour).Format("2006/01/02")
		for _, folder := range folders {
			if !b.list(ctx, folder, folder+day, yield) {
				return
			}
		}
		if len(folders) == 0 {
			b.list(ctx, prefix, "", yield)
		}
	}
}

// Open implements cloudtrail.Objects.
func (b bucketObjects) Open(ctx context.Context, name string) (cloudtrail.Object, error) {
	o, err := get(ctx, b.s3, b.bucket, name)
	if err != nil {
		return cloudtrail.Object{}, err
	}
	return cloudtrail.Object{Body: o.Body, Meta: o.Metadata}, nil
}

// PublicKeys asks AWS for the keys that digests were signed with, in the region of
// each digest.
func PublicKeys(a AWS) cloudtrail.Keys {
	return &publicKeys{aws: a, sets: map[string]cloudtrail.KeySet{}, asked: map[string]bool{}}
}

type publicKeys struct {
	aws   AWS
	mu    sync.Mutex                   // guards what follows
	sets  map[string]cloudtrail.KeySet // by region
	asked map[string]bool              // by region and day
}

// Key implements cloudtrail.Keys.
func (p *publicKeys) Key(ctx context.Context, region, fingerprint string, at time.Time) (*rsa.PublicKey, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	set := p.sets[region]
	if set == nil {
		set = cloudtrail.KeySet{}
		p.sets[region] = set
	}
	day := region + at.UTC().Format(" 2006-01-02")
	if k := set[fingerprint]; k != nil || p.asked[day] {
		return set.Key(ctx, region, fingerprint, at)
	}
	a := p.aws
	a.Region = region
	client, err := a.cloudtrail(ctx)
	if err != nil {
		return nil, err
	}
	from, to := at.Add(-24*time.Hour), at.Add(26*time.Hour)
	pages := awstrail.NewListPublicKeysPaginator(client, &awstrail.ListPublicKeysInput{StartTime: &from, EndTime: &to})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("list public keys of %s: %w", region, err)
		}
		for _, k := range page.PublicKeyList {
			if err := set.Add(k.Value, aws.ToString(k.Fingerprint)); err != nil {
				return nil, fmt.Errorf("list public keys of %s: %w", region, err)
			}
		}
	}
	p.asked[day] = true
	return set.Key(ctx, region, fingerprint, at)
}
