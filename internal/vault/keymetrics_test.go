package vault_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"cardea/internal/vault"
)

// wantMetrics compares the metrics of jobs with lines as they are scraped.
func (n *keyNode) wantMetrics(t *testing.T, what string, want ...string) {
	t.Helper()
	families, err := n.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			got = append(got, fmt.Sprintf("%s{%s} %.0f", f.GetName(), strings.Join(labels, ","), m.GetCounter().GetValue()+m.GetGauge().GetValue()))
		}
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s:\ngot  %s\nwant %s", what, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
}

func TestMetricsTellHowFarJobsAre(t *testing.T) {
	t.Parallel()
	n := newKeyNode(t, "a", nil)
	n.fill(t, 300)
	n.clock.pass(time.Second)
	n.wantMetrics(t, "at the start")
	j, err := n.admin.Rotate(t.Context(), operator(), vault.JobRequest{Tenant: "acme", Holder: "m1", Verify: true})
	if err != nil {
		t.Fatal(err)
	}
	// Its first batch is moved, and the second cannot be.
	calls := 0
	n.store.FailWith(func(op string) error {
		if op == "ReplaceSealed" {
			if calls++; calls == 2 {
				return errors.New("no answer")
			}
		}
		return nil
	})
	n.admin.TakeUp(t.Context())
	n.store.FailWith(nil)
	n.clock.pass(time.Second) // it is not tried again yet
	n.admin.TakeUp(t.Context())
	n.wantMetrics(t, "in the middle",
		`cardea_keys_jobs{kind="reencrypt",state="running",tenant="acme"} 1`,
		`cardea_keys_job_begun_timestamp_seconds{kind="reencrypt",tenant="acme"} 1772366401`,
		`cardea_keys_job_rows_remaining{kind="reencrypt",tenant="acme"} 50`,
		`cardea_keys_job_rows_total{kind="reencrypt",result="moved",tenant="acme"} 100`,
		`cardea_keys_job_failures_total{kind="reencrypt",tenant="acme"} 1`,
	)
	if j = n.finish(t, j.ID); j.State != vault.JobDone {
		t.Fatalf("%+v", j)
	}
	if _, err := n.admin.Verify(t.Context(), operator(), vault.JobRequest{Tenant: "acme"}); err != nil {
		t.Fatal(err)
	}
	jobs, err := n.admin.Jobs(t.Context(), operator(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.admin.Cancel(t.Context(), operator(), jobs[0].ID.String()); err != nil {
		t.Fatal(err)
	}
	n.admin.TakeUp(t.Context())
	n.wantMetrics(t, "at the end",
		`cardea_keys_job_rows_total{kind="reencrypt",result="moved",tenant="acme"} 150`,
		`cardea_keys_job_rows_total{kind="reencrypt",result="verified",tenant="acme"} 150`,
		`cardea_keys_job_failures_total{kind="reencrypt",tenant="acme"} 1`,
		`cardea_keys_jobs_ended_total{kind="reencrypt",state="done",tenant="acme"} 1`,
		`cardea_keys_jobs_ended_total{kind="verify",state="failed",tenant="acme"} 1`,
	)
}
