package interop

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	mpl "github.com/aws/aws-cryptographic-material-providers-library/releases/go/mpl/awscryptographymaterialproviderssmithygeneratedtypes"
	esdk "github.com/aws/aws-encryption-sdk/releases/go/encryption-sdk/awscryptographyencryptionsdksmithygenerated"
	esdktypes "github.com/aws/aws-encryption-sdk/releases/go/encryption-sdk/awscryptographyencryptionsdksmithygeneratedtypes"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// files runs the commands that encrypt files, as a user with AWS's configuration.
func (s *server) files(t testing.TB, stdin []byte, args ...string) ([]byte, error) {
	t.Helper()
	cmd := exec.Command(s.cmd.Path, args...)
	cmd.Env = append(os.Environ(), "AWS_SHARED_CREDENTIALS_FILE="+s.credentials, "AWS_CONFIG_FILE="+os.DevNull, "AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=",
		"AWS_SESSION_TOKEN=", "AWS_PROFILE=default", "AWS_REGION="+region, "AWS_ENDPOINT_URL_KMS="+s.url, "AWS_EC2_METADATA_DISABLED=true", "NO_PROXY=127.0.0.1")
	var out, problem bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &out, &problem
	if err := cmd.Run(); err != nil {
		return out.Bytes(), fmt.Errorf("cardea %s: %w: %s", strings.Join(args, " "), err, problem.String())
	}
	return out.Bytes(), nil
}

func contextFlags(context map[string]string) []string {
	var flags []string
	for k, v := range context {
		flags = append(flags, "--context", k+"="+v)
	}
	return flags
}

// TestEncryptionSDKOpensOurFiles: lengths around frames, with and without a
// signature, long frames and short ones.
func TestEncryptionSDKOpensOurFiles(t *testing.T) {
	t.Parallel()
	s, e := serve(t), newEncryptionSDK(t)
	sdk := s.sdk()
	arn, other := newKey(t, sdk, kms.CreateKeyInput{}), newKey(t, sdk, kms.CreateKeyInput{})
	context := map[string]string{"tenant": "shop", "purpose": "é"}
	for _, c := range []struct {
		length int
		flags  []string
	}{
		{0, nil},
		{1, nil},
		{65536, nil},
		{65537, nil},
		{131072, nil},
		{100_000, []string{"--sign"}},
		{200, []string{"--frame-length", "1"}},
		{8192, []string{"--frame-length", "4096", "--sign"}},
		{1_100_000, []string{"--frame-length", "1048576"}},
	} {
		plain := bytes.Repeat([]byte("x1"), c.length/2+1)[:c.length]
		sealed := must(s.files(t, plain, append(append([]string{"encrypt", "--key-id", arn, "--key-id", other}, contextFlags(context)...), c.flags...)...))(t)
		for _, k := range []string{arn, other} {
			out, err := e.Decrypt(t.Context(), esdktypes.DecryptInput{Ciphertext: sealed, EncryptionContext: context, Keyring: e.keyring(t, sdk, k)})
			if err != nil || !bytes.Equal(out.Plaintext, plain) {
				t.Errorf("%d bytes, %q: %v", c.length, c.flags, err)
			}
		}
		if c.length > 10_000 {
			sealed[len(sealed)-5] ^= 1
			e.refuses(t, e.keyring(t, sdk, arn), sealed, context)
		}
	}
}

// TestWeOpenFilesOfTheEncryptionSDK: each of its algorithm suites, and frames as it
// and others choose them.
func TestWeOpenFilesOfTheEncryptionSDK(t *testing.T) {
	t.Parallel()
	s, e := serve(t), newEncryptionSDK(t)
	sdk := s.sdk()
	arn := newKey(t, sdk, kms.CreateKeyInput{})
	k := e.keyring(t, sdk, arn)
	forbid := mpl.ESDKCommitmentPolicyForbidEncryptAllowDecrypt
	old := must(esdk.NewClient(esdktypes.AwsEncryptionSdkConfig{CommitmentPolicy: &forbid}))(t)
	dir := t.TempDir()
	for _, suite := range mpl.ESDKAlgorithmSuiteId("").Values() {
		for _, frame := range []int64{7, 4096} {
			client, committed := e.Client, true
			if suite != mpl.ESDKAlgorithmSuiteIdAlgAes256GcmHkdfSha512CommitKey && suite != mpl.ESDKAlgorithmSuiteIdAlgAes256GcmHkdfSha512CommitKeyEcdsaP384 {
				client, committed = old, false
			}
			plain := message[:7*60]
			sealed := must(client.Encrypt(t.Context(), esdktypes.EncryptInput{Plaintext: plain, EncryptionContext: shop, Keyring: k, AlgorithmSuiteId: &suite, FrameLength: &frame}))(t).Ciphertext
			in, out := filepath.Join(dir, "in"), filepath.Join(dir, fmt.Sprint("out-", suite, frame))
			if err := os.WriteFile(in, sealed, 0o600); err != nil {
				t.Fatal(err)
			}
			decrypt := append([]string{"decrypt", "--key-id", arn, "--in", in, "--out", out}, contextFlags(shop)...)
			if !committed {
				_, err := s.files(t, nil, decrypt...)
				refused(t, err, "the message has no key commitment")
				decrypt = append(decrypt, "--allow-uncommitted")
			}
			must(s.files(t, nil, decrypt...))(t)
			if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%s, frames of %d: %d bytes, %v", suite, frame, len(got), err)
			}
			sealed[len(sealed)-150] ^= 1
			_, err := s.files(t, sealed, "decrypt", "--key-id", arn, "--allow-uncommitted", "--release-before-signature")
			refused(t, err, "is not authentic")
		}
	}
}

