package cloudtrail_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cardea/internal/cloudtrail"
)

// bucket is a bucket in memory.
type bucket struct {
	objects map[string][]byte
	meta    map[string]map[string]string
}

func (b *bucket) List(_ context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for _, name := range slices.Sorted(maps.Keys(b.objects)) {
			if strings.HasPrefix(name, prefix) && !yield(name, nil) {
				return
			}
		}
	}
}

func (b *bucket) Open(_ context.Context, name string) (cloudtrail.Object, error) {
	o, there := b.objects[name]
	if !there {
		return cloudtrail.Object{}, fs.ErrNotExist
	}
	return cloudtrail.Object{Body: io.NopCloser(bytes.NewReader(o)), Meta: b.meta[name]}, nil
}

func (b *bucket) clone() *bucket {
	c := &bucket{objects: maps.Clone(b.objects), meta: map[string]map[string]string{}}
	for name, m := range b.meta {
		c.meta[name] = maps.Clone(m)
	}
	return c
}

const (
	account    = "111122223333"
	bucketName = "logs-of-111122223333"
)

var (
	signer = sync.OnceValue(func() *rsa.PrivateKey {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		return k
	})
	zero = time.Date(2026, 11, 20, 0, 24, 57, 0, time.UTC) // digests are not on the hour
)

func trusted() cloudtrail.KeySet {
	s := cloudtrail.KeySet{}
	der := x509.MarshalPKCS1PublicKey(&signer().PublicKey)
	if err := s.Add(der, cloudtrail.Fingerprint(der)); err != nil {
		panic(err)
	}
	return s
}

// trailOf writes a trail: so many hours with so many log files in each but every third.
type trailOf struct {
	b              *bucket
	prefix, region string
	hours, each    int
	// fresh hours begin a new chain; skipped ones have no digest, and the next one
	// continues the last there is; late ones have one of the backfill kind.
	fresh, skipped, late map[int]bool
}

func (tr trailOf) logName(h, i int) string {
	at := zero.Add(time.Duration(h)*time.Hour + time.Duration(i*7+3)*time.Minute)
	return fmt.Sprintf("%sAWSLogs/%s/CloudTrail/%s/%s/%s_CloudTrail_%s_%s_%016d.json.gz", tr.prefix, account, tr.region, at.Format("2006/01/02"), account, tr.region, at.Format("20060102T1504Z"), h*100+i)
}

func (tr trailOf) digestName(h int) string {
	end := zero.Add(time.Duration(h+1) * time.Hour)
	suffix := ""
	if tr.late[h] {
		suffix = "_backfill"
	}
	return fmt.Sprintf("%sAWSLogs/%s/CloudTrail-Digest/%s/%s/%s_CloudTrail-Digest_%s_all_eu-central-1_%s%s.json.gz", tr.prefix, account, tr.region, end.Format("2006/01/02"), account, tr.region, end.Format("20060102T150405Z"), suffix)
}

