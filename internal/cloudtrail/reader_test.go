package cloudtrail_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"cardea/internal/cloudtrail"
)

// record is one like those in AWS's KMS guide; n makes it differ from others.
func record(n int) string {
	return fmt.Sprintf(`{"eventVersion":"1.11","userIdentity":{"type":"AssumedRole","principalId":"AROAEXAMPLE:i-%[1]d","arn":"arn:aws:sts::111122223333:assumed-role/vault/i-%[1]d","accountId":"111122223333","accessKeyId":"ASIAEXAMPLE%[1]d","sessionContext":{"sessionIssuer":{"type":"Role","principalId":"AROAEXAMPLE","arn":"arn:aws:iam::111122223333:role/cards/vault","accountId":"111122223333","userName":"vault"},"attributes":{"creationDate":"2026-11-22T07:30:00Z","mfaAuthenticated":"false"},"ec2RoleDelivery":"2.0"}},"eventTime":"2026-11-22T08:%02[2]d:%02[3]dZ","eventSource":"kms.amazonaws.com","eventName":"Decrypt","awsRegion":"eu-central-1","sourceIPAddress":"192.0.2.%[4]d","userAgent":"aws-sdk-go-v2/1.47.7 ua/2.1 os/linux lang/go#1.26.8 md/GOOS#linux md/GOARCH#amd64 api/kms#1.62.4","requestParameters":{"encryptionAlgorithm":"SYMMETRIC_DEFAULT","encryptionContext":{"tenant":"t%[5]d","purpose":"branch-key","key":"%08[1]x"}},"responseElements":null,"additionalEventData":{"keyMaterialId":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"},"requestID":"7d1b1f4e-6c0b-4f0e-9a41-%012[1]x","eventID":"3c9f3a5c-9f0b-4a47-8d8b-%012[1]x","readOnly":true,"resources":[{"accountId":"111122223333","type":"AWS::KMS::Key","ARN":"arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-12345678900%[5]d"}],"eventType":"AwsApiCall","managementEvent":true,"recipientAccountId":"111122223333","eventCategory":"Management","tlsDetails":{"tlsVersion":"TLSv1.3","cipherSuite":"TLS_AES_128_GCM_SHA256","clientProvidedHostHeader":"kms.eu-central-1.amazonaws.com","keyExchange":"X25519MLKEM768"}}`,
		n, n/60%60, n%60, n%200, n%10)
}

func idOf(n int) string { return fmt.Sprintf("3c9f3a5c-9f0b-4a47-8d8b-%012x", n) }

func records(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = record(i)
	}
	return list
}

func gz(b string) string {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	io.WriteString(w, b)
	w.Close()
	return buf.String()
}

