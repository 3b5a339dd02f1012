package lifecycle_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"cardea/internal/lifecycle"
)

// answering does requests, and lets after say what the client gets of their answers.
type answering struct {
	awskms.HTTPClient
	after func(operation, body string, res *http.Response) (*http.Response, error)
}

func (a answering) Do(r *http.Request) (*http.Response, error) {
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	r.Body = io.NopCloser(bytes.NewReader(text))
	res, err := a.HTTPClient.Do(r)
	if err != nil {
		return nil, err
	}
	_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	return a.after(operation, string(text), res)
}

// between is a client whose answers pass through after.
func between(c *awskms.Client, after func(operation, body string, res *http.Response) (*http.Response, error)) *awskms.Client {
	return awskms.New(c.Options(), func(o *awskms.Options) { o.HTTPClient = answering{o.HTTPClient, after} })
}

// losing is a client that loses the first answer to an operation, and repeats requests
// as the SDK does unless it is told otherwise.
func losing(c *awskms.Client, operation string) *awskms.Client {
	lost := false
	return awskms.New(between(c, func(op, _ string, res *http.Response) (*http.Response, error) {
		if op != operation || lost {
			return res, nil
		}
		lost = true
		return nil, errors.Join(errors.New("connection reset by peer"), res.Body.Close())
	}).Options(), func(o *awskms.Options) { o.Retryer = retry.NewStandard() })
}

// refusing answers requests of an operation that name something by an error.
func refusing(c *awskms.Client, operation, what, code string) *awskms.Client {
	return between(c, func(op, body string, res *http.Response) (*http.Response, error) {
		if op != operation || !strings.Contains(body, what) {
			return res, nil
		}
		err := res.Body.Close()
		res.StatusCode, res.Body = 400, io.NopCloser(strings.NewReader(`{"__type":"`+code+`","message":"as the test wants it"}`))
		res.ContentLength = -1
		res.Header.Del("Content-Length")
		return res, err
	})
}

// The SDK repeats requests whose answers are lost: that must not make a second key, nor
// rotate twice. The same command run again finds what was done.
func TestWhatHasALostAnswerIsDoneOnce(t *testing.T) {
	t.Parallel()
	c, _ := keyService(t, time.Now)
	for operation, in := range map[string]awskms.CreateKeyInput{
		"RotateKeyOnDemand": {},
		"CreateKey":         {KeySpec: types.KeySpecHmac256, KeyUsage: types.KeyUsageTypeGenerateVerifyMac},
	} {
		old := allowAll(t, c, &in, "alias/"+operation)
		r := rotator(c)
		r.KMS = losing(c, operation)
		var state *lifecycle.Rotation
		r.Save = func(x *lifecycle.Rotation) error { state = x; return nil }
		if _, err := r.Rotate(t.Context(), old, nil); err == nil || !strings.Contains(err.Error(), "connection reset by peer") {
			t.Fatalf("%s: got %v", operation, err)
		}
		if _, err := r.Rotate(t.Context(), old, state); err != nil {
			t.Fatalf("%s: %v", operation, err)
		}
		k, err := lifecycle.Look(t.Context(), c, old)
		if err != nil {
			t.Fatal(err)
		}
		successors := 0
		keys, err := c.ListKeys(t.Context(), &awskms.ListKeysInput{})
		if err != nil || aws.ToString(keys.NextMarker) != "" {
			t.Fatal(keys, err)
		}
		for _, e := range keys.Keys {
			if x, err := lifecycle.Look(t.Context(), c, *e.KeyId); err != nil {
				t.Fatal(err)
			} else if x.Replaces == k.ID {
				successors++
			}
		}
		if len(k.Rotations)+successors != 1 {
			t.Errorf("%s: %d rotations, %d new keys; want 1 in all", operation, len(k.Rotations), successors)
		}
	}
}

