package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"cardea/internal/app"
	"cardea/internal/iam"
	"cardea/internal/identity"
	"cardea/internal/secret"
)

// makeDevCredentials makes an account and an administrator, unless there are some,
// and writes his access key as AWS's tools read it.
func makeDevCredentials(ctx context.Context, k *app.KeyService, path, region string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	key, err := devKey(ctx, k.Identities(), devOperator())
	if err != nil {
		return fmt.Errorf("make dev credentials: %w", err)
	}
	defer key.Destroy()
	return writeAccessKey(path, "default", region, key)
}

// writeAccessKey writes a file of AWS's kind, whole or not at all.
func writeAccessKey(path, profile, region string, key *identity.NewAccessKey) error {
	text := fmt.Appendf(nil, "[%s]\naws_access_key_id = %s\naws_secret_access_key = ", profile, key.ID)
	text = fmt.Appendf(append(text, key.Secret.Expose()...), "\nregion = %s\n", region)
	defer secret.Wipe(text)
	return writeWhole(path, text)
}

// writeWhole leaves no half of a file if the process ends meanwhile.
func writeWhole(path string, text []byte) error {
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// devKey is an access key of the administrator, who may be there from a start that
// was cut short.
func devKey(ctx context.Context, ids *identity.Service, who identity.Caller) (*identity.NewAccessKey, error) {
	b, err := ids.Bootstrap(ctx, who, &identity.BootstrapInput{Account: identity.CreateAccountInput{ID: devAccount}, User: devAdmin})
	if e, is := errors.AsType[*identity.Error](err); is && e.Code == identity.CodeEntityAlreadyExists {
		return ids.CreateAccessKey(ctx, who, &identity.EntityInput{Account: devAccount, Name: devAdmin})
	}
	if err != nil {
		return nil, err
	}
	return &b.Key, nil
}

// devOperator is who administers the key service of dev.
func devOperator() identity.Caller {
	return identity.ByOperator(iam.Principal{Type: iam.TypeOperator, Name: "dev", Auth: "internal", Actions: []string{"*"}})
}

// devAdmin is the user who may do everything.
const devAdmin = "admin"

// devVaultUser is the user by whom the vault asks the key service, and the profile of
// its access key.
const devVaultUser = "cardea-vault"

// readVaultKey is the ARN of the vault's KMS key, "" if there is none yet.
func readVaultKey(dir string) (string, error) {
	path := filepath.Join(dir, devVaultKeyFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	arn := strings.TrimSpace(string(text))
	if regionOf(arn) == "" {
		return "", fmt.Errorf("%s: is not the ARN of a KMS key", path)
	}
	return arn, nil
}

// regionOf is the Region of a key's ARN.
func regionOf(arn string) string {
	if f := strings.Split(arn, ":"); len(f) == 6 && f[2] == "kms" && strings.HasPrefix(f[5], "key/") {
		return f[3]
	}
	return ""
}

// makeVaultAccess makes the vault's KMS key, unless arn names it already, and a user
// who may use it, and keeps both for the next start. Whatever a start that was cut
// short has made is taken up.
func makeVaultAccess(ctx context.Context, k *app.KeyService, dir, arn, region string) (string, error) {
	if arn != "" {
		region = regionOf(arn)
	}
	access := app.VaultAccess{Account: devAccount, Region: region, Admin: devAdmin, Tenant: devTenant, User: devVaultUser}
	if arn == "" {
		var err error
		if arn, err = k.MakeVaultKey(ctx, access); err != nil {
			return "", err
		}
		if err := writeWhole(filepath.Join(dir, devVaultKeyFile), []byte(arn+"\n")); err != nil {
			return "", err
		}
	}
	path := filepath.Join(dir, devVaultAccessFile)
	if _, err := os.Stat(path); err == nil {
		return arn, nil
	}
	key, err := k.MakeVaultUser(ctx, devOperator(), access, arn)
	if err != nil {
		return "", err
	}
	defer key.Destroy()
	return arn, writeAccessKey(path, devVaultUser, region, key)
}
