package siem

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"net/http"
	"path"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"cardea/internal/sdkhttp"
)

// S3Options name a bucket and how to reach it.
type S3Options struct {
	Bucket, Prefix string
	Region         string
	Endpoint       string // default AWS's
	Profile        string // of the shared credentials file; default the standard chain
	CAFile         string // authorities of Endpoint; default the system's

	// LockMode and LockFor put an object lock on checkpoints: nobody deletes them
	// before, with mode COMPLIANCE not even the account's root.
	LockMode string // "", GOVERNANCE or COMPLIANCE
	LockFor  time.Duration
}

// newS3 makes the client.
func newS3(ctx context.Context, o S3Options) (*s3.Client, error) {
	t, err := TLSFiles{CAFile: o.CAFile}.Config()
	if err != nil {
		return nil, err
	}
	// The SDK's own client, so that its settings of authorities (AWS_CA_BUNDLE) hold.
	client := awshttp.NewBuildableClient().WithTransportOptions(func(tr *http.Transport) { tr.TLSClientConfig = t })
	load := []func(*config.LoadOptions) error{
		config.WithHTTPClient(client), config.WithRegion(o.Region), config.WithRetryMaxAttempts(2),
	}
	if o.Profile != "" {
		load = append(load, config.WithSharedConfigProfile(o.Profile))
	}
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, fmt.Errorf("S3: %w", err)
	}
	cfg.HTTPClient = sdkhttp.New(cfg.HTTPClient)
	return s3.NewFromConfig(cfg, func(so *s3.Options) {
		if o.Endpoint != "" {
			so.BaseEndpoint = aws.String(o.Endpoint)
			so.UsePathStyle = true // other servers have no names for buckets
		}
	}), nil
}

// S3 puts batches as compressed objects, a line an event. A batch has the same
// name and content however often it is put.
type S3 struct {
	o       S3Options
	encoder *Encoder
	client  *s3.Client
}

var _ Planned = (*S3)(nil)

// NewS3 returns the sink.
func NewS3(ctx context.Context, o S3Options, e *Encoder) (*S3, error) {
	c, err := newS3(ctx, o)
	if err != nil {
		return nil, err
	}
	return &S3{o: o, encoder: e, client: c}, nil
}

// Planned implements Planned.
func (s *S3) Planned() {}

// Send implements Sink.
func (s *S3) Send(ctx context.Context, b Batch) (int, error) {
	var line []byte
	var body bytes.Buffer
	z := gzip.NewWriter(&body) // its header has no time, so that the bytes are the same again
	for _, ev := range b.Events {
		var err error
		if line, err = s.encoder.Append(line[:0], ev); err != nil {
			return 0, &RejectedError{err.Error()}
		}
		if _, err := z.Write(append(line, '\n')); err != nil {
			return 0, err
		}
	}
	if err := z.Close(); err != nil {
		return 0, err
	}
	_, err := s.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &s.o.Bucket, Key: aws.String(path.Join(s.o.Prefix, s.name(&b))), Body: bytes.NewReader(body.Bytes()),
		ContentType: aws.String("application/x-ndjson"), ContentEncoding: aws.String("gzip"),
	})
	if err != nil {
		return 0, fmt.Errorf("put object into %s: %w", s.o.Bucket, err)
	}
	return len(b.Events), nil
}

// name is of the range of the log, or of the place in the spool, which is this
// node's own. The day is for people and lifecycle rules.
func (s *S3) name(b *Batch) string {
	day := b.Events[0].Time.UTC().Format("2006/01/02")
	part := ""
	if b.Part > 0 {
		part = fmt.Sprintf("-part%d", b.Part)
	}
	if b.Origin == "" {
		return fmt.Sprintf("events/%s/%s/%08d-%012d-%012d%s.ndjson.gz", code(s.encoder.Host), day, b.File, b.First, b.End, part)
	}
	return fmt.Sprintf("%s/%s/%020d-%020d%s.ndjson.gz", b.Origin, day, b.First, b.End-1, part)
}

// Close implements Sink.
func (s *S3) Close() error { return nil }

// S3Folder keeps published checkpoints in a bucket.
type S3Folder struct {
	o      S3Options
	client *s3.Client
	now    func() time.Time
}

// NewS3Folder returns the target.
func NewS3Folder(ctx context.Context, o S3Options, now func() time.Time) (*S3Folder, error) {
	c, err := newS3(ctx, o)
	if err != nil {
		return nil, err
	}
	return &S3Folder{o: o, client: c, now: now}, nil
}

// Publish implements Target. An object that is there stays as it is.
func (f *S3Folder) Publish(ctx context.Context, p Published) error {
	in := &s3.PutObjectInput{
		Bucket: &f.o.Bucket, Key: aws.String(path.Join(f.o.Prefix, p.Name())), Body: bytes.NewReader(p.Signed),
		ContentType: aws.String("text/plain; charset=utf-8"), IfNoneMatch: aws.String("*"),
	}
	if f.o.LockMode != "" {
		in.ObjectLockMode = types.ObjectLockMode(f.o.LockMode)
		in.ObjectLockRetainUntilDate = aws.Time(f.now().Add(f.o.LockFor).UTC())
		in.ChecksumAlgorithm = types.ChecksumAlgorithmSha256 // requests with an object lock need a checksum
	}
	_, err := f.client.PutObject(ctx, in)
	var status interface{ HTTPStatusCode() int }
	if errors.As(err, &status) && status.HTTPStatusCode() == http.StatusPreconditionFailed {
		return nil // published before; Verify of the folder compares what it says
	}
	if err != nil {
		return fmt.Errorf("put checkpoint into %s: %w", f.o.Bucket, err)
	}
	return nil
}
