package interop

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// TestTerraformCustomKeyStore makes custom key stores on SoftHSM, a key in one, and
// takes away what can be taken away.
func TestTerraformCustomKeyStore(t *testing.T) {
	t.Parallel()
	library, conf := softHSM(t)
	newTerraform(t, &server{}, "cloudhsm") // skips before anything is built
	const password = "1234567"
	for _, label := range []string{"cde", "spare"} {
		cmd := exec.Command("softhsm2-util", "--init-token", "--free", "--label", label, "--pin", password, "--so-pin", "so-"+password)
		cmd.Env = append(os.Environ(), conf)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("softhsm2-util: %v: %s", err, out)
		}
	}
	anchor := filepath.Join(t.TempDir(), "hsm-ca.crt")
	if err := os.WriteFile(anchor, certificate(t), 0o600); err != nil {
		t.Fatal(err)
	}
	clusters := ""
	for id, label := range map[string]string{"cluster-2a3b4c5d6e7": "cde", "cluster-2a3b4c5d6e6": "spare"} {
		clusters += fmt.Sprintf("[key_service.clusters.%s]\nlibrary = %q\ntoken = %q\ntrust_anchor_file = %q\n", id, library, label, anchor)
	}
	s, err := startServer(binaryOfPKCS11, clusters, conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Errorf("the server did not stop cleanly: %v\n%s", err, s.log)
		}
	})
	tf, sdk := newTerraform(t, s, "cloudhsm"), s.sdk()
	tf.set("password", password)
	tf.set("trust_anchor", string(must(os.ReadFile(anchor))(t)))
	tf.run(t, "terraform init")
	tf.run(t, "terraform apply -auto-approve")
	tf.settled(t)
	var stores struct{ CDE, Spare string }
	if tf.output(t, "stores", &stores); stores.Spare != "spare" || !strings.HasPrefix(stores.CDE, "cks-") {
		t.Errorf("got %+v", stores)
	}
	if _, err := sdk.ConnectCustomKeyStore(t.Context(), &kms.ConnectCustomKeyStoreInput{CustomKeyStoreId: &stores.CDE}); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		store := must(sdk.DescribeCustomKeyStores(t.Context(), &kms.DescribeCustomKeyStoresInput{CustomKeyStoreId: &stores.CDE}))(t).CustomKeyStores[0]
		if store.ConnectionState == types.ConnectionStateTypeConnected {
			break
		}
		if store.ConnectionState == types.ConnectionStateTypeFailed || time.Now().After(deadline) {
			t.Fatalf("the store is %s: %s", store.ConnectionState, store.ConnectionErrorCode)
		}
	}

	tf.set("stage", "2")
	tf.run(t, "terraform apply -auto-approve")
	tf.settled(t)
	keys := s.keys(t, sdk)
	if len(keys) != 1 || keys[0].Origin != types.OriginTypeAwsCloudhsm || *keys[0].CustomKeyStoreId != stores.CDE || *keys[0].CloudHsmClusterId != "cluster-2a3b4c5d6e7" {
		t.Fatalf("got %d keys, want one in the custom key store", len(keys))
	}
	sealed := must(sdk.Encrypt(t.Context(), &kms.EncryptInput{KeyId: keys[0].Arn, Plaintext: []byte("a data key")}))(t)
	if opened := must(sdk.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob}))(t); string(opened.Plaintext) != "a data key" {
		t.Error("decrypted another plaintext")
	}

	// A store that is connected, or has keys, if only such that end, stays; as in AWS.
	// The provider says nothing of that.
	tf.run(t, "terraform destroy -auto-approve")
	left := must(sdk.DescribeCustomKeyStores(t.Context(), &kms.DescribeCustomKeyStoresInput{}))(t).CustomKeyStores
	if len(left) != 1 || *left[0].CustomKeyStoreName != "cde in use" {
		t.Errorf("%d custom key stores are left, want the one with a key", len(left))
	}
	end := func() error {
		_, err := sdk.DeleteCustomKeyStore(t.Context(), &kms.DeleteCustomKeyStoreInput{CustomKeyStoreId: &stores.CDE})
		return err
	}
	refused(t, end(), "CustomKeyStoreInvalidStateException")
	if _, err := sdk.DisconnectCustomKeyStore(t.Context(), &kms.DisconnectCustomKeyStoreInput{CustomKeyStoreId: &stores.CDE}); err != nil {
		t.Fatal(err)
	}
	refused(t, end(), "CustomKeyStoreHasCMKsException")
	if key := s.keys(t, sdk)[0]; key.KeyState != types.KeyStatePendingDeletion {
		t.Errorf("the key is %s, want %s", key.KeyState, types.KeyStatePendingDeletion)
	}
}

// softHSM is the library and what must be in the environment of programs that use it,
// so that they have their tokens in a folder of the test alone.
func softHSM(t *testing.T) (library, env string) {
	t.Helper()
	for _, path := range []string{os.Getenv("CARDEA_TEST_PKCS11"), "/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so", "/usr/local/lib/softhsm/libsofthsm2.so"} {
		if _, err := os.Stat(path); path != "" && err == nil {
			library = path
			break
		}
	}
	if _, err := exec.LookPath("softhsm2-util"); err != nil || library == "" {
		t.Skip("SoftHSM is not installed (Debian: apt-get install softhsm2)")
	}
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("the build with the tag pkcs11 needs a C compiler")
	}
	dir := t.TempDir()
	tokens, conf := filepath.Join(dir, "tokens"), filepath.Join(dir, "softhsm2.conf")
	if err := os.Mkdir(tokens, 0o700); err != nil {
		t.Fatal(err)
	}
	text := "directories.tokendir = " + tokens + "\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return library, "SOFTHSM2_CONF=" + conf
}

// certificate is that of a cluster, in PEM.
func certificate(t *testing.T) []byte {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "HSM of the CDE"}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))(t)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
