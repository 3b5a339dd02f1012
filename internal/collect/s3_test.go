package collect_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cardea/internal/awstest"
	"cardea/internal/cloudtrail"
	"cardea/internal/collect"
)

// bucketPlace is a bucket that is read.
type bucketPlace struct {
	place
	o collect.BucketOptions
}

func newBucketPlace(t *testing.T, a collect.AWS) *bucketPlace {
	p := &bucketPlace{place: place{state: t.TempDir(), clock: &clock{start}, batch: 7}, o: collect.BucketOptions{AWS: a, Bucket: bucketName}}
	t.Cleanup(func() { p.stop() })
	return p
}

func (p *bucketPlace) begin(t *testing.T) {
	t.Helper()
	p.stop()
	p.o.Options = collect.Options{State: p.state, Now: p.clock.now, Batch: p.batch}
	b, err := collect.OpenBucket(t.Context(), p.o)
	ok(t, err)
	seen, err := collect.OpenSeen(filepath.Join(p.state, "seen"), 0)
	ok(t, err)
	p.src = collect.Unique(b, seen)
	p.close = func() { b.Close(); seen.Close() }
}

func TestBucketIsListedFromWhereItWasRead(t *testing.T) {
	t.Parallel()
	c := awstest.NewCloud(t)
	p := newBucketPlace(t, awsAt(c.URL))
	n := 0
	add := func(region string, at time.Time, events int) {
		c.Put(trailName(region, at, n), gz(logFile(n, n+events)))
		n += events
	}
	for h := range 8 {
		add("eu-central-1", start.Add(time.Duration(h-100)*time.Hour), 5)
		add("us-east-1", start.Add(time.Duration(h-90)*time.Hour), 5)
	}
	c.Put("AWSLogs/111122223333/CloudTrail-Digest/eu-central-1/2026/11/22/d.json.gz", gz(logFile(900, 901)))
	c.Put("AWSLogs/111122223333/Config/eu-central-1/x.json.gz", gz(logFile(902, 903)))
	p.begin(t)
	equal(t, p.all(t), wantIDs(0, n), "at first")

	p.begin(t)
	before := n
	add("eu-central-1", start, 5)
	add("eu-central-1", start.Add(-110*time.Hour), 5) // late: in the time that is looked back
	c.Lists = nil
	equal(t, p.all(t), wantIDs(before, n), "new and late ones after a restart")
	for _, l := range c.Lists[:2] { // the first round
		if prefix, after, _ := strings.Cut(l, " "); !strings.HasPrefix(after, prefix+"2026/11/1") {
			t.Errorf("listed %q", l)
		}
	}
	before = n
	c.Put("AWSLogs/111122223333/CloudTrail/eu-central-1/2026/11/22/111122223333_CloudTrail_eu-central-1_20261122T0830Z_again.json.gz", gz(logFile(0, 5)))
	add("eu-central-1", start.Add(time.Hour), 2)
	equal(t, p.all(t), wantIDs(before, n), "events that came before are left out")
}

func TestKilledWhileReadingABucketLosesNothing(t *testing.T) {
	t.Parallel()
	c := awstest.NewCloud(t)
	for i := range 9 {
		c.Put(trailName("eu-central-1", start.Add(time.Duration(i)*time.Hour), i), gz(logFile(5*i, 5*i+5)))
	}
	for stopAt := 1; stopAt < 8; stopAt++ {
		p := newBucketPlace(t, awsAt(c.URL))
		p.begin(t)
		var processed []string
		for i := range stopAt {
			b, err := p.src.Next(t.Context())
			if errors.Is(err, io.EOF) {
				break
			}
			ok(t, err)
			if i == stopAt-1 {
				break
			}
			for _, e := range b.Events {
				processed = append(processed, e.ID)
			}
			ok(t, b.Ack(t.Context()))
		}
		p.begin(t)
		equal(t, append(processed, p.all(t)...), wantIDs(0, 45), fmt.Sprint("stopped at ", stopAt))
	}
}

func TestBucketOfAnyLayout(t *testing.T) {
	t.Parallel()
	c := awstest.NewCloud(t)
	for i := range 7 {
		c.Put(fmt.Sprintf("exports/%d/file.gz", 9-i), gz(lines(i, i+1)))
	}
	p := newBucketPlace(t, awsAt(c.URL))
	p.o.Prefix = "exports/"
	p.begin(t)
	equal(t, p.all(t), wantIDs(0, 7), "at first")
	c.Put("exports/0/early.gz", gz(lines(7, 8)))
	p.begin(t)
	equal(t, p.all(t), wantIDs(7, 8), "one that is before all others")
}

func TestBucketSince(t *testing.T) {
	t.Parallel()
	c := awstest.NewCloud(t)
	c.Put(trailName("eu-central-1", start.Add(-48*time.Hour), 1), gz(logFile(0, 1)))
	c.Put(trailName("eu-central-1", start, 2), gz(logFile(1, 2)))
	p := newBucketPlace(t, awsAt(c.URL))
	p.o.Since = start.Add(-time.Hour)
	p.begin(t)
	equal(t, p.all(t), wantIDs(1, 2), "since")
}

