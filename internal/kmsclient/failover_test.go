package kmsclient_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"cardea/internal/bubble"
	"cardea/internal/kmsclient"
	"cardea/internal/kmsclient/faultproxy"
	"cardea/internal/secret"
)

func once(o *kmsclient.Options) { o.Attempts, o.Breaker.Failures = 1, 1 }

func TestReplicaStandsInForTheHomeRegion(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	s := startService(t)
	c := s.client(t, once, func(o *kmsclient.Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	k, mac := s.replicated(t), s.replicated(t, hmacKey)
	blob, _, err := c.Encrypt(t.Context(), k, secret.Copy([]byte("works")), tenant)
	ok(t, err)
	before, err := c.GenerateMAC(t.Context(), mac, []byte("x"))
	ok(t, err)
	if n := s.there.Asked(""); n != 0 {
		t.Errorf("the replica was asked %d times without need", n)
	}

	s.here.Set(faultproxy.Reset())
	p, err := c.Decrypt(t.Context(), k, blob, tenant)
	ok(t, err)
	if string(p.Expose()) != "works" {
		t.Error("opens to something else")
	}
	p.Destroy()
	d, err := c.GenerateDataKey(t.Context(), k, tenant)
	ok(t, err)
	defer d.Plaintext.Destroy()
	blob, arn, err := c.Encrypt(t.Context(), k, secret.Copy([]byte("works")), tenant)
	ok(t, err)
	if d.KeyARN != k.ID || arn != k.ID {
		t.Errorf("got %s and %s, want the key as it is called at home", d.KeyARN, arn)
	}
	after, err := c.GenerateMAC(t.Context(), mac, []byte("x"))
	ok(t, err)
	if !bytes.Equal(before, after) {
		t.Error("the replica makes another MAC")
	}
	ok(t, c.Check(t.Context(), k))

	s.here.Clear()
	c.clock.advance(time.Hour)
	for range 2 {
		p, err := c.Decrypt(t.Context(), k, blob, tenant) // what the replica has sealed
		ok(t, err)
		if string(p.Expose()) != "works" {
			t.Error("opens to something else")
		}
		p.Destroy()
	}
	for _, want := range []struct {
		region, op, result string
		n                  float64
	}{
		{region, "Decrypt", "unreachable", 1},
		{second, "Decrypt", "ok", 1},
		{second, "Encrypt", "ok", 1},
		{second, "GenerateDataKey", "ok", 1},
		{second, "GenerateMac", "ok", 1},
		{region, "Decrypt", "ok", 2},
	} {
		if v := c.value(t, "calls_total", "operation", want.op, "region", want.region, "result", want.result); v != want.n {
			t.Errorf("%+v: counted %v", want, v)
		}
	}
	if v := c.value(t, "failovers_total"); v != 3 { // there, back, and the other key there
		t.Errorf("counted %v failovers, want 3", v)
	}
	if !strings.Contains(log.String(), `msg="another Region serves the key now" key=`+k.ID+` region=eu-west-1`) {
		t.Errorf("got log %s", log.String())
	}
}

func TestReplicaServesForAWhile(t *testing.T) {
	t.Parallel()
	s := startService(t)
	c, k := s.client(t, once), s.replicated(t)
	s.here.Set(faultproxy.Reset())
	c.works(t, k)
	s.here.Clear()
	here := s.here.Asked("")
	c.clock.advance(29 * time.Second)
	c.works(t, k)
	if n := s.here.Asked(""); n != here {
		t.Error("the home Region was asked before its time")
	}

	// Its time has come, but it still does not answer: the caller does not notice.
	s.here.Set(faultproxy.Reset())
	c.clock.advance(time.Second)
	c.works(t, k)
	if n := s.here.Asked("") - here; n != 1 {
		t.Errorf("the home Region was asked %d times, want 1", n)
	}
	s.here.Clear()
	c.clock.advance(30 * time.Second)
	there := s.there.Asked("")
	c.works(t, k)
	c.works(t, k)
	if n := s.there.Asked(""); n != there {
		t.Error("the replica was asked although the home Region answers")
	}
}

func TestReplicaThatFailsGoesBackHomeAtOnce(t *testing.T) {
	t.Parallel()
	s := startService(t)
	c, k := s.client(t, once), s.replicated(t)
	s.here.Set(faultproxy.Reset())
	c.works(t, k)
	c.clock.advance(10 * time.Second) // the breaker's time, not the hold's
	s.here.Clear()
	s.there.Set(faultproxy.Reset())
	c.works(t, k)
	there := s.there.Asked("")
	c.works(t, k)
	if s.there.Asked("") != there {
		t.Error("the replica is still asked")
	}
}

// TestRefusalsAtHomeStand has a home Region that answers: what it says is not
// asked for again elsewhere, or a key that is disabled would go on to be used.
func TestRefusalsAtHomeStand(t *testing.T) {
	t.Parallel()
	s := startService(t)
	c, k := s.client(t), s.replicated(t)
	_, err := s.admin.DisableKey(t.Context(), &awskms.DisableKeyInput{KeyId: &k.ID})
	ok(t, err)
	is(t, c.encrypt(t, k), kmsclient.ErrDisabled)
	s.here.Set(faultproxy.Throttle())
	is(t, c.encrypt(t, k), kmsclient.ErrThrottled)
	if n := s.there.Asked(""); n != 0 {
		t.Errorf("the replica was asked %d times", n)
	}
}

// TestRefusalsOfAReplicaAreNotTheKeys has a replica that was set up badly: its
// refusal does not hide that the home Region does not answer.
func TestRefusalsOfAReplicaAreNotTheKeys(t *testing.T) {
	t.Parallel()
	s := startService(t)
	c, k := s.client(t, once), s.replicated(t)
	there := strings.Replace(k.ID, region, second, 1)
	_, err := s.admin.DisableKey(t.Context(), &awskms.DisableKeyInput{KeyId: &there}, func(o *awskms.Options) { o.Region = second })
	ok(t, err)
	s.here.Set(faultproxy.Reset())
	e := is(t, c.encrypt(t, k), kmsclient.ErrUnreachable)
	if got := e.Error(); !strings.Contains(got, "eu-central-1: ") || !strings.Contains(got, "connection reset by peer; eu-west-1: key cannot be used in its state: DisabledException: "+there+" is disabled.") {
		t.Errorf("got %s", got)
	}
	// What is wrong with the ciphertext is so everywhere.
	k2 := s.replicated(t)
	_, err = c.Decrypt(t.Context(), k2, []byte("no ciphertext"), tenant)
	is(t, err, kmsclient.ErrWrongContext)

	s.there.Set(faultproxy.Answer(500, "KMSInternalException", "no"))
	e = is(t, c.encrypt(t, s.replicated(t)), kmsclient.ErrUnreachable)
	if !strings.Contains(e.Error(), "connection reset by peer; eu-west-1: KMSInternalException: no") || e.RetryAfter <= 0 {
		t.Errorf("got %v", e)
	}
}

func TestReplicaAnswersForItself(t *testing.T) {
	t.Parallel()
	s := startService(t)
	c, k := s.client(t, once), s.replicated(t)
	s.here.Set(faultproxy.Reset())
	s.there.Set(faultproxy.WrongKey(k.ID)) // the home Region's, which the replica is not
	is(t, c.encrypt(t, k), kmsclient.ErrWrongContext)
}

// TestTimeIsSharedAmongRegions has a home Region that takes requests and never
// answers: there must be time left for the replica.
func TestTimeIsSharedAmongRegions(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		s := &stub{answer: func(_ int, r *http.Request) (*http.Response, error) {
			if !strings.Contains(r.URL.Host, second) {
				return blackhole(r)
			}
			return reply(200, nil, `{"CiphertextBlob":"AAAA","KeyId":"`+strings.Replace(stubKey.ID, region, second, 1)+`"}`)
		}}
		k := stubKey
		k.Replicas = []kmsclient.Replica{{Region: "us-east-1"}, {Region: second}}
		c := s.client(t)
		start := time.Now()
		ok(t, c.encrypt(t, k))
		if took := time.Since(start); took > 4*time.Second {
			t.Errorf("took %s", took)
		}
		start = time.Now()
		ok(t, c.encrypt(t, k))
		if took := time.Since(start); took != 0 {
			t.Errorf("took %s when the replica was known to serve", took)
		}
	})
}

