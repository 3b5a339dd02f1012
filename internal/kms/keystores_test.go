package kms_test

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cardea/internal/audit"
	"cardea/internal/bubble"
	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/kms/kmstest"
	"cardea/internal/secret"
)

const (
	clusterA     = "cluster-aaaaaaaaaaa"
	otherCluster = "cluster-bbbbbbbbbbb"
	thirdCluster = "cluster-ccccccccccc"
)

// anchor is a trust anchor; only its bytes count.
func anchor(name string) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte(name)}))
}

// devices are clusters that are logged in to with the password "password".
type devices struct {
	mu      sync.Mutex
	backend *kmstest.Backend
	err     error
	wait    chan struct{} // logins wait until it is closed, if it is there
	logins  int
	open    int
}

// session is a login, which can be ended.
type session struct {
	kms.Backend
	d *devices
}

func (s *session) Close() error {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	s.d.open--
	return nil
}

func (d *devices) Connect(ctx context.Context, _ string, password secret.Bytes) (kms.Backend, error) {
	if d.wait != nil {
		select {
		case <-d.wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.logins++
	if d.err != nil {
		return nil, d.err
	}
	if string(password.Expose()) != "password" {
		return nil, &kms.ConnectError{Code: kms.ConnectInvalidCredentials, Err: errors.New("CKR_PIN_INCORRECT")}
	}
	d.open++
	return &session{d.backend, d}, nil
}

func (*devices) Clusters() map[string]string {
	return map[string]string{clusterA: anchor("one"), otherCluster: anchor("one"), thirdCluster: anchor("three")}
}

// fail has logins fail.
func (d *devices) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = err
}

func (d *devices) counts() (logins, open int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.logins, d.open
}

// withDevices makes a fixture with clusters. It must be closed in a bubble.
func withDevices(t testing.TB, more ...func(*kms.Options)) (*kmstest.Fixture, *devices) {
	t.Helper()
	d := &devices{backend: kmstest.NewBackend(t)}
	return kmstest.New(t, append(more, func(o *kms.Options) { o.KeyStores = d })...), d
}

func password(s string) kms.Password { return kms.Password{Bytes: secret.Copy([]byte(s))} }

func createStore(t testing.TB, f *kmstest.Fixture, name string, change ...func(*kms.CreateCustomKeyStoreInput)) string {
	t.Helper()
	in := kms.CreateCustomKeyStoreInput{
		CustomKeyStoreName: name, CloudHSMClusterID: clusterA, KeyStorePassword: password("password"), TrustAnchorCertificate: anchor("one"),
	}
	for _, c := range change {
		c(&in)
	}
	return must(f.CreateCustomKeyStore(t.Context(), kmstest.Admin(t), &in))(t).CustomKeyStoreID
}

func storeEntry(t testing.TB, f *kmstest.Fixture, id string) kms.CustomKeyStoresListEntry {
	t.Helper()
	out := must(f.DescribeCustomKeyStores(t.Context(), kmstest.Admin(t), &kms.DescribeCustomKeyStoresInput{CustomKeyStoreID: id}))(t)
	if len(out.CustomKeyStores) != 1 {
		t.Fatalf("%d custom key stores have the id %s", len(out.CustomKeyStores), id)
	}
	return out.CustomKeyStores[0]
}

func wantConnection(t testing.TB, f *kmstest.Fixture, id string, state kms.ConnectionState, code string) {
	t.Helper()
	if e := storeEntry(t, f, id); e.ConnectionState != state || e.ConnectionErrorCode != code {
		t.Errorf("custom key store is %s %s, want %s %s", e.ConnectionState, e.ConnectionErrorCode, state, code)
	}
}

func connect(t testing.TB, f *kmstest.Fixture, id string) {
	t.Helper()
	ok(t, f.ConnectCustomKeyStore(t.Context(), kmstest.Admin(t), &kms.ConnectCustomKeyStoreInput{CustomKeyStoreID: id}))
	synctest.Wait()
}

// sleep lets the bubble's time pass, and all be done that is to be done by then: a job
// whose tick comes at the same instant would otherwise run beside the test.
func sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func disconnect(t testing.TB, f *kmstest.Fixture, id string) error {
	t.Helper()
	return f.DisconnectCustomKeyStore(t.Context(), kmstest.Admin(t), &kms.DisconnectCustomKeyStoreInput{CustomKeyStoreID: id})
}

// inStore makes a key in the store.
func inStore(t testing.TB, f *kmstest.Fixture, id string) *kms.KeyMetadata {
	t.Helper()
	return createKey(t, f, kms.CreateKeyInput{Origin: kms.OriginCloudHSM, CustomKeyStoreID: id})
}

func TestKeysOfACustomKeyStoreLiveAndDieWithItsConnection(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		f, d := withDevices(t)
		admin := kmstest.Admin(t)
		id := createStore(t, f, "hsm")
		if len(id) != 21 || !strings.HasPrefix(id, "cks-") {
			t.Errorf("id is %s", id)
		}
		want := kms.CustomKeyStoresListEntry{
			CloudHSMClusterID: clusterA, ConnectionState: kms.Disconnected, CreationDate: f.Clock.Now(), CustomKeyStoreID: id,
			CustomKeyStoreName: "hsm", CustomKeyStoreType: kms.KeyStoreCloudHSM, TrustAnchorCertificate: anchor("one"),
		}
		if got := storeEntry(t, f, id); got != want {
			t.Errorf("the new store is %+v, want %+v", got, want)
		}
		n := len(f.Entries(t))
		connect(t, f, id)
		wantEntries(t, f, n, "ConnectCustomKeyStore "+kmstest.Region+" allowed", "FinishConnectingCustomKeyStore "+kmstest.Region+" allowed")
		e := f.Last(t)
		if p := paramsOf(e.Call.Response); e.Who.Name != "connection" || p["connectionState"] != "CONNECTED" || paramsOf(e.Call.Request)["customKeyStoreId"] != id {
			t.Errorf("entry of the connection is by %s: %v, %v", e.Who.Name, e.Call.Request, e.Call.Response)
		}
		wantConnection(t, f, id, kms.Connected, "")
		k := inStore(t, f, id)
		if k.CloudHSMClusterID != clusterA || k.CustomKeyStoreID != id || k.Origin != kms.OriginCloudHSM || k.KeyState != kms.StateEnabled {
			t.Errorf("the key is %+v", k)
		}
		sealed := encrypt(t, f, k.KeyID, "text", nil)
		opens(t, f, admin, sealed, "text")
		random := must(f.GenerateRandom(t.Context(), admin, &kms.GenerateRandomInput{NumberOfBytes: i32(16), CustomKeyStoreID: id}))(t)
		if random.Plaintext.Len() != 16 {
			t.Errorf("%d random bytes, want 16", random.Plaintext.Len())
		}

		ok(t, disconnect(t, f, id))
		if _, open := d.counts(); open != 0 {
			t.Errorf("%d logins are open after disconnecting", open)
		}
		if m := describe(t, f, admin, k.KeyID); m.KeyState != kms.StateUnavailable || m.Enabled {
			t.Errorf("the key is %s while its store is disconnected", m.KeyState)
		}
		gone := k.ARN + " is unavailable because its custom key store " + id + " is DISCONNECTED."
		_, err := f.Decrypt(t.Context(), admin, &kms.DecryptInput{CiphertextBlob: sealed})
		kmstest.Refused(t, err, kms.CodeInvalidState, gone)
		_, err = f.Encrypt(t.Context(), admin, &kms.EncryptInput{KeyID: k.KeyID, Plaintext: text("x")})
		kmstest.Refused(t, err, kms.CodeInvalidState, gone)
		_, err = f.RotateKeyOnDemand(t.Context(), admin, &kms.RotateKeyOnDemandInput{KeyID: k.KeyID})
		kmstest.Refused(t, err, kms.CodeUnsupported, k.ARN+" origin is AWS_CLOUDHSM which is not valid for this operation.")
		_, err = f.GenerateRandom(t.Context(), admin, &kms.GenerateRandomInput{NumberOfBytes: i32(16), CustomKeyStoreID: id})
		kmstest.Refused(t, err, "CustomKeyStoreInvalidStateException", "Custom key store "+id+" is DISCONNECTED; it must be CONNECTED.")
		_, err = f.GenerateRandom(t.Context(), admin, &kms.GenerateRandomInput{NumberOfBytes: i32(16), CustomKeyStoreID: "cks-0"})
		kmstest.Refused(t, err, "CustomKeyStoreNotFoundException", "Custom key store cks-0 does not exist.")
		ok(t, f.DisableKey(t.Context(), admin, &kms.DisableKeyInput{KeyID: k.KeyID})) // takes effect later
		wantState(t, f, k.KeyID, kms.StateUnavailable)
		connect(t, f, id)
		wantState(t, f, k.KeyID, kms.StateDisabled)
		ok(t, f.EnableKey(t.Context(), admin, &kms.EnableKeyInput{KeyID: k.KeyID}))
		opens(t, f, admin, sealed, "text")

		f.Restart(t) // the old service is not closed, as after a crash
		opens(t, f, admin, sealed, "text")
		if logins, _ := d.counts(); logins != 3 {
			t.Errorf("%d logins, want one for each connection and one after the restart", logins)
		}
		for _, line := range f.Store.Entries() {
			if strings.Contains(line, `"password"`) || strings.Contains(line, base64.StdEncoding.EncodeToString([]byte("password"))[:10]) {
				t.Fatal("the audit log holds a password")
			}
		}
		ok(t, f.Close(t.Context()))
	})
}

