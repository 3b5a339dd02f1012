package interop

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// The modules, from the folder of the tests of Terraform.
const modulesFolder = "../../deploy/terraform"

// offline are credentials and settings for plans that ask nobody.
func (tf *terraform) offline() {
	tf.env = append(tf.env, "AWS_ACCESS_KEY_ID=none", "AWS_SECRET_ACCESS_KEY=none")
	tf.env = slices.DeleteFunc(tf.env, func(kv string) bool { return strings.HasPrefix(kv, "TF_VAR_endpoint=") })
}

// TestTerraformModulesArePlanned validates all modules, plans each by the example of
// its README, and all together by examples/cde; nothing is asked of AWS.
func TestTerraformModulesArePlanned(t *testing.T) {
	t.Parallel()
	tf := newTerraform(t, &server{}, modulesFolder)
	tf.offline()
	tf.run(t, "terraform fmt -check -recursive")

	root := tf.dir
	tf.dir = filepath.Join(root, "readmes")
	text := `
terraform {
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 6.0"
    }
  }
}
provider "aws" {
  region                      = "us-east-1"
  skip_credentials_validation = true
  skip_requesting_account_id  = true
  skip_metadata_api_check     = true
}
`
	readmes := must(filepath.Glob(filepath.Join(root, "modules/*/README.md")))(t)
	for _, readme := range readmes {
		for _, block := range regexp.MustCompile("(?ms)^```hcl\n(.*?)^```").FindAllStringSubmatch(string(must(os.ReadFile(readme))(t)), -1) {
			text += strings.ReplaceAll(block[1], `"./modules/`, `"../modules/`)
		}
	}
	if n := strings.Count(text, "source = \"../modules/"); n != 9 || len(readmes) != n {
		t.Fatalf("%d examples in %d READMEs, want 9", n, len(readmes))
	}
	if err := os.Mkdir(tf.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tf.dir, "main.tf"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	tf.run(t, "terraform init")
	tf.run(t, "terraform validate")
	if out := tf.run(t, "terraform plan"); !strings.Contains(out, " to add, 0 to change, 0 to destroy.") {
		t.Errorf("the plan of the READMEs' examples: %s", out)
	}

	tf.dir = filepath.Join(root, "examples/cde")
	tf.set("offline", "true")
	tf.run(t, "terraform init")
	tf.run(t, "terraform validate")
	tf.run(t, "terraform plan -var-file=example.tfvars -out=cde.tfplan")
	comparePlan(t, []byte(tf.run(t, "terraform show -json cde.tfplan")), filepath.Join(root, "moduletest/testdata/cde.json"))
}

// planned is a module in the JSON form of a plan.
type planned struct {
	Resources []struct {
		Address string         `json:"address"`
		Values  map[string]any `json:"values"`
	} `json:"resources"`
	Modules []planned `json:"child_modules"`
}

// comparePlan compares Terraform's own plan with what the tests of the modules, which
// evaluate them without Terraform, hold for it: the same resources, the same policies
// as far as they are known before apply.
func comparePlan(t *testing.T, plan []byte, golden string) {
	t.Helper()
	var got struct {
		Values struct {
			Root planned `json:"root_module"`
		} `json:"planned_values"`
	}
	var want struct {
		Resources []string       `json:"resources"`
		Policies  map[string]any `json:"policies"`
	}
	if err := json.Unmarshal(plan, &got); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(must(os.ReadFile(golden))(t), &want); err != nil {
		t.Fatal(err)
	}
	var resources []string
	compared := 0
	for todo := []planned{got.Values.Root}; len(todo) > 0; todo = todo[1:] {
		todo = append(todo, todo[0].Modules...)
		for _, r := range todo[0].Resources {
			resources = append(resources, r.Address)
			for _, attribute := range []string{"policy", "assume_role_policy"} {
				text, known := r.Values[attribute].(string)
				if !known {
					continue
				}
				var policy any
				if err := json.Unmarshal([]byte(text), &policy); err != nil {
					t.Errorf("%s.%s: %v", r.Address, attribute, err)
				}
				compared++
				if w, ok := want.Policies[r.Address+"."+attribute]; !ok || !reflect.DeepEqual(policy, w) {
					t.Errorf("%s.%s: Terraform makes\n%s\nand the modules' own tests\n%v", r.Address, attribute, text, w)
				}
			}
		}
	}
	slices.Sort(resources)
	if !slices.Equal(resources, want.Resources) {
		t.Errorf("Terraform makes %d resources\n%v\nand the modules' own tests %d\n%v", len(resources), resources, len(want.Resources), want.Resources)
	}
	if compared < 10 {
		t.Errorf("only %d policies were known to compare", compared)
	}
	t.Logf("%d resources, %d policies are as the modules' own tests hold", len(resources), compared)
}

// TestTerraformModulesOnOurKeyService makes the keys of examples/cde, replicas and all,
// by an administrator with a second factor, sees that the policies do what they say,
// changes them, and takes all away.
func TestTerraformModulesOnOurKeyService(t *testing.T) {
	t.Parallel()
	newTerraform(t, &server{}, modulesFolder) // skips before anything is built
	s, err := startServer(binary, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Errorf("the server did not stop cleanly: %v\n%s", err, s.log)
		}
	})
	for _, role := range []string{"app", "exporter", "cardea-vault-cde"} {
		s.role(t, role)
	}
	admin := s.withSecondFactor(t)
	tf := newTerraform(t, s, modulesFolder)
	tf.dir = filepath.Join(tf.dir, "examples/cde")
	tf.env = append(tf.env, "AWS_ACCESS_KEY_ID="+admin.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+admin.SecretAccessKey, "AWS_SESSION_TOKEN="+admin.SessionToken)
	for name, value := range map[string]string{
		"account_id": account, "only_keys": "true", "deletion_window_in_days": "7", "allowed_cidrs": `["127.0.0.0/8"]`,
		"administrators": `["arn:aws:iam::` + account + `:user/admin"]`, "file_users": `["arn:aws:iam::` + account + `:role/exporter"]`,
		"applications": `{rds=["arn:aws:iam::` + account + `:role/app"],ebs=["arn:aws:iam::` + account + `:role/app"],s3=["arn:aws:iam::` + account + `:role/app"],secrets=["arn:aws:iam::` + account + `:role/app"]}`,
		"tenants":      `{shop={mode="aws_kms_envelope"},market={mode="aws_kms"}}`,
	} {
		tf.set(name, value)
	}
	tf.run(t, "terraform init")
	tf.run(t, "terraform apply -auto-approve")
	tf.settled(t)

	var arns, replicas map[string]string
	tf.output(t, "key_arns", &arns)
	tf.output(t, "replica_key_arns", &replicas)
	if len(arns) != 8 || len(replicas) != 3 {
		t.Fatalf("%d keys and %d replicas, want 8 and 3", len(arns), len(replicas))
	}
	withMFA := s.sdk(as(admin))
	for name, arn := range arns {
		status := must(withMFA.GetKeyRotationStatus(t.Context(), &kms.GetKeyRotationStatusInput{KeyId: &arn}))(t)
		if want := name != "vault-market-mac"; status.KeyRotationEnabled != want || want && aws.ToInt32(status.RotationPeriodInDays) != 90 {
			t.Errorf("%s: rotation %v each %d days", name, status.KeyRotationEnabled, aws.ToInt32(status.RotationPeriodInDays))
		}
		tags := map[string]string{}
		for _, tag := range must(withMFA.ListResourceTags(t.Context(), &kms.ListResourceTagsInput{KeyId: &arn}))(t).Tags {
			tags[*tag.TagKey] = *tag.TagValue
		}
		if tags["Environment"] != "cde" || tags["Service"] == "" || tags["PCIScope"] != "true" {
			t.Errorf("%s has the tags %v", name, tags)
		}
		alias := "alias/" + name + "-cde-cmk"
		if got := aws.ToString(must(withMFA.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &alias}))(t).KeyMetadata.Arn); got != arn {
			t.Errorf("%s is %s, want %s", alias, got, arn)
		}
	}
	s.policiesHold(t, withMFA, arns, replicas)

	tf.set("deletion_window_in_days", "14")
	tf.set("administrators", `["arn:aws:iam::`+account+`:user/admin","arn:aws:iam::`+account+`:role/app2"]`)
	s.role(t, "app2")
	tf.run(t, "terraform apply -auto-approve")
	tf.settled(t)
	tf.run(t, "terraform destroy -auto-approve")
	ended := 0
	for _, r := range []string{region, otherRegion} {
		sdk := s.sdk(as(admin), in(r))
		for _, k := range s.keys(t, sdk) {
			if ended++; k.KeyState != types.KeyStatePendingDeletion && k.KeyState != types.KeyStatePendingReplicaDeletion {
				t.Errorf("%s is %s, want one that ends", *k.Arn, k.KeyState)
			}
		}
		if aliases := must(sdk.ListAliases(t.Context(), &kms.ListAliasesInput{}))(t).Aliases; len(aliases) != 0 {
			t.Errorf("there are still %d aliases in %s", len(aliases), r)
		}
	}
	if ended != 11 {
		t.Errorf("%d keys end, want 11", ended)
	}
}

