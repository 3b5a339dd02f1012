package apptest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"cardea/internal/approval"
	"cardea/internal/lifecycle"
)

// lifecycleService is a key service in a process of its own, and a proxy before it.
func lifecycleService(t *testing.T) (*keyInstallation, *awskms.Client, *deadly) {
	t.Helper()
	in := installKeys(t, "sqlite")
	n := in.start(t)
	in.bootstrap(t)
	return in, sdk(n, in.creds, 4), newDeadly(t, n.url)
}

// named is a key that an alias names, as text without what is of this one alone.
func named(t *testing.T, c *awskms.Client, alias, number string) (text string, k *lifecycle.Key) {
	t.Helper()
	k, err := lifecycle.Look(t.Context(), c, alias)
	if err != nil {
		return err.Error(), nil
	}
	return keyText(t, c, k, number), k
}

func keyText(t *testing.T, c *awskms.Client, k *lifecycle.Key, number string) string {
	t.Helper()
	aliases, err := lifecycle.AliasesOf(t.Context(), c, k.ID)
	if err != nil {
		t.Fatal(err)
	}
	var tags []string
	for name, value := range k.Tags {
		if name == "cardea:replaces" || name == "cardea:replaced-by" {
			value = "another"
		}
		tags = append(tags, name+"="+value)
	}
	slices.Sort(tags)
	text := fmt.Sprintf("%s %s %s %q aliases %v tags %v rotates %v every %d, %d rotations, policy %s", k.State, k.Spec, k.Usage, k.Description, aliases, tags, k.Rotates, k.Period, len(k.Rotations), k.Policy)
	return strings.ReplaceAll(text, number, "N")
}

// withTag is how many keys have a tag.
func withTag(t *testing.T, c *awskms.Client, name, value string) (n int) {
	t.Helper()
	for pages := awskms.NewListKeysPaginator(c, &awskms.ListKeysInput{}); pages.HasMorePages(); {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Keys {
			tags, err := c.ListResourceTags(t.Context(), &awskms.ListResourceTagsInput{KeyId: e.KeyId})
			if err != nil {
				t.Fatal(err)
			}
			if slices.ContainsFunc(tags.Tags, func(tag types.Tag) bool { return *tag.TagKey == name && *tag.TagValue == value }) {
				n++
			}
		}
	}
	return n
}

// TestLifecycleApplyCrash kills 'cardea lifecycle apply' with SIGKILL at every change:
// a key is made, and another changed.
func TestLifecycleApplyCrash(t *testing.T) {
	t.Parallel()
	in, c, d := lifecycleService(t)
	env := credentialsEnv(in.creds)
	const number = "run%02d"
	file := func(i int, made bool) string {
		name := fmt.Sprintf(number, i)
		class := func(class, description, environment, user string) string {
			return fmt.Sprintf(`
  %[1]s-%[2]s:
    service: rds
    environment: prod
    description: %[3]s
    cryptoperiod: {originator: 365d, recipient: 2y}
    rotation: 90d
    aliases: [alias/%[1]s-%[2]s, alias/%[1]s-%[2]s-too]
    tags: {Environment: %[4]s}
    administrators: ["arn:aws:iam::%[6]s:user/admin"]
    users: ["arn:aws:iam::%[6]s:role/%[5]s"]
`, class, name, description, environment, user, keyAccount)
		}
		const start = "version: 1\napprovals: {key.put-policy: 1}\nkeys:"
		text := start + class("old", "before", "test", "app")
		if made {
			text = start + class("old", "after", "prod", "other") + class("new", "made", "prod", "app")
		}
		path := filepath.Join(in.dir, name+".yaml")
		write(t, path, text)
		return path
	}
	for _, role := range []string{"app", "other"} {
		in.role(t, role)
	}
	people := in.people(t, "requester", "approver")
	apply := func(path string) []string {
		return []string{"lifecycle", "apply", "--file", path, "--endpoint-url", d.url, "--config", in.config}
	}
	d.everyKill(t, env, func(i int) []string {
		if out, err := d.run(t, 0, env, apply(file(i, false))...); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		path := file(i, true)
		request := in.approved(t, d, env, people, path, fmt.Sprintf(number, i))
		return append(apply(path), "--register", people, "--approval", request)
	}, func(i int) string {
		n := fmt.Sprintf(number, i)
		var all []string
		for _, class := range []string{"old-" + n, "new-" + n} {
			if n := withTag(t, c, "cardea:class", class); n != 1 {
				t.Errorf("%d keys of class %s, want 1", n, class)
			}
			text, _ := named(t, c, "alias/"+class, n)
			all = append(all, text)
		}
		return strings.Join(all, "\n")
	})
	in.explained(t, "lifecycle.apply")
	records, err := (&approval.Ledger{Dir: filepath.Join(in.dir, "approvals")}).Records()
	if err != nil {
		t.Fatal(err)
	}
	events := map[approval.Event]int{}
	for _, r := range records {
		events[r.Event]++
	}
	if n := len(d.done); events[approval.EventBegun] != n || events[approval.EventFinished] != n {
		t.Errorf("%v in the ledger of approvals, %d were executed", events, n)
	}
}

