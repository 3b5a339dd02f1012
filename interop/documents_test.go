package interop

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/google/uuid"
)

// The commands of two documents about AWS KMS and PCI DSS, as they are printed: a
// guide to keys that encrypt keys and data, and the README of an installation.
const (
	createKEK = `aws kms create-key --description "KEK for PCI DSS" --policy '{"Statement": [{"Sid": "Allow KMS Key Usage", "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::YOUR_ACCOUNT_ID:user/YOUR_USER_NAME"}, "Action": ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"], "Resource": "arn:aws:kms:YOUR_REGION:YOUR_ACCOUNT_ID:key/YOUR_KEK_KEY_ID"}]}'`
	createDEK = `aws kms create-key --description "DEK for PCI DSS - Dataset 1" --policy '{"Statement": [{"Sid": "Allow KMS Key Usage", "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::YOUR_ACCOUNT_ID:user/YOUR_USER_NAME"}, "Action": ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"], "Resource": "arn:aws:kms:YOUR_REGION:YOUR_ACCOUNT_ID:key/YOUR_DEK_KEY_ID"}]}'`
	encrypt   = `aws kms encrypt --key-id YOUR_KEK_KEY_ID --plaintext $(base64 YOUR_DEK_BASE64)`

	envelope = `python3 envelope-encryption-example.py \
    --key-id "arn:aws:kms:us-east-1:222233334444:key/12345678-1234-1234-1234-123456789012" \
    --plaintext "Sensitive cardholder data" \
    --output encrypted-data.bin`
	rotateKeys = `./rotate-keys.sh --key-id 12345678-1234-1234-1234-123456789012 --verify`

	condition = `"Condition": {
     "Bool": {"kms:GrantIsForAWSResource": "true"},
     "StringEquals": {"kms:ViaService": "s3.us-east-1.amazonaws.com"},
     "IpAddress": {"aws:SourceIp": "10.0.0.0/8"}
   }`
)

// shell is a user's shell in a folder, with his credentials and the service's address.
type shell struct {
	s    *server
	dir  string
	fill map[string]string // placeholders
}

// newShell is a shell on which the programs are installed, or the test is skipped.
func newShell(t *testing.T, s *server, programs ...string) *shell {
	t.Helper()
	for _, p := range append(programs, "bash") {
		if _, err := exec.LookPath(p); err != nil {
			t.Skip(p, "is not installed")
		}
	}
	return &shell{s: s, dir: t.TempDir(), fill: map[string]string{"YOUR_ACCOUNT_ID": account, "YOUR_REGION": region}}
}

// filled is a text with the placeholders replaced.
func (sh *shell) filled(text string) string {
	for name, value := range sh.fill {
		text = strings.ReplaceAll(text, name, value)
	}
	return text
}

// run runs a command line as a user. Aws is given the endpoint, since versions before
// 2.13 do not take it from the environment.
func (sh *shell) run(as *server, line string) (stdout, stderr string, err error) {
	script := `aws() { command aws --endpoint-url "$AWS_ENDPOINT_URL_KMS" "$@"; }` + "\n" + sh.filled(line)
	cmd := exec.Command("bash", "-c", script)
	cmd.Dir = sh.dir
	cmd.Env = append(os.Environ(),
		"AWS_SHARED_CREDENTIALS_FILE="+as.credentials, "AWS_CONFIG_FILE="+os.DevNull, "AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=", "AWS_SESSION_TOKEN=", "AWS_PROFILE=default",
		"AWS_REGION="+region, "AWS_DEFAULT_REGION="+region, "AWS_DEFAULT_OUTPUT=json", "AWS_ENDPOINT_URL_KMS="+as.url, "AWS_EC2_METADATA_DISABLED=true", "AWS_PAGER=",
		"HTTP_PROXY=", "http_proxy=", "NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1")
	var out, problem bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problem
	err = cmd.Run()
	return out.String(), problem.String(), err
}

// must runs a command line that succeeds.
func (sh *shell) must(t *testing.T, as *server, line string) string {
	t.Helper()
	stdout, stderr, err := sh.run(as, line)
	if err != nil {
		t.Fatalf("%s\n%v: %s", sh.filled(line), err, stderr)
	}
	return strings.TrimSpace(stdout)
}