// policiesHold asks the key service itself what the modules' tests ask the evaluator.
func (s *server) policiesHold(t *testing.T, admin *kms.Client, arns, replicas map[string]string) {
	t.Helper()
	ctx := t.Context()
	const denied = "AccessDeniedException"
	shop, rds, market, mac := arns["vault-shop"], arns["rds"], arns["vault-market"], arns["vault-market-mac"]
	context := map[string]string{"tenant": "shop", "purpose": "card-key"}
	plaintext := []byte("nothing secret")
	errorOf := func(_ any, err error) error { return err }

	// Administrators cannot use, with or without a second factor.
	refused(t, errorOf(admin.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: &shop, KeySpec: types.DataKeySpecAes256, EncryptionContext: context})), denied)
	refused(t, errorOf(admin.Encrypt(ctx, &kms.EncryptInput{KeyId: &rds, Plaintext: plaintext})), denied)
	refused(t, errorOf(admin.CreateGrant(ctx, &kms.CreateGrantInput{KeyId: &rds, GranteePrincipal: aws.String("arn:aws:iam::" + account + ":role/app"), Operations: []types.GrantOperation{types.GrantOperationDecrypt}})), denied)
	// Without it they cannot even administer, though their identity policy allows all.
	bare := s.sdk()
	refused(t, errorOf(bare.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: &shop, PendingWindowInDays: aws.Int32(30)})), denied)
	refused(t, errorOf(bare.DisableKey(ctx, &kms.DisableKeyInput{KeyId: &shop})), denied)
	refused(t, errorOf(bare.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: &shop})), denied)
	// Nor with it bypass the check, or make rotation slower than the cryptoperiod.
	policy := must(admin.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: &shop}))(t).Policy
	refused(t, errorOf(admin.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: &shop, Policy: policy, BypassPolicyLockoutSafetyCheck: true})), denied)
	refused(t, errorOf(admin.EnableKeyRotation(ctx, &kms.EnableKeyRotationInput{KeyId: &shop, RotationPeriodInDays: aws.Int32(366)})), denied)
	// Whoever would make a key that he cannot administer afterwards is refused: there is no second factor in this session.
	refused(t, errorOf(bare.CreateKey(ctx, &kms.CreateKeyInput{Policy: policy})), "MalformedPolicyDocumentException")

	// The vault: its key's policy and its own.
	document := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	vault := s.sdk(as(s.assume(t, "cardea-vault-cde")))
	generate := func(key string, context map[string]string) error {
		return errorOf(vault.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: &key, KeySpec: types.DataKeySpecAes256, EncryptionContext: context}))
	}
	refused(t, generate(shop, context), denied) // no identity policy yet
	all := document("all.json", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:*","Resource":"*"}}`)
	if err := s.cardea("identity", "policy", "put", "--role", "cardea-vault-cde", "all", all); err != nil {
		t.Fatal(err)
	}
	made := must(vault.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: &shop, KeySpec: types.DataKeySpecAes256, EncryptionContext: context}))(t)
	opened := must(vault.Decrypt(ctx, &kms.DecryptInput{KeyId: &shop, CiphertextBlob: made.CiphertextBlob, EncryptionContext: context}))(t)
	there := s.sdk(as(s.assume(t, "cardea-vault-cde")), in(otherRegion))
	replica := replicas["vault-shop"]
	elsewhere := must(there.Decrypt(ctx, &kms.DecryptInput{KeyId: &replica, CiphertextBlob: made.CiphertextBlob, EncryptionContext: context}))(t)
	if !bytes.Equal(opened.Plaintext, made.Plaintext) || !bytes.Equal(elsewhere.Plaintext, made.Plaintext) {
		t.Error("a data key does not open as it was made")
	}
	// All of kms:* in its own policy gives it no more.
	refused(t, generate(shop, map[string]string{"tenant": "market", "purpose": "card-key"}), denied)
	refused(t, generate(shop, map[string]string{"tenant": "shop"}), denied)
	refused(t, generate(shop, nil), denied)
	refused(t, generate(market, map[string]string{"tenant": "market", "purpose": "record"}), denied) // of the other mode
	refused(t, generate(rds, nil), denied)
	refused(t, errorOf(vault.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: &shop, Policy: policy})), denied)
	refused(t, errorOf(vault.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: &shop})), denied)
	if err := errorOf(vault.GenerateMac(ctx, &kms.GenerateMacInput{KeyId: &mac, MacAlgorithm: types.MacAlgorithmSpecHmacSha256, Message: plaintext})); err != nil {
		t.Errorf("a keyed hash: %v", err)
	}
	// A key of RDS is not used without RDS.
	app := s.sdk(as(s.assume(t, "app")))
	refused(t, errorOf(app.Encrypt(ctx, &kms.EncryptInput{KeyId: &rds, Plaintext: plaintext})), denied)
	if err := errorOf(app.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &rds})); err != nil {
		t.Error(err)
	}
}

