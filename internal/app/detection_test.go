package app

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cardea/internal/awstest"
	"cardea/internal/config"
	"cardea/internal/iam"
	"cardea/internal/testlog"
	"cardea/internal/vault"
)

// syslogSink receives syslog until the test ends.
func syslogSink(t *testing.T) (s *testlog.Buffer, address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	s = &testlog.Buffer{}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(s, c)
			}()
		}
	}()
	return s, l.Addr().String()
}

// webhookSink receives requests until the test ends.
func webhookSink(t *testing.T) (s *testlog.Buffer, url string) {
	t.Helper()
	s = &testlog.Buffer{}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(s, r.Body)
	}))
	t.Cleanup(server.Close)
	return s, server.URL
}

func kmsRecord(id, name, role string, at time.Time, params string) string {
	return fmt.Sprintf(`{"eventVersion":"1.11","eventTime":%q,"eventSource":"kms.amazonaws.com","eventName":%q,"awsRegion":"eu-central-1","recipientAccountId":"111122223333","eventID":%q,`+
		`"userIdentity":{"type":"AssumedRole","arn":"arn:aws:sts::111122223333:assumed-role/%s/s","accountId":"111122223333","sessionContext":{"sessionIssuer":{"type":"Role","arn":"arn:aws:iam::111122223333:role/%[4]s","accountId":"111122223333"}}},`+
		`"requestParameters":%s,"eventType":"AwsApiCall","managementEvent":true,"eventCategory":"Management"}`, at.UTC().Format(time.RFC3339), name, id, role, params)
}

// toldIn are the alerts in NDJSON, by rule and principal, and the findings of
// detection, by subject and whether they fail.
func toldIn(t *testing.T, path string) (alerts, findings map[string]string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	alerts, findings = map[string]string{}, map[string]string{}
	for line := range strings.Lines(string(b)) {
		var r struct {
			Cardea struct {
				Kind, ID string
				Severity int `json:"severity_id"`
				Alert    struct {
					Rule, Principal string
					SuppressedBy    string `json:"suppressed_by"`
				}
				Finding struct {
					Check, Subject, Message string
					Failing                 bool
				}
			}
		}
		if json.Unmarshal([]byte(line), &r) != nil {
			continue // the last one is being written
		}
		switch c := r.Cardea; c.Kind {
		case "alert":
			alerts[c.Alert.Rule+" "+c.Alert.Principal] = strings.TrimPrefix(c.ID, "alert/")
			if (c.Alert.SuppressedBy != "") != (c.Severity == 1) {
				t.Errorf("severity %d of one suppressed by %q", c.Severity, c.Alert.SuppressedBy)
			}
		case "finding":
			if c.Finding.Check == "detection" {
				findings[fmt.Sprint(c.Finding.Subject, " ", c.Finding.Failing)] = c.Finding.Message
			}
		}
	}
	return alerts, findings
}