func quote(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

func parse(t *testing.T, src string, o cloudtrail.Options) ([]cloudtrail.Event, cloudtrail.Stats) {
	t.Helper()
	var list []cloudtrail.Event
	stats, err := cloudtrail.Parse(strings.NewReader(src), o, func(e *cloudtrail.Event) error {
		list = append(list, *e)
		return nil
	})
	if err != nil {
		t.Fatalf("parse: %v", err)
	}
	return list, stats
}

func ids(events []cloudtrail.Event) []string {
	list := make([]string, 0, len(events))
	for i := range events {
		list = append(list, events[i].ID)
	}
	return list
}

func TestRecordIsReadMemberByMember(t *testing.T) {
	t.Parallel()
	list, _ := parse(t, record(7), cloudtrail.Options{})
	if len(list) != 1 {
		t.Fatalf("got %d events", len(list))
	}
	want := cloudtrail.Event{
		ID: idOf(7), Time: time.Date(2026, 11, 22, 8, 0, 7, 0, time.UTC), Source: "kms.amazonaws.com", Name: "Decrypt",
		Region: "eu-central-1", Account: "111122223333", Principal: "arn:aws:iam::111122223333:role/cards/vault", PrincipalType: "AssumedRole",
		CallerAccount: "111122223333", Session: "i-7", AccessKey: "ASIAEXAMPLE7", MFA: cloudtrail.MFAAbsent, IP: "192.0.2.7",
		UserAgent:  "aws-sdk-go-v2/1.47.7 ua/2.1 os/linux lang/go#1.26.8 md/GOOS#linux md/GOARCH#amd64 api/kms#1.62.4",
		TLSVersion: "TLSv1.3", Host: "kms.eu-central-1.amazonaws.com", ReadOnly: true, Tenant: "t7",
		Keys:       []string{"arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-123456789007"},
		MaterialID: "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
		Context:    map[string]string{"tenant": "t7", "purpose": "branch-key", "key": "00000007"},
	}
	same(t, list[0], want)
}

// same compares events as JSON, which shows what differs.
func same(t *testing.T, got, want cloudtrail.Event) {
	t.Helper()
	g, _ := json.MarshalIndent(got, "", " ")
	w, _ := json.MarshalIndent(want, "", " ")
	if !bytes.Equal(g, w) {
		gl, wl := strings.Split(string(g), "\n"), strings.Split(string(w), "\n")
		for i := range gl {
			if i >= len(wl) || gl[i] != wl[i] {
				t.Fatalf("got\n%s\nwant\n%s", gl[i], strings.Join(wl[min(i, len(wl)-1):min(i+1, len(wl))], "\n"))
			}
		}
		t.Fatalf("got\n%s\nwant\n%s", g, w)
	}
}

// forms are the forms in which CloudTrail's records come, made of records.
var forms = map[string]func(list []string) string{
	"log file":             func(l []string) string { return `{"Records":[` + strings.Join(l, ",") + `]}` },
	"log file with spaces": func(l []string) string { return " {\n \"Records\" : [ " + strings.Join(l, " ,\r\n\t") + " ] }\n" },
	"indented": func(l []string) string {
		var b bytes.Buffer
		json.Indent(&b, []byte(`{"Records":[`+strings.Join(l, ",")+`]}`), "", "    ")
		return b.String()
	},
	"array":             func(l []string) string { return `[` + strings.Join(l, ",") + `]` },
	"NDJSON":            func(l []string) string { return strings.Join(l, "\n") + "\n" },
	"NDJSON, CRLF":      func(l []string) string { return strings.Join(l, "\r\n") },
	"one after another": func(l []string) string { return strings.Join(l, "") },
	"log files one after another": func(l []string) string {
		return `{"Records":[` + strings.Join(l[:1], ",") + `]}{"Records":[]}` + "\n" + `{"Records":[` + strings.Join(l[1:], ",") + `],"more":{"a":[1,2]}}`
	},
	"EventBridge": each("\n", func(r string) string {
		return `{"version":"0","id":"x","detail-type":"AWS API Call via CloudTrail","source":"aws.kms","account":"1","resources":[],"detail":` + r + `}`
	}),
	"array of EventBridge": func(l []string) string {
		return "[" + each(",", func(r string) string { return `{"detail":` + r + `,"time":"2026-01-01T00:00:00Z"}` })(l) + "]"
	},
	"LookupEvents": func(l []string) string {
		return `{"NextToken":"x","Events":[` + each(",", func(r string) string {
			return `{"EventId":"x","EventName":"Decrypt","ReadOnly":"true","EventTime":1.7e9,"CloudTrailEvent":` + quote(r) + `}`
		})(l) + `],"ResponseMetadata":{}}`
	},
	"LookupEvents, queried":          func(l []string) string { return "[\n" + each(",\n", quote)(l) + "\n]" },
	"LookupEvents, queried, as text": func(l []string) string { return strings.Join(l, "\t") },
	"CloudWatch Logs": func(l []string) string {
		return `{"messageType":"DATA_MESSAGE","owner":"1","logGroup":"g","logStream":"s","subscriptionFilters":["f"],"logEvents":[` +
			each(",", func(r string) string { return `{"id":"1","timestamp":1510109208016,"message":` + quote(r) + `}` })(l) + `]}`
	},
	"CloudWatch Logs, EventBridge in it": func(l []string) string {
		return `{"logEvents":[` + each(",", func(r string) string { return `{"message":` + quote(`{"detail":`+r+`}`) + `}` })(l) + `]}`
	},
	"CloudWatch Logs, get-log-events": func(l []string) string {
		return `{"events":[` + each(",", func(r string) string { return `{"timestamp":1,"message":` + quote(r) + `,"ingestionTime":2}` })(l) + `],"nextForwardToken":"f"}`
	},
	"CloudWatch Logs, exported": each("\n", func(r string) string { return "2026-11-22T08:30:00.000Z " + r }),
	"CloudWatch Logs, tailed":   each("\n", func(r string) string { return "1510109208016\t" + r }),
}

func each(sep string, f func(string) string) func([]string) string {
	return func(l []string) string {
		var out []string
		for _, r := range l {
			out = append(out, f(r))
		}
		return strings.Join(out, sep)
	}
}

func TestEveryFormGivesTheSameEvents(t *testing.T) {
	t.Parallel()
	list := records(30)
	list[3] = strings.Replace(list[3], `"tenant":"t3"`, `"tenant":"\"\\\n\u00e9 é \ud83d\ude00"`, 1)
	want, _ := parse(t, strings.Join(list, "\n"), cloudtrail.Options{})
	if want[3].Tenant != "\"\\\né é 😀" {
		t.Fatalf("escapes are read as %q", want[3].Tenant)
	}
	for name, form := range forms {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plain := form(list)
			for which, src := range map[string]string{"plain": plain, "gzip": gz(plain), "gzip in pieces": gz(plain[:len(plain)/2]) + gz(plain[len(plain)/2:])} {
				got, stats := parse(t, src, cloudtrail.Options{MaxRecord: 4096}) // records cross the ends of the buffer
				if len(stats.Problems) > 0 || stats.Other > 0 || stats.Bytes != int64(len(plain)) || stats.Events != 30 {
					t.Errorf("%s: %+v", which, stats)
				}
				if len(got) != len(want) {
					t.Fatalf("%s: got %d events, want %d", which, len(got), len(want))
				}
				for i := range got {
					same(t, got[i], want[i])
				}
			}
		})
	}
}

