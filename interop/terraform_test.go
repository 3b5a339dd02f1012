package interop

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// terraform is a working folder of Terraform with the AWS provider from a folder on
// this machine: nothing is downloaded.
type terraform struct {
	path, dir string
	env       []string
}

// pluginFolder is where the AWS provider is, "" if nowhere: the environment's folder
// comes first, then those in which Terraform itself looks, then add-on packages.
func pluginFolder() string {
	home, err := os.UserHomeDir()
	if err != nil {
		home = "/"
	}
	const provider = "registry.terraform.io/hashicorp/aws"
	for _, dir := range []string{
		os.Getenv("CARDEA_TF_PLUGINS"), filepath.Join(home, ".terraform.d/plugins"), filepath.Join(home, ".local/share/terraform/plugins"),
		"/usr/local/share/terraform/plugins", "/usr/share/terraform/plugins", "/opt/*",
	} {
		if found, err := filepath.Glob(filepath.Join(dir, provider)); dir != "" && err == nil && len(found) > 0 {
			return strings.TrimSuffix(found[0], provider)
		}
	}
	return ""
}

// newTerraform prepares a folder with the files of terraform/name, or skips the test.
func newTerraform(t *testing.T, s *server, name string) *terraform {
	t.Helper()
	if testing.Short() {
		t.Skip("Terraform takes minutes")
	}
	path, err := exec.LookPath("terraform")
	if err != nil {
		t.Skip("terraform is not installed")
	}
	plugins := pluginFolder()
	if plugins == "" {
		t.Skip("Terraform's AWS provider is in none of the usual folders, nor in that of CARDEA_TF_PLUGINS")
	}
	tf := &terraform{path: path, dir: t.TempDir()}
	if err := os.CopyFS(tf.dir, os.DirFS(filepath.Join("terraform", name))); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(tf.dir, "cli.tfrc")
	text := "provider_installation {\n  filesystem_mirror {\n    path = \"" + plugins + "\"\n  }\n}\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "AWS_") && !strings.HasPrefix(kv, "TF_") {
			tf.env = append(tf.env, kv)
		}
	}
	tf.env = append(tf.env, "TF_CLI_CONFIG_FILE="+config, "CHECKPOINT_DISABLE=1", "TF_IN_AUTOMATION=1", "TF_INPUT=0", "TF_CLI_ARGS=-no-color", "GOGC=400", // most of a plan is the start of the provider
		"TF_CLI_ARGS_apply=-parallelism=30", "TF_CLI_ARGS_destroy=-parallelism=30",
		"AWS_CONFIG_FILE="+os.DevNull, "AWS_SHARED_CREDENTIALS_FILE="+s.credentials, "TF_VAR_endpoint="+s.url)
	return tf
}

// set gives a variable a value.
func (tf *terraform) set(name, value string) { tf.env = append(tf.env, "TF_VAR_"+name+"="+value) }

// try runs a command line as it is printed in documents.
func (tf *terraform) try(t *testing.T, line string) (stdout string, status int) {
	t.Helper()
	began := time.Now()
	args := strings.Fields(line)
	if args[0] != "terraform" {
		t.Fatal("not a command line of Terraform:", line)
	}
	cmd := exec.CommandContext(t.Context(), tf.path, args[1:]...)
	cmd.Dir, cmd.Env = tf.dir, tf.env
	var out, problem bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problem
	err := cmd.Run()
	t.Logf("%s: %v", line, time.Since(began).Round(time.Second))
	if err == nil {
		return out.String(), 0
	}
	exit, is := errors.AsType[*exec.ExitError](err)
	if !is {
		t.Fatal(err)
	}
	return out.String() + problem.String(), exit.ExitCode()
}

// run runs a command line that must succeed.
func (tf *terraform) run(t *testing.T, line string) (stdout string) {
	t.Helper()
	out, status := tf.try(t, line)
	if status != 0 {
		t.Fatalf("%s: status %d\n%s", line, status, out)
	}
	return out
}

// settled fails the test if Terraform would change anything.
func (tf *terraform) settled(t *testing.T) {
	t.Helper()
	if out, status := tf.try(t, "terraform plan -detailed-exitcode"); status != 0 {
		t.Fatalf("a plan right after apply wants changes: status %d\n%s", status, out)
	}
}

// output is an output value.
func (tf *terraform) output(t *testing.T, name string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(tf.run(t, "terraform output -json "+name)), v); err != nil {
		t.Fatal(err)
	}
}

