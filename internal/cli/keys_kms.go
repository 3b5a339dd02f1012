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

	"cardea/internal/app"
	"cardea/internal/lifecycle"
	"cardea/internal/vault"
)

// kmsRotateFlags are those of 'cardea keys rotate' on a key of a key service in place
// of a tenant's.
type kmsRotateFlags struct {
	keyAccess
	KeyID         string `name:"key-id" placeholder:"KEY" help:"Rotate this key of AWS KMS or a key service in place of a tenant's keys: its id, ARN or alias."`
	VerifyProfile string `placeholder:"NAME" help:"With --key-id --verify: profile of one of the key's users, who opens and makes values (default: that of the command)."`
	State         string `type:"path" placeholder:"FILE" help:"With --key-id: file that keeps how far it is, and becomes the report (default rotation-KEYID.json in the data folder)."`
	DisableOld    bool   `help:"With --key-id: disable a key that was replaced by a new one."`
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
	d, err := k.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: &c.KeyID})
	if err != nil {
		return fmt.Errorf("--key-id: %w", err)
	}
	arn := *d.KeyMetadata.Arn
	if c.State == "" {
		c.State = filepath.Join(cfg.Node.DataDir, "rotation-"+*d.KeyMetadata.KeyId+".json")
	}
	old, err := readRotation(c.State)
	if err != nil {
		return err
	}
	if old != nil {
		// An alias may name the new key already: the rotation that is under way is meant.
		if old.Finished.IsZero() && (arn == old.NewKey || arn == old.Key) || c.DisableOld && arn == old.Key {
			arn = old.Key
		}
	}
	r := &lifecycle.Rotator{KMS: k, Now: p.Now, Sleep: p.sleep, DisableOld: c.DisableOld, Save: func(x *lifecycle.Rotation) error {
		text, err := json.MarshalIndent(x, "", "  ")
		if err == nil {
			err = replaceFile(c.State, append(text, '\n'))
		}
		if err != nil {
			return fmt.Errorf("--state: %w", err)
		}
		return nil
	}}
	if c.Verify {
		user := c.keyAccess
		if c.VerifyProfile != "" {
			user.Profile = c.VerifyProfile
		}
		if r.User, err = user.administer(ctx, arn); err != nil {
			return err
		}
		if d.KeyMetadata.KeySpec != "SYMMETRIC_DEFAULT" {
			r.User = nil // aliases and state are what can be verified of a new key
		}
	}
	var x *lifecycle.Rotation
	err = j.perform(ctx, p, true, app.OpLifecycleRotate, vault.Target{}, arn, func() (string, string, error) {
		x, err = r.Rotate(ctx, arn, old)
		detail := ""
		if x != nil {
			detail = fmt.Sprintf("%s, %d steps, material %s to %s, new key %s", x.Method, len(x.Steps), cmpText(x.Material, "unknown"), cmpText(x.NewMaterial, "none"), cmpText(x.NewKey, "none"))
			if c.Compromised {
				detail += ", the old may be known to others"
			}
		}
		return "rotated", detail, err
	})
	if err != nil {
		if x != nil {
			err = hinted(err, "run the same command again to go on: %s has how far it is", c.State)
		}
		return err
	}
	return c.print(p.Stdout, x, func(w io.Writer) error {
		rows := [][]string{{"key", x.Key}, {"method", x.Method}, {"material", x.NewMaterial}, {"new key", x.NewKey}, {"aliases", strings.Join(x.Aliases, ", ")}}
		for _, s := range x.Steps {
			rows = append(rows, []string{s.Step, s.Detail})
		}
		for _, n := range x.Next {
			rows = append(rows, []string{"next", n})
		}
		return fields(w, append(rows, []string{"report", c.State})...)
	})
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
