package kmsclient_test

import (
	"net/http"
	"strings"
	"testing"

	"cardea/internal/kmsclient"
)

func TestKeysAreValidated(t *testing.T) {
	t.Parallel()
	const (
		arn  = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
		mrk  = "arn:aws:kms:eu-central-1:111122223333:key/mrk-0123456789abcdef0123456789abcdef"
		west = "arn:aws:kms:eu-west-1:111122223333:key/mrk-0123456789abcdef0123456789abcdef"
		bare = "mrk-0123456789abcdef0123456789abcdef"
	)
	replica := []kmsclient.Replica{{Region: second}}
	for _, k := range []kmsclient.Key{
		{ID: arn},
		{ID: arn, Region: region, Endpoint: "https://vpce-1.kms.eu-central-1.vpce.amazonaws.com"},
		{ID: arn, Endpoint: "http://127.0.0.1:4599/"},
		{ID: arn, FIPS: true, Profile: "cards"},
		{ID: "arn:aws-us-gov:kms:us-gov-west-1:111122223333:alias/cards"},
		{ID: "alias/cards", Region: region},
		{ID: "1234abcd-12ab-34cd-56ef-1234567890ab", Region: region},
		{ID: mrk, Replicas: replica},
		{ID: bare, Region: region, Replicas: replica},
		{ID: mrk, Replicas: []kmsclient.Replica{{ID: west, Region: second}, {Region: "us-east-1", Endpoint: "https://kms.example"}}},
		{ID: mrk, FIPS: true, Replicas: replica},
	} {
		if err := k.Validate(); err != nil {
			t.Errorf("%+v: %v", k, err)
		}
	}
	for _, test := range []struct {
		k    kmsclient.Key
		want string
	}{
		{kmsclient.Key{Region: region}, "key without an id"},
		{kmsclient.Key{ID: strings.Repeat("x", 2049), Region: region}, "key id of 2049 bytes, at most 2048 are"},
		{kmsclient.Key{ID: "a b", Region: region}, "key id with spaces, control or non-ASCII characters"},
		{kmsclient.Key{ID: "alias/cards"}, "key without a Region"},
		{kmsclient.Key{ID: "alias/cards", Region: "EU"}, `"EU" is no name of a Region`},
		{kmsclient.Key{ID: "alias/cards", Region: "evil.example/"}, `"evil.example/" is no name of a Region`},
		{kmsclient.Key{ID: "arn:aws:kms", Region: region}, "key arn:aws:kms: "},
		{kmsclient.Key{ID: "arn:aws:s3:eu-central-1:111122223333:key/x"}, "arn:aws:s3:eu-central-1:111122223333:key/x is the ARN of neither a KMS key nor an alias"},
		{kmsclient.Key{ID: "arn:aws:kms:eu-central-1:111122223333:grant/x"}, "arn:aws:kms:eu-central-1:111122223333:grant/x is the ARN of neither a KMS key nor an alias"},
		{kmsclient.Key{ID: "arn:aws:kms::111122223333:key/x"}, "arn:aws:kms::111122223333:key/x is the ARN of neither a KMS key nor an alias"},
		{kmsclient.Key{ID: arn, Region: second}, "key " + arn + " is of Region eu-central-1, not eu-west-1"},
		{kmsclient.Key{ID: arn, Endpoint: "kms.example"}, `endpoint "kms.example": must be https://host or https://host:port`},
		{kmsclient.Key{ID: arn, Endpoint: "https://user@kms.example"}, `endpoint "https://user@kms.example": must be https://host or https://host:port`},
		{kmsclient.Key{ID: arn, Endpoint: "https://kms.example/path"}, `endpoint "https://kms.example/path": must be https://host or https://host:port`},
		{kmsclient.Key{ID: arn, Endpoint: "https://kms.example?x"}, `endpoint "https://kms.example?x": must be https://host or https://host:port`},
		{kmsclient.Key{ID: arn, Endpoint: "ftp://kms.example"}, `endpoint "ftp://kms.example": must be https://host or https://host:port`},
		{kmsclient.Key{ID: arn, Endpoint: "https://kms.example", FIPS: true}, "endpoint https://kms.example beside fips: name the FIPS endpoint itself"},
		{kmsclient.Key{ID: arn, Replicas: replica}, "key " + arn + " has replicas, but is not a multi-Region key named by its id or key ARN"},
		{kmsclient.Key{ID: "alias/mrk-x", Region: region, Replicas: replica}, "key alias/mrk-x has replicas, but is not a multi-Region key named by its id or key ARN"},
		{kmsclient.Key{ID: mrk, Replicas: []kmsclient.Replica{{}}}, "replica of key " + mrk + ": key without a Region"},
		{kmsclient.Key{ID: mrk, Replicas: []kmsclient.Replica{{Region: region}}}, "key " + mrk + " is named twice in Region eu-central-1"},
		{kmsclient.Key{ID: mrk, Replicas: []kmsclient.Replica{{Region: second}, {Region: second}}}, "key " + mrk + " is named twice in Region eu-west-1"},
		{kmsclient.Key{ID: mrk, Replicas: []kmsclient.Replica{{ID: mrk, Region: second}}}, mrk + " is not the replica of key " + mrk + " in Region eu-west-1, which is " + west},
		{kmsclient.Key{ID: mrk, Replicas: []kmsclient.Replica{{Region: second, Endpoint: "x"}}}, "replica of key " + mrk + `: endpoint "x": must be https://host or https://host:port`},
		{kmsclient.Key{ID: mrk, Replicas: make([]kmsclient.Replica, 17)}, "key " + mrk + " has 17 replicas, at most 16 are asked"},
	} {
		if err := test.k.Validate(); err == nil || !strings.HasPrefix(err.Error(), test.want) || err.Error() != test.want && !strings.HasSuffix(test.want, ": ") {
			t.Errorf("got %v, want %s", err, test.want)
		}
	}
}

