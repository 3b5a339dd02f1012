package retention_test

import (
	"crypto/md5"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"cardea/internal/awstest"
	"cardea/internal/retention"
	"cardea/internal/sdkhttp"
)

// fakeBucket is S3 as far as an archive uses it.
type fakeBucket struct {
	mu      sync.Mutex
	objects map[string][]byte
	headers map[string]http.Header
	fail    func(r *http.Request) bool // answer 503
	after   func(r *http.Request)      // called when an object was put
	lost    func(r *http.Request) bool // of an object that was put nobody learns
}

func newFakeBucket(t testing.TB) (*fakeBucket, retention.BucketOptions) {
	t.Helper()
	b := &fakeBucket{objects: map[string][]byte{}, headers: map[string]http.Header{}}
	server := httptest.NewServer(b)
	t.Cleanup(server.Close)
	return b, retention.BucketOptions{Bucket: "logs", Prefix: "cardea", Region: "eu-central-1", Endpoint: server.URL}
}

func (b *fakeBucket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	there, known := b.objects[r.URL.Path]
	tag := func(b []byte) string { return fmt.Sprintf(`"%x"`, md5.Sum(b)) }
	switch want := r.Header.Get("If-Match"); {
	case err != nil:
		w.WriteHeader(http.StatusBadRequest)
	case b.fail != nil && b.fail(r):
		w.WriteHeader(http.StatusNotImplemented)
	case r.Method == http.MethodGet && !known:
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, "<Error><Code>NoSuchKey</Code></Error>")
	case r.Method == http.MethodGet:
		w.Header().Set("ETag", tag(there))
		w.Write(there)
	case r.Method == http.MethodDelete:
		delete(b.objects, r.URL.Path)
		w.WriteHeader(http.StatusNoContent)
	case known && r.Header.Get("If-None-Match") == "*", want != "" && (!known || want != tag(there)):
		w.WriteHeader(http.StatusPreconditionFailed)
	default:
		b.objects[r.URL.Path], b.headers[r.URL.Path] = body, r.Header
		w.Header().Set("ETag", tag(body))
		if b.after != nil {
			b.after(r)
		}
		if b.lost != nil && b.lost(r) {
			panic(http.ErrAbortHandler)
		}
	}
}

func awsEnvironment(t *testing.T) {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
}

func bucketAt(t testing.TB, o retention.BucketOptions) retention.Place {
	t.Helper()
	p, err := retention.Bucket(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestArchiveInABucket(t *testing.T) {
	awsEnvironment(t)
	scratch := t.TempDir() // tests of other packages have such archives in the common one
	t.Setenv("TMPDIR", scratch)
	b, o := newFakeBucket(t)
	o.KMSKey, o.LockMode, o.LockFor, o.Now = "arn:aws:kms:eu-central-1:111122223333:key/k", "COMPLIANCE", 48*time.Hour, func() time.Time { return noon }
	m, place := newMemStore(t, 1200), bucketAt(t, o)
	m.archive(place, hours(5))
	a := m.archive(place, hours(15))
	if r, err := a.Prune(t.Context(), m, vaultLog, m.options(hours(15))); err != nil || r.To != 900 {
		t.Errorf("%+v, %v", r, err)
	}
	m.intact(bucketAt(t, o))
	for _, name := range []string{"manifest.json", a.Periods()[0].File, a.Periods()[1].File} {
		h := b.headers["/logs/cardea/"+name]
		for key, want := range map[string]string{
			"X-Amz-Server-Side-Encryption": "aws:kms", "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id": o.KMSKey,
			"X-Amz-Object-Lock-Mode": "COMPLIANCE", "X-Amz-Object-Lock-Retain-Until-Date": noon.Add(48 * time.Hour).Format(time.RFC3339),
		} {
			if got := h.Get(key); got != want {
				t.Errorf("%s: %s is %q, want %q", name, key, got, want)
			}
		}
		if h.Get("X-Amz-Checksum-Sha256") == "" {
			t.Errorf("%s was put without a checksum", name)
		}
	}
	if len(b.objects) != 3 || a.Periods()[1].From != 300 {
		t.Errorf("%d objects, periods %+v", len(b.objects), a.Periods())
	}
	if left, err := os.ReadDir(scratch); err != nil || len(left) > 0 {
		t.Errorf("%v is left, %v", left, err)
	}
}

// TestArchiveInABucketStandsWhenWritingFails fails each kind of request once.
func TestArchiveInABucketStandsWhenWritingFails(t *testing.T) {
	awsEnvironment(t)
	for name, fails := range map[string]func(*http.Request) bool{
		"write of the file": func(r *http.Request) bool { return r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, ".gz") },
		"reading it back": func(r *http.Request) bool {
			return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "_300-600-")
		},
		"write of the manifest": func(r *http.Request) bool {
			return r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, ".json")
		},
	} {
		b, o := newFakeBucket(t)
		m := newMemStore(t, 1200)
		m.archive(bucketAt(t, o), hours(5))
		b.fail = fails
		a, err := retention.OpenArchive(t.Context(), bucketAt(t, o))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Add(t.Context(), m, vaultLog, hours(10), noon, m.verifiers()); err == nil {
			t.Errorf("%s: nobody noticed", name)
		}
		b.fail = nil
		m.intact(bucketAt(t, o))
		m.archive(bucketAt(t, o), hours(10))
		m.intact(bucketAt(t, o))
	}
}