func TestConnectionsThatFail(t *testing.T) {
	t.Parallel()
	for code, err := range map[string]error{
		kms.ConnectUserLockedOut: &kms.ConnectError{Code: kms.ConnectUserLockedOut, Err: errors.New("CKR_PIN_LOCKED")},
		kms.ConnectNetworkErrors: fmt.Errorf("dial: %w", context.DeadlineExceeded),
		kms.ConnectInternalError: errors.New("no such module"),
		kms.ConnectUserNotFound:  fmt.Errorf("login: %w", &kms.ConnectError{Code: kms.ConnectUserNotFound, Err: errors.New("no user")}),
	} {
		bubble.Test(t, func(t *testing.T) {
			f, d := withDevices(t)
			id := createStore(t, f, "hsm")
			d.fail(err)
			connect(t, f, id)
			wantConnection(t, f, id, kms.ConnectFailed, code)
			es := f.Entries(t)
			i := slices.IndexFunc(es, func(e audit.Entry) bool { return e.Call.Event == "FinishConnectingCustomKeyStore" })
			if p := paramsOf(es[i].Call.Response); p["connectionState"] != "FAILED" || p["connectionErrorCode"] != code {
				t.Errorf("%s: entry says %v", code, p)
			}
			cerr := f.ConnectCustomKeyStore(t.Context(), kmstest.Admin(t), &kms.ConnectCustomKeyStoreInput{CustomKeyStoreID: id})
			kmstest.Refused(t, cerr, "CustomKeyStoreInvalidStateException", "Custom key store "+id+" is FAILED; disconnect it first.")
			_, cerr = f.CreateKey(t.Context(), kmstest.Admin(t), &kms.CreateKeyInput{Origin: kms.OriginCloudHSM, CustomKeyStoreID: id})
			kmstest.Refused(t, cerr, "CustomKeyStoreInvalidStateException", "Custom key store "+id+" is FAILED; it must be CONNECTED.")
			ok(t, disconnect(t, f, id))
			d.fail(nil)
			connect(t, f, id)
			wantConnection(t, f, id, kms.Connected, "")
			ok(t, f.Close(t.Context()))
		})
	}
}