func (tr trailOf) write(t *testing.T) trailOf {
	t.Helper()
	if tr.b == nil {
		tr.b = &bucket{objects: map[string][]byte{}, meta: map[string]map[string]string{}}
	}
	if tr.region == "" {
		tr.region = "eu-central-1"
	}
	previous := -1
	var previousHash, previousSignature string
	for h := range tr.hours {
		if tr.skipped[h] {
			continue
		}
		logs := []object{}
		for i := range tr.each {
			if h%3 == 2 {
				break
			}
			name := tr.logName(h, i)
			content := `{"Records":[` + record(h*100+i) + `,` + record(h*100+i+50) + `]}`
			tr.b.objects[name] = []byte(gz(content))
			sum := sha256.Sum256([]byte(content))
			logs = append(logs, object{
				"s3Bucket": bucketName, "s3Object": name, "hashValue": hex.EncodeToString(sum[:]), "hashAlgorithm": "SHA-256",
				"newestEventTime": "2026-11-20T00:00:00Z", "oldestEventTime": "2026-11-20T00:00:00Z",
			})
		}
		name := tr.digestName(h)
		start, end := zero.Add(time.Duration(h)*time.Hour), zero.Add(time.Duration(h+1)*time.Hour)
		der := x509.MarshalPKCS1PublicKey(&signer().PublicKey)
		d := object{
			"awsAccountId": account, "digestStartTime": start.Format(time.RFC3339), "digestEndTime": end.Format(time.RFC3339),
			"digestS3Bucket": bucketName, "digestS3Object": name, "digestPublicKeyFingerprint": cloudtrail.Fingerprint(der),
			"digestSignatureAlgorithm": "SHA256withRSA", "newestEventTime": nil, "oldestEventTime": nil, "previousDigestS3Bucket": nil, "previousDigestS3Object": nil,
			"previousDigestHashValue": nil, "previousDigestHashAlgorithm": nil, "previousDigestSignature": nil, "logFiles": logs,
		}
		before := "null"
		if previous >= 0 && !tr.fresh[h] && !tr.late[h] {
			before = previousSignature
			d["previousDigestS3Bucket"], d["previousDigestS3Object"], d["previousDigestHashAlgorithm"] = bucketName, tr.digestName(previous), "SHA-256"
			d["previousDigestHashValue"], d["previousDigestSignature"] = previousHash, previousSignature
		}
		content, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(content)
		hash := hex.EncodeToString(sum[:])
		signed := sha256.Sum256([]byte(d["digestEndTime"].(string) + "\n" + bucketName + "/" + name + "\n" + hash + "\n" + before))
		sig, err := rsa.SignPKCS1v15(nil, signer(), crypto.SHA256, signed[:])
		if err != nil {
			t.Fatal(err)
		}
		tr.b.objects[name] = []byte(gz(string(content)))
		tr.b.meta[name] = map[string]string{"signature": hex.EncodeToString(sig), "signature-algorithm": "SHA256withRSA"}
		if tr.late[h] {
			tr.b.meta[name]["backfill-generation-timestamp"] = "2026-11-25T00:00:00Z"
			continue
		}
		previous, previousHash, previousSignature = h, hash, hex.EncodeToString(sig)
	}
	return tr
}

// options verify the trail just after its last digest was due.
func (tr trailOf) options() cloudtrail.DigestOptions {
	now := zero.Add(time.Duration(tr.hours)*time.Hour + 30*time.Minute)
	return cloudtrail.DigestOptions{Keys: trusted(), Now: func() time.Time { return now }, Bucket: bucketName}
}

