package apptest

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"cardea/internal/approval"
	"cardea/internal/config"
	"cardea/internal/lifecycle"
	"cardea/internal/notekey"
)

// people are a requester and two approvers, with a register of them.
type people struct {
	dir      string
	register string // file
	reg      *approval.Register
	signers  map[string]*notekey.Signer
}

func newPeople(t *testing.T, dir string) *people {
	t.Helper()
	p := &people{dir: dir, register: filepath.Join(dir, "people.toml"), signers: map[string]*notekey.Signer{}}
	text := ""
	for name, role := range map[string]string{"carol": "requester", "dave": "approver", "erin": "approver"} {
		key, verifier, err := notekey.Generate(name)
		if err != nil {
			t.Fatal(err)
		}
		write(t, p.key(name), string(key.Expose())+"\n")
		if p.signers[name], err = notekey.Parse(key); err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprintf("[[person]]\nname = %q\nfull_name = \"A Person\"\nroles = [%q]\nvalid_until = 2099-01-01T00:00:00Z\nkey = %q\n", name, role, verifier)
	}
	write(t, p.register, text)
	reg, err := approval.ParseRegister([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	p.reg = reg
	return p
}

func (p *people) key(name string) string { return filepath.Join(p.dir, name+".key") }

// approved is the file of an approved request.
func (p *people) approved(t *testing.T, r approval.Request) string {
	t.Helper()
	now := time.Now()
	r.Approvals = 2
	asked, signed, err := approval.Ask(r, p.reg, p.signers["carol"], now)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"dave", "erin"} {
		if _, signed, err = approval.Approve(signed, p.reg, p.signers[name], now); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(p.dir, asked.ID+".request")
	write(t, path, string(signed))
	return path
}

// killedAfter runs a command, and kills it with SIGKILL when it has noted a step: at
// once, or at the latest when it sends its next request. Between the note and the kill
// it may do a little more, as in life. It reports false if the command ended before,
// which only one can that has nothing more to ask after the step.
func (d *deadly) killedAfter(t *testing.T, state, step string, env []string, args ...string) bool {
	t.Helper()
	noted := func() bool {
		text, err := os.ReadFile(state)
		return err == nil && strings.Contains(string(text), fmt.Sprintf(`"step": %q`, step))
	}
	wait := d.start(t, order{noted: noted}, env, args...)
	ended := make(chan struct{})
	var out string
	var err error
	go func() {
		defer close(ended)
		out, err = wait()
	}()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for {
		select {
		case <-look.C:
			if noted() {
				d.kill()
			}
		case <-ended:
			if err != nil && !errors.Is(err, errWasKilled) {
				t.Errorf("before the kill after %s: %v\n%s", step, err, out)
			}
			return err != nil
		}
	}
}

// doneSteps are the steps in a state, in order.
func doneSteps(steps ...[]lifecycle.DoneStep) string {
	var all []string
	for _, some := range steps {
		for _, s := range some {
			all = append(all, s.Step)
		}
	}
	return strings.Join(all, " ")
}

// TestKeysCompromiseCrash kills 'cardea keys compromise' with SIGKILL at every change,
// and after every note of a step.
func TestKeysCompromiseCrash(t *testing.T) {
	t.Parallel()
	in, c, d := lifecycleService(t)
	env := credentialsEnv(in.creds)
	p := newPeople(t, in.dir)
	in.role(t, "mover")
	mover := "arn:aws:iam::" + keyAccount + ":role/mover"
	old := map[int]string{}
	number := func(i int) string { return fmt.Sprintf("stolen-%02d", i) }
	report := func(i int) string { return filepath.Join(in.dir, "report-"+number(i)) }
	prepare := func(i int) []string {
		old[i] = makeKMSKey(t, c, &awskms.CreateKeyInput{Description: aws.String(number(i)), Tags: []types.Tag{{TagKey: aws.String("test"), TagValue: aws.String(number(i))}}})
		alias := "alias/" + number(i)
		if _, err := c.CreateAlias(t.Context(), &awskms.CreateAliasInput{AliasName: &alias, TargetKeyId: aws.String(old[i])}); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := c.CreateGrant(t.Context(), &awskms.CreateGrantInput{KeyId: aws.String(old[i]), GranteePrincipal: &mover, Operations: []types.GrantOperation{types.GrantOperationDecrypt}}); err != nil {
				t.Fatal(err)
			}
		}
		request := p.approved(t, approval.Request{Operation: approval.KeyCompromise, Target: old[i], Params: map[string]string{"reencrypt-by": mover}, Reason: "INC-12"})
		return []string{
			"keys", "compromise", "--key-id", alias, "--reason", "INC-12", "--reencrypt-by", mover, "--register", p.register, "--approval", request,
			"--report", report(i), "--endpoint-url", d.url, "--config", in.config,
		}
	}
	look := func(i int) string {
		if n := withTag(t, c, "test", number(i)); n != 2 {
			t.Errorf("%d keys of %s, want 2", n, number(i))
		}
		grants, err := lifecycle.GrantsOn(t.Context(), c, old[i])
		if err != nil {
			t.Error(err)
		}
		x := read[lifecycle.Compromise](t, report(i))
		text, _ := named(t, c, "alias/"+number(i), number(i))
		was, _ := named(t, c, old[i], number(i))
		return fmt.Sprintf("%s\nold: %s, %d grants\nsteps: %s\nopen: %q, finished %v, approved by %v", text, was, len(grants), doneSteps(x.Steps, x.Replacement.Steps), x.Open, !x.Finished.IsZero(), x.Approval.Approvers)
	}
	d.everyKill(t, env, prepare, look)
	want := look(0)
	if !strings.Contains(want, "Disabled") || !strings.Contains(want, "0 grants") || !strings.Contains(want, "finished true") {
		t.Errorf("undisturbed:\n%s", want)
	}
	in.killedAtNotes(t, d, env, strings.Fields("revoke-grants restrict-policy create-key move-aliases mark-old disable"), prepare, report, look, want)
	in.explained(t, "lifecycle.compromise")
}

// read is the state in a report.
func read[T any](t *testing.T, dir string) *T {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "state.json"))
	if err != nil {
		t.Fatal(err)
	}
	x := new(T)
	if err := json.Unmarshal(text, x); err != nil {
		t.Fatal(err)
	}
	return x
}

