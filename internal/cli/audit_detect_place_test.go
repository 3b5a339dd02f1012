package cli

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cardea/internal/awstest"
	"cardea/internal/detect"
)

// deletionRecord is a record that R1 tells of at once.
func deletionRecord(n int, at time.Time) string {
	return fmt.Sprintf(`{"eventVersion":"1.11","eventTime":%q,"eventSource":"kms.amazonaws.com","eventName":"ScheduleKeyDeletion","awsRegion":"eu-central-1","recipientAccountId":"111122223333","eventID":"e-%d",`+
		`"userIdentity":{"type":"AssumedRole","arn":"arn:aws:sts::111122223333:assumed-role/ops/s","accountId":"111122223333"},"requestParameters":{"keyId":"key-%[2]d","pendingWindowInDays":7},`+
		`"eventType":"AwsApiCall","managementEvent":true,"eventCategory":"Management"}`, at.UTC().Format(time.RFC3339), n)
}

func packed(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := io.WriteString(z, text); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// alertsIn gives the rule and key of each alert, sorted.
func alertsIn(t *testing.T, alerts []detect.Alert) []string {
	t.Helper()
	list := []string{}
	for _, a := range alerts {
		list = append(list, strings.Join(append([]string{a.Rule}, a.Keys...), " "))
	}
	slices.Sort(list)
	return list
}

func watchedAlerts(t *testing.T, out string) (alerts []detect.Alert) {
	t.Helper()
	for line := range strings.Lines(out) {
		var a detect.Alert
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		alerts = append(alerts, a)
	}
	return alerts
}

// TestEveryPlaceIsReadByDetectAndWatch reads the same three records wherever records
// of CloudTrail are, over AWS's protocols, and hands the alerts to a receiver.
func TestEveryPlaceIsReadByDetectAndWatch(t *testing.T) {
	ownEnvironment(t)
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "example"} {
		t.Setenv(name, value)
	}
	cloud := awstest.NewCloud(t)
	start := time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC)
	records := []string{}
	for n := range 3 {
		records = append(records, deletionRecord(n, start.Add(time.Duration(n)*time.Minute)))
		cloud.Events = append([]string{records[n]}, cloud.Events...)
	}
	const object = "AWSLogs/111122223333/CloudTrail/eu-central-1/2026/03/02/111122223333_CloudTrail_eu-central-1_20260302T1005Z_x.json.gz"
	cloud.Put(object, packed(t, `{"Records":[`+strings.Join(records, ",")+`]}`))
	cloud.Send(fmt.Sprintf(`{"s3Bucket":%q,"s3ObjectKey":[%q]}`, awstest.Bucket, object))
	dir := t.TempDir()
	quoted := func(s string) string { b, _ := json.Marshal(s); return string(b) }
	for name, content := range map[string]string{
		"eventbridge.ndjson": `{"detail-type":"AWS API Call via CloudTrail","source":"aws.kms","detail":` + records[0] + `}`,
		"lookup.json":        `{"Events":[{"EventId":"e-1","CloudTrailEvent":` + quoted(records[1]) + `}]}`,
		"cloudwatch.log.gz":  packed(t, "2026-03-02T10:02:00.000Z "+records[2]+"\n"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := Process{Now: func() time.Time { return start.Add(time.Hour) }}
	want := []string{}
	for n := range 3 {
		want = append(want, fmt.Sprintf("R1 arn:aws:kms:eu-central-1:111122223333:key/key-%d", n))
	}
	receivers, file := deliveryFolder(t)
	said := map[string]bool{}
	for name, from := range map[string]string{"folder": dir, "bucket": "s3://" + awstest.Bucket + "/AWSLogs/", "queue": "sqs:" + cloud.URL + "/queue", "lookup": "lookup:"} {
		flags := []string{"--source", from, "--endpoint-url", cloud.URL, "--region", "eu-central-1", "--queue-bucket", awstest.Bucket, "--output", "json"}
		code, out, stderr := run(t, p, append([]string{"audit", "detect", "--since", "24h"}, flags...)...)
		if name == "queue" {
			if code != exitWrongUse || !strings.Contains(stderr, "a queue has no past to look at: read it with 'cardea audit watch'") {
				t.Errorf("%s: exit %d: %s", name, code, stderr)
			}
		} else {
			var r detectReport
			if err := json.Unmarshal([]byte(out), &r); err != nil || code != exitFindings || !slices.Equal(alertsIn(t, r.Alerts), want) {
				t.Errorf("%s: exit %d, %v: %s%s", name, code, err, out, stderr)
			}
		}
		state := t.TempDir()
		watch := append([]string{"audit", "watch", "--state", state, "--deliver", file, "--once"}, flags...)
		code, out, stderr = run(t, p, watch...)
		alerts := watchedAlerts(t, out)
		if code != exitDone || !slices.Equal(alertsIn(t, alerts), want) {
			t.Errorf("%s: exit %d: %s%s", name, code, out, stderr)
		}
		for _, a := range alerts {
			said[a.ID] = true
		}
		if code, out, stderr = run(t, p, watch...); code != exitDone || out != "" {
			t.Errorf("%s, again: exit %d: %s%s", name, code, out, stderr)
		}
	}
	if len(said) != 3 {
		t.Errorf("the same findings have the ids %v", slices.Collect(maps.Keys(said)))
	}
	must(t, exitDone, "audit", "deliver", "--config", file, "--once")
	b, err := os.ReadFile(filepath.Join(receivers, "agent.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	for id := range said {
		if n := strings.Count(string(b), `"id":"alert/`+id+`"`); n != 4 { // once from each place
			t.Errorf("alert %s was delivered %d times", id, n)
		}
	}
}

// TestDigestsAreJudgedWithTheTrail, in a batch and live.
func TestDigestsAreJudgedWithTheTrail(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC)
	hours := make([][]string, 6)
	for h := range hours {
		hours[h] = []string{deletionRecord(h, start.Add(time.Duration(h)*time.Hour))}
	}
	tr := awstest.NewTrail(t, start, "logs", "", hours...)
	delete(tr.Objects, tr.Logs[4])
	dir, keys := t.TempDir(), filepath.Join(t.TempDir(), "keys.json")
	tr.WriteTo(t, dir)
	if err := os.WriteFile(keys, []byte(tr.Keys), 0o600); err != nil {
		t.Fatal(err)
	}
	at := tr.End.Add(time.Minute)
	p := Process{Now: func() time.Time { return at }}
	flags := []string{"--from", dir, "--digests", "--public-keys", keys, "--output", "json"}
	gaps := func(alerts []detect.Alert) (list []string) {
		for _, a := range alerts {
			if a.Rule == "R20" {
				list = append(list, a.Evidence[0].Name+" "+a.Evidence[0].Detail)
			}
		}
		return list
	}
	want := []string{"missing_log " + tr.Logs[4]}
	code, out, stderr := run(t, p, append([]string{"audit", "detect", "--since", "24h"}, flags...)...)
	var r detectReport
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != exitFindings || !slices.Equal(gaps(r.Alerts), want) || len(r.Alerts) != 6 {
		t.Errorf("exit %d, %v: %s%s", code, err, out, stderr)
	}
	state := t.TempDir()
	watch := append([]string{"audit", "watch", "--state", state, "--once"}, flags...)
	code, out, stderr = run(t, p, watch...)
	if code != exitDone || !slices.Equal(gaps(watchedAlerts(t, out)), want) {
		t.Errorf("exit %d: %s%s", code, out, stderr)
	}
	at = at.Add(2 * time.Hour) // no newer digest has come
	code, out, stderr = run(t, p, watch...)
	if code != exitDone || !slices.Equal(gaps(watchedAlerts(t, out)), []string{"late_digest " + tr.Digests[5]}) {
		t.Errorf("exit %d: %s%s", code, out, stderr)
	}
}

func TestPlacesAreRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	none, file := filepath.Join(dir, "cardea.toml"), filepath.Join(dir, "x.json")
	for path, text := range map[string]string{none: "[node]\ndata_dir = \"data\"\n", file: "{}"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for args, want := range map[string]string{
		"detect --from s3://":                                                          "names no bucket",
		"watch --from sqs:https://x/q --state " + dir:                                  "--queue-bucket is missing",
		"detect --from " + dir + " --public-keys " + file:                              "--public-keys has no effect without --digests",
		"watch --from " + dir + " --digests --public-keys " + file + " --state " + dir: "want the output of 'aws cloudtrail list-public-keys",
		"detect --digests":                                                             "--digests: name a trail by --from",
		"watch --from " + dir + " --state " + dir + " --deliver " + none:               "--deliver: the configuration has no [[audit.delivery]]",
	} {
		code, _, stderr := run(t, Process{}, strings.Fields("audit "+args)...)
		if code != exitWrongUse || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit %d, %s; want %s", args, code, stderr, want)
		}
	}
}