func TestBucketsAreNamedByAddresses(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"s3://b": "b  true", "s3://b/": "b  true", "s3://b/x/y/": "b x/y true", "/b/x": "  false",
	} {
		bucket, prefix, ok := retention.ParseBucket(address)
		if !ok {
			bucket, prefix = "", ""
		}
		if got := fmt.Sprint(bucket, " ", prefix, " ", ok); got != want {
			t.Errorf("%s: %q, want %q", address, got, want)
		}
	}
	if _, err := retention.Bucket(t.Context(), retention.BucketOptions{Bucket: "b", CAFile: "bucket_test.go"}); err == nil || err.Error() != "bucket_test.go holds no certificate" {
		t.Errorf("authorities: %v", err)
	}
}

// TestArchiveInMoto has the archive in an S3 that we did not write.
func TestArchiveInMoto(t *testing.T) {
	awsEnvironment(t)
	url := awstest.Moto(t)
	client := s3.New(s3.Options{BaseEndpoint: &url, Region: "us-east-1", UsePathStyle: true, HTTPClient: sdkhttp.New(nil), Credentials: credentials.NewStaticCredentialsProvider("test", "test", "")})
	if _, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("logs"), ObjectLockEnabledForBucket: aws.Bool(true)}); err != nil {
		t.Fatal(err)
	}
	o := retention.BucketOptions{
		Bucket: "logs", Prefix: "a/b", Region: "us-east-1", Endpoint: url, KMSKey: "alias/aws/s3",
		LockMode: "GOVERNANCE", LockFor: 24 * time.Hour, Now: time.Now,
	}
	m := newMemStore(t, 1200)
	m.archive(bucketAt(t, o), hours(5))
	a := m.archive(bucketAt(t, o), hours(15))
	if r, err := a.Prune(t.Context(), m, vaultLog, m.options(hours(15))); err != nil || r.To != 900 {
		t.Errorf("%+v, %v", r, err)
	}
	m.intact(bucketAt(t, o))
	held, err := client.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String("logs"), Key: aws.String("a/b/" + a.Periods()[1].File)})
	if err != nil || held.ObjectLockMode != "GOVERNANCE" || held.ObjectLockRetainUntilDate == nil || held.ServerSideEncryption != "aws:kms" {
		t.Errorf("%+v, %v", held, err)
	}
}