func TestReadsThatGiveLittleAreAsGood(t *testing.T) {
	t.Parallel()
	src := forms["log file"](records(40))
	for _, r := range []io.Reader{iotest.OneByteReader(strings.NewReader(gz(src))), iotest.DataErrReader(strings.NewReader(src)), iotest.HalfReader(strings.NewReader(src))} {
		n := 0
		if _, err := cloudtrail.Parse(r, cloudtrail.Options{}, func(*cloudtrail.Event) error { n++; return nil }); err != nil || n != 40 {
			t.Errorf("%d events, %v", n, err)
		}
	}
}

func TestReaderIsUsedAgain(t *testing.T) {
	t.Parallel()
	r := cloudtrail.NewReader(strings.NewReader(gz(forms["log file"](records(3)))), cloudtrail.Options{})
	for _, src := range []string{"", forms["NDJSON"](records(5)), gz(forms["array"](records(2))), `{"Records":[` + record(1)} {
		var got []string
		var e cloudtrail.Event
		var err error
		for err = r.Read(&e); err == nil; err = r.Read(&e) {
			got = append(got, e.ID)
		}
		if !errors.Is(err, io.EOF) || int64(len(got)) != r.Stats().Events {
			t.Errorf("%v, %v, %+v", got, err, r.Stats())
		}
		r.Reset(strings.NewReader(src))
	}
}

