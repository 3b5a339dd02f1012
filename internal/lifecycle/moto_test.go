package lifecycle_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"cardea/internal/awstest"
	"cardea/internal/lifecycle"
	"cardea/internal/sdkhttp"
)

// moto is a client of a KMS that we did not write, and that tells less than AWS's: no
// ids of material, no period of rotation, no last use.
func moto(t *testing.T) *awskms.Client {
	t.Helper()
	return awskms.New(awskms.Options{
		BaseEndpoint: aws.String(awstest.Moto(t)), Region: "eu-central-1", Retryer: aws.NopRetryer{}, HTTPClient: sdkhttp.New(nil),
		Credentials: credentials.NewStaticCredentialsProvider("AKIAEXAMPLE", "secret", ""),
	})
}

func TestPolicyIsAppliedToMoto(t *testing.T) {
	t.Parallel()
	c := moto(t)
	p := policy(t, "arn:aws:iam::123456789012:user/admin")
	a := &lifecycle.Administrator{KMS: c}
	if done, err := a.Apply(t.Context(), p); err != nil || len(done) != 7 {
		t.Fatalf("%v, %v", done, err)
	}
	inv, err := lifecycle.Take(t.Context(), c)
	if err != nil || len(inv.Keys) != 2 || len(inv.Unread) != 0 {
		t.Fatalf("%+v, %v", inv, err)
	}
	if steps, conflicts, err := p.Plan(inv); err != nil || len(steps)+len(conflicts) != 0 {
		t.Errorf("a second plan is not empty: %v, %v, %v", steps, conflicts, err)
	}
	if drift, err := p.Drift(inv, inv.Baseline(time.Now())); err != nil || len(drift) != 0 {
		t.Errorf("%v, %v", drift, err)
	}
	s := p.Status(inv, time.Now())
	if s.Findings != 0 || s.Keys[1].Rotation != "automatic on, period not told" || s.Keys[1].LastUse != "unknown" {
		t.Errorf("%+v", s)
	}
	if _, err := c.DisableKeyRotation(t.Context(), &awskms.DisableKeyRotationInput{KeyId: &s.Keys[1].KeyID}); err != nil {
		t.Fatal(err)
	}
	if inv, err = lifecycle.Take(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if drift, err := p.Drift(inv, nil); err != nil || len(drift) != 1 || drift[0].What != "rotation" || drift[0].Is != "off" {
		t.Errorf("%v, %v", drift, err)
	}
	if done, err := a.Apply(t.Context(), p); err != nil || len(done) != 1 || done[0].Kind != lifecycle.StepRotation {
		t.Errorf("%v, %v", done, err)
	}
}

func TestKeysAreRotatedOnMoto(t *testing.T) {
	t.Parallel()
	c := moto(t)
	for alias, kind := range map[string]struct {
		in      awskms.CreateKeyInput
		replace bool
		method  string
	}{
		"alias/symmetric": {awskms.CreateKeyInput{KeyUsage: types.KeyUsageTypeEncryptDecrypt}, false, lifecycle.OnDemand},
		"alias/replaced":  {awskms.CreateKeyInput{KeyUsage: types.KeyUsageTypeEncryptDecrypt}, true, lifecycle.Replaced},
		"alias/mac":       {awskms.CreateKeyInput{KeySpec: types.KeySpecHmac256, KeyUsage: types.KeyUsageTypeGenerateVerifyMac}, false, lifecycle.Replaced},
		"alias/signing":   {awskms.CreateKeyInput{KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeSignVerify}, false, lifecycle.Replaced},
		"alias/rsa":       {awskms.CreateKeyInput{KeySpec: types.KeySpecRsa2048, KeyUsage: types.KeyUsageTypeEncryptDecrypt}, false, lifecycle.Replaced},
	} {
		old := allowAll(t, c, &kind.in, alias)
		r := &lifecycle.Rotator{
			KMS: c, User: c, Now: time.Now, Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
			Save: func(*lifecycle.Rotation) error { return nil }, Replace: kind.replace, DisableOld: true,
		}
		x, err := r.Rotate(t.Context(), alias, nil)
		if err != nil || x.Method != kind.method {
			t.Errorf("%s: %+v, %v", alias, x, err)
			continue
		}
		k, err := lifecycle.Look(t.Context(), c, alias)
		if err != nil || kind.method == lifecycle.OnDemand && (k.ARN != old || len(k.Rotations) != 1) || kind.method == lifecycle.Replaced && k.ARN != x.NewKey {
			t.Errorf("%s: %+v, %v", alias, k, err)
		}
		if kind.method == lifecycle.OnDemand {
			continue
		}
		was, err := lifecycle.Look(t.Context(), c, old)
		if err != nil || was.State != types.KeyStateDisabled {
			t.Errorf("%s: %+v, %v", alias, was, err)
		}
		if at, err := lifecycle.ScheduleDeletion(t.Context(), c, was, 7); err != nil || at.IsZero() {
			t.Errorf("%s: %s, %v", alias, at, err)
		}
		if again, err := r.Rotate(t.Context(), old, x); err != nil || again.Deletion.IsZero() || len(again.Next) > 0 {
			t.Errorf("%s: %+v, %v", alias, again, err)
		}
		if arn, err := lifecycle.CancelDeletion(t.Context(), c, old); err != nil || arn != old {
			t.Errorf("%s: %s, %v", alias, arn, err)
		}
	}
	if _, err := (&lifecycle.Rotator{KMS: c}).Rotate(t.Context(), "alias/none", nil); err == nil || errors.Is(err, lifecycle.ErrPending) {
		t.Errorf("got %v", err)
	}
}