func verify(t *testing.T, b cloudtrail.Objects, o cloudtrail.DigestOptions) cloudtrail.DigestReport {
	t.Helper()
	r, err := cloudtrail.VerifyDigests(t.Context(), b, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func findings(r cloudtrail.DigestReport) (list []cloudtrail.DigestFinding) {
	for _, t := range r.Trails {
		list = append(list, t.Findings...)
	}
	return list
}

func outcomes(r cloudtrail.DigestReport) []string {
	list := []string{}
	for _, f := range findings(r) {
		list = append(list, string(f.Outcome))
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func TestUntouchedTrailsAreValid(t *testing.T) {
	t.Parallel()
	for name, tr := range map[string]trailOf{
		"plain":                        {hours: 30, each: 3},
		"with a prefix":                {hours: 5, each: 2, prefix: "some/where/"},
		"one digest":                   {hours: 1, each: 2},
		"no log files":                 {hours: 4},
		"made later":                   {hours: 12, each: 2, late: map[int]bool{4: true, 5: true}},
		"made later, then a new start": {hours: 12, each: 2, late: map[int]bool{4: true, 5: true}, fresh: map[int]bool{6: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tr := tr.write(t)
			trailOf{b: tr.b, prefix: tr.prefix, region: "us-east-1", hours: tr.hours, each: 1}.write(t)
			r := verify(t, tr.b, tr.options())
			if !r.OK() || len(r.Trails) != 2 {
				t.Fatalf("%+v", r)
			}
			logs, digests := 0, 0
			for name := range tr.b.objects {
				if strings.Contains(name, "Digest") {
					digests++
				} else {
					logs++
				}
			}
			got := r.Trails[0]
			if r.Trails[1].Logs+got.Logs != logs || r.Trails[1].Digests+got.Digests != digests || got.Backfill != len(tr.late) || !got.First.Equal(zero) {
				t.Errorf("got %+v, want %d digests and %d logs", r, digests, logs)
			}
			o := tr.options()
			o.Bucket = "" // finds out
			if r := verify(t, tr.b, o); !r.OK() {
				t.Errorf("without the bucket's name: %+v", findings(r))
			}
			o = tr.options()
			o.Since, o.Until = zero.Add(2*time.Hour), zero.Add(4*time.Hour)
			if r := verify(t, tr.b, o); len(findings(r)) > 0 {
				t.Errorf("a part: %+v", findings(r))
			}
		})
	}
}

// TestSignatureOfAllButTheNewestComesFromTheNext: a folder has no metadata.
func TestSignatureOfAllButTheNewestComesFromTheNext(t *testing.T) {
	t.Parallel()
	tr := trailOf{hours: 6, each: 1}.write(t)
	newest := tr.b.meta[tr.digestName(5)]
	tr.b.meta = nil
	r := verify(t, tr.b, tr.options())
	if f := findings(r); len(f) != 1 || f[0].Outcome != cloudtrail.OutcomeNoSignature {
		t.Errorf("got %+v", f)
	}
	tr.b.meta = map[string]map[string]string{tr.digestName(5): newest}
	if r := verify(t, tr.b, tr.options()); !r.OK() || r.Trails[0].Digests != 6 {
		t.Errorf("got %+v", r)
	}
}

func TestEveryChangeIsFound(t *testing.T) {
	t.Parallel()
	tr := trailOf{hours: 9, each: 3}.write(t)
	edit := func(name string, f func(string) string) func(*bucket) {
		return func(b *bucket) { b.objects[name] = []byte(gz(f(gunzipped(t, b.objects[name])))) }
	}
	remove := func(names ...string) func(*bucket) {
		return func(b *bucket) {
			for _, n := range names {
				delete(b.objects, n)
				delete(b.meta, n)
			}
		}
	}
	swap := func(x, y string) func(*bucket) {
		return func(b *bucket) {
			b.objects[x], b.objects[y] = b.objects[y], b.objects[x]
			b.meta[x], b.meta[y] = b.meta[y], b.meta[x]
		}
	}
	log, digest := tr.logName(4, 1), tr.digestName(4)
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	forge := func(name string) func(*bucket) { // sign it again with another key, under the real one's name
		return func(b *bucket) {
			var d map[string]any
			content := gunzipped(t, b.objects[name])
			if err := json.Unmarshal([]byte(content), &d); err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256([]byte(content))
			before, _ := d["previousDigestSignature"].(string)
			signed := sha256.Sum256(fmt.Appendf(nil, "%s\n%s/%s\n%x\n%s", d["digestEndTime"], bucketName, name, sum, before))
			sig, err := rsa.SignPKCS1v15(nil, other, crypto.SHA256, signed[:])
			if err != nil {
				t.Fatal(err)
			}
			b.meta[name]["signature"] = hex.EncodeToString(sig)
		}
	}
	for name, c := range map[string]struct {
		change func(*bucket)
		want   string // outcomes
		at     string // the object of the first finding that matters
	}{
		"a log file's value":    {edit(log, func(s string) string { return strings.Replace(s, "Decrypt", "Encrypt", 1) }), "hash_mismatch", log},
		"a log file's space":    {edit(log, func(s string) string { return s + " " }), "hash_mismatch", log},
		"a record removed":      {edit(log, func(s string) string { return s[:strings.LastIndex(s, `,{"eventVersion"`)] + "]}" }), "hash_mismatch", log},
		"records reordered":     {edit(log, reordered), "hash_mismatch", log},
		"a log file cut off":    {func(b *bucket) { b.objects[log] = b.objects[log][:len(b.objects[log])-9] }, "malformed", log},
		"a log file emptied":    {func(b *bucket) { b.objects[log] = nil }, "malformed", log},
		"a log file not gzip":   {func(b *bucket) { b.objects[log] = []byte(`{"Records":[]}`) }, "malformed", log},
		"data after a log file": {func(b *bucket) { b.objects[log] = append(slices.Clone(b.objects[log]), "x"...) }, "trailing_data", log},
		"gzip after a log file": {func(b *bucket) { b.objects[log] = append(slices.Clone(b.objects[log]), gz("")...) }, "trailing_data", log},
		"a log file removed":    {remove(log), "missing_log", log},
		"log files swapped":     {swap(log, tr.logName(4, 2)), "hash_mismatch", log},
		"a log file added": {func(b *bucket) {
			b.objects[strings.Replace(log, "00401.json", "00999.json", 1)] = []byte(gz(`{"Records":[]}`))
		}, "unlisted_log", strings.Replace(log, "00401.json", "00999.json", 1)},
		"a digest cut off":       {func(b *bucket) { b.objects[digest] = b.objects[digest][:99] }, "malformed unlisted_log", digest},
		"data after a digest":    {func(b *bucket) { b.objects[digest] = append(slices.Clone(b.objects[digest]), 0) }, "trailing_data unlisted_log", digest},
		"no digest":              {edit(digest, func(string) string { return "{}" }), "malformed unlisted_log", digest},
		"a digest removed":       {remove(digest), "missing_digest unlisted_log", digest},
		"two digests removed":    {remove(digest, tr.digestName(3)), "missing_digest unlisted_log", digest},
		"the oldest removed":     {remove(tr.digestName(0)), "missing_digest", tr.digestName(0)},
		"the newest two removed": {remove(tr.digestName(8), tr.digestName(7)), "late_digest", tr.digestName(6)},
		"all digests removed": {func(b *bucket) {
			maps.DeleteFunc(b.objects, func(n string, _ []byte) bool { return strings.Contains(n, "Digest") })
		}, "missing_digest", ""},
		"digests swapped": {swap(digest, tr.digestName(5)), "moved", ""},
		"a digest elsewhere": {func(b *bucket) {
			n := strings.Replace(digest, "_all_", "_other_", 1)
			b.objects[n], b.meta[n] = b.objects[digest], b.meta[digest]
		}, "late_digest moved", ""},
		"a signature of another":         {func(b *bucket) { b.meta[digest] = b.meta[tr.digestName(5)] }, "invalid_signature", digest},
		"a signature of another's key":   {forge(digest), "invalid_signature", digest},
		"the newest with another's key":  {forge(tr.digestName(8)), "invalid_signature", tr.digestName(8)},
		"a signature that is none":       {func(b *bucket) { b.meta[tr.digestName(8)]["signature"] = "zz" }, "invalid_signature", tr.digestName(8)},
		"the newest signature removed":   {func(b *bucket) { b.meta[tr.digestName(8)] = nil }, "no_signature", tr.digestName(8)},
		"a log file out of a digest":     {edit(digest, func(s string) string { return strings.Replace(s, `"SHA-256"`, `"SHA-1"`, 1) }), "invalid_signature", digest},
		"a digest with its chain cut":    {edit(digest, unchained), "invalid_signature", digest},
		"a digest with half of its past": {edit(digest, func(s string) string { return strings.Replace(s, `"previousDigestSignature":"`, `"x":"`, 1) }), "malformed unlisted_log", digest},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := tr.b.clone()
			c.change(b)
			r := verify(t, b, tr.options())
			if got := strings.Join(outcomes(r), " "); got != c.want {
				t.Errorf("got %s, want %s: %+v", got, c.want, findings(r))
			}
			if c.at != "" && !slices.ContainsFunc(findings(r), func(f cloudtrail.DigestFinding) bool { return f.Object == c.at }) {
				t.Errorf("want a finding about %s: %+v", c.at, findings(r))
			}
		})
	}
}

func reordered(s string) string {
	at := strings.LastIndex(s, `,{"eventVersion"`)
	return `{"Records":[` + s[at+1:len(s)-2] + "," + s[len(`{"Records":[`):at] + "]}"
}

func unchained(s string) string {
	var d map[string]any
	if json.Unmarshal([]byte(s), &d) != nil {
		return s
	}
	for k := range d {
		if strings.HasPrefix(k, "previous") {
			d[k] = nil
		}
	}
	b, _ := json.Marshal(d)
	return string(b)
}

func gunzipped(t *testing.T, b []byte) string {
	t.Helper()
	r, err := gunzipReader(b)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestFlipInEachValueOfADigestIsFound changes each value in turn, of the newest
// digest, one in the middle, and the oldest.
func TestFlipInEachValueOfADigestIsFound(t *testing.T) {
	t.Parallel()
	tr := trailOf{hours: 5, each: 2}.write(t)
	for _, h := range []int{0, 1, 4} {
		name := tr.digestName(h)
		var d map[string]any
		if err := json.Unmarshal([]byte(gunzipped(t, tr.b.objects[name])), &d); err != nil {
			t.Fatal(err)
		}
		paths := leaves(d)
		if len(paths) < 20 {
			t.Fatalf("only %d values", len(paths))
		}
		for _, path := range paths {
			var again map[string]any
			if err := json.Unmarshal([]byte(gunzipped(t, tr.b.objects[name])), &again); err != nil {
				t.Fatal(err)
			}
			flip(again, path)
			content, _ := json.Marshal(again)
			b := tr.b.clone()
			b.objects[name] = []byte(gz(string(content)))
			r := verify(t, b, tr.options())
			fs := findings(r)
			if len(fs) == 0 {
				t.Errorf("digest %d: a change of %v is not found", h, path)
			}
			for _, f := range fs { // and nothing else is blamed
				if f.Object != name && f.Outcome != cloudtrail.OutcomeUnlistedLog {
					t.Errorf("digest %d, %v: %+v", h, path, f)
				}
			}
		}
	}
}

// leaves are the paths of all values.
func leaves(v any) (paths [][]any) {
	add := func(key any, v any) {
		for _, p := range leaves(v) {
			paths = append(paths, append([]any{key}, p...))
		}
	}
	switch v := v.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			add(k, v[k])
		}
	case []any:
		for i := range v {
			add(i, v[i])
		}
	default:
		return [][]any{{}}
	}
	return paths
}

func flip(v any, path []any) {
	set := func(old any) any {
		if s, ok := old.(string); ok && s != "" {
			b := []byte(s)
			b[len(b)-1] ^= 1
			return string(b)
		}
		return "x"
	}
	switch v := v.(type) {
	case map[string]any:
		k := path[0].(string)
		if len(path) == 1 {
			v[k] = set(v[k])
			return
		}
		flip(v[k], path[1:])
	case []any:
		i := path[0].(int)
		if len(path) == 1 {
			v[i] = set(v[i])
			return
		}
		flip(v[i], path[1:])
	}
}

func TestGapsAreFound(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		tr   trailOf
		want string
	}{
		"a new chain":                     {trailOf{hours: 9, fresh: map[int]bool{5: true}}, "begins a new chain though there are older digests: logging or validation was off before it"},
		"a new chain after a pause":       {trailOf{hours: 9, fresh: map[int]bool{5: true}, skipped: map[int]bool{3: true, 4: true}}, "begins a new chain though there are older digests: logging or validation was off from 2026-11-20T03:24:57Z to 2026-11-20T05:24:57Z"},
		"hours without a digest":          {trailOf{hours: 9, skipped: map[int]bool{3: true, 4: true}}, "2 more hourly digests are missing before it, from 2026-11-20T03:24:57Z to 2026-11-20T05:24:57Z"},
		"hours of which one is made late": {trailOf{hours: 9, skipped: map[int]bool{3: true}, late: map[int]bool{4: true}}, "1 more hourly digests are missing before it, from 2026-11-20T03:24:57Z to 2026-11-20T04:24:57Z"},
	} {
		tr := c.tr.write(t)
		r := verify(t, tr.b, tr.options())
		if f := findings(r); len(f) != 1 || f[0].Message != c.want || f[0].Object != tr.digestName(5) {
			t.Errorf("%s: got %+v", name, f)
		}
	}
	tr := trailOf{hours: 9, each: 1}.write(t)
	for _, h := range []int{3, 4} { // two in a row: the chain tells of one only
		delete(tr.b.objects, tr.digestName(h))
	}
	f := findings(verify(t, tr.b, tr.options()))
	if f[0].Object != tr.digestName(4) || f[1].Message != "1 more hourly digests are missing before it, from 2026-11-20T03:24:57Z to 2026-11-20T05:24:57Z" {
		t.Errorf("got %+v", f)
	}
}

