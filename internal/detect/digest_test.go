package detect_test

import (
	"strings"
	"testing"
	"time"

	"cardea/internal/cloudtrail"
	"cardea/internal/detect"
)

// TestDigestFindingsAreToldOncePerHourOfTheLog: who removes a thousand files makes
// one alert an hour of the log, whenever and in whatever order it is found, and
// nobody's behaviour has anything to do with it.
func TestDigestFindingsAreToldOncePerHourOfTheLog(t *testing.T) {
	t.Parallel()
	rules, err := detect.ParseRules(nil)
	if err != nil {
		t.Fatal(err)
	}
	d := detector(t, rules)
	hour := time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC)
	report := cloudtrail.TrailReport{Account: "111122223333", Region: "eu-central-1", Trail: "main"}
	find := func(outcome cloudtrail.Outcome, object string, at time.Time) {
		report.Findings = append(report.Findings, cloudtrail.DigestFinding{Outcome: outcome, Object: object, Message: "is gone", Time: at})
	}
	for range 1000 {
		find(cloudtrail.OutcomeMissingLog, "AWSLogs/log", hour.Add(5*time.Minute))
	}
	find(cloudtrail.OutcomeMissingDigest, "AWSLogs/digest-1", hour)
	find(cloudtrail.OutcomeMissingDigest, "AWSLogs/digest-2", hour.Add(time.Hour))
	find(cloudtrail.OutcomeLateDigest, "AWSLogs/digest-3", hour)
	find(cloudtrail.OutcomeNoKey, "AWSLogs/digest-4", hour)
	want := map[string]detect.Severity{
		"missing_log: AWSLogs/log": detect.Critical, "missing_digest: AWSLogs/digest-1": detect.Critical, "missing_digest: AWSLogs/digest-2": detect.Critical,
		"late_digest: AWSLogs/digest-3": detect.High, "no_key: AWSLogs/digest-4": detect.Medium,
	}
	ids := map[string]bool{}
	for _, e := range report.Events() {
		for _, a := range d.Observe(&e) {
			what := a.Evidence[0].Name + ": " + a.Evidence[0].Detail
			if want[what] != a.Severity || a.Rule != "R20" || ids[a.ID] || a.Principal != "trail/111122223333/eu-central-1/main" || !strings.HasSuffix(a.Reason, a.Evidence[0].Detail+" is gone") {
				t.Errorf("%+v", a)
			}
			ids[a.ID] = true
			delete(want, what)
		}
	}
	if len(want) > 0 {
		t.Errorf("not told: %v", want)
	}
	again := detector(t, rules) // another process gives the same ids
	for _, e := range report.Events() {
		for _, a := range again.Observe(&e) {
			if !ids[a.ID] {
				t.Errorf("alert %s has another id now", a.Reason)
			}
		}
	}
	if a := append(again.Advance(hour.AddDate(0, 1, 0)), again.Finish()...); len(a) > 0 {
		t.Errorf("what verification found was taken for behaviour: %+v", a)
	}
	off, err := detect.ParseRules([]byte("[rules.R20]\ndisabled = true\n"))
	if err != nil {
		t.Fatal(err)
	}
	e := report.Events()[0]
	if a := detector(t, off).Observe(&e); len(a) > 0 {
		t.Errorf("a rule that is off: %+v", a)
	}
}

// TestNoteIsKeptWithTheMemory: what a caller must write in the same step.
func TestNoteIsKeptWithTheMemory(t *testing.T) {
	t.Parallel()
	rules, err := detect.ParseRules(nil)
	if err != nil {
		t.Fatal(err)
	}
	d, file := detector(t, rules), t.TempDir()+"/state"
	d.SetNote([]byte("as far as here"))
	if err := d.Save(file); err != nil {
		t.Fatal(err)
	}
	d, err = detect.Load(file, detect.Options{Rules: rules})
	if err != nil || string(d.Note()) != "as far as here" {
		t.Errorf("%q, %v", d.Note(), err)
	}
}
