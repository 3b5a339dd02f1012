package lifecycle_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"cardea/internal/approval"
	"cardea/internal/lifecycle"
)

// retirement is the beginning of one.
func retirement(t *testing.T, c *awskms.Client, key string) *lifecycle.Retirement {
	t.Helper()
	k, err := lifecycle.Look(t.Context(), c, key)
	if err != nil {
		t.Fatal(err)
	}
	a := lifecycle.Approved{ID: "request", Requester: "carol", Approvers: []string{"dave", "erin"}}
	return &lifecycle.Retirement{Destruction: lifecycle.DestructionOf(k, &a, "project ended", 7, time.Now()), Approval: a, Started: time.Now(), Steps: []lifecycle.DoneStep{}}
}

func TestRetireEndsInTheSameStateAfterAStopAtAnyStep(t *testing.T) {
	now := time.Now()
	c, _ := keyService(t, time.Now)
	made, err := c.CreateKey(t.Context(), &awskms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	key := *made.KeyMetadata.Arn
	state := retirement(t, c, key)
	var record *lifecycle.Destruction
	r := &lifecycle.Retirer{
		KMS: c, Now: func() time.Time { return now },
		Trail: func(context.Context) ([]lifecycle.TrailFile, error) {
			return []lifecycle.TrailFile{{Name: "trail.ndjson", Entries: 3}}, nil
		},
		Record: func(d *lifecycle.Destruction) error {
			record = d
			return nil
		},
	}
	for run := 1; state.Finished.IsZero(); run++ {
		if run > 20 {
			t.Fatal("it does not end")
		}
		notes := 0
		r.Save = func(x *lifecycle.Retirement) error {
			if notes++; notes == run {
				return errKilled
			}
			text, err := json.Marshal(x)
			if err == nil {
				state = &lifecycle.Retirement{}
				err = json.Unmarshal(text, state)
			}
			return err
		}
		x := *state
		if err := r.Retire(t.Context(), &x); err != nil && !errors.Is(err, errKilled) {
			t.Fatalf("run %d: %v", run, err)
		}
	}
	var steps []string
	for _, s := range state.Steps {
		steps = append(steps, s.Step)
	}
	if got := strings.Join(steps, " "); got != "disable not-used-meanwhile schedule-deletion trail record" {
		t.Errorf("steps are %s", got)
	}
	k, err := lifecycle.Look(t.Context(), c, key)
	if err != nil || k.State != types.KeyStatePendingDeletion || !k.Deletion.Equal(state.Deletion) || !record.Deletion.Equal(k.Deletion) || record.Trail[0].Entries != 3 {
		t.Errorf("%+v, %+v, %v", k, record, err)
	}

	// A later run finds out what became of it.
	r.Save = func(*lifecycle.Retirement) error { return nil }
	if err := r.Retire(t.Context(), state); err != nil || len(state.Open) > 0 || !state.Destroyed.IsZero() {
		t.Errorf("%+v, %v", state, err)
	}
	if _, err := lifecycle.CancelDeletion(t.Context(), c, key); err != nil {
		t.Fatal(err)
	}
	if err := r.Retire(t.Context(), state); err != nil || len(state.Open) != 1 || state.Open[0] != "its destruction was cancelled: it is Disabled; to retire it all the same, begin anew with another --report" {
		t.Errorf("%q, %v", state.Open, err)
	}
	other := *state
	other.Key = key[:len(key)-12] + "000000000000"
	if err := r.Retire(t.Context(), &other); !errors.Is(err, lifecycle.ErrUnproved) || !strings.Contains(err.Error(), "is gone before") {
		t.Errorf("got %v", err)
	}
	now = state.Deletion.Add(time.Hour)
	if err := r.Retire(t.Context(), &other); err != nil || other.Destroyed.IsZero() || other.Steps[len(other.Steps)-1].Step != "destroyed" {
		t.Errorf("%+v, %v", other, err)
	}
	var page strings.Builder
	if err := other.Report().HTML(&page); err != nil || !strings.Contains(page.String(), "Retirement of a key") || !strings.Contains(page.String(), "trail.ndjson") {
		t.Errorf("%v\n%s", err, page.String())
	}
}

func TestKeyThatIsUsedWhileItIsRetiredIsNotDestroyed(t *testing.T) {
	c, _ := keyService(t, time.Now)
	key := allowAll(t, c, &awskms.CreateKeyInput{}, "alias/x")
	x := retirement(t, c, key)
	x.Started = time.Now().Add(-time.Hour) // between the look and the end of its use
	if _, err := c.Encrypt(t.Context(), &awskms.EncryptInput{KeyId: &key, Plaintext: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	r := &lifecycle.Retirer{KMS: c, Now: time.Now, Save: func(*lifecycle.Retirement) error { return nil }}
	if err := r.Retire(t.Context(), x); !errors.Is(err, lifecycle.ErrInUse) || !strings.Contains(err.Error(), "after its retirement was begun: it is disabled; if somebody needs it, enable it ('aws kms enable-key') and begin anew with another --report") {
		t.Errorf("got %v", err)
	}
	if k, err := lifecycle.Look(t.Context(), c, key); err != nil || k.State != types.KeyStateDisabled {
		t.Errorf("%+v, %v", k, err)
	}
}

func TestKeyThatSomethingNeedsIsNotRetired(t *testing.T) {
	c, admin := keyService(t, time.Now)
	p := policy(t, admin)
	if _, err := (&lifecycle.Administrator{KMS: c}).Apply(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	free := allowAll(t, c, &awskms.CreateKeyInput{}, "alias/free")
	if _, err := c.DeleteAlias(t.Context(), &awskms.DeleteAliasInput{AliasName: aws.String("alias/free")}); err != nil {
		t.Fatal(err)
	}
	used := func(o string, calls, failed int64, ago time.Duration) lifecycle.Touched {
		return lifecycle.Touched{Since: time.Now().Add(-1000 * time.Hour), Sources: []string{"trail"}, Operations: []lifecycle.Use{{Name: o, Calls: calls, Failed: failed, Last: time.Now().Add(-ago)}}}
	}
	noFiles := func(string) ([]string, error) { return nil, nil }
	for name, x := range map[string]struct {
		key  string
		u    lifecycle.Unneeded
		want string
	}{
		"replicas":            {"alias/rds", lifecycle.Unneeded{}, "the key is in use: alias/rds, alias/rds-prod names it: move the alias to another key, or delete it"},
		"vault":               {free, lifecycle.Unneeded{Data: &testVault{key: free}}, "the key is in use:  key k version 1 of tenant acme (active, 7 records): move them by 'cardea keys migrate'"},
		"files":               {free, lifecycle.Unneeded{Files: func(string) ([]string, error) { return []string{"a", "b"}, nil }}, "the key is in use: it opens 2 files, such as a: put them under another key by 'cardea rewrap'"},
		"logs":                {free, lifecycle.Unneeded{Touched: used("kms.amazonaws.com:Decrypt", 1, 0, time.Hour)}, "the key is in use: the logs have Decrypt on "},
		"looked at":           {free, lifecycle.Unneeded{Touched: used("kms.amazonaws.com:DescribeKey", 1, 0, time.Hour)}, ""},
		"refused":             {free, lifecycle.Unneeded{Touched: used("kms.amazonaws.com:Decrypt", 2, 2, time.Hour)}, ""},
		"long ago":            {free, lifecycle.Unneeded{Touched: used("kms.amazonaws.com:Decrypt", 1, 0, 800*time.Hour), Covered: true}, ""},
		"nothing, with files": {free, lifecycle.Unneeded{Files: noFiles, Policy: p, Data: &testVault{}}, ""},
	} {
		k, err := lifecycle.Look(t.Context(), c, x.key)
		if err != nil {
			t.Fatal(err)
		}
		x.u.KMS, x.u.Now, x.u.Unused = c, time.Now, 30*24*time.Hour
		evidence, err := x.u.Prove(t.Context(), k)
		if x.want == "" {
			if err != nil || len(evidence) < 2 {
				t.Errorf("%s: %q, %v", name, evidence, err)
			}
			continue
		}
		if !errors.Is(err, lifecycle.ErrInUse) || !strings.HasPrefix(err.Error(), x.want) {
			t.Errorf("%s: got %v, want %s", name, err, x.want)
		}
	}
	// The key that serves a class is needed, also if its aliases are gone.
	mac, err := lifecycle.Look(t.Context(), c, "alias/mac-prod")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.DeleteAlias(t.Context(), &awskms.DeleteAliasInput{AliasName: aws.String("alias/mac-prod")}); err != nil {
		t.Fatal(err)
	}
	u := &lifecycle.Unneeded{KMS: c, Now: time.Now, Unused: time.Hour, Policy: p}
	if _, err := u.Prove(t.Context(), mac); !errors.Is(err, lifecycle.ErrInUse) || !strings.Contains(err.Error(), "it is the key of mac-prod in the policy file: replace it by 'cardea keys rotate --replace', or take it out of the file") {
		t.Errorf("got %v", err)
	}
	rds, err := lifecycle.Look(t.Context(), c, "alias/rds")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"alias/rds", "alias/rds-prod"} {
		if _, err := c.DeleteAlias(t.Context(), &awskms.DeleteAliasInput{AliasName: &a}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := u.Prove(t.Context(), rds); !errors.Is(err, lifecycle.ErrInUse) || !strings.Contains(err.Error(), "it has replicas in eu-west-1: destroy those first") {
		t.Errorf("got %v", err)
	}
}

func TestWindowAndQuorumAreThePolicyFiles(t *testing.T) {
	t.Parallel()
	p := policy(t, "arn:aws:iam::111122223333:user/admin", "approvals: {key.put-policy: 1}", "approvals: {key.retire: 3, key.compromise: 1}", "    replicas: [eu-west-1]", "    deletion_window: 14d")
	var none *lifecycle.Policy
	for _, x := range []struct {
		p     *lifecycle.Policy
		class string
		asked int
		want  lifecycle.Days
		err   string
	}{
		{none, "", 0, 30, ""},
		{none, "rds-prod", 7, 7, ""},
		{none, "", 6, 0, "6 must be 7 to 30 days"},
		{none, "", 31, 0, "31 must be 7 to 30 days"},
		{p, "rds-prod", 0, 14, ""},
		{p, "rds-prod", 14, 14, ""},
		{p, "rds-prod", 30, 0, "30d is not the 14d that the policy file has for rds-prod"},
		{p, "other", 8, 8, ""},
	} {
		got, err := x.p.Window(x.class, x.asked)
		if got != x.want || (err == nil) != (x.err == "") || err != nil && err.Error() != x.err {
			t.Errorf("%s, %d: got %v, %v, want %v, %s", x.class, x.asked, got, err, x.want, x.err)
		}
	}
	if n := p.Quorum(approval.KeyCompromise, 2); n != 1 {
		t.Errorf("%d", n)
	}
	for q, want := range map[*lifecycle.Policy]int{none: 2, p: 3} {
		if n := q.DeletionApproval(approval.KeyRetire, "key", 7); n.Approvals != want || n.Params["window"] != "7" {
			t.Errorf("%+v, want %d approvals", n, want)
		}
	}
	if n := p.DeletionApproval(approval.KeyDeletion, "key", 7); n.Approvals != 2 {
		t.Errorf("%+v", n)
	}
}