func TestUnsoundPartsAreSkippedAndCounted(t *testing.T) {
	t.Parallel()
	A, C := record(1), record(2)
	big := `{"eventName":"x","big":"` + strings.Repeat("x", 9000) + `"}`
	deep := `{"eventName":"x","deep":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`
	forged := `{"eventName":"x","deep":[` + record(66) + `,` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `]}`
	for name, c := range map[string]struct {
		bad  string
		kind cloudtrail.Kind
	}{
		"no record":                {`{"a":1}`, cloudtrail.KindMalformed},
		"empty object":             {`{}`, cloudtrail.KindMalformed},
		"no time":                  {strings.Replace(record(9), `"eventTime"`, `"time"`, 1), cloudtrail.KindMalformed},
		"not a time":               {strings.Replace(record(9), `"2026-11-22T08:00:09Z"`, `"2026-02-30T08:00:09Z"`, 1), cloudtrail.KindMalformed},
		"a time of long ago":       {strings.Replace(record(9), `"2026-11-22T08:00:09Z"`, `"0001-02-03T08:00:09Z"`, 1), cloudtrail.KindMalformed},
		"a name of another kind":   {strings.Replace(record(9), `"Decrypt"`, `{"a":1}`, 1), cloudtrail.KindMalformed},
		"a member twice":           {strings.Replace(record(9), `"eventName":"Decrypt"`, `"eventName":"Decrypt","eventName":"Encrypt"`, 1), cloudtrail.KindMalformed},
		"another version":          {strings.Replace(record(9), `"1.11"`, `"2.0"`, 1), cloudtrail.KindVersion},
		"a record of S3's notices": {`{"eventVersion":"2.1","eventSource":"aws:s3","awsRegion":"us-east-1","eventTime":"2026-01-01T00:00:00.000Z","eventName":"ObjectCreated:Put"}`, cloudtrail.KindVersion},
		"cut off":                  {record(9)[:700], cloudtrail.KindMalformed},
		"no value":                 {`{"a":}`, cloudtrail.KindMalformed},
		"a comma too many":         {`{"a":1,}`, cloudtrail.KindMalformed},
		"an escape that is none":   {`{"a":"\x"}`, cloudtrail.KindMalformed},
		"a number that is none":    {`{"a":01}`, cloudtrail.KindMalformed},
		"a word that is none":      {`{"a":nul}`, cloudtrail.KindMalformed},
		"a bare word":              {`nonsense`, cloudtrail.KindMalformed},
		"a quotation mark":         {`{"a":"b}`, cloudtrail.KindMalformed},
		"too large":                {big, cloudtrail.KindTooLarge},
		"too deep":                 {deep, cloudtrail.KindTooDeep},
		"too deep, with a record":  {forged, cloudtrail.KindTooDeep},
		"a record inside":          {`{"a":` + record(66) + `}`, cloudtrail.KindMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for form, src := range map[string]string{
				"list":  `{"Records":[` + A + "," + c.bad + "," + C + `]}`,
				"lines": A + "\n" + c.bad + "\n" + C,
			} {
				got, stats := parse(t, src, cloudtrail.Options{MaxRecord: 4096})
				if want := []string{idOf(1), idOf(2)}; !slices.Equal(ids(got), want) {
					t.Errorf("%s: got %v, want the two neighbours", form, ids(got))
				}
				if len(stats.Problems) == 0 || stats.Problems[0].Kind != c.kind || stats.Skipped < 1 {
					t.Fatalf("%s: problems %v, want one that is %s", form, stats.Problems, c.kind)
				}
				if at := int64(strings.Index(src, c.bad)); stats.Problems[0].Offset != at {
					t.Errorf("%s: problem %v, want it at %d", form, stats.Problems[0], at)
				}
			}
		})
	}
}

func TestWhatIsNoRecordOfACallIsOther(t *testing.T) {
	t.Parallel()
	for _, src := range []string{
		`{"Records":[` + `{"eventVersion":"1.07","eventTime":"2026-01-01T00:00:00Z","eventType":"AwsCloudTrailInsight","eventCategory":"Insight","insightDetails":{}}` + `]}`,
		`{"awsAccountId":"1","digestS3Object":"x","logFiles":[{"s3Object":"y"}]}`,
		`{"messageType":"CONTROL_MESSAGE","logEvents":[{"id":"","timestamp":1,"message":"CWL CONTROL MESSAGE: Checking health of destination Firehose."}]}`,
		`{"logEvents":[{"message":"{\"level\":\"info\"}"}]}`,
		`2026-11-22T08:30:00.000Z START RequestId`,
	} {
		got, stats := parse(t, src, cloudtrail.Options{})
		if len(got) > 0 || stats.Other != 1 || stats.Skipped != 0 {
			t.Errorf("%s: %v, %+v", src, got, stats)
		}
	}
}

func TestEndsThatAreMissingAreSaid(t *testing.T) {
	t.Parallel()
	whole := gz(forms["log file"](records(50)))
	for name, c := range map[string]struct{ src, want string }{
		"gzip cut off":       {whole[:len(whole)-30], "gunzip: unexpected EOF"},
		"gzip with more":     {whole + "more", cloudtrail.ErrTrailing.Error()},
		"gzip with a change": {whole[:len(whole)-6] + "\x00\x00" + whole[len(whole)-4:], "gunzip: gzip: invalid checksum"},
		"no gzip":            {"\x1f\x8bnonsense that is no gzip", "gunzip: gzip: invalid header"},
	} {
		n := 0
		_, err := cloudtrail.Parse(strings.NewReader(c.src), cloudtrail.Options{}, func(*cloudtrail.Event) error { n++; return nil })
		if err == nil || err.Error() != c.want {
			t.Errorf("%s: after %d events: %v, want %s", name, n, err, c.want)
		}
	}
	for _, src := range []string{`{"Records":[` + record(1), `{"Records":[` + record(1) + `]`, `[` + record(1) + `,`} {
		got, stats := parse(t, src, cloudtrail.Options{})
		if len(got) != 1 || len(stats.Problems) != 1 || stats.Problems[0].Kind != cloudtrail.KindTruncated {
			t.Errorf("%d events, %+v", len(got), stats)
		}
	}
	_, err := cloudtrail.Parse(strings.NewReader(gz(strings.Repeat(" ", 1<<20))), cloudtrail.Options{MaxBytes: 1 << 19}, nil)
	if err == nil || err.Error() != cloudtrail.ErrTooMuch.Error() {
		t.Errorf("got %v", err)
	}
}