func TestWrongPasswordIsFoundWhenConnecting(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		f, _ := withDevices(t)
		id := createStore(t, f, "hsm", func(in *kms.CreateCustomKeyStoreInput) { in.KeyStorePassword = password("passw0rd") })
		connect(t, f, id)
		wantConnection(t, f, id, kms.ConnectFailed, kms.ConnectInvalidCredentials)
		ok(t, disconnect(t, f, id))
		ok(t, f.UpdateCustomKeyStore(t.Context(), kmstest.Admin(t), &kms.UpdateCustomKeyStoreInput{CustomKeyStoreID: id, KeyStorePassword: password("password")}))
		connect(t, f, id)
		wantConnection(t, f, id, kms.Connected, "")
		ok(t, f.Close(t.Context()))
	})
}

func TestCreateCustomKeyStoreRefuses(t *testing.T) {
	t.Parallel()
	f, _ := withDevices(t, func(o *kms.Options) { o.Limits.KeyStores = 2 })
	id := createStore(t, f, "hsm")
	one := "1 validation error detected: Value "
	for name, c := range map[string]struct {
		change func(*kms.CreateCustomKeyStoreInput)
		code   kms.Code
		text   string
	}{
		"no name": {func(in *kms.CreateCustomKeyStoreInput) { in.CustomKeyStoreName = "" }, kms.CodeValidation, one + "null at 'customKeyStoreName' failed to satisfy constraint: Member must not be null"},
		"short password": {
			func(in *kms.CreateCustomKeyStoreInput) { in.KeyStorePassword = password("sesame") }, kms.CodeValidation,
			one + "at 'keyStorePassword' failed to satisfy constraint: Member must have length greater than or equal to 7",
		},
		"long password": {
			func(in *kms.CreateCustomKeyStoreInput) { in.KeyStorePassword = password(strings.Repeat("p", 33)) }, kms.CodeValidation,
			one + "at 'keyStorePassword' failed to satisfy constraint: Member must have length less than or equal to 32",
		},
		"short cluster": {
			func(in *kms.CreateCustomKeyStoreInput) { in.CloudHSMClusterID = "cluster-1" }, kms.CodeValidation,
			one + "'cluster-1' at 'cloudHsmClusterId' failed to satisfy constraint: Member must have length greater than or equal to 19",
		},
		"type": {
			func(in *kms.CreateCustomKeyStoreInput) { in.CustomKeyStoreType = "USB" }, kms.CodeValidation,
			one + "'USB' at 'customKeyStoreType' failed to satisfy constraint: Member must satisfy enum value set: [AWS_CLOUDHSM, EXTERNAL_KEY_STORE]",
		},
		"external": {
			func(in *kms.CreateCustomKeyStoreInput) { in.CustomKeyStoreType = kms.KeyStoreXKS }, kms.CodeUnsupported,
			"Custom key stores of type EXTERNAL_KEY_STORE are not supported.",
		},
		"proxy": {
			func(in *kms.CreateCustomKeyStoreInput) { in.XksProxyURIPath = "/kms/xks/v1" }, kms.CodeValidation,
			"The XksProxy parameters are valid only for custom key stores of type EXTERNAL_KEY_STORE.",
		},
		"no cluster":  {func(in *kms.CreateCustomKeyStoreInput) { in.CloudHSMClusterID = "" }, kms.CodeValidation, "CloudHsmClusterId is required for custom key stores of type AWS_CLOUDHSM."},
		"no password": {func(in *kms.CreateCustomKeyStoreInput) { in.KeyStorePassword = kms.Password{} }, kms.CodeValidation, "KeyStorePassword is required for custom key stores of type AWS_CLOUDHSM."},
		"no anchor": {
			func(in *kms.CreateCustomKeyStoreInput) { in.TrustAnchorCertificate = "" }, kms.CodeValidation,
			"TrustAnchorCertificate is required for custom key stores of type AWS_CLOUDHSM.",
		},
		"unknown cluster": {
			func(in *kms.CreateCustomKeyStoreInput) { in.CloudHSMClusterID = "cluster-zzzzzzzzzzz" }, "CloudHsmClusterNotFoundException",
			"Cluster cluster-zzzzzzzzzzz does not exist.",
		},
		"other anchor": {
			func(in *kms.CreateCustomKeyStoreInput) { in.TrustAnchorCertificate = anchor("two") }, "IncorrectTrustAnchorException",
			"The trust anchor certificate is not that of cluster " + otherCluster + ".",
		},
		"no certificate": {
			func(in *kms.CreateCustomKeyStoreInput) { in.TrustAnchorCertificate = "trust me" }, "IncorrectTrustAnchorException",
			"The trust anchor certificate is not that of cluster " + otherCluster + ".",
		},
		"name in use": {func(in *kms.CreateCustomKeyStoreInput) { in.CustomKeyStoreName = "hsm" }, "CustomKeyStoreNameInUseException", "The custom key store name hsm is already in use."},
		"cluster in use": {
			func(in *kms.CreateCustomKeyStoreInput) { in.CloudHSMClusterID = clusterA }, "CloudHsmClusterInUseException",
			"Cluster " + clusterA + " is already associated with custom key store " + id + ".",
		},
	} {
		in := kms.CreateCustomKeyStoreInput{
			CustomKeyStoreName: "second", CloudHSMClusterID: otherCluster, KeyStorePassword: password("password"), TrustAnchorCertificate: anchor("one"),
		}
		c.change(&in)
		_, err := f.CreateCustomKeyStore(t.Context(), kmstest.Admin(t), &in)
		if e, is := errors.AsType[*kms.Error](err); !is || e.Code != c.code || e.Message != c.text {
			t.Errorf("%s: got %v, want %s: %s", name, err, c.code, c.text)
		}
		if e := f.Last(t); e.Call.Event != "CreateCustomKeyStore" || e.Outcome != "failed" {
			t.Errorf("%s: recorded as %s %s", name, e.Call.Event, e.Outcome)
		}
	}
	createStore(t, f, "second", func(in *kms.CreateCustomKeyStoreInput) { in.CloudHSMClusterID = otherCluster })
	_, err := f.CreateCustomKeyStore(t.Context(), kmstest.Admin(t), &kms.CreateCustomKeyStoreInput{
		CustomKeyStoreName: "third", CloudHSMClusterID: thirdCluster, KeyStorePassword: password("password"), TrustAnchorCertificate: anchor("three"),
	})
	kmstest.Refused(t, err, kms.CodeLimitExceeded, "The account has 2 custom key stores in the Region, which is the limit.")
}