// TestRemovedAtTheEndOfAPartIsFound: the digest after the part tells.
func TestRemovedAtTheEndOfAPartIsFound(t *testing.T) {
	t.Parallel()
	tr := trailOf{hours: 9}.write(t)
	o := tr.options()
	o.Until = zero.Add(5 * time.Hour)
	delete(tr.b.objects, tr.digestName(4))
	if f := findings(verify(t, tr.b, o)); len(f) != 1 || f[0].Outcome != cloudtrail.OutcomeMissingDigest || f[0].Object != tr.digestName(4) {
		t.Errorf("got %+v", f)
	}
}

func TestKeysThatAreNotKnown(t *testing.T) {
	t.Parallel()
	tr := trailOf{hours: 2, each: 1}.write(t)
	o := tr.options()
	o.Keys = cloudtrail.KeySet{}
	r := verify(t, tr.b, o)
	if got := outcomes(r); !slices.Equal(got, []string{"no_key"}) || r.OK() || r.Trails[0].Digests+r.Trails[0].Logs > 0 {
		t.Errorf("got %+v", r)
	}
}

func TestNothingToVerifyIsNotValid(t *testing.T) {
	t.Parallel()
	if r := verify(t, &bucket{}, trailOf{}.options()); r.OK() {
		t.Errorf("got %+v", r)
	}
}