// people makes a key and a line in a register for one person a role.
func (in *keyInstallation) people(t *testing.T, roles ...string) (register string) {
	t.Helper()
	register = filepath.Join(in.dir, "people.toml")
	text := ""
	for _, role := range roles {
		verifier := strings.TrimSpace(string(in.run(t, "approval", "keygen", "--name", role, "--out", filepath.Join(in.dir, role+".key"))))
		text += fmt.Sprintf("[[person]]\nname = %q\nfull_name = \"A Person\"\nroles = [%q]\nvalid_until = 2099-01-01T00:00:00Z\nkey = %q\n", role, role, verifier)
	}
	write(t, register, text)
	return register
}

// approved is an approved request for the policy that a file wants a key to have.
func (in *keyInstallation) approved(t *testing.T, d *deadly, env []string, register, file, name string) (request string) {
	t.Helper()
	out, err := d.run(t, 0, env, "lifecycle", "plan", "--file", file, "--endpoint-url", d.url, "--output", "json")
	var plan struct {
		Steps []lifecycle.Step `json:"steps"`
	}
	if jerr := json.Unmarshal([]byte(out), &plan); jerr != nil {
		t.Fatalf("%v, %v\n%s", jerr, err, out)
	}
	i := slices.IndexFunc(plan.Steps, func(s lifecycle.Step) bool { return s.Approval != nil })
	if i < 0 {
		t.Fatalf("no step needs approval: %s", out)
	}
	request = filepath.Join(in.dir, name+".request")
	in.run(t, "approval", "request", "--register", register, "--key", filepath.Join(in.dir, "requester.key"), "--operation", "key.put-policy",
		"--target", plan.Steps[i].Approval.Target, "--param", "policy-sha256="+plan.Steps[i].Approval.Params["policy-sha256"], "--approvals", "1", "--reason", "a test", "--out", request)
	in.run(t, "approval", "approve", request, "--register", register, "--key", filepath.Join(in.dir, "approver.key"))
	return request
}