func TestCustomKeyStoresAreChangedAndDeletedWhileDisconnected(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		f, _ := withDevices(t)
		admin := kmstest.Admin(t)
		id := createStore(t, f, "hsm")
		createStore(t, f, "third", func(in *kms.CreateCustomKeyStoreInput) {
			in.CloudHSMClusterID, in.TrustAnchorCertificate = thirdCluster, anchor("three")
		})
		update := func(in kms.UpdateCustomKeyStoreInput) error {
			if in.CustomKeyStoreID == "" {
				in.CustomKeyStoreID = id
			}
			return f.UpdateCustomKeyStore(t.Context(), admin, &in)
		}
		remove := func(id string) error {
			return f.DeleteCustomKeyStore(t.Context(), admin, &kms.DeleteCustomKeyStoreInput{CustomKeyStoreID: id})
		}
		kmstest.Refused(t, update(kms.UpdateCustomKeyStoreInput{NewCustomKeyStoreName: "third"}), "CustomKeyStoreNameInUseException", "The custom key store name third is already in use.")
		kmstest.Refused(t, update(kms.UpdateCustomKeyStoreInput{CloudHSMClusterID: "cluster-zzzzzzzzzzz"}), "CloudHsmClusterNotFoundException", "Cluster cluster-zzzzzzzzzzz does not exist.")
		kmstest.Refused(t, update(kms.UpdateCustomKeyStoreInput{CloudHSMClusterID: thirdCluster}), "CloudHsmClusterNotRelatedException",
			"Cluster "+thirdCluster+" has another trust anchor certificate than the custom key store.")
		kmstest.Refused(t, update(kms.UpdateCustomKeyStoreInput{CustomKeyStoreID: "cks-0", NewCustomKeyStoreName: "x"}), "CustomKeyStoreNotFoundException", "Custom key store cks-0 does not exist.")
		kmstest.Refused(t, update(kms.UpdateCustomKeyStoreInput{XksProxyURIEndpoint: "https://x"}), kms.CodeValidation,
			"The XksProxy parameters are valid only for custom key stores of type EXTERNAL_KEY_STORE.")
		ok(t, update(kms.UpdateCustomKeyStoreInput{NewCustomKeyStoreName: "renamed", CloudHSMClusterID: otherCluster}))
		if e := storeEntry(t, f, id); e.CustomKeyStoreName != "renamed" || e.CloudHSMClusterID != otherCluster {
			t.Errorf("after the change the store is %+v", e)
		}
		kmstest.Refused(t, disconnect(t, f, id), "CustomKeyStoreInvalidStateException", "Custom key store "+id+" is DISCONNECTED already.")

		connect(t, f, id)
		n := len(f.Entries(t))
		connect(t, f, id) // changes nothing
		wantEntries(t, f, n, "ConnectCustomKeyStore "+kmstest.Region+" allowed")
		k := inStore(t, f, id)
		ok(t, update(kms.UpdateCustomKeyStoreInput{NewCustomKeyStoreName: "again"}))
		wantConnection(t, f, id, kms.Connected, "")
		sealed := encrypt(t, f, k.KeyID, "text", nil)
		wrong := "Custom key store " + id + " is CONNECTED; it must be DISCONNECTED."
		kmstest.Refused(t, update(kms.UpdateCustomKeyStoreInput{KeyStorePassword: password("password")}), "CustomKeyStoreInvalidStateException", wrong)
		kmstest.Refused(t, remove(id), "CustomKeyStoreInvalidStateException", wrong)
		ok(t, disconnect(t, f, id))
		kmstest.Refused(t, remove(id), "CustomKeyStoreHasCMKsException", "Custom key store "+id+" contains 1 KMS keys.")
		kmstest.Refused(t, remove("cks-0"), "CustomKeyStoreNotFoundException", "Custom key store cks-0 does not exist.")
		connect(t, f, id)
		opens(t, f, admin, sealed, "text")

		must(f.ScheduleKeyDeletion(t.Context(), admin, &kms.ScheduleKeyDeletionInput{KeyID: k.KeyID, PendingWindowInDays: i32(7)}))(t)
		pass(t, f, 7*day)
		ok(t, disconnect(t, f, id))
		ok(t, remove(id))
		_, err := f.DescribeCustomKeyStores(t.Context(), admin, &kms.DescribeCustomKeyStoresInput{CustomKeyStoreID: id})
		kmstest.Refused(t, err, "CustomKeyStoreNotFoundException", "Custom key store "+id+" does not exist.")
		ok(t, f.Close(t.Context()))
	})
}