// TestRequiredContextBothWays: pairs that are not in the message are authenticated in
// the same way.
func TestRequiredContextBothWays(t *testing.T) {
	t.Parallel()
	s, e := serve(t), newEncryptionSDK(t)
	sdk := s.sdk()
	arn := newKey(t, sdk, kms.CreateKeyInput{})
	cmm := must(e.providers.CreateRequiredEncryptionContextCMM(t.Context(), mpl.CreateRequiredEncryptionContextCMMInput{
		UnderlyingCMM:                 must(e.providers.CreateDefaultCryptographicMaterialsManager(t.Context(), mpl.CreateDefaultCryptographicMaterialsManagerInput{Keyring: e.keyring(t, sdk, arn)}))(t),
		RequiredEncryptionContextKeys: []string{"tenant"},
	}))(t)
	ours := must(s.files(t, message, "encrypt", "--key-id", arn, "--required-context", "tenant=shop", "--context", "purpose=backup"))(t)
	out, err := e.Decrypt(t.Context(), esdktypes.DecryptInput{Ciphertext: ours, EncryptionContext: map[string]string{"tenant": "shop"}, MaterialsManager: cmm})
	if err != nil || !bytes.Equal(out.Plaintext, message) {
		t.Errorf("theirs does not open ours: %v", err)
	}
	theirs := must(e.Encrypt(t.Context(), esdktypes.EncryptInput{Plaintext: message, EncryptionContext: shop, MaterialsManager: cmm}))(t).Ciphertext
	open := []string{"decrypt", "--key-id", arn, "--release-before-signature"}
	if got, err := s.files(t, theirs, append(open, "--context", "tenant=shop")...); err != nil || !bytes.Equal(got, message) {
		t.Errorf("ours does not open theirs: %v", err)
	}
	_, err = s.files(t, theirs, open...)
	refused(t, err, "pairs that are not stored in it are given by --context")
	_, err = s.files(t, theirs, append(open, "--context", "tenant=bank")...)
	refused(t, err, "pairs that are not stored in it are given by --context")
}

// TestRewrappedFileOpensInTheOtherRegion moves a file of AWS's library to a
// multi-Region key, by whose replica it is then read.
func TestRewrappedFileOpensInTheOtherRegion(t *testing.T) {
	t.Parallel()
	s, e := serve(t), newEncryptionSDK(t)
	yes, region2 := true, otherRegion
	here, there := s.sdk(), s.sdk(in(otherRegion))
	arn, multi := newKey(t, here, kms.CreateKeyInput{}), newKey(t, here, kms.CreateKeyInput{MultiRegion: &yes})
	replica := *must(here.ReplicateKey(t.Context(), &kms.ReplicateKeyInput{KeyId: &multi, ReplicaRegion: &region2}))(t).ReplicaKeyMetadata.Arn
	old := e.encrypt(t, e.keyring(t, here, arn), shop)
	rewrapped := must(s.files(t, old, "rewrap", "--from-key-id", arn, "--key-id", multi))(t)
	if got, err := s.files(t, rewrapped, "decrypt", "--key-id", replica, "--release-before-signature"); err != nil || !bytes.Equal(got, message) {
		t.Errorf("the replica does not open it: %v", err)
	}
	k := must(e.providers.CreateAwsKmsMrkKeyring(t.Context(), mpl.CreateAwsKmsMrkKeyringInput{KmsClient: there, KmsKeyId: replica}))(t)
	e.opens(t, k, rewrapped, shop)
	e.refuses(t, e.keyring(t, here, arn), rewrapped, shop, "No Encrypted Data Keys found to match")
	var exit *exec.ExitError
	if _, err := s.files(t, rewrapped, "decrypt", "--key-id", arn); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("the old key: %v", err)
	}
}
