package lifecycle_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"cardea/internal/lifecycle"
	"cardea/internal/vault"
)

// testVault is a vault with a tenant under a key, until it is told that the
// configuration names another.
type testVault struct {
	key        string
	configured bool // its configuration names the new key
	moved      int
}

func (v *testVault) Under(_ context.Context, key string) ([]vault.KeyInfo, error) {
	if key != v.key || v.moved > 0 {
		return nil, nil
	}
	return []vault.KeyInfo{{ID: "k", Tenant: "acme", Version: 1, State: vault.KeyActive, KMSKey: key, Current: !v.configured, Records: 7}}, nil
}

func (v *testVault) Move(_ context.Context, tenant, from, to string) (lifecycle.Moved, error) {
	if !v.configured {
		return lifecycle.Moved{}, fmt.Errorf("%w: set kms.key_id to %s", lifecycle.ErrConfigure, to)
	}
	v.moved++
	return lifecycle.Moved{Tenant: tenant, Job: "job-1", Records: 7, Verified: 7}, nil
}

// copyOf is a state as it is read again.
func copyOf(t *testing.T, x *lifecycle.Compromise) *lifecycle.Compromise {
	t.Helper()
	text, err := json.Marshal(x)
	if err != nil {
		t.Fatal(err)
	}
	y := &lifecycle.Compromise{}
	if err := json.Unmarshal(text, y); err != nil {
		t.Fatal(err)
	}
	return y
}

func TestCompromiseEndsInTheSameStateAfterAStopAtAnyStep(t *testing.T) {
	c, admin := keyService(t, time.Now)
	in := func(region string) (*awskms.Client, error) {
		o := c.Options()
		o.Region = region
		return awskms.New(o), nil
	}
	old := allowAll(t, c, &awskms.CreateKeyInput{MultiRegion: aws.Bool(true)}, "alias/stolen")
	if _, err := c.ReplicateKey(t.Context(), &awskms.ReplicateKeyInput{KeyId: &old, ReplicaRegion: aws.String("eu-west-1")}); err != nil {
		t.Fatal(err)
	}
	there, err := in("eu-west-1")
	if err != nil {
		t.Fatal(err)
	}
	replica := "arn:aws:kms:eu-west-1:" + strings.SplitN(old, ":", 5)[4]
	if _, err := there.CreateAlias(t.Context(), &awskms.CreateAliasInput{AliasName: aws.String("alias/stolen"), TargetKeyId: &replica}); err != nil {
		t.Fatal(err)
	}
	app := "arn:aws:iam::111122223333:user/app"
	for _, at := range []*awskms.Client{c, there} {
		key := map[*awskms.Client]string{c: old, there: replica}[at]
		if _, err := at.CreateGrant(t.Context(), &awskms.CreateGrantInput{KeyId: &key, GranteePrincipal: &app, Operations: []types.GrantOperation{types.GrantOperationDecrypt}}); err != nil {
			t.Fatal(err)
		}
	}
	sealed, err := c.Encrypt(t.Context(), &awskms.EncryptInput{KeyId: &old, Plaintext: []byte("data")})
	if err != nil {
		t.Fatal(err)
	}
	v := &testVault{key: old}
	file := []string{"backup.tar.encrypted"}
	r := &lifecycle.Responder{KMS: c, In: in, Now: time.Now, Data: v, Files: func(string) ([]string, error) { return file, nil }}
	x, err := r.Begin(t.Context(), "alias/stolen")
	if err != nil {
		t.Fatal(err)
	}
	if len(x.Places) != 2 || len(x.Places[0].Grants) != 1 || x.Places[1].Key != replica || x.Places[1].Grants[0].Grantee != app || x.Touched.VaultKeys[0].Records != 7 {
		t.Fatalf("%+v", x)
	}
	x.Opener, x.Backups = admin, []lifecycle.Backup{{Name: "tape-7"}}

	// Each run is killed before a note is kept, one note later each time.
	state := copyOf(t, x)
	respond := func() *lifecycle.Compromise {
		for run := 1; run < 40; run++ {
			notes := 0
			r.Save = func(x *lifecycle.Compromise) error {
				if notes++; notes == run {
					return errKilled
				}
				state = copyOf(t, x)
				return nil
			}
			err := r.Respond(t.Context(), copyOf(t, state))
			if err == nil {
				return state
			}
			if !errors.Is(err, errKilled) {
				t.Fatalf("run %d: %v", run, err)
			}
		}
		t.Fatal("it does not end")
		return nil
	}
	x = respond()
	want := []string{
		"tenant acme: the vault is not configured for the new key: set kms.key_id to " + x.Replacement.NewKey,
		"file backup.tar.encrypted: 'cardea rewrap --from-key-id " + old + " --key-id " + x.Replacement.NewKey + " --in backup.tar.encrypted --in-place', as " + admin,
		"backup tape-7: encrypt it anew or destroy it, then run this again with --backup-done tape-7",
	}
	if !slices.Equal(x.Open, want) || !x.Finished.IsZero() || v.moved != 0 {
		t.Errorf("open is %q, want %q; %d moved", x.Open, want, v.moved)
	}
	for _, at := range []*awskms.Client{c, there} {
		k, err := lifecycle.Look(t.Context(), at, "alias/stolen")
		if err != nil || k.ID != x.Replacement.NewKey[len(x.Replacement.NewKey)-len(k.ID):] || k.State != types.KeyStateEnabled || strings.Contains(string(k.Policy), "Compromised") {
			t.Errorf("%+v, %v", k, err)
		}
	}
	for key, at := range map[string]*awskms.Client{old: c, replica: there} {
		k, err := lifecycle.Look(t.Context(), at, key)
		grants, err2 := lifecycle.GrantsOn(t.Context(), at, key)
		if err != nil || err2 != nil || k.State != types.KeyStateEnabled || len(grants) > 0 || !strings.Contains(string(k.Policy), "CompromisedKeyProtectsNothing") {
			t.Errorf("%+v, %v, %v, %v", k, grants, err, err2)
		}
	}
	if _, err := c.Encrypt(t.Context(), &awskms.EncryptInput{KeyId: &old, Plaintext: []byte("more")}); err == nil || !strings.Contains(err.Error(), "AccessDenied") {
		t.Errorf("a compromised key protects: %v", err)
	}
	if _, err := c.Decrypt(t.Context(), &awskms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob}); err != nil {
		t.Errorf("who is to move the data cannot open it: %v", err)
	}

	// What was open is done by people, and it goes on.
	v.configured, file, state.Backups[0].Done = true, nil, time.Now()
	x = respond()
	if len(x.Open) > 0 || x.Finished.IsZero() || v.moved != 1 {
		t.Errorf("%+v", x)
	}
	for key, at := range map[string]*awskms.Client{old: c, replica: there} {
		if k, err := lifecycle.Look(t.Context(), at, key); err != nil || k.State != types.KeyStateDisabled {
			t.Errorf("%+v, %v", k, err)
		}
	}
	out, err := c.ListKeys(t.Context(), &awskms.ListKeysInput{})
	if err != nil || len(out.Keys) != 2 {
		t.Errorf("%d keys, want 2: something was made twice; %v", len(out.Keys), err)
	}
	var page strings.Builder
	if err := x.Report().HTML(&page); err != nil || !strings.Contains(page.String(), "<h1>Compromise of a key</h1>") || !strings.Contains(page.String(), "restrict-policy eu-west-1") {
		t.Errorf("%v\n%s", err, page.String())
	}
}

