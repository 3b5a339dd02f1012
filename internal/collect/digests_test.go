package collect_test

import (
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cardea/internal/awstest"
	"cardea/internal/cloudtrail"
	"cardea/internal/collect"
)

// outcomesOf gives what is wrong, as "outcome object".
func outcomesOf(t *testing.T, src collect.Source) (list []string) {
	t.Helper()
	for {
		b, err := src.Next(t.Context())
		if errors.Is(err, io.EOF) {
			slices.Sort(list)
			return list
		}
		ok(t, err)
		for _, e := range b.Events {
			if e.Source != cloudtrail.SourceDigests || e.Account != awstest.Account || e.Region != awstest.Region || e.Time.IsZero() || e.ErrorMessage == "" ||
				e.Principal != "trail/111122223333/eu-central-1/all" {
				t.Errorf("event %+v", e)
			}
			list = append(list, e.Name+" "+e.SourceName)
		}
		ok(t, b.Ack(t.Context()))
	}
}

// TestDigestFindingsAreEventsOnce verifies a bucket each hour: what is wrong with its
// digests comes once, also after a restart, and the time that is looked back ends.
func TestDigestFindingsAreEventsOnce(t *testing.T) {
	t.Parallel()
	c := awstest.NewCloud(t)
	hours := make([][]string, 30)
	for h := range hours {
		hours[h] = []string{record(h)}
	}
	tr := awstest.NewTrail(t, start, bucketName, "", hours...)
	tr.PutInto(c)
	now, state := &clock{tr.End.Add(time.Minute)}, t.TempDir()
	place, err := collect.ParsePlace("s3://" + bucketName + "/AWSLogs/")
	ok(t, err)
	place.AWS = awsAt(c.URL)
	open := func() collect.Source {
		s, err := place.OpenDigests(t.Context(), state, nil, now.now)
		ok(t, err)
		t.Cleanup(func() { s.Close() })
		return s
	}
	src := open()
	equal(t, outcomesOf(t, src), nil, "untouched")
	for _, l := range c.Lists {
		if prefix, after, _ := strings.Cut(l, " "); after == "" || !strings.HasPrefix(after, prefix) {
			t.Errorf("all of %q was listed", prefix)
		}
	}
	removed := []string{tr.Digests[26], tr.Digests[27]} // two in a row
	for _, name := range removed {
		delete(c.Objects, name)
	}
	delete(c.Objects, tr.Logs[20])
	c.Objects[tr.Logs[22]] = c.Objects[tr.Logs[21]]
	delete(c.Objects, tr.Digests[1]) // older than what is looked back
	equal(t, outcomesOf(t, src), nil, "not time yet")
	now.t = now.t.Add(time.Hour)
	want := []string{
		"missing_digest " + tr.Digests[27], "missing_digest " + tr.Digests[28], "missing_log " + tr.Logs[20], "hash_mismatch " + tr.Logs[22],
		"unlisted_log " + tr.Logs[26], "unlisted_log " + tr.Logs[27],
	}
	equal(t, outcomesOf(t, src), want, "an hour later")
	now.t = now.t.Add(time.Hour)
	equal(t, outcomesOf(t, open()), []string{"late_digest " + tr.Digests[29]}, "after a restart")
	now.t = now.t.Add(time.Hour)
	equal(t, outcomesOf(t, open()), nil, "it is as late as before")

	c.Fail = 100
	now.t = now.t.Add(time.Hour)
	src = open()
	if _, err := src.Next(t.Context()); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("got %v", err)
	}
	if s := src.Status(); s.LastError == "" || !s.LastSuccess.IsZero() {
		t.Errorf("%+v", s)
	}
	c.Fail = 0
	if _, err := src.Next(t.Context()); !errors.Is(err, io.EOF) || src.Status().LastError == "" {
		t.Errorf("asked again at once: %v, %+v", err, src.Status())
	}
	now.t = now.t.Add(5 * time.Minute)
	equal(t, outcomesOf(t, src), nil, "again")
	if s := src.Status(); s.LastError != "" || !s.LastSuccess.Equal(now.t) {
		t.Errorf("%+v", s)
	}
}

