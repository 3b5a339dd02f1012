package cloudtrail

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"regexp"
	"strings"
	"time"
)

// Objects is a bucket, or a copy of one. It is used by several goroutines.
type Objects interface {
	// List gives the names that begin with a prefix, ascending. It ends after
	// its first error.
	List(ctx context.Context, prefix string) iter.Seq2[string, error]
	// Open gives an object. Of one that is not there the error is fs.ErrNotExist.
	Open(ctx context.Context, name string) (Object, error)
}

// RecentObjects can leave out, when it lists, what is older than a time. It may
// give more than asked for.
type RecentObjects interface {
	Objects
	ListSince(ctx context.Context, prefix string, since time.Time) iter.Seq2[string, error]
}

func listSince(ctx context.Context, o Objects, prefix string, since time.Time) iter.Seq2[string, error] {
	if r, ok := o.(RecentObjects); ok && !since.IsZero() {
		return r.ListSince(ctx, prefix, since)
	}
	return o.List(ctx, prefix)
}

// Object is an object that is being read. The receiver closes its body.
type Object struct {
	Body io.ReadCloser
	Meta map[string]string // what was stored with it, such as "signature"
}

// Bounds of what is read.
const (
	maxDigest = 256 << 20 // bytes of a digest, uncompressed
	maxLog    = 16 << 30  // bytes of a log file, uncompressed
)

// digest is a digest file (CloudTrail user guide, "CloudTrail digest file
// structure").
type digest struct {
	AccountID         string          `json:"awsAccountId"`
	Start             time.Time       `json:"digestStartTime"`
	EndText           string          `json:"digestEndTime"`
	Bucket            string          `json:"digestS3Bucket"`
	Object            string          `json:"digestS3Object"`
	KeyName           string          `json:"digestPublicKeyFingerprint"`
	Algorithm         string          `json:"digestSignatureAlgorithm"`
	PreviousBucket    *string         `json:"previousDigestS3Bucket"`
	PreviousObject    *string         `json:"previousDigestS3Object"`
	PreviousHash      *string         `json:"previousDigestHashValue"`
	PreviousAlgorithm *string         `json:"previousDigestHashAlgorithm"`
	PreviousSignature *string         `json:"previousDigestSignature"`
	Logs              []digestLogFile `json:"logFiles"`

	end       time.Time
	hash      string // of the uncompressed bytes, hexadecimal
	name      string // where it was read
	meta      map[string]string
	signature string // that was found good, or ""
}

type digestLogFile struct {
	Bucket    string `json:"s3Bucket"`
	Object    string `json:"s3Object"`
	Hash      string `json:"hashValue"`
	Algorithm string `json:"hashAlgorithm"`
}

// digestName is the name of a digest file, from AWSLogs on.
var digestName = regexp.MustCompile(`(?:^|/)AWSLogs/(?:o-[a-z0-9]+/)?([0-9]{12})/CloudTrail-Digest/([a-z0-9-]+)/[0-9]{4}/[0-9]{2}/[0-9]{2}/` +
	`[0-9]{12}_CloudTrail-Digest_[a-z0-9-]+_(.+)_([a-z0-9-]+)_([0-9]{8}T[0-9]{6}Z)(_backfill)?\.json\.gz$`)

// logName is the name of a log file, from AWSLogs on.
var logName = regexp.MustCompile(`(?:^|/)AWSLogs/(?:o-[a-z0-9]+/)?([0-9]{12})/CloudTrail/([a-z0-9-]+)/[0-9]{4}/[0-9]{2}/[0-9]{2}/` +
	`[0-9]{12}_CloudTrail_[a-z0-9-]+_([0-9]{8}T[0-9]{4}Z)_[^/]+\.json\.gz$`)

const (
	digestTime = "20060102T150405Z"
	logTime    = "20060102T1504Z"
)

var (
	errTrailing = errors.New("bytes follow the end of the gzip stream")
	errNoGzip   = errors.New("not readable as gzip")
)

// gunzip writes the one gzip stream that r must be.
func gunzip(w io.Writer, r io.Reader, most int64) error {
	in := bufio.NewReaderSize(r, 64<<10)
	z, err := gzip.NewReader(in)
	if err != nil {
		return sourceOr(err)
	}
	z.Multistream(false)
	n, err := io.Copy(w, io.LimitReader(z, most+1))
	switch {
	case err != nil:
		return sourceOr(err)
	case n > most:
		return fmt.Errorf("%w: more than %d bytes", errNoGzip, most)
	}
	if _, err := in.ReadByte(); err == nil {
		return errTrailing
	} else if err != io.EOF {
		return err
	}
	return nil
}

// sourceOr tells content that is no gzip from a source that cannot be read.
func sourceOr(err error) error {
	if errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) ||
		strings.HasPrefix(err.Error(), "flate: ") {
		return fmt.Errorf("%w: %w", errNoGzip, err)
	}
	return err
}

// readDigest reads a digest file and nothing else of it.
func readDigest(o Object) (*digest, error) {
	var b bytes.Buffer
	if err := gunzip(&b, o.Body, maxDigest); err != nil {
		return nil, err
	}
	d := &digest{meta: o.Meta}
	if err := json.Unmarshal(b.Bytes(), d); err != nil {
		return nil, fmt.Errorf("%w: %w", errNoDigest, err)
	}
	var err error
	if d.end, err = time.Parse(time.RFC3339, d.EndText); err != nil || d.Bucket == "" || d.Object == "" || d.KeyName == "" || !d.Start.Before(d.end) {
		return nil, errNoDigest
	}
	some := d.PreviousObject != nil
	for _, p := range []*string{d.PreviousBucket, d.PreviousHash, d.PreviousSignature} {
		if (p != nil) != some {
			return nil, fmt.Errorf("%w: it tells only a part of the one before", errNoDigest)
		}
	}
	sum := sha256.Sum256(b.Bytes())
	d.hash = hex.EncodeToString(sum[:])
	return d, nil
}

var errNoDigest = errors.New("not a digest file")

// signedText is what CloudTrail signs.
func (d *digest) signedText() string {
	before := "null"
	if d.PreviousSignature != nil {
		before = *d.PreviousSignature
	}
	return d.EndText + "\n" + d.Bucket + "/" + d.Object + "\n" + d.hash + "\n" + before
}

// signedBy verifies a signature in hexadecimal.
func (d *digest) signedBy(k *rsa.PublicKey, signature string) bool {
	sig, err := hex.DecodeString(signature)
	sum := sha256.Sum256([]byte(d.signedText()))
	return err == nil && d.Algorithm == "SHA256withRSA" && rsa.VerifyPKCS1v15(k, crypto.SHA256, sum[:], sig) == nil
}