func TestCompromisedKeyIsDisabledAtOnceOnlyIfThatIsSaid(t *testing.T) {
	c, _ := keyService(t, time.Now)
	old := allowAll(t, c, &awskms.CreateKeyInput{}, "alias/stolen")
	v := &testVault{key: old}
	r := &lifecycle.Responder{KMS: c, Now: time.Now, Data: v, Save: func(*lifecycle.Compromise) error { return nil }}
	x, err := r.Begin(t.Context(), old)
	if err != nil {
		t.Fatal(err)
	}
	x.DisableNow = true
	if err := r.Respond(t.Context(), x); err != nil {
		t.Fatal(err)
	}
	if len(x.Open) != 1 || !strings.HasPrefix(x.Open[0], "1 keys of the vault are under the key, which is Disabled: enable it ('aws kms enable-key'), then run this again; nobody opens anything") {
		t.Errorf("open is %q", x.Open)
	}
	if k, err := lifecycle.Look(t.Context(), c, old); err != nil || k.State != types.KeyStateDisabled {
		t.Errorf("%+v, %v", k, err)
	}
	if _, err := lifecycle.ScheduleDeletion(t.Context(), c, &lifecycle.Key{ID: x.Places[0].Key[len(x.Places[0].Key)-36:], ARN: old}, 7); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Begin(t.Context(), old); err == nil || !strings.Contains(err.Error(), "is PendingDeletion: nobody can use it; 'cardea keys cancel-deletion' keeps it, if what is under it must be moved") {
		t.Errorf("got %v", err)
	}
}
