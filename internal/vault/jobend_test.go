package vault_test

import (
	"fmt"
	"testing"

	"cardea/internal/audit"
	"cardea/internal/vault"
)

// A job whose end could not be written with its entry has not ended: giving it back
// must not store the end by itself, or the log would say that it failed.
func TestJobEndsOnlyWithItsEntry(t *testing.T) {
	t.Parallel()
	n := newKeyNode(t, "a", nil)
	n.fill(t, 4)
	j, err := n.admin.Verify(t.Context(), operator(), vault.JobRequest{Tenant: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	saves := 0
	n.store.FailWith(func(called string) error {
		if called == "SaveJob" {
			if saves++; saves == 2 { // the first begins the step
				return fmt.Errorf("SaveJob: %w", vault.ErrUnavailable)
			}
		}
		return nil
	})
	n.admin.TakeUp(t.Context())
	n.store.FailWith(nil)
	if saves != 3 {
		t.Fatalf("the job was written %d times, want its step, its end and that it is given back", saves)
	}
	got, err := n.admin.Job(t.Context(), operator(), j.ID.String())
	if err != nil || got.State != vault.JobRunning || got.Error == "" || got.DoneAt != 0 {
		t.Errorf("after an end that was not written the job is %+v, %v", got, err)
	}
	if j = n.finish(t, j.ID); j.State != vault.JobDone {
		t.Errorf("%+v", j)
	}
	done := 0
	for _, e := range since(t, n.store, 0) {
		if e.Op == vault.OpKeyJob.Name && e.Outcome == audit.Allowed && e.Result == string(vault.JobDone) {
			done++
		}
	}
	if done != 1 {
		t.Errorf("%d entries say that the job is done, want 1", done)
	}
}