func TestListOfCustomKeyStores(t *testing.T) {
	t.Parallel()
	f, _ := withDevices(t)
	admin := kmstest.Admin(t)
	ids := map[string]string{}
	for name, c := range map[string]string{"a": clusterA, "b": otherCluster, "c": thirdCluster} {
		ids[name] = createStore(t, f, name, func(in *kms.CreateCustomKeyStoreInput) {
			in.CloudHSMClusterID, in.TrustAnchorCertificate = c, (&devices{}).Clusters()[c]
		})
	}
	want := slices.Sorted(maps.Values(ids))
	var got []string
	in := kms.DescribeCustomKeyStoresInput{Limit: i32(2)}
	for {
		out := must(f.DescribeCustomKeyStores(t.Context(), admin, &in))(t)
		for _, s := range out.CustomKeyStores {
			got = append(got, s.CustomKeyStoreID)
		}
		if in.Marker = out.NextMarker; !out.Truncated {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("pages have %v, want %v", got, want)
	}
	out := must(f.DescribeCustomKeyStores(t.Context(), admin, &kms.DescribeCustomKeyStoresInput{CustomKeyStoreName: "b"}))(t)
	if len(out.CustomKeyStores) != 1 || out.CustomKeyStores[0].CustomKeyStoreID != ids["b"] {
		t.Errorf("by name found %+v", out.CustomKeyStores)
	}
	_, err := f.DescribeCustomKeyStores(t.Context(), admin, &kms.DescribeCustomKeyStoresInput{CustomKeyStoreName: "d"})
	kmstest.Refused(t, err, "CustomKeyStoreNotFoundException", "Custom key store d does not exist.")
	_, err = f.DescribeCustomKeyStores(t.Context(), admin, &kms.DescribeCustomKeyStoresInput{CustomKeyStoreName: "a", CustomKeyStoreID: ids["a"]})
	kmstest.Refused(t, err, kms.CodeValidation, "You can specify either CustomKeyStoreId or CustomKeyStoreName, not both.")
	if out := must(f.DescribeCustomKeyStores(t.Context(), elsewhere(t), &kms.DescribeCustomKeyStoresInput{}))(t); len(out.CustomKeyStores) != 0 {
		t.Error("key stores of another Region are listed")
	}
	_, err = f.DescribeCustomKeyStores(t.Context(), kmstest.User(t), &kms.DescribeCustomKeyStoresInput{})
	if e, is := errors.AsType[*kms.Error](err); !is || e.Code != kms.CodeAccessDenied {
		t.Errorf("without permission got %v", err)
	}
}

func TestOtherNodesFollowAKeyStore(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		f, d := withDevices(t)
		admin := kmstest.Admin(t)
		id := createStore(t, f, "hsm")
		other := must(kms.New(kms.Options{
			Node: "other", Store: f.Store, Soft: f.Soft, Secrets: f.Soft, Now: f.Clock.Now, KeyStores: d,
			Regions: []string{kmstest.Region, kmstest.OtherRegion}, Accounts: func(context.Context, string) bool { return true },
		}))(t)
		ctx, stop := context.WithCancel(t.Context())
		var jobs sync.WaitGroup
		jobs.Go(func() { other.RunJobs(ctx) })
		connect(t, f, id)
		k := inStore(t, f, id)
		sealed := encrypt(t, f, k.KeyID, "text", nil)
		open := func() error {
			_, err := other.Decrypt(t.Context(), admin, &kms.DecryptInput{CiphertextBlob: sealed})
			return err
		}
		ok(t, open())
		if _, n := d.counts(); n != 2 {
			t.Errorf("%d logins, want one of each node", n)
		}
		ok(t, disconnect(t, f, id))
		sleep(time.Second)
		kmstest.Refused(t, open(), kms.CodeInvalidState, k.ARN+" is unavailable because its custom key store "+id+" is DISCONNECTED.")
		if _, n := d.counts(); n != 0 {
			t.Errorf("%d logins after disconnecting", n)
		}
		connect(t, f, id)
		sleep(time.Second)
		d.fail(&kms.ConnectError{Code: kms.ConnectNetworkErrors, Err: errors.New("unreachable")})
		kmstest.Refused(t, open(), kms.CodeInvalidState,
			k.ARN+" is unavailable because its custom key store "+id+" is CONNECTED, but cannot be reached from here (NETWORK_ERRORS).")
		opens(t, f, admin, sealed, "text") // this node is fine
		before, _ := d.counts()
		if open() == nil {
			t.Error("opened without a login")
		}
		if after, _ := d.counts(); after != before {
			t.Error("the login was tried again at once")
		}
		d.fail(nil)
		f.Clock.Advance(11 * time.Second)
		ok(t, open())
		stop()
		jobs.Wait()
		ok(t, other.Close(t.Context()))
		ok(t, f.Close(t.Context()))
		if _, n := d.counts(); n != 0 {
			t.Errorf("%d logins after the end", n)
		}
	})
}

