package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"cardea/internal/app"
	"cardea/internal/config"
	"cardea/internal/lifecycle"
)

// kmsRotateFlags are those of 'cardea keys rotate' on a key of a key service in place
// of a tenant's.
type kmsRotateFlags struct {
	keyAccess
	KeyID         string `name:"key-id" placeholder:"KEY" help:"Rotate this key of AWS KMS or a key service in place of a tenant's keys: its id, ARN or alias."`
	VerifyProfile string `placeholder:"NAME" help:"With --key-id --verify: profile of one of the key's users, who opens and makes values (default: that of the command)."`
	State         string `type:"path" placeholder:"FILE" help:"With --key-id: file that keeps how far it is, and becomes the report (default rotation-KEYID.json in the data folder)."`
	Replace       bool   `help:"With --key-id: make a new key and move aliases and data, also where KMS could make new material in the same key."`
	XksKeyID      string `name:"xks-key-id" placeholder:"ID" help:"With --key-id of a key of an external key store: the external key of the new key, which the store's manager has made."`
	DisableOld    bool   `help:"With --key-id: disable a key that was replaced, if nothing of the vault is under it any more."`
	UseChecked    bool   `help:"With --disable-old: you have looked into CloudTrail who used the old key since it was replaced."`
}

// rotateKMS rotates a key of a key service.
func (c keysRotateCommand) rotateKMS(ctx context.Context, p *Process) error {
	if c.Tenant != "" || c.Merchant != "" {
		return usageError{errors.New("--key-id: is of a key service, --tenant and --merchant of a vault: give one of them")}
	}
	j := journal{Config: c.Config, DataDir: c.DataDir}
	cfg, err := installation(p, c.Config, c.DataDir)
	if err != nil {
		return err
	}
	k, err := c.administer(ctx, c.KeyID)
	if err != nil {
		return err
	}
	key, err := lifecycle.Look(ctx, k, c.KeyID)
	if err != nil {
		return fmt.Errorf("--key-id: %w", err)
	}
	held, err := workAloneOn(cfg, key)
	if err != nil {
		return err
	}
	defer held.release()
	if key.Replaces != "" { // the alias may name the new key already: the rotation that is under way is meant
		if key, err = c.underWay(ctx, k, cfg, key); err != nil {
			return err
		}
	}
	arn := key.ARN
	if c.State == "" {
		c.State = rotationFile(cfg, key.ID)
	}
	old, err := readRotation(c.State)
	if err != nil {
		return err
	}
	r := &lifecycle.Rotator{
		KMS: k, Now: p.Now, Sleep: p.sleep, Replace: c.Replace, XksKey: c.XksKeyID, DisableOld: c.DisableOld, UseChecked: c.UseChecked,
		Save: func(x *lifecycle.Rotation) error {
			text, err := json.MarshalIndent(x, "", "  ")
			if err == nil {
				err = replaceFile(c.State, append(text, '\n'))
			}
			if err != nil {
				return fmt.Errorf("--state: %w", err)
			}
			return nil
		},
	}
	if r.Data, err = dataOf(ctx, p, j, cfg); err != nil {
		return err
	}
	if c.Verify {
		user := c.keyAccess
		if c.VerifyProfile != "" {
			user.Profile = c.VerifyProfile
		}
		if r.User, err = user.administer(ctx, arn); err != nil {
			return err
		}
	}
	intent := "rotation"
	if old != nil && old.Key == arn {
		intent = fmt.Sprintf("rotation begun on %s, %d steps done", day(old.Started), len(old.Steps))
	}
	if c.Compromised {
		intent += ", the old may be known to others"
	}
	var x *lifecycle.Rotation
	err = j.performLong(ctx, p, app.OpLifecycleRotate, arn, intent, func() (string, string, error) {
		x, err = r.Rotate(ctx, arn, old)
		detail := intent
		if x != nil {
			detail = rotationSummary(x)
		}
		return "rotated", detail, err
	})
	if err != nil {
		if x != nil {
			err = hinted(err, "(the same command goes on: %s has how far it is)", c.State)
		}
		return err
	}
	return c.print(p.Stdout, x, func(w io.Writer) error {
		rows := [][]string{{"key", x.Key}, {"kind", x.Spec + " " + x.Usage + " " + x.Origin}, {"method", x.Method}, {"material", x.NewMaterial}, {"new key", x.NewKey}, {"aliases", strings.Join(x.Aliases, ", ")}}
		for _, s := range x.Steps {
			rows = append(rows, []string{s.Step, s.Detail})
		}
		for _, n := range x.Next {
			rows = append(rows, []string{"next", n})
		}
		return fields(w, append(rows, []string{"report", c.State})...)
	})
}

// rotationFile is where the state of a key's rotation is kept.
func rotationFile(cfg config.Config, id string) string {
	return filepath.Join(cfg.Node.DataDir, "rotation-"+id+".json")
}

// underWay is the key that is still being replaced by k, or k if there is none: by the
// state of its rotation, and where that was lost by the tags of both keys.
func (c keysRotateCommand) underWay(ctx context.Context, client *awskms.Client, cfg config.Config, k *lifecycle.Key) (*lifecycle.Key, error) {
	state := c.State
	if state == "" {
		state = rotationFile(cfg, k.Replaces)
	}
	x, err := readRotation(state)
	if err != nil {
		return nil, err
	}
	old, err := lifecycle.Look(ctx, client, k.Replaces)
	if notFound, _ := errors.AsType[*types.NotFoundException](err); notFound != nil {
		return k, nil // destroyed long ago
	}
	if err != nil {
		return nil, err
	}
	if x != nil && x.Key == old.ARN && x.Finished.IsZero() || old.ReplacedBy == "" && old.Live() {
		return old, nil
	}
	return k, nil
}

// rotationSummary is a rotation in a line, for the audit log.
func rotationSummary(x *lifecycle.Rotation) string {
	var steps []string
	for _, s := range x.Steps {
		steps = append(steps, s.Step)
	}
	return fmt.Sprintf("%s, material %s to %s, new key %s; %d steps: %s", x.Method, cmpText(x.Material, "unknown"), cmpText(x.NewMaterial, "none"), cmpText(x.NewKey, "none"), len(steps), strings.Join(steps, ", "))
}

// readRotation reads the state of a rotation, nil if there is none.
func readRotation(path string) (*lifecycle.Rotation, error) {
	text, err := readSmall(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil //nolint:nilnil // none is no error
	}
	if err != nil {
		return nil, fmt.Errorf("--state: %w", err)
	}
	x := &lifecycle.Rotation{}
	if err := json.Unmarshal(text, x); err != nil {
		return nil, fmt.Errorf("--state: %s: is not what 'cardea keys rotate' wrote: %w", path, err)
	}
	return x, nil
}