func TestDigestsOfAFolderThatIsInATrail(t *testing.T) {
	t.Parallel()
	tr := awstest.NewTrail(t, start, bucketName, "prefix/", []string{record(1)}, []string{record(2)}, []string{record(3)})
	keys, err := cloudtrail.ParseKeys([]byte(tr.Keys))
	ok(t, err)
	dir := t.TempDir()
	delete(tr.Objects, tr.Digests[1])
	tr.WriteTo(t, dir)
	now := func() time.Time { return tr.End.Add(time.Minute) }
	for _, path := range []string{dir, filepath.Join(dir, "AWSLogs"), filepath.Join(dir, "AWSLogs", awstest.Account)} {
		p := collect.Place{Kind: collect.KindFolder, Path: path}
		events, err := p.VerifyDigests(t.Context(), keys, cloudtrail.DigestOptions{Now: now})
		ok(t, err)
		var names []string
		for _, e := range events {
			names = append(names, e.Name)
		}
		equal(t, names, []string{"missing_digest", "no_signature"}, path) // of the oldest nobody tells the signature any more
	}
	empty := collect.Place{Kind: collect.KindFolder, Path: t.TempDir()}
	if _, err := empty.VerifyDigests(t.Context(), keys, cloudtrail.DigestOptions{Now: now}); err == nil || !strings.HasPrefix(err.Error(), "there are no digests: ") {
		t.Errorf("got %v", err)
	}
}

func TestPlacesAreWhatPeopleWrite(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"trail": "folder trail", "s3://b/AWSLogs/": "s3 s3://b/AWSLogs/", "s3://b": "s3 s3://b/",
		"sqs:https://sqs.eu-central-1.amazonaws.com/1/q": "sqs sqs:https://sqs.eu-central-1.amazonaws.com/1/q",
		"lookup:": "lookup lookup:", "lookup:*": "lookup lookup:*",
	} {
		p, err := collect.ParsePlace(text)
		if got := string(p.Kind) + " " + p.String(); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
	}
	for text, want := range map[string]string{"": "no place", "s3://": "names no bucket", "s3:///x": "names no bucket", "sqs:queue": "is no queue", "sqs:ftp://x/q": "is no queue"} {
		if _, err := collect.ParsePlace(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	queue := collect.Place{Kind: collect.KindQueue, Queue: "https://x/q"}
	if _, _, err := queue.Objects(t.Context()); err == nil || err.Error() != "sqs:https://x/q: only a folder or a bucket can be looked through" {
		t.Errorf("got %v", err)
	}
	if _, err := queue.Open(t.Context(), collect.Options{State: t.TempDir(), Now: time.Now}); err == nil || err.Error() != "a queue needs its URL and the buckets that it may name" {
		t.Errorf("got %v", err)
	}
}

// TestEveryPlaceOpensAndGoesOn reads each kind of place twice, with a restart between.
func TestEveryPlaceOpensAndGoesOn(t *testing.T) {
	t.Parallel()
	c := awstest.NewCloud(t)
	dir := t.TempDir()
	add := func(from, to int) {
		write(t, dir, "log.ndjson", lines(0, to))
		c.Put(trailName("eu-central-1", start, from), gz(logFile(from, to)))
		c.Send(notice(trailName("eu-central-1", start, from)))
		for n := from; n < to; n++ {
			c.Events = append([]string{record(n)}, c.Events...)
		}
	}
	places := map[string]string{"folder": dir, "s3": "s3://" + bucketName + "/AWSLogs/", "sqs": "sqs:" + c.URL + "/queue", "lookup": "lookup:"}
	state, now := t.TempDir(), &clock{start.Add(time.Hour)}
	for round, span := range [][2]int{{0, 5}, {5, 9}} {
		add(span[0], span[1])
		for name, text := range places {
			p, err := collect.ParsePlace(text)
			ok(t, err)
			p.AWS, p.Buckets = awsAt(c.URL), []string{bucketName}
			s, err := p.Open(t.Context(), collect.Options{State: filepath.Join(state, name), Now: now.now})
			ok(t, err)
			equal(t, drain(t, s, true), wantIDs(span[0], span[1]), name+" in round "+[]string{"one", "two"}[round])
			ok(t, s.Close())
		}
		now.t = now.t.Add(10 * time.Minute)
	}
}
