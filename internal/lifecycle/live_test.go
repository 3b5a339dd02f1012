package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"cardea/internal/adminapi"
	"cardea/internal/app"
	"cardea/internal/config"
	"cardea/internal/identity"
	"cardea/internal/lifecycle"
	"cardea/internal/sdkhttp"
	"cardea/internal/secret"
)

// keyService is a key service over its real protocol, and a client of an
// administrator of account 111122223333.
func keyService(t *testing.T, now func() time.Time) (admin *awskms.Client, arn string) {
	t.Helper()
	sockets, err := os.MkdirTemp("", "cardea") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(sockets) })
	cfg := config.Default()
	cfg.Node.Name, cfg.Node.DataDir, cfg.Vault.Listen, cfg.Ops.Listen = "keys", t.TempDir(), "", "127.0.0.1:0"
	cfg.KeyService.Listen, cfg.KeyService.Regions, cfg.KeyService.AdminSocket = "127.0.0.1:0", []string{"eu-central-1", "eu-west-1"}, filepath.Join(sockets, "s")
	cfg.KeyService.RootKeyFile, cfg.KeyService.RootKey, cfg.KeyService.InsecureRootKeyWithoutCustodians = "not read again", secret.Random(32), true
	cfg.Derive("")
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	a, err := app.New(t.Context(), cfg, app.Options{Logger: slog.New(slog.DiscardHandler), Now: now})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, a.Close()); err != nil {
			t.Error(err)
		}
	})
	var b identity.Bootstrapped
	client := adminapi.NewClient(cfg.KeyService.AdminSocket)
	for { // until it listens
		in := &identity.BootstrapInput{Account: identity.CreateAccountInput{ID: "111122223333"}}
		if err := client.Call(t.Context(), "identity/Bootstrap", in, &b); err == nil {
			break
		} else if t.Context().Err() != nil || !strings.Contains(err.Error(), "connect") {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"app", "other"} { // a policy names nobody who is not there
		if err := client.Call(t.Context(), "identity/CreateUser", &identity.CreateUserInput{Account: "111122223333", Name: name}, nil); err != nil {
			t.Fatal(err)
		}
	}
	return awskms.New(awskms.Options{
		BaseEndpoint: aws.String(a.Keys().URL()), Region: "eu-central-1", Retryer: aws.NopRetryer{}, HTTPClient: sdkhttp.New(nil),
		Credentials: credentials.NewStaticCredentialsProvider(b.Key.ID, string(b.Key.Secret.Expose()), ""),
	}), b.User.ARN
}