// TestGuideToKEKsAndDEKs runs the guide's commands. Those that make keys are refused,
// as AWS refuses them; then come the least changes by which they work.
func TestGuideToKEKsAndDEKs(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts Python many times")
	}
	s := serve(t)
	sh := newShell(t, s, "aws", "base64")
	user := s.user(t, "keeper")
	sh.fill["YOUR_USER_NAME"] = "keeper"
	sh.fill["YOUR_KEK_KEY_ID"], sh.fill["YOUR_DEK_KEY_ID"] = uuid.NewString(), uuid.NewString() // nobody can know them before

	const (
		arn    = " --query KeyMetadata.Arn --output text"
		bypass = " --bypass-policy-lockout-safety-check"
	)
	whole := func(create string) string { // with the statement that key policies have by default
		return strings.Replace(create, `{"Statement": [`, `{"Statement": [{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::YOUR_ACCOUNT_ID:root"}, "Action": "kms:*", "Resource": "*"}, `, 1)
	}
	anyKey := strings.NewReplacer("arn:aws:kms:YOUR_REGION:YOUR_ACCOUNT_ID:key/YOUR_KEK_KEY_ID", "*", "arn:aws:kms:YOUR_REGION:YOUR_ACCOUNT_ID:key/YOUR_DEK_KEY_ID", "*")

	denied := "(AccessDeniedException) when calling the Encrypt operation: User: arn:aws:iam::" + account + ":user/keeper is not authorized to perform: kms:Encrypt"
	for _, c := range []struct {
		name, line string
		refused    string // what the command is refused with
		use        string // what the user is refused with when he encrypts, "" if nothing
	}{
		{
			"KEK as printed", createKEK,
			"(MalformedPolicyDocumentException) when calling the CreateKey operation: The new key policy will not allow you to update the key policy in the future.", "",
		},
		{
			"DEK as printed", createDEK,
			"(MalformedPolicyDocumentException) when calling the CreateKey operation: The new key policy will not allow you to update the key policy in the future.", "",
		},
		{"KEK without the check", createKEK + bypass, "", denied}, // Resource names another key
		{"KEK without the check, any resource", anyKey.Replace(createKEK) + bypass, "", ""},
		{"KEK and the account", anyKey.Replace(whole(createKEK)), "", ""},
		{"DEK and the account", anyKey.Replace(whole(createDEK)), "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			stdout, stderr, err := sh.run(s, c.line+arn)
			if c.refused != "" {
				if err == nil || !strings.Contains(stderr, c.refused) {
					t.Errorf("%s\ngot %v %s, want %q", sh.filled(c.line), err, stderr, c.refused)
				}
				return
			}
			if err != nil {
				t.Fatalf("%s\n%v: %s", sh.filled(c.line), err, stderr)
			}
			_, stderr, err = sh.run(user, "aws kms encrypt --key-id "+strings.TrimSpace(stdout)+" --plaintext AAAA")
			if (err == nil) != (c.use == "") || !strings.Contains(stderr, c.use) {
				t.Errorf("encrypt as the user: got %v %s, want %q", err, stderr, c.use)
			}
		})
	}

	// With the key's id in it the policy can be as printed, but for the account's statement.
	kek := sh.must(t, s, `aws kms create-key --description "KEK for PCI DSS"`+arn)
	sh.fill["YOUR_KEK_KEY_ID"] = kek[strings.LastIndex(kek, "/")+1:]
	_, policy, _ := strings.Cut(whole(createKEK), "--policy ")
	sh.must(t, s, "aws kms put-key-policy --key-id YOUR_KEK_KEY_ID --policy-name default --policy "+policy)
	var dek [32]byte
	rand.Read(dek[:])
	sh.fill["YOUR_DEK_BASE64"] = filepath.Join(sh.dir, "dek")
	if err := os.WriteFile(sh.fill["YOUR_DEK_BASE64"], dek[:], 0o600); err != nil {
		t.Fatal(err)
	}
	sealed := sh.must(t, user, encrypt+" --query CiphertextBlob --output text")
	blob := must(base64.StdEncoding.DecodeString(sealed))(t)
	opened := must(user.sdk().Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: blob, KeyId: &kek}))(t).Plaintext
	want := dek[:]
	if version := sh.must(t, user, "command aws --version 2>&1"); strings.HasPrefix(version, "aws-cli/1") {
		want = []byte(base64.StdEncoding.EncodeToString(dek[:])) // version 1 takes the text for the plaintext itself
	}
	if !bytes.Equal(opened, want) {
		t.Errorf("decrypted %d bytes that are not the data key, want %d", len(opened), len(want))
	}
	_, stderr, err := sh.run(user, "aws kms schedule-key-deletion --key-id YOUR_KEK_KEY_ID")
	if err == nil || !strings.Contains(stderr, "(AccessDeniedException)") {
		t.Errorf("the user schedules the deletion: %v %s", err, stderr)
	}
}