// A key whose tags cannot be read just now may be the one that was made before.
func TestSuccessorThatCannotBeReadIsNotMadeAgain(t *testing.T) {
	t.Parallel()
	c, _ := keyService(t, time.Now)
	old := allowAll(t, c, &awskms.CreateKeyInput{}, "alias/old")
	id := old[strings.LastIndexByte(old, '/')+1:]
	successor := allowAll(t, c, &awskms.CreateKeyInput{Tags: []types.Tag{{TagKey: aws.String("cardea:replaces"), TagValue: &id}}}, "alias/new")
	for code, refused := range map[string]bool{"KMSInternalException": true, "AccessDeniedException": false, "NotFoundException": false} {
		found, err := lifecycle.SuccessorOf(t.Context(), refusing(c, "ListResourceTags", successor[strings.LastIndexByte(successor, '/')+1:], code), id)
		if (err != nil) != refused || found != "" {
			t.Errorf("%s: %q, %v", code, found, err)
		}
	}
	if found, err := lifecycle.SuccessorOf(t.Context(), c, id); err != nil || found != successor {
		t.Errorf("%q, %v", found, err)
	}
}

// What is destroyed while all keys are gone through is not in the way of the others.
func TestInventoryWhileKeysAreDestroyed(t *testing.T) {
	t.Parallel()
	c, _ := keyService(t, time.Now)
	class := func(name string) *awskms.CreateKeyInput {
		return &awskms.CreateKeyInput{Tags: []types.Tag{{TagKey: aws.String("cardea:class"), TagValue: &name}}}
	}
	gone, kept := allowAll(t, c, class("gone"), "alias/gone"), allowAll(t, c, class("kept"), "alias/kept")
	for _, operation := range []string{"ListResourceTags", "DescribeKey", "GetKeyPolicy"} {
		inv, err := lifecycle.Take(t.Context(), refusing(c, operation, gone[strings.LastIndexByte(gone, '/')+1:], "NotFoundException"))
		if err != nil || len(inv.Keys) != 1 || inv.Keys[0].ARN != kept {
			t.Errorf("%s: %+v, %v", operation, inv, err)
		}
	}
}

// Between the look at a policy and its change others may have taken away more.
func TestLeaverIsDroppedFromThePolicyOfNow(t *testing.T) {
	t.Parallel()
	c, admin := keyService(t, time.Now)
	policy := func(users string) *string {
		return aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + admin + `"},"Action":"kms:*","Resource":"*"},{"Effect":"Allow","Principal":{"AWS":[` + users + `]},"Action":"kms:Decrypt","Resource":"*"}]}`)
	}
	const other = "arn:aws:iam::111122223333:user/other"
	key := allowAll(t, c, &awskms.CreateKeyInput{Policy: policy(`"` + leaver + `","` + other + `"`)}, "alias/k")
	d := &lifecycle.Departure{Regions: []lifecycle.Region{{Name: "eu-central-1", KMS: c}}, Now: time.Now, Save: func(*lifecycle.Leaver) error { return nil }}
	x, err := d.Find(t.Context(), []string{leaver})
	if err != nil || len(x.Keys) != 1 {
		t.Fatalf("%+v, %v", x, err)
	}
	id := key[strings.LastIndexByte(key, '/')+1:]
	if _, err := c.PutKeyPolicy(t.Context(), &awskms.PutKeyPolicyInput{KeyId: &id, Policy: policy(`"` + leaver + `"`)}); err != nil {
		t.Fatal(err)
	}
	if err := d.Depart(t.Context(), x); err != nil {
		t.Fatal(err)
	}
	k, err := lifecycle.Look(t.Context(), c, key)
	if err != nil || strings.Contains(string(k.Policy), leaver) || strings.Contains(string(k.Policy), other) {
		t.Errorf("%s, %v", k.Policy, err)
	}
	if s := x.Steps[len(x.Steps)-1]; !strings.HasPrefix(s.Step, "drop-from-policy ") || !strings.Contains(s.Detail, "others had changed it since it was approved, and what they changed stays") {
		t.Errorf("%+v", x.Steps)
	}
}
