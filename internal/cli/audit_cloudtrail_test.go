package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cardea/internal/awstest"
	"cardea/internal/cloudtrail"
)

// trailCopy writes a copy of a trail's bucket, three hours with a log file each,
// and the file with the public key that signed it.
func trailCopy(t *testing.T) (dir, keys string, now func() time.Time) {
	t.Helper()
	tr := awstest.NewTrail(t, time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC), "logs", "p/", nil, nil, nil)
	dir, keys = t.TempDir(), filepath.Join(t.TempDir(), "keys.json")
	tr.WriteTo(t, dir)
	if err := os.WriteFile(keys, []byte(tr.Keys), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, keys, func() time.Time { return tr.End.Add(time.Minute) }
}

func TestVerifyCloudTrail(t *testing.T) {
	t.Parallel()
	dir, keys, now := trailCopy(t)
	const row = "111122223333  eu-central-1  all    3        3          2026-11-20T08:00:00Z  2026-11-20T11:00:00Z  valid"
	for _, args := range [][]string{{dir}, {dir, "--bucket", "logs/p"}, {filepath.Join(dir, "AWSLogs")}, {filepath.Join(dir, "AWSLogs", "111122223333")}, {dir, "--since", "24h"}} {
		code, stdout, stderr := run(t, Process{Now: now}, append([]string{"audit", "verify-cloudtrail", "--public-keys", keys}, args...)...)
		if code != exitDone || !strings.Contains(stdout, row) || stderr != "" {
			t.Errorf("%v: exit %d, %s%s", args, code, stdout, stderr)
		}
	}
	code, stdout, _ := run(t, Process{Now: now}, "audit", "verify-cloudtrail", dir, "--public-keys", keys, "--bucket", "other")
	if code != exitFindings || !strings.Contains(stdout, "FINDING moved: AWSLogs/") {
		t.Errorf("exit %d, %s", code, stdout)
	}
	code, stdout, _ = run(t, Process{Now: func() time.Time { return now().Add(5 * time.Hour) }}, "audit", "verify-cloudtrail", dir, "--public-keys", keys, "-o", "json")
	var report cloudtrail.DigestReport
	if err := json.Unmarshal([]byte(stdout), &report); err != nil || code != exitFindings || len(report.Trails) != 1 || report.Trails[0].Findings[0].Outcome != cloudtrail.OutcomeLateDigest {
		t.Errorf("exit %d, %v, %s", code, err, stdout)
	}
	logs, err := filepath.Glob(filepath.Join(dir, "AWSLogs/*/CloudTrail/*/*/*/*/*.gz"))
	if err != nil || len(logs) != 3 {
		t.Fatalf("%v, %v", logs, err)
	}
	if err := os.Remove(logs[0]); err != nil {
		t.Fatal(err)
	}
	code, stdout, _ = run(t, Process{Now: now}, "audit", "verify-cloudtrail", dir, "--public-keys", keys)
	if code != exitFindings || !strings.Contains(stdout, "NOT VALID (1)") || !strings.Contains(stdout, "is gone: a digest lists it") {
		t.Errorf("exit %d, %s", code, stdout)
	}
}

func TestVerifyCloudTrailRefusals(t *testing.T) {
	t.Parallel()
	dir, keys, now := trailCopy(t)
	empty := t.TempDir()
	for want, args := range map[string][]string{
		"is no folder\n": {keys},
		"no such file":   {filepath.Join(dir, "none")},
		"want s3://BUCKET/PREFIX, and --bucket with a folder only":                                         {"s3://logs", "--bucket", "x"},
		"no digests and no log files of CloudTrail in " + empty + ": name the place that AWSLogs is in":    {empty, "--public-keys", keys},
		"--public-keys: public keys: not JSON as 'aws cloudtrail list-public-keys' prints it: want the ou": {dir, "--public-keys", os.Args[0]},
		"--since: \"x\" is neither a time":                                                                 {dir, "--since", "x"},
	} {
		code, stdout, stderr := run(t, Process{Now: now}, append([]string{"audit", "verify-cloudtrail"}, args...)...)
		if code == exitDone || code == exitFindings || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("%v: exit %d, %s%s; want %s", args, code, stdout, stderr, want)
		}
	}
}