func TestConnectingIsTakenOverFromANodeThatDied(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		f, _ := withDevices(t)
		id := createStore(t, f, "hsm")
		f.Update(t, func(ctx context.Context, tx kms.Tx) error { // as a node leaves it that dies while it connects
			ks, err := tx.KeyStore(ctx, kmstest.Account, kmstest.Region, id)
			if err != nil {
				return err
			}
			ks.State, ks.Since = kms.Connecting, f.Clock.Now()
			return tx.PutKeyStore(ctx, ks)
		})
		ctx, stop := context.WithCancel(t.Context())
		var jobs sync.WaitGroup
		jobs.Go(func() { f.RunJobs(ctx) })
		sleep(time.Second)
		wantConnection(t, f, id, kms.Connecting, "")
		f.Clock.Advance(time.Minute)
		n := len(f.Entries(t))
		sleep(time.Second)
		wantEntries(t, f, n, "ConnectCustomKeyStore "+kmstest.Region+" allowed", "FinishConnectingCustomKeyStore "+kmstest.Region+" allowed")
		wantConnection(t, f, id, kms.Connected, "")
		stop()
		jobs.Wait()
		ok(t, f.Close(t.Context()))
	})
}

func TestWithoutClustersThereAreNoCustomKeyStores(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	_, err := f.CreateCustomKeyStore(t.Context(), kmstest.Admin(t), &kms.CreateCustomKeyStoreInput{
		CustomKeyStoreName: "hsm", CloudHSMClusterID: clusterA, KeyStorePassword: password("password"), TrustAnchorCertificate: anchor("one"),
	})
	kmstest.Refused(t, err, "CloudHsmClusterNotFoundException", "Cluster "+clusterA+" does not exist.")
	k := f.Key(t, keyspec.SymmetricDefault, func(k *kms.Key) { k.Origin, k.KeyStoreID = kms.OriginCloudHSM, "cks-00000000000000000" })
	_, err = f.DescribeKey(t.Context(), kmstest.Admin(t), &kms.DescribeKeyInput{KeyID: k.ID})
	kmstest.Refused(t, err, kms.CodeInternal, "The custom key store could not be read.")
}

