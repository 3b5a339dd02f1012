package lifecycle_test

import (
	"context"
	"strings"
	"testing"
	"time"

	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"cardea/internal/lifecycle"
)

func TestCompromiseAndRetirementOnMoto(t *testing.T) {
	t.Parallel()
	c := moto(t)
	old := allowAll(t, c, &awskms.CreateKeyInput{KeyUsage: types.KeyUsageTypeEncryptDecrypt}, "alias/stolen")
	who := "arn:aws:iam::123456789012:user/app"
	if _, err := c.CreateGrant(t.Context(), &awskms.CreateGrantInput{KeyId: &old, GranteePrincipal: &who, Operations: []types.GrantOperation{types.GrantOperationDecrypt}}); err != nil {
		t.Fatal(err)
	}
	r := &lifecycle.Responder{KMS: c, Now: time.Now, Save: func(*lifecycle.Compromise) error { return nil }}
	x, err := r.Begin(t.Context(), old)
	if err != nil {
		t.Fatal(err)
	}
	x.Opener = "arn:aws:iam::123456789012:role/mover"
	if err := r.Respond(t.Context(), x); err != nil || x.Finished.IsZero() || len(x.Open) > 0 {
		t.Fatalf("%+v, %v", x, err)
	}
	was, err := lifecycle.Look(t.Context(), c, old)
	if err != nil || was.State != types.KeyStateDisabled || !strings.Contains(string(was.Policy), "CompromisedKeyProtectsNothing") {
		t.Errorf("%+v, %v", was, err)
	}
	if k, err := lifecycle.Look(t.Context(), c, "alias/stolen"); err != nil || k.ARN != x.Replacement.NewKey || k.State != types.KeyStateEnabled {
		t.Errorf("%+v, %v", k, err)
	}
	if grants, err := lifecycle.GrantsOn(t.Context(), c, old); err != nil || len(grants) > 0 {
		t.Errorf("%+v, %v", grants, err)
	}

	// What moto does not tell somebody must have looked up.
	u := &lifecycle.Unneeded{KMS: c, Now: time.Now, Unused: time.Hour}
	if _, err := u.Prove(t.Context(), was); err == nil || !strings.Contains(err.Error(), "the key service does not tell the last use over 0 days: look into CloudTrail, then give --use-checked") {
		t.Errorf("got %v", err)
	}
	u.Checked = true
	if _, err := u.Prove(t.Context(), was); err != nil {
		t.Error(err)
	}
	retired := retirement(t, c, old)
	retire := &lifecycle.Retirer{
		KMS: c, Now: time.Now, Save: func(*lifecycle.Retirement) error { return nil },
		Trail:  func(context.Context) ([]lifecycle.TrailFile, error) { return nil, nil },
		Record: func(*lifecycle.Destruction) error { return nil },
	}
	if err := retire.Retire(t.Context(), retired); err != nil || retired.Finished.IsZero() || retired.Deletion.IsZero() {
		t.Errorf("%+v, %v", retired, err)
	}
}
