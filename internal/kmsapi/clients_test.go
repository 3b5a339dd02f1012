package kmsapi_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// command is a program with the credentials of the administrator of p, for p alone.
func (p *people) command(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	if testing.Short() {
		t.Skip("starts Python many times")
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skip(name, "is not installed")
	}
	c := exec.Command(path, args...)
	c.Env = append(os.Environ(),
		"AWS_ACCESS_KEY_ID="+p.id, "AWS_SECRET_ACCESS_KEY="+string(p.secret.Expose()), "AWS_SESSION_TOKEN=", "AWS_DEFAULT_REGION="+region, "AWS_REGION="+region,
		"AWS_ENDPOINT_URL_KMS="+p.url, "AWS_ENDPOINT_URL_STS="+p.url, "AWS_CONFIG_FILE="+filepath.Join(t.TempDir(), "none"),
		"AWS_SHARED_CREDENTIALS_FILE="+filepath.Join(t.TempDir(), "none"), "AWS_EC2_METADATA_DISABLED=true", "AWS_PAGER=", "AWS_MAX_ATTEMPTS=1",
		"HTTP_PROXY=", "http_proxy=", "NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1")
	return c
}

// TestAWSCLI runs the commands of a first hour with keys: make one for a user, use
// it, look at it, schedule its end.
func TestAWSCLI(t *testing.T) {
	t.Parallel()
	p := servePeople(t)
	aws := func(args ...string) (map[string]any, string) {
		t.Helper()
		c := p.command(t, "aws", append(args, "--output", "json", "--endpoint-url", p.url)...) // older ones know no AWS_ENDPOINT_URL
		var stdout, stderr bytes.Buffer
		c.Stdout, c.Stderr = &stdout, &stderr
		if err := c.Run(); err != nil {
			return nil, stderr.String()
		}
		m := map[string]any{}
		if stdout.Len() > 0 {
			if err := json.Unmarshal(stdout.Bytes(), &m); err != nil {
				t.Fatal(err)
			}
		}
		return m, ""
	}
	ok := func(args ...string) map[string]any {
		t.Helper()
		m, problem := aws(args...)
		if problem != "" {
			t.Fatalf("aws %s: %s", strings.Join(args, " "), problem)
		}
		return m
	}
	if me := ok("sts", "get-caller-identity"); me["Arn"] != "arn:aws:iam::"+account+":user/admin" {
		t.Errorf("got %v", me)
	}
	policy := `{"Statement": [{"Sid": "Allow KMS Key Usage", "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::` + account + `:root"},` +
		` "Action": "kms:*", "Resource": "*"}]}`
	key := ok("kms", "create-key", "--description", "KEK for PCI DSS", "--policy", policy)["KeyMetadata"].(map[string]any)["KeyId"].(string)
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, []byte("a data key"), 0o600); err != nil {
		t.Fatal(err)
	}
	blob := ok("kms", "encrypt", "--key-id", key, "--plaintext", "fileb://"+plain, "--encryption-context", "dataset=1")["CiphertextBlob"].(string)
	sealed := filepath.Join(t.TempDir(), "sealed")
	if err := os.WriteFile(sealed, unbase64(t, blob), 0o600); err != nil {
		t.Fatal(err)
	}
	opened := ok("kms", "decrypt", "--ciphertext-blob", "fileb://"+sealed, "--encryption-context", "dataset=1")
	if got := string(unbase64(t, opened["Plaintext"].(string))); got != "a data key" {
		t.Errorf("got %d bytes of another plaintext", len(got))
	}
	_, problem := aws("kms", "decrypt", "--ciphertext-blob", "fileb://"+sealed)
	if !strings.Contains(problem, "(InvalidCiphertextException)") {
		t.Errorf("got %s", problem)
	}
	ok("kms", "create-alias", "--alias-name", "alias/kek", "--target-key-id", key)
	if _, problem := aws("kms", "enable-key-rotation", "--key-id", key, "--rotation-period-in-days", "90"); strings.Contains(problem, "Unknown options") {
		ok("kms", "enable-key-rotation", "--key-id", key) // older than the option
	} else if problem != "" {
		t.Error(problem)
	}
	if m := ok("kms", "describe-key", "--key-id", "alias/kek")["KeyMetadata"].(map[string]any); m["KeyState"] != "Enabled" || m["CreationDate"] == "" {
		t.Errorf("got %v", m)
	}
	if keys := ok("kms", "list-keys", "--page-size", "1")["Keys"].([]any); len(keys) != 1 {
		t.Errorf("got %v", keys)
	}
	ok("kms", "schedule-key-deletion", "--key-id", key, "--pending-window-in-days", "7")
	_, problem = aws("kms", "enable-key", "--key-id", key)
	if !strings.Contains(problem, "(KMSInvalidStateException)") || !strings.Contains(problem, "is pending deletion.") {
		t.Errorf("got %s", problem)
	}
}