func TestConnectingMayBeGivenUp(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		f, d := withDevices(t)
		d.wait = make(chan struct{})
		id := createStore(t, f, "hsm")
		connect(t, f, id)
		wantConnection(t, f, id, kms.Connecting, "")
		_, err := f.CreateKey(t.Context(), kmstest.Admin(t), &kms.CreateKeyInput{Origin: kms.OriginCloudHSM, CustomKeyStoreID: id})
		kmstest.Refused(t, err, "CustomKeyStoreInvalidStateException", "Custom key store "+id+" is CONNECTING; it must be CONNECTED.")
		ok(t, disconnect(t, f, id))
		n := len(f.Entries(t))
		close(d.wait)
		synctest.Wait()
		wantEntries(t, f, n)
		wantConnection(t, f, id, kms.Disconnected, "")
		if logins, open := d.counts(); logins != 1 || open != 0 {
			t.Errorf("%d logins, %d of them open, want one that was ended", logins, open)
		}
		ok(t, f.Close(t.Context()))
	})
}

func TestClusterThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		f, d := withDevices(t)
		d.wait = make(chan struct{})
		id := createStore(t, f, "hsm")
		connect(t, f, id)
		sleep(30 * time.Second)
		wantConnection(t, f, id, kms.ConnectFailed, kms.ConnectNetworkErrors)
		ok(t, disconnect(t, f, id))
		connect(t, f, id)
		n := len(f.Entries(t))
		ok(t, f.Close(t.Context())) // does not wait for it, and leaves it to another node
		wantEntries(t, f, n)
		wantConnection(t, f, id, kms.Connecting, "")
	})
}

func TestKeysOfAKeyStoreThatFailed(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		f, d := withDevices(t)
		admin := kmstest.Admin(t)
		id := createStore(t, f, "hsm")
		connect(t, f, id)
		k := inStore(t, f, id)
		must(f.ListKeys(t.Context(), admin, &kms.ListKeysInput{}))(t)
		origin := k.ARN + " origin is AWS_CLOUDHSM which is not valid for this operation."
		kmstest.Refused(t, f.EnableKeyRotation(t.Context(), admin, &kms.EnableKeyRotationInput{KeyID: k.KeyID}), kms.CodeUnsupported, origin)
		_, err := f.RotateKeyOnDemand(t.Context(), admin, &kms.RotateKeyOnDemandInput{KeyID: k.KeyID})
		kmstest.Refused(t, err, kms.CodeUnsupported, origin)
		_, err = f.ListKeyRotations(t.Context(), admin, &kms.ListKeyRotationsInput{KeyID: k.KeyID})
		kmstest.Refused(t, err, kms.CodeUnsupported, origin)
		_, err = f.GetParametersForImport(t.Context(), admin, &kms.GetParametersForImportInput{
			KeyID: k.KeyID, WrappingAlgorithm: keyspec.WrapOAEPSHA256, WrappingKeySpec: keyspec.RSA2048,
		})
		kmstest.Refused(t, err, kms.CodeUnsupported, origin)

		ok(t, disconnect(t, f, id))
		d.fail(&kms.ConnectError{Code: kms.ConnectUserLockedOut, Err: errors.New("CKR_PIN_LOCKED")})
		connect(t, f, id)
		_, err = f.Encrypt(t.Context(), admin, &kms.EncryptInput{KeyID: k.KeyID, Plaintext: text("x")})
		kmstest.Refused(t, err, kms.CodeInvalidState, k.ARN+" is unavailable because its custom key store "+id+" is FAILED (USER_LOCKED_OUT).")
		d.fail(nil)
		ok(t, disconnect(t, f, id))
		connect(t, f, id)

		// A node that is configured without the cluster.
		bare := node(t, f, "bare")
		_, err = bare.Encrypt(t.Context(), admin, &kms.EncryptInput{KeyID: k.KeyID, Plaintext: text("x")})
		kmstest.Refused(t, err, kms.CodeInvalidState,
			k.ARN+" is unavailable because its custom key store "+id+" is CONNECTED, but cannot be reached from here (CLUSTER_NOT_FOUND).")

		must(f.ScheduleKeyDeletion(t.Context(), admin, &kms.ScheduleKeyDeletionInput{KeyID: k.KeyID, PendingWindowInDays: i32(7)}))(t)
		ok(t, disconnect(t, f, id))
		wantState(t, f, k.KeyID, kms.StatePendingDeletion) // so that it can be cancelled
		pass(t, f, 7*day)                                  // its material stays in the device
		ok(t, f.DeleteCustomKeyStore(t.Context(), admin, &kms.DeleteCustomKeyStoreInput{CustomKeyStoreID: id}))
		ok(t, bare.Close(t.Context()))
		ok(t, f.Close(t.Context()))
	})
}

