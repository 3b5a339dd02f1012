package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"cardea/internal/vault"
)

// journal is where a command of a person is recorded: the log of the command line in
// an installation's database.
type journal struct {
	Config  []string `short:"c" type:"path" placeholder:"FILE" xor:"journal" help:"Configuration of the installation whose audit log records this."`
	DataDir string   `type:"path" placeholder:"DIR" xor:"journal" help:"Data folder of 'cardea dev' whose audit log records this (default ./cardea-data)."`
}

// perform does act as an operation that is recorded. Without an installation it is
// done and recorded nowhere, and says so, unless it must be recorded: what people
// sign on machines of their own is recorded where it is executed.
func (j journal) perform(ctx context.Context, p *Process, must bool, op *vault.Operation, t vault.Target, key string, act func() (result, detail string, err error)) error {
	if !must && len(j.Config) == 0 && j.DataDir == "" {
		if _, err := os.Stat("./cardea-data"); err != nil {
			fmt.Fprintln(p.Stderr, "cardea: no installation here (--config, --data-dir): recorded when it is executed")
			_, _, err := act()
			return err
		}
	}
	cfg, err := installation(p, j.Config, j.DataDir)
	if err != nil {
		return err
	}
	tool, err := openTool(ctx, p, cfg)
	if err != nil {
		return err
	}
	err = tool.Gate.Perform(ctx, operator(p), op, t, key, act)
	return errors.Join(err, tool.Close())
}

// performLong is perform for work that takes long and goes on after it was cut off. It
// records before anything is done what will be, so that what a killed run left is
// explained; other commands are not kept from the log meanwhile.
func (j journal) performLong(ctx context.Context, p *Process, op *vault.Operation, key, intent string, act func() (result, detail string, err error)) error {
	if err := j.perform(ctx, p, true, op, vault.Target{}, key, func() (string, string, error) { return "begun", intent, nil }); err != nil {
		return err
	}
	result, detail, done := act()
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute) // what was done is recorded also when it was interrupted
	defer cancel()
	return j.perform(end, p, true, op, vault.Target{}, key, func() (string, string, error) { return result, detail, done })
}
