package awstest

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
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"cardea/internal/cloudtrail"
)

// Account and Region are those of a Trail.
const (
	Account = "111122223333"
	Region  = "eu-central-1"
)

// Trail is a trail in a bucket: log files, and digests that are signed.
type Trail struct {
	Objects map[string][]byte            // as they are stored
	Meta    map[string]map[string]string // what is stored with them
	Keys    string                       // the public keys, as ListPublicKeys gives them
	Digests []string                     // names, oldest first
	Logs    []string
	End     time.Time // of the last digest's hour
}

// NewTrail makes a trail: an hour for each list of records, with a log file and a
// digest each. base is what comes before AWSLogs in the bucket's names, and not in
// those of the Trail.
func NewTrail(t *testing.T, start time.Time, bucket, base string, hours ...[]string) *Trail {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der := x509.MarshalPKCS1PublicKey(&key.PublicKey)
	tr := &Trail{
		Objects: map[string][]byte{}, Meta: map[string]map[string]string{},
		Keys: fmt.Sprintf(`{"PublicKeyList":[{"Value":%q,"Fingerprint":%q}]}`, base64.StdEncoding.EncodeToString(der), cloudtrail.Fingerprint(der)),
	}
	before := map[string]any{}
	for h, records := range hours {
		at, end := start.Add(time.Duration(h)*time.Hour), start.Add(time.Duration(h+1)*time.Hour)
		content := []byte(`{"Records":[`)
		for i, r := range records {
			if i > 0 {
				content = append(content, ',')
			}
			content = append(content, r...)
		}
		log := fmt.Sprintf("AWSLogs/%s/CloudTrail/%s/%s/%s_CloudTrail_%s_%s_%016d.json.gz", Account, Region, at.Format("2006/01/02"), Account, Region, at.Add(5*time.Minute).Format("20060102T1504Z"), h)
		hash := tr.put(t, log, append(content, "]}"...))
		tr.Logs = append(tr.Logs, log)
		name := fmt.Sprintf("AWSLogs/%s/CloudTrail-Digest/%s/%s/%s_CloudTrail-Digest_%s_all_%s_%s.json.gz", Account, Region, end.Format("2006/01/02"), Account, Region, Region, end.Format("20060102T150405Z"))
		d := map[string]any{
			"awsAccountId": Account, "digestStartTime": at.Format(time.RFC3339), "digestEndTime": end.Format(time.RFC3339), "digestS3Bucket": bucket, "digestS3Object": base + name,
			"digestPublicKeyFingerprint": cloudtrail.Fingerprint(der), "digestSignatureAlgorithm": "SHA256withRSA",
			"logFiles": []map[string]string{{"s3Bucket": bucket, "s3Object": base + log, "hashValue": hash, "hashAlgorithm": "SHA-256"}},
		}
		maps.Copy(d, before)
		last, ok := before["previousDigestSignature"].(string)
		if !ok {
			last = "null"
		}
		body, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		sum := tr.put(t, name, body)
		signed := sha256.Sum256(fmt.Appendf(nil, "%s\n%s/%s\n%s\n%s", d["digestEndTime"], bucket, base+name, sum, last))
		sig, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, signed[:])
		if err != nil {
			t.Fatal(err)
		}
		tr.Meta[name] = map[string]string{"signature": hex.EncodeToString(sig), "signature-algorithm": "SHA256withRSA"}
		before = map[string]any{
			"previousDigestS3Bucket": bucket, "previousDigestS3Object": base + name, "previousDigestHashValue": sum, "previousDigestHashAlgorithm": "SHA-256",
			"previousDigestSignature": hex.EncodeToString(sig),
		}
		tr.Digests, tr.End = append(tr.Digests, name), end
	}
	return tr
}

// put packs a content and gives its hash, hexadecimal.
func (tr *Trail) put(t *testing.T, name string, content []byte) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	tr.Objects[name] = b.Bytes()
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// WriteTo writes a copy of the bucket into a folder. Of what is stored with objects
// it writes the signature of the newest digest: the others are told by the next.
func (tr *Trail) WriteTo(t *testing.T, dir string) {
	t.Helper()
	files := maps.Clone(tr.Objects)
	newest := tr.Digests[len(tr.Digests)-1]
	meta, err := json.Marshal(tr.Meta[newest])
	if err != nil {
		t.Fatal(err)
	}
	files[newest+".metadata.json"] = meta
	for name, content := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// PutInto puts all of it into a bucket.
func (tr *Trail) PutInto(c *Cloud) {
	for name, content := range tr.Objects {
		c.Put(name, string(content))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.Copy(c.Meta, tr.Meta)
	c.Keys = tr.Keys
}
