package vault_test

import (
	"crypto/fips140"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"os"
	"os/exec"
	"strings"
	"testing"

	"cardea/internal/vault"
)

func fingerprint(t testing.TB, s *vault.Service, tenant, data, key, wanted string) string {
	t.Helper()
	id, err := s.Fingerprint(t.Context(), client(tenant), vault.FingerprintRequest{Tenant: tenant, Data: text(data), Key: text(key), Wanted: wanted})
	if err != nil {
		t.Fatalf("fingerprint: %v", err)
	}
	return id
}

func TestFingerprintIsTheSameForTheSameDataAndKey(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme", "beta")
	first := fingerprint(t, n.Service, "acme", visa, "key", "")
	if !vault.ValidFingerprintID(first) {
		t.Errorf("id %q is not one that may be asked for", first)
	}
	if again := fingerprint(t, n.Service, "acme", visa, "key", ""); again != first {
		t.Error("two fingerprints for one number")
	}
	others := map[string]string{
		"data":   fingerprint(t, n.Service, "acme", mastercard, "key", ""),
		"key":    fingerprint(t, n.Service, "acme", visa, "other key", ""),
		"tenant": fingerprint(t, n.Service, "beta", visa, "key", ""),
		"empty":  fingerprint(t, n.Service, "acme", "", "", ""),
	}
	seen := map[string]bool{first: true}
	for what, id := range others {
		if seen[id] {
			t.Errorf("another %s has the same fingerprint", what)
		}
		seen[id] = true
	}
	var got []string
	for _, e := range n.entries(t, 0) {
		if e.Op == "fingerprint.get" {
			got = append(got, e.Result)
			if e.Resource.Reference == "" || e.Resource.MaskedPAN != "" {
				t.Errorf("entry is of %+v", e.Resource)
			}
		}
	}
	if strings.Join(got, " ") != "created existed created created created created" {
		t.Errorf("results %q", got)
	}
}

func TestWantedFingerprintCountsOnlyIfItIsNew(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme")
	const wanted, late = "abcdefghij0123456789", "zzzzzzzzzz0123456789"
	if got := fingerprint(t, n.Service, "acme", visa, "key", wanted); got != wanted {
		t.Errorf("got %q, want the wanted one", got)
	}
	if got := fingerprint(t, n.Service, "acme", visa, "key", late); got != wanted {
		t.Errorf("got %q, want the first", got)
	}
}

func TestConcurrentFingerprintsOfOneNumberAreOne(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme")
	ids := make([]string, 64)
	together(len(ids), func(i int) {
		var err error
		ids[i], err = n.Fingerprint(t.Context(), client("acme"), vault.FingerprintRequest{Tenant: "acme", Data: text(visa), Key: text("k")})
		if err != nil {
			t.Error(err)
		}
	})
	for _, id := range ids {
		if id != ids[0] || id == "" {
			t.Fatal("two fingerprints for one number")
		}
	}
	created := 0
	for _, e := range n.entries(t, 0) {
		if told(e) == "fingerprint.get allowed created" {
			created++
		}
		if e.Op == "fingerprint.get" && e.Resource.Reference != ids[0] {
			t.Errorf("entry names %q", e.Resource.Reference)
		}
	}
	if created != 1 {
		t.Errorf("%d entries of a new fingerprint, want 1", created)
	}
}

// The peer stores HMAC-SHA-512 under a key that comes with each request: who has
// that key and the database can test every number. Ours is under a key of the
// tenant besides.
func TestCallersKeyAndDatabaseAreNotEnoughToTestNumbers(t *testing.T) {
	t.Parallel()
	v, _ := newFake(t, "acme")
	peer := func() []byte {
		inner := hmac.New(sha512.New, []byte("key"))
		inner.Write([]byte(visa))
		outer := hmac.New(sha512.New, []byte("key"))
		outer.Write(inner.Sum(nil))
		return outer.Sum(nil)
	}()
	id := fingerprint(t, v.Service, "acme", visa, "key", "")
	stored, err := v.Keys.MAC(t.Context(), "acme", vault.PurposeFingerprint, peer)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := v.Store.Fingerprint(t.Context(), stored); err != nil || got != id {
		t.Fatalf("what is stored is not the tenant's MAC over the peer's value: %v", err)
	}
	sum := sha256.Sum256(peer)
	short := hmac.New(sha256.New, []byte("key"))
	short.Write([]byte(visa))
	for name, guess := range map[string]vault.MAC{
		"the peer's value":           vault.MAC(peer[:32]),
		"its end":                    vault.MAC(peer[32:]),
		"its hash":                   sum,
		"HMAC under the key":         vault.MAC(short.Sum(nil)),
		"hash of the number":         sha256.Sum256([]byte(visa)),
		"tenant's MAC of the number": must(v.Keys.MAC(t.Context(), "acme", vault.PurposeFingerprint, []byte(visa))),
	} {
		if _, err := v.Store.Fingerprint(t.Context(), guess); err == nil {
			t.Errorf("%s finds the fingerprint", name)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// fingerprintVectors are what a Hyperswitch locker stores, by which its rows can
// be taken over: computed with OpenSSL,
//
//	printf %s DATA | openssl dgst -sha512 -mac HMAC -macopt key:KEY -binary |
//	    openssl dgst -sha512 -mac HMAC -macopt key:KEY
var fingerprintVectors = []struct{ key, data, want string }{
	{"key", visa, "07abda4331bfb1e7444697193b32d25e9117b037a18cec32a8d67dcd3e69c1743e3f6162a58ca6ae5910b56444744166476b89b8da7909d1e8ed54bdb0126b2e"},
	{
		"a-much-longer-key-than-the-block-size-of-sha-512-is-which-is-one-hundred-and-twenty-eight-bytes-so-that-it-is-hashed-first-0123456789", amex,
		"af654d3706e64a355858a27d70eae9b19487a21b8ba8744268589a3968dcf327c9faf1e6e8be4ef165afdc279cb081e06e9275356932cd83b08fb3713b680c6a",
	},
	{"k", "", "7c3365578e294724d71486f8f0003e26717b88d86dbe1291cb2e13a422af2e0aa93136c7b485414ac8b4c260967c3a8dd8302b22248c75e9870e9e8a6856c1b1"},
}

func TestInnerValueOfAFingerprintIsThePeers(t *testing.T) {
	t.Parallel()
	for _, vec := range fingerprintVectors {
		v, _ := newFake(t, "acme")
		want, err := hex.DecodeString(vec.want)
		if err != nil {
			t.Fatal(err)
		}
		hash, err := v.Keys.MAC(t.Context(), "acme", vault.PurposeFingerprint, want)
		if err != nil {
			t.Fatal(err)
		}
		id := fingerprint(t, v.Service, "acme", vec.data, vec.key, "")
		if got, err := v.Store.Fingerprint(t.Context(), hash); err != nil || got != id {
			t.Errorf("key of %d bytes: value differs from the vector: %v", len(vec.key), err)
		}
	}
}

// A key of a few bytes is not approved, and the client may not know of FIPS 140.
func TestShortFingerprintKeyWorksInFIPSOnlyMode(t *testing.T) {
	t.Parallel()
	if !fips140.Enforced() {
		self := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		self.Env = append(os.Environ(), "GODEBUG=fips140=only")
		if out, err := self.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	v, _ := newFake(t, "acme")
	if fingerprint(t, v.Service, "acme", visa, "c", "") == fingerprint(t, v.Service, "acme", visa, "d", "") {
		t.Error("two keys have one fingerprint")
	}
}
