//go:build pkcs11 && cgo

package pkcs11

import (
	"context"
	"encoding/pem"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"cardea/internal/kms"
	"cardea/internal/kms/kmstest"
	"cardea/internal/secret"
)

const (
	clusterID    = "cluster-aaaaaaaaaaa"
	otherCluster = "cluster-bbbbbbbbbbb"
)

var trustAnchor = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("an authority")}))

// service is a key service with a token as its one cluster, and another that is not there.
func service(t testing.TB) (f *kmstest.Fixture, lib *library, folder string) {
	t.Helper()
	where, folder := newToken(t)
	stores, err := NewKeyStores(map[string]Cluster{
		clusterID: {Token: where, TrustAnchor: trustAnchor}, otherCluster: {Token: Token{where.Library, "not there"}},
	}, fast)
	if err != nil {
		t.Fatal(err)
	}
	f = kmstest.New(t, func(o *kms.Options) { o.KeyStores = stores })
	t.Cleanup(func() { stop(t, f) })
	lib, err = libraryAt(where.Library)
	if err != nil {
		t.Fatal(err)
	}
	return f, lib, folder
}

func stop(t testing.TB, f *kmstest.Fixture) {
	t.Helper()
	if err := f.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

func password(s string) kms.Password { return kms.Password{Bytes: secret.Copy([]byte(s))} }

func createStore(t testing.TB, f *kmstest.Fixture, cluster, pin string) string {
	t.Helper()
	out, err := f.CreateCustomKeyStore(t.Context(), kmstest.Admin(t), &kms.CreateCustomKeyStoreInput{
		CustomKeyStoreName: "store", CloudHSMClusterID: cluster, KeyStorePassword: password(pin), TrustAnchorCertificate: trustAnchor,
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.CustomKeyStoreID
}

func connect(t testing.TB, f *kmstest.Fixture, id string) {
	t.Helper()
	if err := f.ConnectCustomKeyStore(t.Context(), kmstest.Admin(t), &kms.ConnectCustomKeyStoreInput{CustomKeyStoreID: id}); err != nil {
		t.Fatal(err)
	}
}

func disconnect(t testing.TB, f *kmstest.Fixture, id string) {
	t.Helper()
	if err := f.DisconnectCustomKeyStore(t.Context(), kmstest.Admin(t), &kms.DisconnectCustomKeyStoreInput{CustomKeyStoreID: id}); err != nil {
		t.Fatal(err)
	}
}

// outcome waits until connecting has ended.
func outcome(t testing.TB, f *kmstest.Fixture, id string) (kms.ConnectionState, string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); runtime.Gosched() {
		out, err := f.DescribeCustomKeyStores(t.Context(), kmstest.Admin(t), &kms.DescribeCustomKeyStoresInput{CustomKeyStoreID: id})
		if err != nil {
			t.Fatal(err)
		}
		if s := out.CustomKeyStores[0]; s.ConnectionState != kms.Connecting {
			return s.ConnectionState, s.ConnectionErrorCode
		}
	}
	t.Fatal("still connecting")
	return "", ""
}

func connected(t testing.TB, f *kmstest.Fixture, id string) {
	t.Helper()
	if state, code := outcome(t, f, id); state != kms.Connected {
		t.Fatalf("the key store is %s, %s", state, code)
	}
}

func createKey(t testing.TB, f *kmstest.Fixture, store string) (*kms.KeyMetadata, error) {
	t.Helper()
	out, err := f.CreateKey(t.Context(), kmstest.Admin(t), &kms.CreateKeyInput{Origin: kms.OriginCloudHSM, CustomKeyStoreID: store})
	if err != nil {
		return nil, err
	}
	return out.KeyMetadata, nil
}

var pairs = map[string]string{"purpose": "test"}

func encrypt(t testing.TB, f *kmstest.Fixture, key string) ([]byte, error) {
	t.Helper()
	out, err := f.Encrypt(t.Context(), kmstest.Admin(t), &kms.EncryptInput{KeyID: key, Plaintext: pin("a secret"), EncryptionContext: pairs})
	if err != nil {
		return nil, err
	}
	return out.CiphertextBlob, nil
}

func decrypts(t testing.TB, f *kmstest.Fixture, blob []byte) {
	t.Helper()
	out, err := f.Decrypt(t.Context(), kmstest.Admin(t), &kms.DecryptInput{CiphertextBlob: blob, EncryptionContext: pairs})
	if err != nil || string(out.Plaintext.Expose()) != "a secret" {
		t.Fatalf("decrypt: %v, or another plaintext", err)
	}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// objectsIn counts the objects in the token: SoftHSM has a file for each.
func objectsIn(t testing.TB, folder string) int {
	t.Helper()
	n := 0
	for _, token := range must(os.ReadDir(folder))(t) {
		for _, f := range must(os.ReadDir(folder + "/" + token.Name()))(t) {
			if strings.HasSuffix(f.Name(), ".object") && f.Name() != "token.object" {
				n++
			}
		}
	}
	return n
}

func TestLifeOfACustomKeyStore(t *testing.T) {
	f, lib, folder := service(t)
	id := createStore(t, f, clusterID, testPIN)
	_, err := createKey(t, f, id)
	kmstest.Refused(t, err, "CustomKeyStoreInvalidStateException", "Custom key store "+id+" is DISCONNECTED; it must be CONNECTED.")
	connect(t, f, id)
	connected(t, f, id)

	k := must(createKey(t, f, id))(t)
	if k.CustomKeyStoreID != id || k.CloudHSMClusterID != clusterID || k.Origin != kms.OriginCloudHSM || k.KeyState != kms.StateEnabled {
		t.Errorf("metadata: %+v", k)
	}
	if n := objectsIn(t, folder); n != 1 {
		t.Errorf("%d keys are in the token", n)
	}
	blob := must(encrypt(t, f, k.KeyID))(t)
	decrypts(t, f, blob)
	_, err = f.Decrypt(t.Context(), kmstest.Admin(t), &kms.DecryptInput{CiphertextBlob: blob})
	kmstest.Refused(t, err, kms.CodeInvalidCiphertext, "")
	blob[len(blob)-1] ^= 1
	_, err = f.Decrypt(t.Context(), kmstest.Admin(t), &kms.DecryptInput{CiphertextBlob: blob, EncryptionContext: pairs})
	kmstest.Refused(t, err, kms.CodeInvalidCiphertext, "")
	blob[len(blob)-1] ^= 1
	data := must(f.GenerateDataKey(t.Context(), kmstest.Admin(t), &kms.GenerateDataKeyInput{KeyID: k.KeyID, KeySpec: kms.DataKeyAES256}))(t)
	back := must(f.Decrypt(t.Context(), kmstest.Admin(t), &kms.DecryptInput{CiphertextBlob: data.CiphertextBlob}))(t)
	if !back.Plaintext.Equal(data.Plaintext) || data.Plaintext.Len() != 32 {
		t.Error("the data key is another after it was opened")
	}

	disconnect(t, f, id)
	_, err = encrypt(t, f, k.KeyID)
	kmstest.Refused(t, err, kms.CodeInvalidState, k.ARN+" is unavailable because its custom key store "+id+" is DISCONNECTED.")
	if lib.initialised || len(lib.tokens) > 0 {
		t.Error("a disconnected key store is still logged in to")
	}
	err = f.DeleteCustomKeyStore(t.Context(), kmstest.Admin(t), &kms.DeleteCustomKeyStoreInput{CustomKeyStoreID: id})
	kmstest.Refused(t, err, "CustomKeyStoreHasCMKsException", "Custom key store "+id+" contains 1 KMS keys.")
	connect(t, f, id)
	connected(t, f, id)
	decrypts(t, f, blob)

	stop(t, f)
	f.Restart(t) // another process takes up the connection at the first use
	decrypts(t, f, blob)

	days := int32(7)
	must(f.ScheduleKeyDeletion(t.Context(), kmstest.Admin(t), &kms.ScheduleKeyDeletionInput{KeyID: k.KeyID, PendingWindowInDays: &days}))(t)
	f.Clock.Advance(7*24*time.Hour + time.Minute)
	if err := f.RunDue(t.Context(), f.Clock.Now()); err != nil {
		t.Fatal(err)
	}
	if n := objectsIn(t, folder); n != 0 {
		t.Errorf("%d keys are left in the token after the key was deleted", n)
	}
	disconnect(t, f, id)
	if err := f.DeleteCustomKeyStore(t.Context(), kmstest.Admin(t), &kms.DeleteCustomKeyStoreInput{CustomKeyStoreID: id}); err != nil {
		t.Error(err)
	}
}

func TestKeyStoreThatCannotBeConnected(t *testing.T) {
	f, _, _ := service(t)
	for _, tc := range []struct{ cluster, pin, code string }{
		{clusterID, "pin-of-nobody", kms.ConnectInvalidCredentials}, {otherCluster, testPIN, kms.ConnectInsufficientHSMs},
	} {
		id := createStore(t, f, tc.cluster, tc.pin)
		connect(t, f, id)
		if state, code := outcome(t, f, id); state != kms.ConnectFailed || code != tc.code {
			t.Errorf("the key store is %s, %s, want %s", state, code, tc.code)
		}
		e := f.Last(t)
		for _, e = range f.Entries(t) {
			if strings.Contains(e.Detail, tc.pin) {
				t.Error("the PIN is in the audit log")
			}
		}
		disconnect(t, f, id)
		if tc.cluster == otherCluster {
			continue
		}
		err := f.UpdateCustomKeyStore(t.Context(), kmstest.Admin(t), &kms.UpdateCustomKeyStoreInput{CustomKeyStoreID: id, KeyStorePassword: password(testPIN)})
		if err != nil {
			t.Fatal(err)
		}
		connect(t, f, id)
		connected(t, f, id)
		disconnect(t, f, id)
		if err := f.DeleteCustomKeyStore(t.Context(), kmstest.Admin(t), &kms.DeleteCustomKeyStoreInput{CustomKeyStoreID: id}); err != nil {
			t.Fatal(err)
		}
	}
}

// A token that goes away and comes back takes its keys along, without anybody's help.
func TestTokenThatComesBack(t *testing.T) {
	f, lib, folder := service(t)
	id := createStore(t, f, clusterID, testPIN)
	connect(t, f, id)
	connected(t, f, id)
	k := must(createKey(t, f, id))(t)
	blob := must(encrypt(t, f, k.KeyID))(t)
	plugIn := unplug(t, &Backend{token: lib.tokens[testLabel]}, folder)
	const text = "The device of the custom key store cannot be reached. Try again later."
	_, err := encrypt(t, f, k.KeyID)
	kmstest.Refused(t, err, kms.CodeKeyUnavailable, text)
	_, err = createKey(t, f, id)
	kmstest.Refused(t, err, kms.CodeKeyUnavailable, text)
	plugIn()
	decrypts(t, f, blob)
}