// TestREADMEOfAnInstallation runs what the README runs beside Terraform, whose
// commands TestTerraform has: its scripts are not in it, these do what it says of them.
func TestREADMEOfAnInstallation(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts Python many times")
	}
	s := serve(t)
	sdk := s.sdk()
	arn := newKey(t, sdk, kms.CreateKeyInput{Description: aws.String("rds-prod-cmk")})
	id := arn[strings.LastIndex(arn, "/")+1:]
	fill := map[string]string{"222233334444": account, "12345678-1234-1234-1234-123456789012": id}
	t.Run("envelope", func(t *testing.T) {
		sh := newShell(t, s, "python3")
		sh.fill = fill
		if _, stderr, err := sh.run(s, "python3 -c 'import boto3, cryptography'"); err != nil {
			t.Skip("boto3 or cryptography is not installed:", stderr)
		}
		copyScripts(t, sh.dir)
		sh.must(t, s, envelope)
		rotate(t, sdk, arn)
		if got := sh.must(t, s, "python3 envelope-encryption-example.py --decrypt encrypted-data.bin"); got != "Sensitive cardholder data" {
			t.Errorf("opened %d bytes that are not the plaintext", len(got))
		}
	})
	t.Run("rotation by hand", func(t *testing.T) {
		sh := newShell(t, s, "aws", "base64", "cmp")
		sh.fill = fill
		copyScripts(t, sh.dir)
		alias := "alias/rds-" + uuid.NewString()
		if _, err := sdk.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: &alias, TargetKeyId: &arn}); err != nil {
			t.Fatal(err)
		}
		replacement := sh.must(t, s, rotateKeys)
		now := must(sdk.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &alias}))(t).KeyMetadata
		if *now.Arn != replacement || replacement == arn || *now.Description != "rds-prod-cmk" {
			t.Errorf("%s names %s, want the replacement %s of %s", alias, *now.Arn, replacement, arn)
		}
	})
}

func copyScripts(t *testing.T, dir string) {
	t.Helper()
	for _, name := range []string{"envelope-encryption-example.py", "rotate-keys.sh"} {
		text := must(os.ReadFile(filepath.Join("testdata", name)))(t)
		// While it is open to be written, no other test may start a process, which would
		// have it open too, and it could not be run: "text file busy".
		syscall.ForkLock.RLock()
		err := os.WriteFile(filepath.Join(dir, name), text, 0o700)
		syscall.ForkLock.RUnlock()
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestConditionsOfTheREADME puts its block of conditions into a policy: nobody can
// fulfil all of them with a call of his own, and each must hold.
func TestConditionsOfTheREADME(t *testing.T) {
	t.Parallel()
	s := serve(t)
	user := s.user(t, "backup-job").sdk()
	policy := func(conditions string) *string {
		return aws.String(`{"Version": "2012-10-17", "Statement": [
   {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::` + account + `:root"}, "Action": "kms:*", "Resource": "*"},
   {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::` + account + `:user/backup-job"}, "Action": "kms:*", "Resource": "*",
   ` + conditions + `}]}`)
	}
	key := newKey(t, s.sdk(), kms.CreateKeyInput{Policy: policy(condition)})
	encrypt := func() error {
		_, err := user.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &key, Plaintext: []byte("x")})
		return err
	}
	grant := func() error {
		_, err := user.CreateGrant(t.Context(), &kms.CreateGrantInput{
			KeyId: &key, GranteePrincipal: aws.String("arn:aws:iam::" + account + ":user/backup-job"), Operations: []types.GrantOperation{types.GrantOperationDecrypt},
		})
		return err
	}
	refused(t, encrypt(), "AccessDeniedException", "kms:Encrypt")
	refused(t, grant(), "AccessDeniedException", "kms:CreateGrant")
	for conditions, allowed := range map[string]bool{
		`"Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}`:                                                                       false,
		`"Condition": {"IpAddress": {"aws:SourceIp": ["10.0.0.0/8", "127.0.0.0/8"]}}`:                                                      true,
		`"Condition": {"IpAddress": {"aws:SourceIp": "127.0.0.0/8"}, "StringEquals": {"kms:ViaService": "s3.us-east-1.amazonaws.com"}}`:    false,
		`"Condition": {"IpAddress": {"aws:SourceIp": "127.0.0.0/8"}, "Bool": {"kms:GrantIsForAWSResource": "true"}}`:                       false,
		`"Condition": {"IpAddress": {"aws:SourceIp": "127.0.0.0/8"}, "Bool": {"aws:MultiFactorAuthPresent": "true"}}`:                      false,
		`"Condition": {"IpAddress": {"aws:SourceIp": "127.0.0.0/8"}, "StringNotEquals": {"kms:ViaService": "s3.us-east-1.amazonaws.com"}}`: true,
		`"Condition": {"IpAddress": {"aws:SourceIp": "127.0.0.0/8"}, "BoolIfExists": {"aws:MultiFactorAuthPresent": "false"}}`:             true,
	} {
		if _, err := s.sdk().PutKeyPolicy(t.Context(), &kms.PutKeyPolicyInput{KeyId: &key, Policy: policy(conditions)}); err != nil {
			t.Fatal(err)
		}
		if err := encrypt(); allowed != (err == nil) {
			t.Errorf("%s: got %v, want allowed %v", conditions, err, allowed)
		}
	}
}