// session is what STS gives.
type session struct {
	AccessKeyID     string `xml:"AccessKeyId"`
	SecretAccessKey string
	SessionToken    string
}

func as(c session) func(*kms.Options) {
	return func(o *kms.Options) {
		o.Credentials = credentials.NewStaticCredentialsProvider(c.AccessKeyID, c.SecretAccessKey, c.SessionToken)
	}
}

// withSecondFactor is a session of the administrator with a second factor.
func (s *server) withSecondFactor(t *testing.T) session {
	t.Helper()
	cmd := exec.Command(s.cmd.Path, "identity", "mfa", "enable", "--user", "admin", "--output", "json", "--config", filepath.Join(s.dir, "cardea.toml"))
	var device struct{ Serial, URI string }
	if err := json.Unmarshal(must(cmd.Output())(t), &device); err != nil {
		t.Fatal(err)
	}
	address := must(url.Parse(device.URI))(t)
	secret := must(base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(address.Query().Get("secret")))(t)
	return s.sts(t, "GetSessionToken", url.Values{"SerialNumber": {device.Serial}, "TokenCode": {oneTimePassword(secret, time.Now())}})
}

// oneTimePassword is RFC 6238 with six digits.
func oneTimePassword(secret []byte, at time.Time) string {
	var counter [8]byte
	for i, n := len(counter)-1, at.Unix()/30; i >= 0; i, n = i-1, n>>8 {
		counter[i] = byte(n)
	}
	mac := hmac.New(sha1.New, secret)
	mac.Write(counter[:])
	sum := mac.Sum(nil)
	n := 0
	for _, b := range sum[sum[len(sum)-1]&15:][:4] {
		n = n<<8 | int(b)
	}
	return fmt.Sprintf("%06d", n&0x7fffffff%1_000_000)
}