func TestAnswersNameTheKey(t *testing.T) {
	t.Parallel()
	const (
		account = "arn:aws:kms:eu-central-1:111122223333:"
		id      = "1234abcd-12ab-34cd-56ef-1234567890ab"
		other   = "5678abcd-12ab-34cd-56ef-1234567890ab"
	)
	for _, test := range []struct {
		id, answer string
		want       bool
	}{
		{account + "key/" + id, account + "key/" + id, true},
		{account + "key/" + id, id, true},
		{account + "key/" + id, account + "key/" + other, false},
		{account + "key/" + id, other, false},
		{account + "key/" + id, "arn:aws:kms:eu-west-1:111122223333:key/" + id, false},
		{account + "key/" + id, "", false},
		{id, account + "key/" + id, true},
		{id, account + "key/" + other, false},
		{id, account + "alias/" + id, false},
		{"alias/cards", account + "key/" + id, true},
		{"alias/cards", id, false},
		{"alias/cards", "alias/cards", false},
		{account + "alias/cards", account + "key/" + id, true},
		{account + "alias/cards", account + "alias/cards", false},
		{account + "alias/cards", "arn:aws:kms:eu-central-1:444455556666:key/" + id, false},
		{account + "alias/cards", "arn:aws:kms:eu-west-1:111122223333:key/" + id, false},
		{account + "alias/cards", "arn:aws:kms:eu-central-1", false},
	} {
		if got := kmsclient.Names(test.id, test.answer); got != test.want {
			t.Errorf("%s answered by %q: got %v", test.id, test.answer, got)
		}
	}
}

func TestKeysThatAreNotValidAreNotAskedFor(t *testing.T) {
	t.Parallel()
	s := &stub{answer: func(int, *http.Request) (*http.Response, error) { return encrypted() }}
	c := s.client(t)
	is(t, c.encrypt(t, kmsclient.Key{}), kmsclient.ErrInvalid)
	plain := stubKey
	for _, plain.Endpoint = range []string{"http://kms.example", "http://10.0.0.1:4599"} {
		e := is(t, c.encrypt(t, plain), kmsclient.ErrInvalid)
		if !strings.HasSuffix(e.Error(), "endpoint "+plain.Endpoint+": plain HTTP is for loopback only") {
			t.Errorf("got %v", e)
		}
	}
	replica := stubKey
	replica.Replicas = []kmsclient.Replica{{Region: second, Endpoint: "http://kms.example"}}
	is(t, c.encrypt(t, replica), kmsclient.ErrInvalid)
	if s.asked() != 0 {
		t.Errorf("asked %d times", s.asked())
	}
	for _, plain.Endpoint = range []string{"http://localhost:1", "http://127.0.0.5:1", "http://[::1]:1"} {
		ok(t, c.encrypt(t, plain))
	}
	plain.Endpoint = "http://kms.example"
	ok(t, s.client(t, func(o *kmsclient.Options) { o.AllowPlainHTTP = true }).encrypt(t, plain))
}

func TestEndpointsOfRegions(t *testing.T) {
	t.Parallel()
	s := &stub{answer: func(int, *http.Request) (*http.Response, error) { return encrypted() }}
	c := s.client(t)
	for _, test := range []struct {
		change func(k *kmsclient.Key)
		host   string
	}{
		{func(*kmsclient.Key) {}, "kms.eu-central-1.amazonaws.com"},
		{func(k *kmsclient.Key) { k.FIPS = true }, "kms-fips.eu-central-1.amazonaws.com"},
		{func(k *kmsclient.Key) { k.Endpoint = "https://vpce-1.kms.eu-central-1.vpce.amazonaws.com" }, "vpce-1.kms.eu-central-1.vpce.amazonaws.com"},
		{func(k *kmsclient.Key) { k.Endpoint = "https://keys.example:4599/" }, "keys.example:4599"},
	} {
		k := stubKey
		test.change(&k)
		ok(t, c.encrypt(t, k))
		if got := s.hosts[len(s.hosts)-1]; got != test.host {
			t.Errorf("asked %s, want %s", got, test.host)
		}
	}
}