const botoScript = `
import boto3, botocore.exceptions as e, os
url = os.environ["AWS_ENDPOINT_URL_KMS"] # which older ones do not look at
kms, sts = boto3.client("kms", endpoint_url=url), boto3.client("sts", endpoint_url=url)
arn = kms.create_key(Tags=[{"TagKey": "a", "TagValue": "b"}])["KeyMetadata"]["Arn"]
k = kms.generate_data_key(KeyId=arn, KeySpec="AES_256", EncryptionContext={"tenant": "a"})
d = kms.decrypt(CiphertextBlob=k["CiphertextBlob"], EncryptionContext={"tenant": "a"})
assert d["Plaintext"] == k["Plaintext"] and len(d["Plaintext"]) == 32 and d["KeyId"] == arn
for call, error in (
    (lambda: kms.decrypt(CiphertextBlob=k["CiphertextBlob"]), kms.exceptions.InvalidCiphertextException),
    (lambda: kms.describe_key(KeyId="1234abcd-12ab-34cd-56ef-1234567890ab"), kms.exceptions.NotFoundException),
    (lambda: kms.create_key(Policy="{"), kms.exceptions.MalformedPolicyDocumentException),
):
    try:
        call()
        raise SystemExit("no " + error.__name__)
    except error as x:
        assert x.response["ResponseMetadata"]["HTTPStatusCode"] == 400 and x.response["ResponseMetadata"]["RequestId"]
if hasattr(kms.exceptions, "DryRunOperationException"): # not in older ones
    try:
        kms.encrypt(KeyId=arn, Plaintext=b"x", DryRun=True)
        raise SystemExit("no DryRunOperationException")
    except kms.exceptions.DryRunOperationException:
        pass
for i in range(3):
    kms.create_alias(AliasName="alias/a%d" % i, TargetKeyId=arn)
names = [a["AliasName"] for page in kms.get_paginator("list_aliases").paginate(PaginationConfig={"PageSize": 2}) for a in page["Aliases"]]
assert names == ["alias/a0", "alias/a1", "alias/a2"], names
c = sts.assume_role(RoleArn="arn:aws:iam::111122223333:role/keys", RoleSessionName="boto")["Credentials"]
as_role = boto3.client("kms", endpoint_url=url, aws_access_key_id=c["AccessKeyId"], aws_secret_access_key=c["SecretAccessKey"], aws_session_token=c["SessionToken"])
as_role.disable_key(KeyId=arn)
try:
    kms.encrypt(KeyId=arn, Plaintext=b"x")
    raise SystemExit("no DisabledException")
except kms.exceptions.DisabledException as x:
    assert x.response["Error"]["Message"] == arn + " is disabled."
bad = boto3.client("kms", endpoint_url=url, aws_secret_access_key="x" * 40, aws_access_key_id=boto3.Session().get_credentials().access_key)
try:
    bad.list_keys()
    raise SystemExit("a wrong secret was accepted")
except e.ClientError as x:
    assert x.response["Error"]["Code"] == "InvalidSignatureException"
`

func TestBoto3(t *testing.T) {
	t.Parallel()
	p := servePeople(t)
	if err := p.command(t, "python3", "-c", "import boto3").Run(); err != nil {
		t.Skip("boto3 is not installed")
	}
	if out, err := p.command(t, "python3", "-c", botoScript).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