// TestOneCallAsksAtHomeForAll has many callers when the time has come to go home.
func TestOneCallAsksAtHomeForAll(t *testing.T) {
	t.Parallel()
	s := startService(t)
	c, k := s.client(t, func(o *kmsclient.Options) { o.Attempts = 1 }), s.replicated(t) // with a breaker that stays closed
	s.here.Set(faultproxy.Reset())
	c.works(t, k)
	c.clock.advance(time.Minute)
	release := make(chan struct{})
	s.here.Set(faultproxy.Hold(release))
	here := s.here.Asked("")
	var wg sync.WaitGroup
	probe := make(chan error, 1)
	go func() {
		_, _, err := c.Encrypt(context.Background(), k, secret.Copy([]byte("x")), tenant)
		probe <- err
	}()
	for s.here.Asked("") == here { // until it is there
		time.Sleep(time.Millisecond)
	}
	for range 20 {
		wg.Go(func() {
			if _, _, err := c.Encrypt(context.Background(), k, secret.Copy([]byte("x")), tenant); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	close(release)
	ok(t, <-probe)
	if n := s.here.Asked("") - here; n != 1 {
		t.Errorf("the home Region was asked by %d callers, want 1", n)
	}
	there := s.there.Asked("")
	c.works(t, k)
	if s.there.Asked("") != there {
		t.Error("the key has not gone home")
	}
}

func TestReEncryptStaysAtHome(t *testing.T) {
	t.Parallel()
	s := startService(t)
	c, k := s.client(t, once), s.replicated(t)
	blob, _, err := c.Encrypt(t.Context(), k, secret.Copy([]byte("x")), tenant)
	ok(t, err)
	s.here.Set(faultproxy.Reset())
	_, _, err = c.ReEncrypt(t.Context(), k, blob, tenant, k, nil)
	is(t, err, kmsclient.ErrUnreachable)
	if n := s.there.Asked(""); n != 0 {
		t.Errorf("the replica was asked %d times", n)
	}
}