// Whoever can put an object into the bucket cannot hide all files that come later by
// one whose name is of a time that has not come.
func TestObjectOfTheFutureHidesNothing(t *testing.T) {
	t.Parallel()
	c := awstest.NewCloud(t)
	c.Put(trailName("eu-central-1", start, 1), gz(logFile(0, 1)))
	c.Put(trailName("eu-central-1", start.Add(10*365*24*time.Hour), 2), gz(logFile(1, 2)))
	p := newBucketPlace(t, awsAt(c.URL))
	p.begin(t)
	equal(t, p.all(t), wantIDs(0, 2), "at first")
	p.begin(t)
	c.Put(trailName("eu-central-1", start.Add(time.Minute), 3), gz(logFile(2, 3)))
	equal(t, p.all(t), wantIDs(2, 3), "after it")
}

func TestObjectsThatBreakOffAreTriedAgain(t *testing.T) {
	t.Parallel()
	c := awstest.NewCloud(t)
	name := trailName("eu-central-1", start, 1)
	c.Put(name, gz(logFile(0, 300)))
	c.Broken[name] = true
	p := newBucketPlace(t, awsAt(c.URL))
	p.begin(t)
	p.all(t)
	if s := p.src.Status(); len(s.Findings) > 0 || s.LastSuccess.IsZero() {
		t.Errorf("%+v", s)
	}
	c.Broken[name] = false
	p.begin(t)
	p.clock.t = p.clock.t.Add(time.Hour)
	p.all(t)
	p.begin(t)
	equal(t, p.all(t), nil, "at the end")
	if s := p.src.Status(); len(s.Findings) > 0 {
		t.Errorf("%+v", s)
	}
}

func TestBucketThatRefusesIsSaid(t *testing.T) {
	t.Parallel()
	c := awstest.NewCloud(t)
	c.Put(trailName("eu-central-1", start, 1), gz(logFile(0, 1)))
	p := newBucketPlace(t, awsAt(c.URL))
	p.begin(t)
	c.Fail = 1
	if _, err := p.src.Next(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "list s3://logs/: ") {
		t.Errorf("got %v", err)
	}
	if s := p.src.Status(); s.LastError == "" || !s.LastSuccess.IsZero() {
		t.Errorf("%+v", s)
	}
	equal(t, p.all(t), wantIDs(0, 1), "once it does not")
	if s := p.src.Status(); s.LastError != "" || s.LastSuccess.IsZero() {
		t.Errorf("%+v", s)
	}
	if _, err := collect.OpenBucket(t.Context(), collect.BucketOptions{}); err == nil || err.Error() != "no bucket" {
		t.Errorf("got %v", err)
	}
}

// holds checks what Objects gives of a folder and of a bucket.
func holds(t *testing.T, o cloudtrail.Objects, want map[string]string, signed string) {
	t.Helper()
	n := 0
	for name, err := range o.List(t.Context(), "AWSLogs/") {
		ok(t, err)
		if strings.HasSuffix(name, ".metadata.json") {
			continue
		}
		n++
		x, err := o.Open(t.Context(), name)
		ok(t, err)
		b, err := io.ReadAll(x.Body)
		ok(t, errors.Join(err, x.Body.Close()))
		if string(b) != want[name] || (x.Meta["signature"] == "abcd") != (name == signed) {
			t.Errorf("%s is %q with %v", name, b, x.Meta)
		}
	}
	if n != len(want)-1 {
		t.Errorf("%d objects", n)
	}
	if _, err := o.Open(t.Context(), "AWSLogs/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestObjectsOfFolderAndBucket(t *testing.T) {
	t.Parallel()
	c, dir := awstest.NewCloud(t), t.TempDir()
	want := map[string]string{"AWSLogs/1/a": "A", "AWSLogs/1/b": "B", "AWSLogs/2/c": "C", "AWSLogs/2/d": "D", "AWSLogs/2/e": "E", "other": "O"}
	for name, content := range want {
		c.Put(name, content)
		write(t, dir, name, content)
	}
	c.Meta["AWSLogs/2/c"] = map[string]string{"Signature": "abcd"}
	write(t, dir, "AWSLogs/2/c.metadata.json", `{"signature":"abcd"}`)
	o, err := collect.Objects(t.Context(), awsAt(c.URL), bucketName)
	ok(t, err)
	holds(t, o, want, "AWSLogs/2/c")
	holds(t, collect.Dir(dir), want, "AWSLogs/2/c")
	write(t, dir, "AWSLogs/2/d.metadata.json", `x`)
	if _, err := collect.Dir(dir).Open(t.Context(), "AWSLogs/2/d"); err == nil || !strings.HasPrefix(err.Error(), "AWSLogs/2/d.metadata.json: ") {
		t.Errorf("got %v", err)
	}
	outside := t.TempDir()
	write(t, outside, "m.json", `{"signature":"efef"}`)
	write(t, dir, "AWSLogs/2/e", "x")
	ok(t, os.Symlink(filepath.Join(outside, "m.json"), filepath.Join(dir, "AWSLogs/2/e.metadata.json")))
	if o, err := collect.Dir(dir).Open(t.Context(), "AWSLogs/2/e"); err == nil {
		t.Errorf("metadata are read from outside the folder: %v", o.Meta)
	}
	if _, err := collect.Dir(dir).Open(t.Context(), "../outside"); err == nil {
		t.Error("a name leads out of the folder")
	}
}
