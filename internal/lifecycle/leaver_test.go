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

	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"cardea/internal/audit"
	"cardea/internal/lifecycle"
)

// testDirectory has one user.
type testDirectory struct {
	user lifecycle.Identity
	off  int
}

func (d *testDirectory) Identity(_ context.Context, arn string) (*lifecycle.Identity, error) {
	if arn != d.user.ARN {
		return nil, nil //nolint:nilnil // as the interface says
	}
	i := d.user
	return &i, nil
}

func (d *testDirectory) Deactivate(context.Context, *lifecycle.Identity) (string, error) {
	d.off++
	return "off", nil
}

const leaver = "arn:aws:iam::111122223333:user/app"

func TestLeaverIsDroppedFromWhatNamesHim(t *testing.T) {
	c, admin := keyService(t, time.Now)
	keys := 0
	named := func(statements string) string {
		keys++
		policy := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + admin + `"},"Action":"kms:*","Resource":"*"}` + statements + `]}`
		return allowAll(t, c, &awskms.CreateKeyInput{Policy: &policy}, fmt.Sprint("alias/k", keys))
	}
	alone := named(`,{"Sid":"one","Effect":"Allow","Principal":{"AWS":"` + leaver + `"},"Action":"kms:Decrypt","Resource":"*"}`)
	among := named(`,{"Sid":"two","Effect":"Allow","Principal":{"AWS":["` + leaver + `","arn:aws:iam::111122223333:user/other"]},"Action":"kms:Decrypt","Resource":"*"}`)
	condition := named(`,{"Sid":"three","Effect":"Allow","Principal":{"AWS":"*"},"Action":"kms:Decrypt","Resource":"*","Condition":{"ArnEquals":{"aws:PrincipalArn":"` + leaver + `"}}}`)
	nobody := named("")
	who := leaver
	if _, err := c.CreateGrant(t.Context(), &awskms.CreateGrantInput{KeyId: &among, GranteePrincipal: &who, Operations: []types.GrantOperation{types.GrantOperationDecrypt}}); err != nil {
		t.Fatal(err)
	}
	other := "arn:aws:iam::111122223333:user/other"
	if _, err := c.CreateGrant(t.Context(), &awskms.CreateGrantInput{KeyId: &among, GranteePrincipal: &other, Operations: []types.GrantOperation{types.GrantOperationDecrypt}}); err != nil {
		t.Fatal(err)
	}
	external := allowAll(t, c, &awskms.CreateKeyInput{}, "alias/component") // stands for one with imported material
	dir := &testDirectory{user: lifecycle.Identity{ARN: leaver, In: "test", ID: "AIDAAAAAAAAAAAAAAAAA", AccessKeys: []lifecycle.AccessKey{{ID: "AKIA", Active: true}}, Open: []string{"he has a password"}}}
	d := &lifecycle.Departure{
		Regions: []lifecycle.Region{{Name: "eu-central-1", KMS: c}}, Directories: []lifecycle.Directory{dir}, Now: time.Now,
		Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() }, Register: "bob is still in the register",
	}
	x, err := d.Find(t.Context(), []string{leaver})
	if err != nil {
		t.Fatal(err)
	}
	x.AddPart(&lifecycle.KeyPart{Kind: lifecycle.PartComponent, Key: external, At: time.Now()})
	x.AddPart(&lifecycle.KeyPart{Kind: lifecycle.PartShare, Tenant: "acme", At: time.Now()})
	if len(x.Keys) != 3 || len(x.Identities) != 1 {
		t.Fatalf("%+v", x)
	}
	n, err := x.Needed(nil)
	if err != nil || n.Approvals != 1 || n.Target != leaver || len(n.Params["plan-sha256"]) != 64 {
		t.Errorf("%+v, %v", n, err)
	}

	// Each run is killed before a note is kept, one note later each time.
	text, err := json.Marshal(x)
	for run := 1; err == nil && run < 40; run++ {
		notes := 0
		d.Save = func(x *lifecycle.Leaver) (err error) {
			if notes++; notes == run {
				return errKilled
			}
			text, err = json.Marshal(x)
			return err
		}
		x = &lifecycle.Leaver{}
		if err = json.Unmarshal(text, x); err != nil {
			break
		}
		if err = d.Deactivate(t.Context(), x); err == nil {
			err = d.Depart(t.Context(), x)
		}
		if err == nil {
			break
		}
		if errors.Is(err, errKilled) {
			err = nil
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if dir.off == 0 || len(x.Rotations) != 1 || x.Rotations[0].Finished.IsZero() || !x.Finished.IsZero() {
		t.Errorf("%d, %+v", dir.off, x)
	}
	for _, want := range []string{"arn:aws:iam::111122223333:user/app in test: he has a password", "key " + condition + ": a statement still names " + leaver, "he held a share of the custodian key of acme: 'cardea custodian rekey --tenant acme' makes it worthless", "bob is still in the register"} {
		if !slices.ContainsFunc(x.Open, func(o string) bool { return strings.HasPrefix(o, want) }) {
			t.Errorf("open is %q, want %s", x.Open, want)
		}
	}
	for key, want := range map[string]bool{alone: false, among: false, condition: true, nobody: false} {
		k, err := lifecycle.Look(t.Context(), c, key)
		if err != nil || strings.Contains(string(k.Policy), leaver) != want {
			t.Errorf("%s, %v", k.Policy, err)
		}
	}
	if k, err := lifecycle.Look(t.Context(), c, among); err != nil || !strings.Contains(string(k.Policy), other) {
		t.Errorf("%s, %v", k.Policy, err)
	}
	if left, err := lifecycle.GrantsOn(t.Context(), c, among); err != nil || len(left) != 1 || left[0].Grantee != other {
		t.Errorf("%+v, %v", left, err)
	}
	if k, err := lifecycle.Look(t.Context(), c, external); err != nil || len(k.Rotations) != 1 {
		t.Errorf("it is to be rotated once: %+v, %v", k, err)
	}
	var page strings.Builder
	if err := x.Report().HTML(&page); err != nil || !strings.Contains(page.String(), "Departure of a person") {
		t.Errorf("%v\n%s", err, page.String())
	}

	// Nobody is dropped who alone administers a key.
	if _, err := d.Find(t.Context(), []string{admin}); !errors.Is(err, lifecycle.ErrLastAdministrator) || !strings.Contains(err.Error(), "nobody else administers the key: name another administrator in its policy first") {
		t.Errorf("got %v", err)
	}
}

func TestPartsOfKeyMaterialAreFoundInTheLog(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	imported := func(detail string, outcome audit.Outcome) *audit.Entry {
		return &audit.Entry{ID: "1", Time: at, Op: "ceremony.import", Outcome: outcome, Resource: audit.Resource{Kind: "key", Key: "arn:key"}, Detail: detail}
	}
	for name, x := range map[string]struct {
		entry *audit.Entry
		want  string
	}{
		"wrapped":           {imported("kcv 12, parameters 34, custodians alice, bob", audit.Allowed), "component arn:key"},
		"imported":          {imported("kcv 12, custodians bob, alice, approved by dave, register 12", audit.Allowed), "component arn:key"},
		"an approver":       {imported("kcv 12, custodians alice, approved by bob, register 12", audit.Allowed), ""},
		"another's name":    {imported("kcv 12, custodians bobby, alice", audit.Allowed), ""},
		"refused":           {imported("kcv 12, custodians bob, alice", audit.Failed), ""},
		"a share":           {&audit.Entry{ID: "1", Time: at, Op: "custodian.part", Outcome: audit.Allowed, Tenant: "acme", Who: audit.Actor{Type: "custodian", Name: "bob"}}, "share acme"},
		"another's share":   {&audit.Entry{ID: "1", Time: at, Op: "custodian.part", Outcome: audit.Allowed, Tenant: "acme", Who: audit.Actor{Type: "custodian", Name: "alice"}}, ""},
		"another operation": {&audit.Entry{ID: "1", Time: at, Op: "card.store", Outcome: audit.Allowed, Who: audit.Actor{Name: "bob"}}, ""},
	} {
		got := ""
		if p := lifecycle.Part(x.entry, "bob"); p != nil {
			got = p.Kind + " " + p.Key + p.Tenant
		}
		if got != x.want {
			t.Errorf("%s: got %q, want %q", name, got, x.want)
		}
	}
	x := &lifecycle.Leaver{}
	for _, hour := range []int{1, 3, 2} {
		x.AddPart(&lifecycle.KeyPart{Kind: lifecycle.PartShare, Tenant: "acme", At: at.Add(time.Duration(hour) * time.Hour)})
	}
	if len(x.Parts) != 1 || !x.Parts[0].At.Equal(at.Add(3*time.Hour)) {
		t.Errorf("%+v", x.Parts)
	}
}
