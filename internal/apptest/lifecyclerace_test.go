package apptest

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"cardea/internal/lifecycle"
)

// TestOperatorsAtTheSameMoment has several people run the same command at once, on what
// nobody has worked on before: whoever is not first is told, or finds that it was done.
func TestOperatorsAtTheSameMoment(t *testing.T) {
	t.Parallel()
	in := installKeys(t, "sqlite")
	n := in.start(t)
	in.bootstrap(t)
	in.role(t, "app")
	c := sdk(n, in.creds, 4)
	together := func(t *testing.T, args ...string) {
		t.Helper()
		var all [3]bytes.Buffer
		var commands []*exec.Cmd
		for i := range all {
			cmd := in.command(t, append(args, "--endpoint-url", n.url, "--config", in.config)...)
			cmd.Env = append(cmd.Environ(), credentialsEnv(in.creds)...)
			cmd.Stdout, cmd.Stderr = &all[i], &all[i]
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			commands = append(commands, cmd)
		}
		done := 0
		for i, cmd := range commands {
			if err := cmd.Wait(); err == nil {
				done++
			} else if !strings.Contains(all[i].String(), "another command is at work on ") {
				t.Errorf("%s: %v\n%s", args, err, &all[i])
			}
		}
		if done == 0 {
			t.Errorf("%s: nobody has done it", args)
		}
	}
	for i := range min(*rounds, 10) {
		name := fmt.Sprintf("race%d", i)
		file := filepath.Join(in.dir, name+".yaml")
		write(t, file, fmt.Sprintf("version: 1\nkeys:\n  %[1]s:\n    service: rds\n    environment: prod\n    description: made once\n    cryptoperiod: {originator: 365d, recipient: 2y}\n    rotation: 90d\n    aliases: [alias/%[1]s]\n"+
			"    administrators: [\"arn:aws:iam::%[2]s:user/admin\"]\n    users: [\"arn:aws:iam::%[2]s:role/app\"]\n", name, keyAccount))
		together(t, "lifecycle", "apply", "--file", file)
		if n := withTag(t, c, "cardea:class", name); n != 1 {
			t.Errorf("%d keys of class %s, want 1", n, name)
		}
		old := makeKMSKey(t, c, &awskms.CreateKeyInput{KeySpec: types.KeySpecHmac256, KeyUsage: types.KeyUsageTypeGenerateVerifyMac})
		if _, err := c.CreateAlias(t.Context(), &awskms.CreateAliasInput{AliasName: aws.String("alias/" + name + "-mac"), TargetKeyId: &old}); err != nil {
			t.Fatal(err)
		}
		together(t, "keys", "rotate", "--key-id", old)
		k, err := lifecycle.Look(t.Context(), c, old)
		if err != nil {
			t.Fatal(err)
		}
		if n := withTag(t, c, "cardea:replaces", k.ID); n != 1 || k.ReplacedBy == "" {
			t.Errorf("%d keys in the place of %s, replaced by %q", n, k.ID, k.ReplacedBy)
		}
	}
}