// TestTerraform makes every resource of KMS that Terraform has, changes what can be
// changed, and takes all away. Its first three commands are those of a README that
// describes such an installation for PCI DSS.
func TestTerraform(t *testing.T) {
	t.Parallel()
	s, err := startServer(binary, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Errorf("the server did not stop cleanly: %v\n%s", err, s.log)
		}
	})
	tf := newTerraform(t, s, "keys")
	s.role(t, "app")
	s.role(t, "backup")
	var material [32]byte
	rand.Read(material[:])
	end := time.Now().Add(48 * time.Hour).UTC().Truncate(time.Second)
	tf.set("material", base64.StdEncoding.EncodeToString(material[:]))
	tf.set("valid_to", end.Format(time.RFC3339))

	tf.run(t, "terraform init")
	tf.run(t, "terraform plan -out=kms.tfplan")
	tf.run(t, "terraform apply kms.tfplan")
	tf.settled(t)
	s.hasWhatTerraformMade(t, tf, "1", 90, end)

	tf.set("stage", "2")
	end = end.Add(24*time.Hour + time.Second)
	tf.set("valid_to", end.Format(time.RFC3339))
	tf.run(t, "terraform apply -auto-approve")
	tf.settled(t)
	s.hasWhatTerraformMade(t, tf, "2", 365, end)

	tf.run(t, "terraform destroy -auto-approve")
	s.hasNothingButKeysThatEnd(t)
}

// hasWhatTerraformMade looks at the keys by another client.
func (s *server) hasWhatTerraformMade(t *testing.T, tf *terraform, stage string, period int32, end time.Time) {
	t.Helper()
	ctx, sdk := t.Context(), s.sdk()
	var found map[string]any
	tf.output(t, "found", &found)
	if found["key"] != true || found["alias"] != true || found["caller"] != "arn:aws:iam::"+account+":user/admin" {
		t.Errorf("data sources gave %v", found)
	}
	var opened string
	if tf.output(t, "opened", &opened); opened != "a password of stage "+stage {
		t.Error("aws_kms_secrets opened another ciphertext")
	}
	alias := "alias/s3-cde-cmk"
	rotation := must(sdk.GetKeyRotationStatus(ctx, &kms.GetKeyRotationStatusInput{KeyId: keyOf(t, sdk, alias)}))(t)
	if !rotation.KeyRotationEnabled || aws.ToInt32(rotation.RotationPeriodInDays) != period {
		t.Errorf("rotation %v, each %d days, want each %d", rotation.KeyRotationEnabled, aws.ToInt32(rotation.RotationPeriodInDays), period)
	}
	grants := must(sdk.ListGrants(ctx, &kms.ListGrantsInput{KeyId: keyOf(t, sdk, alias)}))(t).Grants
	if len(grants) != 1 || aws.ToString(grants[0].Name) != "app-"+stage || grants[0].Constraints.EncryptionContextEquals["tenant"] != "shop" {
		t.Errorf("got %d grants, want one of stage %s", len(grants), stage)
	}
	there := s.sdk(in(otherRegion))
	replica := must(there.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String("alias/in-two-regions")}))(t).KeyMetadata
	if got := replica.MultiRegionConfiguration; got.MultiRegionKeyType != types.MultiRegionKeyTypeReplica || aws.ToString(got.PrimaryKey.Region) != region {
		t.Errorf("got %+v, want a replica", got)
	}
	imported := 0
	for _, k := range s.keys(t, sdk) {
		if k.Origin == types.OriginTypeExternal && k.ValidTo != nil {
			if imported++; !k.ValidTo.Equal(end) {
				t.Errorf("imported material ends at %v, want %v", k.ValidTo, end)
			}
		}
	}
	if imported != 1 {
		t.Errorf("%d keys of imported material with an end, want 1", imported)
	}
}

// keyOf is the id of an alias's key.
func keyOf(t *testing.T, sdk *kms.Client, alias string) *string {
	t.Helper()
	return must(sdk.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &alias}))(t).KeyMetadata.KeyId
}

// keys are all keys of a Region.
func (s *server) keys(t *testing.T, sdk *kms.Client) (all []*types.KeyMetadata) {
	t.Helper()
	for _, k := range must(sdk.ListKeys(t.Context(), &kms.ListKeysInput{}))(t).Keys {
		all = append(all, must(sdk.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: k.KeyId}))(t).KeyMetadata)
	}
	return all
}

func (s *server) hasNothingButKeysThatEnd(t *testing.T) {
	t.Helper()
	for _, r := range []string{region, otherRegion} {
		sdk := s.sdk(in(r))
		all := s.keys(t, sdk)
		if len(all) == 0 {
			t.Errorf("no keys at all in %s", r)
		}
		for _, k := range all {
			if k.KeyState != types.KeyStatePendingDeletion && k.KeyState != types.KeyStatePendingReplicaDeletion {
				t.Errorf("%s is %s, want one that ends", *k.Arn, k.KeyState)
			}
			if grants := must(sdk.ListGrants(t.Context(), &kms.ListGrantsInput{KeyId: k.KeyId}))(t).Grants; len(grants) != 0 {
				t.Errorf("%s has still %d grants", *k.Arn, len(grants))
			}
		}
		if aliases := must(sdk.ListAliases(t.Context(), &kms.ListAliasesInput{}))(t).Aliases; len(aliases) != 0 {
			t.Errorf("there are still %d aliases in %s", len(aliases), r)
		}
	}
}
