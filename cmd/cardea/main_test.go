package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain makes this test binary the program cardea wherever scripts or shells
// look for it.
func TestMain(m *testing.M) {
	// Under the race detector a program sleeps for a second before it exits, and
	// there are hundreds of them.
	if os.Getenv("GORACE") == "" {
		os.Setenv("GORACE", "atexit_sleep_ms=0")
	}
	testscript.Main(m, map[string]func(){
		"cardea":      main,
		"cardea-curl": curlMain,
	})
}

// TestScripts runs testdata/script: what an operator types, and what he gets.
// The commands beside testscript's own are in commands_test.go.
func TestScripts(t *testing.T) {
	deploy, err := filepath.Abs(filepath.Join(root, "deploy"))
	if err != nil {
		t.Fatal(err)
	}
	p := testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("GODEBUG", os.Getenv("GODEBUG")) // scripts of a FIPS run are FIPS runs
			env.Setenv("GORACE", os.Getenv("GORACE"))
			env.Setenv("EXAMPLE", filepath.Join(deploy, "cardea.example.toml"))
			env.Setenv("KEYS_EXAMPLE", filepath.Join(deploy, "cardea-keys.example.toml"))
			env.Setenv("TENANT", "x-tenant-id: acme")
			env.Setenv("JSON", "content-type: application/json")
			env.Setenv("YESTERDAY", time.Now().UTC().AddDate(0, 0, -1).Format(time.DateOnly))
			env.Values[serversKey{}] = servers{}
			return nil
		},
		Condition: func(cond string) (bool, error) {
			if cond == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"launch":       cmdLaunch,
			"halt":         cmdHalt,
			"signal":       cmdSignal,
			"awaitlog":     cmdAwaitLog,
			"http":         cmdHTTP,
			"inflight":     cmdInflight,
			"paste":        cmdPaste,
			"status":       cmdStatus,
			"until":        cmdUntil,
			"certificates": cmdCertificates,
			"sqlite":       cmdSQLite,
			"occupy":       cmdOccupy,
			"awskms":       cmdAWSKMS,
			"guess":        cmdGuess,
			"member":       cmdMember,
		},
	}
	// Scripts wait for conditions; this is when to give up on one that never comes.
	if deadline, ok := t.Deadline(); ok {
		p.Deadline = deadline.Add(-5 * time.Second)
	}
	testscript.Run(t, p)
}