func (s *server) assume(t *testing.T, role string) session {
	t.Helper()
	return s.sts(t, "AssumeRole", url.Values{"RoleArn": {"arn:aws:iam::" + account + ":role/" + role}, "RoleSessionName": {"test"}})
}

// sts asks for credentials as the administrator; the SDK's client of STS would be one
// more module for two calls.
func (s *server) sts(t *testing.T, action string, form url.Values) session {
	t.Helper()
	form = maps.Clone(form)
	form.Set("Action", action)
	form.Set("Version", "2011-06-15")
	body := form.Encode()
	req := must(http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/", strings.NewReader(body)))(t)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	sum := sha256.Sum256([]byte(body))
	if err := v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{AccessKeyID: s.id, SecretAccessKey: s.secret}, req, hex.EncodeToString(sum[:]), "sts", region, time.Now()); err != nil {
		t.Fatal(err)
	}
	res := must(http.DefaultClient.Do(req))(t)
	defer res.Body.Close()
	text := must(io.ReadAll(res.Body))(t)
	if res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s\n%s", action, res.Status, text)
	}
	var got struct {
		First  session `xml:"GetSessionTokenResult>Credentials"`
		Second session `xml:"AssumeRoleResult>Credentials"`
	}
	if err := xml.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if action == "AssumeRole" {
		return got.Second
	}
	return got.First
}
