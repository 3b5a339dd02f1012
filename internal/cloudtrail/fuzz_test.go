package cloudtrail_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"cardea/internal/cloudtrail"
)

// FuzzNeighbours puts anything between two records. Nothing stops the reader; the
// one before is read always; the one after it on a line of its own too, and in a
// list unless a problem says that something was lost.
func FuzzNeighbours(f *testing.F) {
	for _, s := range []string{
		"", `{}`, record(9), record(9)[:500], `{"a":"`, `{"a":[`, `{"Records":[`, `]}`, `[`, `"`, `"{}"`, `{"detail":{"detail":{}}}`, `{"message":"{\"message\":\"\"}"}`,
		`{"a":"\ud800"}`, "\x00", "2026-11-22T08:30:00Z {", strings.Repeat("[", 300), `},{"eventName":`, "\xff\xfe", `{"eventVersion":"2.0","eventName":"a","eventSource":"b","eventTime":"2026-01-01T00:00:00Z"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		A, C := record(1), record(2)
		read := func(src string) ([]string, cloudtrail.Stats) {
			var got []string
			stats, err := cloudtrail.Parse(strings.NewReader(src), cloudtrail.Options{MaxRecord: 4096}, func(e *cloudtrail.Event) error {
				got = append(got, e.ID)
				return nil
			})
			if err != nil {
				t.Fatalf("%v", err)
			}
			return got, stats
		}
		got, stats := read(`{"Records":[` + A + "," + string(b) + "," + C + `]}`)
		if !slices.Contains(got, idOf(1)) {
			t.Fatalf("list: the one before is lost")
		}
		if !slices.Contains(got, idOf(2)) && stats.Skipped == 0 {
			t.Fatalf("list: the one after is lost and nothing says so")
		}
		got, stats = read(A + "\n" + string(b) + "\n" + C + "\n")
		if !slices.Contains(got, idOf(1)) {
			t.Fatalf("lines: the one before is lost")
		}
		if !slices.Contains(got, idOf(2)) && (stats.Skipped == 0 || !bytes.ContainsAny(b, "[")) {
			t.Fatalf("lines: the one after is lost: %+v", stats)
		}
	})
}

// FuzzRecord holds the scanner to encoding/json: it reads what that reads, and
// sees the same in it.
func FuzzRecord(f *testing.F) {
	for i := range 3 {
		f.Add([]byte(record(i)))
	}
	f.Add([]byte(`{"eventVersion":"1.08","eventTime":"2026-01-01T00:00:00Z","eventSource":"kms.amazonaws.com","eventName":"D\u00e9\ud83d\ude00\ud800x","eventID":"\\\"\/\b\f\n\r\t","a":[1,-0.5e+7,true,null,{}],"a":"\u2028"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var got []cloudtrail.Event
		stats, err := cloudtrail.Parse(bytes.NewReader(append(append([]byte{'['}, b...), ']')), cloudtrail.Options{}, func(e *cloudtrail.Event) error {
			got = append(got, *e)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(b) == 0 || b[0] != '{' || !json.Valid(b) || stats.Skipped+stats.Other > 0 {
			return
		}
		if len(got) != 1 {
			t.Fatalf("%d events of one object, %+v", len(got), stats)
		}
		var want map[string]json.RawMessage
		if err := json.Unmarshal(b, &want); err != nil {
			t.Fatal(err)
		}
		for name, have := range map[string]string{"eventName": got[0].Name, "eventSource": got[0].Source, "awsRegion": got[0].Region, "userAgent": got[0].UserAgent, "errorCode": got[0].ErrorCode} {
			var s string
			if json.Unmarshal(want[name], &s) == nil && s != have && len(s) < 4000 && want["detail"] == nil && want["message"] == nil && want["CloudTrailEvent"] == nil {
				t.Errorf("%s: got %q, want %q", name, have, s)
			}
		}
	})
}