// killedAtNotes has a scenario killed after each step was noted, and run again to its end.
func (in *keyInstallation) killedAtNotes(t *testing.T, d *deadly, env, steps []string, prepare func(int) []string, report func(int) string, look func(int) string, want string) {
	t.Helper()
	killed := 0
	for n, step := range steps {
		i := 50 + n
		args := prepare(i)
		if d.killedAfter(t, filepath.Join(report(i), "state.json"), step, env, args...) {
			killed++
		}
		for _, when := range []string{"after a kill after " + step, "when all was done"} {
			if out, err := d.run(t, 0, env, args...); err != nil {
				t.Errorf("%s: %v\n%s", when, err, out)
			}
		}
		if got := look(i); got != want {
			t.Errorf("after a kill after %s:\n%s\nundisturbed:\n%s", step, got, want)
		}
	}
	t.Logf("killed after %d of %v", killed, steps)
	if killed < len(steps)/2 {
		t.Errorf("only %d kills came in time: too few to say anything", killed)
	}
}

// TestKeysRetireCrash kills 'cardea keys retire' with SIGKILL at every change, and after
// every note of a step.
func TestKeysRetireCrash(t *testing.T) {
	t.Parallel()
	in, c, d := lifecycleService(t)
	env := credentialsEnv(in.creds)
	p := newPeople(t, in.dir)
	keys := map[int]string{}
	report := func(i int) string { return filepath.Join(in.dir, fmt.Sprintf("report-%02d", i)) }
	prepare := func(i int) []string {
		keys[i] = makeKMSKey(t, c, &awskms.CreateKeyInput{})
		request := p.approved(t, approval.Request{Operation: approval.KeyRetire, Target: keys[i], Params: map[string]string{"window": "7"}, Reason: "project ended"})
		return []string{
			"keys", "retire", "--key-id", keys[i], "--window", "7", "--register", p.register, "--approval", request, "--key", p.key("carol"),
			"--report", report(i), "--endpoint-url", d.url, "--config", in.config,
		}
	}
	look := func(i int) string {
		x := read[lifecycle.Retirement](t, report(i))
		k, err := lifecycle.Look(t.Context(), c, keys[i])
		if err != nil {
			t.Fatal(err)
		}
		record, err := os.ReadFile(filepath.Join(report(i), "destruction.note"))
		if err != nil {
			t.Error(err)
		}
		trail, err := os.ReadFile(filepath.Join(report(i), "trail-key-service.ndjson"))
		if err != nil {
			t.Error(err)
		}
		return fmt.Sprintf("%s, steps: %s, finished %v, deletion as in the state %v, in the record %v, trail names it %v, approved by %v", k.State, doneSteps(x.Steps), !x.Finished.IsZero(),
			k.Deletion.Equal(x.Deletion), strings.Contains(string(record), `"deletion":"`+x.Deletion.Format(time.RFC3339Nano)+`"`), strings.Contains(string(trail), "kms.schedule_key_deletion") && strings.Contains(string(trail), k.ID), x.Approvers)
	}
	d.everyKill(t, env, prepare, look)
	want := look(0)
	if want != "PendingDeletion, steps: disable not-used-meanwhile schedule-deletion trail record, finished true, deletion as in the state true, in the record true, trail names it true, approved by [dave erin]" {
		t.Errorf("undisturbed: %s", want)
	}
	in.killedAtNotes(t, d, env, strings.Fields("disable not-used-meanwhile schedule-deletion trail record"), prepare, report, look, want)
	in.explained(t, "lifecycle.retire")
}