func TestLineEndsInTextsStayData(t *testing.T) {
	t.Parallel()
	forged := "x\n" + record(66) + "\n\u001b[31m\u202e"
	src := strings.Replace(record(1), `"userAgent":"aws-sdk-go-v2`, `"userAgent":`+strings.TrimSuffix(quote(forged), `"`), 1)
	got, stats := parse(t, src+"\n"+record(2), cloudtrail.Options{})
	if !slices.Equal(ids(got), []string{idOf(1), idOf(2)}) || stats.Skipped > 0 {
		t.Fatalf("got %v, %+v", ids(got), stats)
	}
	if !strings.HasPrefix(got[0].UserAgent, forged) {
		t.Errorf("got %q", got[0].UserAgent)
	}
}

func TestLongTextsAreCut(t *testing.T) {
	t.Parallel()
	src := strings.Replace(record(1), `"userAgent":"`, `"userAgent":"`+strings.Repeat("é", 50_000), 1)
	got, _ := parse(t, src, cloudtrail.Options{})
	if len(got) != 1 || len(got[0].UserAgent) > 4096 || strings.Trim(got[0].UserAgent, "é") != "" {
		t.Errorf("%d events", len(got))
	}
}

// busy is records that differ as those of a busy vault do: ids, sessions and
// encryption contexts are random, so that they compress as little as real ones.
func busy(n int) []string {
	r := rand.New(rand.NewPCG(1, 2))
	list := make([]string, n)
	for i := range list {
		s := record(r.IntN(50))
		id := func() string {
			return fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", r.Uint32(), r.IntN(1<<16), r.IntN(1<<12), r.IntN(1<<12), r.Int64N(1<<48))
		}
		s = regexp.MustCompile(`"requestID":"[^"]*"`).ReplaceAllString(s, `"requestID":"`+id()+`"`)
		s = regexp.MustCompile(`"eventID":"[^"]*"`).ReplaceAllString(s, `"eventID":"`+id()+`"`)
		s = strings.Replace(s, `"purpose":"branch-key"`, fmt.Sprintf(`"purpose":"record","record":"%016x%016x"`, r.Uint64(), r.Uint64()), 1)
		list[i] = s
	}
	return list
}

// BenchmarkParseTwoAtATime reads compressed log files as two workers do.
func BenchmarkParseTwoAtATime(b *testing.B) {
	src := []byte(gz(forms["log file"](busy(2000))))
	b.SetParallelism(1)
	b.ReportAllocs()
	var n, size atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		r := cloudtrail.NewReader(nil, cloudtrail.Options{})
		var e cloudtrail.Event
		for pb.Next() {
			r.Reset(bytes.NewReader(src))
			for r.Read(&e) == nil {
				n.Add(1)
			}
			size.Store(r.Stats().Bytes)
		}
	})
	rate(b, int(n.Load()), size.Load())
	b.ReportMetric(float64(size.Load())/float64(len(src)), "compression")
}

