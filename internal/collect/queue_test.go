package collect_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cardea/internal/awstest"
	"cardea/internal/cloudtrail"
	"cardea/internal/collect"
)

func notice(keys ...string) string {
	var records []string
	for _, k := range keys {
		records = append(records, fmt.Sprintf(`{"eventVersion":"2.1","eventSource":"aws:s3","eventName":"ObjectCreated:Put","s3":{"bucket":{"name":%q},"object":{"key":%q}}}`, bucketName, url.QueryEscape(k)))
	}
	return `{"Records":[` + strings.Join(records, ",") + `]}`
}

func quote(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

type queuePlace struct {
	place
	aws collect.AWS
	url string
}

func newQueuePlace(t *testing.T, a collect.AWS, url string) *queuePlace {
	p := &queuePlace{place: place{state: t.TempDir(), clock: &clock{start}, batch: 7}, aws: a, url: url}
	t.Cleanup(func() { p.stop() })
	return p
}

func (p *queuePlace) begin(t *testing.T) {
	t.Helper()
	p.stop()
	q, err := collect.OpenQueue(t.Context(), collect.QueueOptions{
		Options: collect.Options{Now: p.clock.now, Batch: p.batch}, AWS: p.aws, URL: p.url, Buckets: []string{bucketName}, Wait: time.Nanosecond,
	})
	ok(t, err)
	seen, err := collect.OpenSeen(filepath.Join(p.state, "seen"), 0)
	ok(t, err)
	p.src = collect.Unique(q, seen)
	p.close = func() { q.Close(); seen.Close() }
}

func TestQueueInEveryForm(t *testing.T) {
	t.Parallel()
	c := awstest.NewCloud(t)
	for i := range 7 {
		c.Put(fmt.Sprintf("AWSLogs/a b/%d.gz", i), gz(lines(3*i, 3*i+3)))
	}
	p := newQueuePlace(t, awsAt(c.URL), c.URL+"/queue")
	p.begin(t)
	c.Send(
		notice("AWSLogs/a b/0.gz", "AWSLogs/a b/1.gz"),
		`{"Type":"Notification","Message":`+quote(notice("AWSLogs/a b/2.gz"))+`}`,
		`{"detail-type":"Object Created","source":"aws.s3","detail":{"bucket":{"name":"logs"},"object":{"key":"AWSLogs/a b/3.gz","size":1}}}`,
		`{"s3Bucket":"logs","s3ObjectKey":["AWSLogs/a b/4.gz","AWSLogs/a b/5.gz"]}`,
		`{"Type":"Notification","Message":`+quote(`{"s3Bucket":"logs","s3ObjectKey":["AWSLogs/a b/6.gz"]}`)+`}`,
		`{"Service":"Amazon S3","Event":"s3:TestEvent"}`,
		notice("AWSLogs/1/CloudTrail-Digest/eu/d.gz"),
		`{"Records":[{"eventName":"ObjectRemoved:Delete","s3":{"bucket":{"name":"logs"},"object":{"key":"gone"}}}]}`,
		`{"detail-type":"Object Deleted","detail":{"bucket":{"name":"logs"},"object":{"key":"gone"}}}`,
	)
	equal(t, p.all(t), wantIDs(0, 21), "all")
	if n := c.Left(); n > 0 {
		t.Errorf("%d messages are left", n)
	}
}

func TestMessageIsDeletedOnlyAfterItsEventsAreAcknowledged(t *testing.T) {
	t.Parallel()
	c := awstest.NewCloud(t)
	c.Put("a.gz", gz(lines(0, 10)))
	c.Put("b.gz", gz(lines(10, 12)))
	p := newQueuePlace(t, awsAt(c.URL), c.URL+"/queue")
	p.begin(t)
	c.Send(notice("a.gz", "b.gz"))
	b, err := p.src.Next(t.Context())
	ok(t, err)
	if len(b.Events) != 7 || b.From != "s3://logs/a.gz" {
		t.Fatalf("%d events from %s", len(b.Events), b.From)
	}
	ok(t, b.Ack(t.Context())) // of a part: the message stays
	if c.Left() != 1 {
		t.Fatal("deleted too early")
	}
	b, err = p.src.Next(t.Context())
	ok(t, err)
	if len(b.Events) != 5 || c.Left() != 1 {
		t.Fatalf("%d events, %d messages", len(b.Events), c.Left())
	}
	p.begin(t) // killed
	c.Timeout()
	equal(t, p.all(t), wantIDs(7, 12), "after a restart")
	if c.Left() != 0 {
		t.Error("not deleted")
	}
}

// TestMessageThatCameAgainIsDeletedThen: what took too long to acknowledge is in the queue
// again, under another receipt, and the old one holds up nothing.
func TestMessageThatCameAgainIsDeletedThen(t *testing.T) {
	t.Parallel()
	c := awstest.NewCloud(t)
	c.Put("a.gz", gz(lines(0, 3)))
	c.Put("b.gz", gz(lines(3, 5)))
	p := newQueuePlace(t, awsAt(c.URL), c.URL+"/queue")
	p.begin(t)
	c.Send(notice("a.gz"))
	b, err := p.src.Next(t.Context())
	ok(t, err)
	if len(b.Events) != 3 {
		t.Fatalf("%d events", len(b.Events))
	}
	c.Timeout()
	ok(t, b.Ack(t.Context()))
	if c.Left() != 1 {
		t.Fatal("deleted by a receipt that had expired")
	}
	c.Send(notice("b.gz"))
	equal(t, p.all(t), wantIDs(3, 5), "afterwards")
	if n := c.Left(); n > 0 {
		t.Errorf("%d messages are left", n)
	}
}

func TestMessagesThatCannotBeReadStayAndAreFindings(t *testing.T) {
	t.Parallel()
	c := awstest.NewCloud(t)
	c.Put("a.gz", gz(lines(0, 1)))
	p := newQueuePlace(t, awsAt(c.URL), c.URL+"/queue")
	p.begin(t)
	c.Send(`nonsense`, `{"a":1}`, notice("missing.gz"), strings.ReplaceAll(notice("a.gz"), `"logs"`, `"others"`), notice("a.gz"))
	equal(t, p.all(t), wantIDs(0, 1), "the sound one")
	for range 4 {
		if f := p.src.Status().Findings; len(f) > 0 {
			t.Errorf("already %+v", f)
		}
		c.Timeout()
		equal(t, p.all(t), nil, "again")
	}
	var got []string
	for _, f := range p.src.Status().Findings {
		got = append(got, f.Name+" "+f.Error)
	}
	want := []string{
		"message m0 does not tell of objects as S3, SNS, EventBridge or CloudTrail do", "message m1 does not tell of objects as S3, SNS, EventBridge or CloudTrail do",
		"message m2 s3://logs/missing.gz: file does not exist", `message m3 names the bucket "others", which is not among those to read`,
	}
	if !slices.Equal(got, want) || c.Left() != 4 {
		t.Errorf("got %q", got)
	}
	c.Put("missing.gz", gz(lines(1, 2)))
	c.Timeout()
	equal(t, p.all(t), wantIDs(1, 2), "one that is there after all")
	if len(p.src.Status().Findings) != 3 {
		t.Errorf("%+v", p.src.Status().Findings)
	}
	if _, err := collect.OpenQueue(t.Context(), collect.QueueOptions{URL: "x"}); err == nil || err.Error() != "a queue needs its URL and the buckets that it may name" {
		t.Errorf("got %v", err)
	}
}

func TestLookup(t *testing.T) {
	t.Parallel()
	c := awstest.NewCloud(t)
	now := &clock{start}
	state := t.TempDir()
	open := func() collect.Source {
		l, err := collect.OpenLookup(t.Context(), collect.LookupOptions{Options: collect.Options{State: state, Now: now.now}, AWS: awsAt(c.URL), Since: start.Add(-200 * 24 * time.Hour)})
		ok(t, err)
		seen, err := collect.OpenSeen(filepath.Join(state, "seen"), 0)
		ok(t, err)
		t.Cleanup(func() { seen.Close() })
		return collect.Unique(l, seen)
	}
	event := func(n int) { c.Events = append([]string{record(n)}, c.Events...) }
	for n := range 4 {
		event(n)
	}
	src := open()
	if _, err := src.Next(t.Context()); err != nil { // a page, not acknowledged
		t.Fatal(err)
	}
	src = open()
	equal(t, drain(t, src, true), wantIDs(0, 4), "at first")
	first := c.Lookups[0]
	if from := first["StartTime"].(float64); from != float64(start.Add(-90*24*time.Hour).Unix()) {
		t.Errorf("asked since %v", from)
	}
	if fmt.Sprint(first["LookupAttributes"]) != "[map[AttributeKey:EventSource AttributeValue:kms.amazonaws.com]]" {
		t.Errorf("asked for %v", first)
	}
	asked := len(c.Lookups)
	equal(t, drain(t, src, true), nil, "too soon")
	if len(c.Lookups) != asked {
		t.Error("asked again within a minute")
	}
	event(4)
	now.t = now.t.Add(2 * time.Minute)
	equal(t, drain(t, open(), true), wantIDs(4, 5), "later, after a restart")
	if from := c.Lookups[len(c.Lookups)-1]["StartTime"].(float64); from != float64(start.Add(-20*time.Minute).Unix()) {
		t.Errorf("asked since %v", from)
	}
	now.t = now.t.Add(2 * time.Minute)
	c.Fail = 1
	if _, err := src.Next(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "look up events: ") || errors.Is(err, io.EOF) {
		t.Errorf("got %v", err)
	}
}

// TestLookupAfterAClockThatWasAhead: what happened while it was is looked up, also after a
// restart.
func TestLookupAfterAClockThatWasAhead(t *testing.T) {
	t.Parallel()
	for _, restarts := range []bool{false, true} {
		c := awstest.NewCloud(t)
		now := &clock{start}
		state := t.TempDir()
		open := func() collect.Source {
			l, err := collect.OpenLookup(t.Context(), collect.LookupOptions{Options: collect.Options{State: state, Now: now.now}, AWS: awsAt(c.URL)})
			ok(t, err)
			return l
		}
		c.Events = []string{record(1)}
		now.t = start.Add(24 * time.Hour)
		src := open()
		equal(t, drain(t, src, true), wantIDs(1, 2), "ahead")
		now.t = start.Add(time.Minute)
		if restarts {
			src = open()
		}
		drain(t, src, true)
		drain(t, src, true) // it is too soon
		if len(c.Lookups) != 2 {
			t.Fatalf("asked %d times", len(c.Lookups))
		}
		asked := c.Lookups[1]
		newest := src.Status().NewestEvent
		if from, to := asked["StartTime"].(float64), asked["EndTime"].(float64); from >= to || to != float64(now.t.Unix()) || newest.Unix() < int64(from) {
			t.Errorf("restarted %v: asked from %v to %v, the newest event is of %v", restarts, from, to, newest.Unix())
		}
		now.t = now.t.Add(2 * time.Minute)
		drain(t, src, true)
		if from := c.Lookups[2]["StartTime"].(float64); from != float64(now.t.Add(-22*time.Minute).Unix()) {
			t.Errorf("later asked from %v", from)
		}
	}
}

func TestPublicKeysOfAWS(t *testing.T) {
	t.Parallel()
	c := awstest.NewCloud(t)
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	ok(t, err)
	der := x509.MarshalPKCS1PublicKey(&k.PublicKey)
	name := cloudtrail.Fingerprint(der)
	c.Keys = fmt.Sprintf(`{"PublicKeyList":[{"Value":%q,"Fingerprint":%q}]}`, base64.StdEncoding.EncodeToString(der), name)
	keys := collect.PublicKeys(awsAt(c.URL))
	got, err := keys.Key(t.Context(), "eu-central-1", name, start)
	ok(t, err)
	if !got.Equal(&k.PublicKey) {
		t.Error("another key")
	}
	if _, err := keys.Key(t.Context(), "eu-central-1", "other", start); !errors.Is(err, cloudtrail.ErrNoKey) {
		t.Errorf("got %v", err)
	}
	c.Fail = 1
	if _, err := keys.Key(t.Context(), "us-east-1", name, start); err == nil || !strings.HasPrefix(err.Error(), "list public keys of us-east-1: ") {
		t.Errorf("got %v", err)
	}
}