func TestKeysFile(t *testing.T) {
	t.Parallel()
	der := x509.MarshalPKCS1PublicKey(&signer().PublicKey)
	line := func(value, fingerprint string) string {
		return fmt.Sprintf(`{"PublicKeyList":[{"Value":%q,"ValidityStartTime":"2026-01-01T00:00:00+00:00","ValidityEndTime":1.7e9,"Fingerprint":%q}]}`, value, fingerprint)
	}
	value := base64.StdEncoding.EncodeToString(der)
	good := line(value, cloudtrail.Fingerprint(der))
	for _, src := range []string{good, good + "\n" + good + "\n"} {
		set, err := cloudtrail.ParseKeys([]byte(src))
		if err != nil || !reflect.DeepEqual(set, trusted()) {
			t.Errorf("got %v, %v", set, err)
		}
	}
	for src, want := range map[string]string{
		"":                    "public keys: there are none, want a PublicKeyList",
		"{}":                  "public keys: there are none, want a PublicKeyList",
		"x":                   "public keys: not JSON as 'aws cloudtrail list-public-keys' prints it",
		`{"PublicKeyList":3}`: "public keys: json: cannot unmarshal number into Go struct field listedKeys.PublicKeyList of type []struct { Value string; Fingerprint string }",
		line("-", ""):         "public key 0: illegal base64 data at input byte 0",
		line(value, "00"):     "public key 0: the key's fingerprint is " + cloudtrail.Fingerprint(der) + `, not "00" as said`,
		line("AAAA", cloudtrail.Fingerprint([]byte{0, 0, 0})): "public key 0: asn1: structure error: tags don't match (16 vs {class:0 tag:0 length:0 isCompound:false}) {optional:false explicit:false application:false private:false defaultValue:<nil> tag:<nil> stringType:0 timeType:0 set:false omitEmpty:false} pkcs1PublicKey @2",
	} {
		if _, err := cloudtrail.ParseKeys([]byte(src)); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", src, err, want)
		}
	}
}