func BenchmarkParse(b *testing.B) {
	for _, name := range []string{"log file", "NDJSON", "LookupEvents"} {
		src := []byte(gz(forms[name](busy(2000))))
		b.Run(name, func(b *testing.B) {
			r := cloudtrail.NewReader(nil, cloudtrail.Options{})
			var e cloudtrail.Event
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				r.Reset(bytes.NewReader(src))
				for r.Read(&e) == nil {
					n++
				}
			}
			rate(b, n, r.Stats().Bytes)
		})
	}
	src := forms["log file"](busy(2000))
	b.Run("plain", func(b *testing.B) {
		r := cloudtrail.NewReader(nil, cloudtrail.Options{})
		var e cloudtrail.Event
		n := 0
		for b.Loop() {
			r.Reset(strings.NewReader(src))
			for r.Read(&e) == nil {
				n++
			}
		}
		rate(b, n, r.Stats().Bytes)
	})
	packed := []byte(gz(src))
	b.Run("baseline gunzip", func(b *testing.B) {
		n := 0
		for b.Loop() {
			z, _ := gzip.NewReader(bytes.NewReader(packed))
			io.Copy(io.Discard, z)
			n += 2000
		}
		rate(b, n, int64(len(src)))
	})
	b.Run("baseline gunzip and encoding-json", func(b *testing.B) {
		n := 0
		for b.Loop() {
			z, _ := gzip.NewReader(bytes.NewReader(packed))
			var file struct{ Records []cloudtrail.Record }
			if err := json.NewDecoder(z).Decode(&file); err != nil {
				b.Fatal(err)
			}
			n += len(file.Records)
		}
		rate(b, n, int64(len(src)))
	})
}

func rate(b *testing.B, records int, bytes int64) {
	b.ReportMetric(float64(records)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(bytes)*float64(b.N)/b.Elapsed().Seconds()/1e6, "MB/s")
}

func gunzipReader(b []byte) (string, error) {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return "", err
	}
	s, err := io.ReadAll(z)
	return string(s), err
}

func TestWholeIsWhereToGoOn(t *testing.T) {
	t.Parallel()
	line := record(1) + "\n"
	for src, want := range map[string]int{
		"": 0, record(1): len(record(1)), line: len(record(1)), line + record(2)[:99]: len(record(1)), line + "x\n" + record(2)[:99]: len(line) + 2,
		`{"Records":[` + record(1): 0, `{"Records":[` + record(1) + `]`: 0, `{"Records":[` + record(1) + `]}`: len(`{"Records":[`+record(1)) + 2,
		"[" + record(1) + "]" + line[:50]: len(record(1)) + 2,
	} {
		r := cloudtrail.NewReader(strings.NewReader(src), cloudtrail.Options{})
		var e cloudtrail.Event
		for r.Read(&e) == nil {
			continue
		}
		if r.Whole() != int64(want) {
			t.Errorf("%.40q…: got %d, want %d", src, r.Whole(), want)
		}
	}
}

// endless is a source that repeats a text after a beginning, up to a size.
type endless struct {
	begin, again string
	left         int
}

func (e *endless) Read(b []byte) (int, error) {
	if e.left <= 0 {
		return 0, io.EOF
	}
	n := copy(b, e.begin)
	e.begin = e.begin[n:]
	for n < len(b) && len(b)-n >= len(e.again) {
		n += copy(b[n:], e.again)
	}
	if n == 0 {
		n = copy(b, e.again)
		e.begin = e.again[n:]
	}
	e.left -= n
	return n, nil
}

// TestMemoryIsBoundedWhateverComes is not parallel, as it looks at what the process
// allocates.
func TestMemoryIsBoundedWhateverComes(t *testing.T) {
	for name, src := range map[string]*endless{
		"a text without end":      {begin: `{"Records":[{"eventName":"`, again: "x"},
		"an object without end":   {begin: `{"Records":[{"a":0`, again: `,"a":0`},
		"objects in each other":   {begin: `{"Records":[`, again: `{"a":`},
		"arrays in each other":    {again: `[`},
		"empty records":           {begin: `{"Records":[{}`, again: `,{}`},
		"a line without end":      {again: "nonsense "},
		"spaces":                  {again: " "},
		"texts that all differ":   {begin: `[`, again: record(1) + ","},
		"a container in the tail": {begin: `{"Records":[]`, again: `,"Records":[]`},
		"commas":                  {begin: `{"Records":[`, again: `,`},
	} {
		src.left = 24 << 20
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		var kept int64
		_, err := cloudtrail.Parse(src, cloudtrail.Options{}, func(*cloudtrail.Event) error { kept++; return nil })
		runtime.ReadMemStats(&after)
		if grown := after.TotalAlloc - before.TotalAlloc; err != nil || grown > 8<<20+512*uint64(kept) {
			t.Errorf("%s: %v, %d bytes allocated, %d events", name, err, grown, kept)
		}
	}
}