// TestNodeTellsEveryReceiverOfItsAlerts serves a node that watches its own log and a
// trail, with receivers of all kinds and in all formats.
func TestNodeTellsEveryReceiverOfItsAlerts(t *testing.T) {
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "example", "AWS_EC2_METADATA_DISABLED": "true"} {
		t.Setenv(name, value)
	}
	const ops, importer = "arn:aws:iam::111122223333:role/ops", "arn:aws:iam::111122223333:role/importer"
	hour := time.Now().UTC().Truncate(time.Hour).Add(-2 * time.Hour)
	tr := awstest.NewTrail(t, hour, "logs", "",
		[]string{kmsRecord("e-1", "ScheduleKeyDeletion", "ops", hour.Add(time.Minute), `{"keyId":"1234abcd-12ab-34cd-56ef-1234567890ab","pendingWindowInDays":7}`)},
		[]string{kmsRecord("e-2", "ImportKeyMaterial", "importer", hour.Add(time.Hour), `{"keyId":"1234abcd-12ab-34cd-56ef-1234567890ab"}`)}, nil)
	delete(tr.Objects, tr.Logs[2])
	dir := t.TempDir()
	trail, keys, changes := filepath.Join(dir, "trail"), filepath.Join(dir, "keys.json"), filepath.Join(dir, "changes.toml")
	tr.WriteTo(t, trail)
	for path, content := range map[string]string{
		keys: tr.Keys,
		changes: fmt.Sprintf("[[change]]\nticket = \"CHG-7\"\napproved_by = \"a\"\nrules = [\"R5\"]\nprincipals = [%q]\nfrom = %s\nuntil = %s\n", importer,
			hour.Format(time.RFC3339), hour.Add(24*time.Hour).Format(time.RFC3339)),
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg := deliveryConfig(t)
	cfg.KeyService.Listen = ""
	cfg.Audit.Publish = config.Publish{Interval: cfg.Audit.Publish.Interval}
	cfg.Audit.CheckpointInterval.Duration = time.Second
	sinks := map[string]*testlog.Buffer{}
	for _, format := range []string{"rfc5424", "ndjson", "cef", "leef", "ocsf"} {
		s, address := syslogSink(t)
		sinks["syslog-"+format] = s
		cfg.Audit.Delivery = append(cfg.Audit.Delivery, config.Delivery{Name: "syslog-" + format, Type: config.DeliverySyslog, Format: format, Address: address, PlainTCP: true})
	}
	for _, format := range []string{"ndjson", "ocsf"} {
		s, url := webhookSink(t)
		sinks["webhook-"+format] = s
		cfg.Audit.Delivery = append(cfg.Audit.Delivery, config.Delivery{Name: "webhook-" + format, Type: config.DeliveryWebhook, Format: format, URL: url})
	}
	waking, url := webhookSink(t)
	cfg.Audit.Delivery = append(cfg.Audit.Delivery, config.Delivery{Name: "on-call", Type: config.DeliveryWebhook, URL: url, Filter: "alerts"})
	cloud := awstest.NewCloud(t)
	cfg.Audit.Delivery = append(cfg.Audit.Delivery, config.Delivery{
		Name: "archive", Type: config.DeliveryS3, Bucket: awstest.Bucket, Region: "eu-central-1", Endpoint: cloud.URL, BatchWait: config.Duration{Duration: time.Second},
	})
	cfg.Detect = config.Detect{
		OwnLogs: true, ChangesFile: changes, Interval: config.Duration{Duration: time.Second}, StallAfter: config.Duration{Duration: 15 * time.Minute},
		Source: []config.DetectSource{{Name: "trail", Type: config.DetectFolder, Path: trail, Digests: true, PublicKeysFile: keys}},
	}
	clock := &testClock{}
	a, stop := start(t, cfg, clock.now)
	mallory := iam.Principal{Type: iam.TypeOperator, Name: "mallory", Auth: "loopback", Actions: []string{"*"}}
	if err := a.vault.gate.Record(t.Context(), mallory, vault.OpLogClose, vault.Target{}, "closed", "by hand"); err != nil {
		t.Fatal(err)
	}

	file := cfg.Audit.Delivery[0].Path
	want := []string{"R1 " + ops, "R5 " + importer, "R20 trail/111122223333/eu-central-1/all", "R20 operator/mallory"}
	var alerts map[string]string
	until(t, "all alerts are in the file", func() bool {
		alerts, _ = toldIn(t, file)
		for _, w := range want {
			if alerts[w] == "" {
				return false
			}
		}
		return true
	})
	for name, s := range sinks {
		for what, id := range alerts {
			until(t, what+" is at "+name, func() bool { return strings.Contains(s.String(), id) })
		}
	}
	for what, id := range alerts {
		until(t, what+" is in the archive", func() bool { return strings.Contains(unpacked(t, cloud), id) })
		if what != want[1] {
			until(t, what+" wakes somebody", func() bool { return strings.Contains(waking.String(), id) })
		}
	}
	if strings.Contains(waking.String(), alerts[want[1]]) {
		t.Error("what an approved change explains wakes somebody")
	}
	for format, text := range map[string]string{"syslog-cef": "|alert.R1|", "syslog-leef": "alert.R1", "syslog-ocsf": `"class_uid":2004`, "webhook-ocsf": `"status":"Suppressed"`, "syslog-rfc5424": " alert ["} {
		if !strings.Contains(sinks[format].String(), text) {
			t.Errorf("%s has no %q", format, text)
		}
	}
	if c := a.detectionReadiness(); len(c) != 1 || c[0].Detail != "" || c[0].Name != "detection" {
		t.Errorf("readiness %+v", c)
	}
	until(t, "three alerts of the trail are counted", func() bool { return metric(t, a, "cardea_detection_alerts_total", "trail") == 3 })

	// The trail is gone: that is told, and that it is there again.
	if err := os.Rename(trail, trail+".away"); err != nil {
		t.Fatal(err)
	}
	until(t, "the source fails", func() bool {
		return metric(t, a, "cardea_detection_lag_seconds", "trail") > 0 && a.detection.watched[1].status().LastError != ""
	})
	clock.advance(20 * time.Minute)
	until(t, "readiness tells that the source stalls", func() bool { return strings.Contains(a.detectionReadiness()[0].Detail, "source trail stalls") })
	until(t, "receivers are told", func() bool { _, f := toldIn(t, file); return f["trail true"] != "" })
	until(t, "the trouble is counted", func() bool { return metric(t, a, "cardea_detection_troubles", "trail") == 1 })
	if err := os.Rename(trail+".away", trail); err != nil {
		t.Fatal(err)
	}
	until(t, "receivers are told of its end", func() bool { _, f := toldIn(t, file); return f["trail false"] != "" })
	stop()

	// What was told is not told again by the next process, which does not stop at what
	// it cannot use of the one before.
	state := filepath.Join(cfg.Node.DataDir, "detect", "trail", "detection.state")
	if err := os.WriteFile(state, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := strings.Count(sinks["webhook-ndjson"].String(), alerts[want[0]])
	a, stop = start(t, cfg, clock.now)
	until(t, "the trail was read again", func() bool { return !a.detection.watched[1].status().LastSuccess.IsZero() })
	until(t, "receivers are told that baselines are learned anew", func() bool { _, f := toldIn(t, file); return f["trail/learned true"] != "" })
	stop()
	if b, err := os.ReadFile(state + ".unusable"); err != nil || string(b) != "damaged" {
		t.Errorf("%q, %v", b, err)
	}
	if after := strings.Count(sinks["webhook-ndjson"].String(), alerts[want[0]]); after != before {
		t.Errorf("an alert came %d times, and after a restart %d times", before, after)
	}
}

// unpacked is what is in the archive.
func unpacked(t *testing.T, c *awstest.Cloud) string {
	t.Helper()
	var all strings.Builder
	for name, content := range c.All("") {
		z, err := gzip.NewReader(strings.NewReader(content))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := io.Copy(&all, z); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	return all.String()
}

// metric adds up the values of a metric of a source.
func metric(t *testing.T, a *App, name, source string) (sum float64) {
	t.Helper()
	families, err := a.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == name && l.GetName() == "source" && l.GetValue() == source {
					sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
				}
			}
		}
	}
	return sum
}