// TestDeniedRequestsLogInNowhere: who may not use a key does not make this node log
// in to the key's cluster, nor wait for that, and learns nothing of its state.
func TestDeniedRequestsLogInNowhere(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		f, d := withDevices(t)
		id := createStore(t, f, "a")
		connect(t, f, id)
		synctest.Wait()
		k := inStore(t, f, id)
		if err := f.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.Restart(t)
		defer f.Close(t.Context())
		d.fail(errors.New("the cluster is gone"))
		before, _ := d.counts()
		for _, who := range []kms.Caller{kmstest.User(t), kmstest.Foreigner(t)} {
			_, err := f.Encrypt(t.Context(), who, &kms.EncryptInput{KeyID: k.ARN, Plaintext: text("x")})
			if e, is := errors.AsType[*kms.Error](err); !is || e.Code != kms.CodeAccessDenied {
				t.Errorf("got %v", err)
			}
			_, err = f.DescribeKey(t.Context(), who, &kms.DescribeKeyInput{KeyID: k.ARN})
			if e, is := errors.AsType[*kms.Error](err); !is || e.Code != kms.CodeAccessDenied {
				t.Errorf("got %v", err)
			}
		}
		if after, _ := d.counts(); after != before {
			t.Errorf("%d logins", after-before)
		}
		out, err := f.DescribeKey(t.Context(), kmstest.Admin(t), &kms.DescribeKeyInput{KeyID: k.ARN})
		if err != nil || out.KeyMetadata.KeyState != kms.StateUnavailable {
			t.Errorf("got %+v, %v", out, err)
		}
		if after, _ := d.counts(); after != before+1 {
			t.Errorf("%d logins for one who may", after-before)
		}
	})
}

// committedStore does something after each transaction that was committed.
type committedStore struct {
	*kmstest.Store
	after func()
}

func (s *committedStore) Update(ctx context.Context, fn func(kms.Tx) error) error {
	err := s.Store.Update(ctx, fn)
	if err == nil {
		s.after()
	}
	return err
}

// TestAConnectedKeyStoreCanBeUsedAtOnce: who finds it CONNECTED, the moment that this is
// written, is not told that it is CONNECTING, and makes the node log in no second time.
func TestAConnectedKeyStoreCanBeUsedAtOnce(t *testing.T) {
	t.Parallel()
	store := &committedStore{after: func() {}}
	f, d := withDevices(t, func(o *kms.Options) {
		store.Store = o.Store.(*kmstest.Store)
		o.Store = store
	})
	id := createStore(t, f, "hsm")
	made := make(chan error, 1)
	store.after = func() {
		ks := must(f.Store.KeyStore(t.Context(), kmstest.Account, kmstest.Region, id))(t)
		if ks.State != kms.Connected {
			return
		}
		store.after = func() {}
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, err := f.CreateKey(t.Context(), kmstest.Admin(t), &kms.CreateKeyInput{Origin: kms.OriginCloudHSM, CustomKeyStoreID: id})
			made <- err
		}()
		select { // it has to wait for the login; a moment is enough to see if it does not
		case <-done:
		case <-time.After(100 * time.Millisecond):
		}
	}
	ok(t, f.ConnectCustomKeyStore(t.Context(), kmstest.Admin(t), &kms.ConnectCustomKeyStoreInput{CustomKeyStoreID: id}))
	ok(t, <-made)
	ok(t, f.Close(t.Context()))
	if logins, open := d.counts(); logins != 1 || open != 0 {
		t.Errorf("%d logins, %d of them open after the end, want 1", logins, open)
	}
}