// TestFingerprintIsAWSs is the sample of AWS's guide ("ListPublicKeys").
func TestFingerprintIsAWSs(t *testing.T) {
	t.Parallel()
	const value = "MIIBCgKCAQEAn11L2YZ9h7onug2ILi1MWyHiMRsTQjfWE+pHVRLk1QjfWhirG+lpOa8NrwQ/r7Ah5bNL6HepznOU9XTDSfmmnP97mqyc7z/upfZdS/AHhYcGaz7n6Wc/RRBU6VmiPCrAUojuSk6/GjvA8iOPFsYDuBtviXarvuLPlrT9kAd4Lb+rFfR5peEgBEkhlzc5HuWO7S0y+KunqxX6jQBnXGMtxmPBPP0FylgWGNdFtks/4YSKcgqwH0YDcawP9GGGDAeCIqPWIXDLG1jOjRRzWfCmD0iJUkz8vTsn4hq/5ZxRFE7UBAUiVcGbdnDdvVfhF9C3dQiDq3k7adQIziLT0cShgQIDAQAB"
	der, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		t.Fatal(err)
	}
	if got := cloudtrail.Fingerprint(der); got != "8eba5db5bea9b640d1c96a77256fe7f2" {
		t.Errorf("got %s", got)
	}
}

// TestFlipOfAnyByteIsFound flips a bit in every third byte of a digest and of a log
// file as they are stored, unless that changes nothing of what they say: the header
// of a gzip stream has such bytes.
func TestFlipOfAnyByteIsFound(t *testing.T) {
	t.Parallel()
	tr := trailOf{hours: 2, each: 1}.write(t)
	harmless := 0
	for _, name := range []string{tr.digestName(0), tr.digestName(1), tr.logName(1, 0)} {
		whole := tr.b.objects[name]
		for i := 0; i < len(whole); i += 3 {
			flipped := slices.Clone(whole)
			flipped[i] ^= 1 << (i % 8)
			b := tr.b.clone()
			b.objects[name] = flipped
			found := len(findings(verify(t, b, tr.options()))) > 0
			if s, err := gunzipReader(flipped); err == nil && s == gunzipped(t, whole) {
				harmless++
			} else if !found {
				t.Errorf("%s: a flip in byte %d of %d is not found", name, i, len(whole))
			}
		}
	}
	if harmless > 30 {
		t.Errorf("%d flips change nothing", harmless)
	}
}