// policy is a policy file whose administrator is the caller.
func policy(t *testing.T, admin string, change ...string) *lifecycle.Policy {
	t.Helper()
	text := strings.NewReplacer(change...).Replace(fmt.Sprintf(`version: 1
approvals: {key.put-policy: 1}
keys:
  rds-prod:
    service: rds
    environment: prod
    description: databases
    cryptoperiod: {originator: 365d, recipient: 2y}
    rotation: 90d
    aliases: [alias/rds-prod, alias/rds]
    tags: {Environment: prod}
    administrators: [%[1]q]
    users: ["arn:aws:iam::111122223333:user/app"]
    replicas: [eu-west-1]
  mac-prod:
    service: tokens
    environment: prod
    spec: HMAC_256
    usage: GENERATE_VERIFY_MAC
    cryptoperiod: {originator: 365d, recipient: 365d}
    aliases: [alias/mac-prod]
    administrators: [%[1]q]
    users: ["arn:aws:iam::111122223333:user/app"]
`, admin))
	p, err := lifecycle.ParsePolicy([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var errKilled = errors.New("killed")

func TestApplyEndsInTheSameStateAfterAStopAtAnyStep(t *testing.T) {
	c, admin := keyService(t, time.Now)
	p := policy(t, admin)
	a := &lifecycle.Administrator{KMS: c}
	for stop := 1; ; stop++ { // each run gets one step further than nothing, then is killed
		a.Done = func(lifecycle.Step) error { return errKilled }
		_, err := a.Apply(t.Context(), p)
		if err == nil {
			if stop < 6 {
				t.Errorf("only %d steps", stop)
			}
			break
		}
		if !errors.Is(err, errKilled) || stop > 20 {
			t.Fatal(err)
		}
	}
	inv, err := lifecycle.Take(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if len(inv.Keys) != 2 {
		t.Errorf("%d keys, want 2: something was made twice", len(inv.Keys))
	}
	k, err := inv.Of("rds-prod")
	if err != nil || k == nil || !k.Rotates || k.Period != 90 || len(k.Aliases) != 2 || len(k.Replicas) != 1 || k.Tags["Environment"] != "prod" {
		t.Errorf("%+v, %v", k, err)
	}
	steps, conflicts, err := p.Plan(inv)
	if err != nil || len(steps)+len(conflicts) > 0 {
		t.Errorf("a second plan is not empty: %v %v %v", steps, conflicts, err)
	}

	// What changes a policy needs approval, before anything is done.
	p = policy(t, admin, "databases", "all databases", "user/app", "user/other")
	a.Done = nil
	if _, err := a.Apply(t.Context(), p); err == nil || !strings.Contains(err.Error(), "mac-prod: put-policy: needs approval: 'cardea approval request --operation key.put-policy --target arn:aws:kms:eu-central-1:111122223333:key/") {
		t.Errorf("got %v", err)
	}
	if k, err := lifecycle.Look(t.Context(), c, "alias/rds"); err != nil || k.Description != "databases" {
		t.Errorf("%+v, %v", k, err)
	}
	a.Approve = func(n *lifecycle.Needed) error { return nil }
	done, err := a.Apply(t.Context(), p)
	if err != nil || len(done) != 3 {
		t.Errorf("%v, %v", done, err)
	}

	// What KMS cannot change is a conflict.
	p = policy(t, admin, "HMAC_256", "HMAC_384")
	if _, err := a.Apply(t.Context(), p); !errors.Is(err, lifecycle.ErrConflict) || !strings.Contains(err.Error(), "keys.mac-prod.spec: key ") {
		t.Errorf("got %v", err)
	}
	other, err := c.CreateKey(t.Context(), &awskms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.UpdateAlias(t.Context(), &awskms.UpdateAliasInput{AliasName: aws.String("alias/rds"), TargetKeyId: other.KeyMetadata.KeyId}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Apply(t.Context(), policy(t, admin)); !errors.Is(err, lifecycle.ErrConflict) || !strings.Contains(err.Error(), "keys.rds-prod.aliases: alias/rds points to key "+*other.KeyMetadata.KeyId) {
		t.Errorf("got %v", err)
	}
}

// allowAll makes a key with the default policy, by which one client may do all.
func allowAll(t *testing.T, c *awskms.Client, in *awskms.CreateKeyInput, alias string) string {
	t.Helper()
	out, err := c.CreateKey(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateAlias(t.Context(), &awskms.CreateAliasInput{AliasName: &alias, TargetKeyId: out.KeyMetadata.KeyId}); err != nil {
		t.Fatal(err)
	}
	return *out.KeyMetadata.Arn
}

// killed rotates a key with a kill at every note of the state: before it is kept, or
// after. It returns the finished report.
func killed(t *testing.T, r *lifecycle.Rotator, id string, kept bool) *lifecycle.Rotation {
	t.Helper()
	var state *lifecycle.Rotation
	for run := 1; run < 30; run++ {
		notes := 0
		r.Save = func(x *lifecycle.Rotation) error {
			notes++
			if notes < run && !kept || kept && notes == 1 {
				y := *x
				y.Steps = append([]lifecycle.DoneStep(nil), x.Steps...)
				state = &y
				if !kept {
					return nil
				}
			}
			return errKilled
		}
		if _, err := r.Rotate(t.Context(), id, state); err != nil && !errors.Is(err, errKilled) {
			t.Fatalf("run %d: %v", run, err)
		}
		if state != nil && !state.Finished.IsZero() {
			return state
		}
	}
	t.Fatal("it does not end")
	return nil
}

func TestRotateEndsInTheSameStateAfterAKillAtAnyStep(t *testing.T) {
	c, _ := keyService(t, time.Now)
	r := &lifecycle.Rotator{KMS: c, User: c, Now: time.Now, Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() }}
	for _, kept := range []bool{true, false} {
		alias := fmt.Sprintf("alias/sym-%v", kept)
		allowAll(t, c, &awskms.CreateKeyInput{}, alias)
		x := killed(t, r, alias, kept)
		k, err := lifecycle.Look(t.Context(), c, alias)
		if err != nil || x.Method != lifecycle.OnDemand || x.NewMaterial != k.Material || x.NewMaterial == x.Material || len(k.Rotations) != 1 {
			t.Errorf("kept %v: %+v, %+v, %v", kept, x, k, err)
		}
		if n := len(x.Steps); n != 4 || x.Steps[3].Step != "verify" {
			t.Errorf("%+v", x.Steps)
		}

		alias = fmt.Sprintf("alias/mac-%v", kept)
		old := allowAll(t, c, &awskms.CreateKeyInput{KeySpec: types.KeySpecHmac256, KeyUsage: types.KeyUsageTypeGenerateVerifyMac}, alias)
		r.DisableOld = true
		x = killed(t, r, old, kept)
		r.DisableOld = false
		k, err = lifecycle.Look(t.Context(), c, alias)
		if err != nil || x.Method != lifecycle.Replaced || k.ARN != x.NewKey || k.ARN == old || k.Spec != "HMAC_256" {
			t.Errorf("kept %v: %+v, %+v, %v", kept, x, k, err)
		}
		was, err := lifecycle.Look(t.Context(), c, old)
		if err != nil || was.State != types.KeyStateDisabled || was.ReplacedBy != k.ID || k.Replaces != was.ID {
			t.Errorf("%+v, %v", was, err)
		}
		r.Save = func(*lifecycle.Rotation) error { return nil }
		if _, err := r.Rotate(t.Context(), old, nil); err == nil || !strings.Contains(err.Error(), "is Disabled: only an enabled key is rotated") {
			t.Errorf("got %v", err)
		}
		if _, err := r.Rotate(t.Context(), alias, &lifecycle.Rotation{Key: "another"}); err == nil || !strings.Contains(err.Error(), "the state is of the rotation of another") {
			t.Errorf("got %v", err)
		}
	}
	out, err := c.ListKeys(t.Context(), &awskms.ListKeysInput{})
	if err != nil || len(out.Keys) != 6 {
		t.Errorf("%d keys, want 6: something was made twice; %v", len(out.Keys), err)
	}
}

func TestScheduleDeletionMayBeRunAgain(t *testing.T) {
	c, _ := keyService(t, time.Now)
	arn := allowAll(t, c, &awskms.CreateKeyInput{}, "alias/old")
	look := func() *lifecycle.Key {
		k, err := lifecycle.Look(t.Context(), c, arn)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	u := &lifecycle.Unneeded{KMS: c, Now: time.Now, Unused: time.Hour}
	if _, err := u.Prove(t.Context(), look()); !errors.Is(err, lifecycle.ErrInUse) || !strings.Contains(err.Error(), "alias/old names it: move the alias to another key, or delete it") {
		t.Errorf("got %v", err)
	}
	for _, window := range []lifecycle.Days{6, 31} {
		if _, err := lifecycle.ScheduleDeletion(t.Context(), c, look(), window); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("window: %dd must be 7d to 30d", window)) {
			t.Errorf("got %v", err)
		}
	}
	first, err := lifecycle.ScheduleDeletion(t.Context(), c, look(), 7)
	if err != nil {
		t.Fatal(err)
	}
	again, err := lifecycle.ScheduleDeletion(t.Context(), c, look(), 7) // as after a kill before it was noted
	if err != nil || !again.Equal(first) {
		t.Errorf("%s, then %s, %v", first, again, err)
	}
	if got, err := lifecycle.CancelDeletion(t.Context(), c, arn); err != nil || got != arn || look().State != types.KeyStateDisabled {
		t.Errorf("%s is %s, %v", got, look().State, err)
	}
	if _, err := lifecycle.CancelDeletion(t.Context(), c, arn); err == nil || !strings.Contains(err.Error(), "KMSInvalidState") {
		t.Errorf("got %v", err)
	}
}

func TestRotateSaysHowWhereThereIsNoNewMaterial(t *testing.T) {
	c, _ := keyService(t, time.Now)
	r := &lifecycle.Rotator{KMS: c, Now: time.Now, Save: func(*lifecycle.Rotation) error { return nil }}
	external := allowAll(t, c, &awskms.CreateKeyInput{Origin: types.OriginTypeExternal}, "alias/external")
	if _, err := r.Rotate(t.Context(), external, nil); err == nil || !strings.Contains(err.Error(), "is PendingImport: only an enabled key is rotated") {
		t.Errorf("got %v", err)
	}
	importMaterial(t, c, external, 32)
	if _, err := r.Rotate(t.Context(), external, nil); !errors.Is(err, lifecycle.ErrNoMaterial) || !strings.Contains(err.Error(), "import it by 'cardea ceremony import --new-material', then run this again") {
		t.Errorf("got %v", err)
	}
}