// TestKeysRotateCrash kills 'cardea keys rotate --key-id' with SIGKILL at every change,
// on keys that KMS rotates and on those that another key must replace.
func TestKeysRotateCrash(t *testing.T) {
	t.Parallel()
	in, c, d := lifecycleService(t)
	env := credentialsEnv(in.creds)
	for name, kind := range map[string]struct {
		in   awskms.CreateKeyInput
		args []string
		keys int
	}{
		"symmetric": {awskms.CreateKeyInput{}, nil, 1},
		"HMAC":      {awskms.CreateKeyInput{KeySpec: types.KeySpecHmac256, KeyUsage: types.KeyUsageTypeGenerateVerifyMac}, []string{"--disable-old"}, 2},
		"signing":   {awskms.CreateKeyInput{KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeSignVerify}, nil, 2},
		"replaced":  {awskms.CreateKeyInput{}, []string{"--replace", "--disable-old"}, 2},
	} {
		if name == "signing" && *rounds <= 2 {
			continue // it goes the way of HMAC
		}
		t.Run(name, func(t *testing.T) {
			old := map[int]string{}
			number := func(i int) string { return fmt.Sprintf("%s-%02d", name, i) }
			d.everyKill(t, env, func(i int) []string {
				kind.in.Description = aws.String(number(i))
				kind.in.Tags = []types.Tag{{TagKey: aws.String("test"), TagValue: aws.String(number(i))}}
				old[i] = makeKMSKey(t, c, &kind.in)
				for _, alias := range []string{"alias/" + number(i), "alias/" + number(i) + "-too"} {
					if _, err := c.CreateAlias(t.Context(), &awskms.CreateAliasInput{AliasName: &alias, TargetKeyId: aws.String(old[i])}); err != nil {
						t.Fatal(err)
					}
				}
				if slices.Contains(kind.args, "--replace") {
					if _, err := c.EnableKeyRotation(t.Context(), &awskms.EnableKeyRotationInput{KeyId: aws.String(old[i]), RotationPeriodInDays: aws.Int32(100)}); err != nil {
						t.Fatal(err)
					}
				}
				return append([]string{"keys", "rotate", "--key-id", "alias/" + number(i), "--verify", "--endpoint-url", d.url, "--config", in.config}, kind.args...)
			}, func(i int) string {
				if n := withTag(t, c, "test", number(i)); n != kind.keys {
					t.Errorf("%d keys of %s, want %d", n, number(i), kind.keys)
				}
				text, _ := named(t, c, "alias/"+number(i), number(i))
				was, _ := named(t, c, old[i], number(i))
				return text + "\nold: " + was + "\nsteps: " + in.steps(t, old[i])
			})
		})
	}
	in.explained(t, "lifecycle.rotate")
}

// role makes a role that policies can name.
func (in *keyInstallation) role(t *testing.T, name string) {
	t.Helper()
	trust := `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + keyAccount + `:root"},"Action":"sts:AssumeRole"}}`
	path := filepath.Join(in.dir, "trust.json")
	write(t, path, trust)
	in.run(t, "identity", "role", "create", name, "--trust", path, "--config", in.config)
}

// steps are those of the report of a key's rotation.
func (in *installation) steps(t *testing.T, arn string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(in.dir, "rotation-"+arn[strings.LastIndexByte(arn, '/')+1:]+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var x lifecycle.Rotation
	if err := json.Unmarshal(text, &x); err != nil || x.Finished.IsZero() {
		t.Errorf("the report is not of a finished rotation: %v\n%s", err, text)
	}
	var all []string
	for _, s := range x.Steps {
		all = append(all, s.Step)
	}
	return strings.Join(all, ", ")
}

// explained checks that the log of the installation has an entry for every command
// before it changed anything, also of those that were killed, and one after it for
// each that ended.
func (in *installation) explained(t *testing.T, op string) {
	t.Helper()
	in.run(t, "audit", "verify", "--config", in.config, "--origin", "cardea/crash-cli") // the key service has a log of its own
	counts := map[string]int{}
	for line := range strings.Lines(string(in.run(t, "audit", "show", "--config", in.config, "--op", op, "--output", "json"))) {
		var e struct {
			Entry struct {
				Result string `json:"result"`
			} `json:"entry"`
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		counts[e.Entry.Result]++
	}
	ended := counts["applied"] + counts["rotated"] + counts["answered"] + counts["retired"]
	if counts["begun"] <= ended || ended == 0 {
		t.Errorf("entries of %s: %v: those that were killed are not told", op, counts)
	}
	t.Logf("%s: %v", op, counts)
}
