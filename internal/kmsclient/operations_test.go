package kmsclient_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"cardea/internal/kmsclient"
	"cardea/internal/kmsclient/faultproxy"
	"cardea/internal/secret"
)

// httpClient hangs up when the test ends.
func httpClient(t testing.TB) *http.Client {
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func TestDataKeyOpensUnderItsKeyAndContextOnly(t *testing.T) {
	t.Parallel()
	s := startService(t)
	c, k, other := s.client(t), s.newKey(t), s.newKey(t)
	d, err := c.GenerateDataKey(t.Context(), k, tenant)
	ok(t, err)
	defer d.Plaintext.Destroy()
	if d.Plaintext.Len() != 32 || d.KeyARN != k.ID {
		t.Errorf("got %d bytes under %s, want 32 under %s", d.Plaintext.Len(), d.KeyARN, k.ID)
	}
	p, err := c.Decrypt(t.Context(), k, d.Blob, tenant)
	ok(t, err)
	defer p.Destroy()
	if !p.Equal(d.Plaintext) {
		t.Error("the blob opens to another key")
	}
	changed := bytes.Clone(d.Blob)
	changed[len(changed)-1] ^= 1
	for name, try := range map[string]struct {
		key     kmsclient.Key
		blob    []byte
		context map[string]string
	}{
		"other context": {k, d.Blob, map[string]string{"tenant": "t2", "purpose": "record"}},
		"no context":    {k, d.Blob, nil},
		"other key":     {other, d.Blob, tenant},
		"changed blob":  {k, changed, tenant},
		"no blob":       {k, nil, tenant},
		"too long":      {k, make([]byte, kmsclient.MaxBlob+1), tenant},
	} {
		_, err := c.Decrypt(t.Context(), try.key, try.blob, try.context)
		e := is(t, err, kmsclient.ErrWrongContext)
		if e.Op != "Decrypt" || e.Key != try.key.ID || e.RetryAfter != 0 {
			t.Errorf("%s: got %+v", name, e)
		}
		if asked := try.blob != nil && len(try.blob) <= kmsclient.MaxBlob; (e.RequestID != "") != asked {
			t.Errorf("%s: got request id %q", name, e.RequestID)
		}
	}
}

func TestKeysAreNamedInEveryWay(t *testing.T) {
	t.Parallel()
	s := startService(t)
	c, k := s.client(t), s.newKey(t)
	_, err := s.admin.CreateAlias(t.Context(), &awskms.CreateAliasInput{AliasName: aws.String("alias/cards"), TargetKeyId: &k.ID})
	ok(t, err)
	_, id, _ := strings.Cut(k.ID, "key/")
	for _, name := range []string{k.ID, id, "alias/cards", "arn:aws:kms:" + region + ":" + account + ":alias/cards"} {
		named := kmsclient.Key{ID: name, Region: region, Endpoint: s.here.URL}
		blob, arn, err := c.Encrypt(t.Context(), named, secret.Copy([]byte("x")), tenant)
		ok(t, err)
		if arn != k.ID {
			t.Errorf("%s: got %s", name, arn)
		}
		p, err := c.Decrypt(t.Context(), named, blob, tenant)
		ok(t, err)
		p.Destroy()
		ok(t, c.Check(t.Context(), named))
	}
	// The Region of an ARN need not be told.
	c.works(t, kmsclient.Key{ID: k.ID, Endpoint: s.here.URL})
}

func TestPlaintextsHaveALength(t *testing.T) {
	t.Parallel()
	s := startService(t)
	c, k, mac := s.client(t), s.newKey(t), s.newKey(t, hmacKey)
	blob, _, err := c.Encrypt(t.Context(), k, secret.Random(kmsclient.MaxPlaintext), tenant)
	ok(t, err)
	p, err := c.Decrypt(t.Context(), k, blob, tenant)
	ok(t, err)
	p.Destroy()
	asked := s.here.Asked("")
	for _, n := range []int{0, kmsclient.MaxPlaintext + 1} {
		_, _, err = c.Encrypt(t.Context(), k, secret.Random(n), tenant)
		is(t, err, kmsclient.ErrInvalid)
		_, err = c.GenerateMAC(t.Context(), mac, make([]byte, n))
		is(t, err, kmsclient.ErrInvalid)
	}
	if got, want := err.Error(), "kms GenerateMac with "+mac.ID+": key service refused the request as invalid: message of 4097 bytes: must be 1 to 4096"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if n := s.here.Asked(""); n != asked {
		t.Errorf("%d requests that could not succeed were made", n-asked)
	}
}

func TestMACsAreTheSameEachTime(t *testing.T) {
	t.Parallel()
	s := startService(t)
	c, k := s.client(t), s.newKey(t, hmacKey)
	a, err := c.GenerateMAC(t.Context(), k, []byte("message"))
	ok(t, err)
	b, err := c.GenerateMAC(t.Context(), k, []byte("message"))
	ok(t, err)
	other, err := c.GenerateMAC(t.Context(), k, []byte("messagE"))
	ok(t, err)
	if len(a) != 32 || !bytes.Equal(a, b) || bytes.Equal(a, other) {
		t.Error("MACs are not a function of the message")
	}
	_, _, err = c.Encrypt(t.Context(), k, secret.Copy([]byte("x")), nil)
	is(t, err, kmsclient.ErrInvalid)
	_, err = c.GenerateMAC(t.Context(), s.newKey(t), []byte("message"))
	is(t, err, kmsclient.ErrInvalid)
}

func TestReEncryptMovesABlob(t *testing.T) {
	t.Parallel()
	s := startService(t)
	c, from, to := s.client(t), s.newKey(t), s.newKey(t)
	blob, _, err := c.Encrypt(t.Context(), from, secret.Copy([]byte("moves")), tenant)
	ok(t, err)
	new := map[string]string{"tenant": "t1", "version": "2"}
	moved, arn, err := c.ReEncrypt(t.Context(), from, blob, tenant, to, new)
	ok(t, err)
	if arn != to.ID {
		t.Errorf("got %s, want %s", arn, to.ID)
	}
	p, err := c.Decrypt(t.Context(), to, moved, new)
	ok(t, err)
	defer p.Destroy()
	if string(p.Expose()) != "moves" {
		t.Error("the blob opens to something else")
	}
	if n := s.here.Asked("ReEncrypt"); n != 1 {
		t.Errorf("got %d requests, want 1", n)
	}
	_, _, err = c.ReEncrypt(t.Context(), from, blob, new, to, new)
	is(t, err, kmsclient.ErrWrongContext)
	_, _, err = c.ReEncrypt(t.Context(), to, blob, tenant, to, new)
	is(t, err, kmsclient.ErrWrongContext)
	_, _, err = c.ReEncrypt(t.Context(), from, nil, tenant, to, new)
	is(t, err, kmsclient.ErrWrongContext)

	elsewhere := to
	elsewhere.Endpoint = s.there.URL
	_, _, err = c.ReEncrypt(t.Context(), from, blob, tenant, elsewhere, new)
	is(t, err, kmsclient.ErrInvalid)
	_, _, err = c.ReEncrypt(t.Context(), from, blob, tenant, kmsclient.Key{}, new)
	is(t, err, kmsclient.ErrInvalid)
	_, _, err = c.ReEncrypt(t.Context(), kmsclient.Key{}, blob, tenant, to, new)
	is(t, err, kmsclient.ErrInvalid)
	if n := s.here.Asked("ReEncrypt"); n != 3 {
		t.Errorf("got %d requests, want 3", n)
	}
}

func TestStatesOfKeys(t *testing.T) {
	t.Parallel()
	s := startService(t)
	c := s.client(t)
	disabled, deleted, missing := s.newKey(t), s.newKey(t), s.newKey(t)
	_, err := s.admin.DisableKey(t.Context(), &awskms.DisableKeyInput{KeyId: &disabled.ID})
	ok(t, err)
	_, err = s.admin.ScheduleKeyDeletion(t.Context(), &awskms.ScheduleKeyDeletionInput{KeyId: &deleted.ID})
	ok(t, err)
	missing.ID = missing.ID[:len(missing.ID)-8] + "00000000"
	for _, test := range []struct {
		key   kmsclient.Key
		kind  error
		check string
	}{
		{disabled, kmsclient.ErrDisabled, "key cannot be used in its state: the key is Disabled"},
		{deleted, kmsclient.ErrDisabled, "key cannot be used in its state: the key is PendingDeletion"},
		{missing, kmsclient.ErrNotFound, "key does not exist: NotFoundException: Key '" + missing.ID + "' does not exist"},
	} {
		_, err := c.GenerateDataKey(t.Context(), test.key, tenant)
		is(t, err, test.kind)
		err = c.Check(t.Context(), test.key)
		is(t, err, test.kind)
		if got, want := err.Error(), "kms DescribeKey with "+test.key.ID+": "+test.check; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if n := s.here.Asked(""); n != 6 {
		t.Errorf("got %d requests, want 6: none of them helps to repeat", n)
	}
	_, err = s.admin.EnableKey(t.Context(), &awskms.EnableKeyInput{KeyId: &disabled.ID})
	ok(t, err)
	ok(t, c.Check(t.Context(), disabled))
	c.works(t, disabled)
}

func TestAccessThatIsRevokedIsDenied(t *testing.T) {
	t.Parallel()
	s := startService(t)
	c, k := s.client(t), s.newKey(t)
	c.works(t, k)
	s.revoke(t)
	for range 10 { // which opens no breaker
		_, _, err := c.Encrypt(t.Context(), k, secret.Copy([]byte("x")), tenant)
		if e := is(t, err, kmsclient.ErrDenied); !strings.Contains(e.Error(), "AccessDeniedException: ") || e.RequestID == "" {
			t.Errorf("got %v", e)
		}
	}
	is(t, c.Check(t.Context(), k), kmsclient.ErrDenied)
	s.allow(t)
	c.works(t, k)
	if v := c.value(t, "calls_total", "operation", "Encrypt", "region", region, "result", "denied"); v != 10 {
		t.Errorf("counted %v denials, want 10", v)
	}
}

func TestWrongCredentialsAreDenied(t *testing.T) {
	t.Parallel()
	s := startService(t)
	k := s.newKey(t)
	for name, creds := range map[string]kmsclient.Credentials{
		"InvalidSignatureException":   {AccessKeyID: s.vault.AccessKeyID, SecretAccessKey: secret.Copy([]byte("wrong"))},
		"UnrecognizedClientException": {AccessKeyID: "AKIANOBODY", SecretAccessKey: secret.Copy([]byte("wrong"))},
	} {
		c := s.client(t, func(o *kmsclient.Options) { o.Credentials = map[string]kmsclient.Credentials{"": creds} })
		asked := s.here.Asked("")
		_, err := c.GenerateDataKey(t.Context(), k, tenant)
		if e := is(t, err, kmsclient.ErrDenied); !strings.Contains(e.Error(), name) {
			t.Errorf("got %v, want %s", e, name)
		}
		if n := s.here.Asked("") - asked; n != 1 {
			t.Errorf("got %d requests, want 1", n)
		}
	}
}

func TestAnswersOfAnotherKeyAreRefused(t *testing.T) {
	t.Parallel()
	s := startService(t)
	k, mac, to := s.newKey(t), s.newKey(t, hmacKey), s.newKey(t)
	c := s.client(t)
	blob, _, err := c.Encrypt(t.Context(), k, secret.Copy([]byte("x")), tenant)
	ok(t, err)
	_, id, _ := strings.Cut(to.ID, "key/")
	for _, arn := range []string{
		to.ID, strings.Replace(k.ID, region, second, 1), strings.Replace(k.ID, account, "444455556666", 1), strings.Replace(k.ID, "aws", "aws-cn", 1),
		id, "", "arn:aws:kms:" + region + ":" + account + ":alias/x",
	} {
		s.here.Set(faultproxy.WrongKey(arn))
		d, err := c.GenerateDataKey(t.Context(), k, tenant)
		is(t, err, kmsclient.ErrWrongContext)
		if d.Plaintext.Present() || d.Blob != nil {
			t.Error("a data key was given out")
		}
		_, _, err = c.Encrypt(t.Context(), k, secret.Copy([]byte("x")), tenant)
		is(t, err, kmsclient.ErrWrongContext)
		p, err := c.Decrypt(t.Context(), k, blob, tenant)
		is(t, err, kmsclient.ErrWrongContext)
		if p.Present() {
			t.Error("a plaintext was given out")
		}
		_, err = c.GenerateMAC(t.Context(), mac, []byte("x"))
		is(t, err, kmsclient.ErrWrongContext)
		_, _, err = c.ReEncrypt(t.Context(), k, blob, tenant, to, tenant)
		is(t, err, kmsclient.ErrWrongContext)
		is(t, c.Check(t.Context(), k), kmsclient.ErrWrongContext)
	}
	s.here.Clear()
	c.works(t, k)

	// Some key services answer with the key's id, which names it as well.
	_, id, _ = strings.Cut(k.ID, "key/")
	s.here.Set(faultproxy.WrongKey(id))
	_, arn, err := c.Encrypt(t.Context(), k, secret.Copy([]byte("x")), tenant)
	ok(t, err)
	if arn != k.ID {
		t.Errorf("got %s", arn)
	}
}
