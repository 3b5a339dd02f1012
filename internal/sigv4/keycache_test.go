package sigv4

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestSecretIsReadOnceADayAndRegion(t *testing.T) {
	t.Parallel()
	now := exampleTime
	k := exampleKeys()
	v := verifier(t, func(o *Options) { o.Keys, o.Now = k, func() time.Time { return now } })
	verify := func(region string, want int64) {
		t.Helper()
		r, body := kmsRequest()
		s := example()
		s.region = region
		s.sign(r, body, now)
		if _, err := v.Verify(r, body); err != nil {
			t.Fatal(err)
		}
		if got := k.secretCalls.Load(); got != want {
			t.Errorf("secret was read %d times, want %d", got, want)
		}
		if k.given.Load().Len() != 0 {
			t.Error("the secret that was read is not destroyed")
		}
	}
	verify("us-east-1", 1)
	verify("us-east-1", 1)
	verify("eu-central-1", 2)
	now = now.AddDate(0, 0, 1)
	verify("us-east-1", 3)
	v.Wipe()
	verify("us-east-1", 4)
	if v.cache.recent.Len() != 1 || len(v.cache.entries) != 1 {
		t.Errorf("%d keys in the list and %d in the map, want 1", v.cache.recent.Len(), len(v.cache.entries))
	}
}

// TestNewSecretTakesOverAtOnce rotates the secret under the same access key.
func TestNewSecretTakesOverAtOnce(t *testing.T) {
	t.Parallel()
	k := exampleKeys()
	v := verifier(t, func(o *Options) { o.Keys = k })
	r, body := signed(example())
	if _, err := v.Verify(r, body); err != nil {
		t.Fatal(err)
	}
	k.credentials[exampleID] = Credential{SecretID: "3"}
	k.secrets["3"] = "new" + exampleSecret
	_, err := v.Verify(r, body)
	refused(t, err, InvalidSignature, textMismatch)
	s := example()
	s.secret = "new" + exampleSecret
	r, body = signed(s)
	if _, err = v.Verify(r, body); err != nil {
		t.Error(err)
	}
	delete(k.credentials, exampleID)
	_, err = v.Verify(r, body)
	refused(t, err, UnrecognizedClient, textUnknown)
}

// TestUnknownAccessKeyTakesTheSamePath looks into the cache for the key that
// stands in, and that nobody gets in with what it is derived from.
func TestUnknownAccessKeyTakesTheSamePath(t *testing.T) {
	t.Parallel()
	k := exampleKeys()
	v := verifier(t, func(o *Options) { o.Keys = k })
	s := example()
	s.id, s.secret = "AKIDNOBODY", string(v.stranger.Expose())
	for range 2 {
		r, body := signed(s)
		_, err := v.Verify(r, body)
		refused(t, err, UnrecognizedClient, textUnknown)
	}
	var key [32]byte
	if !v.cache.get(keyName{date: "20150830", region: "us-east-1"}, &key) || key == [32]byte{} {
		t.Error("no signing key was derived for an unknown access key")
	}
	if k.secretCalls.Load() != 0 {
		t.Error("a secret was read for an unknown access key")
	}
}

func TestCacheIsBoundedAndWipesWhatGoes(t *testing.T) {
	t.Parallel()
	c := newKeyCache(2)
	name := func(id string) keyName { return keyName{known: true, secretID: id, date: "20150830", region: "r"} }
	var entries []*keyEntry
	for i, id := range []string{"a", "b", "c"} {
		key := [32]byte{byte(i + 1)}
		c.put(name(id), &key)
		c.put(name(id), &[32]byte{9}) // the first stays
		entries = append(entries, c.recent.Front().Value.(*keyEntry))
		if id == "b" {
			c.get(name("a"), &key) // so b is the oldest
		}
	}
	var got [32]byte
	for i, id := range []string{"a", "b", "c"} {
		if ok := c.get(name(id), &got); ok != (id != "b") {
			t.Errorf("%s is cached: %v", id, ok)
		} else if ok && got != [32]byte{byte(i + 1)} {
			t.Errorf("%s: another key", id)
		}
	}
	if entries[1].key != [32]byte{} {
		t.Error("an evicted key is not wiped")
	}
	c.wipe()
	if entries[0].key != [32]byte{} || entries[2].key != [32]byte{} || c.get(name("a"), &got) {
		t.Error("keys are left after wiping")
	}
}

// TestScratchIsWiped looks at the memory that the next request gets.
func TestScratchIsWiped(t *testing.T) {
	t.Parallel()
	v := verifier(t)
	r, body := kmsRequest()
	r.Header.Set("X-Amz-Security-Token", sessionToken)
	s := session()
	s.sign(r, body, exampleTime)
	x := v.scratch.Get().(*scratch)
	c, err := v.claim(r, x)
	if err = errors.Join(err, v.gatherHeaders(r, c, x), x.canonicalRequest(r, c, [32]byte{})); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(x.buf), sessionToken) {
		t.Fatal("the canonical request has no token: the test looks at the wrong place")
	}
	buf, headers := x.buf[:cap(x.buf)], x.headers
	v.release(x)
	for _, b := range buf {
		if b != 0 {
			t.Fatal("the canonical request is left in memory")
		}
	}
	for _, h := range headers {
		if h.values != nil || h.name != "" {
			t.Fatal("headers are left in memory")
		}
	}
}
