package detect_test

import (
	"testing"
	"time"
	"unicode/utf8"

	"cardea/internal/cloudtrail"
	"cardea/internal/detect"
)

// FuzzHostileChange gives events with any parameters to the rules that read them:
// they may not stop the detector, and an event that changes something dangerous is
// told whatever its parameters are.
func FuzzHostileChange(f *testing.F) {
	f.Add("ScheduleKeyDeletion", []byte(`{"pendingWindowInDays":"7"}`), "10.0.0.1", "aws-cli/2.1")
	f.Add("PutKeyPolicy", []byte(`{"policy":"{\"Statement\":{\"Effect\":\"Deny\",\"Principal\":{\"AWS\":[\"*\"]},\"NotPrincipal\":1}}"}`), "::1%x", "")
	f.Add("CreateGrant", []byte(`{"granteePrincipal":["x"],"operations":"CreateGrant","constraints":[]}`), "AWS Internal", "[S3Console/0.4]")
	f.Add("PutEventSelectors", []byte(`{`), "", "/")
	f.Add("ImportKeyMaterial", []byte(`null`), "fe80::1", "a/b c/d")
	rules, err := detect.ParseRules([]byte("pinned_aliases = [\"alias/x\"]\nlog_buckets = [\"b\"]\n"))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, name string, params []byte, ip, agent string) {
		d, err := detect.New(detect.Options{Rules: rules})
		if err != nil {
			t.Fatal(err)
		}
		told := 0
		at := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
		for i, source := range []string{cloudtrail.SourceKMS, cloudtrail.SourceTrail, cloudtrail.SourceS3, cloudtrail.SourceVault} {
			e := cloudtrail.Event{
				ID: string(rune('a' + i)), Time: at, Source: source, Name: name, Params: params, IP: ip, UserAgent: agent, Principal: agent, Keys: []string{ip}, ErrorCode: "",
			}
			told += len(d.Observe(&e))
		}
		alerts := d.Advance(at.Add(time.Hour))
		for _, a := range alerts {
			if utf8.ValidString(name) && utf8.ValidString(agent) && a.Reason == "" {
				t.Errorf("%s without a reason", a.Rule)
			}
		}
		told += len(alerts)
		switch name {
		case "ScheduleKeyDeletion", "DisableKey", "PutKeyPolicy", "ImportKeyMaterial", "DisableKeyRotation", "ReplicateKey", "StopLogging", "DeleteTrail":
			if told == 0 {
				t.Errorf("%s with parameters %q was not told", name, params)
			}
		}
	})
}
