package retention

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"cardea/internal/collect"
)

// BucketOptions name a place in S3 and how to reach it. Credentials come from AWS's
// standard chain.
type BucketOptions struct {
	Bucket, Prefix string
	Region         string // default the environment's
	Endpoint       string // default AWS's
	Profile        string // of the shared credentials file
	CAFile         string // authorities of Endpoint; default the system's

	KMSKey string // the key of KMS that encrypts what is written; default the bucket's setting

	// LockMode and LockFor put an object lock on what is written: nobody deletes it
	// before, with mode COMPLIANCE not even the account's root.
	LockMode string // "", GOVERNANCE or COMPLIANCE
	LockFor  time.Duration
	Now      func() time.Time // needed with LockMode
}

// ParseBucket takes an address s3://bucket/prefix apart; ok is false for any other.
func ParseBucket(address string) (bucket, prefix string, ok bool) {
	rest, ok := strings.CutPrefix(address, "s3://")
	bucket, prefix, _ = strings.Cut(rest, "/")
	return bucket, strings.Trim(prefix, "/"), ok
}

// bucket is a place in S3. One object, the manifest, is replaced, only if nobody else
// did, which takes a server that knows conditional writes.
type bucket struct {
	o      BucketOptions
	client *s3.Client
	was    *string // ETag of the manifest; nil if there is none
}

// Bucket is an archive in S3. It does not reach for it yet.
func Bucket(ctx context.Context, o BucketOptions) (Place, error) {
	access := collect.AWS{Region: o.Region, Profile: o.Profile, Endpoint: o.Endpoint}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, err
		}
		t := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool()}
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", o.CAFile)
		}
		access.HTTPClient = &http.Client{Transport: &http.Transport{TLSClientConfig: t, Proxy: http.ProxyFromEnvironment}}
	}
	client, err := access.S3(ctx)
	if err != nil {
		return nil, err
	}
	return &bucket{o: o, client: client}, nil
}

func (b *bucket) String() string { return "s3://" + b.o.Bucket + "/" + b.o.Prefix }

// hold keeps nobody waiting: the others may be anywhere.
func (b *bucket) hold(context.Context) (release func() error, err error) {
	return func() error { return nil }, nil
}

func (b *bucket) scratch(name string) (*os.File, error) { return os.CreateTemp("", "."+name+"-*") }

func (b *bucket) key(name string) *string {
	return aws.String(strings.TrimPrefix(b.o.Prefix+"/"+name, "/"))
}

func (b *bucket) open(ctx context.Context, name string) (io.ReadCloser, error) {
	o, err := b.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.o.Bucket, Key: b.key(name)})
	if _, none := errors.AsType[*types.NoSuchKey](err); none {
		if name == manifestName {
			b.was = nil
		}
		return nil, fmt.Errorf("%s/%s: %w", b, name, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s/%s: %w", b, name, err)
	}
	if name == manifestName {
		b.was = o.ETag
	}
	return o.Body, nil
}

// put is what all objects are written with.
func (b *bucket) put(name string) *s3.PutObjectInput {
	// Requests with an object lock need a checksum; others are the better for it.
	in := &s3.PutObjectInput{Bucket: &b.o.Bucket, Key: b.key(name), ChecksumAlgorithm: types.ChecksumAlgorithmSha256}
	if b.o.KMSKey != "" {
		in.ServerSideEncryption, in.SSEKMSKeyId = types.ServerSideEncryptionAwsKms, &b.o.KMSKey
	}
	if b.o.LockMode != "" {
		in.ObjectLockMode = types.ObjectLockMode(b.o.LockMode)
		in.ObjectLockRetainUntilDate = aws.Time(b.o.Now().Add(b.o.LockFor).UTC())
	}
	return in
}

func (b *bucket) keep(ctx context.Context, from, name string) (temporary string, err error) {
	f, err := os.Open(from)
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // only read from
	in := b.put(name)
	in.Body, in.ContentType = f, aws.String("application/gzip")
	if _, err := b.client.PutObject(ctx, in); err != nil {
		return "", fmt.Errorf("write %s/%s: %w", b, name, err)
	}
	return name, os.Remove(from)
}

// settle has nothing to do: an object is of the archive when the manifest names it.
func (b *bucket) settle(context.Context, string, string) error { return nil }

// drop removes an object that the manifest does not name. With an object lock only
// its newest version goes.
func (b *bucket) drop(ctx context.Context, temporary string) error {
	if _, err := b.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.o.Bucket, Key: b.key(temporary)}); err != nil {
		return fmt.Errorf("remove %s/%s: %w", b, temporary, err)
	}
	return nil
}

func (b *bucket) save(ctx context.Context, manifest []byte) error {
	in := b.put(manifestName)
	in.Body, in.ContentType = bytes.NewReader(manifest), aws.String("application/json")
	if in.IfMatch = b.was; b.was == nil {
		in.IfNoneMatch = aws.String("*")
	}
	o, err := b.client.PutObject(ctx, in)
	if answer, ok := errors.AsType[*awshttp.ResponseError](err); ok &&
		(answer.HTTPStatusCode() == http.StatusPreconditionFailed || answer.HTTPStatusCode() == http.StatusConflict) {
		return errMoved
	}
	if err != nil {
		return fmt.Errorf("write %s/%s: %w", b, manifestName, err)
	}
	b.was = o.ETag
	return nil
}