// TestCompromiseMovesTheVaultsRecords answers the compromise of the key that a vault's
// records are under: nothing is disabled before its records are under a new key.
func TestCompromiseMovesTheVaultsRecords(t *testing.T) {
	var old string
	v := vaultUnder(t, func(url string, keys, _ [2]string) config.Tenant {
		old = keys[0]
		c := config.DefaultTenant()
		c.Mode, c.KMS = config.ModeKMSEnvelope, config.TenantKMS{KeyID: old, Endpoint: url, Oversize: config.OversizeRefuse}
		return c
	})
	p := newPeople(t, v.dir)
	admin := "arn:aws:iam::" + keyAccount + ":user/admin"
	env := []string{"AWS_REGION=" + keyRegion}
	args := []string{"keys", "compromise", "--key-id", old, "--reason", "INC-12", "--endpoint-url", v.d.url, "--config", v.config, "--register", p.register}
	if out, err := v.d.run(t, 0, env, args...); err == nil || !strings.Contains(out, " keys of the vault and 0 files are under the key: name by --reencrypt-by who may still open them to move them, or say --disable-now") {
		t.Fatalf("%v\n%s", err, out)
	}
	args = append(args, "--reencrypt-by", admin, "--approval", p.approved(t, approval.Request{Operation: approval.KeyCompromise, Target: old, Params: map[string]string{"reencrypt-by": admin}, Reason: "INC-12"}))
	out, err := v.d.run(t, 0, env, args...)
	report := filepath.Join(v.dir, "compromise-"+old[strings.LastIndexByte(old, '/')+1:])
	x := read[lifecycle.Compromise](t, report)
	if err == nil || !strings.Contains(out, "open: tenant "+tenant+": the vault is not configured for the new key: set tenants."+tenant+".kms.key_id = \""+x.Replacement.NewKey) {
		t.Fatalf("%v\n%s", err, out)
	}
	c := v.cfg.Tenants[tenant]
	c.KMS.KeyID, c.KMS.PreviousKeyIDs = x.Replacement.NewKey, []string{old}
	v.configure(t, c)
	if out, err := v.d.runUntil(t, 0, "Migrate", env, args...); !errors.Is(err, errWasKilled) {
		t.Fatalf("%v\n%s", err, out)
	}
	if k, err := lifecycle.Look(t.Context(), v.kms, old); err != nil || k.State != types.KeyStateEnabled {
		t.Fatalf("it was disabled before data was moved: %+v, %v", k, err)
	}
	if out, err := v.d.run(t, 0, env, args...); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	x = read[lifecycle.Compromise](t, report)
	k, err := lifecycle.Look(t.Context(), v.kms, old)
	if err != nil || k.State != types.KeyStateDisabled || x.Finished.IsZero() || len(x.Moved) == 0 || len(v.under(t, old)) > 0 {
		t.Errorf("%+v, %+v, %v", k, x, err)
	}
	if !slices.ContainsFunc(x.Steps, func(s lifecycle.DoneStep) bool { return s.Step == "move-data "+tenant }) {
		t.Errorf("%+v", x.Steps)
	}
	v.f.check(t, "after the compromised key was disabled")
}
