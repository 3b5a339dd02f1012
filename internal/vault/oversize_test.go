package vault_test

import (
	"strings"
	"testing"
	"time"

	"cardea/internal/vault"
)

// TestOnlyWhatIsTooLongStaysUnderBranchKeys: a KMS that encrypts records takes short
// ones only.
func TestOnlyWhatIsTooLongStaysUnderBranchKeys(t *testing.T) {
	t.Parallel()
	n := newKeyNode(t, "a", nil)
	n.setMode(vault.ModeKMSEnvelope, "k1")
	all := n.fill(t, 120)
	long := vault.Datum{Tenant: "acme", Entity: "e2", VaultID: "v1"}
	document := `{"a":"` + strings.Repeat("x", 1000) + `"}`
	if err := n.StoreData(t.Context(), client("acme"), long, text(document), nil, true); err != nil {
		t.Fatal(err)
	}
	whole := func() {
		t.Helper()
		n.check(t, all)
		if v, err := n.RetrieveData(t.Context(), client("acme"), long); err != nil || string(v.Expose()) != document {
			t.Errorf("long data: %v", err)
		}
	}
	end := func(j vault.Job, err error) vault.Job {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if j = n.finish(t, j.ID); j.State != vault.JobDone || j.Bad != 0 {
			t.Fatalf("%+v", j)
		}
		return j
	}
	records := func() (states []string) {
		for _, s := range n.keyStates(t) {
			if !strings.Contains(s, " retired ") && (strings.Contains(s, "/record ") || strings.Contains(s, "/direct ")) {
				states = append(states, s)
			}
		}
		return states
	}

	n.keys.SetOversize(500)
	n.setMode(vault.ModeKMS, "k1")
	whole()
	plan, err := n.admin.Plan(t.Context(), operator(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	var moves int64
	for _, m := range plan {
		if m.Action == vault.ActionSift {
			moves += m.Records
		}
	}
	if moves != 121 {
		t.Errorf("%d records would be moved, want 121", moves)
	}
	j := end(n.admin.Migrate(t.Context(), operator(), vault.JobRequest{Tenant: "acme", Verify: true}))
	if j.Total != 121 || j.Moved != 121 || j.Verified != 122 {
		t.Errorf("%d to move, %d moved, %d verified", j.Total, j.Moved, j.Verified)
	}
	whole()
	wantStates(t, records(), "/direct v1 active aws_kms 121", "/record v1 active aws_kms_envelope 1", "m1/record v1 active aws_kms_envelope 0", "m2/record v1 active aws_kms_envelope 0")
	if _, err := n.admin.Migrate(t.Context(), operator(), vault.JobRequest{Tenant: "acme"}); err == nil || !strings.Contains(err.Error(), "in mode aws_kms and under its configured KMS key already") {
		t.Errorf("once more: %v", err)
	}

	// Its key is replaced as others are, by itself too, and once.
	n.clock.pass(time.Second)
	end(n.admin.Rotate(t.Context(), operator(), vault.JobRequest{Tenant: "acme", Verify: true}))
	whole()
	wantStates(t, records(), "/direct v2 active aws_kms 121", "/record v2 active aws_kms_envelope 1", "m1/record v2 active aws_kms_envelope 0", "m2/record v2 active aws_kms_envelope 0")
	n.policy.Cryptoperiod = time.Hour
	n.clock.pass(2 * time.Hour)
	n.admin.Schedule(t.Context())
	jobs, err := n.admin.Jobs(t.Context(), operator(), "acme")
	if err != nil || len(jobs) != 3 || jobs[0].Reason != vault.ReasonCryptoperiod {
		t.Fatalf("%+v, %v", jobs, err)
	}
	end(jobs[0], nil)
	whole()
	wantStates(t, records(), "/direct v3 active aws_kms 121", "/record v3 active aws_kms_envelope 1", "m1/record v3 active aws_kms_envelope 0", "m2/record v3 active aws_kms_envelope 0")
	n.admin.Schedule(t.Context())
	if jobs, err = n.admin.Jobs(t.Context(), operator(), "acme"); err != nil || len(jobs) != 3 {
		t.Errorf("%d jobs, %v", len(jobs), err)
	}

	// And back.
	n.policy.Cryptoperiod = 0
	n.setMode(vault.ModeKMSEnvelope, "k1")
	end(n.admin.Migrate(t.Context(), operator(), vault.JobRequest{Tenant: "acme", Verify: true}))
	whole()
	n.allIn(t, vault.ModeKMSEnvelope, 122)
}
