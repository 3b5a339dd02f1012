package cli

import (
	"bytes"
	"compress/gzip"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cardea/internal/cloudtrail"
)

// trailCopy writes a copy of a trail's bucket, three hours with a log file each,
// and the file with the public key that signed it.
func trailCopy(t *testing.T) (dir, keys string, now func() time.Time) {
	t.Helper()
	dir = t.TempDir()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der := x509.MarshalPKCS1PublicKey(&key.PublicKey)
	put := func(name, content string, packed bool) string {
		var b bytes.Buffer
		if packed {
			z := gzip.NewWriter(&b)
			if _, err := z.Write([]byte(content)); err != nil {
				t.Fatal(err)
			}
			z.Close()
		} else {
			b.WriteString(content)
		}
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256([]byte(content))
		return hex.EncodeToString(sum[:])
	}
	start := time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)
	var before map[string]any
	for h := range 3 {
		at, end := start.Add(time.Duration(h)*time.Hour), start.Add(time.Duration(h+1)*time.Hour)
		log := fmt.Sprintf("AWSLogs/111122223333/CloudTrail/eu-central-1/2026/11/20/111122223333_CloudTrail_eu-central-1_%s_%d.json.gz", at.Add(5*time.Minute).Format("20060102T1504Z"), h)
		hash := put(log, `{"Records":[]}`+strings.Repeat(" ", h), true)
		name := "AWSLogs/111122223333/CloudTrail-Digest/eu-central-1/2026/11/20/111122223333_CloudTrail-Digest_eu-central-1_all_eu-central-1_" + end.Format("20060102T150405Z") + ".json.gz"
		d := map[string]any{
			"awsAccountId": "111122223333", "digestStartTime": at.Format(time.RFC3339), "digestEndTime": end.Format(time.RFC3339), "digestS3Bucket": "logs", "digestS3Object": "p/" + name,
			"digestPublicKeyFingerprint": cloudtrail.Fingerprint(der), "digestSignatureAlgorithm": "SHA256withRSA",
			"logFiles": []map[string]string{{"s3Bucket": "logs", "s3Object": "p/" + log, "hashValue": hash, "hashAlgorithm": "SHA-256"}},
		}
		last := "null"
		for k, v := range before {
			d[k] = v
			last = before["previousDigestSignature"].(string)
		}
		content, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		sum := put(name, string(content), true)
		signed := sha256.Sum256(fmt.Appendf(nil, "%s\nlogs/p/%s\n%s\n%s", d["digestEndTime"], name, sum, last))
		sig, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, signed[:])
		if err != nil {
			t.Fatal(err)
		}
		before = map[string]any{
			"previousDigestS3Bucket": "logs", "previousDigestS3Object": "p/" + name, "previousDigestHashValue": sum, "previousDigestHashAlgorithm": "SHA-256",
			"previousDigestSignature": hex.EncodeToString(sig),
		}
		if h == 2 {
			put(name+".metadata.json", fmt.Sprintf(`{"signature":"%x","signature-algorithm":"SHA256withRSA"}`, sig), false)
		}
	}
	keys = filepath.Join(t.TempDir(), "keys.json")
	list := fmt.Sprintf(`{"PublicKeyList":[{"Value":%q,"Fingerprint":%q}]}`, base64.StdEncoding.EncodeToString(der), cloudtrail.Fingerprint(der))
	if err := os.WriteFile(keys, []byte(list), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, keys, func() time.Time { return start.Add(3*time.Hour + time.Minute) }
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
